"""The panels of a story's picture, each drawn from the history into axes of its own."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC
from typing import Final

from matplotlib.axes import Axes

from console.decisions import forecast_of
from console.history import History, Quantity
from console.palette import (
    ABSENT,
    ARRIVING,
    INK,
    INSTALLED,
    MUTED,
    NEEDED,
    READY,
    REFUSED,
    tier_colours,
)
from console.series import Point, summed
from console.stages import tiers_of
from console.times import Clock
from console.words import listed, title
from tidegate.snapshot import DateRange

_DAY_S: Final = 86_400.0

_WORTH_SHOWING: Final = 0.12
"""A wait shorter than this share of the story leaves no room to say what was told."""

NAME_LEFT: Final = -0.068
"""Where names begin, as a share of the axes' width."""


@dataclass(frozen=True, slots=True)
class Scene:
    """What every panel needs: the history, and when things were in the story."""

    history: History
    clock: Clock

    def at(self, instant: float) -> float:
        """Return an instant of the story as matplotlib counts days."""
        return self.clock(instant).replace(tzinfo=UTC).timestamp() / _DAY_S

    def curve(self, points: Iterable[Point]) -> tuple[list[float], list[float]]:
        """Return points to draw; a hole is a gap."""
        kept = tuple(points)
        return (
            [self.at(at) for at, _ in kept],
            [math.nan if value is None else value for _, value in kept],
        )

    def level(self, quantity: Quantity, of: str, tier: str = "") -> tuple[Point, ...]:
        """Return a level up to the end of the story."""
        return self.history.series(quantity, of, tier).until(self.history.now)


def lane_names(history: History) -> list[tuple[str, str]]:
    """Name each lane's feature and tier, in the order they are drawn."""
    intent = history.snapshot.intent
    features = tuple(intent.features) if intent else ()
    return [(feature, tier) for feature in features for tier in history.tiers()]


def draw_exposure(scene: Scene, lanes: Sequence[Axes]) -> None:
    """Fill each tier's lane as far as it is exposed, with what a waiting one was told."""
    history = scene.history
    colours = tier_colours(history.snapshot.intent, history.tiers())
    names = lane_names(history)
    features = {feature for feature, _ in names}
    for axes, (feature, tier) in zip(lanes, names, strict=False):
        instants, values = scene.curve(scene.level(Quantity.EXPOSURE, feature, tier))
        axes.fill_between(instants, values, step="post", color=colours[tier].light, lw=0)
        axes.set_ylim(0, 1.02)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        label = title(tier) if len(features) == 1 else f"{feature} {title(tier)}"
        axes.text(NAME_LEFT, 0.42, label, transform=axes.transAxes, va="center")
        _show_forecast(scene, axes, tier)


def _show_forecast(scene: Scene, axes: Axes, tier: str) -> None:
    """Show what a tier was told on its longest wait: the first range and the last, as they lay."""
    began_at, ended_at, told = _longest_wait(scene.history, tier)
    if ended_at - began_at < _WORTH_SHOWING * (scene.history.now - scene.history.began_at()):
        return
    words = "waits, date unknown"
    if told:
        words = f"waits, told {_range(scene, told[0])}"
        axes.hlines(0.28, *_ends(scene, told[0]), color=ABSENT.light, lw=4)
    if told and _range(scene, told[-1]) != _range(scene, told[0]):
        words += f", at last {_range(scene, told[-1])}"
        axes.hlines(0.28, *_ends(scene, told[-1]), color=INK.light, lw=4)
    begins, ends = scene.at(began_at), scene.at(ended_at)
    axes.hlines(0.28, begins, ends, color=MUTED.light, lw=1, ls=(0, (1, 2)))
    axes.text(begins, 0.68, words, va="center", fontsize=7.5, color=MUTED.light)


def _longest_wait(history: History, tier: str) -> tuple[float, float, list[DateRange]]:
    """Return when a tier's longest wait began and ended, and the ranges it was told in it."""
    longest: tuple[float, float, list[DateRange]] = (history.now, history.now, [])
    began_at: float | None = None
    told: list[DateRange] = []
    for event in history.events:
        if tier not in tiers_of(event):
            continue
        at = event.at.timestamp()
        if event.type == "stage.forecast":
            began_at = at if began_at is None else began_at
            told += [opens] if (opens := forecast_of(event)) else []
        elif event.type == "stage.advanced" and began_at is not None:
            longest = max(longest, (began_at, at, told), key=lambda wait: wait[1] - wait[0])
            began_at, told = None, []
    if began_at is not None:
        longest = max(longest, (began_at, history.now, told), key=lambda wait: wait[1] - wait[0])
    return longest


def _ends(scene: Scene, opens: DateRange) -> tuple[float, float]:
    return scene.at(opens.p50.timestamp()), scene.at(opens.p90.timestamp())


def _range(scene: Scene, opens: DateRange) -> str:
    p50, p90 = (scene.clock(instant.timestamp()) for instant in (opens.p50, opens.p90))
    return f"{p50:%H:%M}–{p90:%H:%M}"


def draw_gate(scene: Scene, axes: Axes, pool: str) -> None:
    """Draw the share of each gated tier that the gate lets in."""
    history = scene.history
    intent = history.snapshot.intent
    colours = tier_colours(intent, history.tiers())
    gated = [t for t in history.tiers() if intent is not None and intent.tiers[t].gated]
    for tier in gated:
        instants, values = scene.curve(scene.level(Quantity.CEILING, pool, tier))
        axes.fill_between(instants, values, step="post", color=colours[tier].light, alpha=0.3, lw=0)
        axes.step(instants, values, where="post", color=colours[tier].light, lw=1.6)
    axes.set_ylim(0, 1.05)
    axes.set_yticks([0, 0.5, 1], ["0%", "50%", "100%"])
    _name(axes, f"Share of {listed(gated)} let in by the gate" if gated else "Gate")


def draw_gpus(scene: Scene, axes: Axes, pool: str) -> None:
    """Draw the GPUs ready and loading, within those installed, against those needed."""
    ready = scene.level(Quantity.READY_GPUS, pool)
    coming = summed(ready, scene.level(Quantity.LOADING_GPUS, pool))
    for points, colour, name in ((coming, ARRIVING, "loading"), (ready, READY, "ready")):
        instants, values = scene.curve(points)
        axes.fill_between(instants, values, step="post", color=colour.light, lw=0, label=name)
    for quantity, colour, dash, name in (
        (Quantity.INSTALLED_GPUS, INSTALLED, "-", "installed"),
        (Quantity.NEEDED_GPUS, NEEDED, (0, (4, 2)), "needed"),
    ):
        instants, values = scene.curve(scene.level(quantity, pool))
        axes.step(instants, values, where="post", color=colour.light, ls=dash, lw=1.6, label=name)
    axes.set_ylim(bottom=0)
    axes.locator_params(axis="y", integer=True, nbins=4)
    _name(axes, "GPUs")
    _legend(axes)


def draw_demand(scene: Scene, axes: Axes, pool: str) -> None:
    """Stack what is admitted of each tier, then what the gate refused; all who asked above."""
    tiers = scene.history.tiers()
    colours = tier_colours(scene.history.snapshot.intent, tiers)

    def by_tier(quantity: Quantity) -> list[tuple[Point, ...]]:
        return [tuple(scene.history.series(quantity, pool, tier).points) for tier in tiers]

    admitted = by_tier(Quantity.ADMITTED_RPS)
    for count, tier in enumerate(tiers, start=1):
        _stack(scene, axes, admitted[:count], facecolor=colours[tier].light)
    asked = admitted + by_tier(Quantity.REFUSED_BY_GATE_RPS)
    _stack(scene, axes, asked, facecolor="white", hatch="/////", label="refused by the gate")
    instants, values = scene.curve(summed(*asked, *by_tier(Quantity.NOT_EXPOSED_RPS)))
    axes.plot(instants, values, color=ABSENT.light, lw=1, ls=(0, (1, 1)), label="not exposed yet")
    axes.set_ylim(bottom=0)
    axes.locator_params(axis="y", nbins=3)
    _name(axes, "Requests a second, admitted by tier")
    _legend(axes)


def _stack(
    scene: Scene,
    axes: Axes,
    layers: Sequence[Sequence[Point]],
    *,
    facecolor: str,
    hatch: str | None = None,
    label: str = "",
) -> None:
    """Fill from the ground to the sum of the layers, behind what has fewer of them."""
    instants, values = scene.curve(summed(*layers))
    axes.fill_between(
        instants,
        values,
        lw=0,
        zorder=1.0 - 0.01 * len(layers),
        facecolor=facecolor,
        edgecolor=REFUSED.light if hatch else "none",
        hatch=hatch,
        label=label,
    )


def draw_wait(scene: Scene, axes: Axes, pool: str) -> None:
    """Draw the mean wait in the queue against its target; absent seconds are gaps."""
    history = scene.history
    instants, values = scene.curve(history.series(Quantity.QUEUE_WAIT_S, pool).points)
    axes.plot(instants, values, color=READY.light, lw=1.4)
    intent = history.snapshot.intent
    if intent is not None and pool in intent.pools:
        target_s = intent.pools[pool].queue_wait_target_s
        axes.axhline(
            target_s, color=NEEDED.light, lw=1, ls=(0, (4, 2)), label=f"target {target_s:g} s"
        )
        _legend(axes)
    axes.set_ylim(bottom=0)
    axes.locator_params(axis="y", nbins=3)
    _name(axes, "Queue wait, seconds")


def _name(axes: Axes, text: str) -> None:
    axes.annotate(
        text,
        (NAME_LEFT, 1.0),
        xytext=(0, 5),
        xycoords="axes fraction",
        textcoords="offset points",
        fontweight="bold",
    )


def _legend(axes: Axes) -> None:
    axes.legend(
        loc="lower right",
        bbox_to_anchor=(1.0, 1.0),
        ncols=5,
        frameon=False,
        fontsize=7.5,
        borderpad=0.25,
        borderaxespad=0.0,
        handlelength=1.7,
        columnspacing=1.6,
    )
