"""Prometheus, asked for one number at a time."""

import math
from http import HTTPStatus
from typing import Any, Final

import aiohttp

from tidegate.errors import Unavailable

_DEADLINE_S: Final = 1.5
"""Within an activity's attempt, with what else that does."""


class Prometheus:
    """Asks one server's HTTP API; every call has a deadline."""

    def __init__(self, url: str | None) -> None:
        """`url` as in `http://127.0.0.1:9090`; None where there is none."""
        self._url = url

    async def ask(self, query: str) -> float:
        """Return the value of a query (PromQL) now.

        Raises Unavailable, with a reason to show to people, where there is no server or it does
        not answer, and where the answer is not one number: nothing, several series, NaN.
        """
        if self._url is None:
            raise Unavailable("no Prometheus is set (TIDEGATE_PROMETHEUS)", code="prometheus-none")
        timeout = aiohttp.ClientTimeout(total=_DEADLINE_S)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.get(f"{self._url}/api/v1/query", params={"query": query}) as answer,
            ):
                said = await answer.json()
                if answer.status != HTTPStatus.OK:
                    raise _unavailable(f"Prometheus refused {query}: {said.get('error')}")
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            cause = error if str(error) else f"no answer in {_DEADLINE_S:g} s"
            raise _unavailable(f"Prometheus at {self._url}: {cause}") from error
        return _number(query, said["data"])


def _number(query: str, data: Any) -> float:  # noqa: ANN401 - JSON
    found = [data] if data["resultType"] == "scalar" else data["result"]
    if len(found) != 1:
        raise _unavailable(f"{query}: got {len(found)} series, expected one number")
    pair = found[0]["result"] if data["resultType"] == "scalar" else found[0].get("value")
    if pair is None:
        raise _unavailable(f"{query}: got {data['resultType']}, expected one number")
    value = float(pair[1])
    if not math.isfinite(value):
        raise _unavailable(f"{query}: got {pair[1]}, expected one number")
    return value


def _unavailable(message: str) -> Unavailable:
    return Unavailable(message, code="prometheus-unavailable")
