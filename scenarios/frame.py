"""One frame of the live terminal view: bars, sparklines and the last decisions."""

from collections.abc import Sequence
from typing import Final

from rich.console import ConsoleDimensions, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from console.decisions import decision_words, digest, reason_of
from console.history import History, Quantity, number
from console.palette import tier_colours
from console.series import Point
from console.stages import Standing, TierStage, tier_stages
from console.times import Clock, stamp
from console.words import gate_words, gpu_use_words, headline, share, title, warnings
from tidegate.events import Event

_BAR_CELLS: Final = 10
_SPARK_CELLS: Final = 16
_SPARK_SPAN_S: Final = 80.0
_GPU_CELLS_MOST: Final = 48
_LEVELS: Final = "▁▂▃▄▅▆▇█"
_HALF: Final = 0.5
_FRAME_ROWS: Final = 5
"""The border, the head of the table, the line above the decisions, and one for the cursor."""

_LEAST_DECISIONS: Final = 3
_MOST_DECISIONS: Final = 9

_MARKS: Final = (
    ("gate.tightened", "▲", "dark_orange"),
    ("gate.", "●", "green"),
    ("stage.waiting", "■", "yellow"),
    ("stage.forecast", "■", "yellow"),
    ("stage.", "●", "green"),
    ("rollout.", "●", "green"),
    ("", "○", "bright_black"),
)


def draw_frame(
    history: History, story_time: str, clock: Clock, footer: str, size: ConsoleDimensions
) -> RenderableType:
    """Draw the state into at most the terminal's height, less a line for the cursor."""
    parts: list[RenderableType] = [
        Text(warning, style="bold dark_orange") for warning in warnings(history, clock)
    ]
    parts += [Text(headline(history, clock), style="bold", overflow="ellipsis"), Text()]
    parts += [_tiers(history), Text()]
    parts += [
        line for pool in history.pools() for line in (_gate(history, pool), _gpus(history, pool))
    ]
    parts.append(_waits(history))
    used = _FRAME_ROWS + len(history.tiers()) + len(parts)
    room = max(_LEAST_DECISIONS, min(_MOST_DECISIONS, size.height - used))
    parts += [Text(), _decisions(history, room, clock)]
    heading = f"[bold]Tidegate[/] · {story_time}"
    return Panel(
        Group(*parts), title=heading, title_align="left", subtitle=footer, border_style="blue"
    )


def bar(value: float | None, cells: int = _BAR_CELLS) -> str:
    """Draw a share from 0 to 1; nothing known is dots, and a little is never nothing."""
    if value is None:
        return "·" * cells
    full = int(value * cells)
    part = "▌" if full < value * cells else ""
    return ("█" * full + part).ljust(cells, "░")


def spark(points: Sequence[Point], now: float, top: float) -> str:
    """Draw the last `_SPARK_SPAN_S` of samples; a span in which nothing was known is a blank."""
    width_s = _SPARK_SPAN_S / _SPARK_CELLS
    cells = ""
    for cell in range(_SPARK_CELLS):
        begins_at = now - _SPARK_SPAN_S + cell * width_s
        known = [v for at, v in points if v is not None and begins_at < at <= begins_at + width_s]
        if not known:
            cells += " "
            continue
        height = sum(known) / len(known) / top if top > 0.0 else 0.0
        cells += _LEVELS[min(int(height * len(_LEVELS)), len(_LEVELS) - 1)]
    return cells


def _tiers(history: History) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bright_black", expand=False)
    for heading in ("tier", "exposure", "let in by the gate", "admitted a second", "refused"):
        table.add_column(heading, no_wrap=True)
    intent = history.snapshot.intent
    colours = tier_colours(intent, history.tiers())
    for stage in tier_stages(history):
        if intent is None:
            continue
        pool = intent.features[stage.feature].pool
        table.add_row(
            Text(title(stage.tier), style=colours[stage.tier].dark),
            _exposure(stage, colours[stage.tier].dark),
            _let_in(history, pool, stage.tier, is_gated=intent.tiers[stage.tier].gated),
            _rate(history, Quantity.ADMITTED_RPS, pool, stage.tier),
            _rate(history, Quantity.REFUSED_BY_GATE_RPS, pool, stage.tier),
        )
    return table


def _exposure(stage: TierStage, colour: str) -> Text:
    mark = "" if stage.standing is not Standing.ON_HOLD else " on hold"
    return Text.assemble((bar(stage.exposure), colour), f" {share(stage.exposure):>5}{mark}")


def _let_in(history: History, pool: str, tier: str, *, is_gated: bool) -> Text:
    if not is_gated:
        return Text("never gated", style="bright_black")
    ceiling = history.series(Quantity.CEILING, pool, tier).last
    words = "absent" if ceiling is None else share(ceiling)
    return Text.assemble((bar(ceiling), "dark_orange"), f" {words:>5}")


def _rate(history: History, quantity: Quantity, pool: str, tier: str) -> Text:
    series = history.series(quantity, pool, tier)
    top = max(
        (
            value
            for each in history.tiers()
            for _, value in history.series(Quantity.ADMITTED_RPS, pool, each).points
            if value is not None
        ),
        default=0.0,
    )
    if series.last is None:
        return Text("absent", style="bright_black")
    if quantity is Quantity.ADMITTED_RPS:
        return Text(f"{series.last:4.0f} {spark(series.points, history.now, top)}")
    if max((value or 0.0 for _, value in series.points), default=0.0) < _HALF:
        return Text("   –", style="bright_black")
    line = f"{series.last:4.0f} {spark(series.points, history.now, top)}"
    return Text(line, style="dark_orange")


def _gate(history: History, pool: str) -> Text:
    gate = history.snapshot.gates.get(pool)
    words = "absent (no gate was heard yet)" if gate is None else gate_words(gate)
    return Text.assemble(("gate        ", "bright_black"), words, overflow="ellipsis")


def _gpus(history: History, pool: str) -> Text:
    label = ("GPUs        ", "bright_black")
    event = history.sizing(pool)
    if event is None:
        return Text.assemble(label, "absent (no sizing was heard yet)")
    needed = number(event.data, "needed_gpus")
    ready, loading, installed = (
        int(number(event.data, field) or 0)
        for field in ("ready_gpus", "loading_gpus", "installed_gpus")
    )
    most = max(installed, ready + loading, 1)
    scale = min(1.0, _GPU_CELLS_MOST / most)
    cells = [round(count * scale) for count in (ready, loading, most - ready - loading)]
    need = "need unknown" if needed is None else f"{needed:.0f} needed"
    lacking = f" {needed - ready:.0f} short" if needed is not None and needed > ready else ""
    return Text.assemble(
        label,
        ("█" * cells[0], "#56b4e9"),
        ("▒" * cells[1], "#56b4e9"),
        ("░" * cells[2], "bright_black"),
        f" {ready} ready, {loading} arriving of {installed} installed; {need}",
        (lacking, "dark_orange"),
    )


def _waits(history: History) -> Text:
    text = Text.assemble(("queue wait  ", "bright_black"))
    for pool in history.pools():
        series = history.series(Quantity.QUEUE_WAIT_S, pool)
        top = max((value for _, value in series.points if value is not None), default=0.0)
        now_s = "absent" if series.last is None else f"{series.last:.2f} s"
        text.append(f"{now_s:>7} {spark(series.points, history.now, top)}  ")
    return text.append_text(
        Text.assemble(("GPU use ", "bright_black"), gpu_use_words(history), overflow="ellipsis")
    )


def _decisions(history: History, count: int, clock: Clock) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), show_header=False, expand=True)
    table.add_column(no_wrap=True, style="bright_black")
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    for event in reversed(digest(history.events, count)):
        table.add_row(*_decision(event, history.now, clock))
    return table


def _decision(event: Event, now: float, clock: Clock) -> tuple[Text, Text, Text]:
    mark, style = next((m, s) for start, m, s in _MARKS if event.type.startswith(start))
    reason = reason_of(event)
    return (
        Text(stamp(event.at.timestamp(), now, clock)),
        Text(mark, style=style),
        Text.assemble(decision_words(event, clock), (f"  {reason}", "bright_black")),
    )
