"""The style sheet's promise: every text can be read on every ground it may stand on, in both colour schemes."""

from __future__ import annotations

import re

import pytest

from worker.web.templating import style

_TEXTS = ("ink", "dim", "accent", "good", "warn", "bad", "busy")
_GROUNDS = ("ground", "paper", "sunk")
#: What stands on a tinted ground.
_TINTED = [
    *((tone, f"{tone}-bg") for tone in ("good", "warn", "bad", "busy")),
    *((text, f"{state}-bg") for state in ("good", "bad", "busy") for text in ("ink", "dim")),
    *(("ink", f"{type_}-bg") for type_ in ("daily", "weekly", "monthly")),
    ("paper", "accent"),
]
_SERIES = [f"s{number}" for number in range(1, 9)]


def schemes() -> dict[str, dict[str, str]]:
    """The custom properties in light and dark: the dark ones over the light ones."""
    blocks = re.findall(r":root \{(.*?)\}", style(), re.DOTALL)
    light, dark = (dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{3,6})", block)) for block in blocks[:2])
    assert len(light) > 20
    return {"light": light, "dark": light | dark}


def luminance(colour: str) -> float:
    """WCAG 2.2, relative luminance."""
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    channels = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    red, green, blue = (one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def poor(colours: dict[str, str], pairs: list[tuple[str, str]], least: float) -> list[str]:
    found = ((text, ground, contrast(colours[text], colours[ground])) for text, ground in pairs)
    return [f"{text} on {ground}: {ratio:.2f}" for text, ground, ratio in found if ratio < least]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read(scheme: str) -> None:
    colours = schemes()[scheme]
    pairs = [(text, ground) for text in _TEXTS for ground in _GROUNDS] + _TINTED
    assert poor(colours, pairs, 4.5) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pictures_can_be_seen(scheme: str) -> None:
    colours = schemes()[scheme]
    shapes = [*_SERIES, "daily", "weekly", "monthly", "edge"]
    assert poor(colours, [(shape, "paper") for shape in shapes], 3.0) == []
    label = "#ffffff" if scheme == "light" else "#0d1218"
    assert [series for series in _SERIES if contrast(colours[series], label) < 4.5] == []


def test_the_measure_itself() -> None:
    assert contrast("#000", "#ffffff") == pytest.approx(21)
    assert contrast("#767676", "#fff") == pytest.approx(4.54, abs=0.01)
    assert poor({"dim": "#aaaaaa", "paper": "#ffffff"}, [("dim", "paper")], 4.5) == ["dim on paper: 2.32"]


def test_every_colour_that_is_used_is_defined() -> None:
    defined = schemes()["light"]
    assert {name for name in re.findall(r"var\(--([a-z0-9-]+)\)", style()) if name not in defined} == set()
