"""Users' own tokens, checked against the keys that a real HTTP server publishes."""

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.tokens import LEEWAY_S, Said, TokenReader
from tests.gateway.provider import (
    EC_KEY,
    ISSUER,
    OTHER_KEY,
    RSA_KEY,
    Provider,
    as_jwk,
    providing,
    signed,
)
from tidegate.callers import JwtSpec
from tidegate.errors import Refused, Unavailable

PUBLIC_PEM = RSA_KEY.public_key().public_bytes(
    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
)


def spec(jwks: str, **more: Any) -> JwtSpec:  # noqa: ANN401 - fields of each their own type
    given: dict[str, Any] = {"issuer": ISSUER, "audience": "tidegate", "claim": "tier", **more}
    return JwtSpec(jwks=jwks, **given)


async def reading(provider: Provider, **more: Any) -> TokenReader:  # noqa: ANN401 - as above
    tokens = TokenReader(spec(provider.url, **more), time.time)
    await tokens.refresh()
    return tokens


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    async with providing() as provider:
        yield provider


@pytest.fixture
async def tokens(provider: Provider) -> TokenReader:
    return await reading(provider)


def refusal(tokens: TokenReader, token: str) -> str:
    with pytest.raises(Refused) as refused:
        tokens.read(token)
    assert refused.value.code == "token-invalid"
    return str(refused.value)


def test_a_token_says_the_tier_by_its_claim(tokens: TokenReader) -> None:
    assert tokens.read(signed(RSA_KEY, "rsa", "RS256", tier="pro")) == Said("pro", None)
    assert tokens.read(signed(EC_KEY, "ec", "ES256", tier="plus")) == Said("plus", None)


def test_a_token_without_the_claim_says_nothing_of_the_tier(tokens: TokenReader) -> None:
    for said in ({}, {"tier": None}, {"tier": ""}, {"tier": 7}, {"tier": ["pro"]}):
        assert tokens.read(signed(RSA_KEY, "rsa", "RS256", **said)).tier is None


@pytest.mark.parametrize(
    ("claim", "said", "tier"),
    [
        ("app.tier", {"app": {"tier": "gold"}}, "pro"),
        ("https://id.example/tier", {"https://id.example/tier": "gold"}, "pro"),
        ("groups", {"groups": ["staff", "basic", "gold"]}, "pro"),
        ("groups", {"groups": ["basic"]}, "free"),
        ("groups", {"groups": [{}, None, 7]}, None),
        ("app.tier", {"app": "gold"}, None),
        ("app.tier", {"app": {"tier": {"gold": 1}}}, None),
        ("tier", {"tier": "pro"}, None),
    ],
)
async def test_a_claim_is_found_by_its_path_and_mapped_to_a_tier(
    claim: str, said: dict[str, object], tier: str | None, provider: Provider
) -> None:
    tokens = await reading(provider, claim=claim, tiers={"gold": "pro", "basic": "free"})
    assert tokens.read(signed(RSA_KEY, "rsa", "RS256", **said)).tier == tier


async def test_the_user_may_come_from_a_claim_and_is_then_required(provider: Provider) -> None:
    tokens = await reading(provider, user_claim="sub")
    assert tokens.read(signed(RSA_KEY, "rsa", "RS256")).user == "ada"
    assert "which is the user" in refusal(tokens, signed(RSA_KEY, "rsa", "RS256", sub=None))


def test_times_hold_with_a_leeway_for_clocks(tokens: TokenReader) -> None:
    now = int(time.time())
    over, early = now - LEEWAY_S - 5, now + LEEWAY_S + 5
    assert "expired" in refusal(tokens, signed(RSA_KEY, "rsa", "RS256", exp=int(over)))
    assert "not good yet" in refusal(tokens, signed(RSA_KEY, "rsa", "RS256", nbf=int(early)))
    tokens.read(signed(RSA_KEY, "rsa", "RS256", exp=now - 5, nbf=now + 5))


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://elsewhere.example"},
        {"iss": None},
        {"aud": "another"},
        {"aud": None},
        {"exp": None},
        {"exp": "soon"},
        {"exp": [1]},
        {"exp": 10**400, "nbf": 10**400},
        {"exp": float("nan")},
        {"nbf": {}},
    ],
)
def test_a_token_for_others_or_for_no_time_is_refused(
    claims: dict[str, object], tokens: TokenReader
) -> None:
    refusal(tokens, signed(RSA_KEY, "rsa", "RS256", tier="pro", **claims))


def _forged(header: dict[str, object]) -> str:
    payload = {"iss": ISSUER, "aud": "tidegate", "exp": time.time() + 60, "tier": "pro"}
    parts = (json.dumps(part).encode() for part in (header, payload))
    return ".".join([*(base64.urlsafe_b64encode(p).decode().rstrip("=") for p in parts), ""])


def _hmac_with_the_public_key() -> str:
    # PyJWT itself will not sign with a key in PEM, which an attacker's own code will.
    import hashlib  # noqa: PLC0415
    import hmac  # noqa: PLC0415

    head = _forged({"alg": "HS256", "kid": "rsa", "typ": "JWT"}).rstrip(".")
    mac = hmac.digest(PUBLIC_PEM, head.encode(), hashlib.sha256)
    return head + "." + base64.urlsafe_b64encode(mac).decode().rstrip("=")


@pytest.mark.parametrize(
    "token",
    [
        _forged({"alg": "none", "kid": "rsa"}),
        _forged({"alg": "None", "kid": "rsa"}),
        _forged({"kid": "rsa"}),
        _forged({"alg": "RS256", "kid": "rsa"}),
        _forged({"alg": "RS256", "kid": ["rsa"]}),
        _hmac_with_the_public_key(),
        signed(OTHER_KEY, "rsa", "RS256", tier="pro"),
        signed(RSA_KEY, "rsa", "RS512", tier="pro"),
        signed(RSA_KEY, "ec", "RS256", tier="pro"),
        signed(EC_KEY, "rsa", "ES256", tier="pro"),
        jwt.encode({"tier": "pro"}, "s" * 32, "HS256", headers={"kid": "rsa"}),
        "a.b." + "c" * 20_000,
        "..",
        "",
    ],
)
def test_a_token_not_signed_by_the_provider_as_agreed_is_refused(
    token: str, tokens: TokenReader
) -> None:
    refusal(tokens, token)


async def test_a_key_for_one_algorithm_is_good_for_no_other(provider: Provider) -> None:
    provider.keys = [as_jwk(RSA_KEY, "rsa", alg="RS512")]
    tokens = await reading(provider, algorithms=("RS256", "RS512"))
    tokens.read(signed(RSA_KEY, "rsa", "RS512"))
    refusal(tokens, signed(RSA_KEY, "rsa", "RS256"))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(), min_size=3, max_size=3).map(".".join) | st.text())
def test_any_text_is_refused_and_nothing_else(tokens: TokenReader, token: str) -> None:
    refusal(tokens, token)


async def test_a_dropped_key_is_good_until_the_next_refresh(provider: Provider) -> None:
    tokens = await reading(provider)
    token = signed(RSA_KEY, "rsa", "RS256", tier="pro")
    provider.keys = [as_jwk(OTHER_KEY, "new")]
    assert tokens.read(token).tier == "pro"
    await tokens.refresh()
    assert "not known here" in refusal(tokens, token)


async def test_an_unknown_key_asks_for_a_refresh_and_many_ask_for_one(provider: Provider) -> None:
    tokens = TokenReader(spec(provider.url), time.time, at_most_every_s=0.3)
    running = asyncio.create_task(tokens.run())
    try:
        async with asyncio.timeout(10.0):
            while provider.asked < 1:
                await asyncio.sleep(0.005)
            provider.keys.append(as_jwk(OTHER_KEY, "new"))
            token, began = signed(OTHER_KEY, "new", "RS256", tier="pro"), time.monotonic()
            while True:
                try:
                    assert tokens.read(token).tier == "pro"
                    break
                except (Refused, Unavailable):
                    await asyncio.sleep(0.001)
        assert provider.asked == 2
        assert time.monotonic() - began >= 0.2
    finally:
        running.cancel()


async def test_before_the_first_keys_a_token_is_neither_good_nor_bad(provider: Provider) -> None:
    tokens = TokenReader(spec(provider.url), time.time)
    with pytest.raises(Unavailable):
        tokens.read(signed(RSA_KEY, "rsa", "RS256"))


@pytest.mark.parametrize("body", ["", "[]", '{"keys": 7}', '{"keys": [7]}', "x" * 2_000_000])
async def test_a_document_that_is_no_jwks_leaves_the_keys_as_they_are(
    body: str, provider: Provider
) -> None:
    tokens = await reading(provider)
    provider.body = body
    await tokens.refresh()
    assert tokens.read(signed(RSA_KEY, "rsa", "RS256", tier="pro")).tier == "pro"


async def test_keys_that_are_not_for_this_are_passed_over(provider: Provider) -> None:
    secret = base64.urlsafe_b64encode(b"s" * 32).decode()
    provider.keys = [
        {"kty": "oct", "kid": "secret", "k": secret},
        {"kty": "RSA", "kid": "broken", "n": "!", "e": "AQAB"},
        {"kty": "RSA", "kid": "none", "alg": "none", "n": "AQAB", "e": "AQAB"},
        {"kid": "nothing"},
        as_jwk(EC_KEY, "for-encryption", use="enc"),
        as_jwk(RSA_KEY, "rsa"),
    ]
    tokens = await reading(provider)
    assert tokens.read(signed(RSA_KEY, "rsa", "RS256", tier="pro")).tier == "pro"
    refusal(tokens, signed(EC_KEY, "for-encryption", "ES256"))
    refusal(tokens, jwt.encode({}, "s" * 32, "HS256", headers={"kid": "secret"}))


async def test_keys_may_come_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps({"keys": [as_jwk(RSA_KEY, "rsa")]}))
    tokens = TokenReader(spec(str(path)), time.time)
    await tokens.refresh()
    assert tokens.read(signed(RSA_KEY, "rsa", "RS256", tier="pro")).tier == "pro"
