"""Charts with a lane for each tier, so that tiers at the same level hide nothing of each other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from console.axis import SAMPLES, Options, Window, base
from console.history import DEMAND_QUANTITIES, History, Quantity
from console.palette import ABSENT, INK, MUTED, REFUSED, Colour, tier_colours
from console.series import Point, summed
from console.words import share, title

_LEFT_PX: Final = 64
_RIGHT_PX: Final = 78
_AXIS_SHARE: Final = 0.12
_GAP_SHARE: Final = 0.025
_COUNTS_AS_SOME_RPS: Final = 0.5


@dataclass(frozen=True, slots=True)
class Area:
    """One filled curve of a lane."""

    colour: Colour
    opacity: float
    points: Sequence[Point]


@dataclass(frozen=True, slots=True)
class Lane:
    """One lane: its label, the value to read now, and areas from the back to the front."""

    label: str
    value: str
    areas: Sequence[Area]


def exposure_chart(history: History) -> Options:
    """Draw each feature's exposure, a lane for each tier."""
    intent = history.snapshot.intent
    features = tuple(intent.features) if intent else ()
    colours = tier_colours(intent, history.tiers())
    lanes: list[Lane] = []
    for feature in features:
        for tier in history.tiers():
            series = history.series(Quantity.EXPOSURE, feature, tier)
            label = title(tier) if len(features) == 1 else f"{feature} {title(tier)}"
            area = Area(colours[tier], 0.8, series.until(history.now))
            lanes.append(Lane(label, _share(series.last), (area,)))
    return _draw(history, lanes, top=1.0, is_stepped=True)


def gate_chart(history: History, pool: str) -> Options:
    """Draw how far a pool's gate is open, a lane for each tier; most are never gated."""
    intent = history.snapshot.intent
    colours = tier_colours(intent, history.tiers())
    lanes: list[Lane] = []
    for tier in history.tiers():
        if intent is not None and not intent.tiers[tier].gated:
            whole = ((history.began_at(), 1.0), (history.now, 1.0))
            lanes.append(Lane(title(tier), "never gated", (Area(ABSENT, 0.25, whole),)))
        else:
            series = history.series(Quantity.CEILING, pool, tier)
            area = Area(colours[tier], 0.8, series.until(history.now))
            lanes.append(Lane(title(tier), _share(series.last), (area,)))
    return _draw(history, lanes, top=1.0, is_stepped=True)


def demand_chart(history: History, pool: str) -> Options:
    """Draw demand by tier: admitted in front, refused by the gate on it, not exposed behind."""
    colours = tier_colours(history.snapshot.intent, history.tiers())
    lanes: list[Lane] = []
    highest_rps = 1.0
    for tier in history.tiers():
        admitted, refused, outside = (
            history.series(quantity, pool, tier).thinned(SAMPLES) for quantity in DEMAND_QUANTITIES
        )
        asked = summed(admitted, refused, outside)
        highest_rps = max(highest_rps, *(rps or 0.0 for _, rps in asked))
        areas = (
            Area(ABSENT, 0.4, asked),
            Area(REFUSED, 1.0, summed(admitted, refused)),
            Area(colours[tier], 1.0, admitted),
        )
        lanes.append(Lane(title(tier), _rates(history, pool, tier), areas))
    return _draw(history, lanes, top=highest_rps, is_stepped=False)


def _share(value: float | None) -> str:
    return "absent" if value is None else share(value)


def _rates(history: History, pool: str, tier: str) -> str:
    admitted, refused, _ = (
        history.series(quantity, pool, tier).last for quantity in DEMAND_QUANTITIES
    )
    if admitted is None or refused is None:
        return "absent"
    return f"{admitted:.0f}/s" + (f" −{refused:.0f}" if refused >= _COUNTS_AS_SOME_RPS else "")


def _draw(history: History, lanes: Sequence[Lane], *, top: float, is_stepped: bool) -> Options:
    window = Window.of(history)
    places = [_place(i, len(lanes)) for i in range(len(lanes))]
    last = len(lanes) - 1
    return base() | {
        "grid": [place | {"left": _LEFT_PX, "right": _RIGHT_PX} for place in places],
        "title": [text for i, lane in enumerate(lanes) for text in _texts(lane, places[i])],
        "xAxis": [window.axis(is_labelled=i == last) | {"gridIndex": i} for i in range(len(lanes))],
        "yAxis": [
            {"type": "value", "gridIndex": i, "min": 0, "max": top, "show": False}
            for i in range(len(lanes))
        ],
        "series": [
            _curve(window, lane.label, i, area, is_stepped=is_stepped)
            for i, lane in enumerate(lanes)
            for area in lane.areas
        ],
    }


def _place(lane: int, of: int) -> Options:
    height = (1.0 - _AXIS_SHARE) / of
    return {
        "top": f"{(lane * height + _GAP_SHARE) * 100:.2f}%",
        "height": f"{(height - _GAP_SHARE) * 100:.2f}%",
    }


def _texts(lane: Lane, place: Mapping[str, object]) -> list[Options]:
    label: Options = {"top": place["top"], "padding": [2, 0]}
    strong: Options = {"color": INK.css, "fontSize": 12, "fontWeight": 500}
    plain: Options = {"color": MUTED.css, "fontSize": 12, "fontWeight": 400}
    return [
        label | {"text": lane.label, "left": 0, "textStyle": strong},
        label | {"text": lane.value, "right": 0, "textStyle": plain},
    ]


def _curve(window: Window, name: str, lane: int, area: Area, *, is_stepped: bool) -> Options:
    return {
        "name": name,
        "type": "line",
        "xAxisIndex": lane,
        "yAxisIndex": lane,
        "step": "end" if is_stepped else False,
        "symbol": "none",
        "lineStyle": {"width": 1.2, "color": area.colour.css, "opacity": area.opacity},
        "areaStyle": {"color": area.colour.css, "opacity": area.opacity * 0.8},
        "data": window.data(area.points),
        "silent": True,
    }
