"""The exporter over real destinations and a real ledger: what it tells, and that it tells when something is away."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import NamedTuple

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from tests.integration import monitoring_scene as scene
from tests.services import wait_until
from worker import reconcile
from worker.config.load import load
from worker.ledger.model import WorkerInfo
from worker.local.valkey import Valkey
from worker.metrics import reference
from worker.metrics.collector import Fleet, samples
from worker.metrics.names import METRICS
from worker.metrics.readings import Readings
from worker.steps.context import Adapters
from worker.storage import ObjectInfo
from worker.storage.directory import DirectoryStore

NEAR, FAR = ("goimg", "near"), ("goimg", "far")
Told = dict[tuple[str, tuple[str, ...]], float]


@pytest.fixture
def here(tmp_path: Path) -> Adapters:
    return scene.adapters(tmp_path)


def told(here: Adapters) -> Told:
    readings = Readings(here.settings, max_age=60)
    readings.read(30)
    found = list(samples(readings))
    assert len({sample[:2] for sample in found}) == len(found), "each series once"
    return {(name, labels): value for name, labels, value in found}


def of(found: Told, name: str, *labels: str) -> float | None:
    return found.get((name, labels))


def moment_of(here: Adapters, backup: str) -> float:
    entry = here.catalog("near").entry(backup)
    assert entry is not None
    return entry.at.timestamp()


def test_what_is_stored(here: Adapters) -> None:
    scene.back_up(here, 30)
    newest = scene.back_up(here, 5)
    entry = here.catalog("near").entry(newest)
    assert entry is not None
    found = told(here)
    for copy in (NEAR, FAR):
        assert of(found, "postgres_backup_last_success_timestamp", *copy) == entry.at.timestamp()
        assert of(found, "postgres_backup_size_bytes", *copy) == entry.size > 0
        assert of(found, "postgres_backup_count", *copy) == 2
        assert of(found, "pgfleet_copies", *copy, "verified") == 2
        assert of(found, "pgfleet_copies_bytes", *copy) == 2 * entry.size
        assert of(found, "pgfleet_copies_missing", *copy) == 0
        assert of(found, "pgfleet_copies_damaged", *copy) == 0
        assert of(found, "pgfleet_last_proven_timestamp_seconds", *copy) == 0
        assert of(found, "pgfleet_reread_ratio", *copy) == 1
        assert of(found, "pgfleet_retention_copies", *copy, "keep") == 2
        assert of(found, "pgfleet_up", "destination", copy[1]) == 1


def test_nothing_is_told_as_nothing(here: Adapters) -> None:
    found = told(here)
    assert of(found, "postgres_backup_last_success_timestamp", *NEAR) == 0
    assert of(found, "postgres_backup_count", *NEAR) == 0
    assert of(found, "postgres_backup_size_bytes", *NEAR) is None
    assert of(found, "pgfleet_rto_seconds", *NEAR) is None


def test_success_is_a_backup_that_was_verified(here: Adapters) -> None:
    good = scene.back_up(here, 30)
    scene.back_up(here, 20, verified=False)
    scene.damage(here, scene.back_up(here, 10, "near"), "near")
    scene.stranger(here, "near", scene.hours_ago(5))
    entry = here.catalog("near").entry(good)
    assert entry is not None
    found = told(here)
    assert of(found, "postgres_backup_last_success_timestamp", *NEAR) == entry.at.timestamp()
    assert of(found, "postgres_backup_count", *NEAR) == 3
    assert of(found, "pgfleet_copies_damaged", *NEAR) == 1
    assert of(found, "pgfleet_copies", *NEAR, "unmanaged") == 1


def test_a_copy_that_others_have(here: Adapters) -> None:
    scene.back_up(here, 50, "near")  # before `far` had its first one: nobody owes it
    scene.back_up(here, 40)
    scene.back_up(here, 30, "near")
    scene.damage(here, scene.back_up(here, 20, "near"), "near")
    found = told(here)
    assert of(found, "pgfleet_copies_missing", *FAR) == 1
    assert of(found, "pgfleet_copies_missing", *NEAR) == 0


def test_a_copy_on_its_way_is_not_missing(here: Adapters) -> None:
    scene.back_up(here, 30)
    backup = scene.back_up(here, 1, "near")
    run = scene.named(here, backup)
    assert of(told(here), "pgfleet_copies_missing", *FAR) == 0
    here.ledger.cancel(run.id, "a test")
    assert of(told(here), "pgfleet_copies_missing", *FAR) == 1


def test_what_drills_say(here: Adapters) -> None:
    older, newer = scene.back_up(here, 30), scene.back_up(here, 5)
    scene.drill(here, older, "near", seconds=900)
    scene.drill(here, newer, "near", "refuted")
    found = told(here)
    proven = of(found, "pgfleet_last_proven_timestamp_seconds", *NEAR)
    assert proven
    assert of(found, "pgfleet_last_proven_timestamp_seconds", *FAR) == 0
    assert of(found, "pgfleet_copies_refuted", *NEAR) == 1
    assert of(found, "postgres_backup_count", *NEAR) == 1, "what differs cannot be counted on"
    assert of(found, "postgres_backup_last_success_timestamp", *NEAR) == moment_of(here, older)
    assert of(found, "pgfleet_rto_seconds", *NEAR) == 900
    assert of(found, "pgfleet_rto_seconds", *FAR) is None
    assert of(found, "pgfleet_rto_target_seconds", "goimg") == 1800


def test_a_destination_that_is_down_hides_no_other(here: Adapters) -> None:
    scene.back_up(here, 5)
    scene.lose(here, "far")
    found = told(here)
    assert of(found, "pgfleet_up", "destination", "far") == 0
    assert of(found, "pgfleet_up", "destination", "near") == 1
    assert of(found, "postgres_backup_count", *NEAR) == 1
    assert of(found, "postgres_backup_count", *FAR) is None, "what is not known is not told"
    assert (of(found, "pgfleet_copies_readable", *NEAR), of(found, "pgfleet_copies_readable", *FAR)) == (1, 0)


def test_a_ledger_that_is_down_hides_no_backup(tmp_path: Path) -> None:
    here = scene.adapters(tmp_path)
    scene.back_up(here, 5)
    (tmp_path / "ledger.db").write_text("this is no database, and it is long enough to be read as one" * 20)
    found = told(scene.adapters(tmp_path))
    assert of(found, "pgfleet_up", "ledger", "") == 0
    assert of(found, "postgres_backup_count", *NEAR) == 1
    assert not any(name.startswith("pgfleet_runs") for name, _ in found)


def test_what_the_ledger_knows(here: Adapters) -> None:
    scene.end(here, "verified")
    scene.end(here, "failed")
    scene.end(here, "succeeded", "restore", swap_seconds=0.25)
    here.ledger.beat(WorkerInfo("w1", "h", ("dump", "control"), "abcd1234", "0", 0.0))
    reconcile.reconcile(here)
    found = told(here)
    assert of(found, "pgfleet_runs", "backup", "failed") == 1
    assert of(found, "pgfleet_run_last_failed", "backup", "goimg") == 1
    assert of(found, "pgfleet_runs_failed", "backup", "goimg", "SpoolFull") == 1
    assert of(found, "pgfleet_workers", "dump") == 1
    assert of(found, "pgfleet_workers", "restore") == 0
    assert of(found, "pgfleet_restores_replaced", "goimg") == 1
    assert of(found, "pgfleet_restore_swap_seconds", "goimg") == 0.25
    assert of(found, "pgfleet_reconcile_last_timestamp_seconds")
    assert of(found, "pgfleet_notices_pending") == 0, "reconcile has told, or had nobody to tell"
    assert of(found, "pgfleet_backup_step_seconds", "goimg", "", "dump") is not None


def test_retries_and_waiting_steps(here: Adapters) -> None:
    run = scene.begin(here)
    (dump,) = here.ledger.steps(run.id, name="backup.dump")
    here.ledger.break_dead_leases(lambda owner: True)
    for _ in range(2):
        here.ledger.take_due(resend_after=0)
    found = told(here)
    assert of(found, "pgfleet_queue_steps", "dump") == 1
    assert of(found, "pgfleet_steps_resent") == 1
    assert here.ledger.claim(run.id, dump.id, owner="another") is not None
    found = told(here)
    assert of(found, "pgfleet_steps_retried", "backup", "backup.dump") == 1
    assert of(found, "pgfleet_steps_taken_over", "backup", "backup.dump") == 1
    assert of(found, "pgfleet_steps_taken_over", "backup", "backup.conclude") == 0
    assert of(found, "pgfleet_queue_steps", "dump") == 0


def test_spool_and_broker(tmp_path: Path, valkey: Valkey) -> None:
    found = told(scene.adapters(tmp_path, PGFLEET_BROKER_URL=valkey.url))
    assert (of(found, "pgfleet_broker_memory_bytes") or 0) > 0
    assert 0 < (of(found, "pgfleet_spool_free_bytes") or 0) < (of(found, "pgfleet_spool_size_bytes") or 0)
    assert of(told(scene.adapters(tmp_path)), "pgfleet_up", "broker", "") == 0


def test_the_age_that_a_backup_may_reach(tmp_path: Path) -> None:
    for line, hours in (("0 2 * * *", 30), ("off", 30), ("0 */6 * * *", 12), ("0 2 * * 1-5", 78)):
        here = scene.adapters(tmp_path)
        database = here.settings.databases["goimg"].model_copy(update={"schedule": line.replace("off", "")})
        settings = here.settings.model_copy(update={"databases": {"goimg": database}})
        found = told(Adapters(settings))
        assert of(found, "pgfleet_backup_max_age_seconds", "goimg") == hours * 3600


def test_destinations_are_listed_only_when_it_is_time(here: Adapters) -> None:
    scene.back_up(here, 20)
    readings = Readings(here.settings, max_age=60)
    readings.read(30)
    scene.back_up(here, 5)
    readings.read(30)
    found = {(name, labels): value for name, labels, value in samples(readings)}
    assert found["postgres_backup_count", NEAR] == 1


def test_two_scrapes_list_a_destination_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many databases there are; the listing is what a bucket's owner pays for."""
    here = scene.adapters(tmp_path)
    scene.back_up(here, 20)
    databases = {
        alias: here.settings.databases["goimg"].model_copy(update={"alias": alias})
        for alias in ("goimg", "other", "third")
    }
    settings = here.settings.model_copy(update={"databases": databases})
    listed: list[str] = []
    plain = DirectoryStore.list

    def counted(store: DirectoryStore, prefix: str = "") -> Iterator[ObjectInfo]:
        listed.append(store.root.name)
        return plain(store, prefix)

    monkeypatch.setattr(DirectoryStore, "list", counted)
    fleet = Fleet(Readings(settings, max_age=60), patience=30)
    for _ in range(2):
        assert "postgres_backup_count" in {family.name for family in fleet.collect()}
    assert sorted(listed) == ["far", "near"]
    again = Fleet(Readings(settings, max_age=0), patience=30)
    for _ in range(2):
        list(again.collect())
    assert len(listed) == 6, "the control: without an age each scrape lists"


def test_series_do_not_grow_with_what_is_kept(here: Adapters) -> None:
    def series() -> set[tuple[str, tuple[str, ...]]]:
        return set(told(here))

    for hours in (60, 50):
        scene.drill(here, scene.back_up(here, hours), "near")
        scene.end(here, "verified")
        scene.end(here, "failed")
    before = series()
    for hours in range(40, 20, -4):
        scene.drill(here, scene.back_up(here, hours), "near")
        scene.end(here, "verified")
        scene.end(here, "failed")
    assert series() == before
    assert len(before) < 200
    ids = {label for _, labels in before for label in labels if "-backup-" in label}
    assert not ids, "a label with a backup's id would make a series of each"


def test_by_the_conventions_of_prometheus(tmp_path: Path, valkey: Valkey) -> None:
    """promtool knows them. The seed's name of a count is what it is."""
    here = scene.adapters(tmp_path, PGFLEET_BROKER_URL=valkey.url)
    scene.drill(here, scene.back_up(here, 5), "near")
    scene.end(here, "failed")
    here.ledger.beat(WorkerInfo("w1", "h", ("dump",), "abcd1234", "0", 0.0))
    registry = CollectorRegistry()
    registry.register(Fleet(Readings(here.settings, max_age=60), patience=30))
    text = generate_latest(registry)
    assert text.count(b"# TYPE ") > 40
    checked = check_metrics(text)
    assert checked == [
        'postgres_backup_count non-histogram and non-summary metrics should not have "_count" suffix'
    ]
    assert check_metrics(b"# TYPE a_ms gauge\na_ms 1\n"), "the control: it does complain"


def check_metrics(text: bytes) -> list[str]:
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, timeout=60, check=False
    )
    return (done.stdout + done.stderr).decode().splitlines()


def test_a_scrape_does_not_wait_for_what_hangs(here: Adapters) -> None:
    scene.back_up(here, 5)
    readings, let_go = Readings(here.settings, max_age=60), threading.Event()
    readings.ledger._read = lambda: let_go.wait(30)  # type: ignore[assignment, return-value]
    families = {family.name: family for family in Fleet(readings, patience=0.3).collect()}
    up = {tuple(sample.labels.values()): sample.value for sample in families["pgfleet_up"].samples}
    assert up["ledger", ""] == 0
    let_go.set()
    assert wait_until(lambda: readings.ledger.at is not None)


def test_the_reference_is_current() -> None:
    page = Path(__file__).parents[2] / "docs" / "reference" / "metrics.md"
    assert page.read_text() == reference.render(), (
        "python -m worker.metrics.reference > docs/reference/metrics.md"
    )


def test_names_have_units_and_no_twins() -> None:
    names = [metric.name for metric in METRICS]
    assert len(set(names)) == len(names)
    assert all(metric.help.endswith(".") for metric in METRICS)
    seconds = [name for name in names if "timestamp" in name and not name.startswith("postgres_")]
    assert all(name.endswith("_timestamp_seconds") for name in seconds)


def pgfleet(directory: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "worker", *arguments]


def test_over_http(tmp_path: Path) -> None:
    here = scene.adapters(tmp_path)
    scene.back_up(here, 5)
    server = subprocess.Popen(
        pgfleet(tmp_path, "exporter", "--port", "0"),
        env=scene.environment(tmp_path),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        said = server.stdout.readline()
        url = said.split()[3]
        with urllib.request.urlopen(url, timeout=20) as answer:
            families = {family.name for family in text_string_to_metric_families(answer.read().decode())}
    finally:
        server.terminate()
        server.communicate(timeout=10)
    assert {"postgres_backup_last_success_timestamp", "postgres_backup_size_bytes"} <= families
    assert {"postgres_backup_count", "pgfleet_up"} <= families


def test_into_a_file_once(tmp_path: Path) -> None:
    scene.back_up(scene.adapters(tmp_path), 5)
    file = tmp_path / "pgfleet.prom"
    argv = pgfleet(tmp_path, "exporter", "--once", "--textfile", str(file))
    subprocess.run(argv, env=scene.environment(tmp_path), check=True, timeout=60)
    assert 'postgres_backup_count{database="goimg",destination="near"} 1.0' in file.read_text()
    assert file.stat().st_mode & 0o044 == 0o044, "node_exporter is somebody else"
    assert [path.name for path in tmp_path.glob("pgfleet.prom*")] == ["pgfleet.prom"]


class Pushed(NamedTuple):
    path: str
    body: str
    login: str | None


@contextmanager
def gateway() -> Iterator[tuple[str, list[Pushed]]]:
    got: list[Pushed] = []

    class Gateway(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            got.append(Pushed(self.path, body, self.headers["Authorization"]))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Gateway)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", got
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def run_pgfleet(directory: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        pgfleet(directory, *arguments),
        env=scene.environment(directory, **settings),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_pushed(tmp_path: Path) -> None:
    scene.back_up(scene.adapters(tmp_path), 5)
    with gateway() as (url, got):
        assert run_pgfleet(tmp_path, "exporter", "--push", url).returncode == 0
        with_login = url.replace("://", "://me:s%20cret@")
        assert run_pgfleet(tmp_path, "exporter", "--push", with_login).returncode == 0
    plain, authorized = got
    assert plain.path.startswith("/metrics/job/pgfleet/instance/")
    assert "postgres_backup_count" in plain.body
    assert plain.login is None
    assert authorized.login == f"Basic {base64.b64encode(b'me:s cret').decode()}"
    done = run_pgfleet(tmp_path, "exporter", "--push", with_login)
    assert done.returncode == 1
    assert "does not take the metrics" in done.stderr
    assert "s%20cret" not in done.stderr
    assert "Traceback" not in done.stderr


def test_a_run_here_pushes_at_its_end(tmp_path: Path) -> None:
    scene.back_up(scene.adapters(tmp_path), 5)
    with gateway() as (url, got):
        done = run_pgfleet(tmp_path, "cleanup", "--here", PGFLEET_PUSHGATEWAY_URL=url)
        assert done.returncode == 0, done.stderr
        (pushed,) = got
        assert 'pgfleet_runs{kind="cleanup",state="succeeded"} 1.0' in pushed.body
        assert 'postgres_backup_count{database="goimg",destination="near"} 1.0' in pushed.body
        run_pgfleet(tmp_path, "list", PGFLEET_PUSHGATEWAY_URL=url)
        run_pgfleet(tmp_path, "cleanup", "--here")
        assert len(got) == 1, "nothing else pushes, and nothing does without the setting"


def test_a_push_that_fails_fails_nothing_else(tmp_path: Path) -> None:
    scene.back_up(scene.adapters(tmp_path), 5)
    gone = "http://me:secret-word@127.0.0.1:1"
    done = run_pgfleet(tmp_path, "cleanup", "--here", "--json", PGFLEET_PUSHGATEWAY_URL=gone)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["state"] == "succeeded"
    assert "Warning: The Pushgateway at http://me:***@127.0.0.1:1 does not take the metrics" in done.stderr
    assert "secret-word" not in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with gateway() as (url, _):
        argv = pgfleet(tmp_path, "exporter", "--port", url.rpartition(":")[2])
        done = subprocess.run(
            argv, env=scene.environment(tmp_path), capture_output=True, text=True, timeout=60, check=False
        )
    assert done.returncode == 3
    assert "cannot listen" in done.stderr


def test_settings_are_whole() -> None:
    assert load({"PGFLEET_METRICS_SECONDS": "1m", "BACKUP_DIR": "/b"}).metrics_seconds == 60
