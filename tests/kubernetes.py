"""The manifests as a cluster would get them, with no cluster and no kubectl at hand."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parents[1] / "compose" / "kubernetes"
Manifest = dict[str, Any]
CLUSTER_WIDE = {"Namespace"}
#: Where a kind keeps its pods' template.
TEMPLATES = {
    "Deployment": ("spec", "template"),
    "StatefulSet": ("spec", "template"),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
}


def documents(path: Path) -> list[Manifest]:
    return copy.deepcopy(_read(path))


@cache
def _read(path: Path) -> list[Manifest]:
    return [one for one in yaml.safe_load_all(path.read_text()) if one]


def render(folder: Path) -> list[Manifest]:
    """What ``kubectl kustomize`` makes of it (check_kubernetes.py compares): resources, namespace, images."""
    (plan,) = documents(folder / "kustomization.yaml")
    unknown = set(plan) - {"apiVersion", "kind", "namespace", "resources", "images"}
    assert not unknown, f"kustomization.yaml of {folder.name} has more than this renders: {unknown}"
    made: list[Manifest] = []
    for name in plan["resources"]:
        path = folder / name
        made += render(path) if path.is_dir() else documents(path)
    images = {one["name"]: f"{one['newName']}:{one['newTag']}" for one in plan.get("images", ())}
    for one in made:
        if one["kind"] not in CLUSTER_WIDE:
            one["metadata"]["namespace"] = plan["namespace"]
        for container in containers(one):
            container["image"] = images.get(container["image"], container["image"])
    return made


def template(manifest: Manifest) -> Manifest | None:
    """Of the pods that it starts."""
    if manifest["kind"] not in TEMPLATES:
        return None
    found = manifest
    for key in TEMPLATES[manifest["kind"]]:
        found = found[key]
    return found


def containers(manifest: Manifest) -> list[Manifest]:
    found = template(manifest)
    return found["spec"]["containers"] if found else []


def workloads(manifests: list[Manifest]) -> Iterator[tuple[str, Manifest, Manifest]]:
    """(component, pod template, its one container)."""
    for one in manifests:
        if found := template(one):
            (container,) = found["spec"]["containers"]
            yield container["name"], found, container


def named(manifests: list[Manifest], kind: str) -> dict[str, Manifest]:
    return {one["metadata"]["name"]: one for one in manifests if one["kind"] == kind}


def secret_files(pod: Manifest) -> dict[str, tuple[str, str]]:
    """Path in the container → (secret, key), for single files."""
    mounted = {one["name"]: one["mountPath"] for one in pod["spec"]["containers"][0]["volumeMounts"]}
    return {
        f"{mounted[volume['name']]}/{item['path']}": (source["secret"]["name"], item["key"])
        for volume in pod["spec"]["volumes"]
        for source in volume.get("projected", {}).get("sources", ())
        for item in source["secret"]["items"]
    }
