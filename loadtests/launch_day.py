"""A launch day for a running gateway, driven by Locust: people of four tiers ask for an image.

    .venv/bin/locust -f loadtests/launch_day.py --headless --only-summary

Refusals are answers, counted apart by reason; a paying user refused by a gate fails the run.
"""

# Locust's hooks, shapes and responses carry no types of their own.
# mypy: disable-error-code="no-untyped-call, untyped-decorator"

import json
import logging
import math
import os
import socket
import sys
import time
from http import HTTPStatus
from random import Random
from typing import Any, ClassVar, Final, NoReturn
from urllib.parse import urlsplit

from locust import FastHttpUser, LoadTestShape, events, poisson, task
from locust.contrib.fasthttp import ResponseContextManager
from locust.env import Environment

from loadtests.day import PERSON_RPS, TIERS, LoadSettings, Tally, is_broken_promise
from tidegate.demand import Demand, draw_user, rate_at
from tidegate.errors import PlanError

_DEADLINE_S: Final = 5.0
_SPAWNS_PER_S: Final = 100.0
"""As fast as Locust starts people without a warning."""
_ANSWERS: Final = (
    HTTPStatus.OK,
    HTTPStatus.FORBIDDEN,
    HTTPStatus.GONE,
    HTTPStatus.TOO_MANY_REQUESTS,
)


def _stop(line: str) -> NoReturn:
    sys.stderr.write(line + "\n")
    raise SystemExit(1)


def _planned() -> tuple[LoadSettings, Demand]:
    try:
        settings = LoadSettings.from_environment(os.environ)
        return settings, settings.demand()
    except PlanError as error:
        _stop(str(error))


SETTINGS, DEMAND = _planned()
TALLY: Final = Tally()


class LaunchDay(LoadTestShape):
    """As many people as the demand model's rate asks for, second by second, then the end."""

    def tick(self) -> tuple[int, float] | None:
        """Return (people, people started a second), or None when the day is over."""
        now_s = self.get_run_time()
        if now_s >= SETTINGS.length_s:
            return None
        return math.ceil(rate_at(DEMAND, now_s) / PERSON_RPS), _SPAWNS_PER_S


_VOUCHING: Final = {"Authorization": f"Bearer {SETTINGS.api_key}"} if SETTINGS.api_key else {}


class Person(FastHttpUser):
    """Somebody of one tier who asks now and then, and comes back when told to."""

    abstract = True
    host = SETTINGS.gateway
    wait_time = poisson(PERSON_RPS)
    connection_timeout = _DEADLINE_S
    network_timeout = _DEADLINE_S
    tier: ClassVar[str]
    started: ClassVar[int] = 0

    def on_start(self) -> None:
        """Take a name; a seeded generator for each person makes runs alike."""
        type(self).started += 1
        draw = Random(f"{SETTINGS.seed}/{self.tier}/{self.started}")
        self.name = draw_user(DEMAND, self.tier, draw)

    @task(9)
    def ask(self) -> None:
        """Ask to be admitted; a refusal is an answer, and its Retry-After is kept."""
        body = {"feature": "image", "user": self.name, "tier": self.tier, "surface": "chat"}
        with self.client.post(
            "/v1/admit", json=body, headers=_VOUCHING, catch_response=True
        ) as response:
            retry_after_s = self._hear(response)
        if retry_after_s > 0.0:
            # Locust patches it: only this person sleeps.
            time.sleep(min(retry_after_s, self._left_s()))

    @task(1)
    def evaluate(self) -> None:
        """Ask OpenFeature's question about the same flag."""
        context = {"targetingKey": self.name, "tier": self.tier, "surface": "chat"}
        path = "/ofrep/v1/evaluate/flags/image"
        self.client.post(path, json={"context": context}, headers=_VOUCHING)

    def _hear(self, response: ResponseContextManager) -> float:
        """Count the answer and return the seconds to stay away."""
        if response.status_code not in _ANSWERS:
            return 0.0  # Locust counts any other status, and silence, as a failure
        try:
            answer: dict[str, Any] = json.loads(response.text or "")
        except ValueError:
            response.failure(f"no JSON in an answer with status {response.status_code}")
            return 0.0
        if response.status_code == HTTPStatus.OK and answer.get("allowed") is True:
            TALLY.add(self.tier, "allowed")
            return 0.0
        code = str(answer.get("code", f"no code, status {response.status_code}"))
        TALLY.add(self.tier, code)
        response.request_meta["name"] = f"/v1/admit refused: {code}"
        if is_broken_promise(self.tier, code):
            response.failure(f"a paying user was refused by a gate: {self.tier}, {code}")
        else:
            response.success()
        return _seconds(response.headers.get("Retry-After") if response.headers else None)

    def _left_s(self) -> float:
        shape = self.environment.shape_class
        return max(0.0, SETTINGS.length_s - shape.get_run_time()) if shape else 0.0


def _weight(tier: str) -> int:
    return round(TIERS[tier] * 100)


class Free(Person):
    """Most people."""

    tier = "free"
    weight = _weight(tier)


class Plus(Person):
    """People who pay a little."""

    tier = "plus"
    weight = _weight(tier)


class Pro(Person):
    """People who pay more."""

    tier = "pro"
    weight = _weight(tier)


class Team(Person):
    """Companies."""

    tier = "team"
    weight = _weight(tier)


@events.init.add_listener
def look_before_loading(environment: Environment, **_: object) -> None:
    """End at once, with one line, where no gateway listens or the host is not ours to load."""
    logging.getLogger("locust.runners").setLevel(logging.WARNING)
    host = environment.host or SETTINGS.gateway
    _refuse_strangers(host)
    url = urlsplit(host)
    try:
        port = url.port or (443 if url.scheme == "https" else 80)
        socket.create_connection((url.hostname or "", port), timeout=_DEADLINE_S).close()
    except OSError as error:
        _stop(f"{host}: no gateway answers ({error}). Start one (make demo KEEP=1), then again.")


@events.test_start.add_listener
def look_again(environment: Environment, **_: object) -> None:
    """Look at the host once more: Locust's page lets a person change it."""
    _refuse_strangers(environment.host or SETTINGS.gateway)


@events.quitting.add_listener
def tell(environment: Environment, **_: object) -> None:
    """Print the answers by tier, and fail the run on a broken promise."""
    sys.stdout.write("\n".join(["Answers by tier:", *TALLY.lines(), ""]))
    if TALLY.paid_gate_refusals:
        sys.stdout.write(f"FAILED: gates refused {TALLY.paid_gate_refusals} paying requests.\n")
        environment.process_exit_code = 1


def _refuse_strangers(host: str) -> None:
    mistakes = SETTINGS.host_mistakes(host)
    if mistakes:
        _stop(mistakes[0])


def _seconds(retry_after: object) -> float:
    """Read the form of Retry-After that gateways send; 0.0 for a date or nothing."""
    text = str(retry_after)
    return float(text) if text.isdecimal() else 0.0
