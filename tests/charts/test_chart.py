"""The chart renders, and asks for nothing that the processes it starts do not know."""

import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import helm_python
import pytest
import yaml
from helm_python.errors import HelmValuesError

from controllers.__main__ import LOOPS
from embedded.temporal import SEARCH_ATTRIBUTES
from tests.gateway.asking import Asked
from tests.house.checkout import ROOT
from tidegate.edges.record.urls import parse
from tidegate.settings import Settings, variable
from tidegate.signing import load_keyring

CHART: Final = ROOT / "charts/tidegate"
Document = Mapping[str, Any]

LEAST: Final = {"temporal": {"address": "temporal:7233"}, "redis": {"url": "redis://redis:6379/0"}}
SECRET: Final = {
    "temporal": {"address": "temporal:7233", "ui": "https://temporal.example"},
    "redis": {"secret": {"name": "redis-login"}},
    "callers": {"secret": {"name": "who-vouches"}},
    "keys": {"secret": {"name": "signing", "key": "all.json"}},
    "gateway": {"replicas": 5},
    "console": {"enabled": False},
    "pools": {"namespace": "inference"},
    "record": {"secret": {"name": "record-login", "key": "dsn"}},
    "image": {"repository": "images.example/tidegate", "pullSecrets": [{"name": "pull"}]},
    "podAnnotations": {"team": "serving"},
    "nodeSelector": {"kubernetes.io/os": "linux"},
    "tolerations": [{"key": "control", "operator": "Exists"}],
    "serviceAccount": {"annotations": {"team": "serving"}},
}
SHARED: Final = {**LEAST, "record": {"url": "postgresql://gate@db/record"}}
GIVEN: Final = pytest.mark.parametrize(
    "values", [LEAST, SECRET, SHARED], ids=["least", "all", "shared"]
)
MADE_UP: Final = {
    "TIDEGATE_REDIS": "rediss://:secret@redis:6379/0",
    "TIDEGATE_RECORD": "postgresql://gate:secret@db/record",
    "TIDEGATE_NODE": "launch-tidegate-capacity-5d8f7c9b6d-x2x4z",
}


def render(values: Mapping[str, Any], name: str = "launch") -> dict[str, str]:
    """Return what `helm template` would write, by file."""
    with helm_python.Chart.load(CHART) as chart:
        chart.validate_schema(dict(values))
        return chart.render(dict(values), name=name, namespace="serving")


def objects(values: Mapping[str, Any], name: str = "launch") -> list[Document]:
    """Return the objects that would be created."""
    texts = [text for file, text in render(values, name).items() if file.endswith(".yaml")]
    return [each for text in texts for each in yaml.safe_load_all(text) if each]


def of_kind(kind: str, documents: list[Document]) -> dict[str, Document]:
    """Return the objects of a kind by name."""
    return {each["metadata"]["name"]: each for each in documents if each["kind"] == kind}


def pods(documents: list[Document]) -> Iterator[tuple[str, Document]]:
    """Yield each workload's name and the spec of its pods."""
    for kind in ("Deployment", "DaemonSet"):
        for name, workload in of_kind(kind, documents).items():
            yield name, workload["spec"]["template"]["spec"]


def containers(documents: list[Document]) -> Iterator[Document]:
    """Yield every container of ours, not the front's."""
    for _, pod in pods(documents):
        yield from (each for each in pod["containers"] if each["name"] != "front")


def gateway_pod(documents: list[Document]) -> dict[str, Document]:
    """Return the containers of a gateway's pod by name."""
    pod = dict(pods(documents))["launch-tidegate-gateway"]
    return {each["name"]: each for each in pod["containers"]}


def settings_of(values: Mapping[str, Any]) -> dict[str, str]:
    """Return the settings that the processes get, secrets made up."""
    documents = objects(values)
    (config,) = (
        each["data"]
        for each in of_kind("ConfigMap", documents).values()
        if "TIDEGATE_TEMPORAL" in each["data"]
    )
    own = [
        entry
        for each in containers(documents)
        for entry in each.get("env", ())
        if not entry["name"].startswith("NVIDIA_")
    ]
    told = {entry["name"]: entry.get("value") or MADE_UP[entry["name"]] for entry in own}
    return {**config, **told}


@GIVEN
def test_every_variable_is_a_setting_and_every_value_does(values: Mapping[str, Any]) -> None:
    environment = settings_of(values)
    assert set(environment) <= {variable(name) for name in Settings.model_fields}
    settings = Settings.from_environment(environment)
    assert settings.temporal == "temporal:7233"
    assert "TIDEGATE_REDIS" in environment
    parse(settings.record)


def test_a_password_is_in_a_secret_and_only_with_those_who_use_it() -> None:
    documents = objects(SECRET)
    held = [each["data"] for each in of_kind("ConfigMap", documents).values()]
    assert not any({"TIDEGATE_REDIS", "TIDEGATE_RECORD"} & set(data) for data in held)
    for each in containers(documents):
        given = {entry["name"]: entry.get("valueFrom", {}) for entry in each["env"]}
        named = {name: of["secretKeyRef"] for name, of in given.items() if "secretKeyRef" in of}
        assert named.pop("TIDEGATE_REDIS") == {"name": "redis-login", "key": "url"}
        record = {"TIDEGATE_RECORD": {"name": "record-login", "key": "dsn"}}
        assert named == (record if each["name"] in {"recorder", "gate"} else {})


@pytest.mark.parametrize("values", [SECRET, SHARED])
def test_a_record_that_is_shared_needs_no_volume(values: Mapping[str, Any]) -> None:
    documents = objects(values)
    assert of_kind("PersistentVolumeClaim", documents) == {}
    (recorder,) = dict(pods(documents))["launch-tidegate-recorder"]["containers"]
    assert [mount["name"] for mount in recorder["volumeMounts"]] == ["tmp"]


def test_a_record_of_the_recorders_own_is_on_a_volume_that_outlives_the_release() -> None:
    documents = objects({**LEAST, "record": {"size": "20Gi", "storageClass": "fast"}})
    (claim,) = of_kind("PersistentVolumeClaim", documents).values()
    assert claim["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert claim["spec"]["storageClassName"] == "fast"
    (recorder,) = dict(pods(documents))["launch-tidegate-recorder"]["containers"]
    folders = [mount["mountPath"] for mount in recorder["volumeMounts"]]
    assert settings_of(LEAST)["TIDEGATE_RECORD"] == f"sqlite:///{folders[-1]}/record.db"


def files_of(part: str, documents: list[Document]) -> dict[str, str]:
    """Return where a part of the release has files of which Secrets."""
    pod = dict(pods(documents))[f"launch-tidegate-{part}"]
    mounts = {mount["name"]: mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
    return {
        f"{mounts[volume['name']]}/{item['path']}": volume["secret"]["secretName"]
        for volume in pod["volumes"]
        if "secret" in volume
        for item in volume["secret"]["items"]
    }


def test_who_vouches_and_what_signs_is_where_the_settings_say() -> None:
    settings = Settings.from_environment(settings_of(SECRET))
    callers, keys = {str(settings.callers): "who-vouches"}, {str(settings.keys_file): "signing"}
    documents = objects(SECRET)
    assert files_of("gateway", documents) == {**callers, **keys}
    for part in ("publisher", "worker", "gate"):
        assert files_of(part, documents) == keys
    for part in ("recorder",):
        assert files_of(part, documents) == {}


def test_without_keys_whoever_needs_some_can_make_its_own() -> None:
    settings = Settings.from_environment(settings_of(LEAST))
    assert settings.callers is None
    documents = objects(LEAST)
    for part in ("gateway", "publisher", "gate"):
        assert files_of(part, documents) == {}
        pod = dict(pods(documents))[f"launch-tidegate-{part}"]
        mounted = {mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
        assert str(settings.keys_file.parent) in mounted


@pytest.mark.parametrize("values", [LEAST, SECRET])
def test_the_notes_say_what_is_lacking_while_it_is(values: Mapping[str, Any]) -> None:
    notes = render(values)["tidegate/templates/NOTES.txt"]
    for setting in ("callers.secret.name", "keys.secret.name", "record.secret.name"):
        assert (f"--set {setting}" in notes) is (values is LEAST)


def test_the_keys_that_the_notes_make_are_keys(tmp_path: Path) -> None:
    notes = render(LEAST)["tidegate/templates/NOTES.txt"]
    (command,) = re.findall(r"^ *(printf .+)$", notes, re.MULTILINE)
    subprocess.run(["sh", "-c", command], cwd=tmp_path, check=True)
    load_keyring(tmp_path / "keys.json").sign("pass", {})


@GIVEN
def test_every_process_is_one_that_the_image_has(values: Mapping[str, Any]) -> None:
    started: dict[str, list[str]] = {}
    for each in containers(objects(values)):
        words = [*each.get("command", ()), *each.get("args", ())]
        started[each["name"]] = (
            re.findall(r"[\w.-]+", " ".join(words).partition(" -m ")[2]) or words
        )
    rooms = {words[0] for words in started.values()}
    copied = re.findall(r"^COPY (\w+) \w+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert rooms <= set(copied)
    assert all((ROOT / room / "__main__.py").exists() for room in rooms)
    loops = {words[1] for words in started.values() if words[0] == "controllers"}
    # The notifier is for whoever names receivers.
    absent = {"notifier"} if "pools" in values else {"agent", "notifier", "capacity"}
    assert loops == set(LOOPS) - absent


async def test_the_probes_ask_for_pages_that_the_gateway_serves() -> None:
    gateway, front = gateway_pod(objects(LEAST)).values()
    asked = {front["readinessProbe"]["httpGet"]["path"]}
    for probe in ("startupProbe", "livenessProbe"):
        asked |= set(re.findall(r"http://127\.0\.0\.1:8080(/\w+)", str(gateway[probe])))
    assert asked == {"/healthz", "/readyz"}
    app = Asked()
    assert (await app.get("/healthz")).status == 200
    assert (await app.get("/readyz")).status == 503, "ready only once a snapshot has been heard"


def test_what_is_reached_from_outside_the_pod_does_not_listen_on_its_loopback() -> None:
    documents = objects(LEAST)
    gateway, front = gateway_pod(documents).values()
    (conf,) = (
        each["data"]["nginx.conf"]
        for each in of_kind("ConfigMap", documents).values()
        if "nginx.conf" in each["data"]
    )
    (port,) = (each["containerPort"] for each in front["ports"])
    assert f"listen {port};" in conf
    assert "server 127.0.0.1:8080;" in conf
    assert "--port 8080" in gateway["command"][-1]
    assert "ports" not in gateway
    assert settings_of(LEAST)["TIDEGATE_GATEWAY"] == "http://127.0.0.1:8080"


@GIVEN
def test_what_is_referred_to_is_there(values: Mapping[str, Any]) -> None:
    documents = objects(values)
    there = {kind: set(of_kind(kind, documents)) for kind in ("ConfigMap", "ServiceAccount")}
    claims = set(of_kind("PersistentVolumeClaim", documents))
    for name, pod in pods(documents):
        assert pod["serviceAccountName"] in there["ServiceAccount"]
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        for volume in volumes.values():
            assert volume.get("configMap", {}).get("name", "") in there["ConfigMap"] | {""}, name
            assert volume.get("persistentVolumeClaim", {}).get("claimName", "") in claims | {""}
        for each in pod["containers"]:
            assert {mount["name"] for mount in each["volumeMounts"]} <= set(volumes), name
            for source in each.get("envFrom", ()):
                assert source["configMapRef"]["name"] in there["ConfigMap"]


@GIVEN
def test_each_service_selects_pods_that_have_its_port(values: Mapping[str, Any]) -> None:
    documents = objects(values)
    for service in of_kind("Service", documents).values():
        selected = [
            deployment["spec"]["template"]
            for deployment in of_kind("Deployment", documents).values()
            if service["spec"]["selector"].items()
            <= deployment["spec"]["template"]["metadata"]["labels"].items()
        ]
        (template,) = selected
        ports = [
            p["name"] for each in template["spec"]["containers"] for p in each.get("ports", ())
        ]
        assert [port["targetPort"] for port in service["spec"]["ports"]] == ports


@GIVEN
def test_whatever_may_run_only_once_is_never_there_twice(values: Mapping[str, Any]) -> None:
    deployments = of_kind("Deployment", objects(values))
    for loop in ("publisher", "recorder", "gate"):
        spec = deployments[f"launch-tidegate-{loop}"]["spec"]
        assert spec["replicas"] == 1
        assert spec["strategy"] == {"type": "Recreate"}


@GIVEN
def test_no_process_has_rights_that_it_does_not_use(values: Mapping[str, Any]) -> None:
    documents = objects(values)
    kinds = {each["kind"] for each in documents}
    assert bool(kinds & {"Role", "ClusterRole", "RoleBinding"}) is ("pools" in values)
    for name, pod in pods(documents):
        talks_to_kubernetes = name.endswith(("-capacity", "-agent"))
        assert pod["automountServiceAccountToken"] is talks_to_kubernetes, name
        assert (pod["serviceAccountName"] == name) is talks_to_kubernetes, name
        if not name.endswith("-agent"):
            assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for each in pod["containers"]:
            rights = each["securityContext"]
            assert rights["readOnlyRootFilesystem"] is True
            assert rights["allowPrivilegeEscalation"] is False
            assert rights["capabilities"] == {"drop": ["ALL"]}
            assert {"requests", "limits"} <= set(each["resources"])


@pytest.mark.parametrize(
    "release", ["t", "tidegate", "tidegate-of-the-image-service-in-the-second-region", "x" * 53]
)
def test_names_of_pods_stay_within_what_kubernetes_takes(release: str) -> None:
    for name in of_kind("Deployment", objects(LEAST, release)):
        assert len(f"{name}-5d8f7c9b6d-x2x4z") <= 63


def test_the_notes_register_every_search_attribute() -> None:
    notes = render(LEAST)["tidegate/templates/NOTES.txt"]
    (names,) = re.findall(r"for name in (.+); do", notes)
    assert tuple(f"Tidegate{name}" for name in names.split()) == SEARCH_ATTRIBUTES


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({}, "/temporal/address"),
        (
            {"temporal": {"address": "https://temporal"}, "redis": LEAST["redis"]},
            "/temporal/address",
        ),
        ({"temporal": LEAST["temporal"]}, "/redis"),
        ({**LEAST, "redis": {"url": "redis://a", "secret": {"name": "b"}}}, "/redis"),
        ({**LEAST, "gate": {"replicas": 2}}, "/gate"),
        ({**LEAST, "gateway": {"replicas": 0}}, "/gateway/replicas"),
        ({**LEAST, "agent": {"replicas": 2}}, "/agent"),
        ({**LEAST, "pools": {"namespace": "In Ference"}}, "/pools/namespace"),
        ({**LEAST, "callers": {"secret": {"key": "a/b"}}}, "/callers/secret/key"),
        ({**LEAST, "gateway": {"front": {"image": "a", "proxies": ["a proxy"]}}}, "/proxies/0"),
        ({**LEAST, "record": {"size": "much"}}, "/record/size"),
        ({**LEAST, "record": {"url": "mysql://db/record"}}, "/record/url"),
        ({**LEAST, "record": {"url": "postgresql://a/b", "secret": {"name": "c"}}}, "/record"),
    ],
)
def test_a_wrong_value_is_refused_by_its_name(wrong: Mapping[str, Any], named: str) -> None:
    with pytest.raises(HelmValuesError, match=re.escape(named)):
        render(wrong)


@GIVEN
def test_the_notes_say_what_is_lacking_without_pools_and_give_commands_that_are_there(
    values: Mapping[str, Any],
) -> None:
    notes = render(values)["tidegate/templates/NOTES.txt"]
    assert ("--set pools.namespace=" in notes) is ("pools" not in values)
    assert "--address temporal:7233" in notes
    assert "deploy/launch-tidegate-worker" in notes
    assert ("port-forward" in notes) is values.get("console", {}).get("enabled", True)


def test_the_chart_has_no_fault_that_helm_would_find() -> None:
    found = helm_python.lint(str(CHART), dict(LEAST))
    assert found["errors"] == []
    assert [m["error"] for m in found["messages"] if "icon" not in m["error"]] == []


def test_the_image_is_built_from_what_is_there_on_a_python_that_does() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    sent = (ROOT / ".dockerignore").read_text().split()
    (python,) = re.findall(r"^ARG PYTHON=(\S+)$", dockerfile, re.MULTILINE)
    assert f'requires-python = ">={python}"' in (ROOT / "pyproject.toml").read_text()
    for line in re.findall(r"^COPY (?!--)(.+) \S+$", dockerfile, re.MULTILINE):
        for source in line.split():
            assert (ROOT / source).exists()
            assert f"!{source}" in sent


def test_the_chart_is_of_the_version_of_the_project() -> None:
    version = yaml.safe_load(Path(CHART / "Chart.yaml").read_text())["appVersion"]
    assert f'version = "{version}"' in (ROOT / "pyproject.toml").read_text()
