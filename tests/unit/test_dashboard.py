"""The Grafana dashboard: every metric in it is exported, every query is one, nothing overlaps."""

from __future__ import annotations

import json
import re
import subprocess
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from worker.metrics.names import BY_NAME

GRAFANA = Path(__file__).parents[2] / "compose" / "grafana"
DASHBOARD = json.loads((GRAFANA / "dashboards" / "pgfleet.json").read_text())
PANELS: list[dict[str, Any]] = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
METRIC = re.compile(r"\b((?:pgfleet|postgres_backup)_[a-z_]+)(?:\{([^}]*)\})?")


def queries() -> list[str]:
    return [target["expr"] for panel in PANELS for target in panel["targets"]]


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_every_metric_is_exported(panel: dict[str, Any]) -> None:
    assert panel["description"].endswith(".")
    for target in panel["targets"]:
        asked = METRIC.findall(target["expr"])
        assert asked
        for name, matchers in asked:
            assert name in BY_NAME
            assert set(re.findall(r"(\w+)[=!]", matchers)) <= set(BY_NAME[name].labels)
        labels = {label for name, _ in asked for label in BY_NAME[name].labels} | {"instance"}
        assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= labels


def test_every_query_is_one(tmp_path: Path) -> None:
    rules = [
        {"record": f"panel:{number}", "expr": query.replace("$database", ".*")}
        for number, query in enumerate(queries())
    ]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    done = subprocess.run(
        ["promtool", "check", "rules", str(file)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_a_variable_asks_for_is_exported() -> None:
    (query,) = (one["query"]["query"] for one in DASHBOARD["templating"]["list"] if one["type"] == "query")
    name, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", query).groups()  # type: ignore[union-attr]
    assert label in BY_NAME[name].labels


def test_nothing_overlaps() -> None:
    taken = [
        {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        for place in (panel["gridPos"] for panel in DASHBOARD["panels"])
    ]
    assert all(x < 24 for cells in taken for x, _ in cells)
    assert not any(one & other for one, other in combinations(taken, 2))
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)


def test_it_is_provisioned() -> None:
    (provider,) = yaml.safe_load((GRAFANA / "provisioning/dashboards/pgfleet.yml").read_text())["providers"]
    assert provider["type"] == "file"
    (source,) = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yml").read_text())[
        "datasources"
    ]
    assert source["type"] == "prometheus"
