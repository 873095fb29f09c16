"""Local inference pools, as the cluster they stand in for."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final, Self

import aiohttp
from pydantic import BaseModel, ConfigDict, Field, model_validator

from tidegate.cluster import ClusterState, Pod, PodPhase, PoolStatus
from tidegate.errors import Refused, Unavailable

FIELD_MANAGER: Final = "tidegate"
_DEADLINE_S: Final = 2.0


class LocalPoolSpec(BaseModel):
    """What one replica of a local pool is, and how long it takes to come up.

    `service_s` is the time of a request of work 1 on its own, `slots` the largest batch. Cold
    starts are log-normal through the median and the ninetieth percentile given, in seconds.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    gpus_per_replica: int = Field(default=1, ge=1)
    slots: int = Field(default=4, ge=1)
    service_s: float = Field(default=0.4, gt=0)
    kv_tokens: int = Field(default=65_536, ge=1)
    cold_start_p50_s: float = Field(default=2.0, gt=0)
    cold_start_p90_s: float = Field(default=4.0, gt=0)
    scaled_by: str = Field(default=FIELD_MANAGER, min_length=1)
    replicas: int = Field(default=0, ge=0)
    """How many there are at first; from then on only `scale` says."""

    @model_validator(mode="after")
    def _order_percentiles(self) -> Self:
        if self.cold_start_p90_s < self.cold_start_p50_s:
            raise ValueError(
                f"cold_start_p90_s: got {self.cold_start_p90_s:g}, expected at least "
                f"cold_start_p50_s, which is {self.cold_start_p50_s:g}"
            )
        return self


class LocalPools:
    """A `Cluster` of local processes, asked over HTTP with a deadline of 2 s on each call."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def observe(self, *, after: int | None = None, wait_s: float = 0.0) -> ClusterState:
        """Return the state, at the latest when `wait_s` has passed without one newer than `after`.

        Raises Unavailable when the pools do not answer.
        """
        query = {"wait_s": f"{wait_s:g}"} | ({} if after is None else {"after": str(after)})
        answer = await self._call("GET", "/v1/state", query=query, deadline_s=_DEADLINE_S + wait_s)
        try:
            return _read_state(answer)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise Unavailable(
                f"local pools at {self._url}: the state cannot be read, {error!r}. "
                "Is something else listening there?",
                code="pools_unreadable",
            ) from error

    async def scale(self, pool: str, replicas: int) -> None:
        """Write the pool's `scale`; raises Refused if another manager owns it or it is unknown."""
        body = {"replicas": replicas, "field_manager": FIELD_MANAGER}
        await self._call("PUT", f"/v1/pools/{pool}/scale", body=body)

    async def declare(self, pool: str, spec: LocalPoolSpec) -> None:
        """Declare a pool, or change what its future replicas are."""
        await self._call("PUT", f"/v1/pools/{pool}", body=spec.model_dump())

    async def install_gpus(self, installed: int) -> None:
        """Say how many GPUs there are now, as when a node arrives."""
        await self._call("PUT", "/v1/gpus", body={"installed": installed})

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: object = None,
        deadline_s: float = _DEADLINE_S,
    ) -> Any:  # noqa: ANN401 - whatever JSON the server sent, read by the caller
        if self._session is None:
            self._session = aiohttp.ClientSession()
        timeout = aiohttp.ClientTimeout(total=deadline_s)
        try:
            async with self._session.request(
                method, self._url + path, params=query, json=body, timeout=timeout
            ) as answer:
                content = await answer.json()
                status = answer.status
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise Unavailable(
                f"local pools at {self._url}: {method} {path} got no answer within "
                f"{deadline_s:g} s ({type(error).__name__}). Are the pools running?",
                code="pools_unavailable",
            ) from error
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise Unavailable(
                f"local pools at {self._url}: {method} {path} answered {status}. See their log.",
                code="pools_failed",
            )
        if status >= HTTPStatus.BAD_REQUEST:
            raise Refused(str(content["message"]), code=str(content["code"]))
        return content


def _read_state(answer: Mapping[str, Any]) -> ClusterState:
    return ClusterState(
        revision=int(answer["revision"]),
        gpus={kind: int(count) for kind, count in answer["gpus"].items()},
        pools={name: _read_pool(name, pool) for name, pool in answer["pools"].items()},
    )


def _read_pool(name: str, pool: Mapping[str, Any]) -> PoolStatus:
    return PoolStatus(
        name=name,
        replicas=int(pool["replicas"]),
        gpus_per_replica=int(pool["gpus_per_replica"]),
        pods=tuple(_read_pod(pod) for pod in pool["pods"]),
        scaled_by=pool["scaled_by"],
    )


def _read_pod(pod: Mapping[str, Any]) -> Pod:
    return Pod(
        name=pod["name"],
        phase=PodPhase(pod["phase"]),
        address=pod["address"],
        created_at=float(pod["created_at"]),
        ready_at=None if pod["ready_at"] is None else float(pod["ready_at"]),
        gpu=pod["gpu"],
    )
