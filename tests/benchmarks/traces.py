"""Synthetic traces of both forms, written and drawn by the tests that replay them."""

import gzip
from pathlib import Path

import numpy as np

from benchmarks.replay.traces import Day


def a_day(rates_rps: list[float], *, seconds_each: int = 600, seed: int = 1) -> Day:
    """Draw Poisson arrivals at one rate after the other: 5 % Pro, 25 % Plus, 70 % Free."""
    rng = np.random.default_rng(seed)
    rate = np.repeat(rates_rps, seconds_each)
    arrivals = np.stack([rng.poisson(rate * share) for share in (0.05, 0.25, 0.7)]).astype(float)
    sizes = np.full(len(rate), 1155.0), np.full(len(rate), 211.0)
    return Day(arrivals, *sizes)


def clients_file(folder: Path, *, hours: float = 1.0, clients: int = 40, cv: float = 1.5) -> Path:
    """Write clients whose demand rises and falls once within the trace."""
    path = folder / "clients.csv.gz"
    windows = int(hours * 6)
    with gzip.open(path, "wt") as out:
        out.write("client,start_s,rate_rps,cv\n")
        for client in range(clients):
            for window in range(windows):
                rate = 1.0 + 0.5 * np.sin(2.0 * np.pi * window / windows)
                out.write(f"client-{client},{window * 600},{rate:.3f},{cv}\n")
    return path


def requests_file(folder: Path, *, minutes: int = 20) -> Path:
    """Write four requests a second."""
    path = folder / "requests.csv"
    rows = [f"{n / 4},{800 + n % 400},{100 + n % 200}" for n in range(minutes * 240)]
    path.write_text("arrival_s,input_tokens,output_tokens\n" + "\n".join(rows) + "\n")
    return path
