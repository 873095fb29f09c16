"""The launch day on a real control plane, whose API server is killed in the middle of it."""

from pathlib import Path

import pytest

from tests.kubernetes.cluster import needs_kubernetes
from tests.scenarios.live import LiveDemo
from tidegate.edges.temporal import connect
from tidegate.rules.ledger import unclaimed_gpus, usable_gpus
from tidegate.signing import load_keyring

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(400), needs_kubernetes]


async def test_a_launch_day_holds_on_kubernetes_while_api_server_and_capacity_loop_are_killed(
    tmp_path: Path,
) -> None:
    async with LiveDemo(tmp_path, {"CLUSTER": "1"}) as demo:
        await demo.until_recorded("stage.waiting", lambda e: e.data["stage"] == "free-first")
        demo.kill("kube-apiserver")
        await demo.until_recorded("stage.advanced", lambda e: e.data["stage"] == "free-first")
        demo.kill("capacity")
        addresses = demo.addresses()
        await demo.until_recorded("rollout.finished")
        plane = await connect(
            addresses["temporal"], "default", load_keyring(demo.folder / "keys.json")
        )
        budget = await plane.budget("local")
        assert budget is not None
        usable, unclaimed = usable_gpus(budget.ledger), unclaimed_gpus(budget.ledger)
        assert usable is not None
        assert 0 <= unclaimed < usable
        assert await demo.ends() == 0, demo.output()
        assert "9 of 9 held" in demo.output()
        assert demo.left_behind({k: v for k, v in addresses.items() if k != "pools"}) == []
