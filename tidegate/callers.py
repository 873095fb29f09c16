"""Who may say which tier a user is of: one file, read when a gateway starts."""

import hashlib
from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator

from tidegate.documents import read_documents
from tidegate.errors import PlanError
from tidegate.mistakes import describe
from tidegate.spec import Name, Spec

Network = IPv4Network | IPv6Network

Algorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]
"""Of a key pair each: what checks a token must not be able to make one."""

_NEXT = 'printf %s "$KEY" | sha256sum'


def _is_a_digest(text: str) -> str:
    digest = text.lower()
    if len(digest) != hashlib.sha256().digest_size * 2 or set(digest) - set("0123456789abcdef"):
        raise ValueError(f"expected 64 hexadecimal digits. Write what `{_NEXT}` prints")
    return digest


def _as_network(written: object) -> object:
    try:
        return ip_network(str(written))
    except ValueError as error:
        raise ValueError(f'expected addresses ({error}). Write them like "10.0.0.0/8"') from error


def _is_a_header(text: str) -> str:
    if not text or not all(c.isascii() and (c.isalnum() or c == "-") for c in text):
        raise ValueError('expected the name of a header. Write it like "X-Tidegate-Tier"')
    return text.lower()


class ApiKeySpec(Spec):
    """A server that names its users' tiers itself, and is believed."""

    name: Name
    sha256: Annotated[
        str,
        AfterValidator(_is_a_digest),
        Field(description=f"Of the key, as `{_NEXT}` prints it; the key itself is not kept."),
    ]
    tiers: tuple[Name, ...] = Field(default=(), description="It may name these; none means all.")
    surfaces: tuple[Name, ...] = Field(
        default=(), description="It may ask for these; none means all."
    )


class ProxySpec(Spec):
    """Proxies that write each request's tier into a header, whatever the client sent in it."""

    addresses: tuple[Annotated[Network, BeforeValidator(_as_network)], ...] = Field(
        min_length=1, description="Where they connect from, such as 10.0.0.0/8."
    )
    header: Annotated[str, AfterValidator(_is_a_header)] = Field(
        default="x-tidegate-tier", description="The header that holds the tier."
    )


class JwtSpec(Spec):
    """An identity provider whose tokens say what a user is (RFC 7519, keys by RFC 7517)."""

    jwks: str = Field(min_length=1, description="The provider's keys: an http(s) URL, or a file.")
    issuer: str = Field(min_length=1, description="What `iss` must be.")
    audience: str = Field(min_length=1, description="What `aud` must be, or hold.")
    algorithms: tuple[Algorithm, ...] = Field(
        default=("RS256", "ES256"), min_length=1, description="A token signed otherwise is refused."
    )
    claim: str = Field(
        min_length=1, description="Where the tier is; dots lead into objects: `app.tier`."
    )
    tiers: Mapping[str, Name] | None = Field(
        default=None, description="Tiers by the claim's value; by default the value is the tier."
    )
    user_claim: str | None = Field(
        default=None, description="A claim that is the user, such as `sub`, whoever is named."
    )

    @model_validator(mode="after")
    def _leads_somewhere(self) -> Self:
        for path in (self.claim, self.user_claim):
            if path is not None and not all(path.split(".")):
                raise ValueError(
                    f'expected names with dots between, not "{path}". Write it like "app.tier"'
                )
        return self


class CallersSpec(Spec):
    """Every source of tiers; who comes with none of them is of the lowest tier."""

    api_keys: tuple[ApiKeySpec, ...] = Field(default=(), description="Servers' keys.")
    proxies: ProxySpec | None = Field(default=None, description="Proxies that are believed.")
    jwt: JwtSpec | None = Field(default=None, description="Tokens that users bring themselves.")

    @model_validator(mode="after")
    def _each_has_its_own(self) -> Self:
        for field in ("name", "sha256"):
            values = [getattr(key, field) for key in self.api_keys]
            twice = next((value for value in values if values.count(value) > 1), None)
            if twice is not None:
                raise ValueError(
                    f'expected a {field} of its own for each key, "{twice}" comes twice. '
                    "Change or drop one"
                )
        return self


def load_callers(path: Path | None) -> CallersSpec:
    """Read the file of callers; without one nobody vouches for anything.

    Raises PlanError with every mistake found.
    """
    if path is None:
        return CallersSpec()
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        message = f"TIDEGATE_CALLERS: {path} cannot be read ({error}). Check the path."
        raise PlanError(message, code="callers") from error
    documents = read_documents(text, where=path.name) or [{}]
    if len(documents) > 1:
        message = f"{path.name}: got {len(documents)} documents, expected one. Join them."
        raise PlanError(message, code="callers")
    try:
        return CallersSpec.model_validate(documents[0])
    except ValidationError as error:
        mistakes = [f"{path.name}: {line}" for line in describe(error, CallersSpec)]
        raise PlanError("\n".join(mistakes), code="callers", mistakes=mistakes) from error
