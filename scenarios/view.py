"""How a played story is shown in a terminal: live where there is one, line by line elsewhere."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from rich.console import Console
from rich.live import Live

from console.decisions import Sieve, decision_words, is_worth_a_line, reason_of
from console.history import History
from console.times import Clock, local_clock
from scenarios.frame import draw_frame
from tidegate.events import Event

Addresses = Mapping[str, str]
"""What is up and where: a name for people, and a URL."""


class View(Protocol):
    """What the player tells a person who watches."""

    def start(self, addresses: Addresses) -> None:
        """Say what is up, and begin to show."""
        ...

    def say(self, text: str) -> None:
        """Print a line that stays, such as a command as it is run."""
        ...

    def show(self, history: History, story_time: str) -> None:
        """Show the state as it is now."""
        ...

    def summary(self, lines: Sequence[str]) -> None:
        """Print how it ended, below everything."""
        ...

    def close(self) -> None:
        """Leave the terminal as it was; harmless when done twice."""
        ...


def make_view(*, headless: bool, console: Console, clock: Clock = local_clock) -> View:
    """Choose the live view for a person at a terminal, and plain lines for everyone else.

    `clock` shows forecasts and decisions in the story's time, or else in this machine's.
    """
    if headless or not console.is_terminal or console.is_dumb_terminal:
        return PlainView(console, clock)
    return LiveView(console, clock)


class PlainView:
    """A line for each event that matters, with the story's time; no control characters."""

    def __init__(self, console: Console, clock: Clock) -> None:
        self._console = console
        self._clock = clock
        self._sieve = Sieve()
        self._told = 0

    def start(self, addresses: Addresses) -> None:
        """Print the addresses."""
        for line in _address_lines(addresses):
            self.say(line)

    def say(self, text: str) -> None:
        """Print a line."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True, style=None)

    def show(self, history: History, story_time: str) -> None:
        """Print the events heard since the last time."""
        for event in history.events_since(self._told):
            if self._sieve.keeps(event) and is_worth_a_line(event):
                self.say(f"{story_time}  {_event_line(event, self._clock)}")
        self._told = history.events_heard

    def summary(self, lines: Sequence[str]) -> None:
        """Print the lines."""
        for line in lines:
            self.say(line)

    def close(self) -> None:
        """Do nothing: lines leave nothing behind."""


class LiveView:
    """Commands scroll by above; below them the state redraws itself in place."""

    def __init__(self, console: Console, clock: Clock) -> None:
        self._console = console
        self._clock = clock
        self._footer = ""
        self._live = Live(console=console, auto_refresh=False, vertical_overflow="crop")

    def start(self, addresses: Addresses) -> None:
        """Print the addresses and begin to draw."""
        for line in _address_lines(addresses):
            self.say(line)
        self._footer = " · ".join(addresses.values())
        self._live.start()

    def say(self, text: str) -> None:
        """Print a line above what is live."""
        style = "bold" if text.startswith("$ ") else ""
        self._console.print(text, markup=False, highlight=False, style=style)

    def show(self, history: History, story_time: str) -> None:
        """Draw the state anew."""
        size = self._console.size
        frame = draw_frame(history, story_time, self._clock, self._footer, size)
        self._live.update(frame, refresh=True)

    def summary(self, lines: Sequence[str]) -> None:
        """Let the last picture stand, and print the lines below it."""
        self.close()
        for line in lines:
            self.say(line)

    def close(self) -> None:
        """Give the cursor back."""
        if self._live.is_started:
            self._live.stop()


def _address_lines(addresses: Addresses) -> list[str]:
    width = max((len(name) for name in addresses), default=0)
    return [f"{name:<{width}}  {url}" for name, url in addresses.items()]


def _event_line(event: Event, clock: Clock) -> str:
    reason = reason_of(event)
    line = decision_words(event, clock)
    return f"{line} ({reason})" if reason else line
