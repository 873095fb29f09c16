"""Nothing that the engine confirms is below the bound, whatever it tries."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from benchmarks.replay.bound import Plant, Programme, Wanted, most_below, solve
from benchmarks.replay.engine import capacity_rps, slots
from benchmarks.replay.fleet import Fleet
from benchmarks.replay.fluid import START_S, Gate, Seen, run_fluid
from benchmarks.replay.schedule import Ahead, Scheduled
from benchmarks.replay.scoring import Score, score
from benchmarks.replay.traces import Day
from tests.benchmarks.traces import a_day

CAPACITY_RPS = capacity_rps(1155.0, 211.0)
LONG_THEN_SHORT = [*[60.0] * 40, *[10.0] * 40] * 4
DAY = a_day([90.0, 90.0, 110.0])


def plant(cold_starts: Sequence[float] = (30.0, 40.0)) -> Plant:
    return Plant(CAPACITY_RPS, slots(1155.0, 211.0), list(cold_starts), most=80)


class Shut:
    """A gate that is shut to Free some seconds of each ten."""

    retry_after_s = 9999.0

    def __init__(self, shut_s: int) -> None:
        self._shut_s = shut_s

    def ceiling(self, seen: Seen) -> float:
        return float(seen.now % 10 >= self._shut_s)


class Queues:
    """A gate that lets in what starts within so many seconds, late for those who pay."""

    retry_after_s = 9999.0

    def __init__(self, wait_s: float, rps: float) -> None:
        self._room = wait_s * rps

    def ceiling(self, seen: Seen) -> float:
        return float(seen.waiting < self._room)


def ran(
    day: Day, replicas: Sequence[int], gate: Gate | None, cold_starts: Sequence[float] = (30.0,)
) -> Score:
    fleet = Fleet(list(cold_starts), bill_from_s=float(START_S))
    fleet.begin(30)
    return score(day, run_fluid(day, fleet, Scheduled(fleet, list(replicas)), gate, most=80))


def bounded(day: Day, scored: Score, cold_starts: Sequence[float] = (30.0,)) -> float:
    """Bound what it takes to have as many attain as a run did."""
    wanted = Wanted(scored.paid_attainment - 1e-9, scored.attainment[2] - 1e-9, 0.0)
    found = solve(day, plant(cold_starts), wanted, windows=240)
    assert isinstance(found, Programme)
    return found.gpu_hours


def steps(*replicas: int, seconds: int = 1200) -> list[int]:
    return np.repeat(replicas, seconds // len(replicas)).tolist()


SCHEDULES: dict[str, list[int]] = {
    "still": steps(26),
    "too few": steps(18),
    "removed together, so that batches are above their slots": steps(34, 17, 34, 17),
    "gone at the end, when whoever runs need not end": [*[26] * 1170, *[1] * 30],
    "up and down": steps(20, 34, 22, 30),
}


@pytest.mark.parametrize("replicas", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize(
    "gate",
    [
        lambda: None,
        lambda: Ahead(DAY),
        lambda: Shut(3),
        lambda: Queues(4.0, 26 * CAPACITY_RPS),
    ],
    ids=["open", "ahead", "shut and open", "queues for as long as Free may"],
)
def test_no_schedule_beats_the_bound_of_what_it_attains(
    replicas: list[int], gate: Callable[[], Gate | None]
) -> None:
    scored = ran(DAY, replicas, gate())
    assert bounded(DAY, scored) <= scored.gpu_hours


@pytest.mark.parametrize("seed", range(4))
def test_no_drawn_schedule_beats_it_either(seed: int) -> None:
    rng = np.random.default_rng(seed)
    day = a_day([80.0, 80.0 + 10.0 * seed, 110.0], seed=seed)
    lengths = rng.integers(5, 300, 40)
    replicas = np.repeat(rng.integers(10, 45, 40), lengths)[:1200].tolist()
    scored = ran(day, replicas, Ahead(day) if seed % 2 else None, LONG_THEN_SHORT)
    assert bounded(day, scored, LONG_THEN_SHORT) <= scored.gpu_hours


def test_the_draws_of_a_run_are_above_their_line_wherever_in_the_list_it_begins() -> None:
    below = most_below(35.0, LONG_THEN_SHORT)
    assert below == pytest.approx(40 * 25.0)
    assert most_below(10.0, LONG_THEN_SHORT) == 0.0


def test_short_draws_that_were_waited_for_do_not_beat_it() -> None:
    replicas = steps(22, 30)
    scored = ran(DAY, replicas, Ahead(DAY), [10.0] * 200)
    assert bounded(DAY, scored, [10.0] * 200 + [60.0] * 200) <= scored.gpu_hours
