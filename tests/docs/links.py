"""What links where: in Markdown as a code host reads it, in pages as a browser does, and in comments and rules."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

FENCE = re.compile(
    r"^(?P<indent>[ \t]*)(?P<fence>`{3,}|~{3,})(?P<info>[^\n`]*)\n(?P<body>.*?)^[ \t]*(?P=fence)[ \t]*$",
    re.M | re.S,
)
_CODE = re.compile(r"(`+)(?!`).+?(?<!`)\1(?!`)", re.DOTALL)
_LINK = re.compile(r"!?\[(?:[^\]\[]|\[[^\]]*\])*\]\(\s*<?(?P<target>[^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)")
_HEADING = re.compile(r"^ {0,3}#{1,6}[ \t]+(?P<text>.*?)[ \t]*#*[ \t]*$", re.MULTILINE)
_ID = re.compile(r"<[^>]+\s(?:id|name)=[\"'](?P<id>[^\"']+)[\"']")
#: Documents that prose and comments name by their path from the root.
MENTION = re.compile(
    r"(?<![\w./-])(?P<path>(?:docs|systemd|compose)/[\w./-]+\.(?:md|json|yaml|yml|toml|py))(?P<anchor>#[\w-]+)?"
)


def without_code(text: str) -> str:
    return _CODE.sub("", FENCE.sub("", re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)))


def links(text: str) -> Iterator[str]:
    """The targets of the links and pictures of a Markdown text."""
    return (found["target"] for found in _LINK.finditer(without_code(text)))


def anchors(text: str) -> set[str]:
    """The anchors that a code host gives its headings, and those written as HTML."""
    found: set[str] = set()
    bare = FENCE.sub("", text)
    for heading in _HEADING.finditer(bare):
        slug = _slug(heading["text"])
        number = 0
        while (name := f"{slug}-{number}" if number else slug) in found:
            number += 1
        found.add(name)
    return found | {match["id"] for match in _ID.finditer(bare)}


def _slug(heading: str) -> str:
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)  # a link's text alone
    text = re.sub(r"<[^>]+>", "", text).lower().replace("`", "")
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


@cache
def anchors_of(path: Path) -> frozenset[str]:
    return frozenset(anchors(path.read_text()))


def broken(path: Path, root: Path) -> list[str]:
    """The links of a Markdown file that lead nowhere in the repository. Links to other sites are not followed."""
    return [
        f"{path.relative_to(root)}: {link}"
        for link in links(path.read_text())
        if not _leads(link, path, root)
    ]


def mentions(path: Path, root: Path) -> list[str]:
    """What a file that is no page says about documents that are not there."""
    found = MENTION.finditer(path.read_text())
    named = ((match["path"] + (match["anchor"] or "")) for match in found)
    return [f"{path.relative_to(root)}: {name}" for name in named if not _leads(name, root / "any", root)]


def _leads(link: str, page: Path, root: Path) -> bool:
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return parts.scheme in ("http", "https", "mailto")
    target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
    if not target.exists() or not target.is_relative_to(root):
        return False
    if not parts.fragment:
        return True
    return target.suffix == ".md" and parts.fragment in anchors_of(target)


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.ids.update(filter(None, (given.get("id"), given.get("name"))))
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif tag == "link" and given.get("rel") in ("stylesheet", "preload", "icon", "preconnect"):
            self.loads.append(given["href"])
        elif "src" in given:
            self.loads.append(given["src"])


@cache
def read_page(path: Path) -> _Page:
    page = _Page()
    page.feed(path.read_text())
    return page


def broken_in_site(site: Path) -> list[str]:
    """Links and anchors that lead nowhere within a built site, and whatever is loaded from elsewhere."""
    found = []
    for path in sorted(site.rglob("*.html")):
        if path.name == "404.html":  # served under any address: its links are absolute
            continue
        page = read_page(path)
        wrong = [link for link in {*page.links, *page.loads} if not _leads_in_site(link, path, site)]
        foreign = [load for load in page.loads if urlsplit(load).netloc]
        found += [f"{path.relative_to(site)}: {link}" for link in (*wrong, *foreign)]
    return found


def _leads_in_site(link: str, page: Path, site: Path) -> bool:
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return parts.scheme in ("http", "https", "mailto", "data")
    target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
    target = target / "index.html" if target.is_dir() else target
    if not target.is_file() or not target.is_relative_to(site):
        return False
    return (
        not parts.fragment
        or target.suffix != ".html"
        or unquote(parts.fragment) in read_page(target).ids | {"__skip"}
    )
