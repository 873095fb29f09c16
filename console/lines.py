"""Charts of one pool: its GPUs, and the wait in its queue."""

from collections.abc import Iterable
from typing import Final

from console.axis import SAMPLES, Options, Window, base
from console.history import History, Quantity
from console.palette import ARRIVING, INK, INSTALLED, LINE, MUTED, NEEDED, READY, Colour
from console.series import Point, summed

_GRID: Final[Options] = {"left": 30, "right": 12, "top": 26, "bottom": 22}
_LEAST_WAIT_S: Final = 0.5


def gpu_chart(history: History, pool: str) -> Options:
    """Draw the GPUs that a pool needs, has ready, has coming, and that are installed."""
    window = Window.of(history)
    needed, ready, loading, installed = (
        history.series(quantity, pool).until(history.now)
        for quantity in (
            Quantity.NEEDED_GPUS,
            Quantity.READY_GPUS,
            Quantity.LOADING_GPUS,
            Quantity.INSTALLED_GPUS,
        )
    )
    return base() | {
        "grid": _GRID,
        "legend": _legend(),
        "xAxis": window.axis(),
        "yAxis": _axis(minInterval=1),
        "series": [
            _filled("arriving", ARRIVING, window.data(summed(ready, loading))),
            _filled("ready", READY, window.data(ready)),
            _stepped("installed", INSTALLED, window.data(installed), width=1.5, dash="solid"),
            _stepped("needed", NEEDED, window.data(needed), width=2.2, dash=[5, 3]),
        ],
    }


def wait_chart(history: History, pool: str) -> Options:
    """Draw the mean wait in a pool's queue against its target; absent seconds are gaps."""
    window = Window.of(history)
    waits = history.series(Quantity.QUEUE_WAIT_S, pool).thinned(SAMPLES)
    intent = history.snapshot.intent
    target_s = intent.pools[pool].queue_wait_target_s if intent and pool in intent.pools else None
    top_s = _rounded_up(max(_highest(waits), (target_s or 0.0) * 1.3, _LEAST_WAIT_S))
    return base() | {
        "grid": _GRID,
        "xAxis": window.axis(),
        "yAxis": _axis(max=top_s, interval=top_s / 2),
        "series": [
            {
                "name": "queue wait",
                "type": "line",
                "symbol": "circle",
                "symbolSize": 3,
                "showSymbol": True,
                "lineStyle": {"width": 2, "color": READY.css},
                "itemStyle": {"color": READY.css},
                "areaStyle": {"color": READY.css, "opacity": 0.15},
                "data": window.data(waits),
                "silent": True,
                "markLine": _target(target_s),
            }
        ],
    }


def _highest(points: Iterable[Point]) -> float:
    return max((value for _, value in points if value is not None), default=0.0)


def _rounded_up(value: float) -> float:
    """Return the next of 1, 2, 4 or their tenfolds, so that the axis moves rarely."""
    step = 0.1
    while value > step * 10:
        step *= 10
    return next(round(step * f, 3) for f in (1, 2, 4, 10) if value <= step * f)


def _target(target_s: float | None) -> Options:
    if target_s is None:
        return {"data": []}
    return {
        "silent": True,
        "symbol": "none",
        "label": {
            "formatter": f"target {target_s:g} s",
            "position": "insideStartTop",
            "color": NEEDED.css,
            "fontSize": 11,
        },
        "lineStyle": {"color": NEEDED.css, "type": "dashed", "width": 1.5},
        "data": [{"yAxis": target_s}],
    }


def _legend() -> Options:
    return {
        "top": 0,
        "left": 0,
        "itemWidth": 16,
        "itemHeight": 9,
        "itemGap": 12,
        "selectedMode": False,
        "textStyle": {"color": INK.css, "fontSize": 11},
        "data": [
            {"name": "needed", "icon": "path://M0,4h4v2h-4z M6,4h4v2h-4z M12,4h4v2h-4z"},
            {"name": "ready", "icon": "roundRect"},
            {"name": "arriving", "icon": "roundRect"},
            {"name": "installed", "icon": "path://M0,4h16v1.5h-16z"},
        ],
    }


def _axis(**more: object) -> Options:
    return {
        "type": "value",
        "min": 0,
        "splitNumber": 3,
        "axisLabel": {"color": MUTED.css, "fontSize": 10},
        "splitLine": {"lineStyle": {"color": LINE.css}},
        **more,
    }


def _filled(name: str, colour: Colour, data: object) -> Options:
    return {
        "name": name,
        "type": "line",
        "step": "end",
        "symbol": "none",
        "lineStyle": {"width": 0},
        "itemStyle": {"color": colour.css},
        "areaStyle": {"color": colour.css, "opacity": 0.85},
        "data": data,
        "silent": True,
    }


def _stepped(name: str, colour: Colour, data: object, *, width: float, dash: object) -> Options:
    return {
        "name": name,
        "type": "line",
        "step": "end",
        "symbol": "none",
        "lineStyle": {"width": width, "color": colour.css, "type": dash},
        "itemStyle": {"color": colour.css},
        "data": data,
        "silent": True,
    }
