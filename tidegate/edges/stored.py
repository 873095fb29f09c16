"""The last good snapshot on disk, to start from while Redis is away."""

import os
from pathlib import Path

import structlog
from pydantic import ValidationError

from tidegate.snapshot import Snapshot

_log = structlog.get_logger(__name__)


class SnapshotFile:
    """One file, replaced in one step; a disk that fails is told once and stops nothing."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._works = True

    def load(self) -> Snapshot:
        """Return what was saved; an empty snapshot when nothing usable was."""
        try:
            return Snapshot.model_validate_json(self._path.read_bytes())
        except FileNotFoundError:
            return Snapshot()
        except (OSError, ValidationError) as error:
            _log.warning("snapshot.unreadable", path=str(self._path), reason=str(error))
            return Snapshot()

    def save(self, snapshot: Snapshot) -> None:
        """Replace what was saved before."""
        partial = self._path.with_suffix(f".{os.getpid()}.partial")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_text(snapshot.model_dump_json())
            partial.replace(self._path)
        except OSError as error:
            if self._works:
                _log.warning("snapshot.unsaved", path=str(self._path), reason=str(error))
            self._works = False
        else:
            self._works = True
