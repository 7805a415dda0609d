"""A real Prometheus scrapes the real exporter, with the rules and the configuration that are shipped."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.integration import monitoring_scene as scene
from tests.services import wait_until
from worker import reconcile
from worker.local.ports import free_ports

COMPOSE = Path(__file__).parents[2] / "compose"
SHIPPED = COMPOSE / "prometheus"
#: What this scene has none of: a broker, keys with an end, tables in its backups.
NOTHING_YET = re.compile(r"pgfleet_broker_memory|pgfleet_key_expiry|compression_ratio")


@contextmanager
def running(*argv: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(argv, text=True, **options)
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=20)


def ask(url: str, query: str) -> list[Any]:
    with urllib.request.urlopen(f"{url}/api/v1/query?query={urllib.parse.quote(query)}", timeout=5) as answer:
        found: list[Any] = json.load(answer)["data"]["result"]
    return found


def panels() -> list[str]:
    """Every query of the dashboard, for all databases. One that Prometheus refuses is an error of `ask`."""
    dashboard = json.loads((COMPOSE / "grafana" / "dashboards" / "pgfleet.json").read_text())
    targets = [target for panel in dashboard["panels"] for target in panel.get("targets", ())]
    return [target["expr"].replace("$database", ".*") for target in targets]


def ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/-/ready", timeout=1) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def test_prometheus_scrapes_it_and_alerts(tmp_path: Path) -> None:
    here = scene.adapters(tmp_path)
    scene.drill(here, scene.back_up(here, 5), "near")
    scene.damage(here, scene.back_up(here, 3), "far")
    scene.end(here, "failed")
    reconcile.reconcile(here)
    with running(
        sys.executable, "-m", "worker", "exporter", "--port", "0",
        env=scene.environment(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    ) as exporter:  # fmt: skip
        assert exporter.stdout is not None
        target = urllib.parse.urlsplit(exporter.stdout.readline().split()[3]).netloc
        (tmp_path / "alerts.yml").write_text((SHIPPED / "alerts.yml").read_text())
        config = (SHIPPED / "prometheus.yml").read_text()
        config = re.sub(r"_interval: \w+", "_interval: 1s", config).replace("exporter:9769", target)
        (tmp_path / "prometheus.yml").write_text(config)
        (port,) = free_ports(1)
        url = f"http://127.0.0.1:{port}"
        with running(
            "prometheus", f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/tsdb",
            f"--web.listen-address=127.0.0.1:{port}", stderr=subprocess.DEVNULL,
        ):  # fmt: skip
            assert wait_until(lambda: ready(url), 15)
            firing = 'ALERTS{alertstate="firing"}'
            wanted = {"BackupFailed", "CopyDamaged"}
            assert wait_until(lambda: wanted <= {one["metric"]["alertname"] for one in ask(url, firing)}, 15)
            assert {one["metric"]["alertname"] for one in ask(url, firing)} == wanted
            (count,) = ask(url, 'postgres_backup_count{destination="near"}')
            assert (count["metric"]["database"], count["value"][1]) == ("goimg", "2")
            answers = {query: ask(url, query) for query in panels()}
            silent = {query for query, found in answers.items() if not found}
            assert not [query for query in silent if not NOTHING_YET.search(query)], silent
