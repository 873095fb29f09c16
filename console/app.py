"""The console as one ASGI app: one reader behind every page, and a page for each visitor."""

import time
from typing import Final

from fastapi import FastAPI
from fastapi.responses import PlainTextResponse
from nicegui import Client, ui

from console.history import History
from console.links import WorkflowUrl, workflow_urls
from console.page import Page
from console.reader import Reader
from console.shown import charts, texts
from console.times import local_clock
from tidegate.edges.redis import Redis
from tidegate.settings import Settings

_STILL_PERIOD_S: Final = 10.0
"""How often the charts' time moves on while nothing changes."""


class Audience:
    """Everyone who looks: pages are sent what changed, and nothing else."""

    def __init__(self, history: History, url: WorkflowUrl) -> None:
        self._history = history
        self._url = url
        self._pages: dict[str, Page] = {}
        self._drawn_changes = -1
        self._drawn_at = 0.0

    def welcome(self, client: Client, page: Page) -> None:
        """Show a newcomer everything, and go on telling until they leave."""
        self._pages[client.id] = page
        client.on_delete(lambda: self._pages.pop(client.id, None))
        page.draw(charts(self._history))
        page.say(texts(self._history, local_clock, self._url))

    def tell(self) -> None:
        """Tell every page what changed since the last second."""
        if not self._pages:
            return
        history = self._history
        is_due = history.now - self._drawn_at >= _STILL_PERIOD_S
        if history.changes != self._drawn_changes or is_due:
            self._drawn_changes, self._drawn_at = history.changes, history.now
            drawn = charts(history)
            for page in self._pages.values():
                page.draw(drawn)
        said = texts(history, local_clock, self._url)
        for page in self._pages.values():
            page.say(said)


class Console:
    """The app, and the reading that goes on beside it."""

    def __init__(self, settings: Settings) -> None:
        self._redis_url = settings.redis
        self._history = History()
        self._audience = Audience(self._history, workflow_urls(settings))
        self.app = FastAPI(openapi_url=None)
        self.app.get("/healthz")(_healthz)

        @ui.page("/")
        async def index(client: Client) -> None:
            self._audience.welcome(client, Page(settings.temporal_ui))

        ui.run_with(
            self.app,
            title="Tidegate",
            favicon="🌊",
            dark=None,
            binding_refresh_interval=None,
            message_history_length=0,
            gzip_middleware_factory=None,
            tailwind=False,
            show_welcome_message=False,
        )

    async def read(self) -> None:
        """Read Redis and tell whoever looks, until cancelled."""
        async with Redis(self._redis_url) as redis:
            await Reader(redis, self._history).run(time.time, self._audience.tell)


async def _healthz() -> PlainTextResponse:
    return PlainTextResponse("ok")
