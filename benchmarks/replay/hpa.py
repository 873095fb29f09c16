"""HPA v2 as kube-controller-manager has it, with `behavior` set.

`tests/kubernetes/test_hpa_model.py` runs it beside the real controller.
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

_TOLERANCE: Final = 0.1
_THOUSANDTHS: Final = 1000


class Metric(Protocol):
    """What an HPA looks at."""

    def wants(self, value: float, ready: int, loading: int) -> int | None:
        """Return the replicas that a value asks for; None where that cannot be told.

        A pod that loads runs, and has no metric yet.
        """
        ...


@dataclass(frozen=True, slots=True)
class PodsMetric:
    """A metric of type Pods, read as its mean over the pods that have it."""

    target: float
    """`averageValue`."""

    def wants(self, value: float, ready: int, loading: int) -> int | None:
        """Return ⌈N × ratio⌉.

        A pod without a metric counts as nothing on the way up and as its target on the way down;
        nothing happens where that turns the direction.
        """
        if not ready:
            return None
        booked = ready + loading
        use, aim = _thousandths(value), _thousandths(self.target)
        ratio = use / aim
        if loading and ratio != 1.0:
            assumed = 0 if ratio > 1.0 else aim
            whole = (use * ready + assumed * loading) // booked / aim
            if (whole > 1.0) is not (ratio > 1.0):
                return booked
            ratio = whole
        return booked if _is_within(ratio) else math.ceil(ratio * booked)


@dataclass(frozen=True, slots=True)
class ExternalMetric:
    """A metric of type External, read as a total that pods share, whether they are ready or not."""

    target: float
    """`averageValue`."""

    def wants(self, value: float, ready: int, loading: int) -> int | None:
        """Return ⌈total / target⌉."""
        booked = ready + loading
        total, aim = _thousandths(value), _thousandths(self.target)
        return booked if _is_within(total / (aim * max(1, booked))) else math.ceil(total / aim)


@dataclass(frozen=True, slots=True)
class HpaTerms:
    """What an HPA is written with beside its metrics."""

    most: int
    """`maxReplicas`; `minReplicas` is 1."""
    window_s: float = 300.0
    """`behavior.scaleDown.stabilizationWindowSeconds`."""
    period_s: float = 15.0
    """`periodSeconds` of the two policies for scaling up: 4 pods, or 100 %."""


class HpaController:
    """Decides at each sync, of which its caller says when they are."""

    def __init__(self, terms: HpaTerms, metrics: Sequence[Metric]) -> None:
        self._metrics = metrics
        self._steps = HpaSteps(terms)

    def sync(self, values: Sequence[float | None], ready: int, loading: int, now: float) -> int:
        """Return the replicas that are written; a metric that is absent has None as its value."""
        booked = ready + loading
        wishes = [
            None if value is None else metric.wants(value, ready, loading)
            for metric, value in zip(self._metrics, values, strict=True)
        ]
        told = [wish for wish in wishes if wish is not None]
        wanted = max(told, default=0)
        # One that cannot be told is enough to keep it from going down.
        is_told = len(told) == len(wishes) or (bool(told) and wanted >= booked)
        return self._steps.take(wanted if is_told else None, booked, now)


def _is_within(ratio: float) -> bool:
    """Say whether a ratio is too near to 1 to act on."""
    return 1.0 - _TOLERANCE <= ratio <= 1.0 + _TOLERANCE


def _thousandths(value: float) -> int:
    """Return a quantity as Kubernetes reads it: rounded up, but for what a float adds."""
    return math.ceil(value * _THOUSANDTHS - 1e-6)


class HpaSteps:
    """`behavior`: down to the largest recommendation of the window, up by 4 or 100 % a period."""

    def __init__(self, terms: HpaTerms) -> None:
        self._terms = terms
        self._recommended: deque[tuple[float, int]] = deque()
        self._changed: deque[tuple[float, int]] = deque()

    def take(self, wanted: int | None, booked: int, now: float) -> int:
        """Stabilise and limit a recommendation; without one, nothing changes."""
        if not self._recommended:
            # What it finds counts as recommended, so that nothing is taken away within a window.
            self._recommended.append((now, booked))
        if wanted is None:
            return booked
        self._recommended.append((now, wanted))
        _forget(self._recommended, now - self._terms.window_s)
        written = wanted
        if wanted > booked:
            written = min(wanted, self._terms.most, self._highest(booked, now))
        elif wanted < booked:
            written = max(1, min(booked, max(each for _, each in self._recommended)))
        if written != booked:
            self._changed.append((now, written - booked))
        return written

    def _highest(self, booked: int, now: float) -> int:
        _forget(self._changed, now - self._terms.period_s)
        at_first = booked - sum(change for _, change in self._changed)
        return max(booked, at_first + 4, 2 * at_first)


def _forget(kept: deque[tuple[float, int]], until: float) -> None:
    while kept and kept[0][0] <= until:
        kept.popleft()
