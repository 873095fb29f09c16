"""Who is asking: a tier counts where a configured source vouches for it, and nowhere else."""

import hashlib
import time
from collections.abc import Mapping
from typing import Final

import pytest

from gateway.evaluate import Evaluator
from gateway.identity import Identity, NotBelieved
from gateway.replies import Request
from gateway.tally import Tally
from gateway.tokens import TokenReader
from tests.gateway.asking import Asked, entrance, quotas_alone
from tests.gateway.provider import EC_KEY, ISSUER, OTHER_KEY, providing, signed
from tests.tidegate.snapshots import feature, intent, snapshot
from tidegate.callers import CallersSpec, JwtSpec
from tidegate.holding import SnapshotHolder
from tidegate.rules.outcome import Question
from tidegate.snapshot import lowest_tier

HELD: Final = snapshot(intent({"image": feature(exposure={"pro": 1.0})}))
FLAGS: Final = "/ofrep/v1/evaluate/flags"
NOBODY: Final = {"Authorization": "Basic nobody"}
"""A header that is no credential of ours, in place of the one that tests show."""

KEY: Final = "the-key-of-web"
SPEC: Final = CallersSpec.model_validate(
    {
        "apiKeys": [
            {"name": "web", "sha256": hashlib.sha256(KEY.encode()).hexdigest()},
            {
                "name": "app",
                "sha256": hashlib.sha256(b"the-key-of-app").hexdigest(),
                "tiers": ["free", "plus"],
                "surfaces": ["api"],
            },
        ],
        "proxies": {"addresses": ["10.0.0.0/8"], "header": "X-Tier"},
    }
)


def asked(tier: str = "pro", surface: str = "api") -> Question:
    return Question("image", "ada", tier, surface)


def vouched(
    headers: Mapping[str, str],
    question: Question | None = None,
    *,
    peer: str = "192.0.2.7",
    tokens: TokenReader | None = None,
) -> Question:
    holder = SnapshotHolder()
    holder.take(HELD)
    identity = Identity(SPEC, tokens)
    evaluator = Evaluator(holder, Tally(), time.time, identity, entrance(), quotas_alone())
    given = [(name.encode(), value.encode()) for name, value in headers.items()]
    request = Request(b"POST", b"/v1/admit", given, b"", peer)
    return evaluator.vouched(request, question or asked(), holder.now_held)


async def test_a_tier_that_a_client_claims_for_itself_is_ignored_at_every_endpoint() -> None:
    gateway = Asked(HELD)
    body = {"feature": "image", "user": "ada", "tier": "pro"}
    context = {"context": {"targetingKey": "ada", "tier": "pro"}}
    query = "feature=image&user=ada&tier=pro"
    admitted = await gateway.post("/v1/admit", body, NOBODY)
    one = await gateway.post(f"{FLAGS}/image", context, NOBODY)
    every = await gateway.post(FLAGS, context, NOBODY)
    why = await gateway.ask("GET", "/v1/why", b"", query=query, headers=NOBODY)
    assert (admitted.status, admitted.json["tier"]) == (403, "free")
    assert (one.json["value"], one.json["metadata"]["tier"]) == (False, "free")
    assert (every.json["flags"][0]["value"], why.json["tier"]) == (False, "free")
    assert (await gateway.post("/v1/admit", body)).json["tier"] == "pro"


async def test_an_unknown_key_is_a_401_at_every_endpoint() -> None:
    gateway, wrong = Asked(HELD), {"Authorization": "Bearer not-a-key"}
    context = {"context": {"targetingKey": "ada", "tier": "pro"}}
    answers = [
        await gateway.post("/v1/admit", {"feature": "image", "user": "ada"}, wrong),
        await gateway.post(f"{FLAGS}/image", context, wrong),
        await gateway.post(FLAGS, context, wrong),
        await gateway.ask("GET", "/v1/why", b"", query="feature=image&user=ada", headers=wrong),
    ]
    for answer in answers:
        assert (answer.status, answer.json["code"]) == (401, "caller-unknown")
        assert answer.headers["www-authenticate"] == "Bearer"


def test_a_server_vouches_by_its_key_however_it_shows_it() -> None:
    assert vouched({"authorization": f"Bearer {KEY}"}).tier == "pro"
    assert vouched({"AUTHORIZATION": f"bearer {KEY}"}).tier == "pro"
    assert vouched({"X-API-Key": KEY}).tier == "pro"
    assert vouched({"X-API-Key": KEY}, asked(tier="")).tier == "free"


def test_a_key_vouches_for_its_tiers_and_surfaces_only() -> None:
    key = {"X-API-Key": "the-key-of-app"}
    assert vouched(key, asked("plus")).tier == "plus"
    for question in (asked("pro"), asked("plus", "web")):
        with pytest.raises(NotBelieved) as refused:
            vouched(key, question)
        assert refused.value.status == 403


def test_a_listed_proxy_is_believed_and_nobody_else_by_the_same_header() -> None:
    assert vouched({"x-tier": "plus"}, peer="10.1.2.3").tier == "plus"
    assert vouched({"x-tier": "plus"}, peer="192.0.2.7").tier == "free"
    assert vouched({"x-tier": "plus"}, peer="::ffff:10.1.2.3").tier == "plus"


def test_a_proxy_that_adds_its_header_to_the_clients_is_not_believed() -> None:
    with pytest.raises(NotBelieved, match="comes 2 times") as refused:
        vouched({"X-Tier": "pro", "x-tier": "free"}, peer="10.1.2.3")
    assert refused.value.status == 401


async def test_a_token_says_the_tier_and_the_user() -> None:
    async with providing() as provider:
        spec = JwtSpec(
            jwks=provider.url,
            issuer=ISSUER,
            audience="tidegate",
            claim="app.tier",
            user_claim="sub",
        )
        tokens = TokenReader(spec, time.time)
        await tokens.refresh()
        good = signed(EC_KEY, "ec", "ES256", sub="grace", app={"tier": "plus"})
        forged = signed(OTHER_KEY, "rsa", "RS256", app={"tier": "pro"})
        found = vouched({"authorization": f"Bearer {good}"}, tokens=tokens)
        assert (found.tier, found.user) == ("plus", "grace")
        with pytest.raises(NotBelieved) as refused:
            vouched({"authorization": f"Bearer {forged}"}, tokens=tokens)
        assert refused.value.status == 401


def test_the_lowest_tier_is_the_one_served_last() -> None:
    assert lowest_tier(HELD.intent) == "free"
    assert lowest_tier(None) == ""


def test_a_key_counts_only_as_it_is_to_be_written_whatever_was_shown_before() -> None:
    identity = Identity(SPEC)

    def caller(name: str, value: str) -> str:
        headers = [(name.encode(), value.encode())]
        return identity.caller_of(Request(b"POST", b"/v1/admit", headers)).name

    for _ in range(2):
        assert caller("X-API-Key", KEY) == caller("authorization", f"bearer   {KEY}")
        assert caller("Authorization", KEY) == "nobody"
        with pytest.raises(NotBelieved):
            caller("X-API-Key", f"Bearer {KEY}")
