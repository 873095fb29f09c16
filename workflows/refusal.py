"""How a workflow says no."""

from temporalio.exceptions import ApplicationError


def refuse(message: str) -> ApplicationError:
    """Return the error that refuses an update: the caller is told, and nothing is recorded."""
    return ApplicationError(message, type="Refused", non_retryable=True)
