"""Every shell block that is marked is run, page by page, against one embedded stack, as a reader would."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.acceptance.conftest import QUICK
from tests.docs.blocks import commands, matches, run
from tests.docs.conftest import ROOT
from worker.local.sample import load_sample
from worker.local.stack import DATABASE, Stack

#: Its blocks need another machine's programs; tests/acceptance/test_restore.py runs them.
_ELSEWHERE = {"docs/recovery-without-pgfleet.md"}
#: Runs first, while there is no backup.
_FIRST = "docs/tutorial.md"


def _pages() -> list[str]:
    files = [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "systemd/README.md",
        *ROOT.glob("docs/**/*.md"),
    ]
    names = [str(path.relative_to(ROOT)) for path in files]
    marked = [name for name in names if name not in _ELSEWHERE and commands((ROOT / name).read_text())]
    return sorted(marked, key=lambda name: (name != _FIRST, name))


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    settings = {**QUICK, "PGFLEET_ALLOW_REPLACE": "true"}
    with Stack(workers=2, flower=False, settings=settings) as stack:
        load_sample(stack.postgres, DATABASE)
        yield stack


@pytest.fixture(scope="module")
def env(stack: Stack) -> dict[str, str]:
    """What a reader's shell has who has set the page's variables."""
    postgres = stack.postgres
    return {
        **stack.environment,
        "PATH": f"{Path(stack.environment['PATH'].partition(':')[0])}:{postgres.bin_dir}:{os.environ['PATH']}",
        "PGHOST": postgres.host, "PGPORT": str(postgres.port), "PGUSER": postgres.user,
        "PGPASSWORD": postgres.password, "PGDATABASE": DATABASE,
        "LC_ALL": "C.UTF-8", "COLUMNS": "100", "TERM": "dumb",
    }  # fmt: skip


@pytest.fixture(scope="module")
def backup(env: Mapping[str, str]) -> None:
    """There is one."""
    listed = subprocess.run(
        ["pgfleet", "list"], env=dict(env), capture_output=True, text=True, check=True
    ).stdout
    if f"{DATABASE}-backup-" not in listed:
        subprocess.run(["pgfleet", "backup"], env=dict(env), capture_output=True, check=True)


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory with a short path, for gpg's sockets; pytest's become longer with every run."""
    with tempfile.TemporaryDirectory(prefix="page-", ignore_cleanup_errors=True) as made:
        yield Path(made)


@pytest.mark.parametrize("page", _pages())
def test_the_blocks_of_a_page(
    page: str, env: Mapping[str, str], place: Path, request: pytest.FixtureRequest
) -> None:
    if page != _FIRST:
        request.getfixturevalue("backup")
    home = place / "home"
    home.mkdir()
    wrong = run(commands((ROOT / page).read_text()), {**env, "HOME": str(home)}, place)
    assert not wrong, f"{page}, " + "\n\n".join(wrong)


def test_blocks_are_marked() -> None:
    assert sum(len(commands((ROOT / page).read_text())) for page in _pages()) >= 10


def _wrong(tmp_path: Path, text: str) -> list[str]:
    return run(commands(text), {"PATH": os.environ["PATH"], "DB_NAME": "shop"}, tmp_path)


def test_a_page_that_is_right(tmp_path: Path) -> None:
    page = """
```console run
$ echo $DB_NAME   # a comment
shop
$ x=7; printf '%s\\n' one two \\
    three
one
…
$ test $x = 7
```

<!-- run
y=8
-->

```sh run
test $y = 8
```

1. In a list

    ```console run exit=3
    $ echo it said $y
    it said 1234
    $ (exit 3)
    ```

```console
$ false
```

```console run env=none
$ echo "[$DB_NAME]"
[]
```
"""
    assert len(commands(page)) == 8
    assert _wrong(tmp_path, page) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("```console run\n$ true\n$ false\n$ true\n```\n", "line 3: false\nexit code 1, expected 0"),
        ("```console run exit=3\n$ true\n```\n", "line 2: true\nexit code 0, expected 3"),
        ("```console run\n$ echo a\nb\n```\n", "line 2: echo a\nshown:\nb\nsaid:\na"),
        ("```console run\n$ printf 'a\\nb\\n'\na\n```\n", "shown:\na\nsaid:\na\nb"),
        ("```sh run\nfalse\ntrue\n```\n", "exit code the shell ended"),
        ("<!-- run\nexit 4\n-->\n", "exit code the shell ended"),
    ],
)
def test_a_page_that_is_wrong(tmp_path: Path, text: str, said: str) -> None:
    (wrong,) = _wrong(tmp_path, text)
    assert said in wrong


@pytest.mark.parametrize(
    "text",
    [
        "```console run exit=x\n$ true\n```\n",
        "```console run\ntrue\n```\n",
        "```python run\npass\n```\n",
        "```console run\n```\n",
    ],
)
def test_a_mark_that_is_not_understood(text: str) -> None:
    with pytest.raises(ValueError, match=r"^line \d"):
        commands(text)


@pytest.mark.parametrize(
    ("shown", "said", "same"),
    [
        (
            "✓ goimg-backup-20260101-020000: 2.4 KiB, 3 s",
            "✓ goimg-backup-20271231-235959: 31 MiB, 450 ms",
            True,
        ),
        ("run 01j9x2k4  took 1 m 20 s", "run 0zzq7k1m took 59.1 s", True),
        ("a   b\n━━━━\nc", "a b\n\nc\n", True),
        ("wrote … of 5", "wrote /tmp/x.html of 12", True),
        ("a\n...\nz", "a\nz", True),
        ("a\n…\nz", "a\nb\nc\nz", True),
        ("a\nz", "a\nb\nz", False),
        ("verified in local", "verified in s3", False),
        ("3 MiB", "3 s", False),
        ("3 copies", "three copies", False),
        ("a…", "b", False),
    ],
)
def test_what_counts_as_the_same_output(shown: str, said: str, same: bool) -> None:
    assert matches(shown, said) is same
