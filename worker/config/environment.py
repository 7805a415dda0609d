"""Settings out of the environment: the seed's variables, `PGFLEET_*`, and `NAME_FILE` for secrets."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

from worker.config.sources import Given, Problem, did_you_mean, read_secret
from worker.config.variables import KNOWN, SEED_PREFIXES, VARIABLES, Table, Variable

#: How alike two names must be for one to be a misspelling of the other. S3_BUKET and S3_BUCKET: 0.94;
#: DB_MAX_CONNS and its nearest: 0.42; DOCKER_HOST and its nearest: 0.67.
NEAR = 0.84


def read(environ: Mapping[str, str], problems: list[Problem]) -> dict[Table, dict[str, Given]]:
    """What is set, by table and dotted field. An empty value counts as not set, but for BACKUP_DIR."""
    given: dict[Table, dict[str, Given]] = {"pgfleet": {}, "database": {}, "local": {}, "s3": {}}
    for variable in VARIABLES:
        found = [one for name in variable.names if (one := _one(environ, variable, name, problems))]
        if len({one.value for one in found}) > 1:
            problems.append(_contradiction(found[0].label, found[1].label))
        if found:
            given[variable.table][variable.field] = found[0]
    return given


def _one(environ: Mapping[str, str], variable: Variable, name: str, problems: list[Problem]) -> Given | None:
    value = environ.get(name, "")
    from_file = f"{name}_FILE"
    if variable.secret and environ.get(from_file):
        if value:
            problems.append(_contradiction(name, from_file))
        secret = read_secret(environ[from_file], from_file)
        if isinstance(secret, Problem):
            problems.append(secret)
            return None
        return Given(secret, name, f"{from_file} {environ[from_file]}")
    if not variable.secret and from_file not in KNOWN and from_file in environ:
        problems.append(
            Problem(f"{from_file} is set, but {name} is no secret.", f"Write the value itself: {name}=…")
        )
    if value or (variable.table == "local" and name in environ):
        return Given(value if variable.secret else value.strip(), name, "environment")
    return None


def _contradiction(one: str, other: str) -> Problem:
    return Problem(f"{one} and {other} are both set and contradict each other.", "Unset one of them.")


def misspelt(environ: Mapping[str, str], referenced: Iterable[str] = ()) -> list[Problem]:
    """Unknown PGFLEET_* variables, and near misses of the seed's names. `referenced` ones are known."""
    problems = []
    for name in sorted(set(environ) - KNOWN - set(referenced)):
        if name.startswith("PGFLEET_"):
            problems.append(Problem(f"{name} is not a setting.", _suggest(name)))
        elif name.startswith(SEED_PREFIXES) and (near := _nearest(name)):
            hint = f"Did you mean {near}? If it belongs to another program, unset it for pgfleet."
            problems.append(Problem(f"{name} is not a setting.", hint))
    return problems


def _nearest(name: str) -> str:
    if name.removesuffix("_FILE") in KNOWN:
        return ""  # told already: only secrets have a file
    close = difflib.get_close_matches(name, KNOWN, n=1, cutoff=NEAR)
    return close[0] if close else ""


def _suggest(name: str) -> str:
    bare = name.removeprefix("PGFLEET_")
    if bare in KNOWN:
        return f"Did you mean {bare}?"
    hint = did_you_mean(name, KNOWN)
    return hint if hint.startswith("Did") else "`pgfleet config` lists all settings; unset this one."
