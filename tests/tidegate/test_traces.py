"""Traces: the two forms, what is read from them, and how mistakes in them are told."""

import gzip
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.errors import PlanError
from tidegate.traces import Trace, Window, read_trace

DATA = Path(__file__).parents[3] / "shared" / "data"
WINDOWS = "client,start_s,rate_rps,cv\n"
REQUESTS = "arrival_s,input_tokens,output_tokens\n"

rates = st.lists(st.floats(0.0, 100.0), min_size=2, max_size=40).filter(lambda r: max(r) > 0.1)


def trace_of(rates_rps: list[float]) -> Trace:
    return Trace("made", 600.0, tuple(rates_rps), (1.0,) * len(rates_rps))


def write(folder: Path, text: str, name: str = "trace.csv") -> Path:
    file = folder / name
    file.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return file


def mistakes(file: Path) -> tuple[str, ...]:
    with pytest.raises(PlanError) as found:
        read_trace(file)
    assert found.value.code == "trace"
    return found.value.mistakes


@pytest.mark.parametrize("name", ["trace.csv", "trace.csv.gz"])
def test_rates_of_all_clients_in_a_window_add_up(tmp_path: Path, name: str) -> None:
    rows = "a,0,2.0,1.0\na,1200,4.0,1.0\nb,0,1.0,4.0\n"
    trace = read_trace(write(tmp_path, WINDOWS + rows, name))
    assert trace.rates_rps == (3.0, 0.0, 4.0)
    assert trace.span_s == 1800.0
    assert trace.peak_rps == 4.0
    assert trace.mean_rps(300.0, 1200.0) == pytest.approx(1.0)


def test_burstiness_of_clients_is_weighted_by_their_rates(tmp_path: Path) -> None:
    trace = read_trace(write(tmp_path, WINDOWS + "a,0,2.0,1.0\nb,0,1.0,4.0\n"))
    assert trace.cv(Window(0.0, 600.0)) == pytest.approx(((2 * 1 + 1 * 16) / 3) ** 0.5)


def test_requests_become_rates_from_the_first_to_the_last(tmp_path: Path) -> None:
    rows = "".join(f"{at_s},10,{20 + at_s % 7}\n" for at_s in range(100, 301))
    trace = read_trace(write(tmp_path, REQUESTS + rows))
    assert trace.span_s == pytest.approx(200.0)
    assert trace.mean_rps() == pytest.approx(201 / 200)
    assert trace.cv(Window(0.0, 200.0)) < 0.2
    assert trace.work_sigma is not None
    assert 0.0 < trace.work_sigma < 0.2


def test_poisson_requests_measure_a_cv_near_one(tmp_path: Path) -> None:
    draw, at_s, rows = Random(5), 0.0, REQUESTS
    for _ in range(3000):
        at_s += draw.expovariate(2.0)
        rows += f"{at_s:.4f},10,20\n"
    trace = read_trace(write(tmp_path, rows))
    assert trace.cv(Window(0.0, trace.span_s)) == pytest.approx(1.0, abs=0.08)
    assert trace.work_sigma == 0.0


@given(rates_rps=rates, share=st.floats(0.01, 1.0))
def test_no_window_of_that_length_is_busier_than_the_busiest(
    rates_rps: list[float], share: float
) -> None:
    trace = trace_of(rates_rps)
    length_s = trace.span_s * share
    busiest = trace.busiest_window(length_s)
    assert busiest.length_s == pytest.approx(length_s)
    assert busiest.to_s <= trace.span_s + 1e-6
    most_rps = trace.mean_rps(busiest.from_s, busiest.to_s)
    for i in range(len(rates_rps)):
        if (i * 600.0 + length_s) <= trace.span_s:
            assert trace.mean_rps(i * 600.0, i * 600.0 + length_s) <= most_rps + 1e-9


def test_a_trace_shorter_than_the_window_is_taken_whole() -> None:
    assert trace_of([1.0, 2.0]).busiest_window(9000.0) == Window(0.0, 1200.0)


@given(rates_rps=rates, speed=st.floats(0.5, 500.0))
def test_a_shape_has_the_mean_one_and_the_played_length(
    rates_rps: list[float], speed: float
) -> None:
    trace = trace_of(rates_rps)
    shape = trace.shape(Window(0.0, trace.span_s), speed=speed)
    assert shape.mean == pytest.approx(1.0)
    assert shape.times_s[0] == 0.0
    assert shape.times_s[-1] == pytest.approx(trace.span_s / speed)


def test_every_mistake_is_told_with_its_place_and_the_next_step(tmp_path: Path) -> None:
    rows = "a,0,-1,1.0\na,601,1.0,1.0\na,600,1.0,often\na,600,1.0,1.0\na,600,1.0,2.0\na,1200\n"
    file = write(tmp_path, WINDOWS + rows)
    told = mistakes(file)
    assert told[0] == (
        f'{file}:2: column "rate_rps": got "-1", expected a number of 0 or more.'
        " Write requests a second."
    )
    assert [line.removeprefix(f"{file}:").split(":")[0] for line in told] == list("23467")
    assert 'one row a window for client "a"' in told[3]


def test_reading_stops_after_twenty_mistakes(tmp_path: Path) -> None:
    told = mistakes(write(tmp_path, REQUESTS + "x,1,1\n" * 500))
    assert len(told) == 20


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "an empty file"),
        ("time,tokens\n1,2\n", 'the header "time,tokens"'),
        (WINDOWS, "no rows"),
        (WINDOWS + "a,0,0.0,1.0\n", "no demand"),
        (WINDOWS + "a,0,inf,1.0\n", '"inf"'),
        (WINDOWS + "a,6e300,1.0,1.0\n", "within a year"),
        (REQUESTS + "1.0,1,1\n", "one instant"),
        (REQUESTS + "5.0,1,1\n4.0,1,1\n", "at least 5"),
        (REQUESTS + "5.0,1.5,1\n", "a whole number"),
        (WINDOWS + '"a,0,1.0,1.0\n', "cannot be read"),
    ],
)
def test_what_is_no_trace_is_refused(tmp_path: Path, text: str, expected: str) -> None:
    assert any(expected in told for told in mistakes(write(tmp_path, text)))


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    plain = write(tmp_path, WINDOWS).rename(tmp_path / "plain.csv.gz")
    torn = tmp_path / "torn.csv.gz"
    torn.write_bytes(gzip.compress((REQUESTS + "1.0,5,5\n" * 999).encode())[:-20])
    binary = tmp_path / "binary.csv"
    binary.write_bytes(b"\xff\xfe\x00")
    for file in (plain, torn, binary, tmp_path / "missing.csv"):
        assert "cannot be read" in mistakes(file)[0]
    assert "a name in .csv or .csv.gz" in mistakes(tmp_path / "trace.parquet")[0]


def test_the_shared_traces_can_be_read() -> None:
    for file in sorted(DATA.glob("*.csv.gz")):
        trace = read_trace(file)
        assert trace.span_s > 3000.0, file
        assert trace.peak_rps > trace.mean_rps() > 1.0, file
