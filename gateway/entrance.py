"""What lets in somebody whom the gate would turn away: a session's pass, or a called number."""

from gateway.desk import Desk
from gateway.passes import Pass, Passes
from gateway.replies import Request
from gateway.tickets import Tickets
from tidegate.holding import Held
from tidegate.rules.outcome import Code, Outcome, Question


class Entrance:
    """Looks at what was shown beside a question."""

    def __init__(self, passes: Passes, tickets: Tickets, desk: Desk) -> None:
        self._passes = passes
        self.tickets = tickets
        self.desk = desk

    def answer(
        self, request: Request, question: Question, held: Held, outcome: Outcome, now: float
    ) -> Outcome:
        """Return what an outcome of the gate becomes with what was shown."""
        if outcome.code is Code.GATE_SHED and self.is_passed(request, question, now):
            return held.decider.answer(question, now, is_passed=True)
        if self.tickets.called(request, question, held.snapshot, now):
            return held.decider.answer(question, now, is_called=True)
        return outcome

    def is_passed(self, request: Request, question: Question, now: float) -> bool:
        """Say whether a pass was shown that is good for this question."""
        return self._passes.shown(request, question, now) is not None

    def begin_session(self, request: Request, question: Question, now: float) -> Pass:
        """Sign a pass for somebody who was just admitted, going on with the session shown."""
        return self._passes.begin(question, now, self._passes.shown(request, question, now))

    def note_arrival(self, request: Request, question: Question, held: Held, now: float) -> None:
        """Count somebody who came in, where they had waited for it."""
        ticket = self.tickets.called(request, question, held.snapshot, now)
        if ticket is not None:
            self.desk.note_arrival(question.feature, ticket.tier)
