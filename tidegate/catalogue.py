"""What people write down once: tiers, models, pools, budgets and features."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from tidegate.audience import AudienceSpec, LayerSlice
from tidegate.quantities import (
    Duration,
    PositiveDuration,
    PositiveShare,
    Share,
    format_duration,
)
from tidegate.quotas import QuotaSpec, read_uses
from tidegate.spec import Name, Spec


class TierSpec(Spec):
    """A tier of users; `rank` 0 is served first and shed last."""

    rank: int = Field(ge=0, description="0 is served first and shed last.")
    gated: bool = Field(
        default=True, description="false for paying tiers: a gate never refuses them."
    )
    notice: Duration = Field(
        default=timedelta(), description="Told at least so long before a model is taken from it."
    )


class ModelSpec(Spec):
    """A model and the engine that serves it, which says how its metrics are named."""

    engine: Literal["vllm"] = Field(default="vllm", description="How its metrics are named.")
    aliases: tuple[Name, ...] = Field(default=(), description="Other names that callers use.")
    pinned: tuple[str, ...] = Field(
        default=(), description="Users who may use what it serves, whatever the exposure."
    )


class ColdStart(Spec):
    """From booking a replica until it serves."""

    p50: Duration = Field(description="Half of the replicas serve by then.")
    p90: Duration = Field(description="Nine in ten replicas serve by then.")

    @field_validator("p90")
    @classmethod
    def _in_order(cls, p90: timedelta, info: ValidationInfo) -> timedelta:
        p50 = info.data.get("p50")
        if p50 is not None and p90 < p50:
            raise ValueError(
                f"expected at least p50, which is {format_duration(p50)}. "
                "Write the longer of the two as p90"
            )
        return p90


class ReopenSpec(Spec):
    """Whom sign-ups reopen for in one step: cohorts, or a share of those who ask."""

    cohorts: tuple[str, ...] = Field(default=(), description="These may come in as well.")
    share: PositiveShare | None = Field(default=None, description="So many of those who ask.")

    @model_validator(mode="after")
    def _for_somebody(self) -> Self:
        if not self.cohorts and self.share is None:
            raise ValueError("expected cohorts or a share. Write one of the two")
        return self


class SurgeSpec(Spec):
    """What is done by itself when a pool's gate narrows; stages of what it serves stand still."""

    after: PositiveDuration = Field(
        description="Sign-ups are suspended when the gate was narrow for so long."
    )
    calm: PositiveDuration = Field(
        description="The gate must be wide open for so long before each step back."
    )
    reopen: tuple[ReopenSpec, ...] = Field(
        default=(), description="Steps in which sign-ups reopen, before they do for all."
    )
    asks_for: int = Field(default=0, ge=0, description="GPUs that are claimed beside those held.")


class PoolSpec(Spec):
    """Replicas of one model that share a queue, a gate and a line in the ledger."""

    model: Name
    gpu_type: Name = Field(description="The Budget that its GPUs come from.")
    gpus_per_replica: int = Field(default=1, ge=1)
    min_replicas: int = Field(default=0, ge=0)
    max_replicas: int = Field(ge=1)
    capacity_rps: float = Field(
        gt=0, allow_inf_nan=False, description="Requests a second of one replica, full."
    )
    target_utilisation: PositiveShare = Field(
        default=0.6, description="How full a replica is sized to be."
    )
    gated_objective: PositiveShare | None = Field(
        default=None,
        description="Share of gated tiers to be let in; the utilisation is learned from it.",
    )
    queue_wait_target: PositiveDuration = Field(
        description="A longer wait puts pressure on the gate."
    )
    cold_start: ColdStart
    required_readings: tuple[Literal["queue_wait", "demand", "gpu_utilisation"], ...] = Field(
        default=("queue_wait", "demand"),
        description="Without these nothing scales down and no gate reopens.",
    )
    reading_limit: PositiveDuration = Field(description="A reading older than this is stale.")
    actuation_lag: PositiveDuration = Field(
        description="From a move of the gate until readings show it."
    )
    scale_down_window: Duration = Field(description="Scale down to the largest need within this.")
    safe_share: Share = Field(default=0.2, description="How far gated tiers open when blind.")
    surge: SurgeSpec | None = Field(
        default=None, description="What is done when the gate narrows; by default nothing more."
    )

    @field_validator("max_replicas")
    @classmethod
    def _in_order(cls, max_replicas: int, info: ValidationInfo) -> int:
        min_replicas = info.data.get("min_replicas")
        if min_replicas is not None and max_replicas < min_replicas:
            raise ValueError(
                f"expected at least minReplicas, which is {min_replicas}. "
                "Raise the one or lower the other"
            )
        return max_replicas


class BudgetSpec(Spec):
    """The GPUs of one type; what is installed is measured, and what arrives is a Supply."""


class WaitlistSpec(Spec):
    """A line for those whom the gate turns away; each gated tier has a lane of its own."""

    calls: str = Field(
        description='How many may come in, over all tiers, such as "30 a minute" or "5 in 10s".'
    )
    claim_window: PositiveDuration = Field(
        default=timedelta(minutes=10), description="How long whoever is called may take to come."
    )

    @field_validator("calls")
    @classmethod
    def _readable(cls, calls: str) -> str:
        read_uses(calls)
        return calls

    @property
    def calls_per_s(self) -> float:
        """How many may come in a second."""
        meant = read_uses(self.calls)
        return meant.limit / meant.period.total_seconds()


class FeatureSpec(Spec):
    """What users are let into, served by a pool, offered on surfaces."""

    pool: Name
    surfaces: tuple[Name, ...] = Field(default=("api",), min_length=1)
    on_stale: Literal["keep", "close"] = Field(
        default="keep", description="What a gateway does when it has heard nothing for too long."
    )
    audience: AudienceSpec | None = Field(
        default=None, description="Who it is meant for; by default everybody."
    )
    invited: tuple[str, ...] = Field(
        default=(), description="Users who are in whatever the audience and the exposure."
    )
    requires: tuple[Name, ...] = Field(
        default=(), description="Features that a user must be exposed to as well."
    )
    layer: LayerSlice | None = Field(
        default=None, description="A part of a layer; features in other parts are excluded."
    )
    quotas: Mapping[Name, tuple[QuotaSpec, ...]] = Field(
        default_factory=dict, description="By tier: how much one user may use."
    )
    waitlist: WaitlistSpec | None = Field(
        default=None, description="A line for whom the gate turns away; by default none."
    )

    @field_validator("quotas")
    @classmethod
    def _each_has_its_window(
        cls, quotas: Mapping[str, tuple[QuotaSpec, ...]]
    ) -> Mapping[str, tuple[QuotaSpec, ...]]:
        for tier, each in quotas.items():
            windows = [quota.window_name for quota in each]
            for quota in each:
                if windows.count(quota.window_name) > 1:
                    raise ValueError(
                        f'expected one quota for a window, "{quota.uses}" of {tier} has one '
                        "of the same. Drop the one that is larger"
                    )
        return quotas
