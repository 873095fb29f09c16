"""The replay: traces read, bills, attainment, and a contest from end to end."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.replay.fleet import Fleet, draw_cold_starts
from benchmarks.replay.fluid import Course, Seen
from benchmarks.replay.hpa import HpaSteps, HpaTerms
from benchmarks.replay.rivals import Hpa, Keda, Kpa, Pool, RayServe, Wva
from benchmarks.replay.scoring import score
from benchmarks.replay.traces import PEAK_REPLICAS, Day, draw_day, read_trace
from tests.benchmarks.traces import clients_file, requests_file

POOL = Pool(capacity_rps=3.5, slots=60.0, most=240, peak=120.0, cold_start_s=(20.0, 40.0))


@pytest.mark.parametrize("write", [clients_file, requests_file])
def test_a_trace_of_either_form_is_scaled_to_its_peak(tmp_path: Path, write: object) -> None:
    trace = read_trace(write(tmp_path)).busiest()  # type: ignore[operator]
    day = draw_day(trace, 0)
    minutes = day.total[: day.seconds // 60 * 60].reshape(-1, 60).mean(axis=1)
    assert 0.9 * PEAK_REPLICAS < minutes.max() / 3.4 < 1.35 * PEAK_REPLICAS
    assert day.arrivals.min() >= 0.0


def test_a_trace_of_another_form_is_refused_with_what_was_expected(tmp_path: Path) -> None:
    path = tmp_path / "other.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(SystemExit, match="got the columns 'a,b', expected client,start_s"):
        read_trace(path)


def test_a_day_is_drawn_alike_for_one_seed_and_otherwise_for_another(tmp_path: Path) -> None:
    trace = read_trace(clients_file(tmp_path))
    first, again, other = draw_day(trace, 0), draw_day(trace, 0), draw_day(trace, 1)
    assert (first.arrivals == again.arrivals).all()
    assert (first.arrivals != other.arrivals).any()


def test_bursty_clients_come_as_often_as_their_rate_says(tmp_path: Path) -> None:
    smooth = draw_day(read_trace(clients_file(tmp_path, clients=400, cv=0.5)), 0).total.sum()
    bursty = draw_day(read_trace(clients_file(tmp_path, clients=400, cv=20.0)), 0).total.sum()
    assert bursty == pytest.approx(smooth, rel=0.1)


def test_a_booking_is_billed_for_its_cold_start_and_300_seconds_though_cancelled() -> None:
    fleet = Fleet([40.0, 100.0], bill_from_s=0.0)
    fleet.scale(2, 0.0)
    fleet.scale(0, 10.0)
    assert fleet.end(1000.0) == (40.0 + 300.0) + (100.0 + 300.0)
    assert fleet.bookings == 2


def test_what_lives_at_the_end_is_paid_up_to_it_and_what_was_removed_until_it_drained() -> None:
    fleet = Fleet([40.0], bill_from_s=0.0)
    fleet.begin(2)
    fleet.scale(1, 500.0)
    assert fleet.end(1000.0) == 1000.0 + 560.0


def test_everybody_goes_through_one_list_of_cold_starts() -> None:
    fast, slow = draw_cold_starts("fast", 0), draw_cold_starts("slow", 0)
    assert fast == draw_cold_starts("fast", 0)
    assert np.quantile(fast, [0.5, 0.9]) == pytest.approx([22.7, 42.0], abs=0.5)
    assert 100.0 <= min(slow) <= max(slow) <= 280.0


def a_course(day: Day, **changes: object) -> Course:
    count = day.seconds
    came = np.cumsum(day.total)
    course = {
        "admitted": day.arrivals.copy(),
        "came_back": np.zeros(count),
        "refused": np.zeros(count),
        "left_queue": came,
        "speed_tps": np.full(count, 20.0),
        "replicas": np.ones(count),
        "bookings": 0,
        "billed_s": 3600.0,
    }
    return Course(**(course | changes))  # type: ignore[arg-type]


def even_day(seconds: int = 1200) -> Day:
    arrivals = np.full((3, seconds), 10.0)
    return Day(arrivals, np.full(seconds, 1000.0), np.full(seconds, 200.0))


def test_who_waits_three_seconds_has_attained_for_free_and_not_for_paid() -> None:
    day = even_day()
    late = np.concatenate((np.zeros(3), np.cumsum(day.total)[:-3]))
    scored = score(day, a_course(day, left_queue=late))
    assert scored.attainment == pytest.approx((0.0, 0.0, 1.0), abs=0.01)
    assert not scored.holds()
    assert scored.p99_wait_paid_s == pytest.approx(3.0, abs=0.1)


def test_who_is_refused_counts_among_the_arrivals_and_not_among_the_attained() -> None:
    day = even_day()
    admitted = day.arrivals.copy()
    admitted[2] *= 0.5
    left = np.cumsum(admitted.sum(axis=0))
    scored = score(day, a_course(day, admitted=admitted, left_queue=left))
    assert scored.attainment[2] == pytest.approx(0.5, abs=0.01)
    assert scored.free_refused == pytest.approx(0.5)


def test_a_slow_token_rate_is_not_attained() -> None:
    day = even_day()
    slow = score(day, a_course(day, speed_tps=np.full(day.seconds, 6.0)))
    assert slow.attainment == (0.0, 0.0, 0.0)


def seen(now: float, **changes: float) -> Seen:
    given = {"ready": 10, "slots": 60.0, "running": 300.0, "admitted_rps": 20.0}
    return Seen(now=now, **(given | changes))  # type: ignore[arg-type]


def test_hpa_goes_down_by_the_largest_of_five_minutes_and_doubles_at_most() -> None:
    steps = HpaSteps(HpaTerms(most=240))
    assert steps.take(50, 10, 0.0) == 20
    assert steps.take(5, 20, 15.0) == 20
    assert steps.take(5, 20, 315.0) == 5


def test_an_hpa_takes_nothing_away_for_five_minutes_from_when_it_first_looks() -> None:
    hpa = Hpa(POOL, {"utilisation": 0.8})
    sizes = [hpa.size(seen(float(t), running=240.0)) for t in range(1, 331)]
    assert set(sizes[:314]) == {10}
    assert sizes[314] == 5


def test_keda_acts_on_what_it_polled_up_to_thirty_seconds_ago() -> None:
    keda = Keda(POOL, {"share_of_capacity": 1.0})
    sizes = [
        keda.size(seen(float(t), admitted_rps=35.0 if t <= 30 else 70.0)) for t in range(1, 61)
    ]
    assert sizes[44] == 10
    assert sizes[59] == 20


def test_kpa_panics_when_the_short_window_asks_for_twice_what_is_ready() -> None:
    kpa = Kpa(POOL, {"share_of_slots": 1.0})
    for t in range(1, 61):
        kpa.size(seen(float(t)))
    for t in range(61, 69):
        most = kpa.size(seen(float(t), running=600.0, waiting=1800.0))
    assert most == 40
    assert kpa.size(seen(70.0, running=10.0)) == 40


def test_wva_adds_one_and_not_while_another_is_pending() -> None:
    wva = Wva(POOL, {"spare_kv": 0.1, "period_s": 5.0})
    assert wva.size(seen(5.0, running=480.0)) == 11
    assert wva.size(seen(10.0, running=480.0, loading=1)) == 11


def test_ray_serve_waits_half_a_minute_upwards_and_ten_minutes_downwards() -> None:
    ray = RayServe(POOL, {"ongoing": 20.0})
    sizes = [ray.size(seen(float(t))) for t in range(1, 40)]
    assert (sizes[28], sizes[30]) == (10, 15)


def test_the_command_prints_one_object_with_every_contestant(tmp_path: Path) -> None:
    path = clients_file(tmp_path, hours=0.5, clients=10)
    command = [
        sys.executable,
        "-m",
        "benchmarks.sizing",
        "--trace",
        str(path),
        "--json",
        "--seeds",
        "1",
    ]
    ran = subprocess.run(command, capture_output=True, check=True, text=True, timeout=110)
    found = json.loads(ran.stdout.splitlines()[-1])
    assert set(found) == {"fast", "slow", "capped"}
    for kind in ("fast", "slow"):
        assert {"tidegate", "tidegate_no_gate", "hpa", "fixed"} <= set(found[kind]["policies"])
