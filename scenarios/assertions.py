"""What must hold at a story's end, each asserted from the recorded events and nothing else."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from tidegate.events import Event
from tidegate.manifests import Manifests
from tidegate.plans import StageSpec


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that was recorded, in order, and the plan that was applied."""

    events: Sequence[Event]
    gaps: Sequence[str]
    """Events that are missing from the record, one line for each gap."""
    plan: Manifests

    def of(self, *types: str) -> Iterator[Event]:
        """Yield the events of these types, in order."""
        return (event for event in self.events if event.type in types)

    def of_stage(self, stage: str, *types: str) -> Iterator[Event]:
        """Yield the events of these types about one stage."""
        return (event for event in self.of(*types) if event.data.get("stage") == stage)

    def about(self, subject: str) -> "Evidence":
        """Return what was told about one thing, such as `rollout/image-launch`."""
        return replace(self, events=[e for e in self.events if e.subject == subject])

    def first(self, event_type: str, **data: object) -> Event | None:
        """Return the first event of a type whose data has these values."""
        matching = (
            event
            for event in self.of(event_type)
            if all(event.data.get(key) == value for key, value in data.items())
        )
        return next(matching, None)


@dataclass(frozen=True, slots=True)
class Finding:
    """Whether something held, and what was seen."""

    name: str
    held: bool
    seen: str


Holds = Callable[[Evidence, str], Iterator[str]]
"""Yields a line for each way in which it does not hold; given what the scenario wrote beside."""


def events_have_no_gap(evidence: Evidence, _: str) -> Iterator[str]:
    """Nothing that a producer told is missing from the record, and something was told."""
    yield from evidence.gaps
    if not evidence.events:
        yield "nothing was recorded"


def paying_tiers_open_before(evidence: Evidence, tier: str) -> Iterator[str]:
    """Every tier that is never gated is exposed before this one is."""
    opened = _first_exposure(evidence, tier)
    if opened is None:
        yield f"{tier} was never exposed"
        return
    for name, spec in evidence.plan.tiers.items():
        first = _first_exposure(evidence, name)
        if not spec.gated and (first is None or first.at >= opened.at):
            yield f"{name} opened {_at(first)}, {tier} opened {_at(opened)}"


def stage_waits_for_gpus(evidence: Evidence, stage: str) -> Iterator[str]:
    """The stage was due, approved, and had to wait because GPUs were lacking."""
    claims = [e for e in evidence.of("claim.made") if str(e.data["claim"]).endswith(f"/{stage}")]
    if not claims:
        yield f"{stage} reserved nothing"
        return
    made = claims[0]
    granted = evidence.first("claim.granted", claim=made.data["claim"])
    lacked = int(str(made.data["gpus"])) > int(str(made.data["unclaimed_gpus"]))
    arrived = [e for e in evidence.of("supply.arrived") if e.at > made.at]
    if not lacked:
        yield f"{stage} lacked nothing: {made.data['unclaimed_gpus']} GPUs were unclaimed"
    elif granted is None or not any(e.at <= granted.at for e in arrived):
        yield f"{stage} was granted its GPUs before any arrived"
    if not any(evidence.of_stage(stage, "stage.waiting")):
        yield f"{stage} never said that it waits"


def stage_is_told_a_range_or_unknown(evidence: Evidence, stage: str) -> Iterator[str]:
    """Each forecast of the stage is a p50 no later than its p90, or unknown, and there is one."""
    forecasts = list(evidence.of_stage(stage, "stage.forecast"))
    if not forecasts:
        yield f"{stage} was never given a forecast"
    for event in forecasts:
        p50, p90 = event.data.get("p50"), event.data.get("p90")
        if (p50 is None) != (p90 is None):
            yield f"{event.id}: half a range, {p50} to {p90}"
        elif p50 is not None and _instant(p50) > _instant(p90):
            yield f"{event.id}: p50 {p50} is later than p90 {p90}"


def opens_fully(evidence: Evidence, tiers: str) -> Iterator[str]:
    """Each of these tiers ends at 100 %."""
    for tier in tiers.split(","):
        shares = [e.data["after"] for e in evidence.of("feature.exposed") if e.data["tier"] == tier]
        if not shares or shares[-1] != 1.0:
            yield f"{tier} ended at {shares[-1] if shares else 'nothing'}"


def no_paying_user_is_refused_by_a_gate(evidence: Evidence, _: str) -> Iterator[str]:
    """Gateways counted admissions of every paying tier, and no refusal by a gate."""
    for name in (name for name, tier in evidence.plan.tiers.items() if not tier.gated):
        counted = [e for e in evidence.of("admission.counted") if e.data["tier"] == name]
        refused = sum(int(str(e.data["refused_by_gate"])) for e in counted)
        if refused:
            yield f"{refused} requests of {name} were refused by a gate"
        if not any(int(str(e.data["admitted"])) for e in counted):
            yield f"no request of {name} was admitted"


def stages_advance_when_the_plan_has_reached_them(evidence: Evidence, _: str) -> Iterator[str]:
    """Each stage opened after its instant, its approval, and the stage before had baked."""
    for name, rollout in evidence.plan.rollouts.items():
        before: str | None = None
        for stage in rollout.stages:
            yield from _advanced_in_time(evidence.about(f"rollout/{name}"), stage, before)
            before = stage.name


def _advanced_in_time(evidence: Evidence, stage: StageSpec, before: str | None) -> Iterator[str]:
    opened = evidence.first("stage.advanced", stage=stage.name)
    if opened is None:
        yield f"{stage.name} never opened"
        return
    if stage.starts_at is not None and opened.at < stage.starts_at:
        yield f"{stage.name} opened {_at(opened)}, before its instant {stage.starts_at:%T}"
    needed = [("stage.due", stage.name)]
    needed += [("stage.approved", stage.name)] if stage.approval else []
    needed += [("stage.baked", before)] if before else []
    for event_type, of in needed:
        first = evidence.first(event_type, stage=of)
        if first is None or first.at > opened.at:
            yield f"{stage.name} opened {_at(opened)}, {event_type} of {of} came {_at(first)}"


def stages_advance_on_ready_replicas(evidence: Evidence, _: str) -> Iterator[str]:
    """At the instant a stage opened, ready GPUs covered it and all stages before it.

    Held against two sources: what the budget knew when it let the claim be spent, and the last
    count of the capacity loop before that.
    """
    for name, rollout in evidence.plan.rollouts.items():
        reserved = 0
        for stage in rollout.stages:
            reserved += stage.reserve
            opened = evidence.about(f"rollout/{name}").first("stage.advanced", stage=stage.name)
            if opened is not None and stage.reserve:
                yield from _opened_on_ready(evidence, stage, opened, reserved)


def _opened_on_ready(
    evidence: Evidence, stage: StageSpec, opened: Event, reserved: int
) -> Iterator[str]:
    spent = [e for e in evidence.of("claim.spent") if _is_of(e, stage.name)]
    if not spent or spent[0].at > opened.at:
        yield f"{stage.name} opened without its GPUs"
        return
    ready, in_use = (int(str(spent[0].data[key])) for key in ("ready_gpus", "in_use_gpus"))
    if ready < in_use + stage.reserve:
        yield f"{stage.name}: {ready} GPUs ready, {in_use} in use, {stage.reserve} reserved"
    counted = [e for e in evidence.of("pool.sized") if e.at <= spent[0].at]
    if not counted or int(str(counted[-1].data["ready_gpus"])) < reserved:
        seen = counted[-1].data["ready_gpus"] if counted else "nothing"
        yield f"{stage.name}: {seen} GPUs counted ready, {reserved} reserved by then"


def happens_in_order(evidence: Evidence, types: str) -> Iterator[str]:
    """These events are told in this order, whatever else is told between them."""
    told = iter(evidence.events)
    last = "the beginning"
    for wanted in types.split(","):
        if not any(event.type == wanted for event in told):
            yield f"{wanted} was not told after {last}"
            return
        last = wanted


def nothing_widens_between(evidence: Evidence, bounds: str) -> Iterator[str]:
    """No exposure grows from the first event of one type to the first of another after it."""
    first, last = bounds.split(",")
    begins = evidence.first(first)
    if begins is None:
        yield f"{first} was never told"
        return
    ends = next((e for e in evidence.of(last) if e.at >= begins.at), None)
    if ends is None:
        yield f"{last} was not told after {first}"
        return
    for event in evidence.of("feature.exposed"):
        if begins.at <= event.at < ends.at and _grew(event):
            yield f"{event.data['feature']} grew for {event.data['tier']} {_at(event)}"


def stands_still_while_frozen(evidence: Evidence, rollout: str) -> Iterator[str]:
    """A rollout was frozen and thawed, and no stage of it opened in between."""
    frozen = False
    times = 0
    for event in evidence.about(f"rollout/{rollout}").events:
        if event.type == "plan.frozen":
            frozen, times = True, times + 1
        elif event.type == "plan.thawed":
            frozen = False
        elif frozen and event.type == "stage.advanced":
            yield f"{event.data['stage']} opened {_at(event)}"
    if frozen or not times:
        yield f"{rollout} was {'never thawed' if frozen else 'never frozen'}"


def is_given_back_in_the_reverse_order(evidence: Evidence, code_red: str) -> Iterator[str]:
    """What a code red froze and lent is thawed and given back, the last first."""
    whose = f"code-red/{code_red}"
    verbs = ("plan.frozen", "claim.lent", "plan.thawed", "claim.released")
    mine = [
        e
        for e in evidence.of(*verbs)
        if e.data.get("freeze") == whose or str(e.data.get("claim")).startswith(f"{whose}/")
    ]
    done, undone = (
        [str(e.data.get("claim") or e.subject) for e in mine if e.type in pair]
        for pair in (verbs[:2], verbs[2:])
    )
    if not done:
        yield f"{whose} froze and lent nothing"
    if undone != done[::-1]:
        yield f"done: {', '.join(done)}; undone: {', '.join(undone) or 'nothing'}"


def tiers_lose_the_model_when_they_were_told(evidence: Evidence, name: str) -> Iterator[str]:
    """The sunset came no earlier than it was announced, and each notice named its instant."""
    mine = evidence.about(f"retirement/{name}")
    announced = mine.first("retirement.announced")
    sunset = mine.first("retirement.sunset")
    if announced is None or sunset is None:
        yield f"{name} was {'never announced' if announced is None else 'never carried through'}"
        return
    if sunset.at < _instant(announced.data["sunset_at"]):
        yield f"the sunset came {_at(sunset)}, and was announced for {announced.data['sunset_at']}"
    notices = list(mine.of("retirement.notice"))
    told = {(e.data["tier"], e.data["reason"]) for e in notices}
    if not notices or len(told) != len(notices):
        yield f"{len(notices)} notices were told, {len(told)} different ones"
    for notice in notices:
        if sunset.at < _instant(notice.data["ends_at"]) or notice.at >= sunset.at:
            yield f"{notice.data['tier']} was told {_at(notice)} of {notice.data['ends_at']}"


def nobody_is_admitted_after(evidence: Evidence, event: str) -> Iterator[str]:
    """From this event on, of a type and a subject, nobody is let in where they were before.

    The first count of each tier after it may tell of those who came before it.
    """
    event_type, _, subject = event.partition(" ")
    ended = evidence.about(subject).first(event_type)
    if ended is None:
        yield f"{event} was never told"
        return
    admitted = [e for e in evidence.of("admission.counted") if int(str(e.data["admitted"]))]
    late = [e for e in admitted if e.at > ended.at]
    first = {(e.data.get("gateway"), e.data.get("pool"), e.data["tier"]) for e in late}
    if not admitted or len(late) > len(first):
        yield f"{len(late)} of {len(admitted)} counts of admissions came after it"


def nobody_is_admitted_before(evidence: Evidence, event_type: str) -> Iterator[str]:
    """Until the first event of this type nobody is let in, and afterwards somebody is."""
    begins = evidence.first(event_type)
    if begins is None:
        yield f"{event_type} was never told"
        return
    admitted = [e for e in evidence.of("admission.counted") if int(str(e.data["admitted"]))]
    early = [e for e in admitted if e.at < begins.at]
    if not admitted or early:
        yield f"{len(early)} of {len(admitted)} counts of admissions came before it"


def its_gpus_are_given_back(evidence: Evidence, pool: str) -> Iterator[str]:
    """What a pool's stages had reserved is released, and the pool ends without a replica."""
    spent = [e.data["claim"] for e in evidence.of("claim.spent") if e.data["pool"] == pool]
    freed = {e.data["claim"] for e in evidence.of("claim.released")}
    if not spent or not freed.issuperset(spent):
        yield f"{pool} spent {', '.join(map(str, spent)) or 'nothing'}, and kept it"
    sized = [e for e in evidence.of("pool.sized") if e.data.get("pool") == pool]
    if not sized or int(str(sized[-1].data["booked_gpus"])):
        yield f"{pool} ended with {sized[-1].data['booked_gpus'] if sized else 'unknown'} GPUs"


def those_inside_are_served_while_signups_are_suspended(
    evidence: Evidence, tier: str
) -> Iterator[str]:
    """Requests of a tier are admitted between the suspension of sign-ups and their reopening."""
    begins = evidence.first("feature.signups_suspended")
    ends = evidence.first("feature.signups_reopened")
    if begins is None or ends is None:
        yield "sign-ups were not suspended and reopened"
        return
    admitted = [
        e
        for e in evidence.of("admission.counted")
        if e.data["tier"] == tier and begins.at < e.at < ends.at and int(str(e.data["admitted"]))
    ]
    if not admitted:
        yield f"no request of {tier} was admitted between {_at(begins)} and {_at(ends)}"


def no_pool_books_more_gpus_than_are_installed(evidence: Evidence, _: str) -> Iterator[str]:
    """The capacity loop never asked for more GPUs than there were."""
    for event in evidence.of("pool.sized"):
        booked, installed = event.data["booked_gpus"], event.data["installed_gpus"]
        if installed is not None and int(str(booked)) > int(str(installed)):
            yield f"{_at(event)}: {booked} GPUs booked, {installed} installed"


ALL: Final[Mapping[str, Holds]] = {
    holds.__name__.replace("_", "-"): holds
    for holds in (
        events_have_no_gap,
        paying_tiers_open_before,
        stage_waits_for_gpus,
        stage_is_told_a_range_or_unknown,
        opens_fully,
        no_paying_user_is_refused_by_a_gate,
        stages_advance_when_the_plan_has_reached_them,
        stages_advance_on_ready_replicas,
        no_pool_books_more_gpus_than_are_installed,
        happens_in_order,
        nothing_widens_between,
        stands_still_while_frozen,
        is_given_back_in_the_reverse_order,
        tiers_lose_the_model_when_they_were_told,
        nobody_is_admitted_after,
        nobody_is_admitted_before,
        its_gpus_are_given_back,
        those_inside_are_served_while_signups_are_suspended,
    )
}


def examine(
    evidence: Evidence, holds: Sequence[str | Mapping[str, str | list[str]]]
) -> list[Finding]:
    """Hold the evidence against each thing that a scenario says must hold."""
    findings: list[Finding] = []
    for entry in holds:
        name, about = (entry, "") if isinstance(entry, str) else next(iter(entry.items()))
        argument = about if isinstance(about, str) else ",".join(about)
        failures = list(ALL[name](evidence, argument))
        shown = f"{name}: {argument}" if argument else name
        findings.append(Finding(shown, held=not failures, seen="; ".join(failures[:3])))
    return findings


def _first_exposure(evidence: Evidence, tier: str) -> Event | None:
    exposed = (e for e in evidence.of("feature.exposed") if e.data["tier"] == tier)
    return next((e for e in exposed if float(str(e.data["after"])) > 0.0), None)


def _is_of(event: Event, stage: str) -> bool:
    return str(event.data["claim"]).endswith(f"/{stage}")


def _grew(event: Event) -> bool:
    return float(str(event.data["after"])) > float(str(event.data["before"]))


def _instant(text: object) -> datetime:
    return datetime.fromisoformat(str(text))


def _at(event: Event | None) -> str:
    return "never" if event is None else f"at {event.at:%H:%M:%S.%f}"[:-3]
