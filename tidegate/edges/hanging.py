"""Calls into a library that may hang for ever: each has its own deadline."""

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Final

Call = Callable[[], object]

_MOST_HUNG: Final = 2
"""With as many calls that hang, whatever they ask is taken not to answer at all."""


@dataclass(slots=True)
class _Round:
    calls: Mapping[str, Call]
    answers: dict[str, object] = field(default_factory=dict)
    ended: Future[None] = field(default_factory=Future)
    at: tuple[str, float] | None = None
    is_left: bool = False


class HangingCalls:
    """Makes calls one after the other in a thread that nobody waits for longer than a deadline.

    The thread of a call that hangs is left to it, and that call is not made again before it has
    come back; a new thread goes on with the others. So there are never more than three threads,
    and a program's end waits for none.
    """

    def __init__(self, name: str, *, deadline_s: float) -> None:
        self._name = name
        self._deadline_s = deadline_s
        self._turn = threading.Lock()
        self._asked: queue.SimpleQueue[_Round] | None = None
        self._hung: set[str] = set()

    @property
    def hung(self) -> frozenset[str]:
        """The calls that have not come back."""
        with self._turn:
            return frozenset(self._hung)

    async def make(self, calls: Mapping[str, Call]) -> dict[str, object]:
        """Return what each call returned, or the exception that it raised; none for what hangs."""
        answers: dict[str, object] = {}
        left = dict(calls)
        while left and len(hung := self.hung) < _MOST_HUNG:
            one = _Round({name: call for name, call in left.items() if name not in hung})
            self._queue().put(one)
            await self._end(one)
            answers |= one.answers
            if not one.is_left or one.at is None:
                break
            names = list(left)
            left = {name: left[name] for name in names[names.index(one.at[0]) + 1 :]}
        return answers

    def _queue(self) -> "queue.SimpleQueue[_Round]":
        if self._asked is None:
            self._asked = queue.SimpleQueue()
            work = threading.Thread(
                target=self._work, args=(self._asked,), name=self._name, daemon=True
            )
            work.start()
        return self._asked

    async def _end(self, one: _Round) -> None:
        """Wait for the round's end, or until one of its calls has had its time."""
        ended = asyncio.wrap_future(one.ended)
        wait_s = self._deadline_s
        while True:
            done, _ = await asyncio.wait([ended], timeout=wait_s)
            if done:
                return
            with self._turn:
                if one.ended.done():
                    return
                wait_s = self._deadline_s
                if one.at is not None:
                    name, began_at = one.at
                    wait_s -= time.monotonic() - began_at
                    if wait_s <= 0.0:
                        one.is_left = True
                        self._hung.add(name)
                        self._asked = None
                        return

    def _work(self, asked: "queue.SimpleQueue[_Round]") -> None:
        while True:
            one = asked.get()
            for name, call in one.calls.items():
                with self._turn:
                    one.at = (name, time.monotonic())
                answer = _answer(call)
                with self._turn:
                    if one.is_left:
                        self._hung.discard(name)
                        return
                    one.answers[name] = answer
            with self._turn:
                one.ended.set_result(None)


def _answer(call: Call) -> object:
    try:
        return call()
    except Exception as error:  # noqa: BLE001 - whoever made the call says which it knows
        return error
