"""What the page shows at one moment, worked out once for everyone who looks."""

from collections.abc import Mapping
from dataclasses import dataclass

from console.axis import Options
from console.history import History, Quantity
from console.lanes import demand_chart, exposure_chart, gate_chart
from console.lines import gpu_chart, wait_chart
from console.links import WorkflowUrl
from console.markup import decisions_list, stages_table
from console.stages import tier_stages
from console.times import Clock
from console.words import (
    gate_words,
    gpu_use_words,
    gpu_words,
    headline,
    heard_words,
    warnings,
)


@dataclass(frozen=True, slots=True)
class Texts:
    """Every line of text; gates, GPUs and waits are by pool."""

    warnings: str
    headline: str
    heard: str
    gpu_use: str
    stages: str
    decisions: str
    gates: Mapping[str, str]
    gpus: Mapping[str, str]
    waits: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class PoolCharts:
    """The charts of one pool."""

    gate: Options
    gpus: Options
    wait: Options
    demand: Options


@dataclass(frozen=True, slots=True)
class Charts:
    """Every chart; `exposure` is None while no intent is known."""

    exposure: Options | None
    pools: Mapping[str, PoolCharts]


def texts(history: History, clock: Clock, url: WorkflowUrl) -> Texts:
    """Put the state into words."""
    pools = history.pools()
    gates = history.snapshot.gates
    return Texts(
        warnings="\n".join(warnings(history, clock)),
        headline=headline(history, clock),
        heard=heard_words(history),
        gpu_use=gpu_use_words(history),
        stages=stages_table(tier_stages(history), history.now, clock, url),
        decisions=decisions_list(history.events, history.now, clock),
        gates={
            pool: gate_words(gates[pool]) if pool in gates else "absent (no gate was heard yet)"
            for pool in pools
        },
        gpus={pool: gpu_words(history, pool) for pool in pools},
        waits={pool: _wait_words(history, pool) for pool in pools},
    )


def charts(history: History) -> Charts:
    """Draw the state."""
    return Charts(
        exposure=exposure_chart(history) if history.tiers() else None,
        pools={
            pool: PoolCharts(
                gate=gate_chart(history, pool),
                gpus=gpu_chart(history, pool),
                wait=wait_chart(history, pool),
                demand=demand_chart(history, pool),
            )
            for pool in history.pools()
        },
    )


def _wait_words(history: History, pool: str) -> str:
    wait_s = history.series(Quantity.QUEUE_WAIT_S, pool).last
    return "absent (no engine reported one)" if wait_s is None else f"{wait_s:.2f} s"
