"""How workflows ask the world to do something: short acts, tried until they are done."""

from datetime import timedelta
from typing import Any, Final, cast

from temporalio import workflow
from temporalio.common import RetryPolicy

_ATTEMPT: Final = timedelta(seconds=2)
"""Acts take milliseconds; what a killed worker had in hand is given to the next after this."""
_RETRY: Final = RetryPolicy(
    initial_interval=timedelta(milliseconds=200),
    backoff_coefficient=1.5,
    maximum_interval=timedelta(seconds=2),
)


async def act(name: str, message: object, *, summary: str) -> Any:  # noqa: ANN401 - by the act
    """Run an activity until it is done; only a Refused leaves it, as an ActivityError."""
    return cast(
        "object",
        await workflow.execute_activity(
            name, message, start_to_close_timeout=_ATTEMPT, retry_policy=_RETRY, summary=summary
        ),
    )
