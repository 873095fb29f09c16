"""Reading users' own tokens: checked against keys in memory, which a loop keeps fresh."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

import jwt
import structlog
from jwt.types import Options

from tidegate.callers import JwtSpec
from tidegate.edges.jwks import PublicKey, fetch_jwks
from tidegate.errors import Refused, Unavailable

_log = structlog.get_logger("gateway.tokens")

REFRESH_S: Final = 300.0
AT_MOST_EVERY_S: Final = 10.0
"""A key unknown here asks for a refresh, and whoever invents keys asks for no more than this."""
LEEWAY_S: Final = 30.0
"""How far the provider's clock may be off."""
_LONGEST: Final = 8192
_OPTIONS: Final[Options] = {
    "require": ["exp", "iss", "aud"],
    # By our own clock, below.
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
}

Fetch = Callable[[str], Awaitable[Mapping[str, PublicKey]]]


@dataclass(frozen=True, slots=True)
class Said:
    """What a token says of its bearer; None where it says nothing."""

    tier: str | None
    user: str | None


class TokenReader:
    """Reads tokens of one identity provider; `clock` in seconds since the epoch."""

    def __init__(
        self,
        spec: JwtSpec,
        clock: Callable[[], float],
        *,
        fetch: Fetch = fetch_jwks,
        at_most_every_s: float = AT_MOST_EVERY_S,
    ) -> None:
        self._spec = spec
        self._clock = clock
        self._fetch = fetch
        self._at_most_every_s = at_most_every_s
        self._keys: Mapping[str, PublicKey] | None = None
        self._wanted = asyncio.Event()
        self._is_held = False

    async def run(self) -> None:
        """Keep the keys fresh until cancelled; those held are kept while none can be fetched."""
        while True:
            await self.refresh()
            await asyncio.sleep(self._at_most_every_s)
            if self._is_held:
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REFRESH_S):
                    await self._wanted.wait()

    async def refresh(self) -> None:
        """Fetch the keys once."""
        self._wanted.clear()
        try:
            self._keys = await self._fetch(self._spec.jwks)
        except Unavailable as error:
            if not self._is_held:
                _log.warning("jwks.held", code=error.code, reason=str(error))
            self._is_held = True
            return
        if self._is_held:
            _log.info("jwks.recovered")
        self._is_held = False

    def read(self, token: str) -> Said:
        """Return what a token says.

        Raises Refused for one that is not good, Unavailable while no keys were ever heard.
        """
        try:
            claims = self._claims(token)
        # PyJWT lets some errors of broken text through as they are.
        except (jwt.PyJWTError, ValueError, TypeError, ArithmeticError, RecursionError) as error:
            message = f"the token is not good ({error}). Ask for a new one, or send none"
            raise Refused(message, code="token-invalid") from error
        tier = _tier(_claim(claims, self._spec.claim), self._spec.tiers)
        if self._spec.user_claim is None:
            return Said(tier, None)
        user = _claim(claims, self._spec.user_claim)
        if not isinstance(user, str) or not user:
            message = f"the token says nothing in {self._spec.user_claim}, which is the user"
            raise Refused(message, code="token-invalid")
        return Said(tier, user)

    def _claims(self, token: str) -> Mapping[str, object]:
        if len(token) > _LONGEST:
            raise jwt.InvalidTokenError(f"it is longer than {_LONGEST} characters")
        key = self._key(str(jwt.get_unverified_header(token).get("kid", "")))
        claims: Mapping[str, object] = jwt.decode(
            token,
            key.key,
            # A key that says what it is for is good for nothing else.
            [each for each in self._spec.algorithms if key.algorithm in {None, each}],
            options=_OPTIONS,
            audience=self._spec.audience,
            issuer=self._spec.issuer,
        )
        self._check_times(claims)
        return claims

    def _key(self, kid: str) -> PublicKey:
        if self._keys is None:
            message = "the keys that tokens are checked with were not heard yet"
            raise Unavailable(message, code="jwks-unavailable")
        key = self._keys.get(kid)
        if key is None and not kid and len(self._keys) == 1:
            (key,) = self._keys.values()
        if key is None:
            self._wanted.set()
            raise jwt.InvalidTokenError("its key is not known here")
        return key

    def _check_times(self, claims: Mapping[str, object]) -> None:
        now = self._clock()
        begins, ends = float(str(claims.get("nbf", now))), float(str(claims["exp"]))
        if not now < ends + LEEWAY_S:
            raise jwt.ExpiredSignatureError("it has expired")
        if not begins - LEEWAY_S <= now:
            raise jwt.ImmatureSignatureError("it is not good yet")


def _claim(claims: Mapping[str, object], path: str) -> object:
    """Follow the dots, unless there is a claim of the whole name: some are addresses."""
    if path in claims:
        return claims[path]
    found: object = claims
    for name in path.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def _tier(value: object, tiers: Mapping[str, str] | None) -> str | None:
    if tiers is None:
        return value if isinstance(value, str) and value else None
    values = value if isinstance(value, list) else [value]
    return next((tier for said, tier in tiers.items() if said in values), None)
