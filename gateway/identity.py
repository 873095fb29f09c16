"""Who is asking: a tier is what a configured source vouches for, and never what a client claims."""

import hashlib
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_address
from typing import Final

from gateway.replies import Header, Reply, Request, problem, retry_after
from gateway.tokens import TokenReader
from tidegate.callers import ApiKeySpec, CallersSpec
from tidegate.errors import Refused, Unavailable
from tidegate.snapshot import IntentPart, lowest_tier

_RETRY_S: Final = 2
_REMEMBERED_PEERS: Final = 1024
_REMEMBERED_KEYS: Final = 1024
_KEY: Final = b"x-api-key"
_LENGTH_OF_KEY: Final = len(_KEY)
_AUTHORIZATION: Final = b"authorization"
_LENGTH_OF_AUTHORIZATION: Final = len(_AUTHORIZATION)
_DOTS_OF_A_TOKEN: Final = 2
CHALLENGE: Final[Header] = (b"www-authenticate", b"Bearer")


class NotBelieved(Exception):  # noqa: N818 - an answer, not an error
    """A credential that was shown is not good, or not good for what was asked."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail

    @property
    def headers(self) -> tuple[Header, ...]:
        """What goes with the status."""
        match self.status:
            case 401:
                return (CHALLENGE,)
            case 503:
                return (retry_after(_RETRY_S),)
            case _:
                return ()

    @property
    def reply(self) -> Reply:
        """The refusal as a problem document."""
        return problem(self.status, self.code, self.detail, None, *self.headers)


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose word it is, and how far it counts."""

    name: str
    tier: str | None = None
    """What the source says of the tier; None where it says nothing."""
    user: str | None = None
    """Who the user is, whoever is named; None where the request says it."""
    may_name_tiers: bool = False
    tiers: frozenset[str] = field(default_factory=frozenset)
    """Which it may name; none means all, as for surfaces."""
    surfaces: frozenset[str] = field(default_factory=frozenset)
    may_name_all: bool = field(init=False)
    """Whether whatever it names counts as it is."""

    def __post_init__(self) -> None:
        may = self.may_name_tiers and not (self.tiers or self.surfaces or self.tier or self.user)
        object.__setattr__(self, "may_name_all", may)


_NOBODY: Final = Caller("nobody")


class Identity:
    """Finds out who asks; `tokens` reads JWTs, None where none are configured."""

    def __init__(self, spec: CallersSpec, tokens: TokenReader | None = None) -> None:
        self._by_digest = {key.sha256: _server(key) for key in spec.api_keys}
        self._keys: dict[bytes, Caller] = {}
        self._bearers: dict[bytes, Caller] = {}
        """Good keys, by each header's value as it was sent: hashed once, a bounded memory."""
        self._tokens = tokens
        self._has_sources = spec != CallersSpec()
        self._networks = () if spec.proxies is None else spec.proxies.addresses
        self._tier_header = b"" if spec.proxies is None else spec.proxies.header.encode()
        self._peers: dict[str, bool] = {}
        self._seen: IntentPart | None = None
        self._lowest = ""

    def caller_of(self, request: Request) -> Caller:
        """Return whose word the request is; raises NotBelieved for a credential that is not good.

        A proxy's header counts first: what else it passes on is then its client's own affair.
        """
        if self._networks and self._is_proxy(request.peer):
            tier = self._tier_by_proxy(request)
            if tier:
                return Caller("proxy", tier)
        if not self._by_digest and self._tokens is None:
            return _NOBODY
        authorization = None
        for name, value in request.headers:
            length = len(name)
            if length == _LENGTH_OF_KEY and self._by_digest and name.lower() == _KEY:
                return self._keys.get(value) or self._remember(self._keys, value, value)
            if length == _LENGTH_OF_AUTHORIZATION and name.lower() == _AUTHORIZATION:
                authorization = value if authorization is None else authorization
        if authorization is None:
            return _NOBODY
        return self._bearers.get(authorization) or self._bearer(authorization)

    def tier_of(
        self, caller: Caller, claimed: str | None, surface: str, intent: IntentPart | None
    ) -> str:
        """Return the tier to decide by; raises NotBelieved where a key may not vouch for it."""
        if caller.tier is not None:
            return caller.tier
        if claimed is None or not caller.may_name_tiers:
            return self._lowest_tier(intent)
        if caller.tiers and claimed not in caller.tiers:
            raise _not_vouched(caller, "tier", caller.tiers)
        if caller.surfaces and surface not in caller.surfaces:
            raise _not_vouched(caller, "surface", caller.surfaces)
        return claimed

    def require_server(self, request: Request) -> None:
        """Raise NotBelieved unless a server asks whose key may name every tier everywhere.

        Where no source of tiers is configured there are no keys to tell servers by, and whoever
        reaches the gateway is one.
        """
        if not self._has_sources:
            return
        caller = self.caller_of(request)
        if caller is _NOBODY:
            detail = "this is for servers only. Show an API key that stands under apiKeys"
            raise NotBelieved(401, "caller-unknown", detail)
        if not caller.may_name_all:
            detail = (
                f"this is for servers whose key names no tiers or surfaces, got: {caller.name}. "
                "Ask for a wider key"
            )
            raise NotBelieved(403, "tier-not-vouched", detail)

    def _tier_by_proxy(self, request: Request) -> str | None:
        written = [v for name, v in request.headers if name.lower() == self._tier_header]
        if len(written) > 1:
            # A proxy that adds its header to the client's leaves nobody to say which is whose.
            detail = (
                f"{self._tier_header.decode()} comes {len(written)} times. "
                "Let the proxy replace what its client sent"
            )
            raise NotBelieved(401, "caller-unknown", detail)
        return written[0].decode("latin-1") if written else None

    def _is_proxy(self, peer: str | None) -> bool:
        if peer is None:
            return False
        known = self._peers.get(peer)
        if known is None:
            known = self._is_listed(peer)
            if len(self._peers) >= _REMEMBERED_PEERS:
                self._peers.clear()
            self._peers[peer] = known
        return known

    def _is_listed(self, peer: str) -> bool:
        try:
            address = ip_address(peer)
        except ValueError:
            return False
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in network for network in self._networks)

    def _bearer(self, authorization: bytes) -> Caller:
        scheme, _, token = authorization.partition(b" ")
        if scheme.lower() != b"bearer":
            return _NOBODY
        token = token.strip()
        if self._tokens is not None and token.count(b".") == _DOTS_OF_A_TOKEN:
            return self._user_of(self._tokens, token.decode("latin-1"))
        return self._remember(self._bearers, authorization, token)

    def _remember(self, known: dict[bytes, Caller], sent: bytes, key: bytes) -> Caller:
        # Looked up by its digest, so that how long it takes tells nothing of the keys.
        digest = hashlib.sha256(key).hexdigest()
        caller = self._by_digest.get(digest)
        if caller is None:
            detail = "the API key is not known here. Check it, or send none"
            raise NotBelieved(401, "caller-unknown", detail)
        # The same key can be written in many ways: "Bearer", "bearer", and any number of blanks.
        if len(known) >= _REMEMBERED_KEYS:
            known.clear()
        known[sent] = caller
        return caller

    def _user_of(self, tokens: TokenReader, token: str) -> Caller:
        try:
            said = tokens.read(token)
        except Refused as error:
            raise NotBelieved(401, "caller-unknown", str(error)) from error
        except Unavailable as error:
            raise NotBelieved(503, "not-ready", str(error)) from error
        return Caller("token", said.tier, said.user)

    def _lowest_tier(self, intent: IntentPart | None) -> str:
        if intent is not self._seen:
            self._seen, self._lowest = intent, lowest_tier(intent)
        return self._lowest


def _server(key: ApiKeySpec) -> Caller:
    return Caller(
        key.name,
        may_name_tiers=True,
        tiers=frozenset(key.tiers),
        surfaces=frozenset(key.surfaces),
    )


def _not_vouched(caller: Caller, field: str, may: frozenset[str]) -> NotBelieved:
    allowed = ", ".join(sorted(may))
    detail = f"the key {caller.name} may name the {field} {allowed} only. Ask for a wider key"
    return NotBelieved(403, "tier-not-vouched", detail)
