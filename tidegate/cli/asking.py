"""`tidegate why`: asked of a gateway, which is who decides."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

import aiohttp

from tidegate.cli.showing import show_why
from tidegate.errors import Unavailable

_DEADLINE: Final = aiohttp.ClientTimeout(total=5.0)


async def ask_why(gateway: str, asked: Mapping[str, str]) -> list[str]:
    """Return a gateway's explanation; raises Unavailable when it does not answer."""
    try:
        async with (
            aiohttp.ClientSession(timeout=_DEADLINE) as session,
            session.get(f"{gateway}/v1/why", params=dict(asked)) as response,
        ):
            answer = await response.json(content_type=None)
            if response.status != HTTPStatus.OK:
                text = f"gateway: {answer.get('detail', response.reason)}"
                raise Unavailable(text, code="gateway")
            return list(show_why(answer))
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        text = f"gateway: no answer from {gateway}. Start it, or set TIDEGATE_GATEWAY."
        raise Unavailable(text, code="gateway-unavailable") from error
