"""A Debian machine in a container: real systemd, PostgreSQL, a broker, and pgfleet in /opt/pgfleet."""

from __future__ import annotations

import json
import secrets

from tests.deploy.engine import BASE, REPOSITORY, build, docker, until

IMAGE = "pgfleet-test/systemd"
BROKER_PASSWORD = "s3cret-" + secrets.token_hex(8)
FLOWER_PASSWORD = "s3cret-" + secrets.token_hex(8)
_SETTINGS = """\
DB_HOST=/var/run/postgresql
DB_NAME=shop
DB_USER=pgfleet
GPG_RECIPIENT=machine@pgfleet.example
PGFLEET_GPG_KEYS_DIR=/etc/pgfleet/keys
BACKUP_DIR=/var/backups/postgres
PGFLEET_LEDGER_URL=postgresql:///pgfleet?host=/var/run/postgresql
PGFLEET_RECONCILE_SECONDS=2
"""
#: As an administrator would, by systemd/README.md.
_SET_UP = f"""
pgfleet install systemd
systemd-sysusers; systemd-tmpfiles --create; systemctl daemon-reload
cat >/etc/pgfleet/pgfleet.env <<'E'
{_SETTINGS}E
umask 077
echo 'redis://:{BROKER_PASSWORD}@127.0.0.1:6379/0' >/etc/pgfleet/secrets/PGFLEET_BROKER_URL
echo {FLOWER_PASSWORD} >/etc/pgfleet/secrets/PGFLEET_FLOWER_PASSWORD
echo json://127.0.0.1:8099/told >/etc/pgfleet/secrets/PGFLEET_NOTIFY_URLS
export GNUPGHOME=/root/gnupg; mkdir -m 700 $GNUPGHOME
gpg --batch --quiet --pinentry-mode loopback --passphrase '' \
  --quick-generate-key machine@pgfleet.example default default 1y
umask 022
gpg --batch --armor --export >/etc/pgfleet/keys/machine.asc
install -d -m 0700 -o pgfleet /etc/pgfleet/private-keys
gpg --batch --armor --export-secret-keys >/etc/pgfleet/private-keys/machine.asc
gpgconf --kill all
chown pgfleet /etc/pgfleet/private-keys/machine.asc; chmod 0600 /etc/pgfleet/private-keys/machine.asc
echo PGFLEET_GPG_PRIVATE_KEYS_DIR=/etc/pgfleet/private-keys >/etc/pgfleet/pgfleet-drill.env
systemctl start postgresql
for i in $(seq 100); do pg_isready -q && break; sleep .2; done
sed -i 's/^# *requirepass .*/requirepass {BROKER_PASSWORD}/' /etc/redis/redis.conf
systemctl start redis-server
"""
_DATABASE = (
    "createuser --superuser pgfleet; createdb -O pgfleet shop; createdb -O pgfleet pgfleet; "
    'psql -qd shop -c "CREATE TABLE t AS TABLE pg_am"'
)
#: What is told over HTTP, a line each.
_EAR = """
import http.server
class Ear(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with open("/tmp/told", "ab") as file:
            file.write(body + b"\\n")
        self.send_response(200)
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", 8099), Ear).serve_forever()
"""


class Machine:
    def __init__(self) -> None:
        """Started and set up. Raises AssertionError with what went wrong."""
        build(IMAGE, REPOSITORY / "tests/deploy/images/systemd", f"--build-arg=BASE={BASE}")
        self.name = f"pgfleet-test-{secrets.token_hex(3)}"
        # systemd needs its cgroups and mounts; this is the one privileged container here.
        docker("run", "--detach", "--privileged", "--cgroupns=host", "--volume=/sys/fs/cgroup:/sys/fs/cgroup:rw",
               "--tmpfs=/run", "--tmpfs=/tmp", "--name", self.name, IMAGE)  # fmt: skip
        try:
            until(self.is_up, 120, "systemd did not start")
            self.sh(_SET_UP)
            self.sh(f"setpriv --reuid=postgres --regid=postgres --clear-groups bash -c '{_DATABASE}'")
            self.sh(f"systemd-run --quiet --unit=ear python3 -c '{_EAR}'")
        except BaseException:
            self.remove()
            raise

    def sh(self, script: str, ok: bool = True) -> str:
        """As root."""
        return docker("exec", self.name, "bash", "-euo", "pipefail", "-c", script, ok=ok)

    def stranger(self, script: str) -> str:
        """As a user who has nothing to do with pgfleet; whatever becomes of it."""
        return docker("exec", "--user=nobody", self.name, "bash", "-c", script, ok=False)

    def is_up(self) -> bool:
        state = self.sh("systemctl is-system-running", ok=False)
        return "starting" not in state and "offline" not in state and "initializing" not in state

    def journal(self, unit: str) -> str:
        return self.sh(f"journalctl --no-pager --lines=60 --output=cat --unit='{unit}'")

    def show(self, unit: str, name: str) -> str:
        return self.sh(f"systemctl show --value --property={name} '{unit}'").strip()

    def pid(self, unit: str) -> int:
        return int(self.show(unit, "MainPID"))

    def http(self, url: str, login: str = "") -> tuple[int, str]:
        """Status and body; 0 for no answer."""
        program = (
            "import base64,json,sys,urllib.request,urllib.error\n"
            "r=urllib.request.Request(sys.argv[1])\n"
            "if sys.argv[2]: r.add_header('Authorization','Basic '+base64.b64encode(sys.argv[2].encode()).decode())\n"
            "try:\n a=urllib.request.urlopen(r,timeout=20); print(json.dumps([a.status,a.read().decode()]))\n"
            "except urllib.error.HTTPError as e: print(json.dumps([e.code,'']))\n"
            "except OSError as e: print(json.dumps([0,str(e)]))\n"
        )
        told = docker("exec", self.name, "python3", "-c", program, url, login)
        status, body = json.loads(told)
        return int(status), str(body)

    def told(self) -> str:
        """What came through the notification service."""
        return self.sh("cat /tmp/told 2>/dev/null || true")

    def ended(self, unit: str) -> str:
        """How its last run ended, by the journal: systemd forgets a unit that nothing refers to. "" while it runs."""
        pattern = f"(Starting|Finished|Failed to start) {unit}"
        told = self.sh(
            f"journalctl --no-pager --output=cat --unit={unit}.service | grep -E '^{pattern}' | tail -n 1",
            ok=False,
        )
        return (
            "success" if told.startswith("0 Finished") else "failure" if told.startswith("0 Failed") else ""
        )

    def remove(self) -> None:
        docker("rm", "--force", "--volumes", self.name, ok=False)
