"""Models by name or alias, and how they go: `GET /v1/models`."""

from datetime import UTC, datetime
from typing import Final
from urllib.parse import unquote_to_bytes

from gateway.admit import not_ready
from gateway.evaluate import Evaluator
from gateway.replies import Header, Reply, Request, as_headers, json_reply, problem, retry_after
from tidegate.mistakes import nearest
from tidegate.rules.explain import rfc3339
from tidegate.rules.outcome import Code
from tidegate.rules.retirement import ModelPhase, find_model, headers_of, phase_of
from tidegate.rules.retry import come_back_after_s
from tidegate.snapshot import IntentPart, ModelIntent

MODELS_PATH: Final = b"/v1/models"
_GONE: Final = {
    ModelPhase.BROWNOUT: Code.MODEL_BROWNOUT.value,
    ModelPhase.RETIRED: Code.MODEL_RETIRED.value,
}


class ModelsHandler:
    """Serves what was published of models; nobody is asked who they are."""

    def __init__(self, evaluator: Evaluator) -> None:
        self._evaluator = evaluator

    def all(self, _: Request) -> Reply:
        """List all models."""
        intent = self._evaluator.held().snapshot.intent
        if intent is None:
            return not_ready("")
        now = self._evaluator.now()
        models = [_as_json(name, model, now) for name, model in sorted(intent.models.items())]
        return json_reply(200, {"models": models})

    def one(self, request: Request) -> Reply:
        """Describe one; 410 while it is switched off and after its sunset."""
        intent = self._evaluator.held().snapshot.intent
        if intent is None:
            return not_ready("")
        asked = unquote_to_bytes(request.path[len(MODELS_PATH) + 1 :]).decode(errors="replace")
        found = find_model(intent, asked)
        if found is None:
            return _unknown(asked, intent)
        now = self._evaluator.now()
        name, model = found
        headers = as_headers(headers_of(model))
        state = phase_of(model, now)
        if state not in _GONE:
            return json_reply(200, _as_json(name, model, now), *headers)
        instead = f". Use {model.successor}" if model.successor else ""
        is_back = [] if state is ModelPhase.RETIRED else _is_back(model, now)
        detail = f"model {name} is {'switched off for a while' if is_back else 'retired'}{instead}"
        more = _as_json(name, model, now)
        return problem(410, _GONE[state], detail, more, *headers, *is_back)


def _is_back(model: ModelIntent, now: float) -> list[Header]:
    ends = [end for start, end in model.brownouts if start <= now < end]
    return [retry_after(come_back_after_s(max(ends) - now, "", 0))]


def _unknown(asked: str, intent: IntentPart) -> Reply:
    names = [
        *intent.models,
        *(alias for model in intent.models.values() for alias in model.aliases),
    ]
    near = nearest(asked, names)
    hint = f'Did you mean "{near}"?' if near else "Ask /v1/models for all."
    return problem(404, "model-unknown", f'no model "{asked[:60]}" is published. {hint}')


def _as_json(name: str, model: ModelIntent, now: float) -> dict[str, object]:
    return {
        "model": name,
        "aliases": model.aliases,
        "state": phase_of(model, now),
        "deprecated_at": _instant(model.deprecated_at),
        "sunset_at": _instant(model.sunset_at),
        "successor": model.successor,
        "brownouts": [{"start": _instant(a), "end": _instant(b)} for a, b in model.brownouts],
        "link": model.link,
        "gone": {tier: _instant(at) for tier, at in model.gone},
        "spared": model.spared,
        "personality": dict(model.personality),
    }


def _instant(at: float | None) -> str | None:
    return None if at is None else rfc3339(datetime.fromtimestamp(at, UTC))
