"""A MkDocs hook: the repository's own pages become part of the site, and links work in both.

Files are written for a code host: links are relative to the file, and may lead out of docs/. Here, what lies outside
comes along: pages that the nav names are rendered, other files that a page links to are copied under ``files/``. A
block's mark for the tests (```` ```console run ````) is not for readers.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from posixpath import normpath, relpath
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
#: Pages outside docs/, by their name in the nav.
OUTSIDE = ("CHANGELOG.md", "CONTRIBUTING.md", "systemd/README.md")
_COPIES = "files"
_FENCE = re.compile(r"^(?P<fence>[ \t]*(?:>[ \t]*)*(?:`{3,}|~{3,})\w+)[ \t]+run\b[^\n`]*$", re.MULTILINE)
_LINK = re.compile(r"(?P<start>\]\()(?P<target>[^)\s#:]+)(?P<anchor>#[^)\s]*)?(?P<end>(?:\s+\"[^\"]*\")?\))")


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    for name in OUTSIDE:
        files.append(File.generated(config, name, abs_src_path=str(ROOT / name)))
    for page in list(files.documentation_pages()):
        for target in _targets(page.content_string):
            path = _repository_path(page.src_uri, target)
            if _is_copied(path) and files.get_file_from_path(f"{_COPIES}/{path}") is None:
                files.append(File.generated(config, f"{_COPIES}/{path}", content=(ROOT / path).read_bytes()))
    return files


def on_page_markdown(markdown: str, *, page: Page, **_: Any) -> str:
    return _FENCE.sub(r"\g<fence>", _LINK.sub(lambda link: _rewritten(link, page.file.src_uri), markdown))


def _rewritten(link: re.Match[str], page: str) -> str:
    path = _repository_path(page, link["target"])
    uri = _uri(path)
    if uri is None:
        return link[0]
    target = relpath(uri, PurePosixPath(page).parent.as_posix())
    return f"{link['start']}{target}{link['anchor'] or ''}{link['end']}"


def _targets(text: str) -> list[str]:
    return [link["target"] for link in _LINK.finditer(text)]


def _repository_path(page: str, target: str) -> str:
    """Where a link leads, from the repository's root."""
    source = page if page in OUTSIDE else f"docs/{page}"
    return normpath((PurePosixPath(source).parent / target).as_posix())


def _is_copied(path: str) -> bool:
    inside = path.startswith(("docs/", "..", "/")) or path in OUTSIDE
    return not inside and (ROOT / path).is_file()


def _uri(path: str) -> str | None:
    """The file of the site that stands for a file of the repository; None: MkDocs shall complain."""
    if path in OUTSIDE:
        return path
    if path == "README.md":
        return "index.md"
    if path.startswith("docs/"):
        inside = path.removeprefix("docs/")
        return f"{inside}/README.md" if (ROOT / path / "README.md").is_file() else inside
    return f"{_COPIES}/{path}" if _is_copied(path) else None
