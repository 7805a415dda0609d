"""The status pages over HTTP: what they show, to whom, and that there is nothing but to look."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import pytest
from flower.utils.search import And, Or, Term, parse_query

from tests.integration import monitoring_scene as scene
from tests.integration.weeks_scene import served
from worker.errors import ConfigError
from worker.ledger.outcomes import RunEnd
from worker.metrics.readings import Readings
from worker.steps.context import Adapters
from worker.storage.directory import DirectoryStore
from worker.web import gantt, templating, views
from worker.web.server import Server
from worker.web.templating import policy, script, style

Serve = Callable[..., int]
_VOID = {"meta", "br", "link"}


class Answer(NamedTuple):
    code: int
    text: str
    headers: dict[str, str]


@pytest.fixture
def here(tmp_path: Path) -> Adapters:
    return scene.adapters(tmp_path)


@pytest.fixture
def serve(here: Adapters) -> Iterator[Serve]:
    """Starts the pages and returns their port."""
    with ExitStack() as running:

        def start(login: tuple[str, str] | None = None) -> int:
            return urlsplit(running.enter_context(served(here, login))).port or 0

        yield start


def ask(port: int, path: str = "/", method: str = "GET", **headers: str) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    return Answer(answer.status, body, dict(answer.getheaders()))


class Tags(HTMLParser):
    """Fails on a tag that is closed without having been opened, or the other way round."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids += [str(value) for name, value in attrs if name == "id"]
        self.addresses += [str(value) for name, value in attrs if name in ("href", "src")]
        assert not [name for name, _ in attrs if name == "style" or name.startswith("on")], (tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, (tag, self.getpos())


def well_formed(text: str) -> Tags:
    tags = Tags()
    tags.feed(text)
    assert tags.open == []
    assert len(set(tags.ids)) == len(tags.ids)
    return tags


def test_it_answers_what_the_person_on_duty_asks(here: Adapters, serve: Serve) -> None:
    scene.back_up(here, 60)
    backup = scene.back_up(here, 5)
    scene.drill(here, backup, "near", seconds=600)
    failed, going = scene.end(here, "failed"), scene.begin(here)
    shown = ask(serve()).text
    for words in (
        "goimg can be restored. ", " need attention.", "can be restored now", f"/backup/{backup}", "10 min",
        "near</b> proven", "far</b> verified", "What to look at", "The disk is full.",
        f"pgfleet run show {failed.id}", f"/run/{going.id}", "dump",
    ):  # fmt: skip
        assert words in shown
    assert re.search(r"[12] of the last 30 days have a backup", shown)
    assert shown.index("can be restored now") < shown.index("What to look at") < shown.index("/run/")


def test_it_does_not_say_that_all_is_well_when_it_is_not(here: Adapters, serve: Serve) -> None:
    """A green mark beside a backup that a drill refuted, or of last month, is what one acts upon at night."""
    old, refuted = scene.back_up(here, 24 * 40), scene.back_up(here, 5)
    scene.drill(here, refuted, "near", "refuted")
    port = serve()
    for path in ("/", "/database/goimg"):
        shown = ask(port, path).text
        assert "goimg can be restored, but only to an old state." in shown
        assert "can be restored now" not in shown
        assert f"/backup/{old}" in shown
        assert '<div class="mark bad">' in shown
        assert '<b class="bad">' in shown, "how old it is"
    assert 'class="card db bad"' in ask(port).text


def test_what_is_not_known_is_not_told_as_nothing(here: Adapters, serve: Serve) -> None:
    scene.back_up(here, 5)
    scene.lose(here, "near")
    shown = ask(serve()).text
    assert "1 backup, 68 B at least" in shown
    assert "no answer from near" in shown
    scene.lose(here, "far")
    shown = ask(serve()).text
    assert "what there is, is not known" in shown
    assert "near and far do not answer" in shown
    assert "0 backups" not in shown


def test_commands_are_copied_whole(here: Adapters, serve: Serve) -> None:
    shown = ask(serve()).text
    assert '<code class="cmd">pgfleet backup goimg</code>' in shown
    said = templating.environment().globals["command"]("pgfleet run show <i> --json")
    assert said == '<code class="cmd">pgfleet run show &lt;i&gt; <span>--json</span></code>'
    hint = templating.environment().filters["prose"]("`--here` works <b>without</b>.")
    assert hint == "<code>--here</code> works &lt;b&gt;without&lt;/b&gt;."


def test_it_listens_on_ipv6(here: Adapters) -> None:
    with Server("::1", 0, Readings(here.settings, max_age=60), None) as server:
        assert server.address_family == socket.AF_INET6
        with pytest.raises(ConfigError, match="cannot be served on ::1"):
            Server("::1", server.server_port, Readings(here.settings, max_age=60), None)


def test_every_page_is_well_formed_and_needs_nothing_from_outside(here: Adapters, serve: Serve) -> None:
    for hours in (5, 30, 24 * 40):
        backup = scene.back_up(here, hours)
    run, port = scene.begin(here), serve()
    pages = ["/", "/runs", "/database/goimg", f"/backup/{backup}", f"/run/{run.id}", "/elsewhere"]
    for path in pages:
        answer = ask(port, path)
        tags = well_formed(answer.text)
        assert all(address.startswith(("/", "#")) for address in tags.addresses), tags.addresses
        assert "url(" not in answer.text
        assert "@import" not in answer.text


def test_nothing_is_there_yet(here: Adapters, serve: Serve) -> None:
    port = serve()
    assert "goimg cannot be restored." in ask(port).text
    assert "Nothing has run yet." in ask(port, "/runs").text
    assert "No drill has left evidence" in ask(port, "/database/goimg").text


def test_nobody_answers(here: Adapters, serve: Serve) -> None:
    scene.lose_before(here)
    port = serve()
    assert "Nobody knows whether goimg can be restored." in ask(port).text
    assert ask(port, "/database/goimg").code == 200


def test_the_ledger_is_gone(here: Adapters, serve: Serve, tmp_path: Path) -> None:
    backup = scene.back_up(here, 5)
    run = scene.end(here, "failed")
    here.ledger.close()
    for file in tmp_path.glob("ledger.db*"):
        file.unlink()
    (tmp_path / "ledger.db").write_text("no database" * 200)
    port = serve()
    assert "can be restored now" in ask(port).text
    assert ask(port, f"/backup/{backup}").code == 200
    answer = ask(port, f"/run/{run.id}")
    assert answer.code == 503
    assert "The ledger does not answer" in answer.text


def test_what_others_wrote_is_text(here: Adapters, serve: Serve) -> None:
    run, evil = scene.begin(here), "<script>alert(1)</script>"
    error = {"type": evil, "message": evil, "hint": f'"{evil}', "exit_code": 1, "step": evil}
    here.ledger.end_run(run.id, RunEnd("failed", {"copies": [], "why": evil}, error))
    port = serve()
    for path in ("/", f"/run/{run.id}", "/runs", "/database/goimg", f"/{evil}", f"/run/{evil}"):
        answer = ask(port, path.replace(" ", "%20").replace("<", "%3C").replace(">", "%3E"))
        assert "<script>alert" not in answer.text
        if answer.code == 200:
            assert "&lt;script&gt;alert(1)" in answer.text, path
        well_formed(answer.text)


def test_only_to_look(here: Adapters, serve: Serve) -> None:
    scene.back_up(here, 5)
    port = serve()
    answer = ask(port)
    assert (answer.code, "can be restored now" in answer.text) == (200, True)
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "PROPFIND"):
        refused = ask(port, method=method)
        assert (refused.code, refused.headers["Allow"]) == (405, "GET, HEAD")
    head = ask(port, method="HEAD")
    assert (head.code, head.text) == (200, "")
    assert int(head.headers["Content-Length"]) > 10_000
    assert ask(port, Host="rebound.example").code == 421, "a page of another site must not read it"


def test_destinations_are_not_asked_again_for_each_page(
    here: Adapters, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup = scene.back_up(here, 5)
    scene.drill(here, backup, "near")
    asked: list[str] = []
    for name in ("list", "read"):
        real = getattr(DirectoryStore, name)

        def counted(store: DirectoryStore, *args: object, _real: Any = real, **named: object) -> Any:
            asked.append(store.name)
            return _real(store, *args, **named)

        monkeypatch.setattr(DirectoryStore, name, counted)
    port = serve()
    paths = ("/", "/database/goimg", f"/backup/{backup}", "/runs")
    first = [ask(port, path).code for path in paths]
    assert asked
    asked.clear()
    assert [ask(port, path).code for path in paths * 2] == first * 2
    assert asked == []


def test_runs_are_chosen_by_state_and_kind(here: Adapters, serve: Serve) -> None:
    failed, done, drill = (
        scene.end(here, "failed"),
        scene.end(here, "verified"),
        scene.end(here, "proven", "drill"),
    )
    going, port = scene.begin(here), serve()

    def shown(query: str) -> set[str]:
        answer = ask(port, f"/runs{query}")
        assert answer.code == 200
        return set(re.findall(r'href="/run/([0-9a-z]+)"', answer.text))

    assert shown("") == {failed.id, done.id, drill.id, going.id}
    assert shown("?state=failed") == {failed.id}
    assert shown("?state=running") == {going.id}
    assert shown("?kind=drill&state=well&database=goimg") == {drill.id}
    assert shown("?limit=1") == {going.id}
    assert 'href="/runs?limit=2"' in ask(port, "/runs?limit=1").text
    assert "No such run is known." in ask(port, "/runs?state=cancelled").text


def test_it_leads_to_flower_where_that_is_known(tmp_path: Path) -> None:
    for url, leads in (("", False), ("https://flower.example/at/", True)):
        here = scene.adapters(tmp_path, **({"PGFLEET_FLOWER_URL": url} if url else {}))
        run = scene.begin(here)
        with served(here) as address:
            port = urlsplit(address).port or 0
            home, page = ask(port).text, ask(port, f"/run/{run.id}").text
        assert ('href="https://flower.example/at"' in home) is leads
        found = re.findall(r'"https://flower.example/at/tasks\?name=([^"]*)"', page)
        searches = [parse_query(f"name:{unquote(search)}") for search in found]  # as its page does
        whole = Or((Term("name", run.id), Term("kwargs", run.id)))
        assert (whole in searches) is leads
        assert (And((Term("name", "backup.dump"), Term("kwargs", run.id))) in searches) is leads


def test_headers(serve: Serve) -> None:
    port = serve()
    page, icon, lost = ask(port), ask(port, "/icon-2.svg"), ask(port, "/elsewhere")
    for answer in (page, icon, lost, ask(port, method="POST")):
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
        assert answer.headers["X-Frame-Options"] == "DENY"
    assert page.headers["Cache-Control"] == "no-store"
    assert "immutable" in icon.headers["Cache-Control"]
    assert icon.headers["Content-Type"] == "image/svg+xml"
    assert lost.code == 404
    assert "There is no such page" in lost.text


def test_the_policy_allows_what_the_page_has_and_nothing_more(serve: Serve) -> None:
    text = ask(serve()).text
    for tag, source in (("style", style()), ("script", script())):
        (found,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        assert found == source
        digest = base64.b64encode(hashlib.sha256(found.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy()
    assert policy().startswith("default-src 'none'")
    assert "unsafe" not in policy()


def test_a_fault_of_ours_shows_no_traceback(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> str:
        raise KeyError("/secret/path")

    monkeypatch.setattr(views, "overview", fail)
    answer = ask(serve())
    assert answer.code == 500
    assert "This page cannot be shown" in answer.text
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text
    assert "a page cannot be shown" in caplog.text


def test_what_is_no_request(serve: Serve) -> None:
    port = serve()
    for line in (
        b"GARBAGE\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n",
    ):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
            client.sendall(line)
            answer = client.makefile("rb").read().decode()
        assert "Traceback" not in answer
        assert "This request cannot be answered" in answer
    for path in (
        "/runs?limit=x",
        "/runs?state=odd",
        "/runs?" + "&".join("a=1" for _ in range(50)),
        "/database/none",
    ):
        assert ask(port, path).code == 404, path
    assert ask(port, "//[").code == 404


def test_with_a_password(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []
    real = hmac.compare_digest

    def watch(given: bytes, wanted: bytes) -> bool:
        compared.append((given, wanted))
        return real(given, wanted)

    monkeypatch.setattr(hmac, "compare_digest", watch)
    port = serve(("duty", "correct horse"))

    def answer(given: str) -> int:
        return ask(port, Host="status.example", Authorization=given).code

    def basic(text: str) -> str:
        return f"Basic {base64.b64encode(text.encode()).decode()}"

    unknown = ask(port)
    assert unknown.code == 401
    assert unknown.headers["WWW-Authenticate"].startswith("Basic")
    assert "goimg" not in unknown.text
    assert answer(basic("duty:correct horse")) == 200
    for wrong in (basic("duty:wrong"), basic("correct horse"), "Basic ????", "Bearer x", "", basic("")):
        assert answer(wrong) == 401
    assert ask(port, "/elsewhere").code == 401, "nobody learns what is there"
    assert {wanted for _, wanted in compared} == {b"duty:correct horse"}, (
        "user and password, in constant time"
    )


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "192.0.2.1", "status.example"])
def test_it_is_not_open_to_everybody(here: Adapters, address: str) -> None:
    with pytest.raises(ConfigError, match="open to everybody"):
        Server(address, 0, Readings(here.settings, max_age=60), None)


def test_a_problem_is_shown_with_its_database(tmp_path: Path) -> None:
    """By what it is about, not by the words of its sentence: a database may be called as any of them."""
    here = scene.adapters(tmp_path, database="[databases.drill]\nallow_unencrypted = true")
    scene.drill(here, scene.back_up(here, 5), "near", "refuted")
    with served(here) as address:
        port = urlsplit(address).port or 0
        assert "A drill refuted goimg-backup" in ask(port, "/database/goimg").text
        shown = ask(port, "/database/drill").text
    assert "drill has no backup that can be restored." in shown
    assert "A drill refuted" not in shown


def test_no_two_stages_of_a_timeline_look_alike(here: Adapters) -> None:
    run = scene.begin(here)
    (step,) = [one for one in here.ledger.steps(run.id) if one.started_at is not None]
    began = step.started_at or 0.0
    names = [f"restore.{name}" for name in ("choose", "thaw", "fetch_part", "decrypt", "check")] + [
        f"drill.{name}"
        for name in ("provision", "roles", "load", "fingerprint", "examine", "compare", "control", "conclude")
    ]
    drawn = gantt.picture(
        [replace(step, name=name, state="done", ended_at=began + 9) for name in names], began + 9
    )
    assert drawn is not None
    assert len(drawn.kinds) == len(dict(drawn.kinds)) == 12, "of thirteen steps thaw and fetch are one stage"
    assert drawn.svg.count('fill="url(#stripes)"') == 4, "there are eight colours"


def test_what_is_tidied_up_later_does_not_stretch_the_timeline(here: Adapters) -> None:
    run = scene.begin(here)
    (step,) = [one for one in here.ledger.steps(run.id) if one.started_at is not None]
    began = step.started_at or 0.0
    dump = replace(step, state="done", ended_at=began + 10)
    late = replace(dump, name="audit.record", started_at=began + 60, ended_at=began + 61)
    whole, own = (gantt.picture([dump, late], began + 100, end) for end in (None, began + 10))
    assert whole is not None
    assert own is not None
    assert "2 steps by 1 process in 1 min 1 s" in whole.svg, "the control"
    assert "1 step by 1 process in 10 s" in own.svg
