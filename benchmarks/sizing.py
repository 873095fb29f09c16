"""Replay traces against the sizing rules and their rivals: `python -m benchmarks.sizing`.

The rules of the contest stand in `docs/benchmarks.md`.
"""

import argparse
import json
import sys
from pathlib import Path

from benchmarks.replay.contest import Contest, hold_contest
from benchmarks.replay.report import write_report
from benchmarks.replay.traces import Trace, read_trace


def main() -> None:
    """Replay, and print; the last line is one JSON object, of `--all` one by trace."""
    arguments = _parser().parse_args()
    if arguments.all is None:
        found = _replay(arguments.trace, arguments)
        if not arguments.json:
            _print_table(found)
        print(json.dumps(found), flush=True)  # noqa: T201 - what a benchmark is for
        return
    of_traces: dict[str, dict[str, object]] = {}
    for path in sorted(arguments.all.glob("*.csv*")):
        _tell(path.name)
        of_traces[path.name.partition(".")[0]] = _replay(path, arguments)
    if not of_traces:
        raise SystemExit(f"--all: got no *.csv or *.csv.gz in {arguments.all}. Name their folder.")
    write_report(of_traces, arguments.into)
    print(json.dumps(of_traces), flush=True)  # noqa: T201 - as above


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--trace", type=Path, help="a CSV of one of the two forms")
    what.add_argument("--all", type=Path, help="a folder of them: writes a report with plots")
    parser.add_argument("--into", type=Path, default=Path("docs"), help="where benchmarks.md is")
    parser.add_argument("--json", action="store_true", help="print the last line only")
    parser.add_argument(
        "--from", dest="from_h", type=float, help="first hour, instead of the busiest"
    )
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--free", type=float, default=0.95, help="what Free must attain")
    return parser


def _replay(path: Path, arguments: argparse.Namespace) -> dict[str, object]:
    trace = _cut(read_trace(path), arguments.from_h, arguments.hours)
    return hold_contest(Contest(trace, arguments.seeds, arguments.free), _tell)


def _cut(trace: Trace, from_h: float | None, hours: float) -> Trace:
    return trace.busiest(hours) if from_h is None else trace.within(from_h, hours)


def _print_table(found: dict[str, object]) -> None:
    for kind, of_kind in found.items():
        policies = of_kind.get("policies", {}) if isinstance(of_kind, dict) else {}
        for name, figures in policies.items():
            print(f"{kind:6} {name:20} {json.dumps(figures)}")  # noqa: T201 - as above


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201 - long work shows progress


if __name__ == "__main__":
    main()
