"""Which GPUs are sick: out of capacity, and an event when that changes."""

from collections.abc import Sequence
from datetime import UTC, datetime

from tidegate.edges.outbox import Outbox
from tidegate.readings import GpuReading, NodeReading
from tidegate.rules.health import sickness


class SickGpus:
    """Remembers who is sick: a card that says nothing, or a node that is silent, has not mended."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._sick: dict[tuple[str, int], str] = {}
        self._types: dict[str, str | None] = {}

    def count(self, gpu_type: str) -> int:
        """Count the sick GPUs of a type; one whose node does not say its type counts for each."""
        return sum(1 for node, _ in self._sick if self._types.get(node) in {None, gpu_type})

    async def note(self, nodes: Sequence[NodeReading], now: float) -> None:
        """Take up what the nodes' agents read."""
        for node in nodes:
            self._types[node.node] = node.gpu_type
            for gpu in node.gpus or ():
                await self._note(node.node, gpu, now)

    async def _note(self, node: str, gpu: GpuReading, now: float) -> None:
        key = (node, gpu.index)
        reason = sickness(gpu)
        if (reason is not None) == (key in self._sick):
            return
        if reason is None and gpu.hung:
            return
        if reason is not None:
            self._sick[key] = reason
        await self._outbox.tell(
            "gpu.mended" if reason is None else "gpu.sick",
            subject=f"gpu/{node}/{gpu.index}",
            at=datetime.fromtimestamp(now, UTC),
            node=node,
            gpu=gpu.index,
            uuid=gpu.uuid,
            reason=reason or f"no more: {self._sick.pop(key)}",
        )
