"""Whether a server on the loopback serves yet."""

from http import HTTPStatus

import aiohttp


async def serves_http(url: str, *, within_s: float = 1.0, containing: str = "") -> bool:
    """Say whether `url` answers 200 within `within_s`, with `containing` somewhere in the body."""
    timeout = aiohttp.ClientTimeout(total=within_s)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url) as answer:
            return answer.status == HTTPStatus.OK and containing in await answer.text()
    except (aiohttp.ClientError, TimeoutError, OSError):
        return False
