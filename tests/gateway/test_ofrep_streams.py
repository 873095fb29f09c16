"""Who is refused over OFREP, and the stream that its bulk answer names, as 0.3 has them."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from gateway.evaluate import Evaluator
from gateway.identity import Identity
from gateway.ofrep import FLAGS_PATH, OfrepHandler
from gateway.replies import Reply, Request, Stream
from gateway.streams import EVENTS_PATH, Streams
from gateway.tally import Tally
from gateway.tokens import TokenReader
from tests.gateway.asking import CALLERS, Asked, entrance, quotas_alone
from tests.gateway.provider import ISSUER, RSA_KEY, signed
from tests.tidegate.snapshots import feature, gate, intent, snapshot
from tidegate.callers import ApiKeySpec, CallersSpec, JwtSpec
from tidegate.changes import Change, offered_by
from tidegate.holding import SnapshotHolder
from tidegate.snapshot import Snapshot

FLAGS = FLAGS_PATH.decode()
BODY = json.dumps({"context": {"targetingKey": "ada", "tier": "pro"}}).encode()
PATHS = (FLAGS_PATH, FLAGS_PATH + b"/image")


def refused(path: bytes, callers: CallersSpec, authorization: str) -> Reply:
    """Ask with a credential, while no keys for tokens were ever fetched."""
    holder = SnapshotHolder()
    holder.take(snapshot())
    jwt = JwtSpec(issuer=ISSUER, audience="tidegate", claim="tier", jwks="http://127.0.0.1:1/jwks")
    identity = Identity(callers, TokenReader(jwt, time.time))
    evaluator = Evaluator(holder, Tally(), time.time, identity, entrance(), quotas_alone())
    handler = OfrepHandler(evaluator)
    shown = [(b"authorization", authorization.encode())]
    request = Request(b"POST", path, shown, BODY)
    reply = handler.all(request) if path == FLAGS_PATH else handler.one(request)
    assert isinstance(reply, Reply)
    return reply


@pytest.mark.parametrize("path", PATHS)
def test_a_caller_who_is_refused_is_told_why_in_a_problem_document(path: bytes) -> None:
    (known,) = CALLERS.api_keys
    narrow = ApiKeySpec(name="narrow", sha256=known.sha256, tiers=("free",))
    unknown = refused(path, CALLERS, "Bearer not-a-key")
    too_narrow = refused(path, CallersSpec(api_keys=(narrow,)), "Bearer a-key-for-tests")
    told = [json.loads(reply.body)["code"] for reply in (unknown, too_narrow)]
    assert told == ["caller-unknown", "tier-not-vouched"]
    assert [unknown.status, too_narrow.status] == [401, 403]
    assert dict(too_narrow.headers)[b"content-type"] == b"application/problem+json"


@pytest.mark.parametrize("path", PATHS)
def test_while_no_token_can_be_checked_the_provider_is_not_ready(path: bytes) -> None:
    reply = refused(path, CALLERS, f"Bearer {signed(RSA_KEY, 'rsa', 'RS256', tier='pro')}")
    told = json.loads(reply.body)
    assert (reply.status, told["errorCode"]) == (503, "PROVIDER_NOT_READY")
    assert told.get("key") == (None if path == FLAGS_PATH else "image")
    assert told["errorDetails"]
    assert int(dict(reply.headers)[b"retry-after"]) >= 1


async def test_a_stream_is_named_by_its_target_alone_so_that_clients_add_their_own_origin() -> None:
    answer = await Asked(snapshot()).post(FLAGS, json.loads(BODY))
    (stream,) = answer.json["eventStreams"]
    assert stream["type"] == "sse"
    assert ("url" in stream) + ("endpoint" in stream) == 1
    assert stream["endpoint"]["requestUri"] == EVENTS_PATH.decode()
    assert type(stream["inactivityDelaySec"]) is int
    assert stream["inactivityDelaySec"] >= 1


async def test_what_an_event_told_may_be_named_in_the_question_that_follows() -> None:
    query = "flagConfigEtag=abc123&flagConfigLastModified=1771622898"
    asked = Asked(snapshot())
    answer = await asked.ask("POST", FLAGS, BODY, query=query)
    assert answer.json == (await asked.ask("POST", FLAGS, BODY)).json


# --- the stream itself ---


@asynccontextmanager
async def listening(holder: SnapshotHolder) -> AsyncIterator[asyncio.Queue[bytes]]:
    streams, heard = Streams(holder), asyncio.Queue[bytes]()
    stream = streams.refetch(Request(b"GET", EVENTS_PATH))
    assert isinstance(stream, Stream)
    assert b"content-type: text/event-stream\r\n" in stream.head
    running = asyncio.create_task(streams.run())
    await asyncio.sleep(0)  # it begins with what is held before anything changes
    end = stream.open(heard.put_nowait)
    assert await heard.get() == b": open\n\n"
    try:
        yield heard
    finally:
        end()
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


async def test_an_answer_that_may_have_changed_is_asked_for_again() -> None:
    holder = SnapshotHolder()
    holder.take(snapshot())
    async with listening(holder) as heard, asyncio.timeout(5.0):
        holder.take(snapshot(intent({"image": feature(exposure={})}, version=20)))
        assert await heard.get() == b'data: {"type":"refetchEvaluation"}\n\n'


async def test_a_gate_that_is_renewed_and_did_not_move_is_no_reason_to_ask_again() -> None:
    holder = SnapshotHolder()
    holder.take(snapshot())
    async with listening(holder) as heard, asyncio.timeout(5.0):
        holder.take(snapshot(intent(), gate(version=12)))
        holder.take(snapshot(intent(), gate(version=13)))
        holder.take(snapshot(intent(), gate({"free": 0.5}, version=14)))
        assert b"refetchEvaluation" in await heard.get()
        assert heard.empty()


async def test_whoever_follows_is_told_the_parts_that_change_and_nothing_else() -> None:
    many = {f"f{n}": feature() for n in range(300)}
    holder, follower, sizes = SnapshotHolder(), SnapshotHolder(), list[int]()
    holder.take(snapshot(intent(many)))
    streams, heard = Streams(holder), asyncio.Queue[bytes]()
    stream = streams.follow(Request(b"GET", b"/v1/snapshot/stream"))
    assert isinstance(stream, Stream)
    stream.open(heard.put_nowait)
    running = asyncio.create_task(streams.run())
    in_turn = [
        Snapshot(gates={"image": gate(version=12)}),
        Snapshot(intent=intent(dict(many), version=20)),
        Snapshot(gates={"image": gate({"free": 0.0}, version=21)}),
        Snapshot(intent=intent({}, version=22)),
    ]
    async with asyncio.timeout(5.0):
        for offered in (Snapshot(), *in_turn):
            holder.take(offered)
            event = await heard.get()
            change = Change.model_validate_json(event.removeprefix(b"data: "))
            taken = offered_by(change, follower.now_held.snapshot)
            assert taken is not None
            follower.take(taken)
            assert follower.now_held.snapshot == holder.now_held.snapshot
            sizes.append(len(event))
    running.cancel()
    assert sizes[0] > 50_000
    assert max(sizes[1:4]) < 1_000


async def test_a_thousand_and_first_listener_is_sent_elsewhere() -> None:
    holder = SnapshotHolder()
    streams = Streams(holder, most=1)
    stream = streams.refetch(Request(b"GET", EVENTS_PATH))
    assert isinstance(stream, Stream)
    end = stream.open(lambda _: None)
    refusal = streams.refetch(Request(b"GET", EVENTS_PATH))
    assert isinstance(refusal, Reply)
    assert refusal.status == 503
    end()
    assert isinstance(streams.refetch(Request(b"GET", EVENTS_PATH)), Stream)
