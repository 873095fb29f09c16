"""What people write down once: tiers, models, pools, budgets and features."""

from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from tidegate.quantities import Duration, Share

Name = Annotated[
    str,
    Field(
        pattern=r"^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$",
        description="Lower-case letters, digits, dots and dashes, as Kubernetes names are.",
    ),
]


class Spec(BaseModel):
    """The base of all that people write: camelCase in files, unknown fields refused."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True
    )


class TierSpec(Spec):
    """A tier of users; `rank` 0 is served first and shed last."""

    rank: int = Field(ge=0, description="0 is served first and shed last.")
    gated: bool = Field(
        default=True, description="false for paying tiers: a gate never refuses them."
    )


class ModelSpec(Spec):
    """A model and the engine that serves it, which says how its metrics are named."""

    engine: Literal["vllm"] = Field(default="vllm", description="How its metrics are named.")


class ColdStart(Spec):
    """From booking a replica until it serves."""

    p50: Duration = Field(description="Half of the replicas serve by then.")
    p90: Duration = Field(description="Nine in ten replicas serve by then.")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.p90 < self.p50:
            raise ValueError("expected p90 to be at least p50. Write the longer one as p90")
        return self


class PoolSpec(Spec):
    """Replicas of one model that share a queue, a gate and a line in the ledger."""

    model: Name
    gpu_type: Name = Field(description="The Budget that its GPUs come from.")
    gpus_per_replica: int = Field(default=1, ge=1)
    min_replicas: int = Field(default=0, ge=0)
    max_replicas: int = Field(ge=1)
    capacity_rps: float = Field(gt=0, description="Requests a second of one replica, full.")
    target_utilisation: Share = Field(default=0.6, description="How full a replica is sized to be.")
    queue_wait_target: Duration = Field(description="A longer wait puts pressure on the gate.")
    cold_start: ColdStart
    required_readings: tuple[Literal["queue_wait", "demand", "gpu_utilisation"], ...] = Field(
        default=("queue_wait", "demand"),
        description="Without these nothing scales down and no gate reopens.",
    )
    reading_limit: Duration = Field(description="A reading older than this is stale.")
    actuation_lag: Duration = Field(description="From a move of the gate until readings show it.")
    scale_down_window: Duration = Field(description="Scale down to the largest need within this.")
    safe_share: Share = Field(default=0.2, description="How far gated tiers open when blind.")


class Arrival(Spec):
    """GPUs that are expected: as likely as not by `at`, nine times in ten by `latest`."""

    name: Name
    gpus: int = Field(ge=1)
    at: AwareDatetime
    latest: AwareDatetime

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.latest < self.at:
            raise ValueError('expected "latest" to be no earlier than "at". Swap the two')
        return self


class BudgetSpec(Spec):
    """The GPUs of one type; what is installed is measured, what arrives is written here."""

    arrivals: tuple[Arrival, ...] = ()


class FeatureSpec(Spec):
    """What users are let into, served by a pool, offered on surfaces."""

    pool: Name
    surfaces: tuple[Name, ...] = Field(default=("api",), min_length=1)
    on_stale: Literal["keep", "close"] = Field(
        default="keep", description="What a gateway does when it has heard nothing for too long."
    )
