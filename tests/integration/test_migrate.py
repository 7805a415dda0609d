"""The environment file of the bash scripts, through the real command line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.services import Bucket, KeyPair
from worker.local.postgres import Postgres

FILE = Path(__file__).parents[1] / "data/migrate/backup.env"
#: As docs/migrate-from-scripts.md says it.
_SOURCED = f'set -a; . {FILE}; set +a; for one in "${{@:1:$0}}"; do export "$one"; done; exec "${{@:$0+1}}"'
PASSWORDS = {"DB_PASSWORD": "from-the-service", "S3_SECRET_KEY": "from-the-service-too"}


def pgfleet(*argv: str, state: Path, also: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """With the file sourced by a shell, and then what is another value on this machine."""
    given = [f"{name}={value}" for name, value in {"PGFLEET_STATE_DIR": str(state), **also}.items()]
    program = ("bash", "-euc", _SOURCED, str(len(given)), *given, sys.executable, "-m", "worker", *argv)
    return subprocess.run(program, capture_output=True, text=True, timeout=120, check=False)


def test_every_line_is_understood(tmp_path: Path) -> None:
    shown = pgfleet("config", "--set", "--json", state=tmp_path, also=PASSWORDS)
    assert shown.returncode == 0, shown.stderr
    lines = [line for line in FILE.read_text().splitlines() if "=" in line and not line.startswith("#")]
    assert len(lines) == 14
    for line in lines:
        name, value = line.split("=", 1)
        found = [entry for entry in json.loads(shown.stdout) if entry["name"] == name]
        assert found, f"{name} was not read"
        assert str(found[0]["value"]).lower() == value
    assert not [secret for secret in PASSWORDS.values() if secret in shown.stdout]


def test_it_backs_up(tmp_path: Path, pg: Postgres, bucket: Bucket, gpg_keys: KeyPair) -> None:
    """The database, its role and the recipient are the file's; where the servers listen is this machine's."""
    with pg.connect("postgres") as connection:
        connection.autocommit = True
        connection.execute("CREATE ROLE goimg LOGIN PASSWORD 'from-the-service'")
        connection.execute("CREATE DATABASE goimg OWNER goimg")
    old = tmp_path / "copies" / "goimg-backup-20251201-020000.dump.gpg"
    old.parent.mkdir()
    old.write_bytes(b"what the scripts stored")
    here = {
        **PASSWORDS,
        **bucket.env,
        "DB_HOST": pg.host,
        "DB_PORT": str(pg.port),
        "GPG_RECIPIENT": gpg_keys.fingerprint,
        "PGFLEET_GPG_KEYS_DIR": str(gpg_keys.public_key.parent),
        "BACKUP_DIR": str(old.parent),
    }
    try:
        taken = pgfleet("backup", "--here", "--json", state=tmp_path / "state", also=here)
        listed = pgfleet("list", "--json", state=tmp_path / "state", also=here)
        bare = pgfleet("backup", "--here", state=tmp_path / "other", also={**here, "GPG_RECIPIENT": ""})
    finally:
        pg.dropdb("goimg")
        with pg.connect("postgres") as connection:
            connection.execute("DROP ROLE goimg")

    assert taken.returncode == 0, taken.stdout + taken.stderr
    backup = json.loads(taken.stdout)["backup_id"]
    assert backup.startswith("goimg-backup-")
    stored = bucket.keys()
    assert f"{backup}.manifest.json" in stored
    assert (old.parent / f"{backup}.dump.gpg").exists()
    states = {
        entry["backup_id"]: {copy["state"] for copy in entry["copies"]} for entry in json.loads(listed.stdout)
    }
    assert states == {backup: {"verified"}, "goimg-backup-20251201-020000": {"unmanaged"}}
    assert bare.returncode == 3, "the scripts stored it unencrypted then"
