"""Signed tokens: whose they are, for what, and that no text does worse than be refused."""

import base64
import json
import subprocess
import sys
from pathlib import Path

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.errors import PlanError, Refused
from tidegate.signing import Key, Keyring, load_keyring

OLD = Key("2026-10", b"o" * 32)
NEW = Key("2026-11", b"n" * 32)
RING = Keyring((NEW,))
GOOD = RING.sign("ticket", {"lane": "free", "sequence": 7})


def test_what_is_signed_is_read_back() -> None:
    claims = RING.verify("ticket", GOOD)
    assert (claims["lane"], claims["sequence"]) == ("free", 7)


def test_a_token_of_one_kind_is_no_good_as_another() -> None:
    with pytest.raises(Refused) as refused:
        RING.verify("session-pass", GOOD)
    assert refused.value.code == "token-invalid"


def test_after_a_rotation_older_tokens_are_good_until_their_key_is_dropped() -> None:
    before = Keyring((OLD,)).sign("ticket", {})
    rotated = Keyring((NEW, OLD))
    assert rotated.verify("ticket", before) == {"aud": "ticket"}
    assert jwt.get_unverified_header(rotated.sign("ticket", {}))["kid"] == NEW.kid
    with pytest.raises(Refused, match="not known here"):
        RING.verify("ticket", before)


def test_a_key_of_the_same_name_elsewhere_signs_nothing_for_us() -> None:
    forged = Keyring((Key(NEW.kid, b"x" * 32),)).sign("ticket", {"sequence": 1})
    with pytest.raises(Refused):
        RING.verify("ticket", forged)


def _with_header(header: object, payload: object) -> str:
    parts = (json.dumps(part).encode() for part in (header, payload))
    return ".".join([*(base64.urlsafe_b64encode(p).decode().rstrip("=") for p in parts), ""])


@pytest.mark.parametrize(
    "token",
    [
        "",
        ".",
        "..",
        "a.b.c",
        "\ud800.\udfff.é",
        "x" * 100_000,
        GOOD[:-1],
        GOOD.partition(".")[0],
        "e30." + GOOD,
        _with_header({"alg": "none", "kid": NEW.kid}, {"aud": "ticket"}),
        _with_header({"alg": "HS512", "kid": NEW.kid}, {"aud": "ticket"}),
        _with_header({"alg": "HS256"}, {"aud": "ticket"}),
        _with_header({"alg": "HS256", "kid": [NEW.kid]}, {"aud": "ticket"}),
        _with_header([], 7),
        _with_header("[" * 1000, "[" * 1000),
        jwt.encode({}, NEW.secret, "HS256", headers={"kid": NEW.kid}),
        jwt.encode({"aud": ["a", 7]}, NEW.secret, "HS256", headers={"kid": NEW.kid}),
        jwt.encode({"aud": 7}, NEW.secret, "HS256", headers={"kid": NEW.kid}),
    ],
)
def test_a_hostile_token_is_refused_and_nothing_else(token: str) -> None:
    with pytest.raises(Refused):
        RING.verify("ticket", token)


@given(st.text() | st.lists(st.text(alphabet="eyJ09_-"), min_size=3, max_size=3).map(".".join))
def test_any_text_is_refused_and_nothing_else(token: str) -> None:
    with pytest.raises(Refused):
        RING.verify("ticket", token)


@given(st.integers(0, len(GOOD) - 1), st.characters(codec="ascii"))
def test_a_token_with_one_character_changed_claims_nothing_new(at: int, other: str) -> None:
    changed = GOOD[:at] + other + GOOD[at + 1 :]
    try:
        claims = RING.verify("ticket", changed)
    except Refused:
        return
    # The last character of a signature holds bits that no byte is made of.
    assert claims == RING.verify("ticket", GOOD)


def test_keys_are_made_once_and_only_for_their_owner(tmp_path: Path) -> None:
    path = tmp_path / "state" / "keys.json"
    token = load_keyring(path).sign("ticket", {})
    assert load_keyring(path).verify("ticket", token)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in path.parent.iterdir()] == ["keys.json"]


def test_processes_that_start_at_once_agree_on_one_key(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    script = (
        "import sys; from pathlib import Path; from tidegate.signing import load_keyring;"
        "sys.stdin.readline(); print(load_keyring(Path(sys.argv[1])).sign('ticket', {}))"
    )
    command = [sys.executable, "-c", script, str(path)]
    started = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    for process in started:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    tokens = [process.communicate(timeout=30)[0].strip() for process in started]
    ring = load_keyring(path)
    assert [ring.verify("ticket", token) for token in tokens] == [{"aud": "ticket"}] * 4


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "7",
        "{}",
        '{"keys": []}',
        '{"keys": 7}',
        '{"keys": [{"kid": "a"}]}',
        '{"keys": [{"kid": "a", "secret": "c2hvcnQ="}]}',
        '{"keys": [{"kid": "a", "secret": "no base64!"}]}',
        '{"keys": [{"kid": "a", "secret": 7}]}',
    ],
)
def test_a_wrong_file_of_keys_is_named_and_never_replaced(text: str, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_text(text)
    with pytest.raises(PlanError) as wrong:
        load_keyring(path)
    assert str(path) in str(wrong.value)
    assert "TIDEGATE_KEYS" in str(wrong.value)
    assert path.read_text() == text
