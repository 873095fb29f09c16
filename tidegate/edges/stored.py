"""The last good snapshot on disk, to start from while Redis is away."""

import os
from pathlib import Path
from typing import TypeVar

import structlog
from pydantic import ValidationError

from tidegate.changes import Change, change_between, offered_by
from tidegate.holding import SnapshotHolder
from tidegate.snapshot import Snapshot

_log = structlog.get_logger(__name__)

_S = TypeVar("_S", bound=Snapshot)


class SnapshotFile:
    """A snapshot, and beside it what has changed since, which is little and often.

    Each is replaced in one step; a disk that fails is told once and stops nothing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._since = path.with_suffix(".since.json")
        self._saved = Snapshot()
        self._works = True

    def load(self) -> Snapshot:
        """Return what was saved; an empty snapshot when nothing usable was."""
        saved = self._read(self._path, Snapshot)
        since = offered_by(self._read(self._since, Change), saved)
        holder = SnapshotHolder()
        holder.take(saved)
        if since is not None:
            holder.take(since)
        return holder.now_held.snapshot

    def save(self, snapshot: Snapshot) -> None:
        """Replace what was saved before; the intent only where it says something else."""
        change = change_between(self._saved, snapshot)
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if self._saved.intent is not None and change.intent is None:
                self._replace(self._since, change)
            else:
                self._replace(self._path, snapshot)
                self._saved = snapshot
                self._since.unlink(missing_ok=True)
        except OSError as error:
            if self._works:
                _log.warning("snapshot.unsaved", path=str(self._path), reason=str(error))
            self._works = False
        else:
            self._works = True

    def _replace(self, path: Path, snapshot: Snapshot) -> None:
        partial = path.with_suffix(f".{os.getpid()}.partial")
        partial.write_text(snapshot.model_dump_json())
        partial.replace(path)

    def _read(self, path: Path, kind: type[_S]) -> _S:
        try:
            return kind.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return kind()
        except (OSError, ValidationError) as error:
            _log.warning("snapshot.unreadable", path=str(path), reason=str(error))
            return kind()
