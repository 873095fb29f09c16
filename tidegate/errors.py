"""What can go wrong, in one tree.

TidegateError
├── PlanError      what a person wrote is wrong, and its writer can mend it
├── Refused        a rule said no; not a fault
├── Unavailable    something outside did not answer; try again
└── Broken         an invariant does not hold; wake someone
"""

from collections.abc import Sequence


class TidegateError(Exception):
    """The root of Tidegate's errors; `code` is stable and meant for metrics."""

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.code = code


class PlanError(TidegateError):
    """A manifest, a plan or a trace is wrong; `mistakes` holds every one found, a line each."""

    def __init__(self, message: str, *, code: str, mistakes: Sequence[str] = ()) -> None:
        super().__init__(message, code=code)
        self.mistakes: tuple[str, ...] = tuple(mistakes) or (message,)


class Refused(TidegateError):  # noqa: N818 - a refusal is an answer, not an error
    """A rule said no; the message says which and what to do next."""


class Unavailable(TidegateError):  # noqa: N818 - named for the state that callers retry on
    """An outside system did not answer in time; safe to try again."""


class Broken(TidegateError):  # noqa: N818 - named for the state that wakes someone
    """An invariant does not hold."""
