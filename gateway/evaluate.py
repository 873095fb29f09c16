"""Answering questions from the local snapshot: no network, no disk, no waiting."""

from collections.abc import Callable

from gateway.tally import Tally
from tidegate.holding import Held, SnapshotHolder
from tidegate.rules.outcome import Outcome, Question

Clock = Callable[[], float]
"""Says what time it is, in seconds since the epoch."""


class Evaluator:
    """Decides, and counts what a request's answer came to."""

    def __init__(self, holder: SnapshotHolder, tally: Tally, clock: Clock) -> None:
        self._holder = holder
        self._count = tally.count
        self.now = clock
        """Returns the present, in seconds since the epoch."""

    def held(self) -> Held:
        """Return the one state that everything in a request is answered from."""
        return self._holder.now_held

    def admit(self, held: Held, question: Question, now: float) -> Outcome:
        """Decide and count: this is a request for work."""
        outcome = held.decider.answer(question, now)
        self._count(outcome)
        return outcome

    def preview(self, held: Held, question: Question, now: float) -> Outcome:
        """Decide without counting: nobody asks for work yet."""
        return held.decider.answer(question, now)
