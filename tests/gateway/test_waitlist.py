"""The waitlist's door: a place that is kept, called, and good for its owner alone."""

import asyncio
import gc
import time
import tracemalloc
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gateway.desk import Desk
from gateway.replies import Request
from gateway.tickets import Tickets
from tests.gateway.asking import NOBODY, Answer, Asked
from tests.real_redis import RealRedis, real_redis
from tests.tidegate.snapshots import NOW, POOL, TIERS, feature, gate, intent
from tidegate.edges.redis import Redis
from tidegate.edges.redis_numbers import NumberBook
from tidegate.errors import Refused, Unavailable
from tidegate.rules.outcome import Question
from tidegate.signing import Key, Keyring
from tidegate.snapshot import (
    DateRange,
    Lane,
    Signups,
    Snapshot,
    TierPolicy,
    WaitlistIntent,
    WaitlistPart,
)

pytestmark = pytest.mark.integration

PACE = WaitlistIntent(calls_per_s=2.0, claim_window_s=60.0)
GUEST = {**TIERS, "guest": TierPolicy(rank=3, gated=True)}


def line(
    lane: Lane | None = None,
    *,
    version: int = 20,
    stopped: str | None = None,
    expires_at: float = NOW + 1e6,
) -> WaitlistPart:
    lane = lane or Lane()
    moves = ((NOW + 59.0, {"free": lane.called_below}),) if lane.called_below else ()
    return WaitlistPart(
        feature="image",
        version=version,
        issued_at=NOW,
        expires_at=expires_at,
        lanes={"free": lane, "guest": Lane()},
        moves=moves,
        stopped_because=stopped,
    )


def held(lane: Lane | None = None, *, ceiling: float = 0.0, **changes: object) -> Snapshot:
    stopped = "pool image is waitlisted" if ceiling == 0.0 else None
    everybody = dict.fromkeys(GUEST, 1.0)
    offered = feature(waitlist=PACE, exposure=everybody, **changes)
    part = intent({"image": offered}, expires_at=NOW + 1e6, tiers=GUEST)
    shut = gate({"free": ceiling, "guest": 0.0}, expires_at=NOW + 1e6)
    return Snapshot(
        intent=part, gates={"image": shut}, waitlists={"image": line(lane, stopped=stopped)}
    )


async def join(asked: Asked, user: str = "ada", ticket: str = "", **more: object) -> Answer:
    headers = {"Tidegate-Ticket": ticket} if ticket else {}
    question = {"feature": "image", "user": user, "tier": "free", "asks": "signup", **more}
    return await asked.post("/v1/waitlist", question, headers)


async def admit(asked: Asked, ticket: str, path: str = "/v1/admit", **more: object) -> Answer:
    question = {"feature": "image", "user": "ada", "tier": "free", "asks": "signup", **more}
    return await asked.post(path, question, {"Tidegate-Ticket": ticket})


async def opened(redis: Redis, tier: str, first: int, below: int) -> None:
    book = NumberBook(redis)
    assert await book.open("image", tier, await book.look("image", tier), first, below)


@pytest.fixture
async def redis(tmp_path: Path) -> AsyncIterator[tuple[RealRedis, Redis]]:
    async with real_redis(tmp_path) as (server, client):
        for tier in ("free", "guest"):
            await opened(client, tier, 0, 10_000_000)
        yield server, client


@pytest.fixture
def asked(redis: tuple[RealRedis, Redis]) -> Asked:
    return Asked(held(), redis=redis[1])


def call(asked: Asked, below: int, **lane: object) -> None:
    """Let the gate controller have called everybody below a number, a second ago."""
    version = asked.holder.now_held.snapshot.waitlists["image"].version + 1
    called = Lane.model_validate({"issued_below": 100, "called_below": below, **lane})
    assert asked.holder.take(Snapshot(waitlists={"image": line(called, version=version)}))


# --- a place ---


async def test_whoever_has_to_wait_is_given_a_place_and_told_what_is_known(asked: Asked) -> None:
    first, second = await join(asked), await join(asked, "bob")
    assert (first.status, first.json["state"], second.status) == (202, "waiting", 202)
    assert [first.json["number"], second.json["number"]] == [0, 1]
    assert [first.json["ahead"], second.json["ahead"]] == [0, 1]
    assert first.json["expected"] == "unknown"
    assert first.json["reason"] == "pool image is waitlisted"
    # Half a claim window, spread by a quarter: nobody who asks as told misses a call.
    assert 22 <= int(first.headers["retry-after"]) <= 38


async def test_a_place_is_kept_by_showing_the_ticket_and_costs_no_other_number(
    asked: Asked,
) -> None:
    first = await join(asked)
    again = await join(asked, ticket=first.json["ticket"])
    assert (again.status, again.json["number"], again.json["ticket"]) == (
        202,
        0,
        first.json["ticket"],
    )
    assert (await join(asked, "bob")).json["number"] == 1


async def test_no_number_is_given_out_twice_by_however_many_gateways(
    redis: tuple[RealRedis, Redis],
) -> None:
    gateways = [Asked(held(), redis=redis[1]) for _ in range(3)]
    answers = await asyncio.gather(
        *(join(gateways[n % 3], f"user-{n}") for n in range(300)),
    )
    numbers = [answer.json["number"] for answer in answers]
    assert sorted(numbers) == sorted(set(numbers))
    assert max(numbers) < 400, "few numbers are left over"


async def test_lanes_are_counted_apart(asked: Asked) -> None:
    await join(asked)
    guest = await join(asked, "bob", tier="guest")
    assert (guest.json["tier"], guest.json["number"]) == ("guest", 0)


async def test_the_wait_is_a_range_from_the_lanes_pace(redis: tuple[RealRedis, Redis]) -> None:
    lane = Lane(issued_below=200, calls_per_s=2.0, late=((1.0, 2.0),) * 8)
    asked = Asked(held(lane), redis=redis[1])
    await asyncio.gather(*(join(asked, f"user-{n}") for n in range(199)))
    answer = await join(asked)
    assert answer.json["ahead"] == 199
    told = [datetime.fromisoformat(answer.json["expected"][q]).timestamp() for q in ("p50", "p90")]
    assert told == [NOW + 100.0, NOW + 200.0]


async def test_the_wait_counts_on_gpus_that_are_known_to_arrive(
    redis: tuple[RealRedis, Redis],
) -> None:
    days = [datetime.fromtimestamp(NOW + 86_400.0 * day, UTC) for day in (2, 5)]
    arriving = held()
    assert arriving.intent is not None
    pool = POOL.model_copy(update={"grows": DateRange(p50=days[0], p90=days[1])})
    part = arriving.intent.model_copy(update={"pools": {"image": pool}})
    asked = Asked(arriving.model_copy(update={"intent": part}), redis=redis[1])
    expected = (await join(asked)).json["expected"]
    assert (expected["p50"][:10], expected["p90"][:10]) == ("2026-02-27", "2026-03-02")


# --- being called ---


@pytest.mark.parametrize("path", ["/v1/admit", "/v1/sessions"])
async def test_whoever_is_called_comes_in_and_nobody_before(asked: Asked, path: str) -> None:
    ticket = (await join(asked)).json["ticket"]
    assert (await admit(asked, ticket, path)).json["code"] == "waitlisted"
    call(asked, 1)
    told = await join(asked, ticket=ticket)
    assert (told.status, told.json["state"], told.json["until"]) == (
        200,
        "called",
        "2026-02-25T06:14:19Z",
    )
    assert (await admit(asked, ticket, path)).status == 200
    assert (await admit(asked, "", path)).status == 429


async def test_a_user_inside_who_was_called_passes_the_gate_and_keeps_the_session(
    asked: Asked,
) -> None:
    ticket = (await join(asked, asks="use")).json["ticket"]
    assert (await admit(asked, ticket, asks="use")).json["code"] == "gate-shed"
    call(asked, 1)
    began = await admit(asked, ticket, "/v1/sessions", asks="use")
    assert began.status == 200
    asked.now = NOW + 120.0  # the claim window is over, the session is not
    shown = {"Tidegate-Pass": began.json["pass"]}
    question = {"feature": "image", "user": "ada", "tier": "free"}
    assert (await asked.post("/v1/admit", question, shown)).status == 200


async def test_a_call_ends_with_its_window_and_the_place_with_it(asked: Asked) -> None:
    ticket = (await join(asked)).json["ticket"]
    call(asked, 1)
    asked.now = NOW + 60.0
    assert (await admit(asked, ticket)).json["code"] == "waitlisted"
    told = await join(asked, ticket=ticket)
    assert (told.status, told.json["code"]) == (410, "ticket-expired")
    assert (await join(asked)).json["number"] == 1


async def test_a_lane_that_the_catalogue_dropped_leaves_a_ticket_expired(asked: Asked) -> None:
    ticket = (await join(asked, tier="guest")).json["ticket"]
    part = line(Lane(issued_below=5), version=30)
    kept = part.model_copy(update={"lanes": {"free": part.lanes["free"]}})
    assert asked.holder.take(Snapshot(waitlists={"image": kept}))
    assert (await join(asked, ticket=ticket)).json["code"] == "ticket-expired"


async def test_a_ticket_is_good_for_its_user_and_feature_alone(asked: Asked) -> None:
    ticket = (await join(asked)).json["ticket"]
    call(asked, 1)
    assert (await admit(asked, ticket, user="mallory")).status == 429
    stolen = await join(asked, "mallory", ticket)
    assert (stolen.status, stolen.json["code"]) == (400, "ticket-invalid")
    forged = ticket[:-4] + ("AAAA" if not ticket.endswith("AAAA") else "BBBB")
    assert (await admit(asked, forged)).status == 429
    assert (await join(asked, ticket=forged)).json["code"] == "ticket-invalid"
    assert "ada" not in ticket


async def test_a_ticket_outlives_the_key_that_signed_it_while_that_is_kept() -> None:
    old, new = Key("old", b"o" * 32), Key("new", b"n" * 32)
    question = Question("image", "ada", "free", "api")
    token = Tickets(Keyring((old,))).sign(question, 7).token
    request = Request(b"POST", b"/v1/waitlist", [(b"Tidegate-Ticket", token.encode())])
    shown = Tickets(Keyring((new, old))).shown(request, question)
    assert shown is not None
    assert shown.number == 7
    with pytest.raises(Refused, match="its key is not known here"):
        Tickets(Keyring((new,))).shown(request, question)


async def test_who_came_is_counted_for_the_controller(asked: Asked) -> None:
    ticket = (await join(asked)).json["ticket"]
    call(asked, 1)
    await admit(asked, ticket)
    use = asked.desk.uses["image"]["free"]
    assert (use.came, use.leased_below) == (1, 1)


# --- who does not wait ---


async def test_a_tier_that_is_not_gated_never_waits(asked: Asked) -> None:
    answer = await join(asked, tier="pro")
    assert (answer.status, answer.json["state"]) == (200, "open")


async def test_where_nobody_waits_and_the_gate_is_open_there_is_no_line(
    redis: tuple[RealRedis, Redis],
) -> None:
    asked = Asked(held(ceiling=1.0), redis=redis[1])
    assert (await join(asked)).json["state"] == "open"
    waiting = held(Lane(issued_below=5, called_below=3), ceiling=1.0)
    behind = Asked(waiting, redis=redis[1])
    answer = await join(behind)
    assert (answer.status, answer.json["number"]) == (202, 3)
    assert (await behind.admit(asks="signup")).json["code"] == "waitlisted"
    assert (await behind.admit()).status == 200, "those inside stand behind nobody"


async def test_suspended_signups_open_for_no_ticket(asked: Asked) -> None:
    ticket = (await join(asked)).json["ticket"]
    call(asked, 1)
    suspended = held(signups=Signups(state="suspended", reason="too many"))
    assert suspended.intent is not None
    part = suspended.intent.model_copy(update={"version": 99})
    assert asked.holder.take(Snapshot(intent=part))
    assert (await admit(asked, ticket)).json["code"] == "signups-suspended"
    assert (await join(asked, "bob")).json["code"] == "signups-suspended"


async def test_a_feature_without_a_waitlist_refuses_as_the_gate_does() -> None:
    part = intent(expires_at=NOW + 1e6)
    shut = gate({"free": 0.0}, expires_at=NOW + 1e6)
    answer = await join(Asked(Snapshot(intent=part, gates={"image": shut})))
    assert (answer.status, answer.json["code"]) == (429, "waitlisted")


# --- when Redis is lost ---


async def test_no_place_is_given_in_a_line_of_which_nothing_is_heard(asked: Asked) -> None:
    ticket = (await join(asked)).json["ticket"]
    unheard = line(version=30, expires_at=NOW - 1.0)
    assert asked.holder.take(Snapshot(waitlists={"image": unheard}))
    assert (await join(asked, "bob")).json["code"] == "waitlist-unavailable"
    assert (await join(asked, ticket=ticket)).json["number"] == 0


async def test_without_redis_nobody_joins_and_nobody_loses_a_place(
    redis: tuple[RealRedis, Redis], asked: Asked
) -> None:
    ticket = (await join(asked)).json["ticket"]
    await redis[0].stop()
    new = await join(asked, "bob")
    assert (new.status, new.json["code"]) == (503, "waitlist-unavailable")
    assert "retry-after" in new.headers
    assert (await join(asked, ticket=ticket)).json["number"] == 0
    call(asked, 1)
    assert (await admit(asked, ticket)).status == 200


async def test_a_redis_that_forgot_gives_out_nothing_until_it_is_opened_above(
    redis: tuple[RealRedis, Redis], asked: Asked
) -> None:
    for n in range(3):
        await join(asked, f"user-{n}")
    await redis[0].flush()
    assert (await join(asked)).json["code"] == "waitlist-unavailable"
    await opened(redis[1], "free", 500, 600)
    assert (await join(asked)).json["number"] == 500


async def test_a_redis_that_came_back_with_an_old_copy_gives_out_nothing(tmp_path: Path) -> None:
    async with real_redis(tmp_path) as (server, client):
        book = NumberBook(client)
        await opened(client, "free", 0, 100)
        old = await server.raw.dump("tidegate:numbers:image/free")
        assert old is not None
        await book.lease("image", "free", 10)
        await server.stop()
        await server.start()
        await server.raw.restore("tidegate:numbers:image/free", 0, old)
        with pytest.raises(Unavailable, match="no numbers are open"):
            await book.lease("image", "free", 1)
        assert not (await book.look("image", "free")).is_open


async def test_a_number_that_was_called_before_it_was_given_out_is_given_to_nobody(
    asked: Asked,
) -> None:
    call(asked, 7)
    assert (await join(asked)).json["number"] == 7


# --- what it costs ---


async def test_a_million_waiters_cost_no_more_memory_than_ten(
    redis: tuple[RealRedis, Redis],
) -> None:
    desk = Desk(NumberBook(redis[1]), time.monotonic)

    async def memory_after(count: int) -> int:
        for _ in range(0, count, 100):
            await asyncio.gather(*(desk.number("image", "free", 0) for _ in range(100)))
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    await memory_after(1_000)  # what is made once is made by now
    tracemalloc.start()
    try:
        few = await memory_after(100)
        many = await memory_after(5_000)
    finally:
        tracemalloc.stop()
    assert many - few < 4096, "less than a byte each"
    sizes = [len(line(Lane(issued_below=n)).model_dump_json()) for n in (10, 1_000_010)]
    assert sizes[1] - sizes[0] == len("1000010") - len("10")


async def test_an_address_where_nobody_answers_keeps_nobody_waiting() -> None:
    async with Redis(NOBODY) as nobody:
        desk = Desk(NumberBook(nobody), time.monotonic)
        with pytest.raises(Unavailable):
            await desk.number("image", "free", 0)
