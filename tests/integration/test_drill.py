"""The drill proves what is right, refutes what is not, and never takes the one for the other."""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner

from tests.conftest import PostgresOf
from tests.drill_scene import (
    ROLE,
    DrillScene,
    catalog,
    clone,
    drill,
    dump,
    evidence,
    forge,
    litter,
    make_database,
)
from tests.restore_scene import Scene
from tests.services import KeyPair
from worker import here, reconcile
from worker.cli import cli
from worker.core.compare import Comparison
from worker.ledger.model import NewRun
from worker.local.postgres import Postgres
from worker.postgres import inspect
from worker.steps import drill_fingerprint
from worker.submit import insert

ON_A_SERVER = {"PGFLEET_DRILL_SERVER": "there"}
ROLES = "SELECT rolname FROM pg_roles"

#: name → (SQL on what is backed up, kind and name of a difference that it makes)
DAMAGE = {
    "one byte": (
        "UPDATE images SET content = set_byte(content, 3, get_byte(content, 3) # 1) WHERE id = 5",
        ("content", "public.images"),
    ),
    "a row deleted": ("DELETE FROM invoices WHERE number = 1000", ("rows", "public.invoices")),
    "a row doubled": ("INSERT INTO left_hand SELECT * FROM left_hand LIMIT 1", ("rows", "public.left_hand")),
    "rows swapped between tables": (
        "UPDATE left_hand SET b = 'right 1' WHERE a = 1; UPDATE right_hand SET b = 'left 1' WHERE a = 1",
        ("content", "public.right_hand"),
    ),
    "an index dropped": ("DROP INDEX images_taken_at_idx", ("index", "public.images_taken_at_idx")),
    "a trigger dropped": ("DROP TRIGGER images_counted ON images", ("trigger", "images_counted on public.images")),
    "a trigger disabled": (
        "ALTER TABLE images DISABLE TRIGGER images_counted",
        ("trigger", "images_counted on public.images"),
    ),
    "a policy dropped": ("DROP POLICY everybody ON invoices", ("policy", "everybody on public.invoices")),
    "a sequence set back": ("SELECT setval('invoice_numbers', 1001)", ("sequence value", "public.invoice_numbers")),
    "a large object altered": (
        "SELECT lo_put(oid, 2, '\\x00') FROM pg_largeobject_metadata ORDER BY oid LIMIT 1",
        ("large object", ""),
    ),
    "a grant removed": ("REVOKE SELECT ON images FROM drill_reader", ("grant", "")),
    "a function changed": (
        "CREATE OR REPLACE FUNCTION count_images() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END'",
        ("function", ""),
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def root(place: Path) -> Callable[[], Path]:
    """Directories that the servers' user can pass through."""

    def make() -> Path:
        path = place / f"drill-{secrets.token_hex(4)}"
        path.mkdir(mode=0o711)
        return path

    return make


@pytest.fixture(scope="module")
def scene(pg: Postgres, root: Callable[[], Path]) -> Iterator[Scene]:
    """A database and one backup of it, unencrypted."""
    name = f"drilled_{secrets.token_hex(3)}"
    pg.createdb(name)
    with pg.connect(name) as connection:
        make_database(connection)
    yield DrillScene(root(), pg, pg, name)
    pg.dropdb(name)


@pytest.fixture(scope="module")
def backup(scene: Scene) -> str:
    return scene.backup()


def of(scene: Scene, root: Callable[[], Path], **changes: object) -> Scene:
    """The same database in a place of its own."""
    values = {"keys": scene.keys, "more": scene.more, **changes}
    return DrillScene(root(), scene.source, scene.target, scene.database, **values)


def test_proven(scene: Scene, backup: str) -> None:
    run = drill(scene)
    assert run.state == "proven", run.error
    result = run.result
    assert (result["verdict"], result["backup_id"], result["destination"]) == ("proven", backup, "near")
    assert result["differences"] == []
    assert result["compared"]["checksums"] >= 8
    assert result["control"]["ok"]
    assert 0 < result["rto_seconds"] < result["rto_target_seconds"] == 1800
    assert [phase["name"] for phase in result["phases"] if phase["recovery"]][-1] == "load"
    report = Path(result["report"])
    assert "the database that it was taken from" in report.read_text()
    assert report.with_suffix(".md").read_text().startswith("# Restore drill of")
    (record,) = evidence(scene, backup)
    assert (record["verdict"], record["ok"], record["run_id"]) == ("proven", True, run.id)
    assert {gate["id"]: gate["state"] for gate in record["gates"]} == {
        "S9-PROD-003": "fail",
        "S9-PROD-004": "pass",
    }
    assert record["checks"]["foreign_keys"] == 4
    (entry,) = [one for one in catalog(scene).entries() if one.backup_id == backup]
    assert entry.proven_at is not None
    assert not any(one.proven_at for one in catalog(scene, "far").entries())  # proven is each copy by itself
    assert litter(scene) == set()


def test_encrypted_and_signed(scene: Scene, root: Callable[[], Path], gpg_keys: KeyPair) -> None:
    own = of(scene, root, keys=gpg_keys, changes={"PGFLEET_SIGNING_KEY": gpg_keys.fingerprint})
    backup = own.backup()
    run = drill(own)
    assert run.state == "proven", run.error
    (record,) = evidence(own, backup)
    assert record["gates"][0]["state"] == "pass"
    assert _verify(own, backup)["ok"]
    (path,) = (own.root / "near").glob(f"{backup}.drill-*.json")
    (own.root / "far" / path.name).write_bytes(path.read_bytes())
    assert "is about the copy in near" in str(_verify(own, backup, "--destination", "far", code=7)["problem"])
    assert not any(one.proven_at for one in catalog(own, "far").entries())
    changed = json.loads(path.read_text())
    changed["rto"]["seconds"] = 1
    path.write_text(json.dumps(changed))
    assert "changed" in str(_verify(own, backup, "--destination", "near", code=7)["problem"])


def test_a_key_that_does_not_sign_takes_no_verdict_away(
    scene: Scene, root: Callable[[], Path], backup: str
) -> None:
    own = _copy(scene, root, backup)
    run = drill(own, own.adapters(PGFLEET_SIGNING_KEY="0123456789ABCDEF", **ON_A_SERVER))
    assert run.state == "proven", run.error
    assert "cannot sign" in run.result["unsigned"]
    (record,) = evidence(own, backup)
    assert (record["signed_by"], "signature" in record) == ("", False)


def _verify(scene: Scene, backup: str, *options: str, code: int = 0) -> dict[str, object]:
    settings = scene.adapters()  # writes the settings file
    env = {
        "PGFLEET_CONFIG": str(scene.root / "pgfleet.toml"),
        "PGFLEET_STATE_DIR": str(scene.root / "state"),
        "GNUPGHOME": str(settings.settings.gpg_home),
    }
    answer = CliRunner(env=env).invoke(
        cli, ["evidence", "verify", backup, *options, "--json"], standalone_mode=False
    )
    assert answer.return_value == code, answer.output
    (checked,) = json.loads(answer.output)
    return dict(checked)


@pytest.mark.parametrize("name", DAMAGE)
def test_refuted(scene: Scene, root: Callable[[], Path], tmp_path: Path, name: str, backup: str) -> None:
    statement, (kind, what) = DAMAGE[name]
    own = _copy(scene, root, backup)
    with clone(scene, f"damaged_{secrets.token_hex(3)}") as connection:
        connection.execute(statement.encode())
        forge(own, backup, dump(scene, connection.info.dbname, tmp_path / "damaged"))
    run = drill(own, own.adapters(**ON_A_SERVER))
    assert run.state == "refuted", run.error
    assert run.error is not None
    assert run.error["exit_code"] == 7
    named = {(one["kind"], one["what"]) for one in run.result["differences"]}
    assert any(found == kind and what in where for found, where in named), named
    assert evidence(own, backup)[-1]["ok"] is False
    assert litter(own) == set()


def _copy(scene: Scene, root: Callable[[], Path], backup: str) -> Scene:
    """A scene with its own copy of the backup."""
    own = of(scene, root)
    (own.root / "near").mkdir(mode=0o700)
    for path in (scene.root / "near").glob(f"{backup}.*"):
        if ".drill-" not in path.name:
            (own.root / "near" / path.name).write_bytes(path.read_bytes())
    return own


def test_a_backup_without_one_table(
    scene: Scene, root: Callable[[], Path], tmp_path: Path, backup: str
) -> None:
    own = _copy(scene, root, backup)
    forge(own, backup, dump(scene, scene.database, tmp_path / "less", "--exclude-table=public.left_hand"))
    run = drill(own, own.adapters(**ON_A_SERVER))
    assert run.state == "refuted"
    missing = [one for one in run.result["differences"] if one["what"] == "public.left_hand"]
    assert ("table", "absent") in {(one["kind"], one["found"]) for one in missing}
    assert "public.left_hand" in Path(run.result["report"]).read_text()


def test_harmless_changes_are_not_flagged(
    scene: Scene, root: Callable[[], Path], tmp_path: Path, backup: str
) -> None:
    own = _copy(scene, root, backup)
    with clone(scene, f"moved_{secrets.token_hex(3)}") as connection:
        connection.execute("UPDATE right_hand SET b = b; ALTER TABLE images DISABLE TRIGGER ALL")
        connection.execute("UPDATE images SET price = price; ALTER TABLE images ENABLE TRIGGER ALL")
        connection.execute("VACUUM FULL")
        connection.execute("REINDEX DATABASE")
        forge(own, backup, dump(scene, connection.info.dbname, tmp_path / "moved"))
    run = drill(own, own.adapters(**ON_A_SERVER))
    assert run.state == "proven", run.error


def test_into_a_newer_major(
    scene: Scene, postgres_of: PostgresOf, root: Callable[[], Path], pg: Postgres
) -> None:
    """There is no server of the source's major, so the next one takes it; what differs is told with its reason."""
    old, name = postgres_of(16), f"drilled_{secrets.token_hex(3)}"
    old.createdb(name)
    with old.connect(name) as connection:
        make_database(connection, 50)
    own = DrillScene(root(), old, pg, name, changes={"PGFLEET_PG_BIN": str(pg.bin_dir)})
    backup = own.backup()
    run = drill(own)
    old.dropdb(name)
    assert run.state == "proven", (run.error, run.result)
    (record,) = evidence(own, backup)
    assert record["server"]["source"].startswith("16")
    assert record["server"]["drill"].startswith("17")
    assert all(change["reason"] for change in record["expected_changes"])


def test_written_to_during_the_backup(scene: Scene, root: Callable[[], Path]) -> None:
    own, ended = of(scene, root), threading.Event()

    def write(number: int) -> None:
        with own.source.connect(own.database) as connection:
            while not ended.is_set():
                connection.execute("INSERT INTO images (album_id, content) VALUES (%s, 'new')", [1 + number])
                connection.execute("UPDATE users SET name = name || '.' WHERE id = %s", [1 + number])
                connection.execute("DELETE FROM images WHERE id IN (SELECT max(id) FROM images)")

    writers = [threading.Thread(target=write, args=(number,)) for number in range(2)]
    for writer in writers:
        writer.start()
    try:
        own.backup()
    finally:
        ended.set()
        for writer in writers:
            writer.join()
    run = drill(own, own.adapters(**ON_A_SERVER))
    assert run.state == "proven", (run.error, run.result["differences"])


LOGIN = """
CREATE TABLE logins (who text);
CREATE FUNCTION on_login() RETURNS event_trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.logins VALUES (session_user);
    IF current_database() ~ '_drill_|_back' THEN RAISE 'nobody may in'; END IF;
END $$;
CREATE EVENT TRIGGER logged ON login EXECUTE FUNCTION on_login();
ALTER EVENT TRIGGER logged ENABLE ALWAYS;
CREATE TABLE filled AS SELECT generate_series(1, 9) AS a;
"""


@pytest.mark.parametrize("into", ["drill", "restore"])
def test_what_a_database_does_at_login(into: str, pg: Postgres, root: Callable[[], Path]) -> None:
    """The example of PostgreSQL's manual writes a row at each login: ours must not be among what is compared."""
    name = f"logged_{secrets.token_hex(3)}"
    pg.createdb(name)
    with pg.connect(name) as connection:
        connection.execute(LOGIN)
    own = DrillScene(root(), pg, pg, name)
    backup, asked = own.backup(), own.adapters(**ON_A_SERVER)
    request = {"backup": backup, "as_name": f"{name}_back", "jobs": 2}
    run = drill(own, asked) if into == "drill" else own.work(asked, "restore", request)
    pg.dropdb(name)
    if into == "restore":
        pg.dropdb(f"{name}_back")
    assert run.error is None


def test_what_was_left_out_is_not_missed(scene: Scene, root: Callable[[], Path]) -> None:
    with scene.source.connect(scene.database) as connection:
        connection.execute("CREATE SCHEMA scratch CREATE TABLE notes (a int)")
    own = of(scene, root, more='exclude_tables = ["public.left_hand"]\nexclude_schemas = ["scratch"]')
    backup = own.backup()
    run = drill(own, own.adapters(**ON_A_SERVER))
    with scene.source.connect(scene.database) as connection:
        connection.execute("DROP SCHEMA scratch CASCADE")
    assert run.state == "proven", (run.error, run.result["differences"])
    (record,) = evidence(own, backup)
    assert not any(table["table"] == "public.left_hand" for table in record["tables"])
    assert any("left_hand" in note for note in record["notes"])


def test_several_archives(scene: Scene, root: Callable[[], Path]) -> None:
    own = of(scene, root, more="split_bytes = 1")
    backup = own.backup()
    assert list((own.root / "near").glob(f"{backup}.data-*"))
    assert drill(own, own.adapters(**ON_A_SERVER)).state == "proven"


def test_counts_only(scene: Scene, root: Callable[[], Path]) -> None:
    own = of(scene, root, fingerprint="counts")
    own.backup()
    run = drill(own, own.adapters(**ON_A_SERVER))
    assert run.state == "proven", run.error
    assert run.result["compared"]["checksums"] == 0
    assert "deleted" in run.result["control"]["change"]


def test_slower_than_allowed(scene: Scene, root: Callable[[], Path], backup: str) -> None:
    own = _copy(scene, root, backup)
    own.more = "rto_seconds = 1"
    run = drill(own)
    assert run.state == "proven"
    assert run.error is not None
    assert (run.error["type"], run.error["exit_code"]) == ("RtoExceeded", 8)
    assert run.result["rto_exceeded"] is True


def test_questions(scene: Scene, root: Callable[[], Path], tmp_path: Path, backup: str) -> None:
    own = _copy(scene, root, backup)
    own.more = f'drill_questions = "{tmp_path}"'
    (tmp_path / "age.sql").write_text(
        "-- expect: < 1\nSELECT extract(day FROM now() - current_setting('pgfleet.snapshot_at')::timestamptz)"
    )
    (tmp_path / "images.sql").write_text("-- expect: = 300\nSELECT count(*) FROM public.images\n")
    assert drill(own, own.adapters(**ON_A_SERVER)).state == "proven"
    (tmp_path / "users.sql").write_text("-- expect: > 1000\nSELECT count(*) FROM public.users\n")
    (tmp_path / "write.sql").write_text("-- expect: = 1\nDELETE FROM public.users\n")
    run = drill(own, own.adapters(**ON_A_SERVER))
    assert run.state == "refuted"
    told = {one["what"]: one["found"] for one in run.result["differences"]}
    assert told["users.sql"] == "30"
    assert "read-only" in told["write.sql"]
    (tmp_path / "bad.sql").write_text("SELECT 1")
    run = drill(own, own.adapters(**ON_A_SERVER))
    assert (run.state, run.error and run.error["exit_code"]) == ("could_not_run", 3)
    assert litter(own) == set()


def test_no_fingerprint(scene: Scene, root: Callable[[], Path]) -> None:
    own = of(scene, root, fingerprint="off")
    backup = own.backup()
    run = drill(own)
    assert (run.state, run.error and run.error["exit_code"]) == ("could_not_run", 7)
    assert "fingerprint" in str(run.error)
    (record,) = evidence(own, backup)
    assert (record["verdict"], record["ok"]) == ("could_not_run", False)
    assert "came to no verdict" in Path(run.result["report"]).read_text()


def test_a_fingerprint_that_could_not_be_taken(
    scene: Scene, root: Callable[[], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The backup is good without it, and says why; the drill does too."""
    own = of(scene, root)
    monkeypatch.setattr(inspect, "header", lambda connection, *_: connection.execute("SELECT 1 / 0"))
    backup = own.backup()
    assert "fingerprint" in {gap.what for gap in catalog(own).manifest(backup).missing}
    run = drill(own)
    assert (run.state, run.error and run.error["exit_code"]) == ("could_not_run", 7)
    assert run.error is not None
    assert "division by zero" in run.error["message"]


def test_a_damaged_copy(scene: Scene, root: Callable[[], Path], backup: str) -> None:
    own = _copy(scene, root, backup)
    path = own.root / "near" / f"{backup}.dump"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    run = drill(own)
    assert (run.state, run.error and run.error["exit_code"]) == ("could_not_run", 4)
    assert litter(own) == set()


def test_no_private_key(
    scene: Scene, root: Callable[[], Path], gpg_keys: KeyPair, other_gpg_keys: KeyPair
) -> None:
    own = of(scene, root, keys=gpg_keys)
    own.backup()
    run = drill(own, own.adapters(GNUPGHOME=str(other_gpg_keys.home)))
    assert (run.state, run.error and run.error["exit_code"]) == ("could_not_run", 5)


def test_no_backup(scene: Scene, root: Callable[[], Path]) -> None:
    run = drill(of(scene, root))
    assert (run.state, run.error and run.error["exit_code"]) == ("could_not_run", 1)
    assert litter(scene) == set()


def test_a_restore_that_fails(scene: Scene, root: Callable[[], Path], tmp_path: Path, backup: str) -> None:
    own = _copy(scene, root, backup)
    with clone(scene, f"broken_{secrets.token_hex(3)}") as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute("DELETE FROM users WHERE id = 7")  # its albums have no owner now
        forge(own, backup, dump(scene, connection.info.dbname, tmp_path / "broken"))
    run = drill(own, own.adapters(**ON_A_SERVER))
    assert (run.state, run.error and run.error["exit_code"]) == ("could_not_run", 6)
    assert litter(own) == set()


def test_the_control_notices_a_comparison_that_cannot_fail(
    scene: Scene, root: Callable[[], Path], backup: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = _copy(scene, root, backup)
    monkeypatch.setattr(drill_fingerprint, "compare", lambda *_: Comparison())
    run = drill(own, own.adapters(**ON_A_SERVER))
    assert run.state == "could_not_run"
    assert run.error is not None
    assert "control failed" in run.error["message"]


def test_an_empty_database(scene: Scene, pg: Postgres, root: Callable[[], Path]) -> None:
    name = f"empty_{secrets.token_hex(3)}"
    pg.createdb(name)
    own = DrillScene(root(), pg, pg, name)
    own.backup()
    run = drill(own, own.adapters(**ON_A_SERVER))
    pg.dropdb(name)
    assert run.state == "proven", run.error
    assert run.result["control"]["table"] == "pgfleet_control"


def test_the_schedule(scene: Scene, root: Callable[[], Path], backup: str) -> None:
    """It asks for the newest and for one that has aged; a young fleet has none, and that is nobody's fault."""
    own = _copy(scene, root, backup)
    own.more = 'schedule = "off"\ncleanup_schedule = "off"\ndestinations = ["near"]'
    adapters = own.adapters(**ON_A_SERVER)
    slot = datetime(2099, 6, 2, 5, tzinfo=UTC)
    reconcile.schedule(adapters, slot)
    reconcile.schedule(adapters, slot + timedelta(days=31))
    runs = [here.work(adapters, run.id) for run in adapters.ledger.runs(kind="drill")]
    assert {run.job for run in runs} == {f"drill:{own.database}", f"drill-older:{own.database}"}
    assert {run.state for run in runs if str(run.job).startswith("drill:")} == {"proven"}
    young = own.work(adapters, "drill", {"database": own.database, "before": "2000-01-01T00:00:00Z"})
    assert (young.state, young.error and young.error["exit_code"]) == ("could_not_run", 1)


def test_an_older_one_is_not_missed(scene: Scene, root: Callable[[], Path], backup: str) -> None:
    own = _copy(scene, root, backup)
    adapters = own.adapters()
    request = {"database": own.database, "before": "2000-01-01T00:00:00Z"}
    new = NewRun(
        "drill", own.database, request, "schedule", job=f"drill-older:{own.database}", scheduled_for=1.0
    )
    run = here.work(adapters, insert(adapters, new).id)
    assert (run.state, run.error) == ("succeeded", None)


def test_connections_of_the_drill_server_are_its_own(
    scene: Scene, root: Callable[[], Path], backup: str, postgres_of: PostgresOf
) -> None:
    """A drill on a configured server drops its database and the roles that it made, and only those."""
    own = _copy(scene, root, backup)
    own.target = elsewhere = postgres_of(18)
    with elsewhere.connect() as connection:
        roles = connection.execute(ROLES).fetchall()
    before = own.databases()
    run = drill(own, own.adapters(**ON_A_SERVER))
    assert run.state == "proven", (run.error, run.result)
    made = run.data["drill_roles"]
    assert ROLE in made or (ROLE,) in roles
    assert own.databases() == before
    with elsewhere.connect() as connection:
        left = connection.execute(ROLES).fetchall()
    assert not {(role,) for role in made} & set(left)
    with pytest.raises(psycopg.OperationalError):
        own.target.connect("pgfleet_drill_nothing")
