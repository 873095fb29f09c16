"""How a loop runs: by events, by its period, through what cannot be reached, and to its end."""

import asyncio
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from structlog.testing import capture_logs

from controllers.loop import run, until_stopped
from tests.embedded.until import until
from tidegate.errors import Unavailable

AWAY = Unavailable("redis: no answer", code="redis-unavailable")
LONG_S = 60.0


@dataclass
class Ticks:
    """A loop that notes when it ticks, and fails where it is told to."""

    at: list[float] = field(default_factory=list)
    fails: Callable[[int], Exception | None] = lambda _: None

    async def tick(self, now: float) -> None:
        self.at.append(now)
        error = self.fails(len(self.at))
        if error is not None:
            raise error


async def _stops(running: asyncio.Task[None], by: signal.Signals = signal.SIGTERM) -> None:
    signal.raise_signal(by)
    await asyncio.wait_for(running, 1.0)


async def test_it_ticks_once_a_period_at_the_time_of_day() -> None:
    ticks = Ticks()
    running = asyncio.create_task(run("test", ticks, period_s=0.05))
    await until(lambda: len(ticks.at) >= 4)
    await _stops(running)
    assert ticks.at[3] - ticks.at[0] >= 0.145
    assert abs(ticks.at[0] - time.time()) < 60.0


async def test_it_wakes_early_when_something_has_happened() -> None:
    happened, ticks = asyncio.Event(), Ticks()
    waits: list[float] = []

    async def wake(wait_s: float) -> None:
        waits.append(wait_s)
        await happened.wait()
        happened.clear()

    running = asyncio.create_task(run("test", ticks, period_s=LONG_S, wake=wake))
    for n in (1, 2, 3):
        await until(lambda n=n: len(ticks.at) == n)
        happened.set()
    await until(lambda: len(waits) == 4)
    await _stops(running)
    assert all(LONG_S - 5.0 < wait_s <= LONG_S for wait_s in waits)


async def test_the_period_is_the_backstop_of_a_wake_that_never_comes() -> None:
    cut_off: list[bool] = []

    async def wake(_: float) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cut_off.append(True)
            raise

    ticks = Ticks()
    running = asyncio.create_task(run("test", ticks, period_s=0.02, wake=wake))
    await until(lambda: len(ticks.at) >= 3)
    await _stops(running)
    assert len(cut_off) >= len(ticks.at) - 1, "none of them is left behind"


async def test_a_wake_that_fails_at_once_is_no_reason_to_tick_without_a_pause() -> None:
    async def wake(_: float) -> None:
        raise AWAY

    ticks = Ticks()
    running = asyncio.create_task(run("test", ticks, period_s=0.1, wake=wake))
    await until(lambda: len(ticks.at) >= 3)
    await _stops(running)
    assert ticks.at[2] - ticks.at[0] >= 0.19


async def test_what_cannot_be_reached_is_logged_when_it_goes_and_when_it_comes_back() -> None:
    ticks = Ticks(fails=lambda n: AWAY if 2 <= n <= 4 or n == 7 else None)
    with capture_logs() as logs:
        running = asyncio.create_task(run("gate", ticks, period_s=0.01))
        await until(lambda: len(ticks.at) >= 9)
        await _stops(running)
    assert [(log["event"], log["loop"]) for log in logs] == [
        ("loop.held", "gate"),
        ("loop.recovered", "gate"),
    ] * 2
    assert (logs[0]["code"], logs[0]["reason"]) == ("redis-unavailable", "redis: no answer")


async def test_while_something_is_away_it_keeps_to_the_period_and_asks_for_no_event() -> None:
    woken: list[int] = []

    async def wake(_: float) -> None:
        woken.append(len(ticks.at))

    ticks = Ticks(fails=lambda n: AWAY if n < 3 else None)
    running = asyncio.create_task(run("test", ticks, period_s=0.02, wake=wake))
    await until(lambda: len(woken) >= 2)
    await _stops(running)
    assert woken[0] == 3


async def test_a_defect_ends_it() -> None:
    ticks = Ticks(fails=lambda _: ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        await run("test", ticks, period_s=LONG_S)


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_lets_the_tick_finish_and_ends_it(by: signal.Signals) -> None:
    begun, may_end, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    class Slow:
        async def tick(self, _: float) -> None:
            begun.set()
            await may_end.wait()
            ended.set()

    running = asyncio.create_task(run("test", Slow(), period_s=LONG_S))
    await begun.wait()
    signal.raise_signal(by)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(running), 0.05)
    may_end.set()
    await asyncio.wait_for(running, 1.0)
    assert ended.is_set()


async def test_waiting_for_the_end_ends_with_a_signal() -> None:
    waiting = asyncio.create_task(until_stopped())
    await asyncio.sleep(0)  # it has begun to listen
    await _stops(waiting)
