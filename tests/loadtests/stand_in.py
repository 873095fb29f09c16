"""A tiny gateway for the load test to talk to: it answers by tier and remembers who asked."""

import os
from collections import Counter

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

SEEN: Counter[str] = Counter()


async def admit(request: Request) -> JSONResponse:
    body = await request.json()
    assert set(body) == {"feature", "user", "tier", "surface"}
    tier = str(body["tier"])
    assert body["user"].startswith(f"{tier}-")
    SEEN[tier] += 1
    if tier == "free":
        if SEEN[tier] % 2:
            return JSONResponse({"code": "not-exposed"}, status_code=403)
        return JSONResponse({"code": "gate-shed"}, status_code=429, headers={"Retry-After": "1"})
    if tier == os.environ.get("STAND_IN_SHEDS"):
        return JSONResponse({"code": "gate-shed"}, status_code=429, headers={"Retry-After": "9"})
    return JSONResponse({"allowed": True})


async def evaluate(request: Request) -> JSONResponse:
    context = (await request.json())["context"]
    assert set(context) == {"targetingKey", "tier", "surface"}
    SEEN["ofrep"] += 1
    return JSONResponse({"key": "image", "value": True, "reason": "TARGETING_MATCH"})


async def seen(_: Request) -> JSONResponse:
    return JSONResponse(dict(SEEN))


app = Starlette(
    routes=[
        Route("/v1/admit", admit, methods=["POST"]),
        Route("/ofrep/v1/evaluate/flags/image", evaluate, methods=["POST"]),
        Route("/seen", seen),
    ]
)
