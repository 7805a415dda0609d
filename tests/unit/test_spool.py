from __future__ import annotations

import hashlib
import os
import resource
import signal
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from worker.durable import durable_rename, durable_write, hash_file, replacing
from worker.errors import Cancelled, ConfigError, SpoolFull
from worker.spool import Spool


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool", 0)


def age(path: Path, seconds: float) -> None:
    """Make a tree look as if nothing in it had changed for so long."""
    for entry in (*path.rglob("*"), path):
        if not entry.is_symlink():
            then = entry.stat().st_mtime - seconds
            os.utime(entry, (then, then))


# --- identity -----------------------------------------------------------------------------------------------


def test_the_id_stays_with_the_directory(tmp_path: Path) -> None:
    first = Spool(tmp_path / "a", 0)
    assert Spool(tmp_path / "a", 0).id == first.id
    assert Spool(tmp_path / "b", 0).id != first.id
    assert (tmp_path / "a" / ".pgfleet-spool").read_text().strip() == first.id


def test_workers_that_start_at_once_agree(tmp_path: Path) -> None:
    for attempt in range(20):
        gate = threading.Barrier(8)

        def start(root: Path = tmp_path / str(attempt), gate: threading.Barrier = gate) -> str:
            gate.wait()
            return Spool(root, 0).id

        with ThreadPoolExecutor(8) as pool:
            ids = {future.result() for future in [pool.submit(start) for _ in range(8)]}
        assert len(ids) == 1
        assert sorted(os.listdir(tmp_path / str(attempt))) == [".pgfleet-spool", "runs", "trash"]


def test_a_damaged_id_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".pgfleet-spool").write_text("")
    with pytest.raises(ConfigError, match="holds no spool id"):
        Spool(tmp_path, 0)


def test_a_root_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"PGFLEET_SPOOL: .*/file cannot be used"):
        Spool(tmp_path / "file", 0)


@pytest.fixture
def plain_user() -> Iterator[Path]:
    """A directory that anybody may enter, and no root rights: to root every one is writable."""
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        user = os.geteuid()
        if user == 0:
            os.chown(directory, 65534, -1)
            os.seteuid(65534)
        try:
            yield Path(directory)
        finally:
            os.seteuid(user)


@pytest.mark.parametrize("name", ["", "runs", "trash"])
def test_a_root_without_write_permission_is_refused(plain_user: Path, name: str) -> None:
    root = plain_user / "spool"
    if name:
        Spool(root, 0)
    (root / name if name else plain_user).chmod(0o555)
    with pytest.raises(ConfigError, match=f"PGFLEET_SPOOL: {root} cannot be used"):
        Spool(root, 0)
    (root / name if name else plain_user).chmod(0o755)
    Spool(root, 0)


# --- run directories ----------------------------------------------------------------------------------------


def test_a_run_has_a_private_directory(spool: Spool) -> None:
    path = spool.run_dir("run-1")
    assert path == spool.run_dir("run-1")
    assert path.stat().st_mode & 0o777 == 0o700
    assert path.is_relative_to(spool.root)


@pytest.mark.parametrize("run_id", ["", ".", "..", "../x", "a/b", "/etc", "a\n", "-rf", "a\0b", "x" * 65])
def test_a_run_id_never_leaves_the_spool(spool: Spool, run_id: str) -> None:
    for use in (spool.run_dir, spool.remove):
        with pytest.raises(ValueError, match="not a run id"):
            use(run_id)


def test_a_link_is_no_run_directory(spool: Spool, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (spool.root / "runs" / "run-1").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="in the way"):
        spool.run_dir("run-1")
    assert spool.runs() == []


def test_remove_follows_no_link(spool: Spool, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious").write_text("x")
    (spool.root / "runs" / "linked").symlink_to(elsewhere)
    directory = spool.run_dir("run-1")
    (directory / "sub").mkdir()
    (directory / "sub" / "link").symlink_to(elsewhere)
    (directory / "file-link").symlink_to(elsewhere / "precious")

    spool.remove("run-1")
    spool.remove("linked")

    assert os.listdir(spool.root / "runs") == []
    assert (elsewhere / "precious").read_text() == "x"


def test_remove_is_idempotent_and_many_may_do_it(spool: Spool) -> None:
    spool.remove("never-was")
    for attempt in range(10):
        run_id = f"run-{attempt}"
        directory = spool.run_dir(run_id)
        for number in range(50):
            (directory / f"d{number}").mkdir()
            (directory / f"d{number}" / "file").write_text("x")
        with ThreadPoolExecutor(4) as pool:
            removed = [pool.submit(spool.remove, run_id) for _ in range(3)]
            swept = [pool.submit(spool.sweep, [], 3600) for _ in range(3)]
            assert [future.result() for future in removed] == [None] * 3
            assert [future.result() for future in swept] == [[]] * 3
        assert os.listdir(spool.root / "runs") == os.listdir(spool.root / "trash") == []


def test_runs_tell_age_and_bytes(spool: Spool) -> None:
    directory = spool.run_dir("run-1")
    (directory / "sub").mkdir()
    (directory / "a").write_bytes(b"x" * 1000)
    (directory / "sub" / "b").write_bytes(b"x" * 234)
    (directory / "link").symlink_to("/etc/passwd")
    age(directory, 500)
    spool.run_dir("run-2")
    first, second = spool.runs()
    assert (first.run_id, first.bytes) == ("run-1", 1234)
    assert (second.run_id, second.bytes) == ("run-2", 0)
    assert second.age_seconds < 60


def test_a_run_that_still_writes_is_young(spool: Spool) -> None:
    directory = spool.run_dir("run-1")
    (directory / "sub").mkdir()
    (directory / "sub" / "a").write_text("x")
    (directory / "sub" / "b").write_text("x")
    age(directory, 500)
    assert spool.runs()[0].age_seconds >= 499
    (directory / "sub" / "a").write_text("more")
    assert spool.runs()[0].age_seconds < 60


def test_sweep_takes_the_old_that_nobody_keeps(spool: Spool) -> None:
    for run_id in ("old", "kept", "young"):
        (spool.run_dir(run_id) / "file").write_text("x")
    for run_id in ("old", "kept"):
        age(spool.run_dir(run_id), 500)
    (spool.root / "runs" / "not a run").mkdir()
    (spool.root / "trash" / "half-removed.1234").mkdir()

    assert spool.sweep({"kept"}, 300) == ["old"]

    assert [run.run_id for run in spool.runs()] == ["kept", "young"]
    assert (spool.root / "runs" / "not a run").exists()
    assert os.listdir(spool.root / "trash") == []


# --- room ---------------------------------------------------------------------------------------------------


def test_the_reserve_is_not_promised(tmp_path: Path) -> None:
    whole = Spool(tmp_path, 0)
    free = whole.free()
    whole.need(1, "The dump of goimg")
    with pytest.raises(SpoolFull) as caught:
        whole.need(free + 10 * 1024**4, "The dump of goimg")
    assert caught.value.message.startswith("The dump of goimg needs 10.")
    assert "TiB" in caught.value.message
    assert "PGFLEET_SPOOL" in caught.value.hint

    reserved = Spool(tmp_path, free * 2)
    assert reserved.free() == 0
    reserved.need(0, "Nothing")
    with pytest.raises(SpoolFull):
        reserved.need(1, "The dump of goimg")


# --- durable files ------------------------------------------------------------------------------------------


@pytest.fixture
def small_files() -> Iterator[int]:
    """A stand-in for a full disk that needs no rights: the kernel refuses to let a file grow beyond this."""
    limit, before = 300_000, resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    yield limit
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def test_durable_write_replaces(tmp_path: Path) -> None:
    durable_write(tmp_path / "x", b"one")
    durable_write(tmp_path / "x", b"two")
    assert (tmp_path / "x").read_bytes() == b"two"
    assert os.listdir(tmp_path) == ["x"]


def test_durable_rename(tmp_path: Path) -> None:
    (tmp_path / "x.partial").write_bytes(b"new")
    (tmp_path / "x").write_bytes(b"old")
    durable_rename(tmp_path / "x.partial", tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == b"new"
    with pytest.raises(FileNotFoundError):
        durable_rename(tmp_path / "x.partial", tmp_path / "x")


def test_a_write_that_fails_leaves_the_old(tmp_path: Path) -> None:
    target = tmp_path / "x"
    target.write_bytes(b"old")

    def write_half() -> None:
        with replacing(target) as output:
            output.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_half()
    assert target.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["x"]


def test_a_full_disk_gives_the_space_back(tmp_path: Path, small_files: int) -> None:
    durable_write(tmp_path / "fits", bytes(small_files))
    with pytest.raises(SpoolFull, match=f"{tmp_path} takes no more data"):
        durable_write(tmp_path / "x", bytes(small_files + 1))
    assert os.listdir(tmp_path) == ["fits"]


def test_a_writer_that_was_overtaken_cannot_finish(tmp_path: Path) -> None:
    """Two write the same output: one whose lease is gone must not put its half in the other's place."""
    target = tmp_path / "x[1]"

    def overtake() -> None:
        with replacing(target) as lost:
            lost.write(b"half of the lo")
            with replacing(target) as winner:
                winner.write(b"winner")

    with pytest.raises(FileNotFoundError):
        overtake()
    assert target.read_bytes() == b"winner"
    assert os.listdir(tmp_path) == ["x[1]"]


def test_leftovers_of_a_killed_writer_go(tmp_path: Path) -> None:
    (tmp_path / "x.0123abcd.partial").write_bytes(b"half")
    (tmp_path / "xy.0123abcd.partial").write_bytes(b"of another")
    durable_write(tmp_path / "x", b"whole")
    assert sorted(os.listdir(tmp_path)) == ["x", "xy.0123abcd.partial"]


# --- hashing ------------------------------------------------------------------------------------------------


def test_hash_file(tmp_path: Path) -> None:
    content = os.urandom(2 * 1024**2 + 17)
    (tmp_path / "x").write_bytes(content)
    told: list[int] = []
    expected = (len(content), hashlib.sha256(content).hexdigest())
    assert hash_file(tmp_path / "x", progress=told.append) == expected
    assert told == [1024**2, 2 * 1024**2, len(content)]
    (tmp_path / "empty").touch()
    assert hash_file(tmp_path / "empty") == (0, hashlib.sha256(b"").hexdigest())


def test_hash_file_stops(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(bytes(3 * 1024**2))
    stop = threading.Event()
    told: list[int] = []

    def progress(size: int) -> None:
        told.append(size)
        stop.set()

    with pytest.raises(Cancelled):
        hash_file(tmp_path / "x", progress=progress, stop=stop)
    assert told == [1024**2]
