"""An identity provider: it signs tokens, and serves its public keys over HTTP."""

import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from embedded.ports import LOOPBACK, free_ports

ISSUER = "https://id.example"
RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
OTHER_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)

Private = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


def as_jwk(key: Private, kid: str, **more: str) -> dict[str, Any]:
    """Write the public half as a provider publishes it."""
    if isinstance(key, rsa.RSAPrivateKey):
        written = RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    else:
        written = ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return {**written, "kid": kid, "use": "sig", **more}


def signed(key: Private, kid: str, algorithm: str, **claims: object) -> str:
    """Sign a token that is good for a minute, with these claims beside or instead."""
    now = int(time.time())
    whole = {"iss": ISSUER, "aud": "tidegate", "sub": "ada", "exp": now + 60, **claims}
    given = {name: value for name, value in whole.items() if value is not None}
    return jwt.encode(given, key, algorithm, headers={"kid": kid})


class Provider:
    """What is published now, and how often it was asked for."""

    def __init__(self) -> None:
        self.url = ""
        self.keys = [as_jwk(RSA_KEY, "rsa"), as_jwk(EC_KEY, "ec")]
        self.body: str | None = None
        self.asked = 0

    async def serve(self, _: web.Request) -> web.Response:
        self.asked += 1
        document: Mapping[str, object] = {"keys": self.keys}
        text = json.dumps(document) if self.body is None else self.body
        return web.Response(text=text, content_type="application/json")


@asynccontextmanager
async def providing() -> AsyncIterator[Provider]:
    """Serve a provider's keys."""
    provider = Provider()
    application = web.Application()
    application.router.add_get("/jwks.json", provider.serve)
    runner = web.AppRunner(application)
    await runner.setup()
    (port,) = free_ports(1)
    await web.TCPSite(runner, LOOPBACK, port).start()
    provider.url = f"http://{LOOPBACK}:{port}/jwks.json"
    try:
        yield provider
    finally:
        await runner.cleanup()
