"""`tidegate why`: asked of a gateway, which is who decides."""

import json
import math
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Final

import aiohttp

from tidegate.cli.showing import show_why
from tidegate.errors import PlanError, Refused, Unavailable

_DEADLINE: Final = aiohttp.ClientTimeout(total=5.0)
_TEXTS: Final = frozenset({"region", "appVersion"})


async def ask_why(gateway: str, asked: Mapping[str, str], api_key: str | None = None) -> list[str]:
    """Return a gateway's explanation; without a key that vouches for it, a tier is not believed.

    Raises PlanError when the question is wrong, Unavailable when nothing answers it.
    """
    shown = {} if api_key is None else {"authorization": f"Bearer {api_key}"}
    try:
        async with (
            aiohttp.ClientSession(timeout=_DEADLINE, headers=shown) as session,
            session.get(f"{gateway}/v1/why", params=dict(asked)) as response,
        ):
            answer = await response.json(content_type=None)
            if response.status == HTTPStatus.OK:
                return list(show_why(answer))
            text = f"gateway: {answer.get('detail', response.reason)}"
            if response.status == HTTPStatus.BAD_REQUEST:
                raise PlanError(text, code="malformed")
            if response.status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
                raise Refused(f"{text}: set TIDEGATE_API_KEY.", code="caller-unknown")
            raise Unavailable(text, code="gateway")
    # Whatever else listens there answers with something that is no JSON object.
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError, AttributeError) as error:
        text = f"gateway: no answer from {gateway}. Start it, or set TIDEGATE_GATEWAY."
        raise Unavailable(text, code="gateway-unavailable") from error


def read_attributes(given: Iterable[str]) -> dict[str, object]:
    """Read `NAME=VALUE` as a service would send it; raises PlanError.

    A whole number, another number, true and false are what they look like, and what stands in
    double quotes is text. `region` and `appVersion` are always text, and `cohorts` names one or
    more with commas between them.
    """
    attributes: dict[str, object] = {}
    for each in given:
        name, is_one, value = each.partition("=")
        if not name or not is_one:
            text = f'attribute: got "{each}", expected NAME=VALUE. Write it like region=eu.'
            raise PlanError(text, code="attribute")
        if name in attributes:
            text = f'attribute: got "{name}" twice, expected it once. Drop one of the two.'
            raise PlanError(text, code="attribute")
        attributes[name] = _typed(name, value)
    return attributes


def _typed(name: str, value: str) -> object:
    if name == "cohorts":
        return [cohort for cohort in value.split(",") if cohort]
    if name not in _TEXTS:
        try:
            read = json.loads(value)
        except ValueError:
            return value
        if isinstance(read, (bool, int, str)) or (isinstance(read, float) and math.isfinite(read)):
            return read
    return value
