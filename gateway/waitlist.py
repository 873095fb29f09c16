"""The waitlist's door: a ticket for whom the gate turns away, and where it stands."""

import asyncio
from datetime import UTC, datetime
from typing import Final, NamedTuple

from gateway.admit import malformed, not_ready, told_to
from gateway.evaluate import Evaluator
from gateway.identity import NotBelieved
from gateway.questions import Malformed, read_asked
from gateway.replies import Answer, Reply, Request, json_reply, problem, refusal, retry_after
from gateway.tickets import Ticket, place_in
from tidegate.errors import Refused, Unavailable
from tidegate.holding import Held
from tidegate.rules.explain import rfc3339
from tidegate.rules.outcome import Code, Outcome, Question
from tidegate.rules.refusals import opens_as_json
from tidegate.rules.retry import come_back_in_s
from tidegate.rules.waiting import Place, Standing, Wait, expected_wait
from tidegate.snapshot import PoolIntent, WaitlistIntent, WaitlistPart

_WAITED_FOR: Final = frozenset({Code.GATE_SHED, Code.WAITLISTED})
_ASK_AGAIN_S: Final = (5.0, 300.0)
_OF_THE_WAIT: Final = 0.1
"""Whoever waits asks again after a tenth of the time that is left."""
_UNKNOWN_S: Final = 60.0
_CLOSED_RETRY_S: Final = 2.0


class _Line(NamedTuple):
    """What one who has to wait is told from."""

    question: Question
    part: WaitlistPart
    pace: WaitlistIntent
    pool: PoolIntent | None


class WaitlistHandler:
    """Serves `POST /v1/waitlist`: the question of `/v1/admit`, from somebody who would wait."""

    def __init__(self, evaluator: Evaluator) -> None:
        self._evaluator = evaluator
        self._tickets = evaluator.entrance.tickets
        self._desk = evaluator.entrance.desk

    def __call__(self, request: Request) -> Answer:
        """Answer 202 with a ticket while there is a wait, 200 where there is none."""
        try:
            question = read_asked(request.body)
        except Malformed as error:
            return malformed(error)
        held = self._evaluator.held()
        if not held.is_ready:
            return not_ready(question.user)
        try:
            question = self._evaluator.vouched(request, question, held)
            ticket = self._tickets.shown(request, question)
        except NotBelieved as refused:
            return refused.reply
        except Refused as error:
            return problem(400, "ticket-invalid", str(error))
        return self._answer(request, question, held, ticket)

    def _answer(
        self, request: Request, question: Question, held: Held, ticket: Ticket | None
    ) -> Answer:
        now = self._evaluator.now()
        outcome = self._evaluator.preview(request, question, held, now)
        if outcome.allowed:
            return _may_come(outcome, held, ticket, now)
        line = _line(question, held)
        if line is None or outcome.code not in _WAITED_FOR:
            return told_to(question.user, refusal(outcome, question.tier), outcome, now)
        if ticket is None and now > line.part.expires_at:
            return _unavailable(question, "nothing is heard of this waitlist. Ask again.")
        if ticket is None:
            return asyncio.ensure_future(self._join(line))
        place = place_in(held.snapshot, question.feature, ticket, now)
        if place is not None and place.standing is Standing.EXPIRED:
            return _expired(ticket, place)
        return _waiting(line, ticket, 0 if place is None else place.ahead)

    async def _join(self, line: _Line) -> Reply:
        tier = line.question.tier
        lane = line.part.lanes[tier]
        try:
            number = await self._desk.number(line.question.feature, tier, lane.called_below)
        except Unavailable as error:
            return _unavailable(line.question, str(error))
        ticket = self._tickets.sign(line.question, number)
        return _waiting(line, ticket, lane.waiters(lane.called_below, number))


def _line(question: Question, held: Held) -> _Line | None:
    """Return where to wait; None where there is no waitlist, or no lane for this tier."""
    part = held.snapshot.waitlists.get(question.feature)
    intent = held.snapshot.intent
    if part is None or intent is None or question.tier not in part.lanes:
        return None
    feature = intent.features.get(question.feature)
    if feature is None or feature.waitlist is None:
        return None
    return _Line(question, part, feature.waitlist, intent.pools.get(feature.pool))


def _unavailable(question: Question, detail: str) -> Reply:
    wait = retry_after(come_back_in_s(_CLOSED_RETRY_S, question.user, 0))
    return problem(503, "waitlist-unavailable", detail, None, wait)


def _may_come(outcome: Outcome, held: Held, ticket: Ticket | None, now: float) -> Reply:
    place = None if ticket is None else place_in(held.snapshot, outcome.feature, ticket, now)
    is_called = place is not None and place.standing is Standing.CALLED
    body: dict[str, object] = {
        "allowed": True,
        "state": "called" if is_called else "open",
        **_subject(outcome),
    }
    if is_called and place is not None and place.until is not None:
        body["until"] = _instant(place.until)
    return json_reply(200, body)


def _expired(ticket: Ticket, place: Place) -> Reply:
    ended = f" since {_instant(place.until)}" if place.until else ""
    detail = (
        f"the time of number {ticket.number} of {ticket.tier} is over{ended}. "
        "Ask again without the ticket for a new place"
    )
    return problem(410, "ticket-expired", detail)


def _waiting(line: _Line, ticket: Ticket, ahead: int) -> Reply:
    part, question = line.part, line.question
    wait = expected_wait(part, ticket.tier, ahead, line.pace, line.pool)
    dates = None if wait is None else wait.as_dates(part.issued_at)
    body = {
        "allowed": False,
        "state": "waiting",
        "ticket": ticket.token,
        "feature": question.feature,
        "tier": ticket.tier,
        "number": ticket.number,
        "ahead": ahead,
        "expected": opens_as_json(dates),
        "reason": part.stopped_because or "others are called first",
        "version": part.version,
    }
    # Twice within a claim window at least, so that nobody who asks as told misses a call.
    again_s = min(_ask_again_s(wait), line.pace.claim_window_s / 2.0)
    again = come_back_in_s(again_s, question.user, part.version)
    return json_reply(202, body, retry_after(again))


def _ask_again_s(wait: Wait | None) -> float:
    least_s, most_s = _ASK_AGAIN_S
    return _UNKNOWN_S if wait is None else min(max(wait.p50_s * _OF_THE_WAIT, least_s), most_s)


def _subject(outcome: Outcome) -> dict[str, object]:
    return {"feature": outcome.feature, "tier": outcome.tier, "version": outcome.version}


def _instant(at: float) -> str:
    return rfc3339(datetime.fromtimestamp(at, UTC))
