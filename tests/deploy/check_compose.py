"""compose.yaml with the trial overlay: a fleet that backs up, proves, restores, and outlives what happens to it."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import time
import urllib.error
import urllib.request

import pytest

from tests.deploy.engine import IMAGE, docker, logs, until
from tests.deploy.trial import Trial

pytestmark = pytest.mark.timeout(1200)
OURS = ("control", "dump", "verify", "restore", "beat", "flower", "exporter")
#: Who may open a connection to whom.
REACHES = {
    "broker": set(OURS),
    "ledger": set(OURS),
    "sample-db": {"dump", "restore"},
    "drill-db": {"restore"},
    "s3": {"control", "dump", "verify", "restore", "exporter"},
}
_FETCH = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1]).read().decode())"
PORTS = {"broker": 6379, "ledger": 5432, "sample-db": 5432, "drill-db": 5432, "s3": 8333}


def test_a_backup_is_taken_on_start_and_verified(trial: Trial) -> None:
    of_its_own = "SELECT id FROM runs WHERE kind = 'backup'"
    until(lambda: trial.ledger(of_its_own), 60, "no backup on start")
    run = trial.ledger(of_its_own)
    until(lambda: _ended(trial, run), 180, lambda: trial.pgfleet("run", "show", run))
    (shown,) = [one for one in trial.asked("runs") if one["kind"] == "backup"]
    assert (shown["run_id"], shown["state"]) == (run, "verified")
    assert {copy["destination"] for copy in trial.asked("list")[0]["copies"]} == {"local", "s3"}


def test_a_drill_proves_it(trial: Trial) -> None:
    assert json.loads(trial.pgfleet("drill", "latest", "--json"))["verdict"] == "proven"
    # In the named volume, and in a directory of its major: DRILL_IMAGE can be another one tomorrow.
    data = docker(
        "exec", trial.name("drill-db"), "psql", "-U", "drill", "-Atc", "SHOW data_directory", "postgres"
    )
    assert data == "/var/lib/postgresql/drill-15\n"
    mounts = trial.container("drill-db")["Mounts"]
    assert [mount["Destination"] for mount in mounts if mount["Type"] == "volume"] == ["/var/lib/postgresql"]


def test_a_restore_brings_it_back(trial: Trial) -> None:
    trial.pgfleet("restore", "latest", "--as", "shop_again", "--force")
    count = "SELECT count(*) FROM thumbnails"
    assert trial.sql("shop_again", count) == trial.sql("shop", count) != "0"


def test_one_container_needs_no_fleet(trial: Trial) -> None:
    places = ("/tmp", "/var/lib/pgfleet", "/var/spool/pgfleet", "/var/backups/postgres")
    settings = {
        "DB_HOST": "sample-db",
        "DB_NAME": "shop",
        "DB_USER": "shop",
        "DB_PASSWORD_FILE": "/run/secrets/db_password",
        "GPG_RECIPIENT": "trial@pgfleet.example",
        "PGFLEET_GPG_KEYS_DIR": "/etc/pgfleet/keys",
    }
    shown = docker(
        *("run", "--rm", "--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges"),
        *(f"--tmpfs={place}:uid=1000,gid=1000,mode=0700" for place in places),
        *(f"--env={name}={value}" for name, value in settings.items()),
        f"--volume={trial.directory}/secrets/db_password:/run/secrets/db_password:ro",
        f"--volume={trial.project}_trial-keys:/etc/pgfleet/keys:ro",
        f"--network={trial.project}_database",
        *(IMAGE, "backup", "--here", "--json"),
    )
    assert json.loads(shown)["state"] == "verified"


def test_nobody_needs_more_than_is_allowed(trial: Trial) -> None:
    for service in (*OURS, "broker", "ledger", "drill-db"):
        found = trial.container(service)
        print(service, docker("stats", "--no-stream", "--format", "{{.MemUsage}}", found["Id"]).strip())
        assert not found["State"]["OOMKilled"]
        assert found["RestartCount"] == 0


def test_a_killed_worker_is_replaced_and_its_run_goes_on(trial: Trial) -> None:
    run = json.loads(trial.pgfleet("backup", "--no-wait", "--json"))["run_id"]
    until(lambda: _step_runs(trial, run, "backup.dump"), 60, "the dump did not begin")
    before = trial.container("dump")
    os.kill(before["State"]["Pid"], signal.SIGKILL)
    until(lambda: trial.container("dump")["RestartCount"] > before["RestartCount"], 30, "not replaced")
    until(lambda: _ended(trial, run), 240, lambda: trial.pgfleet("run", "show", run))
    assert _state(trial, run) == "verified"
    assert trial.ledger(f"SELECT max(fence) > 1 FROM steps WHERE run_id = '{run}'") == "t", (
        "nothing was interrupted"
    )


def test_a_worker_that_hangs_is_unhealthy(trial: Trial) -> None:
    assert docker("exec", trial.name("verify"), "healthcheck", ok=False).startswith("0 ")
    pid = trial.container("verify")["State"]["Pid"]
    os.killpg(_only_child(pid), signal.SIGSTOP)
    try:
        said = docker("exec", trial.name("verify"), "healthcheck", ok=False)
        assert re.search("verify@[0-9a-f]{12} does not answer", said), said
    finally:
        os.killpg(_only_child(pid), signal.SIGCONT)
    docker("pause", trial.name("broker"))  # it takes connections, and says nothing
    try:
        began = time.monotonic()
        assert docker("exec", trial.name("verify"), "healthcheck", ok=False).startswith("1 ")
        assert time.monotonic() - began < 60, "the engine would have given it up"
    finally:
        docker("unpause", trial.name("broker"))
    for role in ("beat", "cron", "flower", "exporter"):
        assert docker("exec", trial.name("verify"), "healthcheck", role, ok=False).startswith("1 "), role


def test_keys_are_imported_on_start(trial: Trial) -> None:
    (key,) = {
        line.split(": ")[1]
        for line in docker("logs", trial.name("dump")).splitlines()
        if line.startswith("Keys in ")
    }
    listed = ("gpg", "--homedir", "/var/lib/pgfleet/gnupg", "--list-keys", key)
    assert "trial@pgfleet.example" in docker("exec", trial.name("dump"), *listed)
    wrong = ("-e", "PGFLEET_GPG_KEYS_DIR=/etc/pgfleet/restore.toml", "-e", "PGFLEET_CONFIG=")
    assert trial.compose("exec", "-T", *wrong, "restore", "import-keys", ok=False).startswith(
        "3 Error: Keys cannot"
    )


def test_the_exporter_tells_of_the_backup(trial: Trial) -> None:
    told = docker("exec", trial.name("exporter"), "python", "-c", _FETCH, "http://127.0.0.1:9769/metrics")
    assert "postgres_backup_last_success_timestamp" in told


def test_flower_wants_its_password(trial: Trial) -> None:
    url = f"http://{trial.flower}/workers?json=1"
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(url, timeout=10)
    login = base64.b64encode(f"pgfleet:{trial.secret('flower_password')}".encode()).decode()
    with urllib.request.urlopen(
        urllib.request.Request(url, headers={"Authorization": f"Basic {login}"})
    ) as page:
        assert page.status == 200


def test_networks_let_through_what_they_should_and_nothing_else(trial: Trial) -> None:
    wrong = []
    for target, port in PORTS.items():
        networks = trial.container(target)["NetworkSettings"]["Networks"].values()
        for source in OURS:
            code = (
                "import socket, sys\n"
                "for address in sys.argv[2:]:\n"
                "    try: socket.create_connection((address, int(sys.argv[1])), 1.5).close(); print('yes'); break\n"
                "    except OSError: pass"
            )
            addresses = [network["IPAddress"] for network in networks]
            said = docker("exec", trial.name(source), "python", "-c", code, str(port), *addresses)
            if (said == "yes\n") != (source in REACHES[target]):
                wrong.append(f"{source} → {target}: {said or 'no'}")
    assert not wrong
    servers = {"broker", "ledger", "drill-db", "sample-db"}
    inside = {name for name in servers if _gateways(trial, name)}
    assert not inside, "a server can reach the world"
    assert _gateways(trial, "dump"), "nobody can: the check sees nothing"


def test_no_secret_can_be_read_from_the_engine(trial: Trial) -> None:
    secrets = {name: trial.secret(name) for name in ("db_password", "s3_secret_key", "broker_password")}
    secrets |= {name: trial.secret(name) for name in ("ledger_password", "flower_password", "drill_password")}
    for service in trial.services():
        told = (
            json.dumps(trial.container(service))
            + docker("logs", trial.name(service))
            + docker("top", trial.name(service))
        )
        shown = [one for one, value in secrets.items() if value in told]
        assert not shown, service
    assert "POSTGRES_PASSWORD_FILE" in json.dumps(trial.container("ledger"))
    assert not [name for name, value in secrets.items() if value in docker("history", "--no-trunc", IMAGE)]


def test_every_service_has_only_the_secrets_that_it_needs(trial: Trial) -> None:
    have = {
        service: set(docker("exec", trial.name(service), "ls", "/run/secrets").split()) for service in OURS
    }
    assert {name for name, one in have.items() if "db_password" in one} == {"dump", "restore"}
    assert {name for name, one in have.items() if "gpg_passphrase" in one} == {"restore"}
    assert have["beat"] == {"broker_url"}
    assert have["flower"] == {"broker_url", "flower_password"}
    assert "trial.asc" in docker("exec", trial.name("restore"), "ls", "/etc/pgfleet/private-keys")
    for service in set(OURS) - {"restore"}:
        assert docker("exec", trial.name(service), "ls", "/etc/pgfleet/private-keys", ok=False).startswith(
            "2 "
        )


def test_every_container_is_locked_down(trial: Trial) -> None:
    for service in (*OURS, "broker", "ledger", "drill-db"):
        host = trial.container(service)["HostConfig"]
        assert host["ReadonlyRootfs"]
        assert host["CapDrop"] == ["ALL"]
        assert not host["CapAdd"]
        assert host["SecurityOpt"] == ["no-new-privileges:true"]
        assert host["RestartPolicy"]["Name"] == "unless-stopped"
        assert all((host["Memory"], host["NanoCpus"], host["MemoryReservation"]))
        assert "0" not in trial.container(service)["Config"]["User"].split(":")


def test_down_and_up_keeps_everything(trial: Trial) -> None:
    before = trial.asked("list"), [run["run_id"] for run in trial.asked("runs")]
    trial.settings["BACKUP_ON_START"] = "false"
    trial.compose("down")
    trial.up()
    assert (trial.asked("list"), [run["run_id"] for run in trial.asked("runs")]) == before
    assert before[0]


def test_two_hosts_share_the_broker(trial: Trial) -> None:
    """Another network and another spool; the files of a run stay on one host, its reading back is done by the other."""
    site = f"{trial.project}-site"
    trial.settings |= {"BACKUP_DIR": ""}  # a directory is one host's; the bucket is everybody's
    trial.up("control", "dump", "verify")
    trial.compose("stop", "verify")
    docker("network", "create", site)
    far = f"{trial.project}-far"
    try:
        for service in ("broker", "ledger", "s3"):
            docker("network", "connect", "--alias", service, site, trial.name(service))
        names = ("broker_url", "ledger_url", "s3_secret_key")
        mounts = [f"--volume={trial.directory}/secrets/{name}:/run/secrets/{name}:ro" for name in names]
        kept = ("PGFLEET_", "S3_", "DB_N", "BACKUP_DIR", "GPG_R")
        env = [f"--env={one}" for one in trial.container("verify")["Config"]["Env"] if one.startswith(kept)]
        docker(
            "run",
            "--detach",
            "--name",
            far,
            "--network",
            site,
            *mounts,
            *env,
            IMAGE,
            "worker",
            "-Q",
            "verify",
        )
        shown = json.loads(trial.pgfleet("backup", "--json"))
        assert shown["state"] == "verified"
        assert shown["run_id"] in logs(far), logs(far)
    finally:
        docker("rm", "--force", far, ok=False)
        for service in ("broker", "ledger", "s3"):
            docker("network", "disconnect", site, trial.name(service), ok=False)
        docker("network", "rm", site, ok=False)


def _state(trial: Trial, run: str) -> str:
    return trial.ledger(f"SELECT state FROM runs WHERE id = '{run}'")


def _ended(trial: Trial, run: str) -> bool:
    return _state(trial, run) not in ("queued", "running")


def _step_runs(trial: Trial, run: str, name: str) -> bool:
    leased = "lease_until IS NOT NULL AND ended_at IS NULL"
    return trial.ledger(f"SELECT 1 FROM steps WHERE run_id = '{run}' AND name = '{name}' AND {leased}") == "1"


def _only_child(pid: int) -> int:
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return int(file.read().split()[0])


def _gateways(trial: Trial, service: str) -> list[str]:
    with open(f"/proc/{trial.container(service)['State']['Pid']}/net/route") as file:
        return [line for line in file if line.split()[1] == "00000000"]
