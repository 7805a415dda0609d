"""The status pages in a real browser, over weeks of a fleet's life: what one sees of them, on a phone, in the dark, by
keyboard, through a screen reader's eyes. Pictures are left in build/screenshots.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.browser import Page, browser
from tests.integration import weeks_scene
from tests.services import wait_until
from worker.web import views

PICTURES = Path("build") / "screenshots"
_GRAVE = ("serious", "critical")
#: One page of each kind.
_ASKED = ("overview", "database", "backup", "failed", "runs")


class Site(NamedTuple):
    address: str
    page: Page
    scene: weeks_scene.Scene

    def paths(self) -> dict[str, str]:
        scene = self.scene
        return {
            "overview": "/",
            "database": "/database/goimg",
            "troubled": "/database/shop",
            "backup": f"/backup/{scene.newest['goimg']}",
            "refuted": f"/backup/{scene.refuted}",
            "running": f"/run/{scene.running}",
            "failed": f"/run/{scene.failed}",
            "replaced": f"/run/{scene.replaced}",
            "runs": "/runs",
        }

    def open(self, path: str) -> Page:
        self.page.open(self.address + path)
        return self.page


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    scene = weeks_scene.make(tmp_path_factory.mktemp("weeks"))
    with ExitStack() as running:
        address = running.enter_context(weeks_scene.served(scene.adapters))
        pipe = running.enter_context(browser())
        yield Site(address, Page(pipe), scene)


@pytest.fixture(autouse=True)
def _as_at_first(site: Site) -> None:
    site.page.size(1180)
    site.page.media(prefers_color_scheme="light")
    site.page.log.clear()


def violations(page: Page, **options: Any) -> list[str]:
    """What axe-core holds against the page, as far as it is serious. Of a long table three rows are asked."""
    if not page.eval("typeof axe !== 'undefined'"):
        page.eval(files("axe_core_python").joinpath("axe.min.js").read_text() + "; 0")
    where = (
        '{exclude: [["tbody tr:nth-child(n+4)"], [".problems li:nth-child(n+4)"], [".month:nth-child(n+2)"]]}'
    )
    wanted = json.dumps({"resultTypes": ["violations"], **options})
    found: list[dict[str, Any]] = page.eval(f"axe.run({where}, {wanted}).then(found => found.violations)")
    return [f"{one['id']}: {one['nodes'][0]['html']}" for one in found if one["impact"] in _GRAVE]


def overflow(page: Page) -> list[str]:
    """What is wider than the window, outside of a region that scrolls by itself."""
    found: list[str] = page.eval(
        """(() => { const wide = document.documentElement.clientWidth;
        if (document.documentElement.scrollWidth <= wide) return [];
        return [...document.querySelectorAll('body *')].filter(one => one.getBoundingClientRect().right > wide + 1
          && !one.closest('.scroll, nav')).map(one => one.outerHTML.slice(0, 120)); })()"""
    )
    return found or (["the page"] if page.eval("document.documentElement.scrollWidth > innerWidth") else [])


def luminance(page: Page) -> float:
    """Of the page's ground, 0 to 255."""
    colour: str = page.eval("getComputedStyle(document.body).backgroundColor")
    return sum(map(int, colour.removeprefix("rgb(").removesuffix(")").split(","))) / 3


def test_every_page_is_clean(site: Site) -> None:
    """No word in the console, no serious finding, and somebody may want to look at it."""
    for name, path in site.paths().items():
        page = site.open(path)
        page.shoot(PICTURES / f"{name}.png")
        assert page.log == [], name
        assert overflow(page) == [], name
        if name in _ASKED:
            assert violations(page) == [], name


def test_on_a_phone(site: Site) -> None:
    site.page.size(360, 740)
    for name, path in site.paths().items():
        page = site.open(path)
        page.shoot(PICTURES / f"{name}-phone.png")
        assert overflow(page) == [], name
        assert page.eval("parseFloat(getComputedStyle(document.body).fontSize)") >= 14


def test_in_the_dark(site: Site) -> None:
    assert luminance(site.open("/")) > 230
    site.page.media(prefers_color_scheme="dark")
    for name in ("overview", "troubled", "running"):
        page = site.open(site.paths()[name])
        page.shoot(PICTURES / f"{name}-dark.png")
        assert luminance(page) < 40
        assert violations(page, runOnly=["color-contrast"]) == [], name


def test_by_keyboard(site: Site) -> None:
    """The skip link comes first; then every link in the order of the page, each with a mark that it has the focus."""
    page = site.open("/")
    wanted = page.eval(
        "[...document.querySelectorAll('a[href], button:not([hidden]), [tabindex=\"0\"]')].length"
    )
    seen = []
    for _ in range(wanted + 3):
        page.key("Tab")
        told = page.eval(
            """(() => { const one = document.activeElement, all = [...document.querySelectorAll('*')];
            return one === document.body ? null :
              [all.indexOf(one), getComputedStyle(one).outlineStyle, one.getBoundingClientRect().width > 0]; })()"""
        )
        if told is None or told[0] in [place for place, _, _ in seen]:
            break
        seen.append(told)
    assert len(seen) == wanted
    assert [place for place, _, _ in seen] == sorted(place for place, _, _ in seen)
    assert {(style, shown) for _, style, shown in seen} == {("solid", True)}
    page.open(site.address + "/runs")
    page.key("Tab")
    assert page.eval("document.activeElement.textContent") == "To the content"
    page.key("Enter")
    assert page.eval("document.activeElement.id") == "main"


def test_everything_is_reached_from_the_overview(site: Site) -> None:
    """By links alone: each database, each backup, each run."""
    reached, waiting = set(), ["/"]
    while waiting and len(reached) < 400:
        path = waiting.pop(0)
        if path in reached:
            continue
        reached.add(path)
        if path.startswith(("/backup/", "/run/")) and len(reached) > 30:
            continue  # what they link to was seen on the others
        links: list[str] = site.open(path).eval(
            "[...document.querySelectorAll('a[href^=\"/\"]')].map(one => one.getAttribute('href'))"
        )
        waiting += [link for link in links if not link.startswith("/runs?")]
    assert {f"/database/{alias}" for alias in weeks_scene.DATABASES} <= reached
    assert {f"/backup/{backup}" for backup in site.scene.newest.values()} <= reached
    assert {f"/run/{run}" for run in (site.scene.failed, site.scene.running, site.scene.replaced)} <= reached
    assert site.page.log == []


def test_what_the_pages_say(site: Site) -> None:
    def text(name: str) -> str:
        return str(site.open(site.paths()[name]).eval("document.body.innerText"))

    overview = text("overview")
    for words in (
        "Every database can be restored, but 1 thing is critical.", "pgfleet evidence list", "over 30 min",
        "pgfleet restore undo", "pgfleet restore finish", "Backup of analytics", "30 of 41", "503 Slow Down",
    ):  # fmt: skip
        assert words in overview
    database = text("database")
    for words in (
        "What retention removes next", "Kept beyond their age", "before the schema migration", "Stored size",
        "Compression ratio", "Duration by step", "Recovery time in drills", "18 204 551 rows", "by hand",
    ):  # fmt: skip
        assert words in database.replace("\u202f", " "), words
    failed = text("failed")
    for words in ("Backup of shop: failed", "503 Slow Down", "5 of 5", "deploy@ci-runner-3", "backup.failed"):
        assert words in failed
    backup = text("backup")
    for words in ("Encrypted to", "98", "Stays. A ", "pgfleet drill goimg-backup", "verify"):
        assert words in backup
    assert "does not restore to what was backed up" in text("refuted")


def test_the_page_renews_itself_and_says_when_it_cannot(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "_RUNNING_SECONDS", 0.05)
    page = site.page
    with weeks_scene.served(site.scene.adapters) as address:
        page.open(f"{address}/run/{site.scene.running}")
        page.eval(
            "document.querySelector('main a').focus(); document.querySelector('h1').textContent = 'old'"
        )
        assert wait_until(lambda: "running" in page.eval("document.querySelector('h1').textContent"), 20)
        assert page.eval("document.activeElement.getAttribute('href')") == "/runs", "the focus stays"
        assert not page.eval("document.documentElement.classList.contains('stale')")
    assert wait_until(lambda: page.eval("document.documentElement.classList.contains('stale')"), 20)
    assert "does not answer" in page.eval("document.body.innerText")


def test_paused(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "_RUNNING_SECONDS", 0.05)
    page = site.open(site.paths()["running"])
    page.eval(
        "window.asked = 0; const own = fetch; window.fetch = (...all) => { asked++; return own(...all) }; 0"
    )
    assert wait_until(lambda: page.eval("asked") > 1, 20)
    page.eval("document.getElementById('live').click()")
    assert page.eval("document.getElementById('live').textContent") == "Resume"
    asked, ticks = page.eval("asked"), "new Promise(done => setTimeout(() => done(asked), 400))"
    assert page.eval(ticks) == asked, "eight times the interval"
    page.eval("document.getElementById('live').click()")
    assert wait_until(lambda: page.eval("asked") > asked, 20)


def test_printed(site: Site) -> None:
    site.page.media(media="print")
    page = site.open("/")
    assert page.eval("getComputedStyle(document.querySelector('.top nav')).display") == "none"
    assert page.eval("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    site.page.media()


def test_the_checks_see_what_is_broken(site: Site, tmp_path: Path) -> None:
    """Each check on a page that is wrong in just that way."""
    broken = tmp_path / "broken.html"
    broken.write_text(
        "<!doctype html><html><head><title>x</title><meta name='viewport' content='width=device-width'></head>"
        "<body style='background: #fff'><img src='data:,'><p style='color: #ccc'>pale</p>"
        "<div style='width: 900px'>wide</div><script>nothing()</script>"
    )
    site.page.size(360)
    site.page.media(prefers_color_scheme="dark")
    site.page.open(broken.as_uri())
    told = " ".join(violations(site.page))
    assert "image-alt" in told
    assert "color-contrast" in told
    assert "html-has-lang" in told
    assert overflow(site.page)
    assert luminance(site.page) > 40
    assert any("Uncaught" in line for line in site.page.log), json.dumps(site.page.log)
