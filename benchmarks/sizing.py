"""Replay a trace against the sizing rules and their rivals: `python -m benchmarks.sizing`.

The rules of the contest stand in `docs/benchmarks.md`.
"""

import argparse
import json
import sys
from pathlib import Path

from benchmarks.replay.contest import Contest, hold_contest
from benchmarks.replay.traces import read_trace


def main() -> None:
    """Replay, and print; the last line is one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trace", type=Path, required=True, help="a CSV of one of the two forms")
    parser.add_argument("--json", action="store_true", help="print the last line only")
    parser.add_argument(
        "--from", dest="from_h", type=float, help="first hour, instead of the busiest"
    )
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--free", type=float, default=0.95, help="what Free must attain")
    arguments = parser.parse_args()
    trace = read_trace(arguments.trace)
    if arguments.from_h is None:
        trace = trace.busiest(arguments.hours)
    else:
        trace = trace.within(arguments.from_h, arguments.hours)
    found = hold_contest(Contest(trace, arguments.seeds, arguments.free), _tell)
    if not arguments.json:
        _print_table(found)
    print(json.dumps(found), flush=True)  # noqa: T201 - what a benchmark is for


def _print_table(found: dict[str, object]) -> None:
    for kind, of_kind in found.items():
        policies = of_kind.get("policies", {}) if isinstance(of_kind, dict) else {}
        for name, figures in policies.items():
            print(f"{kind:6} {name:20} {json.dumps(figures)}")  # noqa: T201 - as above


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201 - long work shows progress


if __name__ == "__main__":
    main()
