"""The launch day that the load test plays: its settings, its demand and the tally of answers."""

import ipaddress
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final, Self
from urllib.parse import urlsplit

from tidegate.demand import Demand, Launch
from tidegate.errors import PlanError
from tidegate.playing import forecast_within, thin
from tidegate.shapes import rising_day
from tidegate.traces import read_trace

FREE: Final = "free"
TIERS: Final = MappingProxyType({FREE: 0.6, "plus": 0.25, "pro": 0.1, "team": 0.05})
"""Each tier's share of the requests."""

PERSON_RPS: Final = 0.5
"""Requests a second of one simulated person."""

_MAX_RPS: Final = 150.0
_LONGEST_S: Final = 600.0
_OPENS_AT_SHARE: Final = 0.25
_TRACE_SPEED: Final = 240.0


@dataclass(frozen=True)
class LoadSettings:
    """How the load test runs, read from the environment; see docs/demand.md."""

    gateway: str = "http://127.0.0.1:8080"
    api_key: str = ""
    load_anywhere: bool = False
    length_s: float = 60.0
    forecast_rps: float = 10.0
    factor: float = 4.0
    seed: int = 7
    trace: Path | None = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """Read the settings; raises PlanError (code `load`) that tells every mistake at once."""
        numbers = dict(_numbers(environment))
        mistakes = [
            f"{name}: got {environment[name]!r}, expected a number above 0 and up to {most:g}."
            ' Write it plainly, such as "30".'
            for name, (value, most) in numbers.items()
            if value is not None and not 0.0 < value <= most
        ]
        settings = cls(
            gateway=environment.get("TIDEGATE_GATEWAY") or cls.gateway,
            api_key=environment.get("TIDEGATE_API_KEY", ""),
            load_anywhere=environment.get("TIDEGATE_LOAD_ANYWHERE") == "1",
            length_s=numbers["TIDEGATE_LOAD_LENGTH_S"][0] or cls.length_s,
            forecast_rps=numbers["TIDEGATE_LOAD_FORECAST_RPS"][0] or cls.forecast_rps,
            factor=numbers["TIDEGATE_LOAD_FACTOR"][0] or cls.factor,
            seed=int(numbers["TIDEGATE_LOAD_SEED"][0] or cls.seed),
            trace=Path(environment["DEMAND"]) if environment.get("DEMAND") else None,
        )
        mistakes += settings.host_mistakes(settings.gateway)
        if mistakes:
            raise PlanError("\n".join(mistakes), code="load", mistakes=mistakes)
        return settings

    def host_mistakes(self, host: str) -> list[str]:
        """Tell why a host may not be loaded; nothing to tell where it may."""
        name = urlsplit(host).hostname or ""
        if not name:
            return [f'TIDEGATE_GATEWAY: got "{host}", expected a URL. Write http://127.0.0.1:8080.']
        if self.load_anywhere or _is_loopback(name):
            return []
        permission = "Set TIDEGATE_LOAD_ANYWHERE=1 only where its owner agreed to the load"
        return [f'TIDEGATE_GATEWAY: got "{host}", expected a loopback address. {permission}.']

    def demand(self) -> Demand:
        """Build the day: the trace's shape or a generated one, the launch after a quarter.

        The rate stays within 150 requests a second; raises PlanError on a wrong trace.
        """
        launch = Launch(at_s=self.length_s * _OPENS_AT_SHARE, factor=self.factor)
        if self.trace is not None:
            played = thin(
                read_trace(self.trace),
                max_rps=_MAX_RPS,
                length_s=self.length_s,
                factor=self.factor,
                speed=_TRACE_SPEED,
            )
            return Demand(
                played.forecast_rps, TIERS, shape=played.shape, launches=(launch,), cv=played.cv
            )
        shape = rising_day(self.length_s, seed=self.seed)
        most_rps = forecast_within(_MAX_RPS, shape, factor=self.factor)
        return Demand(min(self.forecast_rps, most_rps), TIERS, shape=shape, launches=(launch,))


@dataclass
class Tally:
    """Answers counted by tier and reason code."""

    answers: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, tier: str, code: str) -> None:
        """Count one answer; `code` is `allowed` or the refusal's reason."""
        self.answers[tier, code] += 1

    @property
    def paid_gate_refusals(self) -> int:
        """How many people of paying tiers a gate refused; none may be."""
        return sum(n for (tier, code), n in self.answers.items() if is_broken_promise(tier, code))

    def lines(self) -> Iterator[str]:
        """Tell each tier's answers in a line."""
        for tier in TIERS:
            counts = {code: n for (asked, code), n in self.answers.items() if asked == tier}
            told = ", ".join(f"{n} {code}" for code, n in sorted(counts.items()))
            yield f"{tier}: {told or 'asked nothing'}"


def is_broken_promise(tier: str, code: str) -> bool:
    """Tell whether a gate refused somebody who pays."""
    return tier != FREE and code.startswith("gate")


def _numbers(environment: Mapping[str, str]) -> Iterator[tuple[str, tuple[float | None, float]]]:
    """Yield each numeric variable with its value (None: not given, 0.0: no number) and limit."""
    limits = {
        "TIDEGATE_LOAD_LENGTH_S": _LONGEST_S,
        "TIDEGATE_LOAD_FORECAST_RPS": _MAX_RPS,
        "TIDEGATE_LOAD_FACTOR": 100.0,
        "TIDEGATE_LOAD_SEED": 2.0**31,
    }
    for name, most in limits.items():
        text = environment.get(name)
        try:
            yield name, (float(text) if text else None, most)
        except ValueError:
            yield name, (0.0, most)


def _is_loopback(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"
