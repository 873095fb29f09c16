"""Session passes: whoever was let in stays in while the gate narrows, and nobody else."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.passes import LIVES_S, SESSION_S, Passes
from gateway.replies import Request
from tests.gateway.asking import KEYS, Answer, Asked
from tests.tidegate.snapshots import NOW, feature, gate, intent, snapshot
from tidegate.rules.outcome import Question
from tidegate.signing import Key, Keyring
from tidegate.snapshot import Snapshot

OPEN = snapshot(intent(), gate(version=11, expires_at=NOW + 1e6))
SHUT = snapshot(intent(), gate({"free": 0.0}, version=12, expires_at=NOW + 1e6))
ADA = Question("image", "ada", "free", "api")


async def begin(asked: Asked, headers: Mapping[str, str] | None = None, **more: object) -> Answer:
    question = {"feature": "image", "user": "ada", "tier": "free", **more}
    return await asked.post("/v1/sessions", question, headers)


async def admit(asked: Asked, token: str, **more: object) -> Answer:
    question = {"feature": "image", "user": "ada", "tier": "free", **more}
    return await asked.post("/v1/admit", question, {"Tidegate-Pass": token})


def narrow(asked: Asked, to: Snapshot = SHUT) -> None:
    assert asked.holder.take(to)


async def test_a_session_that_was_let_in_stays_in_while_the_gate_shuts() -> None:
    asked = Asked(OPEN)
    began = await begin(asked)
    assert (began.status, began.json["allowed"]) == (200, True)
    assert began.json["pass_until"] == "2026-02-25T07:13:20Z"
    narrow(asked)
    assert (await asked.admit()).status == 429
    assert (await admit(asked, began.json["pass"])).status == 200


async def test_all_flags_are_told_as_a_session_has_them() -> None:
    asked = Asked(OPEN)
    token = (await begin(asked)).json["pass"]
    narrow(asked)
    context = {"context": {"targetingKey": "ada", "tier": "free"}}
    for path in ("/ofrep/v1/evaluate/flags", "/ofrep/v1/evaluate/flags/image"):
        without = await asked.post(path, context)
        shown = await asked.post(path, context, {"Tidegate-Pass": token})
        flags = [answer.json.get("flags", [answer.json])[0] for answer in (without, shown)]
        assert [flag["value"] for flag in flags] == [False, True]


async def test_an_explanation_is_of_the_session_that_shows_its_pass() -> None:
    asked = Asked(OPEN)
    token = (await begin(asked)).json["pass"]
    narrow(asked)
    query = "feature=image&user={}&tier=free"
    codes = [
        (await asked.get("/v1/why", query.format(user), headers=shown)).json["code"]
        for user, shown in (("ada", {}), ("ada", {"Tidegate-Pass": token}))
    ]
    assert codes == ["gate-shed", "allowed"]
    other = await asked.get("/v1/why", query.format("ben"), headers={"Tidegate-Pass": token})
    assert other.json["code"] == "gate-shed"


async def test_a_refused_session_is_given_no_pass() -> None:
    answer = await begin(Asked(SHUT))
    assert (answer.status, answer.json["code"]) == (429, "gate-shed")
    assert "pass" not in answer.json


@pytest.mark.parametrize("other", [{"user": "bob"}, {"feature": "video"}])
async def test_a_pass_is_no_good_for_somebody_or_something_else(other: dict[str, str]) -> None:
    features = {"image": feature(), "video": feature()}
    asked = Asked(snapshot(intent(features), gate(expires_at=NOW + 1e6)))
    token = (await begin(asked)).json["pass"]
    narrow(asked, snapshot(intent(features), gate({"free": 0.0}, version=12)))
    assert (await admit(asked, token)).status == 200
    assert (await admit(asked, token, **other)).status == 429


async def test_a_pass_ends() -> None:
    asked = Asked(OPEN)
    token = (await begin(asked)).json["pass"]
    narrow(asked)
    asked.now = NOW + LIVES_S - 1.0
    assert (await admit(asked, token)).status == 200
    asked.now = NOW + LIVES_S
    assert (await admit(asked, token)).status == 429


async def test_a_session_that_goes_on_is_renewed_and_still_ends() -> None:
    asked = Asked(OPEN)
    token = (await begin(asked)).json["pass"]
    narrow(asked)
    while asked.now < NOW + SESSION_S:
        renewed = await begin(asked, {"Tidegate-Pass": token})
        assert renewed.status == 200
        token = renewed.json["pass"]
        asked.now += LIVES_S / 2
    assert (await admit(asked, token)).status == 429
    assert (await begin(asked, {"Tidegate-Pass": token})).status == 429


@pytest.mark.parametrize(
    "held",
    [
        snapshot(intent({"image": feature(exposure={})}, version=13)),
        snapshot(intent({"image": feature(surfaces=("chat",))}, version=13)),
    ],
)
async def test_a_pass_opens_a_gate_and_nothing_else(held: Snapshot) -> None:
    asked = Asked(OPEN)
    token = (await begin(asked)).json["pass"]
    narrow(asked, held)
    assert (await admit(asked, token)).status == 403


@pytest.mark.parametrize("token", ["", "x", "a.b.c", "🜂".encode().decode("latin-1"), "a" * 9000])
async def test_what_is_no_pass_is_as_good_as_none(token: str) -> None:
    assert (await admit(Asked(SHUT), token)).status == 429


async def test_a_pass_of_another_key_is_as_good_as_none() -> None:
    stranger = Passes(Keyring((Key("test", b"x" * 32),)))
    assert (await admit(Asked(SHUT), stranger.begin(ADA, NOW, None).token)).status == 429


async def test_a_token_of_another_kind_is_as_good_as_none() -> None:
    claims = {"feature": "image", "user": "ada", "began": NOW, "until": NOW + 60.0}
    assert (await admit(Asked(SHUT), KEYS.sign("ticket", claims))).status == 429


@given(
    claims=st.dictionaries(
        st.sampled_from(["feature", "user", "began", "until"]),
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    )
)
def test_a_signed_pass_that_says_something_else_is_as_good_as_none(
    claims: dict[str, object],
) -> None:
    token = KEYS.sign("pass", claims)
    request = Request(b"POST", b"/v1/admit", [(b"Tidegate-Pass", token.encode())])
    assert Passes(KEYS).shown(request, ADA, NOW) is None


async def test_a_pass_does_not_name_its_user() -> None:
    token = (await begin(Asked(OPEN), user="ada-lovelace@example.org")).json["pass"]
    assert "ada" not in str(KEYS.verify("pass", token))
