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

_INVITED_FEATURES: Final = 10

Asked = Sequence[tuple[str, str, str]]
"""Feature, user and tier of each question."""


def tidegate_client(features: int = 1, *, is_by_invitation: bool = False) -> Client:
    """Return a client of so many features, named by `named`."""
    invited = tuple(f"invited-{n}" for n in range(_INVITED)) if is_by_invitation else ()
    made = {name: the_feature(invited=invited) for name in named(features)}
    intent, gate = the_snapshot(time.time(), made)
    holder = SnapshotHolder()
    holder.take(Snapshot(intent=intent, gates={"image": gate}))
    return Client(holder)


def named(features: int) -> list[str]:
    """Name so many features."""
    return ["image", *(f"feature-{n}" for n in range(1, features))]


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
        "spread_us": _spread(took),
    }


def scale(rounds: int, decisions: int) -> dict[str, object]:
    """Time one feature's questions among more and more, and questions about all of them."""
    clients: dict[str, Client] = {}
    asked: dict[str, Asked] = {}
    memory_mib: dict[str, float] = {}
    for name, features in (*((str(size), size) for size in _SIZES), ("invited", _INVITED_FEATURES)):
        tracemalloc.start()
        clients[name] = tidegate_client(features, is_by_invitation=name == "invited")
        _ask_tidegate(clients[name], _each_in_every_tier(features))
        memory_mib[name] = round(tracemalloc.get_traced_memory()[0] / 2**20, 2)
        tracemalloc.stop()
        asked[name] = draw(decisions, named(features))
    asked["invitees"] = [(f, f"invited-{int(u[5:]) % _INVITED}", t) for f, u, t in asked["invited"]]
    clients["invitees"] = clients["invited"]
    for size in _SIZES:
        clients[f"one of {size}"], asked[f"one of {size}"] = clients[str(size)], draw(decisions)
    took: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name, client in clients.items():
            us = us_each(lambda n=name, c=client: _ask_tidegate(c, asked[n]), decisions)  # type: ignore[misc]
            took.setdefault(name, []).append(us)
    medians = {name: round(statistics.median(each), 3) for name, each in took.items()}
    one_of = {str(size): medians[f"one of {size}"] for size in _SIZES}
    drawn = {str(size): medians[str(size)] for size in _SIZES}
    return {
        "us_by_features": one_of,
        "us_by_features_drawn": drawn,
        "us_with_1000_invited": medians["invited"],
        "us_of_invitees": medians["invitees"],
        "memory_mib_by_features": {str(size): memory_mib[str(size)] for size in _SIZES},
        "memory_mib_with_1000_invited": memory_mib["invited"],
        "flat_ratio": _flat(one_of),
        "flat_ratio_drawn": _flat(drawn),
        "scale_spread_us": _spread(took),
    }


def _flat(us_by_features: Mapping[str, float]) -> float:
    return round(us_by_features[str(_SIZES[-1])] / us_by_features[str(_SIZES[0])], 3)


def _each_in_every_tier(features: int) -> Asked:
    """Ask often enough that everybody is let in and left out: then everything is compiled."""
    return [
        (name, f"user-{n}", tier) for name in named(features) for tier in TIERS for n in range(12)
    ]


def _spread(took: Mapping[str, Sequence[float]]) -> dict[str, list[float]]:
    return {name: [round(min(each), 3), round(max(each), 3)] for name, each in took.items()}


def draw(count: int, features: Sequence[str] = ("image",)) -> Asked:
    """Draw users with their tiers, and what they ask for, the same each time."""
    generator = random.Random(20)
    return [
        (
            generator.choice(features),
            f"user-{generator.randrange(USERS)}",
            generator.choice(TIERS),
        )
        for _ in range(count)
    ]


def check(name: str, decide: Decide, asked: Asked) -> None:
    """Stop unless a contestant lets in a fifth of Free and everybody else."""
    let_in: Mapping[str, list[bool]] = {tier: [] for tier in TIERS}
    for _, user, tier in asked:
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
    for feature, user, tier in asked:
        may_use(feature, user, tier)


def _ask(decide: Decide, asked: Asked) -> None:
    for _, user, tier in asked:
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
