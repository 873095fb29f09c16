"""The local snapshot: the newest of each part ever heard, compiled for requests."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from tidegate.kills import is_over
from tidegate.rules.decision import Decider
from tidegate.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Held:
    """A snapshot and what it compiles to; replaced as a whole, so a request sees one state."""

    snapshot: Snapshot
    decider: Decider
    is_ready: bool = field(init=False)
    """Whether intent was ever heard; before that, nothing is known of any feature."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "is_ready", self.snapshot.intent is not None)


Listener = Callable[[Held], None]
"""Is told of a new state as soon as it is held; must not fail, and must not wait."""


class SnapshotHolder:
    """Takes what is newer, part by part, and nothing else; what is missing changes nothing."""

    def __init__(self) -> None:
        self.now_held = Held(Snapshot(), Decider(Snapshot()))
        self._listeners: list[Listener] = []

    def listen(self, listener: Listener) -> None:
        """Call this with each new state from now on, in the thread that took it."""
        self._listeners.append(listener)

    def take(self, offered: Snapshot) -> bool:
        """Take the parts that are newer than those held; False when none was."""
        held = self.now_held.snapshot
        newer_gates = _newer(offered.gates, held.gates)
        newer_kills = _newer(offered.kills, held.kills)
        newer_waitlists = _newer(offered.waitlists, held.waitlists)
        intent = held.intent
        if offered.intent is not None and (
            intent is None or offered.intent.version > intent.version
        ):
            intent = offered.intent
        if intent is held.intent and not (newer_gates or newer_kills or newer_waitlists):
            return False
        snapshot = Snapshot(
            intent=intent,
            gates={**held.gates, **newer_gates},
            kills={**held.kills, **newer_kills},
            waitlists={**held.waitlists, **newer_waitlists},
        )
        self._hold(snapshot)
        return True

    def forget_kills(self, now: float) -> tuple[str, ...]:
        """Drop the orders that are over; returns the features that they closed."""
        held = self.now_held.snapshot
        over = tuple(feature for feature, kill in held.kills.items() if is_over(kill, now))
        if over:
            left = {feature: kill for feature, kill in held.kills.items() if feature not in over}
            self._hold(held.model_copy(update={"kills": left}))
        return over

    def _hold(self, snapshot: Snapshot) -> None:
        self.now_held = Held(snapshot, Decider(snapshot, self.now_held.decider))
        for listener in self._listeners:
            listener(self.now_held)


class _Versioned(Protocol):
    @property
    def version(self) -> int: ...


_P = TypeVar("_P", bound=_Versioned)


def _newer(offered: Mapping[str, _P], held: Mapping[str, _P]) -> dict[str, _P]:
    return {
        name: part
        for name, part in offered.items()
        if name not in held or part.version > held[name].version
    }
