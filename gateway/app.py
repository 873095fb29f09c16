"""Finds the handler of a request: by method and path, or by what a path begins with."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import structlog

from gateway.replies import Answer, Reply, Request, Stream, problem

_log = structlog.get_logger(__name__)

Handler = Callable[[Request], Answer | Stream]
"""Answers at once, or where a user's quota has to be asked for, in a while that is bounded."""

BROKEN: Final = "this gateway failed to answer; its log says why"
_ANY: Final = b"*"
_REMEMBERED: Final = 1_024
_LONGEST_REMEMBERED: Final = 256


@dataclass(frozen=True, slots=True)
class Below:
    """Serves all paths that begin with `prefix` and go on; `method` "*" serves every one."""

    method: bytes
    prefix: bytes
    handler: Handler

    def is_above(self, path: bytes) -> bool:
        """Say whether a path goes on below the prefix."""
        return path.startswith(self.prefix) and len(path) > len(self.prefix)

    @property
    def methods(self) -> tuple[bytes, ...]:
        """What it serves; a HEAD is a GET without its body."""
        return (b"GET", b"HEAD") if self.method == b"GET" else (self.method,)


def broken(_: Request) -> Reply:
    """Say that a defect of ours kept a request from being answered."""
    return problem(500, "broken", BROKEN)


class App:
    """Routes by method and exact path first, then by prefix."""

    def __init__(
        self,
        routes: Mapping[tuple[bytes, bytes], Handler],
        below: tuple[Below, ...] = (),
        broken: Callable[[Request], Reply] = broken,
    ) -> None:
        heads = {
            (b"HEAD", path): each for (method, path), each in routes.items() if method == b"GET"
        }
        self._routes = {**heads, **routes}
        self._below = below
        self._broken = broken
        self._found: dict[tuple[bytes, bytes], Handler] = {}
        """Handlers by method and path; a bounded memory of `_find`, which no query gets into."""

    def answer(self, request: Request) -> Answer | Stream:
        """Answer one request; a defect of ours is answered as one, and ends nothing."""
        try:
            handler = self._found.get((request.method, request.target))
            return self._find(request)(request) if handler is None else handler(request)
        except Exception as defect:  # noqa: BLE001 - one defect must not end every connection
            return self.broken(request, defect)

    def broken(self, request: Request, defect: BaseException) -> Reply:
        """Answer a request that met a defect of ours, and log it."""
        _log.error("request.broken", target=request.target[:200], exc_info=defect)
        return self._broken(request)

    def _find(self, request: Request) -> Handler:
        method, path = request.method, request.path
        handler = self._routes.get((method, path))
        if handler is None:
            below = [each for each in self._below if each.is_above(path)]
            if below and below[0].method == _ANY:
                return below[0].handler  # its targets are the clients' own: not worth remembering
            handlers = [each.handler for each in below if method in each.methods]
            if not handlers:
                allowed = {m for m, p in self._routes if p == path}
                return _refusal(path, allowed.union(*(each.methods for each in below)))
            handler = handlers[0]
        if len(path) <= _LONGEST_REMEMBERED:
            if len(self._found) >= _REMEMBERED:
                self._found.clear()
            self._found[method, path] = handler
        return handler


def _refusal(path: bytes, allowed: set[bytes]) -> Handler:
    if not allowed:
        shown = path[:200].decode("latin-1")
        return lambda _: problem(404, "no-such-page", f"nothing is served at {shown}")
    allow = b", ".join(sorted(allowed))

    def refuse(request: Request) -> Reply:
        method = request.method.decode("latin-1")
        detail = f"{method} is not served here, {allow.decode()} is"
        return problem(405, "method-not-allowed", detail, None, (b"allow", allow))

    return refuse
