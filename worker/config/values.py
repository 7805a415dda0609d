"""How values are written: sizes, durations, lists, paths. One `Kind` per way feeds the parser, the error that
says what to write, `pgfleet config` and the reference page.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin
from urllib.parse import urlsplit

from annotated_types import Ge, Gt, Le
from pydantic import AfterValidator, BeforeValidator, SecretStr
from pydantic.fields import FieldInfo

from worker.core import cron
from worker.errors import ConfigError

SIZE_UNITS = {
    "B": 1,
    "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40,
}  # fmt: skip
DURATION_UNITS = {"ms": 0.001, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
_SIZE = re.compile(r"(?P<number>[0-9]+(\.[0-9]+)?)\s*(?P<unit>[A-Za-z]*)")
_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(ms|min|s|m|h|d)")
_COMPRESSION = re.compile(r"auto|none|gzip(:[1-9])?|zstd(:([1-9]|1\d|2[0-2]))?|lz4(:([1-9]|1[0-2]))?|[0-9]")
_ALIAS = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}")
TRUE_FALSE = "true or false"


@dataclass(frozen=True, slots=True)
class Kind:
    """expects: what a value must be. example: one to copy. show: a value as one would write it."""

    expects: str
    example: str
    show: Callable[[Any], str] = str


def parse_size(text: str) -> int:
    """Bytes of "64MiB", "1.5 GB" or "1048576". Bare "M" is refused: 10^6 to some, 2^20 to others."""
    match = _SIZE.fullmatch(text.strip())
    unit = SIZE_UNITS.get(match["unit"] or "B") if match else None
    if match is None or unit is None:
        raise ValueError(f"{text!r} is not a size")
    whole, _, fraction = match["number"].partition(".")
    scale: int = 10 ** len(fraction)
    size, rest = divmod(int(whole + fraction) * unit, scale)
    if rest:
        raise ValueError(f"{text!r} is not a whole number of bytes")
    return size


def format_size(size: int) -> str:
    """The shortest exact way to write it: 67108864 is "64MiB", 1000 is "1000B"."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if size and size % SIZE_UNITS[unit] == 0:
            return f"{size // SIZE_UNITS[unit]}{unit}"
    return f"{size}B"


def parse_duration(text: str) -> float:
    """Seconds of "90s", "15m", "1h30m", "2d" or "90" (seconds)."""
    text = text.strip()
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text):
        return float(text)
    parts = _DURATION_PART.findall(text)
    if not parts or _DURATION_PART.sub("", text).strip():
        raise ValueError(f"{text!r} is not a duration")
    return round(sum(float(number) * DURATION_UNITS[unit] for number, unit in parts), 6)


def format_duration(seconds: float) -> str:
    """The shortest exact way to write it: 5400 is "1h30m", 0.5 is "0.5s"."""
    whole = int(seconds)
    if whole != seconds:
        return f"{round(seconds, 6):f}".rstrip("0") + "s"
    text = ""
    for unit in ("d", "h", "m", "s"):
        count, whole = divmod(whole, int(DURATION_UNITS[unit]))
        text += f"{count}{unit}" if count else ""
    return text or "0s"


def _from_text(parse: Callable[[str], Any]) -> BeforeValidator:
    """Text is parsed; a value that has its type already (from TOML, or from code) passes."""
    return BeforeValidator(lambda value: parse(value) if isinstance(value, str) else value)


def _words(separator: str | None) -> Callable[[str], list[str]]:
    return lambda text: [word.strip() for word in text.split(separator) if word.strip()]


def _absolute(path: Path) -> Path:
    path = path.expanduser()
    if not path.is_absolute():
        raise ValueError("a relative path means another place in each process")
    return path


def _matching(pattern: re.Pattern[str]) -> AfterValidator:
    def check(text: str) -> str:
        if not pattern.fullmatch(text):
            raise ValueError("does not match")
        return text

    return AfterValidator(check)


def _http(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username or parts.query:
        raise ValueError("not an endpoint")
    assert parts.port is None or parts.port > 0  # `port` raises ValueError for nonsense
    return url.rstrip("/")


def _secret_http(url: SecretStr) -> SecretStr:
    return SecretStr(_http(url.get_secret_value()))


def _gateway(url: SecretStr) -> SecretStr:
    """It may have a user and a password."""
    parts = urlsplit(url.get_secret_value())
    _http(parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl())
    return SecretStr(url.get_secret_value().rstrip("/"))


def _schedule(line: str) -> str:
    """The line, or "" for "off": never."""
    line = " ".join(line.split())
    if line.lower() in {"off", ""}:
        return ""
    try:
        cron.validate(line)
    except ConfigError as error:  # pydantic collects ValueErrors only
        raise ValueError(error.message) from None
    return line


def _joined(separator: str) -> Callable[[Any], str]:
    return lambda values: separator.join(str(value) for value in values)


Size = Annotated[int, _from_text(parse_size), Kind("a size such as 64MiB", "64MiB", format_size)]
Seconds = Annotated[float, _from_text(parse_duration), Kind("a duration such as 15m", "15m", format_duration)]
WholeSeconds = Annotated[
    int,
    _from_text(parse_duration),
    Kind("a duration of whole seconds such as 15m", "90s", format_duration),
]
Names = Annotated[
    tuple[str, ...], _from_text(_words(",")), Kind("a list separated by commas", "one,two", _joined(","))
]
Folders = Annotated[
    tuple[Annotated[Path, AfterValidator(_absolute)], ...],
    _from_text(_words(":")),
    Kind("a list of absolute paths separated by colons", "/usr/lib/postgresql/16/bin", _joined(":")),
]
SecretUrls = Annotated[
    tuple[SecretStr, ...],
    _from_text(_words(None)),
    Kind("a list of URLs separated by spaces", "json://host/path"),
]
PingUrl = Annotated[
    SecretStr,
    AfterValidator(_secret_http),
    Kind(
        "an http or https URL without a user and a query",
        "https://hc-ping.com/00000000-0000-0000-0000-000000000000",
    ),
]
GatewayUrl = Annotated[
    SecretStr,
    AfterValidator(_gateway),
    Kind("an http or https URL without a query", "http://pushgateway:9091"),
]
AbsolutePath = Annotated[Path, AfterValidator(_absolute), Kind("an absolute path", "/srv/pgfleet")]
Compression = Annotated[
    str,
    _matching(_COMPRESSION),
    Kind("auto, none, gzip:1 to gzip:9, zstd:1 to zstd:22, lz4:1 to lz4:12 or a digit from 0 to 9", "zstd:3"),
]
Endpoint = Annotated[
    str,
    AfterValidator(_http),
    Kind("an http or https URL without a user", "https://fra1.digitaloceanspaces.com"),
]
Alias = Annotated[
    str,
    _matching(_ALIAS),
    Kind("a name of at most 63 letters, digits, _ . and - that starts with a letter, a digit or _", "goimg"),
]
Cron = Annotated[
    str,
    AfterValidator(_schedule),
    Kind(
        "off, or a cron line of five fields (UTC) whose time comes", "0 2 * * *", lambda line: line or "off"
    ),
]
DIGESTS = {"daily": "0 7 * * *", "weekly": "0 7 * * 1"}
Digest = Annotated[
    str,
    AfterValidator(lambda line: _schedule(DIGESTS.get(line.strip().lower(), line))),
    Kind("off, daily, weekly or a cron line of five fields (UTC)", "weekly", lambda line: line or "off"),
]


def unwrap(annotation: Any, metadata: list[Any]) -> tuple[Any, list[Any]]:
    """The type without `| None` and `Annotated`, and all the metadata on the way in."""
    if get_origin(annotation) is Annotated:
        inner, *more = get_args(annotation)
        return unwrap(inner, [*more, *metadata])
    if get_origin(annotation) in {Union, UnionType}:
        inner = [arg for arg in get_args(annotation) if arg is not NoneType]
        return unwrap(inner[0], metadata)
    return annotation, metadata


def is_secret(field: FieldInfo) -> bool:
    annotation, _ = unwrap(field.annotation, [])
    return annotation is SecretStr or SecretStr in get_args(annotation)


def kind_of(field: FieldInfo) -> Kind:
    """The kind of a setting, with its bounds in words."""
    annotation, metadata = unwrap(field.annotation, list(field.metadata))
    kind = next((item for item in metadata if isinstance(item, Kind)), None) or _plain(annotation)
    bounds = _bounds(metadata, kind)
    return Kind(f"{kind.expects}, {bounds}", kind.example, kind.show) if bounds else kind


def _plain(annotation: Any) -> Kind:
    if get_origin(annotation) is Literal:
        choices = [choice for choice in get_args(annotation) if choice]
        return Kind("one of " + ", ".join(choices), choices[0])
    if annotation is bool:
        return Kind(TRUE_FALSE, "true", lambda value: str(value).lower())
    if annotation is int:
        return Kind("a whole number", "1")
    if annotation is float:
        return Kind("a number", "0.5", lambda value: f"{value:g}")
    return Kind("text", "text")


def _bounds(metadata: list[Any], kind: Kind) -> str:
    """``from 1 to 64``, ``at least 1``, ``above 0``…"""
    low = next((item.ge for item in metadata if isinstance(item, Ge)), None)
    high = next((item.le for item in metadata if isinstance(item, Le)), None)
    above = next((item.gt for item in metadata if isinstance(item, Gt)), None)
    if low is not None and high is not None:
        return f"from {kind.show(low)} to {kind.show(high)}"
    words = (("above", above), ("at least", low), ("at most", high))
    return " and ".join(f"{word} {kind.show(bound)}" for word, bound in words if bound is not None)
