"""Answering questions from the local snapshot, and from what is leased of a user's quotas."""

from collections.abc import Callable
from typing import Final

import msgspec

from gateway.entrance import Entrance
from gateway.identity import Identity
from gateway.passes import Pass
from gateway.quotas import Quotas
from gateway.replies import Answer, Reply, Request
from gateway.tally import Tally
from tidegate.holding import Held, SnapshotHolder
from tidegate.rules.outcome import Asks, Code, Outcome, Question

_USE: Final = Asks.USE  # bound here, as an enumeration's members are looked up slowly
_AT_THE_GATE: Final = (Code.GATE_SHED, Code.WAITLISTED)

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
        entrance: Entrance,
        quotas: Quotas[Reply],
    ) -> None:
        self._holder = holder
        self._identity = identity
        self.entrance = entrance
        """What lets in somebody whom the gate would turn away."""
        self.quotas = quotas
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
        if caller.may_name_all and asked.tier:
            return asked
        intent = held.snapshot.intent
        tier = self._identity.tier_of(caller, asked.tier or None, asked.surface, intent)
        user = caller.user or asked.user
        if tier == asked.tier and user == asked.user:
            return asked
        return msgspec.structs.replace(asked, tier=tier, user=user)

    def admit(self, request: Request, question: Question, held: Held, now: float) -> Outcome:
        """Decide and count: this is a request for work.

        An outcome with quotas is not settled, and not counted, until `spend` has taken from them.
        """
        outcome = self.preview(request, question, held, now)
        if question.asks is not _USE and outcome.allowed:
            self.entrance.note_arrival(request, question, held, now)
        if not outcome.quotas:
            self._count(outcome, question.user, now)
        return outcome

    def spend(
        self, question: Question, outcome: Outcome, now: float, answer: Callable[[Outcome], Reply]
    ) -> Answer:
        """Take one use from the quotas, count, and return what `answer` makes of the outcome.

        In a while, where what is left has to be asked for.
        """

        def settle(outcome: Outcome) -> Reply:
            self._count(outcome, question.user, now)
            return answer(outcome)

        return self.quotas.spend(question.user, outcome, now, settle)

    def preview(self, request: Request, question: Question, held: Held, now: float) -> Outcome:
        """Decide without counting: nobody asks for work yet."""
        outcome = held.decider.answer(question, now)
        # Looked for only where it may help, so that no other request pays for it.
        if not outcome.allowed and outcome.code in _AT_THE_GATE:
            return self.entrance.answer(request, question, held, outcome, now)
        return outcome

    def begin_session(self, request: Request, question: Question, held: Held, now: float) -> Pass:
        """Sign a pass for somebody who was just admitted, going on with the session shown."""
        if question.asks is _USE:
            self.entrance.note_arrival(request, question, held, now)
        return self.entrance.begin_session(request, question, now)

    def is_passed(self, request: Request, question: Question, now: float) -> bool:
        """Say whether a pass was shown that is good for this question."""
        return self.entrance.is_passed(request, question, now)
