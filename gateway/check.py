"""The check at a proxy: Envoy, nginx, Caddy and Traefik ask before they pass a request on."""

from functools import partial
from typing import Final, NamedTuple
from urllib.parse import unquote_to_bytes

from gateway.admit import not_ready, told_to
from gateway.evaluate import Evaluator
from gateway.identity import CHALLENGE, NotBelieved
from gateway.questions import DEFAULT_SURFACE
from gateway.replies import Answer, Header, Reply, Request, as_headers, problem, refusal
from gateway.written import FOREVER, Written
from tidegate.holding import Held
from tidegate.rules.outcome import Outcome, Question
from tidegate.rules.retirement import headers_of_feature

CHECK_PATH: Final = b"/v1/check/"
_PREFIX: Final = b"x-tidegate-"
_BEGINS: Final = len(_PREFIX)
_NO_STORE: Final[Header] = (b"cache-control", b"no-store")
_PASSED_ON: Final = frozenset({200, 401, 403})


class _Said(NamedTuple):
    """What the proxy's headers say of the user."""

    question: Question
    only_403: bool
    """Whether every refusal is to be a 403, for proxies that know no other."""


class CheckHandler:
    """Serves every method below `/v1/check/FEATURE`; the rest of the path is the client's own."""

    def __init__(self, evaluator: Evaluator) -> None:
        self._evaluator = evaluator
        self._written = Written[Reply]()

    def __call__(self, request: Request) -> Answer:
        """Answer 200 to pass the request on, or what the client is to be told."""
        said = _read(request)
        held = self._evaluator.held()
        if not held.is_ready:
            return _as_wanted(not_ready(said.question.user), said)
        try:
            question = self._evaluator.vouched(request, said.question, held)
        except NotBelieved as refused:
            return _as_wanted(refused.reply, said)
        if not question.user:
            detail = "nobody says who the user is. Send X-Tidegate-User, or a token that names one"
            return problem(401, "caller-unknown", detail, None, CHALLENGE)
        now = self._evaluator.now()
        outcome = self._evaluator.admit(request, question, held, now)
        if question is not said.question:
            said = said._replace(question=question)
        if outcome.quotas:
            tell = partial(self._told, said, held, now)
            return self._evaluator.spend(question, outcome, now, tell)
        return self._told(said, held, now, outcome)

    def _told(self, said: _Said, held: Held, now: float, outcome: Outcome) -> Reply:
        question = said.question
        reply = self._written.get(held, outcome, now)
        if reply is None:
            retiring = as_headers(
                headers_of_feature(held.snapshot.intent, outcome.feature, outcome.tier)
            )
            told = (*_told(outcome), *retiring, _NO_STORE)
            reply = (
                Reply(200, b"", told) if outcome.allowed else refusal(outcome, question.tier, *told)
            )
            self._written.keep(held, outcome, reply, until=FOREVER)
        return _as_wanted(told_to(question.user, reply, outcome, now), said)


def _read(request: Request) -> _Said:
    """Read path and headers; of a header that comes twice the last counts."""
    feature, *_ = request.path[len(CHECK_PATH) :].split(b"/", 1)
    said: dict[bytes, str] = {}
    for name, value in request.headers:
        if name[:_BEGINS].lower() == _PREFIX:
            said[name[_BEGINS:].lower()] = value.decode(errors="replace")
    question = Question(
        feature=unquote_to_bytes(feature).decode(errors="replace"),
        user=said.get(b"user", ""),
        tier=said.get(b"tier", ""),
        surface=said.get(b"surface") or DEFAULT_SURFACE,
        attributes=_attributes_of(said),
    )
    return _Said(question, only_403=said.get(b"refuse-with") == "403")


def _attributes_of(said: dict[bytes, str]) -> dict[str, object]:
    attributes: dict[str, object] = {}
    if b"region" in said:
        attributes["region"] = said[b"region"]
    if b"app-version" in said:
        attributes["appVersion"] = said[b"app-version"]
    if b"cohorts" in said:
        cohorts = said[b"cohorts"].split(",")
        attributes["cohorts"] = [cohort.strip() for cohort in cohorts if cohort.strip()]
    return attributes


def _told(outcome: Outcome) -> tuple[Header, ...]:
    """Return the decision as headers, for the proxy and for what is behind it."""
    return (
        (b"x-tidegate-code", outcome.code.value.encode()),
        (b"x-tidegate-version", str(outcome.version).encode()),
    )


def _as_wanted(reply: Reply, said: _Said) -> Reply:
    if not said.only_403 or reply.status in _PASSED_ON:
        return reply
    status = (b"x-tidegate-status", str(reply.status).encode())
    return Reply(403, reply.body, (*reply.headers, status))
