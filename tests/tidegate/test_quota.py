"""Quotas as people write them, and the windows that uses are counted in."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.tidegate.snapshots import NOW, feature, gate, intent, snapshot
from tests.tidegate.test_references import feature as manifest_of
from tests.tidegate.test_references import manifest, told
from tidegate.quotas import QuotaSpec
from tidegate.rules.decision import Decider
from tidegate.rules.explain import explain
from tidegate.rules.flags import flag_of
from tidegate.rules.outcome import Asks, Code, Question
from tidegate.rules.quota import PARTS, Quota, compile_quotas
from tidegate.rules.refusals import problem_of, retry_after_s
from tidegate.rules.tables import quota_refusal

BERLIN = "Europe/Berlin"


def quota(uses: str, **more: str) -> Quota:
    (compiled,) = compile_quotas([QuotaSpec.model_validate({"uses": uses, **more})])
    return compiled


def at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


# --- in people's words ---


@pytest.mark.parametrize(
    ("uses", "limit", "period_s", "unit"),
    [
        ("3 a day", 3, 86_400.0, "day"),
        ("3 images a day", 3, 86_400.0, "day"),
        ("1 use per hour", 1, 3_600.0, "hour"),
        ("100 an hour", 100, 3_600.0, "hour"),
        ("2 a week", 2, 604_800.0, "week"),
        ("20 videos a month", 20, 31 * 86_400.0, "month"),
        ("5 in 10s", 5, 10.0, None),
        ("5 requests in 1h30m", 5, 5_400.0, None),
    ],
)
def test_a_quota_is_written_in_peoples_words(
    uses: str, limit: int, period_s: float, unit: str | None
) -> None:
    read = quota(uses)
    assert (read.limit, read.period_s, read.unit) == (limit, period_s, unit)


def test_it_is_told_with_the_time_zone_where_that_matters() -> None:
    assert quota("3 images a day", time_zone=BERLIN).text == "3 images a day, Europe/Berlin"
    assert quota("3 a day", window="rolling").text == "3 a day, rolling"
    assert quota("5 in 10s").text == "5 in 10s"


def test_a_changed_limit_counts_on_and_a_changed_window_does_not() -> None:
    assert quota("3 a day").name == quota("50 images a day").name
    assert quota("3 a day", window="rolling").name == quota("9 in 24h").name
    names = [quota("3 a day").name, quota("3 a day", time_zone=BERLIN).name, quota("3 in 1d").name]
    assert len(set(names)) == 3


@pytest.mark.parametrize(
    ("spec", "mistake"),
    [
        (
            {"uses": "many"},
            'uses: got "many", expected a count and a time. Write it like "3 a day"',
        ),
        ({"uses": "0 a day"}, 'uses: got "0 a day", expected a count and a time.'),
        (
            {"uses": "3 a fortnight"},
            'uses: got "3 a fortnight", expected one of second, minute, hour',
        ),
        ({"uses": "5 in 10ms"}, 'uses: got "5 in 10ms", expected a time of at least 1s.'),
        ({"uses": "5 in soon"}, 'uses: got "5 in soon", expected a duration.'),
        (
            {"uses": "5 in 10s", "window": "calendar"},
            'window: got "calendar", expected rolling, because the calendar has no word for 10s.',
        ),
        (
            {"uses": "5 a month", "window": "rolling"},
            'window: got "rolling", expected calendar, because months are not of one length.',
        ),
        (
            {"uses": "3 a day", "timeZone": "Berlin"},
            'timeZone: got "Berlin", expected a time zone of the IANA database.',
        ),
        ({"uses": "3 a day", "timeZone": "../etc"}, 'timeZone: got "../etc", expected a time zone'),
        ({"uses": "3 a day", "onLost": "shut"}, 'onLost: got "shut", expected "open" or "close"'),
        (
            {"use": "3 a day"},
            'use: got an unknown field, expected a known one. Did you mean "uses"?',
        ),
    ],
)
def test_a_mistake_names_the_field_and_what_to_write(spec: dict[str, str], mistake: str) -> None:
    (line,) = told(manifest("Tier", "free", {"rank": 0}), manifest_of("a", quotas={"free": [spec]}))
    assert f'Feature "a": spec.quotas.free[0].{mistake}' in line


def test_a_quota_is_for_a_tier_that_there_is() -> None:
    tier = manifest("Tier", "free", {"rank": 0})
    (line,) = told(tier, manifest_of("a", quotas={"fee": [{"uses": "3 a day"}]}))
    assert 'Feature "a": spec.quotas: got "fee", expected the name of a Tier.' in line
    assert line.endswith('Did you mean "free"?')


def test_a_window_has_one_quota() -> None:
    tier, two = manifest("Tier", "free", {"rank": 0}), [{"uses": "3 a day"}, {"uses": "9 a day"}]
    (line,) = told(tier, manifest_of("a", quotas={"free": two}))
    assert 'expected one quota for a window, "3 a day" of free has one of the same.' in line


# --- windows of the calendar ---


def test_a_day_begins_at_midnight_in_its_time_zone() -> None:
    part = quota("3 a day", time_zone=BERLIN).part(at("2026-03-04T22:59:59Z"))
    assert (part.start_ms / 1000, part.end) == (
        at("2026-03-04T00:00:00+01:00"),
        at("2026-03-05T00:00:00+01:00"),
    )


@pytest.mark.parametrize(
    ("day", "hours"), [("2026-03-28", 24), ("2026-03-29", 23), ("2026-10-25", 25)]
)
def test_a_day_in_berlin_has_the_hours_that_the_clocks_give_it(day: str, hours: int) -> None:
    daily = quota("3 a day", time_zone=BERLIN)
    noon = datetime.fromisoformat(f"{day}T12:00").replace(tzinfo=ZoneInfo(BERLIN)).timestamp()
    part = daily.part(noon)
    assert part.end - part.start_ms / 1000 == hours * 3600
    for hour in range(hours):
        assert daily.part(part.start_ms / 1000 + hour * 3600) == part


@pytest.mark.parametrize(
    ("uses", "start", "end"),
    [
        ("1 a second", "2026-03-04T09:30:15Z", "2026-03-04T09:30:16Z"),
        ("1 a minute", "2026-03-04T09:30:00Z", "2026-03-04T09:31:00Z"),
        ("1 an hour", "2026-03-04T09:00:00Z", "2026-03-04T10:00:00Z"),
        ("1 a week", "2026-03-02T00:00:00Z", "2026-03-09T00:00:00Z"),
        ("1 a month", "2026-03-01T00:00:00Z", "2026-04-01T00:00:00Z"),
    ],
)
def test_each_word_of_the_calendar_has_its_window(uses: str, start: str, end: str) -> None:
    part = quota(uses).part(at("2026-03-04T09:30:15.5Z"))
    assert (part.start_ms / 1000, part.end) == (at(start), at(end))


def test_an_hour_where_the_offset_is_half_an_hour_is_that_of_its_clocks() -> None:
    part = quota("1 an hour", time_zone="Asia/Kolkata").part(at("2026-03-04T09:45:00Z"))
    assert part.start_ms / 1000 == at("2026-03-04T09:30:00Z")


ZONES = ["UTC", BERLIN, "America/Havana", "America/Sao_Paulo", "Africa/Cairo", "Pacific/Apia"]
instants = st.datetimes(datetime(1990, 1, 1), datetime(2090, 1, 1)).map(  # noqa: DTZ001
    lambda moment: moment.replace(tzinfo=UTC).timestamp()
)


@given(instants, st.sampled_from(["day", "week", "month"]), st.sampled_from(ZONES))
def test_windows_of_the_calendar_follow_one_another_without_a_gap(
    now: float, unit: str, zone: str
) -> None:
    counted = quota(f"1 a {unit}", time_zone=zone)
    part = counted.part(now)
    assert part.start_ms / 1000 <= now < part.end
    assert counted.part(part.start_ms / 1000) == part
    following = counted.part(part.end)
    assert following.start_ms / 1000 == part.end
    assert counted.counts_from_ms(part) == part.start_ms
    assert counted.counts_until(part.start_ms) == part.end


# --- rolling windows ---

periods = st.sampled_from(["1s", "1001ms", "7s", "10s", "1h", "24h", "30d"])
gaps = st.lists(st.floats(0.0, 0.5), min_size=1, max_size=60)


def spent(counted: Quota, times: list[float]) -> list[float]:
    """Return the uses that are let in, counted as the gateways together do."""
    counts: Counter[int] = Counter()
    let_in = []
    for now in times:
        part = counted.part(now)
        since = counted.counts_from_ms(part)
        if sum(n for start, n in counts.items() if start >= since) < counted.limit:
            counts[part.start_ms] += 1
            let_in.append(now)
    return let_in


@given(st.integers(1, 6), periods, st.floats(0.0, 4e9), gaps)
def test_no_rolling_window_ever_holds_more_than_the_limit(
    limit: int, period: str, begin: float, steps: list[float]
) -> None:
    counted = quota(f"{limit} in {period}")
    times = [begin]
    for step in steps:
        times.append(times[-1] + step * counted.period_s)
    let_in = spent(counted, times)
    for first, beyond in zip(let_in, let_in[limit:], strict=False):
        assert beyond - first >= counted.period_s - 1e-5  # of a float's rounding


@given(st.integers(1, 6), periods, st.floats(0.0, 4e9))
def test_a_use_counts_for_at_most_a_tenth_longer_than_the_window(
    limit: int, period: str, begin: float
) -> None:
    counted = quota(f"{limit} in {period}")
    last = begin + counted.period_s * (1.0 + 1.0 / PARTS) + 0.002
    assert spent(counted, [begin] * (limit + 1) + [last]) == [begin] * limit + [last]


@given(periods, st.floats(0.0, 4e9))
def test_who_is_refused_is_told_when_a_use_counts_no_more(period: str, begin: float) -> None:
    counted = quota(f"1 in {period}")
    until = counted.counts_until(counted.part(begin).start_ms)
    assert until > begin + counted.period_s - 0.001
    assert spent(counted, [begin, until - 0.002, until + 0.002]) == [begin, until + 0.002]


# --- what they are to an answer ---

THREE = {"free": (QuotaSpec(uses="3 images a day", time_zone=BERLIN), QuotaSpec(uses="5 in 10s"))}
HELD = snapshot(intent({"image": feature(quotas=THREE)}))


def test_an_allowed_use_names_its_quotas_and_a_sign_up_has_none() -> None:
    decider = Decider(HELD)
    used = decider.answer(Question("image", "ada", "free", "api"), NOW)
    assert [each.text for each in used.quotas] == ["3 images a day, Europe/Berlin", "5 in 10s"]
    came_in = decider.answer(Question("image", "ada", "free", "api", asks=Asks.SIGNUP), NOW)
    assert (came_in.allowed, came_in.quotas) == (True, ())
    assert not decider.answer(Question("image", "ada", "pro", "api"), NOW).quotas


def test_a_gate_is_asked_before_a_quota() -> None:
    shut = Decider(snapshot(HELD.intent, gate({"free": 0.0})))
    refused = shut.answer(Question("image", "ada", "free", "api"), NOW)
    assert (refused.code, refused.quotas) == (Code.GATE_SHED, ())


def test_an_explanation_names_the_quotas_also_where_something_else_refuses() -> None:
    asked = Question("image", "ada", "free", "api")
    why = explain(HELD, Decider(HELD), asked, NOW)
    assert why.quotas == ("3 images a day, Europe/Berlin", "5 in 10s")
    assert why.would_be_yes_if == (
        "it is yes now, while something is left of 3 images a day, Europe/Berlin and 5 in 10s"
    )
    shut = snapshot(HELD.intent, gate({"free": 0.0}))
    assert explain(shut, Decider(shut), asked, NOW).quotas == why.quotas


def test_a_flag_names_what_a_use_takes_from() -> None:
    decider, asked = Decider(HELD), Question("image", "ada", "free", "api")
    flag = flag_of(decider, asked, decider.answer(asked, NOW), NOW)
    assert flag.metadata["quotas"] == "3 images a day, Europe/Berlin; 5 in 10s"


@given(st.floats(0.001, 1e6), st.text(min_size=1))
def test_nobody_is_sent_back_before_the_window_ends(wait_s: float, user: str) -> None:
    used = Decider(HELD).answer(Question("image", "ada", "free", "api"), NOW)
    for each, code in zip(used.quotas, (Code.QUOTA_EXCEEDED, Code.RATE_LIMITED), strict=True):
        refused = quota_refusal(used, each, NOW + wait_s)
        assert (refused.allowed, refused.code) == (False, code)
        told_s = retry_after_s(refused, user, NOW)
        assert told_s is not None
        assert told_s >= wait_s
        until = datetime.fromisoformat(str(problem_of(refused, "free")["until"]))
        assert (
            timedelta()
            <= until - datetime.fromtimestamp(NOW + wait_s, UTC)
            < timedelta(seconds=1.000001)
        )


def test_where_nothing_is_known_a_closed_quota_says_so() -> None:
    used = Decider(HELD).answer(Question("image", "ada", "free", "api"), NOW)
    refused = quota_refusal(used, used.quotas[0], None)
    assert (refused.code, refused.until) == (Code.QUOTA_UNKNOWN, None)
    assert retry_after_s(refused, "ada", NOW) is not None


def test_a_published_quota_is_read_again() -> None:
    assert type(HELD).model_validate_json(HELD.model_dump_json()) == HELD
    with pytest.raises(ValidationError):
        QuotaSpec(uses="3 a day", time_zone="")
