"""The admission check: whether a request's work may begin now."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from gateway.evaluate import Evaluator
from gateway.identity import NotBelieved
from gateway.passes import Pass
from gateway.questions import Malformed, read_asked
from gateway.replies import Reply, Request, json_reply, problem, retry_after
from gateway.written import FOREVER, Written
from tidegate.rules.explain import UNKNOWN, rfc3339
from tidegate.rules.outcome import Code, Outcome, Question
from tidegate.rules.retry import come_back_in_s
from tidegate.snapshot import DateRange

NOT_READY_RETRY_S: Final = 2.0

_STATUS: Final[Mapping[Code, int]] = {
    Code.ALLOWED: 200,
    # 429 and not 503: GPUs are contended and this tier is rationed, while the service is well. A
    # 503 would make balancers and breakers take a healthy gateway out for paying tiers too.
    Code.GATE_SHED: 429,
    Code.WAITLISTED: 429,
    Code.NOT_EXPOSED: 403,
    Code.NOT_IN_AUDIENCE: 403,
    Code.PREREQUISITE: 403,
    Code.LAYER_EXCLUDED: 403,
    Code.SIGNUPS_SUSPENDED: 403,
    Code.KILLED: 403,
    # 410 and not 429 (RFC 9457 problem document beside it): clients hide a 429 by backing off,
    # and a brownout is there to be noticed.
    Code.MODEL_BROWNOUT: 410,
    Code.MODEL_RETIRED: 410,
    Code.SURFACE_CLOSED: 403,
    Code.INTENT_STALE: 403,
    Code.TIER_UNKNOWN: 403,
    Code.FEATURE_UNKNOWN: 404,
}


class AdmitHandler:
    """Serves `POST /v1/admit` and `/v1/sessions`; what all users are told alike is written once."""

    def __init__(self, evaluator: Evaluator) -> None:
        self._evaluator = evaluator
        self._written = Written[Reply]()

    def __call__(self, request: Request) -> Reply:
        """Answer allowed, or refuse with a problem document that says why and until when."""
        return self._answer(request, begins_session=False)

    def begin_session(self, request: Request) -> Reply:
        """Answer the same, and give whoever is allowed a pass that keeps a session in."""
        return self._answer(request, begins_session=True)

    def _answer(self, request: Request, *, begins_session: bool) -> Reply:
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
        if begins_session and outcome.allowed:
            return _let_in(outcome, self._evaluator.begin_session(request, question, now))
        reply = self._written.get(held, outcome, now)
        if reply is None:
            reply = _allow(outcome) if outcome.allowed else refusal(outcome, question)
            self._written.keep(held, outcome, reply, until=FOREVER)
        if outcome.retry_after_s is None:
            return reply
        wait_s = come_back_in_s(outcome.retry_after_s, question.user, outcome.version)
        return Reply(reply.status, reply.body, (*reply.headers, retry_after(wait_s)))


def malformed(error: Malformed) -> Reply:
    """Name every field that is wrong, what was got and what was expected."""
    errors = [{"field": m.field, "got": m.got, "expected": m.expected} for m in error.wrong]
    return problem(400, error.code, str(error), {"errors": errors})


def not_ready(user: str) -> Reply:
    """Say that nothing is known yet, which is neither a yes nor a no."""
    return problem(
        503,
        "not-ready",
        "this gateway has not heard a snapshot yet",
        None,
        retry_after(come_back_in_s(NOT_READY_RETRY_S, user, 0)),
    )


def opens_as_json(opens: DateRange | None) -> object:
    """Write when something opens as a range, or as "unknown"."""
    return UNKNOWN if opens is None else {"p50": rfc3339(opens.p50), "p90": rfc3339(opens.p90)}


def _allow(outcome: Outcome) -> Reply:
    return json_reply(200, _allowed(outcome))


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


def refusal(outcome: Outcome, question: Question) -> Reply:
    """Refuse with a problem document; when to come back is told to each user apart."""
    more: dict[str, object] = {
        "allowed": False,
        "feature": outcome.feature,
        "tier": question.tier,
        "pool": outcome.pool,
        "version": outcome.version,
    }
    if outcome.code is Code.NOT_EXPOSED:
        more["opens"] = opens_as_json(outcome.opens)
    if outcome.until is not None:
        more["until"] = rfc3339(datetime.fromtimestamp(outcome.until, UTC))
    return problem(_STATUS[outcome.code], outcome.code, outcome.reason, more)
