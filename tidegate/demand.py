"""Demand: one open-loop model of arrivals, for demo, load tests, replay and rehearsal alike.

Open loop: arrivals depend on the model and its seed alone, never on how they are served.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate, pairwise
from random import Random
from statistics import NormalDist
from typing import Final, NamedTuple

from tidegate.errors import PlanError
from tidegate.shapes import Shape, level

_REGULAR_BELOW: Final = 0.01
"""Gaps with a smaller coefficient of variation are taken as equal."""

_WIDEST_SIGMA: Final = 5.0
_DECAY_STEPS: Final = 16
_DECAYS_FOLLOWED: Final = 8
"""A launch's decay is drawn as lines, so many to a decay time, until 0.03 % of it is left."""


@dataclass(frozen=True)
class Launch:
    """An opening: from `at_s` on demand is `factor` (1 or more) times what it was.

    With `decay_s` the extra demand falls to 1/e in each such time; without, it stays.
    """

    at_s: float
    factor: float
    decay_s: float | None = None

    def added(self, t_s: float) -> float:
        """Return the extra demand at `t_s`, in units of the forecast; 0.0 before the opening."""
        if t_s < self.at_s:
            return 0.0
        left = 1.0 if self.decay_s is None else math.exp(-(t_s - self.at_s) / self.decay_s)
        return (self.factor - 1.0) * left


@dataclass(frozen=True)
class Demand:
    """What is asked for, over time; time 0 is where the shape begins.

    `forecast_rps` is the mean rate before any launch; `tiers` give each tier's share of the
    requests and add up to 1; `cv` is the gaps' coefficient of variation (1 is Poisson, more is
    burstier); `work_sigma` spreads the work of a request, log-normal with mean 1.0 and never
    above `work_cap`; `users` live in all tiers together, and `user_skew` (0 to below 1) is the
    exponent of their activity, Zipf's. Extra demand of several launches adds up.
    Raises PlanError (code `demand`) that tells every wrong field at once.
    """

    forecast_rps: float
    tiers: Mapping[str, float]
    shape: Shape = field(default_factory=level)
    launches: tuple[Launch, ...] = ()
    cv: float = 1.5
    work_sigma: float = 1.0
    work_cap: float = 20.0
    users: int = 100_000
    user_skew: float = 0.7

    def __post_init__(self) -> None:
        """Refuse what is no demand."""
        mistakes = list(_mistakes(self))
        if mistakes:
            raise PlanError("\n".join(mistakes), code="demand", mistakes=mistakes)

    @property
    def peak_rps(self) -> float:
        """A rate that `rate_at` never passes: the shape's peak under every launch's factor."""
        extra = sum(launch.factor - 1.0 for launch in self.launches)
        return self.forecast_rps * self.shape.peak * (1.0 + extra)


class Arrival(NamedTuple):
    """One request that arrives; `work` is relative to the mean request, 1.0."""

    at_s: float
    tier: str
    user: str
    work: float


def rate_at(demand: Demand, t_s: float) -> float:
    """Return the expected requests per second at `t_s`."""
    return _rate(demand, t_s, demand.launches)


def arrivals(demand: Demand, *, seed: int, from_s: float, until_s: float) -> Iterator[Arrival]:
    """Draw the arrivals of a part of the demand lazily, in time order; the same for a seed.

    Gamma gaps of mean 1 are laid along the expected count of requests, so that the rate is
    followed through bursts, slopes and openings alike (a time-rescaled renewal process). The
    first gap is the rest of one already begun, so that the start is no burst of its own.
    """
    gaps, marks = Random(f"{seed}/gaps"), Random(f"{seed}/marks")
    draw_gap = _gap_drawer(demand.cv)
    pick_tier = _tier_picker(demand.tiers)
    wait, at_s = draw_gap(gaps, begun=True), from_s
    for line in _lines(demand, from_s, until_s):
        passed = 0.0
        while passed + wait <= line.requests:
            passed += wait
            tier = pick_tier(marks)
            # Inverting the expected count rounds, and arrivals never go back in time.
            at_s = max(at_s, line.time_of(passed))
            yield Arrival(at_s, tier, draw_user(demand, tier, marks), draw_work(demand, marks))
            wait = draw_gap(gaps, begun=False)
        wait -= line.requests - passed


def draw_user(demand: Demand, tier: str, draw: Random) -> str:
    """Draw who asks, such as `pro-000017`: the lower the number, the more often.

    Activity falls with rank r as r^-skew; the cumulative power law is inverted.
    """
    count = max(1, round(demand.users * demand.tiers[tier]))
    power = 1.0 - demand.user_skew
    rank = int((1.0 + draw.random() * ((count + 1.0) ** power - 1.0)) ** (1.0 / power))
    return f"{tier}-{min(rank, count):06d}"


def draw_work(demand: Demand, draw: Random) -> float:
    """Draw a request's work: log-normal, heavy-tailed, capped, mean 1.0 after the cap."""
    mu = _capped_mu(demand.work_sigma, demand.work_cap)
    return min(demand.work_cap, math.exp(draw.normalvariate(mu, demand.work_sigma)))


@lru_cache(maxsize=64)
def _capped_mu(sigma: float, cap: float) -> float:
    """Find mu where min(LogNormal(mu, sigma), cap) has the mean 1.0, by bisection."""
    if sigma == 0.0:
        return 0.0
    normal = NormalDist()

    def mean(mu: float) -> float:
        reach = (math.log(cap) - mu) / sigma
        below = math.exp(mu + sigma**2 / 2.0) * normal.cdf(reach - sigma)
        return below + cap * normal.cdf(-reach)

    low, high = -(sigma**2) / 2.0, math.log(cap) + 10.0 * sigma
    for _ in range(60):
        middle = (low + high) / 2.0
        low, high = (middle, high) if mean(middle) < 1.0 else (low, middle)
    return high


def _gap_drawer(cv: float) -> Callable[..., float]:
    alpha, beta = (1.0 / cv**2, cv**2) if cv >= _REGULAR_BELOW else (math.inf, 0.0)

    def draw_gap(draw: Random, *, begun: bool) -> float:
        # Whoever looks at a random instant falls into a long gap: length-biased, partly over.
        share = draw.random() if begun else 1.0
        return share * (draw.gammavariate(alpha + begun, beta) if beta else 1.0)

    return draw_gap


def _tier_picker(tiers: Mapping[str, float]) -> Callable[[Random], str]:
    names = [name for name, share in tiers.items() if share > 0.0]
    edges = list(accumulate(tiers[name] for name in names))

    def pick(draw: Random) -> str:
        return names[min(bisect_right(edges, draw.random() * edges[-1]), len(names) - 1)]

    return pick


class _Line(NamedTuple):
    """A stretch of time over which the rate is a straight line."""

    start_s: float
    length_s: float
    start_rps: float
    end_rps: float

    @property
    def requests(self) -> float:
        """Expected requests over the stretch."""
        return self.length_s * (self.start_rps + self.end_rps) / 2.0

    def time_of(self, passed: float) -> float:
        """Return when `passed` requests are expected to have come: a quadratic, solved."""
        slope = (self.end_rps - self.start_rps) / self.length_s
        root = math.sqrt(max(0.0, self.start_rps**2 + 2.0 * slope * passed))
        after_s = 2.0 * passed / (self.start_rps + root) if passed else 0.0
        return self.start_s + min(after_s, self.length_s)


def _lines(demand: Demand, from_s: float, until_s: float) -> Iterator[_Line]:
    cuts_s = {*demand.shape.times_s}
    for launch in demand.launches:
        step_s = (launch.decay_s or 0.0) / _DECAY_STEPS
        cuts_s.update(launch.at_s + n * step_s for n in range(_DECAY_STEPS * _DECAYS_FOLLOWED))
    inner_s = sorted(cut_s for cut_s in cuts_s if from_s < cut_s < until_s)
    for start_s, end_s in pairwise([from_s, *inner_s, until_s]):
        if end_s > start_s:
            # An opening at the end of a stretch belongs to the next one.
            begun = [launch for launch in demand.launches if launch.at_s <= start_s]
            start_rps, end_rps = (_rate(demand, t_s, begun) for t_s in (start_s, end_s))
            yield _Line(start_s, end_s - start_s, start_rps, end_rps)


def _rate(demand: Demand, t_s: float, launches: Iterable[Launch]) -> float:
    added = sum(launch.added(t_s) for launch in launches)
    return demand.forecast_rps * demand.shape(t_s) * (1.0 + added)


def _mistakes(demand: Demand) -> Iterator[str]:
    shares = list(demand.tiers.values())
    factors = [launch.factor for launch in demand.launches]
    decays_s = [launch.decay_s for launch in demand.launches if launch.decay_s is not None]
    finite = math.inf
    checks = (
        ("forecast_rps", demand.forecast_rps, "more than 0", 0 < demand.forecast_rps < finite),
        ("tiers", dict(demand.tiers), "shares that add up to 1", _adds_up_to_one(shares)),
        ("cv", demand.cv, "0 or more", 0 <= demand.cv < finite),
        ("work_sigma", demand.work_sigma, "0 to 5", 0 <= demand.work_sigma <= _WIDEST_SIGMA),
        ("work_cap", demand.work_cap, "more than 1", 1 < demand.work_cap < finite),
        ("users", demand.users, "1 or more", demand.users >= 1),
        ("user_skew", demand.user_skew, "0 to below 1", 0 <= demand.user_skew < 1),
        ("launches", factors, "factors of 1 or more", all(1 <= f < finite for f in factors)),
        ("launches", decays_s, "decays above 0 s", all(0 < d < finite for d in decays_s)),
    )
    for name, got, expected, is_right in checks:
        if not is_right:
            yield f"demand.{name}: got {got}, expected {expected}. Write it so in the scenario."


def _adds_up_to_one(shares: Collection[float]) -> bool:
    return all(share >= 0.0 for share in shares) and math.isclose(sum(shares), 1.0, rel_tol=1e-6)
