"""Objects of one kind as the API server has them: listed once, and then followed."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import aclosing
from typing import Final

import structlog

from tidegate.edges.kubernetes.api import OPENED, Expired, Json, KubernetesApi, Throttled
from tidegate.errors import Unavailable

log = structlog.get_logger()

_BACK_OFF_FIRST_S: Final = 0.1
_BACK_OFF_MOST_S: Final = 5.0
_LISTED_AT_ONCE: Final = "500"


class Informer:
    """Follows a collection; `objects` is current only while `absent` is None."""

    def __init__(
        self,
        api: KubernetesApi,
        path: str,
        changed: Callable[[], None],
        *,
        selector: str | None = None,
        fields: str | None = None,
    ) -> None:
        self._api = api
        self._path = path
        self._changed = changed
        self._query = {} if selector is None else {"labelSelector": selector}
        if fields is not None:
            self._query["fieldSelector"] = fields
        self._found: dict[str, Json] = {}
        self.absent: Unavailable | None = Unavailable(
            f"kubernetes: {path} was not listed yet", code="kubernetes-unavailable"
        )

    @property
    def objects(self) -> Mapping[str, Json]:
        """What is known, by uid."""
        return self._found

    async def follow(self) -> None:
        """List and watch for ever.

        Waits longer each time that the server does not answer, and at least for as long as it asks
        to be left alone. Raises Refused where this may not be read.
        """
        back_off_s = 0.0
        after: str | None = None
        while True:
            try:
                if after is None:
                    after = await self._list()
                watch = self._api.watch(self._path, query=self._query, after=after)
                async with aclosing(watch):
                    async for kind, what in watch:
                        self._is_current()
                        back_off_s = 0.0
                        if kind != OPENED:
                            self._take(kind, what)
                            after = what["metadata"]["resourceVersion"]
            except Expired:
                after = None
            except Unavailable as error:
                self._is_absent(error)
                back_off_s = min(max(_BACK_OFF_FIRST_S, 2.0 * back_off_s), _BACK_OFF_MOST_S)
                asked_s = error.retry_after_s if isinstance(error, Throttled) else 0.0
                await asyncio.sleep(max(back_off_s, asked_s))

    async def _list(self) -> str:
        """Read everything anew, page by page; returns the resource version that it is as of."""
        found: dict[str, Json] = {}
        query = {**self._query, "limit": _LISTED_AT_ONCE}
        while True:
            page = await self._api.get(self._path, query=query)
            found |= {each["metadata"]["uid"]: each for each in page.get("items") or ()}
            following = page["metadata"].get("continue")
            if not following:
                break
            query["continue"] = following
        self._found = found
        self._changed()
        return str(page["metadata"]["resourceVersion"])

    def _take(self, kind: str, what: Json) -> None:
        if kind == "BOOKMARK":
            return
        uid = what["metadata"]["uid"]
        if kind == "DELETED":
            self._found.pop(uid, None)
        else:
            self._found[uid] = what
        self._changed()

    def _is_current(self) -> None:
        if self.absent is not None:
            self.absent = None
            self._changed()

    def _is_absent(self, why: Unavailable) -> None:
        if self.absent is None:
            log.warning("kubernetes.not_followed", path=self._path, reason=str(why))
        self.absent = why
