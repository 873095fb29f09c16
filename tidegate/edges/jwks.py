"""An identity provider's public keys, as a JWKS document (RFC 7517) over HTTP or in a file."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
import jwt
from jwt.types import JWKDict

from tidegate.errors import Unavailable

_DEADLINE: Final = aiohttp.ClientTimeout(total=5.0)
_LARGEST_BYTES: Final = 1 << 20
_PUBLIC: Final = frozenset({"RSA", "EC", "OKP"})


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key that checks signatures; `algorithm` is the only one it is for, None where unsaid."""

    key: Any
    algorithm: str | None


async def fetch_jwks(where: str) -> Mapping[str, PublicKey]:
    """Return the signing keys by their `kid`, "" for one without; `where` is a URL or a path.

    A key that is not public, not for signing or of a kind unknown here is passed over. Raises
    Unavailable.
    """
    try:
        document = json.loads(await _read(where))
        return dict(found for jwk in document["keys"] if (found := _public_key(jwk)) is not None)
    except (
        aiohttp.ClientError,
        TimeoutError,
        OSError,
        ValueError,
        LookupError,
        AttributeError,
        TypeError,
        RecursionError,
    ) as error:
        message = f"{where}: got no keys ({error!r}), expected a JWKS document. Check jwt.jwks."
        raise Unavailable(message, code="jwks-unavailable") from error


async def _read(where: str) -> bytes:
    if not where.startswith(("http://", "https://")):
        return await asyncio.to_thread(Path(where).read_bytes)
    async with (
        aiohttp.ClientSession(timeout=_DEADLINE) as session,
        session.get(where, raise_for_status=True) as response,
    ):
        body = b""
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > _LARGEST_BYTES:
                raise ValueError(f"it is larger than {_LARGEST_BYTES} bytes")
        return body


def _public_key(jwk: JWKDict) -> tuple[str, PublicKey] | None:
    # A symmetric key in a public document is a secret that is none.
    if jwk.get("kty") not in _PUBLIC or jwk.get("use", "sig") != "sig" or "d" in jwk:
        return None
    try:
        key = jwt.PyJWK(jwk).key
    except (jwt.PyJWTError, ValueError, TypeError, NotImplementedError):
        return None
    algorithm = jwk.get("alg")
    return str(jwk.get("kid", "")), PublicKey(key, None if algorithm is None else str(algorithm))
