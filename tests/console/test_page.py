"""The page in a real browser, fed by a real Redis."""

import os
import shutil
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, ViewportSize, async_playwright, expect

from embedded.ports import LOOPBACK, free_ports
from embedded.processes import Supervisor
from embedded.readiness import serves_http
from tests.console.made_up import PAID, event, feature, gate, gateway, intent, node, sized
from tests.real_redis import RealRedis, real_redis
from tidegate.edges.redis import Redis
from tidegate.snapshot import GateState

CHROMIUM = shutil.which("chromium")

expect.set_options(timeout=15_000)  # a busy machine is no bug

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(
        CHROMIUM is None,
        reason='Debian package "chromium" is missing: run "sudo apt-get install chromium"',
    ),
]


@dataclass
class Visit:
    """A console that serves, its Redis, and the browser that looks at it."""

    url: str
    server: RealRedis
    redis: Redis
    browser: Browser
    faults: list[str] = field(default_factory=list)

    async def open(self) -> Page:
        page = await self.browser.new_page(viewport=ViewportSize(width=1280, height=800))
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("request", lambda request: self._note_request(request.url))
        await page.goto(self.url)
        return page

    def _note_request(self, url: str) -> None:
        if f"//{LOOPBACK}:" not in url and not url.startswith("data:"):
            self.faults.append(f"asked for {url}")


@pytest.fixture
async def visit(tmp_path: Path) -> AsyncIterator[Visit]:
    (port,) = free_ports(1)
    url = f"http://{LOOPBACK}:{port}"

    async def is_ready() -> bool:
        return await serves_http(f"{url}/healthz")

    async with (
        real_redis(tmp_path) as (server, redis),
        Supervisor(tmp_path) as supervisor,
        async_playwright() as playwright,
    ):
        env = {**os.environ, "TIDEGATE_CONSOLE": url, "TIDEGATE_REDIS": server.server.url}
        argv = [sys.executable, "-m", "console"]
        await supervisor.start("console", argv, ready=is_ready, env=env)
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        seen = Visit(url, server, redis, browser)
        yield seen
        await browser.close()
        assert seen.faults == []


async def publish(redis: Redis) -> None:
    now = time.time()
    waiting = feature(PAID, opens={"free": None}, waits_for={"free": "4 GPUs"})
    narrowed = gate(0.4, state=GateState.THROTTLED, reason="queue wait 2.10 s is over 1.00 s")
    later = {"issued_at": now, "expires_at": now + 600, "version": int(now * 1000)}
    await redis.publish(intent(waiting).model_copy(update=later))
    await redis.publish(narrowed.model_copy(update=later))
    await redis.publish_reading(node(now, absent_because="no NVML library", use=None))
    await redis.publish_reading(gateway(now))
    await redis.append([
        event(1, "stage.advanced", now, feature="image", stage="pro", tier="pro", after=1.0),
        sized(2, now),
        event(3, "stage.waiting", now, feature="image", stage="free", tier="free", reason="few"),
    ])  # fmt: skip


async def test_the_page_shows_the_state_and_asks_nothing_of_the_world(visit: Visit) -> None:
    await publish(visit.redis)
    page = await visit.open()
    await expect(page.locator("h1")).to_have_text(
        "image: Pro, Plus, Team open; Free waits for 4 GPUs: date unknown"
    )
    await expect(page.locator(".facts")).to_contain_text("GPU use: absent (no NVML library)")
    await expect(page.locator("table.stages tbody tr")).to_have_count(4)
    await expect(page.locator(".decisions li").first).to_contain_text("Free: waiting")
    cards = page.locator(".card", has=page.locator(".chart svg"))
    await expect(cards).to_have_count(5)
    gates = cards.filter(has_text="Gate of image")
    await expect(gates).to_contain_text("throttled, lets in Free 40%")
    await expect(gates.locator("svg")).to_contain_text("40%")
    await expect(cards.filter(has_text="GPUs of image")).to_contain_text("needed 9, ready 2")


async def test_the_page_follows_what_is_published_after_it_was_opened(visit: Visit) -> None:
    page = await visit.open()
    await expect(page.locator("h1")).to_contain_text("Nothing is published yet")
    await publish(visit.redis)
    await expect(page.locator("h1")).to_contain_text("Pro, Plus, Team open")
    await expect(page.locator(".chart svg")).to_have_count(5)


async def test_a_banner_says_that_redis_is_away_and_leaves_when_it_is_back(visit: Visit) -> None:
    await publish(visit.redis)
    page = await visit.open()
    banner = page.get_by_role("alert")
    await expect(page.locator("h1")).to_contain_text("Pro, Plus, Team open")
    await expect(banner).to_be_hidden()
    await visit.server.stop()
    await expect(banner).to_contain_text("redis: no answer")
    await expect(banner).to_contain_text("Showing the state of")
    await expect(page.locator("h1")).to_contain_text("Pro, Plus, Team open")
    await visit.server.start()
    await expect(banner).to_be_hidden()


async def test_it_fits_a_phone_and_light_and_dark_are_a_click_apart(visit: Visit) -> None:
    await publish(visit.redis)
    page = await visit.open()
    await expect(page.locator(".chart svg")).to_have_count(5)
    for width in (360, 768, 1280):
        await page.set_viewport_size(ViewportSize(width=width, height=800))
        edge = await page.evaluate("document.documentElement.scrollWidth")
        assert edge <= width, f"runs over the edge of a screen of {width} px"
    ground = "getComputedStyle(document.body).backgroundColor"
    before = await page.evaluate(ground)
    await page.get_by_role("button", name="Light or dark").click()
    await expect(page.locator("body.body--dark")).to_have_count(1)
    assert await page.evaluate(ground) != before
