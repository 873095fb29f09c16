"""The smallest changes that lead from a refusal to a yes: each is tried before it is told."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from tidegate.rules.remedies import Case, Change, Kind, instants, remedies

_MOST_CHANGES: Final = 3
_MOST_CASES: Final = 12
"""How many changed cases are followed further, so that an explanation costs a bounded time."""


@dataclass(frozen=True, slots=True)
class Way:
    """Changes that, together, are answered with a yes."""

    changes: tuple[Change, ...]
    case: Case
    until: float | None
    """When it ends again, where it begins later and that is known; seconds since the epoch."""


def ways_to_yes(case: Case) -> tuple[Way, ...]:
    """Return the ways with the fewest changes, the quickest first; none where none is known."""
    level: list[tuple[tuple[Change, ...], Case]] = [((), case)]
    for _ in range(_MOST_CHANGES):
        further = dict(_one_more(level))
        found: dict[frozenset[Kind], Way] = {}
        for changes, changed in further.items():
            if changed.answer().allowed:
                # The first of its kind is the nearest: one tier is named, not every higher one.
                kinds = frozenset(change.kind for change in changes)
                found[kinds] = found.get(kinds) or _way(changes, changed)
        if found:
            return tuple(found.values())
        level = list(further.items())[:_MOST_CASES]
    return ()


def _one_more(
    level: list[tuple[tuple[Change, ...], Case]],
) -> Iterator[tuple[tuple[Change, ...], Case]]:
    for made, case in level:
        kinds = {change.kind for change in made}
        for change, changed in remedies(case.answer(), case):
            if change.kind not in kinds:
                yield tuple(sorted((*made, change), key=lambda each: each.kind)), changed


def _way(changes: tuple[Change, ...], case: Case) -> Way:
    if all(change.kind is not Kind.TIME for change in changes):
        return Way(changes, case, None)
    ends = (at for at in instants(case) if not replace(case, at=at).answer().allowed)
    return Way(changes, case, next(ends, None))
