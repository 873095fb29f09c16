"""Which GPUs are sick: out of capacity, and an event when that changes."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from tidegate.edges.outbox import Outbox
from tidegate.readings import NodeReading, SickGpu
from tidegate.rules.health import with_health
from tidegate.snapshot import PoolIntent


class SickGpus:
    """Remembers who is sick: a card that says nothing, or a node that is silent, has not mended."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._sick: dict[tuple[str, int], SickGpu] = {}
        self._types: dict[str, str | None] = {}

    def count(self, gpu_type: str) -> int:
        """Count the sick GPUs of a type; one whose node does not say its type counts for each."""
        return sum(1 for node, _ in self._sick if self._types.get(node) in {None, gpu_type})

    async def note(
        self, nodes: Sequence[NodeReading], pools: Mapping[str, PoolIntent], now: float
    ) -> None:
        """Take up what the nodes' agents read; a type that none says is that of its `pools`."""
        for each in nodes:
            node = with_health(each)
            serving = {pools[e.pool].gpu_type for e in node.engines if e.pool in pools}
            of_engines = serving.pop() if len(serving) == 1 else self._types.get(node.node)
            self._types[node.node] = node.gpu_type or of_engines
            for gpu in node.sick_gpus:
                if (node.node, gpu.index) not in self._sick:
                    self._sick[node.node, gpu.index] = gpu
                    await self._tell("gpu.sick", node.node, gpu, gpu.reason, now)
            for index in node.well_gpus:
                mended = self._sick.pop((node.node, index), None)
                if mended is not None:
                    reason = f"no more: {mended.reason}"
                    await self._tell("gpu.mended", node.node, mended, reason, now)

    async def _tell(
        self, event_type: str, node: str, gpu: SickGpu, reason: str, now: float
    ) -> None:
        await self._outbox.tell(
            event_type,
            subject=f"gpu/{node}/{gpu.index}",
            at=datetime.fromtimestamp(now, UTC),
            node=node,
            gpu=gpu.index,
            uuid=gpu.uuid,
            reason=reason,
        )
