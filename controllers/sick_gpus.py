"""Which GPUs are sick: out of capacity, and an event when that changes."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from tidegate.cluster import NodeGpus
from tidegate.edges.outbox import News, Outbox, news
from tidegate.readings import NodeReading, SickGpu
from tidegate.rules.health import with_health
from tidegate.snapshot import PoolIntent

_DELETED_FOR_S: Final = 60.0
"""So long the agent of a node that its cluster does not have must be silent: one that is new there
may be heard before it is seen."""
_SILENT_FOR_S: Final = 86_400.0
"""So long it must be silent where nobody says which nodes there are."""


class SickGpus:
    """Remembers who is sick: a card that says nothing, or a node that is silent, has not mended."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._sick: dict[tuple[str, int], SickGpu] = {}
        self._types: dict[str, str | None] = {}
        self._heard_at: dict[str, float] = {}

    def count(self, gpu_type: str, nodes: Mapping[str, NodeGpus] | None = None) -> int:
        """Count the sick GPUs of a type that its cluster counts as GPUs.

        One whose node does not say its type counts for each. On a node that takes no pods, and
        where a device plugin has withdrawn as many, they are out of the cluster's count already.
        """
        counted = 0
        for node, sick in Counter(node for node, _ in self._sick).items():
            seen = (nodes or {}).get(node)
            told = self._types.get(node) if seen is None or not seen.gpu_type else seen.gpu_type
            if told in {None, gpu_type}:
                left = sick if seen is None else min(seen.counted, sick - seen.withdrawn)
                counted += max(0, left)
        return counted

    async def note(
        self, nodes: Sequence[NodeReading], pools: Mapping[str, PoolIntent], now: float
    ) -> None:
        """Take up what the nodes' agents read; a type that none says is that of its `pools`."""
        found: list[News] = []
        # Of nearly all nodes every card is well: these are not looked up one by one.
        sick_nodes = {name for name, _ in self._sick}
        for each in nodes:
            node = with_health(each)
            self._heard_at[node.node] = node.at
            serving = {pools[e.pool].gpu_type for e in node.engines if e.pool in pools}
            of_engines = serving.pop() if len(serving) == 1 else self._types.get(node.node)
            self._types[node.node] = node.gpu_type or of_engines
            for gpu in node.sick_gpus:
                if (node.node, gpu.index) not in self._sick:
                    self._sick[node.node, gpu.index] = gpu
                    found.append(_news("gpu.sick", node.node, gpu, gpu.reason, now))
            for index in node.well_gpus if node.node in sick_nodes else ():
                mended = self._sick.pop((node.node, index), None)
                if mended is not None:
                    reason = f"no more: {mended.reason}"
                    found.append(_news("gpu.mended", node.node, mended, reason, now))
        await self._outbox.tell_all(found)

    def gone(self, nodes: Mapping[str, NodeGpus] | None, now: float) -> Sequence[str]:
        """Name the nodes that are gone for good.

        Gone is one that its cluster does not have and whose agent is silent for a minute; where
        the cluster tells no nodes apart, one whose agent is silent for a day.
        """
        silent_for_s = _SILENT_FOR_S if nodes is None else _DELETED_FOR_S
        return [
            node
            for node, heard_at in self._heard_at.items()
            if now - heard_at > silent_for_s and node not in (nodes or ())
        ]

    async def forget(self, nodes: Sequence[str], now: float) -> None:
        """Count the GPUs of these nodes no more: they are gone, and so are the nodes."""
        found: list[News] = []
        for node in nodes:
            for index in sorted(index for name, index in self._sick if name == node):
                gpu = self._sick.pop((node, index))
                reason = f"its node is gone: {gpu.reason}"
                found.append(_news("gpu.gone", node, gpu, reason, now))
            self._heard_at.pop(node, None)
            self._types.pop(node, None)
        await self._outbox.tell_all(found)


def _news(event_type: str, node: str, gpu: SickGpu, reason: str, now: float) -> News:
    return news(
        event_type,
        subject=f"gpu/{node}/{gpu.index}",
        at=datetime.fromtimestamp(now, UTC),
        node=node,
        gpu=gpu.index,
        uuid=gpu.uuid,
        reason=reason,
    )
