"""Why an answer is what it is: `GET /v1/why`."""

from gateway.admit import malformed, not_ready
from gateway.evaluate import Evaluator
from gateway.identity import NotBelieved
from gateway.questions import Malformed, read_asked_in_query
from gateway.replies import Reply, Request, json_reply
from tidegate.rules.explain import Explanation, explain
from tidegate.rules.outcome import Code, Question
from tidegate.rules.refusals import opens_as_json

_DIGITS = 6


class WhyHandler:
    """Explains one answer with all that went into it; counts nothing."""

    def __init__(self, evaluator: Evaluator) -> None:
        self._evaluator = evaluator

    def __call__(self, request: Request) -> Reply:
        """Explain, with 200 whatever the outcome is: an explanation is no refusal."""
        try:
            question = read_asked_in_query(request.query)
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
        is_passed = self._evaluator.is_passed(request, question, now)
        explanation = explain(held.snapshot, held.decider, question, now, is_passed=is_passed)
        return json_reply(200, _as_json(explanation, question, now))


def _as_json(why: Explanation, question: Question, now: float) -> dict[str, object]:
    outcome, shares, gate = why.outcome, why.shares, why.gate
    return {
        "allowed": outcome.allowed,
        "code": outcome.code,
        "reason": outcome.reason,
        "feature": question.feature,
        "user": question.user,
        "tier": question.tier,
        "surface": question.surface,
        "asks": question.asks,
        "attributes": dict(question.attributes),
        "pool": outcome.pool,
        "version": outcome.version,
        "place": _rounded(why.place),
        "exposure": None if shares is None else _rounded(shares.exposure),
        "shed_place": _rounded(why.shed_place),
        "ceiling": None if shares is None else _rounded(shares.ceiling),
        "gate": None
        if gate is None
        else {
            "state": gate.state,
            "reason": gate.reason,
            "stale": gate.stale,
            "expired": now > gate.expires_at,
        },
        "intent_expired": why.intent_expired,
        "opens": opens_as_json(why.opens) if outcome.code is Code.NOT_EXPOSED else None,
        "quotas": list(why.quotas),
        "retry_after_s": outcome.retry_after_s,
        "versions": dict(why.versions),
        "would_be_yes_if": why.would_be_yes_if,
    }


def _rounded(share: float | None) -> float | None:
    return None if share is None else round(share, _DIGITS)
