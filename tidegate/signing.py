"""Signed tokens: tickets, session passes and orders that carry their own proof.

JSON Web Tokens (RFC 7519) under HMAC-SHA256, made and read by PyJWT. The first key signs and all
of them verify, so a key is rotated by putting a new one in front and dropping the last later.
"""

import base64
import binascii
import json
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import jwt
from jwt.types import Options

from tidegate.errors import PlanError, Refused

_ALGORITHM: Final = "HS256"
_Document = Mapping[str, Sequence[Mapping[str, str]]]
_SECRET_BYTES: Final = 32
_LONGEST: Final = 4096
_OPTIONS: Final[Options] = {
    "require": ["aud"],
    # The caller has the clock.
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
}


@dataclass(frozen=True, slots=True)
class Key:
    """A named secret of at least 32 bytes."""

    kid: str
    secret: bytes


class Keyring:
    """Signs and verifies; `keys` are tried by the name that a token carries."""

    def __init__(self, keys: tuple[Key, ...]) -> None:
        self._first = keys[0]
        self._by_kid = {key.kid: key.secret for key in keys}

    def sign(self, kind: str, claims: Mapping[str, object]) -> str:
        """Return a token of this kind; a token of one kind is no good as another."""
        key = self._first
        payload = {**claims, "aud": kind}
        return jwt.encode(payload, key.secret, _ALGORITHM, headers={"kid": key.kid})

    def verify(self, kind: str, token: str) -> Mapping[str, object]:
        """Return the claims of a token of this kind; times in it are the caller's to check.

        Raises Refused for a token that is none, or not ours, or of another kind.
        """
        try:
            secret = self._secret_of(token)
            claims: Mapping[str, object] = jwt.decode(
                token, secret, [_ALGORITHM], options=_OPTIONS, audience=kind
            )
        # PyJWT lets some errors of broken text through as they are.
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as error:
            message = f"{kind}: got a token that is not valid ({error}). Ask for a new one."
            raise Refused(message, code="token-invalid") from error
        return claims

    def _secret_of(self, token: str) -> bytes:
        if len(token) > _LONGEST:
            raise jwt.InvalidTokenError(f"it is longer than {_LONGEST} characters")
        secret = self._by_kid.get(str(jwt.get_unverified_header(token).get("kid")))
        if secret is None:
            raise jwt.InvalidTokenError("its key is not known here")
        return secret


def load_keyring(path: Path) -> Keyring:
    """Read the keys from a JSON file; where there is none, make one with a new key.

    The file holds `{"keys": [{"kid": "2026-11", "secret": "<base64, 32 bytes or more>"}]}`, the
    signing key first. Raises PlanError, which names the file, when it holds anything else.
    """
    try:
        document: _Document = json.loads(path.read_text()) if path.exists() else _make(path)
        keys = _read(document)
    except (OSError, ValueError, KeyError, TypeError, binascii.Error) as error:
        message = (
            f"{path}: got no keys ({error}), expected "
            '{"keys": [{"kid": "…", "secret": "<base64 of 32 bytes or more>"}]}. '
            "Mend the file, or set TIDEGATE_KEYS to another."
        )
        raise PlanError(message, code="keys") from error
    return Keyring(keys)


def find_keyring(path: Path) -> Keyring | None:
    """Read the keys where there are some; None where not. Raises PlanError as `load_keyring`."""
    return load_keyring(path) if path.exists() else None


def read_keyring(path: Path, *, next_step: str) -> Keyring:
    """Read the keys that others sign with: as `load_keyring`, but none are made.

    A new key made here would be known to nobody else. Raises PlanError, ended by `next_step`, when
    there is no file.
    """
    if not path.exists():
        message = f"{path}: got no such file, expected the keys that the gateways have. {next_step}"
        raise PlanError(message, code="keys")
    return load_keyring(path)


def _read(document: _Document) -> tuple[Key, ...]:
    keys = tuple(
        Key(str(key["kid"]), base64.b64decode(key["secret"], validate=True))
        for key in document["keys"]
    )
    if not keys or any(len(key.secret) < _SECRET_BYTES for key in keys):
        raise ValueError("a secret is missing or shorter than 32 bytes")
    return keys


def _make(path: Path) -> _Document:
    secret = base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()
    document: _Document = {"keys": [{"kid": secrets.token_hex(4), "secret": secret}]}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.partial")
    partial.touch(mode=0o600)
    partial.write_text(json.dumps(document))
    try:
        # Processes that start together must agree on one: the first to link it wins.
        os.link(partial, path)
    except FileExistsError:
        document = json.loads(path.read_text())
    finally:
        partial.unlink()
    return document
