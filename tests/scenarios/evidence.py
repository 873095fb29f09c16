"""A small launch day as it would be recorded, true in every way, for tests that break it."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Final

from scenarios.assertions import Evidence
from tidegate.events import Event
from tidegate.manifests import parse_manifests

START: Final = datetime(2026, 3, 4, 10, tzinfo=UTC)

PLAN: Final = """
apiVersion: tidegate.dev/v1
kind: Tier
metadata: {name: pro}
spec: {rank: 0, gated: false}
---
apiVersion: tidegate.dev/v1
kind: Tier
metadata: {name: free}
spec: {rank: 1, gated: true}
---
apiVersion: tidegate.dev/v1
kind: Rollout
metadata: {name: launch}
spec:
  feature: image
  owner: ada
  stages:
    - {name: pro, tiers: [pro], startsAt: "2026-03-04T10:01:00Z", approval: product,
       reserve: 2, bake: 5m}
    - {name: free, tiers: [free], reserve: 3, bake: 5m}
"""


_SUBJECTS: Final = {
    "stage": "rollout/launch",
    "plan": "rollout/launch",
    "retirement": "retirement/old",
}


class Told:
    """Writes events as the loops and workflows do, numbered by their source."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._numbers: Counter[str] = Counter()

    def tell(self, at_min: float, event_type: str, **data: str | float | bool | None) -> None:
        kind = event_type.partition(".")[0]
        source = f"/{kind}"
        self._numbers[source] += 1
        self.events.append(
            Event(
                source=source,
                sequence=self._numbers[source],
                type=event_type,
                at=START + timedelta(minutes=at_min),
                subject=_SUBJECTS.get(kind, ""),
                data=data,
            )
        )

    def sized(self, at_min: float, *, ready: int, booked: int, installed: int) -> None:
        self.tell(
            at_min,
            "pool.sized",
            pool="image",
            ready_gpus=ready,
            booked_gpus=booked,
            installed_gpus=installed,
        )

    def claim(self, at_min: float, verb: str, stage: str, **gpus: int) -> None:
        counted = {"gpus" if name == "gpus" else f"{name}_gpus": n for name, n in gpus.items()}
        claim = f"rollout/launch/run/{stage}"
        self.tell(at_min, f"claim.{verb}", claim=claim, pool="image", **counted)


def _minute(minutes: float) -> str:
    return (START + timedelta(minutes=minutes)).isoformat()


def true_evidence() -> Evidence:
    """Return a day on which everything held."""
    told = Told()
    told.tell(0.5, "stage.approved", stage="pro")
    told.tell(1, "stage.due", stage="pro")
    told.claim(1, "made", "pro", gpus=2, ready=0, in_use=0, unclaimed=4)
    told.claim(1, "granted", "pro", gpus=2, ready=0, in_use=0, unclaimed=2)
    told.sized(3, ready=2, booked=2, installed=4)
    told.claim(3, "spent", "pro", gpus=2, ready=2, in_use=0, unclaimed=2)
    told.tell(3, "feature.exposed", tier="pro", before=0.0, after=1.0)
    told.tell(3, "stage.advanced", stage="pro")
    told.tell(4, "admission.counted", tier="pro", admitted=90, refused_by_gate=0)
    told.tell(4.5, "feature.signups_suspended", feature="image")
    told.tell(6, "admission.counted", tier="pro", admitted=80, refused_by_gate=0)
    told.tell(7, "feature.signups_reopened", feature="image")
    told.sized(5, ready=4, booked=4, installed=4)
    told.tell(8, "stage.baked", stage="pro")
    told.tell(8, "stage.due", stage="free")
    told.claim(8, "made", "free", gpus=3, ready=4, in_use=4, unclaimed=0)
    told.tell(8, "stage.waiting", stage="free")
    told.tell(8, "stage.forecast", stage="free", p50=None, p90=None)
    p50, p90 = START + timedelta(minutes=20), START + timedelta(minutes=30)
    told.tell(9, "stage.forecast", stage="free", p50=p50.isoformat(), p90=p90.isoformat())
    told.tell(12, "plan.frozen", freeze="code-red/now")
    told.tell(13, "claim.lent", claim="code-red/now/voice", gpus=2)
    told.tell(14, "claim.released", claim="code-red/now/voice", gpus=2)
    told.tell(14.5, "plan.thawed", freeze="code-red/now")
    told.tell(20, "supply.arrived", gpus=4)
    told.claim(20, "granted", "free", gpus=3, ready=4, in_use=4, unclaimed=1)
    told.sized(22, ready=7, booked=7, installed=8)
    told.claim(22, "spent", "free", gpus=3, ready=7, in_use=4, unclaimed=1)
    told.tell(22, "feature.exposed", tier="free", before=0.0, after=1.0)
    told.tell(22, "stage.advanced", stage="free")
    told.tell(24, "admission.counted", tier="free", admitted=50, refused_by_gate=9)
    told.tell(27, "stage.baked", stage="free")
    _retire(told)
    return Evidence(told.events, [], parse_manifests(PLAN, where="plan"))


def _retire(told: Told) -> None:
    told.tell(28, "retirement.announced", sunset_at=_minute(31))
    told.tell(29, "retirement.notice", tier="pro", reason="2m before", ends_at=_minute(31))
    told.tell(31, "retirement.sunset")
    told.tell(31.2, "admission.counted", tier="pro", admitted=3, refused_by_gate=0)
    told.claim(32, "released", "pro", gpus=2)
    told.claim(32, "released", "free", gpus=3)
    told.tell(32, "retirement.retired")
    told.tell(33, "admission.counted", tier="pro", admitted=0, refused_by_gate=0)
    told.sized(33, ready=0, booked=0, installed=8)
