"""Pods of the manifests, run by the container engine: what a kubelet does of it, as far as it concerns pgfleet.

No scheduler, no services and no network policies: those are a cluster's. User, group, capabilities, read-only root,
limits, arguments, environment, volumes with their owners and modes, probes and grace periods are the manifests'.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Any

from tests.deploy.engine import IMAGE, docker, logs, until
from tests.kubernetes import Manifest

FS_GROUP = 1000
_UNITS = {"Ki": "k", "Mi": "m", "Gi": "g"}


class Node:
    """One network, one directory, and what was started on them."""

    def __init__(self, scratch: Path) -> None:
        self.name = f"pgfleet-test-{secrets.token_hex(3)}"
        self._scratch = scratch
        self._pods: list[Pod] = []
        self._others: list[str] = []
        docker("network", "create", self.name)

    def service(
        self, name: str, image: str, *options: str, names: tuple[str, ...], command: tuple[str, ...] = ()
    ) -> str:
        """A container that pods find by `names`; its name."""
        container = f"{self.name}-{name}"
        aliases = [f"--network-alias={one}" for one in names]
        self._others.append(container)
        docker(
            "run",
            "--detach",
            "--network",
            self.name,
            *aliases,
            "--name",
            container,
            *options,
            image,
            *command,
        )
        return container

    def start(self, pod: Manifest, maps: dict[str, Manifest], keys: dict[str, dict[str, str]]) -> Pod:
        """keys: secret → key → content."""
        made = Pod(self, pod, self._volumes(pod, maps, keys), maps)
        self._pods.append(made)
        return made

    def _volumes(
        self, pod: Manifest, maps: dict[str, Manifest], keys: dict[str, dict[str, str]]
    ) -> dict[str, list[str]]:
        """Name of a volume → kind and source of a mount."""
        found: dict[str, list[str]] = {}
        for volume in pod["spec"]["volumes"]:
            name = volume["name"]
            if "emptyDir" in volume:
                found[name] = ["volume", self._memory()]
            elif "ephemeral" in volume or "persistentVolumeClaim" in volume:
                claim = volume.get("persistentVolumeClaim", {}).get(
                    "claimName", f"{secrets.token_hex(3)}-{name}"
                )
                found[name] = ["volume", self.claim(claim)]
            else:
                found[name] = ["bind", str(self._files(name, _contents(volume, maps, keys), volume))]
        return found

    def _memory(self) -> str:
        volume = f"{self.name}-{secrets.token_hex(3)}"
        options = ("type=tmpfs", "device=tmpfs", f"o=uid=0,gid={FS_GROUP},mode=2777")
        docker("volume", "create", "--driver=local", *(f"--opt={one}" for one in options), volume)
        return volume

    def claim(self, name: str) -> str:
        """A disk as a kubelet hands it over: of root, writable for the pod's group. Kept until the end."""
        volume = f"{self.name}-{name}"
        own = f"chown root:{FS_GROUP} /disk && chmod 2775 /disk && mkdir -p -m 0700 /disk/lost+found"
        docker("run", "--rm", "--user=0", "--entrypoint=sh", f"--volume={volume}:/disk", IMAGE, "-c", own)
        return volume

    def _files(self, name: str, contents: dict[str, str], volume: Manifest) -> Path:
        folder = self._scratch / f"{name}-{secrets.token_hex(3)}"
        folder.mkdir()
        folder.chmod(0o755)
        mode = (
            0o644 if "configMap" in volume else volume.get("projected", volume.get("secret"))["defaultMode"]
        )
        for path, content in contents.items():
            (folder / path).write_text(content)
            os.chown(folder / path, 0, FS_GROUP)
            (folder / path).chmod(mode)
        return folder

    def remove(self) -> None:
        for pod in self._pods:
            docker("rm", "--force", "--volumes", pod.name, ok=False)
        for name in self._others:
            docker("rm", "--force", "--volumes", name, ok=False)
        for volume in docker("volume", "ls", "--quiet", "--filter", f"name={self.name}").split():
            docker("volume", "rm", volume, ok=False)
        docker("network", "rm", self.name, ok=False)


def _contents(volume: Manifest, maps: dict[str, Manifest], keys: dict[str, dict[str, str]]) -> dict[str, str]:
    if "configMap" in volume:
        return dict(maps[volume["configMap"]["name"]]["data"])
    if "secret" in volume:
        return keys[volume["secret"]["secretName"]]
    sources = [source["secret"] for source in volume["projected"]["sources"]]
    return {item["path"]: keys[one["name"]][item["key"]] for one in sources for item in one["items"]}


class Pod:
    def __init__(
        self, node: Node, pod: Manifest, volumes: dict[str, list[str]], maps: dict[str, Manifest]
    ) -> None:
        spec, (container,) = pod["spec"], pod["spec"]["containers"]
        self._spec, self._container = spec, container
        self.name = f"{node.name}-{container['name']}-{secrets.token_hex(2)}"
        user, own = spec["securityContext"], container["securityContext"]
        argv = [
            "--network", node.name, "--name", self.name, "--hostname", f"pgfleet-{container['name']}-0",
            f"--user={user['runAsUser']}:{user['runAsGroup']}", f"--group-add={user['fsGroup']}",
            f"--read-only={str(own['readOnlyRootFilesystem']).lower()}",
            *(f"--cap-drop={one}" for one in own["capabilities"]["drop"]),
            f"--security-opt=no-new-privileges:{str(not own['allowPrivilegeEscalation']).lower()}",
            f"--memory={_size(container['resources']['limits']['memory'])}", "--no-healthcheck",
        ]  # fmt: skip
        for name, value in _environment(container, maps).items():
            argv.append(f"--env={name}={value}")
        for mount in container["volumeMounts"]:
            argv += _mount(
                mount, volumes.get(mount["name"]) or ["volume", node.claim(mount["name"] + "-" + self.name)]
            )
        docker("run", "--detach", *argv, IMAGE, *[str(word) for word in container["args"]])

    def ready(self) -> bool:
        """By its own readiness probe."""
        return docker(
            "exec", self.name, *self._container["readinessProbe"]["exec"]["command"], ok=False
        ).startswith("0 ")

    def running(self) -> bool:
        return docker("inspect", "--format={{.State.Running}}", self.name).strip() == "true"

    def wait_ready(self, seconds: float = 600) -> None:
        until(lambda: self.ready() or not self.running(), seconds, lambda: logs(self.name))
        assert self.running(), logs(self.name)

    def sh(self, *words: str, ok: bool = True) -> str:
        return docker("exec", self.name, *words, ok=ok)

    def wait(self) -> int:
        """Until it has ended; its exit code."""
        return int(docker("wait", self.name))

    def stop(self) -> int:
        """As for an eviction; its exit code, 137 when its grace period was too short."""
        docker("stop", "--time", str(self._spec["terminationGracePeriodSeconds"]), self.name)
        return self.wait()


def _environment(container: Manifest, maps: dict[str, Manifest]) -> dict[str, str]:
    given: dict[str, str] = {}
    for source in container.get("envFrom", ()):
        given |= maps[source["configMapRef"]["name"]]["data"]
    return given | {one["name"]: one["value"] for one in container["env"]}


def _mount(mount: dict[str, Any], source: list[str]) -> list[str]:
    below = f"/{mount['subPath']}" if "subPath" in mount else ""
    # What the image has at that place is not copied: a kubelet does not either.
    options = [*(["nocopy"] if source[0] == "volume" else []), *(["ro"] if mount.get("readOnly") else [])]
    return [f"--volume={source[1]}{below}:{mount['mountPath']}:{','.join(options or ['rw'])}"]


def _size(quantity: str) -> str:
    return quantity[:-2] + _UNITS[quantity[-2:]]
