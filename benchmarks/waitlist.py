"""How often the ranges that a waitlist tells come true: `python -m benchmarks.waitlist`.

Waitlists of many kinds are lived through with the very rule, forecasts and corrections that the
gate process runs. They differ in pace, rush, later arrivals, how many of those called come, claim
window, and for how long the gate is open and shut. A range is right where half of the waits end by
its p50 and nine in ten by its p90.
"""

import argparse
import json
import math
import random
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from matplotlib import pyplot as plt

from controllers.probes import Forecast, Probes
from tidegate.rules.waiting import Wait
from tidegate.rules.waitlist import Seen, Stop, step
from tidegate.snapshot import Lane, WaitlistIntent, WaitlistPart

_STEP_S: Final = 5.0
_STEPS: Final = round(8 * 3600.0 / _STEP_S)
_SCORED_UNTIL_S: Final = 4 * 3600.0
"""What is forecast later could not come true before the end."""
_TIERS: Final = ("plus", "free")
_OPEN: Final = dict.fromkeys(_TIERS, 1.0)
_SHUT: Final = Stop("the gate is shut", by_people=False)
_LENGTHS_S: Final = {"under a minute": 60.0, "1–10 minutes": 600.0, "10–60 minutes": 3600.0}
_LONGER: Final = "over an hour"
_MANY: Final = 50.0


@dataclass(frozen=True, slots=True)
class World:
    """One waitlist's circumstances."""

    pace: WaitlistIntent
    rush: int
    joins_per_s: float
    comes: float
    open_s: float
    shut_s: float


@dataclass(frozen=True, slots=True)
class Scored:
    """A forecast that was no "unknown", and how long the wait took; infinite where it went on."""

    wait: Wait
    took_s: float


def draw_world(generator: random.Random) -> World:
    """Draw a waitlist whose waits last from seconds to hours."""
    calls_per_s = math.exp(generator.uniform(math.log(0.1), math.log(20.0)))
    window_s = generator.choice([60.0, 300.0, 600.0])
    return World(
        pace=WaitlistIntent(calls_per_s=calls_per_s, claim_window_s=window_s),
        rush=round(calls_per_s * generator.uniform(300.0, 7200.0)),
        joins_per_s=calls_per_s * generator.uniform(0.2, 0.9),
        comes=generator.uniform(0.4, 1.0),
        open_s=generator.uniform(120.0, 3600.0),
        shut_s=generator.choice([0.0, 60.0, 300.0, 900.0]),
    )


class Life:
    """One waitlist from its opening on."""

    def __init__(self, world: World, generator: random.Random) -> None:
        self._world = world
        self._generator = generator
        self._part = WaitlistPart(
            feature="image", version=0, issued_at=0.0, expires_at=0.0, lanes={}
        )
        self._probes = {tier: Probes(Lane()) for tier in _TIERS}
        self._issued = dict.fromkeys(_TIERS, world.rush // len(_TIERS))
        self._called = dict.fromkeys(_TIERS, 0)
        self._open: set[Forecast] = set()
        self.scored: list[Scored] = []
        self.unknown = 0

    def run(self) -> None:
        """Live through eight hours, and hold each forecast of the first four against what came."""
        gates = _gates(self._world, self._generator)
        for number in range(_STEPS):
            now = number * _STEP_S
            gate: Mapping[str, float] | Stop = _OPEN if next(gates) else _SHUT
            seen = {tier: self._seen(tier) for tier in _TIERS}
            moved = step(self._part, seen, self._world.pace, gate, now)
            lanes = {tier: self._closed(tier, lane, now) for tier, lane in moved.lanes.items()}
            self._part = moved.model_copy(update={"lanes": lanes})
            for tier in _TIERS:
                self._forecast(tier)
        for forecast in self._open:
            self._score(forecast, math.inf)

    def _seen(self, tier: str) -> Seen:
        world, generator = self._world, self._generator
        self._issued[tier] += _poisson(world.joins_per_s * _STEP_S / len(_TIERS), generator)
        below = self._part.lanes.get(tier, Lane()).called_below
        came = sum(generator.random() < world.comes for _ in range(below - self._called[tier]))
        self._called[tier] = below
        return Seen(self._issued[tier], came)

    def _closed(self, tier: str, lane: Lane, now: float) -> Lane:
        probes = self._probes[tier]
        for forecast in probes.close(lane.called_below, now):
            self._open.discard(forecast)
            self._score(forecast, now - forecast.made_at)
        return lane.model_copy(update={"late": probes.late(now)})

    def _forecast(self, tier: str) -> None:
        made = self._probes[tier].make(self._part, tier, self._world.pace, None)
        if made is not None:
            self._open.add(made)

    def _score(self, forecast: Forecast, took_s: float) -> None:
        if forecast.made_at >= _SCORED_UNTIL_S:
            return
        if forecast.wait is None:
            self.unknown += 1
        else:
            self.scored.append(Scored(forecast.wait, took_s))


def measure(worlds: int) -> dict[str, object]:
    """Return how often ranges held, over all and by length of the wait that was told."""
    scored: list[Scored] = []
    unknown = 0
    for number in range(worlds):
        generator = random.Random(number)
        life = Life(draw_world(generator), generator)
        life.run()
        scored += life.scored
        unknown += life.unknown
        _tell(f"waitlist {number + 1} of {worlds}: {len(scored)} forecasts")
    by_length: dict[str, list[Scored]] = {name: [] for name in (*_LENGTHS_S, _LONGER)}
    for each in scored:
        fits = (name for name, most_s in _LENGTHS_S.items() if each.wait.p50_s < most_s)
        by_length[next(fits, _LONGER)].append(each)
    return {
        "waitlists": worlds,
        **_held(scored),
        "unknown_share": round(unknown / (unknown + len(scored)), 3),
        "p90_over_p50": round(statistics.median(s.wait.p90_s / s.wait.p50_s for s in scored), 2),
        "by_length": {name: _held(each) for name, each in by_length.items()},
    }


def draw(found: dict[str, object], path: Path) -> None:
    """Draw how often waits ended by what was told, beside how often they should."""
    lengths: dict[str, dict[str, float]] = found["by_length"]  # type: ignore[assignment]
    figure, axes = plt.subplots(figsize=(7.2, 3.6))
    for offset, quantile, colour in ((-0.18, "p50", "#5b8def"), (0.18, "p90", "#e8833a")):
        heights = [each[f"by_{quantile}"] for each in lengths.values()]
        places = [place + offset for place in range(len(lengths))]
        bars = axes.bar(places, heights, 0.34, color=colour, label=f"ended by its {quantile}")
        axes.bar_label(bars, [f"{height:.0%}" for height in heights], color="#777", fontsize=9)
        axes.axhline(int(quantile[1:]) / 100.0, color=colour, linestyle="--", linewidth=1.0)
    axes.set_xticks(
        range(len(lengths)), [f"{n}\n{e['forecasts']:,.0f}" for n, e in lengths.items()]
    )
    axes.set_ylim(0.0, 1.08)
    axes.yaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    axes.set_ylabel("share of waits")
    axes.set_xlabel("wait that was told (p50), and how many forecasts")
    axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2, frameon=False)
    for spine in ("top", "right"):
        axes.spines[spine].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Measure, draw where asked to, and print; the last line is one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the last line only")
    parser.add_argument("--waitlists", type=int, default=60)
    parser.add_argument("--plot", type=Path, help="an SVG file to draw")
    arguments = parser.parse_args()
    found = measure(arguments.waitlists)
    if arguments.plot is not None:
        draw(found, arguments.plot)
    if not arguments.json:
        for key, value in found.items():
            print(f"{key:16} {value}")  # noqa: T201 - what a benchmark is for
    print(json.dumps(found))  # noqa: T201


def _held(scored: Sequence[Scored]) -> dict[str, object]:
    def share(bound_s: Callable[[Wait], float]) -> float:
        ended = sum(each.took_s <= bound_s(each.wait) for each in scored)
        return round(ended / max(1, len(scored)), 3)

    return {
        "forecasts": len(scored),
        "by_p50": share(lambda wait: wait.p50_s),
        "by_p90": share(lambda wait: wait.p90_s),
    }


def _gates(world: World, generator: random.Random) -> Iterator[bool]:
    """Yield for each step whether the gate is open; both times are drawn anew each time."""
    is_open = True
    while True:
        mean_s = world.open_s if is_open else world.shut_s
        length = round(generator.expovariate(1.0 / mean_s) / _STEP_S) if mean_s else 0
        yield from [is_open] * length
        is_open = not is_open


def _poisson(mean: float, generator: random.Random) -> int:
    if mean > _MANY:  # where the normal curve is as good
        return max(0, round(generator.gauss(mean, mean**0.5)))
    count, product = 0, generator.random()
    while product > math.exp(-mean):
        count, product = count + 1, product * generator.random()
    return count


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201 - long work shows progress


if __name__ == "__main__":
    main()
