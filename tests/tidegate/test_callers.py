"""The file of callers: what it may say, and how each mistake in it is told."""

from ipaddress import ip_network
from pathlib import Path

import pytest

from tidegate.callers import CallersSpec, load_callers
from tidegate.errors import PlanError

DIGEST = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
WHOLE = f"""
apiKeys:
  - {{name: shop, sha256: {DIGEST.upper()}, tiers: [free, pro], surfaces: [api]}}
proxies:
  addresses: [10.0.0.0/8, "::1"]
jwt:
  jwks: https://id.example/jwks.json
  issuer: https://id.example
  audience: tidegate
  claim: app.tier
  tiers: {{gold: pro}}
  userClaim: sub
"""
JWT = "jwt: {jwks: j, issuer: i, audience: a, claim: c}"


def loaded(text: str, tmp_path: Path) -> CallersSpec:
    path = tmp_path / "callers.yaml"
    path.write_text(text)
    return load_callers(path)


def test_without_a_file_nobody_vouches_for_anything() -> None:
    spec = load_callers(None)
    assert (spec.api_keys, spec.proxies, spec.jwt) == ((), None, None)


def test_an_empty_file_is_as_good_as_none(tmp_path: Path) -> None:
    assert loaded("# nothing yet\n", tmp_path) == load_callers(None)


def test_every_source_is_read(tmp_path: Path) -> None:
    spec = loaded(WHOLE, tmp_path)
    assert spec.api_keys[0].sha256 == DIGEST
    assert spec.proxies is not None
    assert spec.proxies.addresses == (ip_network("10.0.0.0/8"), ip_network("::1/128"))
    assert spec.proxies.header == "x-tidegate-tier"
    assert spec.jwt is not None
    assert spec.jwt.algorithms == ("RS256", "ES256")
    assert (spec.jwt.claim, spec.jwt.user_claim) == ("app.tier", "sub")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("apiKeys: [{name: shop, sha256: secret}]", "apiKeys[0].sha256: got"),
        (f"apiKeys: [{{sha256: {DIGEST}}}]", "apiKeys[0].name: got nothing, expected a value"),
        ("proxies: {addresses: []}", "proxies.addresses: got"),
        ("proxies: {addresses: [10.0.0.1/8]}", 'proxies.addresses[0]: got "10.0.0.1/8", expected'),
        ("proxies: {addresses: ['::1'], header: 'a b'}", 'proxies.header: got "a b", expected'),
        (JWT.replace("claim: c", "claim: a..b"), "jwt: got"),
        (JWT.replace("}", ", algorithms: [none]}"), 'jwt.algorithms[0]: got "none", expected'),
        (JWT.replace("}", ", algorithms: [HS256]}"), 'jwt.algorithms[0]: got "HS256", expected'),
        (JWT.replace("}", ", algorithms: []}"), "jwt.algorithms: got"),
        (JWT.replace("issuer: i, ", ""), "jwt.issuer: got nothing, expected a value"),
        ("apikeys: []", 'apikeys: got an unknown field, expected a known one. Did you mean "apiKe'),
        (
            f"apiKeys: [{{name: a, sha256: {DIGEST}}}, {{name: b, sha256: {DIGEST}}}]",
            "expected a sha256 of its own for each key",
        ),
        ("[]", ": got [], expected a group of fields"),
        ("a: 1\n---\nb: 2", "got 2 documents, expected one"),
        ("a: [", "got what is no YAML"),
    ],
)
def test_each_mistake_is_told_with_its_place(text: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(PlanError) as wrong:
        loaded(text, tmp_path)
    assert any(told in mistake for mistake in wrong.value.mistakes), wrong.value.mistakes
    assert all(mistake.startswith("callers.yaml: ") for mistake in wrong.value.mistakes)


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(PlanError) as wrong:
        loaded("proxies: {addresses: [here], header: ''}\njwt: {}", tmp_path)
    assert len(wrong.value.mistakes) == 6


def test_a_file_that_is_not_there_names_the_setting(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=r"TIDEGATE_CALLERS: .* cannot be read"):
        load_callers(tmp_path / "nowhere.yaml")
