"""Decisions in process, beside four peers: `python -m benchmarks.decision`.

Everybody decides the same thing for the same users, in rounds, one contestant after the other. What
is timed is a decision with its answer in hand, the clock included where a client reads it.
"""

import argparse
import json
import logging
import random
import statistics
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from benchmarks.deciding import FREE_SHARE, TIERS, USERS, the_feature, the_snapshot
from benchmarks.peers import PEERS, Decide, leave
from tidegate.clients.client import Client
from tidegate.holding import SnapshotHolder
from tidegate.snapshot import Snapshot

_SIZES: Final = (10, 1_000, 10_000)
_INVITED: Final = 1_000

Asked = Sequence[tuple[str, str]]


def tidegate_client(features: int = 1, *, is_by_invitation: bool = False) -> Client:
    """Return a client of so many features, of which "image" is asked for."""
    invited = tuple(f"invited-{n}" for n in range(_INVITED)) if is_by_invitation else ()
    more = {f"feature-{n}": the_feature(invited=invited) for n in range(features - 1)}
    if is_by_invitation:
        more["image"] = the_feature(invited=invited)
    intent, gate = the_snapshot(time.time(), more)
    holder = SnapshotHolder()
    holder.take(Snapshot(intent=intent, gates={"image": gate}))
    return Client(holder)


def compare(rounds: int, decisions: int) -> dict[str, object]:
    """Time everybody, and check that they decide alike."""
    asked = draw(decisions)
    client = tidegate_client()
    may_use = client.may_use
    took: dict[str, list[float]] = {"tidegate": [], **{name: [] for name in PEERS}}
    with tempfile.TemporaryDirectory() as folder:
        peers: dict[str, Decide] = {name: make(Path(folder)) for name, make in PEERS.items()}
        check("tidegate", lambda user, tier: may_use("image", user, tier).allowed, asked)
        for name, decide in peers.items():
            check(name, decide, asked)
        for number in range(rounds):
            took["tidegate"].append(us_each(lambda: _ask_tidegate(client, asked), decisions))
            for name, decide in peers.items():
                took[name].append(us_each(lambda d=decide: _ask(d, asked), decisions))  # type: ignore[misc]
            _tell(f"round {number + 1} of {rounds}")
    medians = {name: statistics.median(each) for name, each in took.items()}
    peers_us = {name: round(us, 3) for name, us in medians.items() if name != "tidegate"}
    return {
        "tidegate_us": round(medians["tidegate"], 3),
        "peers_us": peers_us,
        "ratio_to_fastest_peer": round(min(peers_us.values()) / medians["tidegate"], 2),
        "spread_us": {name: [round(min(e), 3), round(max(e), 3)] for name, e in took.items()},
    }


def scale(rounds: int, decisions: int) -> dict[str, object]:
    """Time the same question among more and more features, and beside long invite lists."""
    asked = draw(decisions)
    took: dict[str, list[float]] = {}
    memory_mib: dict[str, float] = {}
    clients: dict[str, Client] = {}
    for size in _SIZES:
        tracemalloc.start()
        clients[str(size)] = tidegate_client(size)
        _ask_tidegate(clients[str(size)], asked)
        memory_mib[str(size)] = round(tracemalloc.get_traced_memory()[0] / 2**20, 2)
        tracemalloc.stop()
    clients["invited"] = tidegate_client(10, is_by_invitation=True)
    for _ in range(rounds):
        for name, client in clients.items():
            us = us_each(lambda c=client: _ask_tidegate(c, asked), decisions)  # type: ignore[misc]
            took.setdefault(name, []).append(us)
    medians = {name: round(statistics.median(each), 3) for name, each in took.items()}
    return {
        "us_by_features": {name: us for name, us in medians.items() if name != "invited"},
        "us_with_1000_invited": medians["invited"],
        "memory_mib_by_features": memory_mib,
        "flat_ratio": round(medians[str(_SIZES[-1])] / medians[str(_SIZES[0])], 3),
    }


def draw(count: int) -> Asked:
    """Draw users with their tiers, the same each time."""
    generator = random.Random(20)
    return [(f"user-{generator.randrange(USERS)}", generator.choice(TIERS)) for _ in range(count)]


def check(name: str, decide: Decide, asked: Asked) -> None:
    """Stop unless a contestant lets in a fifth of Free and everybody else."""
    let_in: Mapping[str, list[bool]] = {tier: [] for tier in TIERS}
    for user, tier in asked:
        let_in[tier].append(decide(user, tier))
    shares = {tier: sum(each) / max(1, len(each)) for tier, each in let_in.items()}
    free = shares.pop("free")
    if min(shares.values()) < 1.0 or abs(free - FREE_SHARE) > 3.0 / len(asked) ** 0.5:
        raise SystemExit(f"{name} lets in {free:.1%} of free, and of the others {shares}")


def us_each(run: Callable[[], None], count: int) -> float:
    """Return microseconds for each of `count` decisions."""
    began = time.perf_counter()
    run()
    return (time.perf_counter() - began) / count * 1e6


def _ask_tidegate(client: Client, asked: Asked) -> None:
    may_use = client.may_use
    for user, tier in asked:
        may_use("image", user, tier)


def _ask(decide: Decide, asked: Asked) -> None:
    for user, tier in asked:
        decide(user, tier)


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201 - long work shows progress


def main() -> None:
    """Measure and print; the last line is one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the last line only")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--decisions", type=int, default=20_000, help="of each round")
    arguments = parser.parse_args()
    logging.disable()
    found = compare(arguments.rounds, arguments.decisions)
    found |= scale(arguments.rounds, arguments.decisions)
    if not arguments.json:
        for key, value in found.items():
            print(f"{key:24} {value}")  # noqa: T201 - what a benchmark is for
    print(json.dumps(found), flush=True)  # noqa: T201
    leave()


if __name__ == "__main__":
    main()
