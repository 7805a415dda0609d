"""The database under the ledger: files, URLs, forks, migrations, and what happens when it is away."""

from __future__ import annotations

import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import psycopg
import pytest
from ledger_scenes import due, maybe, start, step, take, wait_until

from tests.services import Database
from worker.errors import ConfigError, LedgerUnavailable
from worker.ledger import Ledger, NewRun, NewStep, RunEnd

pytest_plugins = ["ledger_fixtures"]
CUT_CONNECTIONS = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name LIKE 'pgfleet%'
"""
only_postgresql = pytest.mark.parametrize("ledger_url", ["postgresql"], indirect=True)


def test_the_file_is_private_and_so_are_its_companions(tmp_path: Path) -> None:
    ledger = Ledger(f"sqlite:///{tmp_path}/new/ledger.sqlite")
    ledger.migrate()
    ledger.create_run(NewRun("backup", "shop"), [])
    files = sorted((tmp_path / "new").iterdir())
    assert [file.name for file in files] == ["ledger.sqlite", "ledger.sqlite-shm", "ledger.sqlite-wal"]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700
    ledger.close()


def test_only_migrate_makes_the_file(tmp_path: Path) -> None:
    ledger = Ledger(f"sqlite:///{tmp_path}/missing.sqlite")
    with pytest.raises(LedgerUnavailable, match=r"missing\.sqlite"):
        ledger.ping()
    with pytest.raises(LedgerUnavailable):
        ledger.runs()
    assert list(tmp_path.iterdir()) == []


def test_names_that_look_like_urls(tmp_path: Path) -> None:
    ledger = Ledger(f"sqlite:///{tmp_path}/a b#c%.sqlite")
    ledger.migrate()
    assert ledger.runs() == []
    ledger.close()
    assert (tmp_path / "a b#c%.sqlite").exists()


def test_migrating_again_changes_nothing(ledger: Ledger) -> None:
    run = start(ledger, NewStep("dump"))
    ledger.migrate()
    assert ledger.run(run.id) == run


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_many_processes_migrate_at_once(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    url = f"sqlite:///{tmp_path}/ledger.sqlite"
    if kind == "postgresql":
        url = request.getfixturevalue("database").dsn
    ledger = Ledger(url)
    children = [get_context("fork").Process(target=ledger.migrate) for _ in range(6)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0] * 6
    assert ledger.runs() == []
    ledger.close()


def test_a_newer_ledger_is_refused(
    ledger: Ledger, open_ledger: Callable[[], Ledger], ledger_url: str
) -> None:
    execute(ledger_url, "UPDATE ledger_version SET version = 99, oldest = 99")
    newer = open_ledger()
    newer.ping()
    with pytest.raises(ConfigError, match="version 99"):
        newer.migrate()
    with pytest.raises(ConfigError, match="Upgrade"):
        newer.runs()


def test_a_database_without_tables_is_refused(tmp_path: Path) -> None:
    sqlite3.connect(tmp_path / "empty.sqlite").close()
    (tmp_path / "empty.sqlite").touch()
    with pytest.raises(ConfigError, match="no tables"):
        Ledger(f"sqlite:///{tmp_path}/empty.sqlite").runs()


def test_a_file_that_is_no_ledger_is_told(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not a database at all " * 100)
    ledger = Ledger(f"sqlite:///{tmp_path}/notes.txt")
    with pytest.raises(LedgerUnavailable, match="not a database"):
        ledger.migrate()
    assert (tmp_path / "notes.txt").read_text().startswith("not a database")


def test_a_user_without_rights_is_told(database: Database) -> None:
    role = f"role_{database.name}"
    with database.connect() as conn:
        conn.execute(f"CREATE ROLE {role} LOGIN PASSWORD 's3cret'".encode())
    server = database.server
    ledger = Ledger(f"postgresql://{role}:s3cret@{server.host}:{server.port}/{database.name}")
    with pytest.raises(ConfigError, match="permission denied") as caught:
        ledger.migrate()
    assert caught.value.hint
    assert "s3cret" not in str(caught.value)
    ledger.close()


def test_awkward_text_survives(ledger: Ledger) -> None:
    text = "null \x00, half a pair \ud800, 🐘 and % : ? $1 'quoted'"
    run = start(ledger, NewStep("dump", data={"text": text}))
    claim = take(ledger, run, "dump")
    assert claim.step.data == {"text": text}
    ledger.fail(claim, {"type": "E", "message": text}, retry_in=None)
    assert (ledger.run(run.id).error or {})["message"] == text


def execute(url: str, statement: str) -> None:
    if url.startswith("sqlite"):
        conn = sqlite3.connect(url.removeprefix("sqlite:///"))
        conn.execute(statement)
        conn.commit()
        conn.close()
    else:
        with psycopg.connect(url, autocommit=True) as pg:
            pg.execute(statement.encode())


def test_a_forked_child_opens_its_own_connections(ledger: Ledger) -> None:
    run = start(ledger, NewStep("dump"), NewStep("more"))
    claim = take(ledger, run, "dump")

    def child() -> None:
        assert ledger.heartbeat(claim)
        ledger.commit(take(ledger, run, "more"), {"by": "child"})
        ledger.close()

    process = get_context("fork").Process(target=child)
    process.start()
    process.join()

    assert process.exitcode == 0
    assert ledger.heartbeat(claim)
    assert dict(step(ledger, run, "more").result) == {"by": "child"}


def test_a_ledger_in_memory_serves_threads(ledger_in_memory: Ledger) -> None:
    ledger = ledger_in_memory
    run = start(
        ledger, *(NewStep("part", str(n), group="p/") for n in range(20)), NewStep("seal", needs="p/")
    )
    with ThreadPoolExecutor(8) as pool:
        claims = list(pool.map(lambda n: take(ledger, run, "part", str(n)), range(20)))
        list(pool.map(lambda claim: (ledger.heartbeat(claim), ledger.commit(claim, {})), claims))
    assert due(ledger, run) == ["seal"]
    parts = ledger.steps(run.id, name="part")
    ledger.commit(take(ledger, run, "seal"), {}, (NewStep("check", part.key) for part in parts))
    assert len(list(ledger.steps(run.id, name="check"))) == 20


def test_a_ledger_in_memory_stays_in_its_process(ledger_in_memory: Ledger) -> None:
    def child() -> None:
        with pytest.raises(ConfigError, match="in-memory"):
            ledger_in_memory.runs()

    process = get_context("fork").Process(target=child)
    process.start()
    process.join()
    assert process.exitcode == 0
    assert ledger_in_memory.runs() == []


def test_a_failed_transaction_in_memory_leaves_nothing(ledger_in_memory: Ledger) -> None:
    with pytest.raises(ValueError, match="paths"):
        start(ledger_in_memory, NewStep("a"), NewStep("b", needs="x"))
    assert ledger_in_memory.runs() == []


@pytest.fixture
def ledger_in_memory() -> Ledger:
    ledger = Ledger("sqlite://")
    ledger.migrate()
    return ledger


def test_a_ledger_in_memory_survives_ctrl_c(ledger_in_memory: Ledger) -> None:
    """Wherever it comes: SQLAlchemy closes the connection that it interrupts."""
    run = start(ledger_in_memory, NewStep("dump"))
    interrupted = 0
    came = False

    def interrupt(*_: object) -> None:
        nonlocal came
        came = True
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for number in range(150):
            came = False
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.0001 + number * 0.00001)
                while not came:  # inside a callback of the garbage collector nobody can raise anything
                    ledger_in_memory.run(run.id)
            except KeyboardInterrupt:
                interrupted += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert interrupted > 100
    assert ledger_in_memory.run(run.id).open


def test_a_locked_database_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    ledger = Ledger(f"sqlite:///{path}")
    ledger.migrate()
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    release = threading.Timer(0.3, lambda: other.execute("ROLLBACK"))
    release.start()
    run, created = ledger.create_run(NewRun("backup", "shop"), [])
    release.join()
    other.close()
    assert created
    assert ledger.runs() == [run]
    ledger.close()


def test_reading_goes_on_while_somebody_writes(ledger: Ledger, ledger_url: str) -> None:
    run = start(ledger, NewStep("dump"))
    if ledger_url.startswith("sqlite"):
        other = sqlite3.connect(ledger_url.removeprefix("sqlite:///"), isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        other.execute("UPDATE runs SET state = 'failed'")
        assert ledger.run(run.id).state == "queued"
        other.close()
    else:
        with psycopg.connect(ledger_url) as pg:
            pg.execute("UPDATE runs SET state = 'failed'")
            assert ledger.run(run.id).state == "queued"
            pg.rollback()


def test_a_server_that_is_away_is_told_without_its_password() -> None:
    ledger = Ledger("postgresql://ann:s3cret@127.0.0.1:1/fleet?connect_timeout=2")
    for act in (ledger.ping, ledger.migrate, ledger.runs):
        with pytest.raises(LedgerUnavailable) as caught:
            act()
        assert "127.0.0.1:1/fleet" in caught.value.message
        assert caught.value.retryable
        assert caught.value.hint
        assert "s3cret" not in str(caught.value)
        assert "s3cret" not in repr(caught.value.__cause__)


@only_postgresql
def test_a_connection_that_was_cut_is_replaced(ledger: Ledger, ledger_url: str) -> None:
    run = start(ledger, NewStep("dump"))
    execute(
        ledger_url,
        CUT_CONNECTIONS,
    )
    assert ledger.run(run.id) == run


@only_postgresql
def test_a_frozen_worker_does_not_hold_its_locks_for_ever(ledger: Ledger) -> None:
    with ledger._database.read() as conn:
        found = conn.exec_driver_sql("SHOW idle_in_transaction_session_timeout").scalar_one()
    assert found == "1min"


@only_postgresql
def test_losing_the_connection_in_the_middle_is_retryable(ledger: Ledger, ledger_url: str) -> None:
    run = start(ledger, NewStep("dump"))
    claim = take(ledger, run, "dump")

    def next_steps() -> object:
        for number in range(3000):
            if number == 1500:
                execute(
                    ledger_url,
                    CUT_CONNECTIONS,
                )
            yield NewStep("part", str(number))

    with pytest.raises(LedgerUnavailable) as caught:
        ledger.commit(claim, {}, next_steps())  # type: ignore[arg-type]
    assert caught.value.retryable
    assert [found.name for found in ledger.steps(run.id)] == ["dump"]
    ledger.commit(claim, {}, end=RunEnd("verified"))
    assert ledger.run(run.id).state == "verified"


def test_two_programs_share_one_file(tmp_path: Path) -> None:
    """Not forked, but started: what one says the other sees, a stale claim included."""
    url = f"sqlite:///{tmp_path}/ledger.sqlite"
    ledger = Ledger(url)
    ledger.migrate()
    run = start(ledger, NewStep("dump"))
    program = (
        "import sys; from worker.ledger import Ledger\n"
        "ledger = Ledger(sys.argv[1])\n"
        "(hint,) = ledger.take_due()\n"
        "claim = ledger.claim(hint.run_id, hint.step_id, owner='program')\n"
        "print(claim.fence)\n"
    )
    out = subprocess.run([sys.executable, "-c", program, url], check=True, capture_output=True, text=True)
    assert out.stdout.strip() == "1"
    assert maybe(ledger, run, "dump") is None
    assert ledger.break_dead_leases(lambda owner: owner == "program") == 1
    wait_until(lambda: due(ledger, run))
    assert take(ledger, run, "dump").fence == 2
    ledger.close()
