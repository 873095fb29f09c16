"""The kubelet's pod-resources API: which pod has which device of this node."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Self

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from tidegate.readings import Absent

METHOD: Final = "/v1.PodResourcesLister/List"
_DEADLINE_S: Final = 0.5

_FIELD: Final = descriptor_pb2.FieldDescriptorProto
_MESSAGES: Final = {
    "ListPodResourcesRequest": (),
    "ListPodResourcesResponse": (("pod_resources", 1, "PodResources"),),
    "PodResources": (
        ("name", 1, None),
        ("namespace", 2, None),
        ("containers", 3, "ContainerResources"),
    ),
    "ContainerResources": (("name", 1, None), ("devices", 2, "ContainerDevices")),
    "ContainerDevices": (("resource_name", 1, None), ("device_ids", 2, "")),
}
"""By message its fields: name, number, and the message in a list; "" is a list of text.

What else the API tells is passed over, as protobuf passes over fields that it does not know.
"""


def messages() -> Mapping[str, Any]:
    """Build the classes of the API's messages, by name."""
    file = descriptor_pb2.FileDescriptorProto(
        name="tidegate/pod_resources.proto", package="v1", syntax="proto3"
    )
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, of in fields:
            told = message.field.add(
                name=field,
                number=number,
                label=_FIELD.LABEL_OPTIONAL if of is None else _FIELD.LABEL_REPEATED,
                type=_FIELD.TYPE_MESSAGE if of else _FIELD.TYPE_STRING,
            )
            if of:
                told.type_name = f".v1.{of}"
    # In a pool of its own: another client of the API in this process may have the same names.
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"v1.{name}"))
        for name in _MESSAGES
    }


class PodResources:
    """Asks the kubelet on its unix socket, with a deadline of 0.5 s."""

    def __init__(self, socket: Path) -> None:
        self._channel: Any = grpc.aio.insecure_channel(f"unix:{socket}")
        self._request = messages()["ListPodResourcesRequest"]()
        self._list = self._channel.unary_unary(
            METHOD,
            request_serializer=lambda request: request.SerializeToString(),
            response_deserializer=messages()["ListPodResourcesResponse"].FromString,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._channel.close()

    async def owners(self) -> dict[str, tuple[str, ...]] | Absent:
        """Return the names of the pods that have each device, by the device's id.

        Of a card that is shared in time the copies count as one. Absent, with the reason, where
        the kubelet does not answer.
        """
        try:
            told = await self._list(self._request, timeout=_DEADLINE_S)
        except grpc.aio.AioRpcError as error:
            return Absent(f"pod-resources: {error.code().name}: {error.details()}")
        found: dict[str, set[str]] = {}
        for pod in told.pod_resources:
            for container in pod.containers:
                for devices in container.devices:
                    for device in devices.device_ids:
                        found.setdefault(device.partition("::")[0], set()).add(pod.name)
        return {device: tuple(sorted(pods)) for device, pods in found.items()}
