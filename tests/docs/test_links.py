"""Every link and anchor leads somewhere: in the files as a code host shows them, and in the built site."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.docs.conftest import ROOT, build
from tests.docs.links import broken, broken_in_site, mentions


def _tracked(*patterns: str) -> list[Path]:
    """Of the repository, new ones included."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", "--", *patterns],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    return [path for name in sorted(filter(None, listed.split("\0"))) if (path := ROOT / name).is_file()]


def test_pages_as_a_code_host_shows_them() -> None:
    pages = _tracked("*.md")
    assert {ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "systemd/README.md"} <= set(pages)
    assert [wrong for page in pages for wrong in broken(page, ROOT)] == []


def test_documents_that_comments_and_alert_rules_name() -> None:
    files = _tracked(
        "compose", "systemd", "worker/**/*.py", "worker/**/*.j2", "Dockerfile", "Makefile", "*.yml"
    )
    texts = [path for path in files if path.suffix not in (".md", ".png")]
    assert ROOT / "compose/prometheus/alerts.yml" in texts
    assert [wrong for path in texts for wrong in mentions(path, ROOT)] == []


def test_the_site(site: Path) -> None:
    assert broken_in_site(site) == []


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("[x](two.md#there)\n", []),
        ("[x](two.md#not-there)\n", ["one.md: two.md#not-there"]),
        ("[x](three.md)\n", ["one.md: three.md"]),
        ("[x](../outside.md)\n", ["one.md: ../outside.md"]),
        ("`[x](three.md)`\n\n```sh\n[x](three.md)\n```\n", []),
        ("## A `b` c?\n\n[x](#a-b-c) [y](#a-b)\n", ["one.md: #a-b"]),
    ],
)
def test_what_counts_as_broken(tmp_path: Path, text: str, wrong: list[str]) -> None:
    (tmp_path / "one.md").write_text(text)
    (tmp_path / "two.md").write_text("# There\n")
    assert broken(tmp_path / "one.md", tmp_path) == wrong


def test_a_comment_that_names_no_document(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/a.md").write_text("# A\n")
    rules = tmp_path / "alerts.yml"
    rules.write_text("runbook_url: docs/a.md#a\n# docs/b.md has more\nrunbook_url: docs/a.md#b\n")
    assert mentions(rules, tmp_path) == ["alerts.yml: docs/b.md", "alerts.yml: docs/a.md#b"]


def test_a_broken_anchor_fails_the_site(tmp_path: Path) -> None:
    """The negative control of all of this: a small site, as strict as ours, with one wrong anchor."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/index.md").write_text("# Home\n\n[there](other.md#here) [not](other.md#nowhere)\n")
    (tmp_path / "docs/other.md").write_text("# Here\n")
    ours = (ROOT / "mkdocs.yml").read_text()
    validation = ours[ours.index("validation:") : ours.index("exclude_docs:")]
    config = tmp_path / "mkdocs.yml"
    config.write_text(f"site_name: x\nuse_directory_urls: false\ntheme: {{name: mkdocs}}\n{validation}")
    built = build(config, tmp_path / "site")
    assert built.returncode == 1
    assert "#nowhere" in built.stderr
    assert "#here" not in built.stderr

    config.write_text(config.read_text().replace("anchors: warn", "anchors: ignore"))
    assert build(config, tmp_path / "site").returncode == 0
    assert "index.html: other.html#nowhere" in broken_in_site(tmp_path / "site")


def test_what_is_loaded_from_elsewhere_is_found(tmp_path: Path) -> None:
    page = '<link rel="stylesheet" href="https://fonts.example/x.css"><script src="a.js"></script>'
    (tmp_path / "index.html").write_text(page)
    (tmp_path / "a.js").touch()
    assert broken_in_site(tmp_path) == ["index.html: https://fonts.example/x.css"]
