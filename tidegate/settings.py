"""Where the outside systems are: read once from the environment, with embedded defaults."""

import re
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Final, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from tidegate.errors import PlanError

TASK_QUEUE: Final = "tidegate"
"""The Temporal task queue that Tidegate's workers poll."""

_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.-]*://")
_LOGIN: Final = re.compile(r".*@")


class Settings(BaseModel):
    """Addresses and folders; each field is read from `TIDEGATE_` and its name in capitals."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    temporal: str = Field("127.0.0.1:7233", description="Temporal frontend, host:port.")
    temporal_ui: str = Field("http://127.0.0.1:8233", description="Temporal UI, for links.")
    namespace: str = Field("default", description="Temporal namespace.")
    redis: str = Field(
        "redis://127.0.0.1:6379/0", repr=False, description="Redis or Valkey, 6.2 or later."
    )
    record: str = Field(
        "sqlite:///tidegate.db", repr=False, description="The record, as SQLAlchemy's URL."
    )
    prometheus: str | None = Field(None, description="Prometheus, for checks; by default none.")
    pools: str = Field(
        "http://127.0.0.1:7070",
        description="The local pools' API, or Kubernetes as kubernetes://NAMESPACE.",
    )
    gateway: str = Field("http://127.0.0.1:8080", description="A gateway, for the CLI and loads.")
    console: str = Field("http://127.0.0.1:8088", description="Where the console listens.")
    state: Path = Field(Path(".tidegate"), description="Folder for outboxes and snapshots.")
    keys: Path | None = Field(
        None, description="File of signing keys; by default keys.json in the state folder."
    )
    previews: Path | None = Field(
        None, description="Folder of previews' keys; by default previews in the state folder."
    )
    webhooks: Path | None = Field(
        None, description="File of who is told of events; by default nobody."
    )
    callers: Path | None = Field(
        None, description="File that says who may vouch for tiers; by default nobody."
    )
    api_key: str | None = Field(None, repr=False, description="To ask gateways with.")
    build: str = Field(
        version("tidegate"),
        description="The worker's release, by which Temporal tells old code from new.",
    )
    node: str = Field("local", description="This node's name, in readings and on Kubernetes.")
    gpu_type: str | None = Field(
        default=None, description="Type of this node's GPUs, as its budget is named."
    )
    pod_resources: Path | None = Field(
        default=None, description="Socket of the kubelet's pod-resources API; by default none."
    )
    metrics: str | None = Field(
        default=None, description="Where the agent serves its metrics, host:port; by default none."
    )
    nvml: Path | None = Field(
        default=None, description="NVML library to load instead of the system's."
    )

    @property
    def own_node(self) -> str | None:
        """The node that this runs on, where one was named."""
        return self.node if "node" in self.model_fields_set else None

    @property
    def keys_file(self) -> Path:
        """Where the signing keys are."""
        return self.state / "keys.json" if self.keys is None else self.keys

    @property
    def previews_folder(self) -> Path:
        """Where the keys of previews are."""
        return self.state / "previews" if self.previews is None else self.previews

    @field_validator("temporal", "metrics")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        host, _, port = value.rpartition(":")
        if not host or "/" in host or not port.isdecimal():
            raise ValueError('expected host:port. Write it like "127.0.0.1:7233"')
        return value

    @field_validator("redis", "pools", "gateway", "console", "temporal_ui", "record", "prometheus")
    @classmethod
    def _is_a_url(cls, value: str, info: ValidationInfo) -> str:
        example = cls.model_fields[str(info.field_name)].default or "http://127.0.0.1:9090"
        # "localhost:6379" has a scheme too, by the letter of RFC 3986, and no server behind it.
        if not _SCHEME.match(value):
            raise ValueError(f'expected a URL. Write it like "{example}"')
        return value

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """Read the settings; raises PlanError that names each wrong variable."""
        given = {
            name: environment[variable(name)]
            for name in cls.model_fields
            if environment.get(variable(name))
        }
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            mistakes = [
                f'{variable(str(e["loc"][0]))}: got "{_shown(e["input"])}", {e["ctx"]["error"]}.'
                for e in error.errors()
            ]
            raise PlanError("\n".join(mistakes), code="settings", mistakes=mistakes) from error


def _shown(value: str) -> str:
    """Leave out what stands before an @: a user, and perhaps a password."""
    return _LOGIN.sub("***@", value)


def variable(name: str) -> str:
    """Name the environment variable of a setting."""
    return f"TIDEGATE_{name.upper()}"


def cache_folder(environment: Mapping[str, str]) -> Path:
    """Return the folder for downloads and builds: TIDEGATE_CACHE, else the user's cache."""
    given = environment.get("TIDEGATE_CACHE")
    if given:
        return Path(given)
    home = environment.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home) / "tidegate"
