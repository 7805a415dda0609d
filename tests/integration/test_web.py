"""The status page: what it shows, whom, and that there is nothing but to look."""

from __future__ import annotations

import base64
import http.client
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.integration import monitoring_scene as scene
from worker.errors import ConfigError
from worker.ledger.outcomes import RunEnd
from worker.metrics.readings import Readings
from worker.steps.context import Adapters
from worker.web.page import render
from worker.web.server import Server

Serve = Callable[..., int]
_VOID = {"meta", "br"}


@pytest.fixture
def here(tmp_path: Path) -> Adapters:
    return scene.adapters(tmp_path)


@pytest.fixture
def serve(here: Adapters) -> Iterator[Serve]:
    """Starts the page and returns its port."""
    with ExitStack() as running:

        def start(login: tuple[str, str] | None = None) -> int:
            server = running.enter_context(Server("127.0.0.1", 0, Readings(here.settings, max_age=60), login))
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            running.callback(thread.join)
            running.callback(server.shutdown)
            return server.server_port

        yield start


def ask(port: int, method: str = "GET", path: str = "/", **headers: str) -> tuple[int, str, dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    return answer.status, body, dict(answer.getheaders())


def page(here: Adapters) -> str:
    readings = Readings(here.settings, max_age=60)
    readings.read(30)
    return render(readings)


class Tags(HTMLParser):
    """Fails on a tag that is closed without having been opened, or the other way round."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids += [str(value) for name, value in attrs if name == "id"]
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, (tag, self.getpos())


def test_it_answers_what_the_person_on_duty_asks(here: Adapters) -> None:
    scene.back_up(here, 60)
    backup = scene.back_up(here, 5)
    scene.drill(here, backup, "near", seconds=600)
    failed, going = scene.end(here, "failed"), scene.begin(here)
    shown = page(here)
    for words in (
        "can be restored now", backup, "about 10 min", "near proven", "far verified", "What to look at",
        "The disk is full.", f"pgfleet run show {failed.id}", going.id, "backup.dump",
    ):  # fmt: skip
        assert words in shown
    assert re.search(r"[12] of the last 28 days have a backup", shown)


def test_it_is_well_formed_and_needs_nothing_from_outside(here: Adapters) -> None:
    for hours in (5, 30, 24 * 40):
        scene.back_up(here, hours)
    scene.begin(here)
    shown = page(here)
    tags = Tags()
    tags.feed(shown)
    assert tags.open == []
    assert len(set(tags.ids)) == len(tags.ids)
    assert "<script" not in shown
    assert not re.search(r"(?:src|href|url\()\s*=?", shown.replace("viewBox", ""))


def test_nothing_is_there_yet(here: Adapters) -> None:
    assert "cannot be restored" in page(here)
    scene.lose_before(here)
    assert "nobody knows" in page(here)


def test_what_others_wrote_is_text(here: Adapters) -> None:
    run = scene.begin(here)
    error = {"type": "X", "message": "<script>alert(1)</script>", "hint": "<b>", "exit_code": 1, "step": "x"}
    here.ledger.end_run(run.id, RunEnd("failed", error=error))
    shown = page(here)
    assert "<script" not in shown
    assert "&lt;script&gt;" in shown


def test_over_http(here: Adapters, serve: Serve) -> None:
    scene.back_up(here, 5)
    port = serve()
    code, body, headers = ask(port)
    assert (code, "can be restored now" in body) == (200, True)
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert ask(port, "HEAD")[:2] == (200, "")
    assert ask(port, path="/elsewhere")[0] == 404
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        assert ask(port, method)[0] == 501
    assert ask(port, Host="rebound.example")[0] == 421, "a page of another site must not read it"


def test_with_a_password(serve: Serve) -> None:
    port = serve(("duty", "correct horse"))

    def answer(given: str) -> int:
        return ask(port, Host="status.example", Authorization=given)[0]

    def basic(text: str) -> str:
        return f"Basic {base64.b64encode(text.encode()).decode()}"

    assert ask(port)[0] == 401
    assert answer(basic("duty:correct horse")) == 200
    for wrong in (basic("duty:wrong"), basic("correct horse"), "Basic ????", "Bearer x", ""):
        assert answer(wrong) == 401


def test_it_is_not_open_to_everybody(here: Adapters) -> None:
    with pytest.raises(ConfigError, match="open to everybody"):
        Server("0.0.0.0", 0, Readings(here.settings, max_age=60), None)
