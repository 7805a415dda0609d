"""`pgfleet install systemd` says what becomes of each file, does just that, and can take it back."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from worker.cli import cli
from worker.errors import ConfigError

UNIT = "etc/systemd/system/pgfleet-backup.service"
SETTINGS = "etc/pgfleet/pgfleet.env"


def install(root: Path, *options: str) -> dict[str, str]:
    """File below the root → what was said of it."""
    argv = ["install", "systemd", "--root", str(root), "--bin", "/opt/pgfleet/bin", *options]
    done = CliRunner().invoke(cli, argv, standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    lines = [line.split(maxsplit=1) for line in done.output.splitlines() if f" {root}/" in line]
    return {str(Path(path).relative_to(root)): verb for verb, path in lines}


def files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir() or path.is_symlink()}


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    said = install(tmp_path, "--dry-run")
    assert said[UNIT] == said[SETTINGS] == "new"
    assert not files(tmp_path)
    install(tmp_path)
    assert files(tmp_path) == set(said), "it did something else than it had said"


def test_a_second_time_changes_what_differs_and_keeps_the_settings(tmp_path: Path) -> None:
    install(tmp_path)
    (tmp_path / UNIT).write_text("mine\n")
    (tmp_path / "usr/local/sbin/pgfleet").chmod(0o644)
    (tmp_path / SETTINGS).write_text("DB_NAME=mine\n")
    wanted = {UNIT: "changed", "usr/local/sbin/pgfleet": "changed", SETTINGS: "kept"}
    for options in (["--dry-run"], []):
        said = install(tmp_path, *options)
        assert {path: verb for path, verb in said.items() if verb != "unchanged"} == wanted
    assert set(install(tmp_path).values()) == {"unchanged", "kept"}
    assert (tmp_path / SETTINGS).read_text() == "DB_NAME=mine\n"
    assert (tmp_path / "usr/local/sbin/pgfleet").stat().st_mode & 0o777 == 0o755


def test_it_can_be_removed(tmp_path: Path) -> None:
    """With the links of units that are enabled; what somebody wrote stays, and other people's units do."""
    install(tmp_path)
    units = tmp_path / "etc/systemd/system"
    for link, unit in (
        ("timers.target.wants/pgfleet-backup.timer", "pgfleet-backup.timer"),
        ("multi-user.target.wants/pgfleet-worker@dump,verify.service", "pgfleet-worker@.service"),
        ("multi-user.target.wants/pgfleet-other.service", "pgfleet-other.service"),
    ):
        (units / link).parent.mkdir(exist_ok=True)
        (units / link).symlink_to(units / unit)
    (units / "pgfleet-backup.timer.d").mkdir()
    (units / "pgfleet-backup.timer.d/override.conf").write_text("[Timer]\n")
    left = {
        SETTINGS,
        "etc/systemd/system/pgfleet-backup.timer.d/override.conf",
        "etc/systemd/system/multi-user.target.wants/pgfleet-other.service",
    }
    before = files(tmp_path)
    planned = install(tmp_path, "--remove", "--dry-run")
    assert files(tmp_path) == before
    assert install(tmp_path, "--remove") == planned
    assert files(tmp_path) == left
    assert {path for path, verb in planned.items() if verb == "removed"} == before - left
    assert set(install(tmp_path, "--remove").values()) == {"kept"}, "nothing was left to remove"


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "etc").write_text("a file")
    with pytest.raises(ConfigError, match="cannot be"):
        install(tmp_path)
