"""The kubelet's pod-resources API, served over gRPC on a unix socket."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest

from tidegate.edges.pod_resources import METHOD, PodResources, messages
from tidegate.readings import Absent

GPU = "GPU-00000000-0000-0000-0000-000000000000"
OTHER = "GPU-00000000-0000-0000-0000-000000000001"


@dataclass
class Kubelet:
    """Answers List with what it is given: pods, each with its device ids."""

    pods: dict[str, list[str]] = field(default_factory=dict)
    error: grpc.StatusCode | None = None

    async def answer(self, _: object, context: grpc.aio.ServicerContext) -> object:
        if self.error is not None:
            await context.abort(self.error, "not now")
        reply = messages()["ListPodResourcesResponse"]()
        for name, ids in self.pods.items():
            pod = reply.pod_resources.add(name=name, namespace="inference")
            devices = pod.containers.add(name="engine").devices
            devices.add(resource_name="nvidia.com/gpu", device_ids=ids)
        return reply


@pytest.fixture
async def kubelet(tmp_path: Path) -> AsyncIterator[Kubelet]:
    kubelet = Kubelet()
    server = grpc.aio.server()
    service, _, method = METHOD.removeprefix("/").partition("/")
    handler = grpc.unary_unary_rpc_method_handler(
        kubelet.answer,
        request_deserializer=messages()["ListPodResourcesRequest"].FromString,
        response_serializer=lambda reply: reply.SerializeToString(),
    )
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(service, {method: handler}),)
    )
    server.add_insecure_port(f"unix:{tmp_path / 'kubelet.sock'}")
    await server.start()
    yield kubelet
    await server.stop(None)


async def owners(tmp_path: Path) -> dict[str, tuple[str, ...]] | Absent:
    async with PodResources(tmp_path / "kubelet.sock") as pods:
        return await pods.owners()


async def test_each_device_has_its_pods(kubelet: Kubelet, tmp_path: Path) -> None:
    kubelet.pods = {"chat-1": [GPU, OTHER], "web": []}
    assert await owners(tmp_path) == {GPU: ("chat-1",), OTHER: ("chat-1",)}


async def test_copies_of_a_card_that_is_shared_in_time_are_one_card(
    kubelet: Kubelet, tmp_path: Path
) -> None:
    kubelet.pods = {"chat-2": [f"{GPU}::1"], "chat-1": [f"{GPU}::0"]}
    assert await owners(tmp_path) == {GPU: ("chat-1", "chat-2")}


async def test_a_kubelet_that_is_away_is_absent_and_says_why(tmp_path: Path) -> None:
    told = await owners(tmp_path)
    assert isinstance(told, Absent)
    assert told.reason.startswith("pod-resources: UNAVAILABLE")


async def test_a_kubelet_that_refuses_is_absent(kubelet: Kubelet, tmp_path: Path) -> None:
    kubelet.error = grpc.StatusCode.RESOURCE_EXHAUSTED
    assert await owners(tmp_path) == Absent("pod-resources: RESOURCE_EXHAUSTED: not now")
