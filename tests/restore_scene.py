"""A backup and restore in this process, against real servers: what the tests of restores share."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from psycopg.sql import SQL, Identifier

from worker import here
from worker.config.load import load
from worker.config.model import Settings
from worker.ledger import Ledger
from worker.ledger.model import Run
from worker.local.postgres import Postgres
from worker.owner import me
from worker.process import run as start
from worker.steps.context import Adapters
from worker.submit import after_restore, insert, submit

ROLE, QUOTED = "zoo_role", 'Zoo "quoted" röle'
#: Databases that fixtures of the whole session make on the servers of these tests.
SHARED = {"sample_template", "ledger"}
ZOO = (Path(__file__).parent / "data" / "restore_zoo.sql").read_text()
_OWN_WORDS = re.compile(
    r"^(--.*|\\(connect|encoding|(un)?restrict) .*|SET [a-z_]+ = .*|SELECT pg_catalog.set_config.*|\s*)$"
)


@dataclass
class Scene:
    """`source` is backed up into directories below `root`, `target` is restored into; without a key unencrypted."""

    root: Path
    source: Postgres
    target: Postgres
    database: str
    keys: Any = None
    more: str = ""  # settings of the database
    changes: Mapping[str, str] = field(default_factory=dict)
    fingerprint: str = "off"  # a restore needs none
    _others: set[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._others = SHARED | (self._all_databases() - {self.database})

    def settings(self, **changes: str) -> Settings:
        """Destinations `near` and `far`; target `there`, whose live database has the source's name."""
        path = self.root / "pgfleet.toml"
        path.write_text(
            f"""
[databases.{self.database}]
host = "{self.source.host}"
port = {self.source.port}
user = "{self.source.user}"
password = "{self.source.password}"
jobs = 2
fingerprint = "{self.fingerprint}"
{self._keys()}
{self.more}
[targets.there]
host = "{self.target.host}"
port = {self.target.port}
user = "{self.target.user}"
password = "{self.target.password}"
database = "{self.database}"
allow_replace = true
[destinations.near]
kind = "directory"
path = "{self.root}/near"
[destinations.far]
kind = "directory"
path = "{self.root}/far"
"""
        )
        path.chmod(0o600)
        env = {
            "PGFLEET_CONFIG": str(path),
            "PGFLEET_STATE_DIR": str(self.root / "state"),
            "PGFLEET_SPOOL": str(self.root / "spool"),
            "PGFLEET_PG_BIN": ":".join(dict.fromkeys([str(self.source.bin_dir), str(self.target.bin_dir)])),
            "PGFLEET_PART_SIZE": "5MiB",
            "PGFLEET_RETRY_BASE_SECONDS": "0.05",
            "PGFLEET_RETRY_MAX_SECONDS": "0.1",
            "PGFLEET_RECONCILE_SECONDS": "0.02",
            "PGFLEET_MAX_ATTEMPTS": "2",
            **self.changes,
            **changes,
        }
        if self.keys is not None:
            env.setdefault("GNUPGHOME", str(self.keys.home))
        return load(env)

    def _keys(self) -> str:
        return f'recipients = ["{self.keys.fingerprint}"]' if self.keys else "allow_unencrypted = true"

    def adapters(self, **changes: str) -> Adapters:
        ledger = Ledger("sqlite://", max_attempts=2, lease_seconds=30)
        ledger.migrate()
        return Adapters(self.settings(**changes), ledger)

    def backup(self, **changes: str) -> str:
        run = self.work(self.adapters(**changes), "backup", {"databases": [self.database]})
        assert run.state == "verified", run.error
        return str(run.backup_id)

    def restore(self, env: Mapping[str, str] | None = None, **request: Any) -> Run:
        """A restore of the latest backup into `there`, unless the request says something else."""
        return self.work(
            self.adapters(**(env or {})), "restore", {"target": "there", "database": self.database, **request}
        )

    def restored(self, **request: Any) -> dict[str, Any]:
        """The result of a restore that went well."""
        run = self.restore(**request)
        assert run.state == "succeeded", run.error
        return dict(run.result)

    def after(self, adapters: Adapters, what: Any, run_id: str) -> Run:
        run = insert(adapters, after_restore(adapters, what, run_id, requested_by="test", here=me()))
        return here.work(adapters, run.id)

    @staticmethod
    def work(adapters: Adapters, kind: str, request: Mapping[str, Any]) -> Run:
        (run,) = submit(adapters, kind, request, requested_by="test", here=me())
        return here.work(adapters, run.id)

    def databases(self) -> set[str]:
        """Of the target, without those that every server has, and those that are another test's."""
        return self._all_databases() - self._others

    def _all_databases(self) -> set[str]:
        with self.target.connect() as connection:
            found = connection.execute(
                "SELECT datname FROM pg_database WHERE NOT datistemplate AND datname <> 'postgres'"
            )
            return {str(row[0]) for row in found}

    def litter(self) -> set[str]:
        """What a restore may have left: databases of its own, and files on the spool."""
        runs = self.root / "spool" / "runs"
        return {name for name in self.databases() if "_restore_" in name} | (
            {path.name for path in runs.iterdir()} if runs.exists() else set()
        )


def connect(server: Postgres, name: str) -> psycopg.Connection[Any]:
    """To a database of any name."""
    return psycopg.connect(
        host=server.host,
        port=server.port,
        user=server.user,
        password=server.password,
        dbname=name,
        autocommit=True,
    )


def make_zoo(server: Postgres, name: str) -> None:
    """The database with every kind of object, and its roles."""
    with server.connect() as connection:
        make_roles(connection)
        connection.execute(SQL("CREATE DATABASE {} TEMPLATE template0").format(Identifier(name)))
    parts = {"role": Identifier(ROLE), "quoted": Identifier(QUOTED), "db": Identifier(name)}
    with connect(server, name) as connection:
        script = SQL(ZOO).format(**parts).as_string(connection)  # type: ignore[arg-type]
        for statement in re.split(r";\n(?=[A-Z])", script):
            connection.execute(statement.encode())


def make_roles(connection: psycopg.Connection[Any]) -> None:
    for role in (ROLE, QUOTED):
        if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [role]).fetchone():
            connection.execute(SQL("CREATE ROLE {}").format(Identifier(role)))


def drop_zoo(server: Postgres, name: str) -> None:
    """DROP DATABASE refuses while a subscription is there."""
    with connect(server, name) as connection:
        own = (
            "SELECT subname FROM pg_subscription"
            " WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
        for (subscription,) in connection.execute(own).fetchall():
            connection.execute(SQL("DROP SUBSCRIPTION {}").format(Identifier(str(subscription))))
    server.dropdb(name)


def schema_of(client: Postgres, server: Postgres, name: str) -> list[str]:
    """`pg_dump --schema-only --create` by one client, without what depends on the day and the database's name."""
    env = libpq(server, name)
    done = start(
        [str(client.bin_dir / "pg_dump"), "--schema-only", "--create"], env=env, stdout_limit=64 * 2**20
    )
    assert done.returncode == 0, done.stderr
    text = done.stdout.decode()
    for spelling in ('"' + name.replace('"', '""') + '"', name):
        text = text.replace(spelling, "THE_DATABASE")
    return [line for line in text.splitlines() if not _OWN_WORDS.match(line)]


def libpq(server: Postgres, name: str) -> dict[str, str]:
    return {
        "PGHOST": server.host, "PGPORT": str(server.port), "PGUSER": server.user, "PGPASSWORD": server.password,
        "PGDATABASE": name,
    }  # fmt: skip


def copy_by_hand(scene: Scene, name: str) -> None:
    """pg_dump and pg_restore alone, into an empty database of the target."""
    archive = scene.root / "by-hand.dump"
    for server, dbname, *argv in (
        (scene.source, scene.database, "pg_dump", "-Fc", "-f", str(archive)),
        (scene.target, name, "pg_restore", "--exit-on-error", "--dbname=", str(archive)),
    ):
        program = scene.source.bin_dir if argv[0] == "pg_dump" else scene.target.bin_dir
        done = start([str(program / argv[0]), *argv[1:]], env=libpq(server, dbname))
        assert done.returncode == 0, done.stderr


def content_of(server: Postgres, name: str) -> dict[str, str]:
    """A checksum of the rows of each relation, of each sequence and of the large objects, in PostgreSQL's own text."""
    with connect(server, name) as connection:
        connection.execute("SET timezone = 'UTC'; SET row_security = off; SET extra_float_digits = 3")
        relations = connection.execute(
            "SELECT n.nspname, c.relname, c.relkind::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE c.relkind IN ('r', 'm', 'S') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"
            " AND (c.relkind <> 'm' OR c.relispopulated)"
        ).fetchall()
        found = {}
        for schema, relation, kind in relations:
            what = "last_value, is_called" if kind == "S" else "t.*"
            statement = SQL(
                "SELECT count(*) || ' '"
                " || coalesce(md5(string_agg(md5(row({what})::text), '' ORDER BY md5(row({what})::text))), '')"
                " FROM ONLY {name} t"
            ).format(what=SQL(what), name=Identifier(str(schema), str(relation)))
            row = connection.execute(statement).fetchone()
            found[f"{schema}.{relation}"] = str(row and row[0])
        blobs = connection.execute(
            "SELECT m.oid, pg_get_userbyid(m.lomowner), m.lomacl::text, md5(lo_get(m.oid))"
            " FROM pg_largeobject_metadata m ORDER BY 1"
        ).fetchall()
        return found | {f"large object {row[0]}": str(row[1:]) for row in blobs}


def tables(server: Postgres, name: str, statements: Sequence[str]) -> None:
    with connect(server, name) as connection:
        for statement in statements:
            connection.execute(statement.encode())
