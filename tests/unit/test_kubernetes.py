"""The manifests: accepted by Kubernetes' schemas, and true to what pgfleet is."""

from __future__ import annotations

import copy
import re
from pathlib import Path

import click
import kubernetes_validate
import pytest
from celery.bin.worker import worker

from tests.kubernetes import HERE, Manifest, documents, named, render, secret_files, workloads
from worker.cli import cli
from worker.config.load import load
from worker.config.variables import KNOWN
from worker.steps.doctor import QUEUES

#: Oldest with all that is used (CronJob.timeZone), and the newest that the schemas have.
VERSIONS = ("1.27", "1.37")
BOTH = ("fleet", "cronjob")
#: Settings of the image's entry point.
ENTRYPOINT = {"PGFLEET_FLOWER_PASSWORD_FILE"}
#: Label → the secret whose presence means that the pod has to get there.
REACHES = {
    "broker": "pgfleet-broker",
    "ledger": "pgfleet-ledger",
    "destinations": "pgfleet-bucket",
    "database": "pgfleet-database",
    "drill": "pgfleet-drill-server",
}


@pytest.fixture(params=BOTH)
def manifests(request: pytest.FixtureRequest) -> list[Manifest]:
    return render(HERE / request.param)


@pytest.fixture
def fleet() -> list[Manifest]:
    return render(HERE / "fleet")


def refused(manifest: Manifest, version: str) -> bool:
    try:
        kubernetes_validate.validate(manifest, version, strict=True)
    except kubernetes_validate.ValidationError:
        return True
    return False


def environment(manifests: list[Manifest], container: Manifest) -> dict[str, str]:
    """What the container finds, and nothing that is not there."""
    maps = named(manifests, "ConfigMap")
    given: dict[str, str] = {}
    for source in container.get("envFrom", ()):
        given |= maps[source["configMapRef"]["name"]]["data"]
    return given | {one["name"]: one["value"] for one in container["env"]}


# --- Kubernetes accepts them ---


@pytest.mark.parametrize("version", VERSIONS)
def test_the_schemas_accept_them(manifests: list[Manifest], version: str) -> None:
    for manifest in manifests + documents(HERE / "secrets.example.yaml"):
        kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_wrong_field_is_refused(fleet: list[Manifest], version: str) -> None:
    dump = named(fleet, "StatefulSet")["pgfleet-dump"]
    for path, value in {
        ("spec", "template", "spec", "containers", 0, "readOnlyRootFilesystem"): True,
        ("spec", "template", "spec", "terminationGracePeriod"): 60,
        ("spec", "replicas"): "one",
        ("spec", "template", "spec", "containers", 0, "resources", "limit"): {},
    }.items():
        wrong = copy.deepcopy(dump)
        place = wrong
        for key in path[:-1]:
            place = place[key]  # type: ignore[index]
        place[path[-1]] = value  # type: ignore[index]
        assert refused(wrong, version), path
    assert not refused(dump, version)


def test_names_are_unique(manifests: list[Manifest]) -> None:
    names = [(one["kind"], one["metadata"]["name"]) for one in manifests]
    assert len(set(names)) == len(names)


def test_every_file_is_listed() -> None:
    listed = {HERE / "secrets.example.yaml"}
    for plan in HERE.glob("*/kustomization.yaml"):
        listed |= {plan} | {plan.parent / name for name in documents(plan)[0]["resources"]}
    assert {path for path in HERE.rglob("*.yaml")} <= {path.resolve() for path in listed}


# --- they are locked down ---


def test_pods_may_do_little(manifests: list[Manifest]) -> None:
    assert list(workloads(manifests))
    for name, pod, container in workloads(manifests):
        spec = pod["spec"]
        assert spec["securityContext"] == {
            "runAsNonRoot": True,
            "runAsUser": 1000,
            "runAsGroup": 1000,
            "fsGroup": 1000,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        }, name
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }, name
        assert spec["automountServiceAccountToken"] is False
        # A service would put its address into PGFLEET_…_PORT, and that is no setting.
        assert spec["enableServiceLinks"] is False
        assert {"requests", "limits"} == set(container["resources"])
        assert spec["terminationGracePeriodSeconds"] >= 30


def test_what_is_written_is_a_volume(manifests: list[Manifest]) -> None:
    for name, pod, container in workloads(manifests):
        mounted = {one["mountPath"] for one in container["volumeMounts"]}
        wanted = {"/tmp", "/var/lib/pgfleet"} | ({"/var/spool/pgfleet"} if "envFrom" in container else set())
        assert wanted <= mounted, name
        claims = {one["metadata"]["name"] for one in templates_of(manifests, name)}
        volumes = {one["name"] for one in pod["spec"]["volumes"]} | claims
        assert {one["name"] for one in container["volumeMounts"]} == volumes, name


def templates_of(manifests: list[Manifest], name: str) -> list[Manifest]:
    found = named(manifests, "StatefulSet").get(f"pgfleet-{name}")
    return found["spec"]["volumeClaimTemplates"] if found else []


# --- they name what there is ---


def test_every_secret_and_key_exists(manifests: list[Manifest]) -> None:
    example = {
        one["metadata"]["name"]: set(one["stringData"]) for one in documents(HERE / "secrets.example.yaml")
    }
    maps = named(manifests, "ConfigMap")
    claims = named(manifests, "PersistentVolumeClaim")
    used = set()
    for name, pod, container in workloads(manifests):
        files = secret_files(pod)
        for secret, key in files.values():
            assert key in example[secret], name
            used.add(secret)
        for volume in pod["spec"]["volumes"]:
            if "secret" in volume:
                used.add(volume["secret"]["secretName"])
                assert volume["secret"]["secretName"] in example
            if "configMap" in volume:
                assert volume["configMap"]["name"] in maps
            if "persistentVolumeClaim" in volume:
                assert volume["persistentVolumeClaim"]["claimName"] in claims
        paths = {one["value"] for one in container["env"] if one["name"].endswith("_FILE")}
        assert paths <= set(files), name
        spare = set(files) - paths
        # One is named by restore.toml, the other where somebody has uncommented it.
        assert spare <= {f"/run/secrets/pgfleet/{name}" for name in ("drill_password", "notify_urls")}, name
    assert used <= set(example)


def test_every_secret_of_the_example_is_used() -> None:
    both = render(HERE / "fleet") + render(HERE / "cronjob")
    used = {secret for _, pod, _ in workloads(both) for secret, _ in secret_files(pod).values()}
    used |= {
        v["secret"]["secretName"]
        for _, pod, _ in workloads(both)
        for v in pod["spec"]["volumes"]
        if "secret" in v
    }
    assert used == {one["metadata"]["name"] for one in documents(HERE / "secrets.example.yaml")}


def test_only_the_roles_that_need_one_have_a_secret(fleet: list[Manifest]) -> None:
    has = {name: {secret for secret, _ in secret_files(pod).values()} for name, pod, _ in workloads(fleet)}
    common = {"pgfleet-broker", "pgfleet-ledger", "pgfleet-bucket"}
    assert has == {
        "control": common | {"pgfleet-notify"},
        "dump": common | {"pgfleet-database"},
        "verify": common,
        "restore": common | {"pgfleet-database", "pgfleet-drill-server", "pgfleet-gpg-passphrase"},
        "beat": {"pgfleet-broker"},
        "flower": {"pgfleet-broker", "pgfleet-flower"},
        "exporter": common,
    }
    private = {name for name, pod, _ in workloads(fleet) if "pgfleet-private-keys" in str(pod)}
    assert private == {"restore"}


def test_every_variable_is_a_setting(manifests: list[Manifest]) -> None:
    for name, _, container in workloads(manifests):
        assert set(environment(manifests, container)) <= KNOWN | ENTRYPOINT, name
    assert "S3_BUKET" not in KNOWN | ENTRYPOINT


def test_the_settings_of_each_role_are_accepted(manifests: list[Manifest], tmp_path: Path) -> None:
    """By the program itself, with a file for each secret."""
    for name, pod, container in workloads(manifests):
        given = {
            key: value for key, value in environment(manifests, container).items() if key not in ENTRYPOINT
        }
        for path in secret_files(pod):
            (tmp_path / Path(path).name).write_text(
                "redis://there/0" if "broker" in path else "postgresql://u@there/l"
            )
        given = {key: value.replace("/run/secrets/pgfleet", str(tmp_path)) for key, value in given.items()}
        if "PGFLEET_CONFIG" in given:
            text = named(manifests, "ConfigMap")["pgfleet-targets"]["data"]["restore.toml"]
            (tmp_path / "restore.toml").write_text(text.replace("/run/secrets/pgfleet", str(tmp_path)))
            given["PGFLEET_CONFIG"] = str(tmp_path / "restore.toml")
        settings = load(given | {"HOME": str(tmp_path)})
        if "envFrom" in container:
            assert list(settings.databases) == ["shop"], name
            assert [one.bucket for one in settings.destinations.values()] == ["shop-backups"], name


# --- they do what has to be done ---


def words(container: Manifest) -> list[str]:
    return [str(word) for word in container["args"]]


def test_every_command_is_one(manifests: list[Manifest]) -> None:
    entrypoint = (HERE.parent / "image" / "entrypoint").read_text()
    roles = set(re.findall(r"^  ([a-z]+)\)$", entrypoint, re.MULTILINE))
    for name, _, container in workloads(manifests):
        first, *rest = words(container)
        if first == "worker":
            parse(worker, rest)
        elif first in roles:
            assert not rest, name
        else:
            command = cli.get_command(click.Context(cli), first)
            assert command is not None, first
            parse(command, rest)


def parse(command: click.Command, arguments: list[str]) -> None:
    """Raises click.UsageError for an option that the command has not."""
    parser = command.make_parser(click.Context(command))
    _, left, _ = parser.parse_args(list(arguments))
    assert not left


def test_a_command_that_is_none_would_be_noticed() -> None:
    command = cli.get_command(click.Context(cli), "backup")
    assert command is not None
    with pytest.raises(click.UsageError):
        parse(command, ["--hear"])
    with pytest.raises(click.UsageError):
        parse(worker, ["--concurency", "2"])


def test_every_queue_is_taken_and_no_other(fleet: list[Manifest]) -> None:
    taken = set()
    for _, _, container in workloads(fleet):
        given = words(container)
        if given[0] == "worker":
            taken |= set(given[given.index("-Q") + 1].split(","))
    assert taken == set(QUEUES)


def test_what_stages_files_keeps_its_disk(fleet: list[Manifest]) -> None:
    sets = named(fleet, "StatefulSet")
    assert set(sets) == {"pgfleet-dump", "pgfleet-restore"}
    for name, one in sets.items():
        assert "spool" in {claim["metadata"]["name"] for claim in one["spec"]["volumeClaimTemplates"]}
        assert named(fleet, "Service")[one["spec"]["serviceName"]]["spec"]["clusterIP"] == "None", name


def test_there_is_one_clock(fleet: list[Manifest]) -> None:
    beat = named(fleet, "Deployment")["pgfleet-beat"]["spec"]
    assert (beat["replicas"], beat["strategy"]) == (1, {"type": "Recreate"})


def test_probes_ask_the_role_and_no_broker_can_kill_a_worker(fleet: list[Manifest]) -> None:
    source = (HERE.parent / "image" / "healthcheck").read_text()
    for name, _, container in workloads(fleet):
        role = words(container)[0]
        for probe in ("startupProbe", "readinessProbe"):
            assert container[probe]["exec"]["command"] == ["healthcheck", role], name
        assert f'"{role}"' in source
        assert ("livenessProbe" in container) == (role != "worker"), name


def test_budgets_leave_a_pod_to_be_moved(fleet: list[Manifest]) -> None:
    deployments = named(fleet, "Deployment")
    for name, one in named(fleet, "PodDisruptionBudget").items():
        assert one["spec"]["minAvailable"] < deployments[name]["spec"]["replicas"]
        assert one["spec"]["selector"] == deployments[name]["spec"]["selector"]


def test_selectors_find_their_pods(fleet: list[Manifest]) -> None:
    pods = [pod["metadata"]["labels"].items() for _, pod, _ in workloads(fleet)]
    for one in fleet:
        selector = one["spec"].get("selector") if "spec" in one else None
        if selector:
            wanted = selector.get("matchLabels", selector).items()
            assert sum(wanted <= labels for labels in pods) == 1, one["metadata"]["name"]


# --- the network ---


def test_a_pod_reaches_what_it_has_a_secret_for(manifests: list[Manifest]) -> None:
    for name, pod, _ in workloads(manifests):
        has = {secret for secret, _ in secret_files(pod).values()}
        labelled = {
            key.removeprefix("pgfleet/reaches-") for key in pod["metadata"]["labels"] if "/reaches-" in key
        }
        assert labelled == {what for what, secret in REACHES.items() if secret in has}, name


def test_nothing_goes_in_or_out_but_what_is_listed(manifests: list[Manifest]) -> None:
    policies = named(manifests, "NetworkPolicy")
    assert policies["pgfleet-nothing"]["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    ports = {
        "broker": 6379, "ledger": 5432, "database": 5432, "drill": 5432, "destinations": 443,
    }  # fmt: skip
    settings = named(manifests, "ConfigMap")["pgfleet-settings"]["data"]
    assert settings["DB_PORT"] == "5432"
    assert settings["S3_ENDPOINT"].startswith("https://")
    urls = {
        one["metadata"]["name"]: one["stringData"].get("url", "")
        for one in documents(HERE / "secrets.example.yaml")
    }
    assert ":6379/" in urls["pgfleet-broker"]
    assert ":5432/" in urls["pgfleet-ledger"]
    for what, port in ports.items():
        (rule,) = policies[f"pgfleet-reaches-{what}"]["spec"]["egress"]
        assert rule == {"ports": [{"protocol": "TCP", "port": port}]}
        assert policies[f"pgfleet-reaches-{what}"]["spec"]["podSelector"]["matchLabels"] == {
            f"pgfleet/reaches-{what}": "true"
        }


def test_who_is_asked_listens_there(fleet: list[Manifest]) -> None:
    listening = {
        name: {one["name"]: one["containerPort"] for one in c.get("ports", ())}
        for name, _, c in workloads(fleet)
    }
    assert {name: ports for name, ports in listening.items() if ports} == {
        "flower": {"http": 5555},
        "exporter": {"metrics": 9769},
    }
    for name in ("flower", "exporter"):
        (rule,) = named(fleet, "NetworkPolicy")[f"pgfleet-{name}"]["spec"]["ingress"]
        (port,) = rule["ports"]
        assert port["port"] in listening[name]
        (offered,) = named(fleet, "Service")[f"pgfleet-{name}"]["spec"]["ports"]
        assert offered["targetPort"] in listening[name]
        assert offered["port"] == listening[name][offered["targetPort"]]
