"""A real Prometheus, from Debian, that scrapes one exporter of the test's own."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest

from embedded.ports import LOOPBACK, free_ports
from embedded.processes import Supervisor
from tests.embedded.until import until
from tidegate.edges.prometheus import Prometheus
from tidegate.errors import Unavailable

_CONFIGURATION = """
global: {{scrape_interval: 100ms, scrape_timeout: 100ms}}
scrape_configs:
  - {{job_name: gateway, static_configs: [{{targets: ["{target}"]}}]}}
"""


@asynccontextmanager
async def real_prometheus(
    folder: Path, registry: CollectorRegistry, *, until_there: str
) -> AsyncIterator[str]:
    """Start it, and return its address once a query finds what the registry holds."""
    binary = shutil.which("prometheus")
    assert binary is not None
    port, target = free_ports(2)

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), content_type="text/plain")

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, LOOPBACK, target).start()
    file = folder / "prometheus.yml"
    file.write_text(_CONFIGURATION.format(target=f"{LOOPBACK}:{target}"), encoding="utf-8")
    url = f"http://{LOOPBACK}:{port}"
    argv = [
        binary,
        f"--config.file={file}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address={LOOPBACK}:{port}",
        "--log.level=error",
    ]
    async with Supervisor(folder) as supervisor:
        await supervisor.start("prometheus", argv)
        await until(lambda: _finds(url, until_there), 20.0)
        yield url
    await runner.cleanup()


async def _finds(url: str, query: str) -> bool:
    try:
        await Prometheus(url).ask(query)
    except Unavailable:
        await asyncio.sleep(0.05)  # so that it is not asked without a pause
        return False
    return True
