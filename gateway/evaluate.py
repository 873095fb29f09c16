"""Answering questions from the local snapshot: no network, no disk, no waiting."""

from collections.abc import Callable

from gateway.identity import Identity
from gateway.replies import Request
from gateway.tally import Tally
from tidegate.holding import Held, SnapshotHolder
from tidegate.rules.outcome import Outcome, Question

Clock = Callable[[], float]
"""Says what time it is, in seconds since the epoch."""


class Evaluator:
    """Decides, and counts what a request's answer came to."""

    def __init__(
        self,
        holder: SnapshotHolder,
        tally: Tally,
        clock: Clock,
        identity: Identity,
    ) -> None:
        self._holder = holder
        self._identity = identity
        self._count = tally.count
        self.now = clock
        """Returns the present, in seconds since the epoch."""

    def held(self) -> Held:
        """Return the one state that everything in a request is answered from."""
        return self._holder.now_held

    def vouched(self, request: Request, asked: Question, held: Held) -> Question:
        """Return a question by whom somebody vouches for, whatever tier it claims.

        Raises NotBelieved for a credential that is not good, or not good for what is claimed.
        """
        caller = self._identity.caller_of(request)
        intent = held.snapshot.intent
        tier = self._identity.tier_of(caller, asked.tier or None, asked.surface, intent)
        user = caller.user or asked.user
        if tier == asked.tier and user == asked.user:
            return asked
        return asked._replace(tier=tier, user=user)

    def admit(self, held: Held, question: Question, now: float) -> Outcome:
        """Decide and count: this is a request for work."""
        outcome = held.decider.answer(question, now)
        self._count(outcome, question.user)
        return outcome

    def preview(self, held: Held, question: Question, now: float) -> Outcome:
        """Decide without counting: nobody asks for work yet."""
        return held.decider.answer(question, now)
