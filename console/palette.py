"""Colours that people with any colour vision tell apart, on light and on dark ground.

They follow Okabe and Ito's set (https://jfly.uni-koeln.de/color/), darkened or lightened until
each has a contrast of 3:1 or more with its ground.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tidegate.snapshot import IntentPart


@dataclass(frozen=True, slots=True)
class Colour:
    """One role's colour: its CSS variable, and its value on light and on dark ground."""

    name: str
    light: str
    dark: str

    @property
    def css(self) -> str:
        """The value for a style that follows the page between light and dark."""
        return f"var(--{self.name})"


INK: Final = Colour("ink", "#1b2430", "#e8ecf1")
MUTED: Final = Colour("muted", "#5b6675", "#9aa6b4")
LINE: Final = Colour("line", "#dfe4ea", "#333c47")
GROUND: Final = Colour("ground", "#f4f6f8", "#12171d")
CARD: Final = Colour("card", "#ffffff", "#1b2229")
ABSENT: Final = Colour("absent", "#8a94a1", "#7c8794")
NEEDED: Final = Colour("needed", "#c04f00", "#ff9552")
READY: Final = Colour("ready", "#0072b2", "#56b4e9")
ARRIVING: Final = Colour("arriving", "#7fb9dc", "#2f6f98")
INSTALLED: Final = Colour("installed", "#5b6675", "#9aa6b4")
REFUSED: Final = Colour("refused", "#c04f00", "#ff9552")
GOOD: Final = Colour("good", "#00794f", "#35c99a")
WAITING: Final = Colour("waiting", "#9a6400", "#f0b43c")

_ALWAYS_SERVED: Final = (
    Colour("served-0", "#0072b2", "#56b4e9"),
    Colour("served-1", "#008a64", "#2bc49a"),
    Colour("served-2", "#a84f86", "#e59ac4"),
    Colour("served-3", "#4d5bb0", "#9aa5f0"),
)
_GATED: Final = (
    Colour("gated-0", "#d55e00", "#ff8c42"),
    Colour("gated-1", "#9a6400", "#f0b43c"),
)

_ROLES: Final = (
    INK, MUTED, LINE, GROUND, CARD, ABSENT, NEEDED, READY, ARRIVING, INSTALLED, REFUSED, GOOD,
    WAITING,
)  # fmt: skip


def tier_colours(intent: IntentPart | None, tiers: Sequence[str]) -> Mapping[str, Colour]:
    """Give each tier a colour; the gated ones, which are the ones to watch, get the warm ones."""
    colours: dict[str, Colour] = {}
    counts = {True: 0, False: 0}
    for tier in tiers:
        is_gated = intent is not None and tier in intent.tiers and intent.tiers[tier].gated
        choice = _GATED if is_gated else _ALWAYS_SERVED
        colours[tier] = choice[counts[is_gated] % len(choice)]
        counts[is_gated] += 1
    return colours


def css_variables() -> str:
    """Return the style sheet that defines every colour for both grounds."""
    colours = (*_ROLES, *_ALWAYS_SERVED, *_GATED)
    light = "".join(f"--{colour.name}:{colour.light};" for colour in colours)
    dark = "".join(f"--{colour.name}:{colour.dark};" for colour in colours)
    return f":root{{{light}}}body.body--dark{{{dark}}}"
