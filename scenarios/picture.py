"""A played story as one picture: exposure, gate, GPUs, demand and wait over the story's time."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure

from console.history import History
from console.palette import INK, LINE, MUTED
from console.stages import tiers_of
from console.times import Clock
from console.words import listed, share
from scenarios.panels import (
    Scene,
    draw_demand,
    draw_exposure,
    draw_gate,
    draw_gpus,
    draw_wait,
    lane_names,
)
from tidegate.events import Event

_WIDTH_IN: Final = 9.0
_LANE_IN: Final = 0.3
_LANE_GAP_IN: Final = 0.05
_PANELS_IN: Final = (0.66, 1.2, 1.0, 0.72)
"""Heights of the panels below the lanes: gate, GPUs, demand, wait."""
_HEAD_IN: Final = 0.84
_FOOT_IN: Final = 0.42
_GAP_IN: Final = 0.34
"""Room above each panel for its name and legend."""
_LEFT: Final = 0.075
_RIGHT: Final = 0.985
_LABELS_APART: Final = 0.075
"""Openings closer than this share of the width have their labels on two lines."""
_LABEL_LINE_PT: Final = 11


def draw(history: History, path: Path, *, title: str, story_time: Clock) -> None:
    """Write the picture as an SVG; the same history gives the same bytes.

    `story_time` turns seconds since the epoch into the story's date. Nothing is drawn of a
    history in which no intent was heard, save the empty frame.
    """
    scene = Scene(history, story_time)
    with _style():
        figure, lanes, panels = _frame(scene, title)
        draw_exposure(scene, lanes)
        for pool in history.pools()[:1]:
            draw_gate(scene, panels[0], pool)
            draw_gpus(scene, panels[1], pool)
            draw_demand(scene, panels[2], pool)
            draw_wait(scene, panels[3], pool)
        _mark_openings(scene, (*lanes, *panels))
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})


def _style() -> AbstractContextManager[None]:
    return mpl.rc_context(
        {
            "svg.hashsalt": "tidegate",  # or else its ids differ from run to run
            "font.family": "DejaVu Sans",  # comes with matplotlib, so that every machine has it
            "font.size": 8.5,
            "text.color": INK.light,
            "axes.edgecolor": LINE.light,
            "axes.linewidth": 0.8,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "xtick.color": MUTED.light,
            "ytick.color": MUTED.light,
            "hatch.linewidth": 0.6,
        }
    )


def _frame(scene: Scene, title: str) -> tuple[Figure, list[Axes], list[Axes]]:
    """Lay out the lanes, one a tier, and the panels below them, from the top down."""
    count = max(len(lane_names(scene.history)), 1)
    heights_in = [_LANE_IN] * count + [_GAP_IN + panel_in for panel_in in _PANELS_IN]
    height_in = _HEAD_IN + sum(heights_in) + _FOOT_IN
    figure = Figure(figsize=(_WIDTH_IN, height_in), facecolor="white")
    begins_at, ends_at = _span(scene.history)
    every: list[Axes] = []
    foot_in = height_in - _HEAD_IN
    for tall_in in heights_in:
        foot_in -= tall_in
        inner_in = tall_in - (_GAP_IN if tall_in > _LANE_IN else _LANE_GAP_IN)
        box = (_LEFT, foot_in / height_in, _RIGHT - _LEFT, inner_in / height_in)
        axes = figure.add_axes(box)
        axes.set_xlim(scene.at(begins_at), scene.at(ends_at))
        axes.tick_params(length=0, labelbottom=False)
        every.append(axes)
    locator = AutoDateLocator(minticks=6, maxticks=12)  # type: ignore[no-untyped-call]
    every[-1].xaxis.set_major_locator(locator)
    dates = ConciseDateFormatter(locator, show_offset=False)  # type: ignore[no-untyped-call]
    every[-1].xaxis.set_major_formatter(dates)
    every[-1].tick_params(labelbottom=True)
    _head(figure, title, f"{scene.clock(begins_at):%d %b %Y, %H:%M}–{scene.clock(ends_at):%H:%M}")
    return figure, every[:count], every[count:]


def _span(history: History) -> tuple[float, float]:
    begins_at = history.began_at()
    return begins_at, max(history.now, begins_at + 1.0)


def _head(figure: Figure, title: str, span: str) -> None:
    top = 1.0 - 0.12 / figure.get_figheight()
    figure.text(0.012, top, title, fontsize=14, fontweight="bold", va="top")
    figure.text(_RIGHT, top, span, color=MUTED.light, va="top", ha="right")


def _mark_openings(scene: Scene, every: Sequence[Axes]) -> None:
    """Draw a line through everything where a stage opened, and name the tiers at its top."""
    begins_at, ends_at = _span(scene.history)
    line, before = 0, -1.0
    for event in scene.history.events:
        place = (event.at.timestamp() - begins_at) / (ends_at - begins_at)
        if event.type != "stage.advanced" or place < 0.0:
            continue
        line = 1 - line if place - before < _LABELS_APART else 0
        before = place
        for axes in every:
            axes.axvline(scene.at(event.at.timestamp()), color=INK.light, lw=0.7, alpha=0.45)
        every[0].annotate(
            _opening(event),
            (place, 1.0),
            xytext=(0, 4 + _LABEL_LINE_PT * line),
            xycoords="axes fraction",
            textcoords="offset points",
            ha="center",
            fontweight="bold",
        )


def _opening(event: Event) -> str:
    reached = event.data.get("after")
    tiers = listed(tiers_of(event))
    if isinstance(reached, int | float) and reached < 1.0:
        return f"{tiers} {share(float(reached))}"
    return tiers
