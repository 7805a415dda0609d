"""What can be said of the deployment files without running them."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import yaml

from tests.deploy.engine import REPOSITORY, run

COMPOSE = REPOSITORY / "compose"


def test_the_example_explains_every_variable_and_no_other() -> None:
    files = "".join(file.read_text() for file in COMPOSE.glob("compose*.yaml"))
    used = set(re.findall(r"\$\{([A-Z][A-Z_0-9]+)", files)) | set(
        re.findall(r"^ +([A-Z][A-Z_0-9]+):$", files, re.M)
    )
    lines = (COMPOSE / ".env.example").read_text().splitlines()
    shown = {match[1] for line in lines if (match := re.match(r"#?([A-Z][A-Z_0-9]+)=", line))}
    assert shown == used


def test_the_drill_server_may_be_of_any_major() -> None:
    """PostgreSQL's images of 18 and later refuse to start with a volume at /var/lib/postgresql/data."""
    services = yaml.safe_load((COMPOSE / "compose.yaml").read_text())["services"]
    assert services["drill-db"]["volumes"] == ["drill:/var/lib/postgresql"]
    # Those of another major find a directory of their own, and not one that they cannot read.
    assert "drill-$$PG_MAJOR" in services["drill-db"]["entrypoint"][-1]


def test_the_image_has_only_what_it_is_built_from() -> None:
    ignored = (REPOSITORY / ".dockerignore").read_text().splitlines()
    assert ignored[1] == "*", "everything is left out but for what is named"
    assert not [line for line in ignored if line.startswith("!") and not (REPOSITORY / line[1:]).exists()]


def test_the_dockerfile_can_be_built_from_mirrors() -> None:
    text = (REPOSITORY / "Dockerfile").read_text()
    assert not re.search(r"^# *syntax=", text, re.M)
    assert not re.search(r"^FROM .*@sha256", text, re.M)


def test_the_linter_has_nothing_to_say_of_shell_scripts() -> None:
    shellcheck = shutil.which("shellcheck", path=str(Path(sys.executable).parent))
    assert shellcheck, "shellcheck is not installed: make test-deploy does that"
    named = ("compose/image/entrypoint", "compose/make-secrets", ".ci/run", "compose/trial/sample.sh")
    assert (
        run(shellcheck, *(REPOSITORY / name for name in named), *(REPOSITORY / "scripts").glob("*.sh")) == ""
    )
    wrong = run(shellcheck, "--shell=sh", "-", ok=False, stdin="echo $1")
    assert wrong.startswith("1 "), "it finds nothing anywhere"
