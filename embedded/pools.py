"""Local inference pools behind HTTP: a process of its own that owns the local GPUs.

`python -m embedded.pools --port 24000 --state-dir DIR`
"""

import argparse
import asyncio
import json
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from embedded.local_cluster import LocalCluster
from embedded.serving import GracefulServer
from tidegate.edges.local_pools import LocalPoolSpec
from tidegate.errors import Refused

_MOST_WAIT_S: Final = 30.0
_POOL_NAME: Final = TypeAdapter(
    Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$")]
)
"""As Kubernetes names things; it becomes part of the names of files."""


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Scale(_Body):
    replicas: int = Field(ge=0, le=1_000)
    field_manager: str = Field(min_length=1)


class _Gpus(_Body):
    installed: int = Field(ge=0, le=1_000)


class _Api:
    def __init__(self, cluster: LocalCluster) -> None:
        self._cluster = cluster

    async def health(self, _: Request) -> Response:
        return JSONResponse({"status": "ready"})

    async def state(self, request: Request) -> Response:
        """Answer at once, or as soon as the revision is another than `after`."""
        after = request.query_params.get("after")
        if after is not None:
            try:
                wait_s = float(request.query_params.get("wait_s", "0"))
                revision = int(after)
            except ValueError as error:
                return _refuse(HTTPStatus.BAD_REQUEST, "bad_query", f"after, wait_s: {error}")
            await self._cluster.until_changed(revision, min(wait_s, _MOST_WAIT_S))
        return JSONResponse(self._cluster.state())

    async def declare(self, request: Request) -> Response:
        spec = LocalPoolSpec.model_validate_json(await request.body())
        self._cluster.declare(_POOL_NAME.validate_python(request.path_params["name"]), spec)
        return JSONResponse(self._cluster.state())

    async def scale(self, request: Request) -> Response:
        asked = _Scale.model_validate_json(await request.body())
        name = request.path_params["name"]
        self._cluster.scale(name, asked.replicas, asked.field_manager)
        return JSONResponse(self._cluster.state())

    async def install(self, request: Request) -> Response:
        self._cluster.install(_Gpus.model_validate_json(await request.body()).installed)
        return JSONResponse(self._cluster.state())


def _refuse(status: HTTPStatus, code: str, message: str) -> Response:
    return JSONResponse({"code": code, "message": message}, status.value)


async def _refused(_: Request, error: Exception) -> Response:
    code = error.code if isinstance(error, Refused) else "refused"
    status = HTTPStatus.NOT_FOUND if code == "unknown_pool" else HTTPStatus.CONFLICT
    return _refuse(status, code, str(error))


async def _invalid(_: Request, error: Exception) -> Response:
    mistakes = error.errors() if isinstance(error, ValidationError) else []
    told = [
        f"{'.'.join(str(part) for part in each['loc']) or 'name'}: "
        f"got {json.dumps(each['input'], default=str)}, {each['msg']}"
        for each in mistakes
    ]
    return _refuse(HTTPStatus.BAD_REQUEST, "invalid", "\n".join(told))


def build_app(cluster: LocalCluster) -> Starlette:
    """Return the ASGI application over one cluster."""
    api = _Api(cluster)
    return Starlette(
        routes=[
            Route("/health", api.health),
            Route("/v1/state", api.state),
            Route("/v1/pools/{name}", api.declare, methods=["PUT"]),
            Route("/v1/pools/{name}/scale", api.scale, methods=["PUT"]),
            Route("/v1/gpus", api.install, methods=["PUT"]),
        ],
        exception_handlers={Refused: _refused, ValidationError: _invalid},
    )


async def _run(asked: argparse.Namespace) -> None:
    cluster = LocalCluster(asked.state_dir, seed=asked.seed)
    server = GracefulServer(build_app(cluster), asked.port, wind_down=cluster.close)
    await server.serve_until_told()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="embedded.pools", description=__doc__)
    parser.add_argument("--port", required=True, type=int)
    parser.add_argument("--state-dir", required=True, type=Path)
    parser.add_argument("--seed", type=int, default=7, help="of the cold starts")
    return parser.parse_args()


if __name__ == "__main__":
    asyncio.run(_run(_arguments()))
