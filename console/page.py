"""The page "Tidegate": how the launch stands, for whoever opens it."""

from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Final

from nicegui import ui

from console.axis import Options
from console.palette import css_variables
from console.shown import Charts, PoolCharts, Texts

_CSS: Final = (Path(__file__).parent / "console.css").read_text(encoding="utf-8")
_WAVES: Final = (
    '<svg viewBox="0 0 24 24" aria-hidden="true"><path d="M2 8c3-3 5-3 8 0s5 3 8 0l4-3"/>'
    '<path d="M2 14c3-3 5-3 8 0s5 3 8 0l4-3"/><path d="M2 20c3-3 5-3 8 0s5 3 8 0l4-3"/></svg>'
)


@dataclass(frozen=True, slots=True)
class _PoolCards:
    gate_note: ui.label
    gate: ui.echart
    gpu_note: ui.label
    gpus: ui.echart
    wait_note: ui.label
    wait: ui.echart
    demand: ui.echart


class Page:
    """One visitor's page: built once, then changed only where something changed."""

    def __init__(self, temporal_ui: str) -> None:
        ui.add_css(css_variables() + _CSS)
        self._dark = ui.dark_mode(value=None)
        self._bar(temporal_ui)
        self._warnings = ui.label().classes("warnings").props('role="alert"')
        with ui.element("div").classes("now"):
            self._headline = ui.html(sanitize=False, tag="h1")
            self._facts = ui.html(sanitize=False).classes("facts")
        with ui.element("main").classes("board"):
            with ui.element("div").classes("charts"):
                with _card("Stages").classes("wide"):
                    self._stages = ui.html(sanitize=False)
                with _card("Exposure by tier"):
                    ui.label("share of each tier's users that is in").classes("note")
                    self._exposure = _chart()
                self._pool_cards: dict[str, _PoolCards] = {}
                self._pools = ui.element("div").style("display: contents")
            with _card("Decisions").classes("side"):
                self._decisions = ui.html(sanitize=False).classes("scroll")

    def say(self, texts: Texts) -> None:
        """Show the state in words."""
        self._warnings.set_visibility(bool(texts.warnings))
        self._warnings.set_text(texts.warnings)
        self._headline.set_content(escape(texts.headline))
        self._facts.set_content(
            f"<span>GPU use: <b>{escape(texts.gpu_use)}</b></span>"
            f"<span>Heard: <b>{escape(texts.heard)}</b></span>"
        )
        self._stages.set_content(texts.stages)
        self._decisions.set_content(texts.decisions)
        for pool, cards in self._pool_cards.items():
            cards.gate_note.set_text(texts.gates.get(pool, ""))
            cards.gpu_note.set_text(texts.gpus.get(pool, ""))
            cards.wait_note.set_text(texts.waits.get(pool, ""))

    def draw(self, charts: Charts) -> None:
        """Show the state in charts; a pool that is new gets its cards."""
        if charts.exposure is not None:
            self._exposure.options.update(charts.exposure)
        for pool, drawn in charts.pools.items():
            if pool not in self._pool_cards:
                with self._pools:
                    self._pool_cards[pool] = _pool_cards(pool)
            _draw_pool(self._pool_cards[pool], drawn)

    def _bar(self, temporal_ui: str) -> None:
        with ui.element("header").classes("bar"):
            ui.html(f"{_WAVES} Tidegate", sanitize=False).classes("name")
            ui.element("div").classes("gap")
            ui.link("Temporal UI", temporal_ui, new_tab=True)
            button = ui.button(icon="contrast", on_click=self._turn_ground)
            button.props('flat round dense aria-label="Light or dark"')

    async def _turn_ground(self) -> None:
        is_dark = await ui.run_javascript("Quasar.Dark.isActive")
        self._dark.set_value(not is_dark)


def _card(heading: str) -> ui.element:
    card = ui.element("section").classes("card")
    with card:
        ui.html(escape(heading), sanitize=False, tag="h2")
    return card


def _chart() -> ui.echart:
    return ui.echart({}, renderer="svg").classes("chart")


def _pool_cards(pool: str) -> _PoolCards:
    with _card(f"Gate of {pool}, by tier"):
        gate_note, gate = ui.label().classes("note long"), _chart()
    with _card(f"GPUs of {pool}"):
        gpu_note, gpus = ui.label().classes("note"), _chart()
    with _card(f"Queue wait of {pool}"):
        wait_note, wait = ui.label().classes("note"), _chart()
    with _card(f"Demand on {pool}, by tier").classes("wide"):
        ui.label(
            "requests a second: admitted in colour, refused by the gate above it, "
            "not exposed in grey"
        ).classes("note")
        demand = _chart()
    return _PoolCards(gate_note, gate, gpu_note, gpus, wait_note, wait, demand)


def _draw_pool(cards: _PoolCards, drawn: PoolCharts) -> None:
    pairs: tuple[tuple[ui.echart, Options], ...] = (
        (cards.gate, drawn.gate),
        (cards.gpus, drawn.gpus),
        (cards.wait, drawn.wait),
        (cards.demand, drawn.demand),
    )
    for chart, options in pairs:
        chart.options.update(options)
