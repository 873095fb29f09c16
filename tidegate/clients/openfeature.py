"""Tidegate as a provider of OpenFeature, deciding in the service's own process."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from openfeature.evaluation_context import EvaluationContext
from openfeature.event import ProviderEventDetails
from openfeature.exception import (
    FlagNotFoundError,
    InvalidContextError,
    ProviderFatalError,
    ProviderNotReadyError,
    TargetingKeyMissingError,
    TypeMismatchError,
)
from openfeature.flag_evaluation import FlagResolutionDetails, FlagValueType, Reason
from openfeature.provider import AbstractProvider, Metadata
from openfeature.track import TrackingEventDetails

from tidegate.clients.client import READY_WITHIN_S, Background
from tidegate.errors import PlanError
from tidegate.rules.flags import flag_of
from tidegate.rules.outcome import Asks, Question
from tidegate.rules.refusals import NOT_READY_DETAIL
from tidegate.snapshot import Snapshot, changed_features, lowest_tier

Track = Callable[[str, EvaluationContext | None, TrackingEventDetails | None], None]
"""Takes what `client.track` is told: its name, the context, and the details."""


class TidegateProvider(AbstractProvider):
    """Each feature is a boolean flag with a gateway's values, reasons, variants and metadata.

    The context's targeting key is the user; its attributes `tier`, `surface` and `asks` mean what
    they mean to a gateway, and the service that embeds this vouches for the tier.
    """

    def __init__(
        self,
        address: str,
        state: Path,
        *,
        keys: Path | None = None,
        api_key: str | None = None,
        ready_within_s: float = READY_WITHIN_S,
        on_track: Track | None = None,
    ) -> None:
        """Follow `address` as `tidegate.clients.client.follow` does."""
        super().__init__()
        self._background = Background(address, state, keys=keys, api_key=api_key, look=self._look)
        self._client = self._background.client
        self._ready_within_s = ready_within_s
        self._on_track = on_track
        self._lock = threading.Lock()
        self._told_of = Snapshot()
        self._told_stale = False
        self._is_initialized = False

    def get_metadata(self) -> Metadata:
        """Name the provider."""
        return Metadata(name="tidegate")

    def initialize(self, evaluation_context: EvaluationContext) -> None:
        """Begin to follow, and wait until a snapshot was heard, at most the time that was given.

        Raises ProviderNotReadyError when none was: it goes on in the background, tells READY when
        one is heard, and until then flags have their defaults. Raises ProviderFatalError for an
        address or keys that are wrong, which no waiting mends.
        """
        del evaluation_context  # what is followed is the same for everybody
        try:
            self._background.start()
        except PlanError as error:
            raise ProviderFatalError(str(error)) from error
        is_ready = self._background.until_ready(self._ready_within_s)
        with self._lock:
            self._is_initialized = True
            if is_ready:
                # The SDK tells READY itself when this returns.
                self._told_of = self._client.held.snapshot
        if not is_ready:
            raise ProviderNotReadyError(f"no snapshot was heard within {self._ready_within_s:g} s")

    def shutdown(self) -> None:
        """Follow no longer."""
        self._background.stop()

    def track(
        self,
        tracking_event_name: str,
        evaluation_context: EvaluationContext | None = None,
        tracking_event_details: TrackingEventDetails | None = None,
    ) -> None:
        """Hand what happened to `on_track`; without one it is dropped."""
        if self._on_track is not None:
            self._on_track(tracking_event_name, evaluation_context, tracking_event_details)

    def resolve_boolean_details(
        self,
        flag_key: str,
        default_value: bool,  # noqa: FBT001 - the SDK's signature
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[bool]:
        """Decide; raises the SDK's own errors, which make it return the default."""
        del default_value
        held = self._client.held
        self._require(flag_key)
        question = _question(flag_key, evaluation_context, held.snapshot)
        now = time.time()
        outcome = held.decider.answer(question, now)
        flag = flag_of(held.decider, question, outcome, now)
        return FlagResolutionDetails(
            value=flag.value,
            reason=Reason(flag.reason),
            variant=flag.variant,
            flag_metadata=dict(flag.metadata),
        )

    def resolve_string_details(
        self,
        flag_key: str,
        default_value: str,
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[str]:
        """Refuse: every flag is a boolean."""
        del default_value, evaluation_context
        raise self._mismatch(flag_key)

    def resolve_integer_details(
        self,
        flag_key: str,
        default_value: int,
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[int]:
        """Refuse: every flag is a boolean."""
        del default_value, evaluation_context
        raise self._mismatch(flag_key)

    def resolve_float_details(
        self,
        flag_key: str,
        default_value: float,
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[float]:
        """Refuse: every flag is a boolean."""
        del default_value, evaluation_context
        raise self._mismatch(flag_key)

    def resolve_object_details(
        self,
        flag_key: str,
        default_value: Sequence[FlagValueType] | Mapping[str, FlagValueType],
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[Sequence[FlagValueType] | Mapping[str, FlagValueType]]:
        """Refuse: every flag is a boolean."""
        del default_value, evaluation_context
        raise self._mismatch(flag_key)

    def _require(self, flag_key: str) -> None:
        intent = self._client.held.snapshot.intent
        if intent is None:
            raise ProviderNotReadyError(NOT_READY_DETAIL)
        if flag_key not in intent.features:
            raise FlagNotFoundError(f'no feature "{flag_key}" is published')

    def _mismatch(self, flag_key: str) -> TypeMismatchError:
        self._require(flag_key)
        return TypeMismatchError(f'"{flag_key}" is a boolean')

    def _look(self) -> None:
        """Tell of what changed since the last time; in the background's thread."""
        with self._lock:
            if not self._is_initialized or not self._client.is_ready:
                return
            before, self._told_of = self._told_of, self._client.held.snapshot
            was_stale, self._told_stale = self._told_stale, self._client.is_stale
        if before.intent is None or (was_stale and not self._told_stale):
            self.emit_provider_ready(ProviderEventDetails())
        if before.intent is not None and self._told_of is not before:
            changed = changed_features(before, self._told_of)
            if changed:
                details = ProviderEventDetails(flags_changed=list(changed))
                self.emit_provider_configuration_changed(details)
        if self._told_stale and not was_stale:
            text = "what is held has expired, and nothing newer was heard"
            self.emit_provider_stale(ProviderEventDetails(message=text))


def _question(flag_key: str, context: EvaluationContext | None, held: Snapshot) -> Question:
    user = None if context is None else context.targeting_key
    if context is None or not user:
        raise TargetingKeyMissingError("name the user as the targeting key")
    said = {**context.attributes, "targetingKey": user}
    tier = _text(said, "tier") or lowest_tier(held.intent)
    asks = _text(said, "asks") or Asks.USE.value
    if asks not in set(Asks):
        raise InvalidContextError(f'asks: got "{asks}", expected "use", "signup", or none')
    return Question(flag_key, user, tier, _text(said, "surface") or "api", said, Asks(asks))


def _text(said: Mapping[str, object], name: str) -> str | None:
    value = said.get(name)
    if name in said and not (isinstance(value, str) and value):
        raise InvalidContextError(f"{name}: got {value!r:.60}, expected a non-empty text, or none")
    return value if isinstance(value, str) else None
