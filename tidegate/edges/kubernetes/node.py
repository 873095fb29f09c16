"""The pods of inference pools beside an agent: those of its node, and no others."""

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Self

from tidegate.cluster import Pod
from tidegate.edges.kubernetes.api import DEADLINE_S, KubernetesApi
from tidegate.edges.kubernetes.informer import Informer
from tidegate.edges.kubernetes.reading import POOL_LABEL, read_pod
from tidegate.errors import Unavailable


class NodePods:
    """Follows the pods of one namespace that have a pool's label and run on one node.

    Without a `node` it follows them on all nodes: for one agent where nodes are played.
    """

    def __init__(self, api: KubernetesApi, namespace: str, node: str | None) -> None:
        self._informer = Informer(
            api,
            f"/api/v1/namespaces/{namespace}/pods",
            self._note_change,
            selector=POOL_LABEL,
            fields=None if node is None else f"spec.nodeName={node}",
        )
        self._changed = asyncio.Event()
        self._following: asyncio.Task[None] | None = None
        self._was_followed = False

    async def __aenter__(self) -> Self:
        self._following = asyncio.create_task(self._informer.follow(), name="follow a node")
        self._following.add_done_callback(lambda _: self._note_change())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)

    async def pods(self) -> Mapping[str, Sequence[Pod]]:
        """Return the pods by pool.

        Raises Unavailable while what is known may be old, and Refused where it may not be read.
        """
        if not self._was_followed:
            await self._until_followed()
        if self._following is not None and self._is_over():
            await self._following  # raises what ended it
        absent = self._informer.absent
        if absent is not None:
            raise Unavailable(str(absent), code=absent.code)
        self._was_followed = True
        found: dict[str, list[Pod]] = defaultdict(list)
        for each in self._informer.objects.values():
            pod = read_pod(each)
            if pod is not None:
                found[each["metadata"]["labels"][POOL_LABEL]].append(pod)
        return found

    async def _until_followed(self) -> None:
        """Wait for the first list, as long as a call may take."""
        try:
            async with asyncio.timeout(DEADLINE_S):
                while self._informer.absent is not None and not self._is_over():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return

    def _is_over(self) -> bool:
        return self._following is not None and self._following.done()

    def _note_change(self) -> None:
        self._changed.set()
