"""What exists is mentioned, and what is mentioned exists: settings, metrics, errors, commands, options, tasks …"""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from scripts.reference.errors import RECORDED
from scripts.reference.exit_codes import MEANINGS
from scripts.reference.known import ERRORS
from scripts.reference.tasks import registered
from tests.docs.conftest import ROOT
from tests.docs.names import alerts, documents, options, tree, unknown
from worker.config.variables import VARIABLES
from worker.core.keys import EvidenceKind
from worker.ledger.model import RunState, StepState
from worker.metrics.names import METRICS


@pytest.mark.parametrize("page", documents(), ids=lambda page: str(page.relative_to(ROOT)))
def test_no_page_names_what_is_not_there(page: Path) -> None:
    assert list(unknown(page.read_text())) == []


def test_comments_of_the_deployment_name_nothing_that_is_not_there() -> None:
    files = [
        path
        for path in ROOT.glob("compose/**/*")
        if path.suffix in (".yaml", ".yml", ".toml") and path.is_file()
    ]
    assert len(files) > 5
    found = {str(path.relative_to(ROOT)): list(unknown(path.read_text())) for path in files}
    assert {name: wrong for name, wrong in found.items() if wrong} == {}


def _existing() -> dict[str, set[str]]:
    return {
        "settings": {name for variable in VARIABLES for name in variable.names},
        "metrics": {metric.name for metric in METRICS},
        "errors": {*ERRORS, *RECORDED},
        "commands": {f"pgfleet {path}".strip() for path in tree()},
        "options": {option for command in tree().values() for option in options(command)},
        "alerts": set(alerts()),
        "exit codes": set(map(str, MEANINGS)),
        "tasks": set(registered()),
        "evidence": set(get_args(EvidenceKind)),
        "states": {*get_args(RunState), *get_args(StepState)},
    }


@pytest.mark.parametrize("what", _existing())
def test_all_that_exists_is_mentioned(what: str) -> None:
    text = "\n".join(page.read_text() for page in documents())
    assert _missing(_existing()[what], text) == set()


def _missing(names: set[str], text: str) -> set[str]:
    return {name for name in names if re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text) is None}


def test_what_is_not_mentioned_is_found() -> None:
    assert _missing({"--force", "--for"}, "use `--force`") == {"--for"}
    assert len(_existing()["settings"]) > 50
    assert {"--dry-run", "-o", "--no-wait"} <= _existing()["options"]


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("`PGFLEET_SPOOL`, `PGFLEET_SPOL`", ["PGFLEET_SPOL"]),
        ("`DB_*`, `S3_…`, `PGFLEET_GPG_*`, `DB_QUX_*`", ["DB_QUX_*"]),
        ("`DB_PASSWORD_FILE`, `DB_NAME_FILE`", ["DB_NAME_FILE"]),
        ("`pgfleet_up` and `pgfleet_upp`", ["pgfleet_upp"]),
        ("`pgfleet restore undo RUN`, `pgfleet restore redo RUN`", []),  # an id may be any word
        ("`pgfleet run shwo RUN`", ["pgfleet run shwo"]),
        ("`pgfleet bakup`, but pgfleet is a word", ["pgfleet bakup"]),
        ("`docker network connect pgfleet things`, `X=1 /opt/bin/pgfleet bakup`", ["pgfleet bakup"]),
        ("`pgfleet restore --as x --ass y`", ["pgfleet restore --ass"]),
        (
            "```console\n$ pgfleet backup --here --her # --what\npgfleet says --anything\n```",
            ["pgfleet backup --her"],
        ),
        ("```console\n# docker run x \\\n  pgfleet:0.1.0 backup --hree\n```", ["pgfleet backup --hree"]),
        ("```console\n$ pgfleet local --workers 3 -- pgfleet backup --no\n```", ["pgfleet backup --no"]),
        ("`pgfleet COMMAND --help`, `pgfleet … --here`", []),
        ("`AccessDenied`, `AccessFailed`, `BackupFailed`", ["AccessFailed"]),
        ("`backup.dump`, `backup.dumpp`, `backup.env`, `backup.failed`", ["backup.dumpp"]),
        ("ends with exit code 3, or exit code 9", ["exit code 9"]),
        ("`pip install -c constraints.txt .`, `pip install dist/pgfleet-1-py3-none-any.whl`", []),
        ("`pip install --no-index --find-links wheels pgfleet`", []),
        ("`x/bin/pip install pgfleet && x/bin/pgfleet`", ["pip install pgfleet"]),
        ("`pip install 'pgfleet[local]'.`", ["pip install 'pgfleet[local]'."]),
    ],
)
def test_what_counts_as_unknown(text: str, wrong: list[str]) -> None:
    assert list(unknown(text)) == wrong
