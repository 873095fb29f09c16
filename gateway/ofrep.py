"""OFREP 0.3: OpenFeature's remote evaluation of one flag, and of all."""

import hashlib
from collections.abc import Mapping
from functools import partial
from http import HTTPStatus
from typing import Final
from urllib.parse import unquote_to_bytes

import msgspec

from gateway.admit import NOT_READY_RETRY_S
from gateway.evaluate import Evaluator
from gateway.identity import NotBelieved
from gateway.questions import (
    DEFAULT_SURFACE,
    Malformed,
    NonEmpty,
    asks_of,
    read_object,
    require_texts,
    show,
)
from gateway.replies import Answer, Reply, Request, as_headers, encode, json_reply, retry_after
from gateway.streams import EVENTS_PATH
from gateway.written import Written
from tidegate.holding import Held
from tidegate.rules.flags import Flag, flag_of, reason_holds_until
from tidegate.rules.outcome import Asks, Code, Outcome, Question
from tidegate.rules.refusals import NOT_READY_DETAIL
from tidegate.rules.retirement import headers_of_feature
from tidegate.rules.retry import come_back_in_s

FLAGS_PATH: Final = b"/ofrep/v1/evaluate/flags"
_KEY_BEGINS: Final = len(FLAGS_PATH) + 1


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
        self._written = Written[Reply]()

    def one(self, request: Request) -> Answer:
        """Evaluate one flag, counted as a request for work."""
        key = _key_of(request)
        held = self._evaluator.held()
        try:
            question = _read(request.body, key)
            if not held.is_ready:
                return _not_ready({"key": key})
            question = self._evaluator.vouched(request, question, held)
        except _Error as error:
            return _failed(error, {"key": key})
        except NotBelieved as refused:
            return _not_believed(refused, {"key": key})
        now = self._evaluator.now()
        outcome = self._evaluator.admit(request, question, held, now)
        if outcome.quotas:
            told = partial(self._told, question, held, now)
            return self._evaluator.spend(question, outcome, now, told)
        return self._told(question, held, now, outcome)

    def _told(self, question: Question, held: Held, now: float, outcome: Outcome) -> Reply:
        reply = self._written.get(held, outcome, now)
        if reply is None and outcome.code is Code.FEATURE_UNKNOWN:
            key = question.feature
            unknown = _Error(404, "FLAG_NOT_FOUND", f"no feature {show(key)} is published")
            return _failed(unknown, {"key": key})
        if reply is None:
            flag = flag_of(held.decider, question, outcome, now)
            retiring = as_headers(
                headers_of_feature(held.snapshot.intent, question.feature, question.tier)
            )
            reply = json_reply(200, _as_json(question.feature, flag), *retiring)
            # What tells when to come back is told to each user alone.
            if outcome.retry_after_s is None:
                until = reason_holds_until(held.decider, question, now)
                self._written.keep(held, outcome, reply, until=until)
        return reply

    def all(self, request: Request) -> Reply:
        """Evaluate every flag for one context, counted as nothing: no work is asked for yet."""
        held = self._evaluator.held()
        try:
            asked = _read_question(_read_context(request.body), "")
        except _Error as error:
            return _failed(error, {})
        if not held.is_ready:
            return _not_ready({})
        try:
            asked = self._evaluator.vouched(request, asked, held)
        except NotBelieved as refused:
            return _not_believed(refused, {})
        now = self._evaluator.now()
        questions = [msgspec.structs.replace(asked, feature=key) for key in held.decider.features]
        flags = [
            _as_json(
                q.feature,
                flag_of(held.decider, q, self._evaluator.preview(request, q, held, now), now),
            )
            for q in questions
        ]
        etag = _etag(held, asked, flags)
        if _matches(request.header(b"if-none-match"), etag):
            return Reply(304, b"", ((b"etag", etag.encode()),))
        body = {
            "flags": flags,
            "metadata": {"version": held.decider.version},
            "eventStreams": [_EVENTS],
        }
        return json_reply(200, body, (b"etag", etag.encode()))


_EVENTS: Final = {
    "type": "sse",
    "endpoint": {"requestUri": EVENTS_PATH.decode()},
    "inactivityDelaySec": 120,
}


class _Context(msgspec.Struct, forbid_unknown_fields=True):
    """A context without attributes, as most are: read and checked in one go."""

    targetingKey: NonEmpty  # noqa: N815 - as the protocol spells it
    tier: NonEmpty = ""  # where none is claimed
    surface: NonEmpty = DEFAULT_SURFACE


class _Asked(msgspec.Struct):
    context: _Context


_decode: Final = msgspec.json.Decoder(_Asked).decode


def _key_of(request: Request) -> str:
    raw = request.target[_KEY_BEGINS:]
    if raw.isalnum():
        return raw.decode("latin-1")
    return unquote_to_bytes(request.path[_KEY_BEGINS:]).decode(errors="replace")


def _read(body: bytes, key: str) -> Question:
    try:
        context = _decode(body).context
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return _read_question(_read_context(body), key)  # which says what is wrong
    return Question(key, context.targetingKey, context.tier, context.surface)


def _read_context(body: bytes) -> Mapping[str, object]:
    try:
        context = read_object(body).get("context", {})
    except Malformed as error:
        raise _Error(400, "PARSE_ERROR", str(error)) from error
    if not isinstance(context, dict):
        raise _Error(400, "INVALID_CONTEXT", f"context: got {show(context)}, expected an object.")
    return context


def _read_question(context: Mapping[str, object], feature: str) -> Question:
    user, tier = context.get("targetingKey"), context.get("tier", "")
    surface = context.get("surface", DEFAULT_SURFACE)
    if not (user and surface and (tier or "tier" not in context)) or not (
        type(user) is str and type(tier) is str and type(surface) is str
    ):
        raise _wrong(context)
    asks = Asks.USE if "asks" not in context else _asks_of(context)
    return Question(feature, user, tier, surface, context, asks)


def _asks_of(context: Mapping[str, object]) -> Asks:
    try:
        return asks_of(context)
    except Malformed as error:
        raise _Error(400, "INVALID_CONTEXT", str(error)) from error


def _wrong(context: Mapping[str, object]) -> _Error:
    if context.get("targetingKey") is None or context["targetingKey"] == "":
        return _Error(400, "TARGETING_KEY_MISSING", "context.targetingKey: name the user.")
    try:
        require_texts(context, ("targetingKey",))
    except Malformed as error:
        return _Error(400, "INVALID_CONTEXT", str(error))
    raise AssertionError("a context was refused that has nothing wrong")


def _as_json(key: str, flag: Flag) -> dict[str, object]:
    return {"key": key, **flag._asdict()}


def _etag(held: Held, asked: Question, flags: list[dict[str, object]]) -> str:
    """Hash the version, context and answers.

    The context, because a web provider keeps its ETag when a user of the same key moves to
    another tier. The answers, because time alone changes some: a gate expires, an hour begins.
    """
    context = [asked.user, asked.tier, asked.surface, asked.attributes]
    hashed = encode([held.decider.version, context, flags])
    return f'"{hashlib.blake2b(hashed, digest_size=16).hexdigest()}"'


def _matches(if_none_match: str | None, etag: str) -> bool:
    if if_none_match is None:
        return False
    given = {each.strip().removeprefix("W/") for each in if_none_match.split(",")}
    return etag in given or "*" in given


def _failed(error: _Error, key: Mapping[str, str]) -> Reply:
    body = {**key, "errorCode": error.code, "errorDetails": str(error)}
    return json_reply(error.status, body)


def _not_believed(refused: NotBelieved, key: Mapping[str, str]) -> Reply:
    """Refuse a caller: for 401 and 403 the protocol names no body, so it is a problem document."""
    if refused.status == HTTPStatus.SERVICE_UNAVAILABLE:
        return _not_ready(key, refused.detail)
    return refused.reply


def _not_ready(key: Mapping[str, str], details: str = NOT_READY_DETAIL) -> Reply:
    body = {**key, "errorCode": "PROVIDER_NOT_READY", "errorDetails": details}
    return json_reply(503, body, retry_after(come_back_in_s(NOT_READY_RETRY_S, "", 0)))
