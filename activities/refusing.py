"""A rule's no is final: trying again would only hear it again."""

from collections.abc import Iterator
from contextlib import contextmanager

from temporalio.exceptions import ApplicationError

from tidegate.errors import Refused


@contextmanager
def refusals_are_final() -> Iterator[None]:
    """Turn Refused into an error that Temporal does not retry."""
    try:
        yield
    except Refused as refusal:
        raise ApplicationError(str(refusal), type="Refused", non_retryable=True) from refusal
