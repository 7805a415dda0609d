"""compose.monitoring.yaml: Prometheus scrapes the exporter, loads the rules, and an alert gets to Alertmanager.

Both run for real, as Debian's packages behind the public images' interface. Grafana is packaged by neither Debian nor
PyPI: its container is NOT run here. Its files are compared with what compose mounts and what the dashboard asks for.
"""

from __future__ import annotations

import json
import re
import urllib.parse
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.deploy.engine import REPOSITORY, docker, until
from tests.deploy.trial import Trial

pytestmark = pytest.mark.timeout(900)
COMPOSE = REPOSITORY / "compose"
GRAFANA = COMPOSE / "grafana"
OVERLAY: dict[str, Any] = yaml.safe_load((COMPOSE / "compose.monitoring.yaml").read_text())
MONITORING = ("prometheus", "alertmanager", "grafana")


def test_the_files_fit_together(trial: Trial) -> None:
    """All overlays at once, with grafana."""
    trial.files.append("compose.monitoring.yaml")
    try:
        known = json.loads(trial.compose("config", "--format", "json"))["services"]
    finally:
        trial.files.pop()
    assert set(MONITORING) < set(known)
    # An overlay adds to what compose.yaml says of the exporter.
    assert {"backend", "outside", "metrics"} == set(known["exporter"]["networks"])
    for name in MONITORING:
        one = known[name]
        assert one["read_only"]
        assert one["cap_drop"] == ["ALL"]
        assert one["security_opt"] == ["no-new-privileges:true"]
        assert one["user"].split(":")[0] not in ("0", "root")
        assert one["restart"] == "unless-stopped"
        assert one["healthcheck"]["test"]
        assert {"limits", "reservations"} <= set(one["deploy"]["resources"])


def test_versions_are_pinned() -> None:
    for name in MONITORING:
        image = re.fullmatch(r"\$\{[A-Z]+_IMAGE:-([^}]+)\}", OVERLAY["services"][name]["image"])
        assert image
        assert re.search(r":v?\d+\.\d+\.\d+$", image[1])


def test_what_grafana_is_given_is_there() -> None:
    """Mounted paths exist, named files are where they are looked for, sources that are asked are known."""
    grafana = OVERLAY["services"]["grafana"]
    mounts = dict(reversed(one.split(":")[:2]) for one in grafana["volumes"] if one.startswith("./"))
    assert mounts
    for source in mounts.values():
        assert (COMPOSE / source).exists()
    (provider,) = yaml.safe_load((GRAFANA / "provisioning/dashboards/pgfleet.yml").read_text())["providers"]
    folder = mounts[provider["options"]["path"]]
    home = grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert (COMPOSE / home.replace(provider["options"]["path"], folder)).is_file()
    sources = [
        one
        for file in (GRAFANA / "provisioning/datasources").iterdir()
        for one in yaml.safe_load(file.read_text())["datasources"]
    ]
    known = {one["uid"] for one in sources}
    assert {one["url"] for one in sources} == {"http://prometheus:9090", "http://alertmanager:9093"}
    assert [one["type"] for one in sources if one.get("isDefault")] == ["prometheus"]
    for file in (COMPOSE / folder).glob("*.json"):
        dashboard = json.loads(file.read_text())
        chosen = {
            f"${{{one['name']}}}" for one in dashboard["templating"]["list"] if one["type"] == "datasource"
        }
        asked = set(re.findall(r'"uid": "([^"]+)"', json.dumps(dashboard["panels"])))
        assert asked <= known | chosen
        assert asked


@pytest.fixture(scope="module")
def monitored(trial: Trial) -> Iterator[Trial]:
    """The trial with the overlay, looking more often."""
    file = trial.directory / "prometheus/prometheus.yml"
    file.write_text(re.sub(r"_interval: \w+", "_interval: 2s", file.read_text()))
    trial.files.append("compose.monitoring.yaml")
    trial.up("exporter", "prometheus", "alertmanager")
    yield trial
    trial.compose("rm", "--stop", "--force", "prometheus", "alertmanager")
    trial.files.pop()


def _get(trial: Trial, service: str, url: str) -> Any:
    return json.loads(docker("exec", trial.name(service), "wget", "-q", "-O", "-", url))


def _query(trial: Trial, query: str) -> list[Any]:
    asked = f"http://127.0.0.1:9090/api/v1/query?query={urllib.parse.quote(query)}"
    found: list[Any] = _get(trial, "prometheus", asked)["data"]["result"]
    return found


def _alerts(trial: Trial) -> set[str]:
    """The names that Alertmanager has now."""
    found = _get(trial, "alertmanager", "http://127.0.0.1:9093/api/v2/alerts")
    return {alert["labels"]["alertname"] for alert in found}


def test_prometheus_scrapes_and_has_the_rules(monitored: Trial) -> None:
    up = 'up{job="pgfleet"} == 1'
    until(lambda: _query(monitored, up), 60, lambda: str(_query(monitored, "up")))
    groups = _get(monitored, "prometheus", "http://127.0.0.1:9090/api/v1/rules")["data"]["groups"]
    loaded = {rule["name"] for group in groups for rule in group["rules"]}
    shipped = yaml.safe_load((COMPOSE / "prometheus/alerts.yml").read_text())["groups"]
    assert loaded == {rule["alert"] for group in shipped for rule in group["rules"]}


def test_an_alert_gets_to_alertmanager(monitored: Trial) -> None:
    assert "BackupFailed" not in _alerts(monitored)
    wrong = ("exec", "-T", "-e", "DB_PORT=1", "-e", "PGFLEET_MAX_ATTEMPTS=1", "dump")
    assert monitored.compose(*wrong, "pgfleet", "backup", "--here", ok=False).startswith("4 ")
    until(lambda: "BackupFailed" in _alerts(monitored), 90, lambda: f"only {_alerts(monitored)}")


def test_they_reach_nothing_that_they_need_not(monitored: Trial) -> None:
    """Prometheus sees the exporter and neither broker nor ledger; it cannot get out."""
    for target, seen in (("exporter:9769/metrics", True), ("broker:6379", False), ("ledger:5432", False)):
        host = target.split(":")[0]
        networks = monitored.container(host)["NetworkSettings"]["Networks"].values()
        told = [
            docker(
                *("exec", monitored.name("prometheus"), "timeout", "5", "wget", "-q", "-T", "2", "-t", "1"),
                *("-O", "/dev/null", f"http://{target.replace(host, network['IPAddress'])}"),
                ok=False,
            )
            for network in networks
        ]
        assert any(one.startswith("0 ") for one in told) == seen, told
    for service in ("prometheus", "alertmanager"):
        found = monitored.container(service)
        assert not found["HostConfig"]["PortBindings"]
        assert found["HostConfig"]["ReadonlyRootfs"]
        assert docker("exec", monitored.name(service), "touch", "/x", ok=False).startswith("1 ")


def test_its_default_tells_nobody_and_says_so() -> None:
    file = COMPOSE / "prometheus/alertmanager.yml"
    given = yaml.safe_load(file.read_text())
    assert given["route"]["receiver"] == given["receivers"][0]["name"] == "shown-only"
    assert "As it is: nobody." in file.read_text().splitlines()[0]
