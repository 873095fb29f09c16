"""How a model that will go is told of: its state, and the headers of RFC 9745 and RFC 8594."""

from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import format_datetime
from enum import StrEnum
from functools import lru_cache

from tidegate.snapshot import IntentPart, ModelIntent

Headers = tuple[tuple[str, str], ...]


class ModelPhase(StrEnum):
    """Where a model stands on its way out."""

    CURRENT = "current"
    DEPRECATED = "deprecated"
    BROWNOUT = "brownout"
    RETIRED = "retired"


def phase_of(model: ModelIntent, now: float) -> ModelPhase:
    """Say where a model stands for most at `now`, in seconds since the epoch."""
    if model.retired_at is not None and now >= model.retired_at:
        return ModelPhase.RETIRED
    if any(start <= now < end for start, end in model.brownouts):
        return ModelPhase.BROWNOUT
    if model.deprecated_at is not None and now >= model.deprecated_at:
        return ModelPhase.DEPRECATED
    return ModelPhase.CURRENT


def find_model(intent: IntentPart, name: str) -> tuple[str, ModelIntent] | None:
    """Find a model by its name or an alias; returns it with its name."""
    if name in intent.models:
        return name, intent.models[name]
    for own_name, model in intent.models.items():
        if name in model.aliases:
            return own_name, model
    return None


def headers_of_feature(intent: IntentPart | None, feature: str, tier: str) -> Headers:
    """Return the headers that tell a tier of the model behind a feature; none where it stays."""
    if intent is None or feature not in intent.features:
        return ()
    pool = intent.pools.get(intent.features[feature].pool)
    model = None if pool is None else intent.models.get(pool.model)
    return () if model is None or tier in model.spared else headers_of(model)


@lru_cache(maxsize=1024)
def headers_of(model: ModelIntent) -> Headers:
    """Return `Deprecation` (RFC 9745), `Sunset` (RFC 8594) and the `Link`s that belong to them."""
    return tuple(_headers(model))


def _headers(model: ModelIntent) -> Iterator[tuple[str, str]]:
    if model.deprecated_at is not None:
        yield "deprecation", f"@{int(model.deprecated_at)}"
    if model.sunset_at is not None:
        sunset = datetime.fromtimestamp(model.sunset_at, UTC)
        yield "sunset", format_datetime(sunset, usegmt=True)
    links = []
    if model.link is not None:
        links.append(f'<{model.link}>; rel="deprecation"; type="text/html"')
        links.append(f'<{model.link}>; rel="sunset"; type="text/html"')
    if model.successor is not None:
        links.append(f'</v1/models/{model.successor}>; rel="successor-version"')
    if links:
        yield "link", ", ".join(links)
