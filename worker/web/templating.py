"""Templates, and how values look in them: times in UTC with their machine-readable form, sizes, states with a tone."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, pass_context
from jinja2.runtime import Context
from markupsafe import Markup

from worker.core import human
from worker.status import OfDatabase, verdict
from worker.web import charts

Time = datetime | float
#: state → tone: what it means to somebody who needs the data back.
TONES: Mapping[str, str] = {
    **dict.fromkeys(("proven", "verified", "succeeded", "done", "ok"), "good"),
    **dict.fromkeys(("running", "queued"), "busy"),
    **dict.fromkeys(("damaged", "failed", "refuted", "could_not_run", "down", "missing", "bad"), "bad"),
    **dict.fromkeys(("unverified", "unmanaged", "incomplete", "warning"), "warn"),
}
_LEVELS = ("good", "warn", "bad", "warn")


def render(name: str, now: datetime, **values: Any) -> str:
    """The page of this template, as HTML."""
    return environment().get_template(f"{name}.html.j2").render(now=now, **values)


@cache
def environment() -> Environment:
    made = Environment(
        loader=PackageLoader("worker.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "size": human.size,
        "duration": human.duration,
        "when": when,
        "ago": _ago,
        "rough": rough,
        "number": lambda value: f"{value:,}".replace(",", "\u202f"),
        "words": lambda text: str(text).replace("_", " "),
        "prose": _prose,
        "verdict": verdict,
        "answer": _answer,
        "tone": lambda state: TONES.get(state, "dim"),
        "level": lambda code: _LEVELS[code],
        "svg": charts.svg,
        "pretty": lambda value: json.dumps(value, indent=2, ensure_ascii=False, default=str),
    }
    made.globals |= {"command": _command, "style": Markup(style()), "script": Markup(script())}  # noqa: S704 - our own files
    return made


@cache
def style() -> str:
    return _squeezed(_source("style.css.j2"))


@cache
def script() -> str:
    return _source("refresh.js.j2").strip()


def policy() -> str:
    """The Content-Security-Policy: our one style sheet, our one script, by what is in them; nothing else at all."""
    return (
        f"default-src 'none'; style-src '{_digest(style())}'; script-src '{_digest(script())}'; "
        "connect-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def moment(at: Time) -> datetime:
    return at if isinstance(at, datetime) else datetime.fromtimestamp(at, UTC)


def when(at: Time | None, seconds: bool = False) -> Markup:
    """``2026-11-24 22:58 UTC``; a dash for what has no time."""
    if at is None:
        return Markup("–")
    at = moment(at).astimezone(UTC)
    shown = f"{at:%Y-%m-%d %H:%M:%S}" if seconds else f"{at:%Y-%m-%d %H:%M}"
    return Markup('<time datetime="{}">{} UTC</time>').format(_iso(at), shown)


def _command(line: str) -> Markup:
    """To be copied. A break within an option or an id cannot be told from its hyphens: their words stay whole."""
    whole = Markup("<span>{}</span>")
    words = (whole.format(word) if "-" in word else word for word in line.split(" "))
    return Markup('<code class="cmd">{}</code>').format(Markup(" ").join(words))


def _prose(text: str) -> Markup:
    """Messages name commands in backticks."""
    code = Markup("<code>{}</code>")
    return Markup().join(code.format(part) if n % 2 else part for n, part in enumerate(text.split("`")))


def _answer(one: OfDatabase) -> str:
    """The tone of what is said of it."""
    if one.restorable is None:
        return "warn"
    return "good" if one.restorable and not one.overdue else "bad"


@pass_context
def _ago(context: Context, at: Time | None) -> Markup:
    """``5 h ago``, ``in 3 d``; the exact time as its title."""
    if at is None:
        return Markup("never")
    at = moment(at).astimezone(UTC)
    seconds = (context["now"] - at).total_seconds()
    length = rough(abs(seconds))
    shown = "just now" if abs(seconds) < 60 else f"{length} ago" if seconds > 0 else f"in {length}"
    title = f"{at:%Y-%m-%d %H:%M} UTC"
    return Markup('<time datetime="{}" title="{}">{}</time>').format(_iso(at), title, shown)


def rough(seconds: float) -> str:
    """One unit: what one says when asked how long it takes."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length or unit == "min":
            return f"{seconds / length:.0f} {unit}"
    raise AssertionError


def _iso(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"


def _source(name: str) -> str:
    loader = PackageLoader("worker.web")
    return loader.get_source(Environment(autoescape=True), name)[0]


def _squeezed(css: str) -> str:
    return re.sub(r"\s*\n\s*", "\n", re.sub(r"/\*.*?\*/", "", css, flags=re.DOTALL)).strip()


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
