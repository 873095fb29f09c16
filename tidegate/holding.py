"""The local snapshot: the newest of each part ever heard, compiled for requests."""

from collections.abc import Callable
from dataclasses import dataclass

from tidegate.rules.decision import Decider
from tidegate.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Held:
    """A snapshot and what it compiles to; replaced as a whole, so a request sees one state."""

    snapshot: Snapshot
    decider: Decider

    @property
    def is_ready(self) -> bool:
        """Whether intent was ever heard; before that, nothing is known of any feature."""
        return self.snapshot.intent is not None


class SnapshotHolder:
    """Takes what is newer, part by part, and nothing else; what is missing changes nothing."""

    def __init__(self) -> None:
        self.now_held = Held(Snapshot(), Decider(Snapshot()))
        self.listeners: list[Callable[[], None]] = []
        """Called whenever something was taken."""

    def take(self, offered: Snapshot) -> bool:
        """Take the parts that are newer than those held; False when none was."""
        held = self.now_held.snapshot
        newer_gates = {
            pool: gate
            for pool, gate in offered.gates.items()
            if pool not in held.gates or gate.version > held.gates[pool].version
        }
        intent = held.intent
        if offered.intent is not None and (
            intent is None or offered.intent.version > intent.version
        ):
            intent = offered.intent
        if intent is held.intent and not newer_gates:
            return False
        snapshot = Snapshot(intent=intent, gates={**held.gates, **newer_gates})
        self.now_held = Held(snapshot, Decider(snapshot))
        for listener in self.listeners:
            listener()
        return True
