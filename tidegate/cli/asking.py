"""`tidegate why`: asked of a gateway, which is who decides."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

import aiohttp

from tidegate.cli.showing import show_why
from tidegate.errors import PlanError, Refused, Unavailable

_DEADLINE: Final = aiohttp.ClientTimeout(total=5.0)


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
