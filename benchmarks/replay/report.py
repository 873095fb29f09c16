"""The contest over several traces as a page: a picture, and a table for each set of cold starts."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.plot import write_into
from console.palette import ABSENT, INK, MUTED, READY

Found = Mapping[str, Any]
"""What one contest found."""

KINDS: Final = ("fast", "slow")
NAMES: Final = {
    "tidegate": "Tidegate",
    "fixed": "fixed number",
    "hpa": "HPA",
    "hpa_queue": "HPA, queue too",
    "kpa": "KPA",
    "keda": "KEDA",
    "wva": "WVA",
    "dynamo": "Dynamo",
    "ray_serve": "Ray Serve",
}
_NO_GATE: Final = "_no_gate"
_WIDEST: Final = 2.0
"""Ratios beyond this are drawn as this."""
_MISSED_ALPHA: Final = 0.35


def write_report(found: Mapping[str, Found], into: Path) -> None:
    """Draw `sizing.svg` and write it and the tables into `benchmarks.md`; by trace's name."""
    page = into / "benchmarks.md"
    lines = ["![GPU-hours to the oracle's, by trace and cold starts, drawn](sizing.svg)", ""]
    for kind in KINDS:
        lines += [*_table(found, kind), ""]
    lines += _capped_table(found)
    page.write_text(write_into(page.read_text("utf-8"), "sizing", lines), "utf-8")
    draw(found, into / "sizing.svg")


def _table(found: Mapping[str, Found], kind: str) -> Iterator[str]:
    yield f"| GPU-hours to *achieved*, {kind} | {' | '.join(found)} |"
    yield f"| --- | {' | '.join('---' for _ in found)} |"
    for suffix in ("", _NO_GATE):
        for key, name in NAMES.items():
            policies = [each[kind]["policies"][key + suffix] for each in found.values()]
            label = name if not suffix else f"{name}, no gate"
            yield f"| {label} | {' | '.join(map(_ratio, policies))} |"
    oracles = [each[kind]["oracle"] for each in found.values()]
    bounds = [f"{o['bound_gpu_hours'] / o['achieved_gpu_hours']:.2f}" for o in oracles]
    yield f"| bound | {' | '.join(bounds)} |"
    for figure, label in _ATTAINED.items():
        ours = [each[kind]["policies"]["tidegate"][figure] for each in found.values()]
        yield f"| {label} | {' | '.join(f'{share:.1%}' for share in ours)} |"


_ATTAINED: Final = {
    "pro_attainment": "Tidegate: Pro",
    "plus_attainment": "Tidegate: Plus and Team",
    "free_attainment": "Tidegate: Free",
    "free_worst_hour": "Tidegate: Free, worst hour",
}


def _ratio(policy: Found) -> str:
    ratio = policy["ratio_to_oracle"]
    return "–" if ratio is None else f"{ratio:.3f}"


_SERVED: Final = {
    "free_served_to_bound": "Free served",
    "free_served_at_either_try_to_bound": "Free served, at the second try too,",
}


def _capped_table(found: Mapping[str, Found]) -> Iterator[str]:
    capped = [each["capped"] for each in found.values()]
    yield f"| capped at 30 % of the peak | {' | '.join(found)} |"
    yield f"| --- | {' | '.join('---' for _ in found)} |"
    paid = [f"{each['paid_attainment']:.1%}" for each in capped]
    yield f"| those who pay | {' | '.join(paid)} |"
    for key, name in _SERVED.items():
        served = [each[key] for each in capped]
        shown = ["–" if each is None else f"{each:.2f}" for each in served]
        yield f"| {name} to the bound | {' | '.join(shown)} |"


def draw(found: Mapping[str, Found], path: Path) -> None:
    """Draw each contestant's GPU-hours with the gate; pale where it misses a constraint."""
    with mpl.rc_context({"svg.hashsalt": "tidegate", "font.family": "DejaVu Sans", "font.size": 8}):
        figure = Figure(figsize=(9.0, 5.4), facecolor="white", layout="constrained")
        axes = figure.subplots(len(KINDS), len(found), sharex=True, sharey=True, squeeze=False)
        for row, kind in zip(axes, KINDS, strict=True):
            for each, (trace, of_trace) in zip(row, found.items(), strict=True):
                _draw_one(each, of_trace[kind])
                each.set_title(f"{trace}, {kind}", loc="left", color=INK.light, fontsize=8.5)
        figure.supxlabel(
            "GPU-hours to the oracle's, with Tidegate's gate; pale: misses a constraint",
            color=MUTED.light,
            fontsize=8,
        )
        figure.savefig(path, metadata={"Date": None, "Creator": None})


def _draw_one(axes: Axes, found: Found) -> None:
    achieved = found["oracle"]["achieved_gpu_hours"]
    policies = {name: found["policies"][key] for key, name in NAMES.items()}
    ratios = [min(_WIDEST, each["gpu_hours"] / achieved) for each in policies.values()]
    bars = axes.barh(list(policies), ratios, height=0.62)
    for bar, (name, policy) in zip(bars, policies.items(), strict=True):
        bar.set_color(READY.light if name == NAMES["tidegate"] else ABSENT.light)
        bar.set_alpha(1.0 if policy["holds"] else _MISSED_ALPHA)
    axes.axvline(1.0, color=INK.light, lw=0.8)
    axes.set_xlim(0.8, _WIDEST)
    if not axes.yaxis_inverted():
        axes.invert_yaxis()
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0, labelcolor=INK.light)
    axes.tick_params(axis="x", labelcolor=MUTED.light)
