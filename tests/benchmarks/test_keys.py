"""The benchmarks run, and say what they promise; how fast anything was decides no test."""

import asyncio
import json
import sys

import pytest

from tests.debian import needs_package

pytestmark = pytest.mark.integration


async def last_line_of(module: str, *arguments: str) -> dict[str, object]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, "--json", *arguments, stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(100.0):
        said, _ = await process.communicate()
    assert process.returncode == 0
    found: dict[str, object] = json.loads(said.decode().splitlines()[-1])
    return found


async def test_decision_compares_with_four_peers_that_decide_alike() -> None:
    found = await last_line_of("benchmarks.decision", "--rounds", "1", "--decisions", "2000")
    peers = found["peers_us"]
    assert isinstance(peers, dict)
    assert set(peers) == {"growthbook", "launchdarkly", "unleash", "flagd"}
    assert {
        "tidegate_us",
        "ratio_to_fastest_peer",
        "flat_ratio",
        "us_with_1000_invited",
        "us_of_invitees",
        "memory_mib_with_1000_invited",
    } <= set(found)
    for by_features in ("us_by_features", "memory_mib_by_features"):
        sizes = found[by_features]
        assert isinstance(sizes, dict)
        assert set(sizes) == {"10", "1000", "10000"}


@needs_package("wrk")
async def test_http_compares_with_constants_and_with_envoy() -> None:
    found = await last_line_of("benchmarks.http", "--rounds", "1", "--seconds", "1")
    assert {
        "ofrep_rps",
        "ofrep_p99_ms",
        "admit_rps",
        "raw_rps",
        "granian_rps",
        "envoy_rps",
        "ratio_to_raw",
        "ratio_to_envoy",
    } <= set(found)


async def test_publishing_measures_one_eight_and_32_clients() -> None:
    found = await last_line_of("benchmarks.publishing", "--publications", "3")
    p99_ms = found["p99_ms"]
    assert isinstance(p99_ms, dict)
    assert set(p99_ms) == {"1", "8", "32"}
    of_many = found["gate_p99_ms_of_10000"]
    assert isinstance(of_many, dict)
    assert set(of_many) == {"1", "8"}
