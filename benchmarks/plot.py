"""Pictures and tables of what was measured: `python -m benchmarks.plot decision.json http.json`.

Each file holds what its benchmark printed; the last line counts. Draws `docs/decision-speed.svg`
and `docs/http-speed.svg`, and writes them and their tables into `docs/benchmarks.md`, between the
comments that name them: medians over the rounds, with the smallest and the largest in brackets.
The tables are printed too.
"""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from console.palette import ABSENT, INK, LINE, MUTED, READY

Found = Mapping[str, Any]
"""A benchmark's last line."""

PEERS: Final = {
    "growthbook": "GrowthBook",
    "launchdarkly": "LaunchDarkly",
    "unleash": "Unleash",
    "flagd": "flagd, in process",
}
SERVERS: Final = {
    "raw": "barest server, a constant",
    "admit": "gateway, /v1/admit",
    "ofrep": "gateway, OFREP",
    "uvicorn": "uvicorn, a constant",
    "granian": "Granian (RSGI), a constant",
    "envoy": "Envoy, local rate limit and a constant",
}
_OURS: Final = frozenset({"Tidegate", SERVERS["admit"], SERVERS["ofrep"]})
_WIDTH_IN: Final = 8.0
_BAR_IN: Final = 0.34
_HEAD_AND_FOOT_IN: Final = 1.0


@dataclass(frozen=True, slots=True)
class Measured:
    """A contestant's median over the rounds, with the smallest and the largest."""

    name: str
    median: float
    least: float
    most: float

    def __str__(self) -> str:
        """Write it as tables show it."""
        return f"{shown(self.median)} [{shown(self.least)}, {shown(self.most)}]"


def shown(value: float) -> str:
    """Write a number with three digits that count, thousands apart."""
    if value >= 100:  # noqa: PLR2004 - from here on no digit after the point is one of three
        digits = 3 - len(str(int(value)))
        return f"{round(value, digits):,.0f}"
    return f"{float(f'{value:.3g}'):g}"


def decisions(found: Found) -> list[Measured]:
    """Return microseconds a decision, the quickest first."""
    medians = {"tidegate": found["tidegate_us"], **found["peers_us"]}
    names = {"tidegate": "Tidegate", **PEERS}
    measured = [
        Measured(names[each], us, *found["spread_us"][each]) for each, us in medians.items()
    ]
    return sorted(measured, key=lambda each: each.median)


def rates(found: Found) -> list[Measured]:
    """Return requests a second at 64 connections, the most first."""
    measured = [
        Measured(name, found[f"{each}_rps"], *found["spread_rps"][each])
        for each, name in SERVERS.items()
    ]
    return sorted(measured, key=lambda each: -each.median)


def decision_table(found: Found) -> Iterator[str]:
    """Yield the lines of the table of decisions in process."""
    yield "| in process | µs a decision | times Tidegate |"
    yield "| --- | --- | --- |"
    for each in decisions(found):
        yield f"| {each.name} | {each} | {shown(each.median / found['tidegate_us'])} |"


def http_table(found: Found) -> Iterator[str]:
    """Yield the lines of the table of servers."""
    keys = {name: each for each, name in SERVERS.items()}
    yield "| over HTTP, 64 connections | requests a second | p99 in ms |"
    yield "| --- | --- | --- |"
    for each in rates(found):
        key = keys[each.name]
        p99 = Measured(key, found[f"{key}_p99_ms"], *found["spread_p99_ms"][key])
        name = each.name.replace("/v1/admit", "`/v1/admit`")
        yield f"| {name} | {each} | {p99} |"


def draw(measured: Sequence[Measured], path: Path, *, title: str, unit: str) -> None:
    """Write medians as bars with whiskers from least to most; the same figures, the same bytes.

    On white, so that it reads the same on light and on dark pages.
    """
    with mpl.rc_context({"svg.hashsalt": "tidegate", "font.family": "DejaVu Sans", "font.size": 9}):
        height_in = _HEAD_AND_FOOT_IN + _BAR_IN * len(measured)
        figure = Figure(figsize=(_WIDTH_IN, height_in), facecolor="white", layout="constrained")
        axes = figure.add_subplot()
        axes.set_title(title, loc="left", color=INK.light, fontsize=10.5)
        _draw_bars(axes, measured)
        axes.set_xlabel(f"{unit}; median of the rounds, whiskers from least to most")
        axes.xaxis.label.set(color=MUTED.light, fontsize=8)
        figure.savefig(path, metadata={"Date": None, "Creator": None})


def _draw_bars(axes: Axes, measured: Sequence[Measured]) -> None:
    names = [each.name for each in measured]
    medians = [each.median for each in measured]
    whiskers = [
        [each.median - each.least for each in measured],
        [each.most - each.median for each in measured],
    ]
    colours = [READY.light if name in _OURS else ABSENT.light for name in names]
    axes.barh(names, medians, color=colours, height=0.62)
    axes.errorbar(medians, names, xerr=whiskers, fmt="none", ecolor=INK.light, capsize=3, lw=1)
    for each in measured:
        offset = {"xytext": (7, 0), "textcoords": "offset points"}
        at = (each.most, each.name)
        axes.annotate(shown(each.median), at, **offset, va="center", color=INK.light)  # type: ignore[arg-type]
    axes.invert_yaxis()
    axes.set_xlim(0.0, 1.12 * max(each.most for each in measured))
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(LINE.light)
    axes.tick_params(axis="y", length=0, labelcolor=INK.light)
    axes.tick_params(axis="x", color=LINE.light, labelcolor=MUTED.light)
    axes.xaxis.set_major_formatter("{x:,.0f}")


def write_into(text: str, name: str, lines: Sequence[str]) -> str:
    """Put lines between the comments that name them; raises SystemExit where there are none."""
    begins, ends = f"<!-- {name} -->\n", f"\n<!-- end of {name} -->"
    before, has_begun, rest = text.partition(begins)
    _, has_ended, after = rest.partition(ends)
    if not (has_begun and has_ended):
        raise SystemExit(f"benchmarks.md: got no {begins.strip()} with its end. Put both back.")
    return before + begins + "\n".join(lines) + ends + after


def last_line(path: Path) -> Found:
    """Read what a benchmark printed last; raises SystemExit where that is no JSON object."""
    try:
        found = json.loads(path.read_text().strip().splitlines()[-1])
    except (OSError, ValueError, IndexError) as error:
        raise SystemExit(f"{path}: got no benchmark's output ({error}). Write it there.") from error
    if not isinstance(found, dict):
        raise SystemExit(f"{path}: got {type(found).__name__}, expected a JSON object at its end.")
    return found


def main(argv: Sequence[str] | None = None) -> None:
    """Draw both pictures, and write and print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("decision", type=Path, help="output of python -m benchmarks.decision")
    parser.add_argument("http", type=Path, help="output of python -m benchmarks.http")
    parser.add_argument("--into", type=Path, default=Path("docs"), help="where benchmarks.md is")
    arguments = parser.parse_args(argv)
    decision, http = last_line(arguments.decision), last_line(arguments.http)
    pictures = {
        "decision-speed": (decisions(decision), "A decision in process", "µs, less is better"),
        "http-speed": (
            rates(http),
            "Over HTTP: one process on one core, 64 connections",
            "requests/s, more is better",
        ),
    }
    tables = {
        "decision-speed": list(decision_table(decision)),
        "http-speed": list(http_table(http)),
    }
    page = arguments.into / "benchmarks.md"
    text = page.read_text(encoding="utf-8")
    for name, (measured, title, unit) in pictures.items():
        text = write_into(text, name, [f"![{title}, drawn]({name}.svg)", "", *tables[name]])
        draw(measured, arguments.into / f"{name}.svg", title=title, unit=unit)
        print("\n".join([*tables[name], ""]))  # noqa: T201 - to be looked at
    page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
