"""The admission check: whether a request's work may begin now."""

from datetime import UTC, datetime
from functools import partial
from typing import Final

from gateway.evaluate import Evaluator
from gateway.identity import NotBelieved
from gateway.passes import Pass
from gateway.questions import Malformed, read_asked
from gateway.replies import (
    Answer,
    Reply,
    Request,
    as_headers,
    json_reply,
    problem,
    refusal,
    retry_after,
)
from gateway.written import FOREVER, Written
from tidegate.holding import Held
from tidegate.rules.explain import rfc3339
from tidegate.rules.outcome import Outcome, Question
from tidegate.rules.refusals import NOT_READY, NOT_READY_DETAIL, retry_after_s
from tidegate.rules.retirement import headers_of_feature
from tidegate.rules.retry import come_back_in_s

NOT_READY_RETRY_S: Final = 2.0


class AdmitHandler:
    """Serves `POST /v1/admit` and `/v1/sessions`; what all users are told alike is written once."""

    def __init__(self, evaluator: Evaluator) -> None:
        self._evaluator = evaluator
        self._written = Written[Reply]()

    def __call__(self, request: Request) -> Answer:
        """Answer allowed, or refuse with a problem document that says why and until when."""
        return self._answer(request, begins_session=False)

    def begin_session(self, request: Request) -> Answer:
        """Answer the same, and give whoever is allowed a pass that keeps a session in."""
        return self._answer(request, begins_session=True)

    def _answer(self, request: Request, *, begins_session: bool) -> Answer:
        try:
            question = read_asked(request.body)
        except Malformed as error:
            return malformed(error)
        held = self._evaluator.held()
        if not held.is_ready:
            return not_ready(question.user)
        try:
            question = self._evaluator.vouched(request, question, held)
        except NotBelieved as refused:
            return refused.reply
        now = self._evaluator.now()
        outcome = self._evaluator.admit(request, question, held, now)
        if begins_session:
            answer = partial(self._told_of_session, request, question, held, now)
        elif outcome.quotas:
            answer = partial(self._told, question, held, now)
        else:
            return self._told(question, held, now, outcome)
        if outcome.quotas:
            return self._evaluator.spend(question, outcome, now, answer)
        return answer(outcome)

    def _told_of_session(
        self, request: Request, question: Question, held: Held, now: float, outcome: Outcome
    ) -> Reply:
        if outcome.allowed:
            return _let_in(outcome, self._evaluator.begin_session(request, question, held, now))
        return self._told(question, held, now, outcome)

    def _told(self, question: Question, held: Held, now: float, outcome: Outcome) -> Reply:
        reply = self._written.get(held, outcome, now)
        if reply is None:
            retiring = as_headers(
                headers_of_feature(held.snapshot.intent, outcome.feature, outcome.tier)
            )
            if outcome.allowed:
                reply = json_reply(200, _allowed(outcome), *retiring)
            else:
                reply = refusal(outcome, question.tier, *retiring)
            self._written.keep(held, outcome, reply, until=FOREVER)
        return told_to(question.user, reply, outcome, now)


def told_to(user: str, reply: Reply, outcome: Outcome, now: float) -> Reply:
    """Add when this user should come back to what everybody is told."""
    if outcome.retry_after_s is None and outcome.until is None:
        return reply
    wait_s = retry_after_s(outcome, user, now)
    if wait_s is None:
        return reply
    return Reply(reply.status, reply.body, (*reply.headers, retry_after(wait_s)))


def malformed(error: Malformed) -> Reply:
    """Name every field that is wrong, what was got and what was expected."""
    errors = [{"field": m.field, "got": m.got, "expected": m.expected} for m in error.wrong]
    return problem(400, error.code, str(error), {"errors": errors})


def not_ready(user: str) -> Reply:
    """Say that nothing is known yet, which is neither a yes nor a no."""
    return problem(
        503,
        NOT_READY,
        NOT_READY_DETAIL,
        None,
        retry_after(come_back_in_s(NOT_READY_RETRY_S, user, 0)),
    )


def _let_in(outcome: Outcome, session: Pass) -> Reply:
    until = rfc3339(datetime.fromtimestamp(session.until, UTC))
    return json_reply(200, {**_allowed(outcome), "pass": session.token, "pass_until": until})


def _allowed(outcome: Outcome) -> dict[str, object]:
    return {
        "allowed": True,
        "code": outcome.code,
        "reason": outcome.reason,
        "feature": outcome.feature,
        "tier": outcome.tier,
        "pool": outcome.pool,
        "version": outcome.version,
    }
