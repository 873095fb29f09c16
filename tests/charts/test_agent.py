"""The chart's agent: one a node, which sees every GPU there and nothing else that it need not."""

from collections.abc import Mapping
from typing import Any

import pytest

from tests.charts.test_chart import LEAST, SECRET, Document, objects, of_kind
from tidegate.settings import Settings

POOLS = {**LEAST, "pools": {"namespace": "inference"}}


def agent(values: Mapping[str, Any] = POOLS, **own: object) -> Document:
    """Return the spec of an agent's pod, by what is given of `agent`."""
    (found,) = of_kind("DaemonSet", objects({**values, "agent": own})).values()
    spec: Document = found["spec"]["template"]["spec"]
    return spec


def environment(pod: Document) -> dict[str, Any]:
    """Return what its variables say, or are taken from."""
    (container,) = pod["containers"]
    return {each["name"]: each.get("value") or each["valueFrom"] for each in container["env"]}


def test_an_agent_is_told_its_node_and_where_the_pools_are() -> None:
    told = environment(agent(metrics=True))
    assert told.pop("TIDEGATE_NODE") == {"fieldRef": {"fieldPath": "spec.nodeName"}}
    assert told.pop("NVIDIA_VISIBLE_DEVICES") == "all"
    assert told.pop("NVIDIA_DRIVER_CAPABILITIES") == "utility"
    settings = Settings.from_environment({**told, "TIDEGATE_NODE": "gpu-7"})
    assert settings.own_node == "gpu-7"
    assert settings.pools == "kubernetes://inference"
    assert settings.metrics == "0.0.0.0:9464"
    assert "TIDEGATE_REDIS" in environment(agent(SECRET)), "from the Secret, where there is one"


def test_an_agent_may_follow_the_pods_of_the_pools_and_do_nothing_else() -> None:
    documents = objects(POOLS)
    role = of_kind("Role", documents)["launch-tidegate-agent"]
    assert role["metadata"]["namespace"] == "inference"
    assert role["rules"] == [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]}]
    bound = [
        each["metadata"]["name"]
        for kind in ("RoleBinding", "ClusterRoleBinding")
        for each in of_kind(kind, documents).values()
        if any(subject["name"] == "launch-tidegate-agent" for subject in each["subjects"])
    ]
    assert bound == ["launch-tidegate-agent"]


def test_the_kubelet_s_socket_is_mounted_read_only_where_the_settings_say() -> None:
    pod = agent()
    (container,) = pod["containers"]
    volume = next(each for each in pod["volumes"] if "hostPath" in each)
    assert volume["hostPath"] == {"path": "/var/lib/kubelet/pod-resources", "type": "Directory"}
    mount = next(each for each in container["volumeMounts"] if each["name"] == volume["name"])
    assert mount["readOnly"] is True
    socket = environment(pod)["TIDEGATE_POD_RESOURCES"]
    assert socket == f"{mount['mountPath']}/kubelet.sock"
    assert pod["securityContext"]["runAsUser"] == 0, "the socket is root's"


def test_without_the_kubelet_an_agent_is_not_root_and_mounts_nothing_of_its_node() -> None:
    pod = agent(podResources=False)
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert not any("hostPath" in each for each in pod["volumes"])
    assert "TIDEGATE_POD_RESOURCES" not in environment(pod)


@pytest.mark.parametrize("pod_resources", [True, False])
def test_an_agent_shares_nothing_with_its_node_but_that_mount(*, pod_resources: bool) -> None:
    pod = agent(podResources=pod_resources)
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
    (container,) = pod["containers"]
    assert "privileged" not in container["securityContext"]
    assert "nvidia.com/gpu" not in str(container["resources"]), "it takes no GPU from a pool"


def test_agents_are_where_gpus_are_and_not_where_the_rest_is_told_to_be() -> None:
    pod = agent({**POOLS, "nodeSelector": {"role": "control"}, "tolerations": [{"key": "control"}]})
    assert pod["nodeSelector"] == {"nvidia.com/gpu.present": "true"}
    taint = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
    assert pod["tolerations"] == [taint]
    assert pod["runtimeClassName"] == "nvidia"
    assert "runtimeClassName" not in agent(runtimeClassName="")


def test_an_agent_has_a_twentieth_of_a_core_and_100_mib() -> None:
    (container,) = agent()["containers"]
    assert container["resources"]["requests"] == {"cpu": "50m", "memory": "100Mi"}
    assert container["resources"]["limits"] == {"memory": "100Mi"}


@pytest.mark.parametrize("values", [LEAST, {**POOLS, "agent": {"enabled": False}}])
def test_without_pools_or_where_it_is_not_wanted_there_is_no_agent(
    values: Mapping[str, Any],
) -> None:
    names = [each["metadata"]["name"] for each in objects(values)]
    assert not any(name.endswith("-agent") for name in names)
