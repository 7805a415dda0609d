"""The whole embedded stack: servers, keys and fleet, started in order and stopped in reverse."""

from __future__ import annotations

import secrets
import shlex
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType, TracebackType

from worker.config.variables import KNOWN
from worker.local import pginstall
from worker.local.child import Child
from worker.local.environment import inherited, program
from worker.local.fleet import Fleet
from worker.local.keys import Keys
from worker.local.place import Place
from worker.local.postgres import Postgres
from worker.local.s3 import S3
from worker.local.user import server_user
from worker.local.valkey import Valkey

DATABASE = "goimg"
BUCKET = "backups"
FLOWER_USER = "pgfleet"

Say = Callable[[str], None]


class Stack:
    """A context manager: all of it answers inside, none of it is left outside.

    settings: variables beside and over the stack's own, for every child. root: where its directory is made,
    the temporary directory by default. keep: leave that directory. say: told what is being started. workers=0
    starts servers and keys alone; `fleet` can be given workers later.
    """

    def __init__(
        self,
        *,
        workers: int = 2,
        pg_major: int = 17,
        beat: bool = True,
        flower: bool = True,
        settings: Mapping[str, str] | None = None,
        root: Path | None = None,
        keep: bool = False,
        say: Say = lambda what: None,
    ) -> None:
        self.pg_major = pg_major
        self.flower_password = secrets.token_urlsafe(12)
        self._workers = workers
        self._beat = beat
        self._flower = flower
        self._settings = dict(settings or {})
        self._say = say
        self._root = root
        self._keep = keep
        self._ends = ExitStack()

    def __enter__(self) -> Stack:
        """Raises PgfleetError when a part is missing or does not start; the others are stopped again."""
        try:
            self._make()
            self._start_servers()
            self._start_fleet()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Everything, in reverse order, whatever fails; a second ctrl-C does not cut it short. Idempotent."""
        with uninterrupted():
            self._ends.close()

    @property
    def env(self) -> dict[str, str]:
        """All settings, secrets included."""
        bins = dict.fromkeys([self.postgres.bin_dir, *pginstall.installations().values()])
        return {
            "DB_HOST": self.postgres.host,
            "DB_PORT": str(self.postgres.port),
            "DB_NAME": DATABASE,
            "DB_USER": self.postgres.user,
            "DB_PASSWORD": self.postgres.password,
            "S3_ENDPOINT": self.s3.endpoint,
            "S3_BUCKET": BUCKET,
            "S3_PROFILE": "seaweedfs",
            "S3_ACCESS_KEY": self.s3.access_key,
            "S3_SECRET_KEY": self.s3.secret_key,
            "BACKUP_DIR": str(self.path / "backups"),
            "GPG_RECIPIENT": self.keys.recipient,
            "GNUPGHOME": str(self.keys.home),
            "PGFLEET_BROKER_URL": self.valkey.url,
            "PGFLEET_LEDGER_URL": f"sqlite:///{self.path / 'ledger.db'}",
            "PGFLEET_STATE_DIR": str(self.path / "state"),
            "PGFLEET_SPOOL": str(self.path / "spool"),
            "PGFLEET_PG_BIN": ":".join(map(str, bins)),
            "PGFLEET_FLOWER_USER": FLOWER_USER,
            "PGFLEET_FLOWER_PASSWORD": self.flower_password,
            **self._settings,
        }

    @property
    def environment(self) -> dict[str, str]:
        """For a child: what it inherits of ours, and `env`."""
        return {**inherited(), **self.env}

    @property
    def env_file(self) -> Path:
        """For ``source`` in another shell."""
        return self.path / "env.sh"

    def run(self, argv: list[str]) -> int:
        """Run a command in the foreground, with all settings, and return its exit code.

        It gets the terminal and its ctrl-C; a SIGTERM or SIGHUP to us is passed on. Raises MissingDependency.
        """
        child = Child(argv[0], [program(argv[0]), *argv[1:]], env=self.environment, log=None)
        with foreground(child):
            child.start()
            return child.wait()

    def watch(self) -> list[str]:
        """Start again what has ended of the fleet, and name it. Raises PgfleetError when a server has."""
        for server in (self.postgres, self.valkey, self.s3):
            server.child.check()
        return self.fleet.revive()

    def _make(self) -> None:
        place = Place(server_user(), root=self._root, keep=self._keep)
        self._ends.callback(place.remove)
        self.path = place.path
        self.postgres = Postgres(self.path / "pg", self.pg_major)
        self.valkey = Valkey(self.path / "valkey")
        self.s3 = S3(self.path / "s3")
        self.keys = Keys(self.path)

    def _start_servers(self) -> None:
        for folder in ("backups", "state", "spool"):
            (self.path / folder).mkdir(mode=0o711)
        for name, part in (
            (f"PostgreSQL {self.postgres.major}", self.postgres),
            ("Valkey", self.valkey),
            ("the S3 server", self.s3),
            ("GnuPG keys", self.keys),
        ):
            self._say(name)
            self._ends.callback(part.stop)
            part.start()
        self.postgres.createdb(DATABASE)
        self.s3.create_bucket(BUCKET)
        self._write_env_file()

    def _start_fleet(self) -> None:
        self.fleet = Fleet(self.path, self.environment, self.valkey.url)
        self._ends.callback(self.fleet.stop)
        if self._workers or self._beat or self._flower:
            self._say("the fleet")
        for number in range(1, self._workers + 1):
            self.fleet.start_worker(f"worker{number}")
        if self._beat:
            self.fleet.start_beat()
        if self._flower:
            self.fleet.start_flower(FLOWER_USER, self.flower_password)
        self.fleet.wait_workers()
        for child in self.fleet.children:
            child.check()

    def _write_env_file(self) -> None:
        """Settings that the shell has from elsewhere are unset, so that they do not contradict these.

        PostgreSQL's own programs are on its PATH too, and find the server.
        """
        env = self.env | {
            "PGHOST": self.postgres.host,
            "PGPORT": str(self.postgres.port),
            "PGUSER": self.postgres.user,
            "PGPASSWORD": self.postgres.password,
            "PGDATABASE": DATABASE,
        }
        programs = f"{inherited()['PATH'].partition(':')[0]}:{self.postgres.bin_dir}"
        lines = [f"unset {' '.join(sorted(KNOWN - env.keys()))}"]
        lines += [f"export {name}={shlex.quote(value)}" for name, value in env.items()]
        lines += [f"export PATH={shlex.quote(programs)}:$PATH"]
        self.env_file.touch(mode=0o600)
        self.env_file.write_text("\n".join(lines) + "\n")


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ignore the signals that ask us to end, until the block is done."""
    with _handling((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), signal.SIG_IGN):
        yield


@contextmanager
def foreground(child: Child) -> Iterator[None]:
    """Like a shell: ctrl-C is the command's business, and a request to end is passed on to it."""

    def pass_on(number: int, frame: FrameType | None) -> None:
        child.send(signal.Signals(number))

    def leave(number: int, frame: FrameType | None) -> None:
        """The terminal sends it to the command as well."""

    with _handling((signal.SIGTERM, signal.SIGHUP), pass_on), _handling((signal.SIGINT,), leave):
        yield


@contextmanager
def ending() -> Iterator[None]:
    """A SIGTERM or SIGHUP ends the block as ctrl-C does, by an exception: SystemExit(128 + its number)."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    with _handling((signal.SIGTERM, signal.SIGHUP), leave):
        yield


@contextmanager
def _handling(
    numbers: tuple[signal.Signals, ...], handler: Callable[[int, FrameType | None], None] | signal.Handlers
) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # Python runs handlers in the main thread only, and lets no other set them
        return
    before = [(number, signal.signal(number, handler)) for number in numbers]
    try:
        yield
    finally:
        for number, previous in before:
            signal.signal(number, previous)
