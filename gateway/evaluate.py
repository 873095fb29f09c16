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
        self._tally = tally
        self._clock = clock

    def held(self) -> Held:
        """Return the one state that everything in a request is answered from."""
        return self._holder.now_held

    def now(self) -> float:
        """Return the present, in seconds since the epoch."""
        return self._clock()

    def admit(self, held: Held, question: Question, now: float) -> Outcome:
        """Decide and count: this is a request for work."""
        outcome = self.preview(held, question, now)
        self._tally.count(outcome)
        return outcome

    def preview(self, held: Held, question: Question, now: float) -> Outcome:
        """Decide without counting: nobody asks for work yet."""
        return held.decider.answer(question, now)
