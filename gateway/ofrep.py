"""OFREP 0.3: OpenFeature's remote evaluation of one flag, and of all."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from gateway.admit import NOT_READY_RETRY_S
from gateway.evaluate import Evaluator
from gateway.questions import Malformed, read_object, require_texts, show, surface_of
from gateway.replies import Reply, Request, encode, json_reply, retry_after
from tidegate.holding import Held
from tidegate.rules.explain import rfc3339, shares_of
from tidegate.rules.outcome import Outcome, Question
from tidegate.rules.retry import come_back_in_s

FLAGS_PATH: Final = "/ofrep/v1/evaluate/flags"


class _Error(Exception):
    """An error of the protocol: its status, code and details."""

    def __init__(self, status: int, code: str, details: str) -> None:
        super().__init__(details)
        self.status = status
        self.code = code


class OfrepHandler:
    """Serves `POST /ofrep/v1/evaluate/flags` and, for one flag, its `/{key}`."""

    def __init__(self, evaluator: Evaluator) -> None:
        self._evaluator = evaluator

    def one(self, request: Request) -> Reply:
        """Evaluate one flag, counted as a request for work."""
        key = request.path.removeprefix(FLAGS_PATH + "/")
        held = self._evaluator.held()
        try:
            context = _read_context(request.body)
            if not held.is_ready:
                return _not_ready({"key": key})
            question = _read_question(context, _known(key, held))
        except _Error as error:
            return _failed(error, {"key": key})
        now = self._evaluator.now()
        outcome = self._evaluator.admit(held, question, now)
        return json_reply(200, _flag(held, question, outcome, now))

    def all(self, request: Request) -> Reply:
        """Evaluate every flag for one context, counted as nothing: no work is asked for yet."""
        held = self._evaluator.held()
        try:
            context = _read_context(request.body)
            asked = _read_question(context, "")
        except _Error as error:
            return _failed(error, {})
        if not held.is_ready:
            return _not_ready({})
        now = self._evaluator.now()
        questions = [replace(asked, feature=key) for key in held.decider.features]
        flags = [_flag(held, q, self._evaluator.preview(held, q, now), now) for q in questions]
        etag = _etag(held, asked, flags)
        if _matches(request.header(b"if-none-match"), etag):
            return Reply(304, b"", ((b"etag", etag.encode()),))
        body = {"flags": flags, "metadata": {"version": held.decider.version}}
        return json_reply(200, body, (b"etag", etag.encode()))


def _read_context(body: bytes) -> Mapping[str, object]:
    try:
        context = read_object(body).get("context", {})
    except Malformed as error:
        raise _Error(400, "PARSE_ERROR", str(error)) from error
    if not isinstance(context, dict):
        raise _Error(400, "INVALID_CONTEXT", f"context: got {show(context)}, expected an object.")
    return context


def _known(key: str, held: Held) -> str:
    intent = held.snapshot.intent
    if intent is None or key not in intent.features:
        raise _Error(404, "FLAG_NOT_FOUND", f"no feature {show(key)} is published")
    return key


def _read_question(context: Mapping[str, object], feature: str) -> Question:
    user = context.get("targetingKey")
    if user is None or user == "":
        raise _Error(400, "TARGETING_KEY_MISSING", "context.targetingKey: name the user.")
    try:
        require_texts(context, ("targetingKey", "tier"))
    except Malformed as error:
        raise _Error(400, "INVALID_CONTEXT", str(error)) from error
    return Question(feature, str(user), str(context["tier"]), surface_of(context))


def _flag(held: Held, question: Question, outcome: Outcome, now: float) -> dict[str, object]:
    return {
        "key": question.feature,
        "value": outcome.allowed,
        "reason": _reason(held, question, outcome, now),
        "variant": "on" if outcome.allowed else "off",
        "metadata": _metadata(question, outcome),
    }


def _reason(held: Held, question: Question, outcome: Outcome, now: float) -> str:
    intent = held.snapshot.intent
    if intent is not None and now > intent.expires_at:
        return "STALE"
    shares = shares_of(held.decider, question, now)
    is_split = shares is not None and shares.told_users_apart(outcome.code)
    return "SPLIT" if is_split else "TARGETING_MATCH"


def _metadata(question: Question, outcome: Outcome) -> dict[str, str | int]:
    metadata: dict[str, str | int] = {
        "code": outcome.code.value,
        "tier": question.tier,
        "pool": outcome.pool or "",
        "version": outcome.version,
        "detail": outcome.reason,
    }
    if outcome.opens is not None:
        metadata["opensP50"] = rfc3339(outcome.opens.p50)
        metadata["opensP90"] = rfc3339(outcome.opens.p90)
    if outcome.retry_after_s is not None:
        wait_s = come_back_in_s(outcome.retry_after_s, question.user, outcome.version)
        metadata["retryAfterS"] = wait_s
    return metadata


def _etag(held: Held, asked: Question, flags: list[dict[str, object]]) -> str:
    """Hash versions, context and answers.

    The context, because a web provider keeps its ETag when a user of the same key moves to
    another tier. The answers, because time alone changes some: a gate expires, an hour begins.
    """
    context = [asked.user, asked.tier, asked.surface]
    hashed = encode([held.snapshot.versions(), context, flags])
    return f'"{hashlib.blake2b(hashed, digest_size=16).hexdigest()}"'


def _matches(if_none_match: str | None, etag: str) -> bool:
    if if_none_match is None:
        return False
    given = {each.strip().removeprefix("W/") for each in if_none_match.split(",")}
    return etag in given or "*" in given


def _failed(error: _Error, key: Mapping[str, str]) -> Reply:
    body = {**key, "errorCode": error.code, "errorDetails": str(error)}
    return json_reply(error.status, body)


def _not_ready(key: Mapping[str, str]) -> Reply:
    details = "this gateway has not heard a snapshot yet"
    body = {**key, "errorCode": "PROVIDER_NOT_READY", "errorDetails": details}
    return json_reply(503, body, retry_after(come_back_in_s(NOT_READY_RETRY_S, "", 0)))
