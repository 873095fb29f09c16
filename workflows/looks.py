"""Those who have a workflow look at the world again, and wait until it has."""

from collections.abc import Callable
from typing import Final

from temporalio import workflow


class Looks:
    """Counts who asked for a look, and who has been answered; each run counts anew."""

    def __init__(self, is_over: Callable[[], bool]) -> None:
        """Take what says that no look is to come any more, so that nobody waits for one."""
        self._is_over: Final = is_over
        self._asked = 0
        self._done = 0

    @property
    def is_asked(self) -> bool:
        """Whether somebody waits for a look."""
        return self._asked > self._done

    def begin(self) -> int:
        """Begin a look, which answers all who have asked by now; end it with what is returned."""
        return self._asked

    def end(self, begun: int) -> None:
        """Answer those who had asked as the look began."""
        self._done = begun

    async def another(self) -> None:
        """Ask for a look, and wait until one that began since has ended."""
        self._asked += 1
        wanted = self._asked
        await workflow.wait_condition(lambda: self._done >= wanted or self._is_over())

    async def until_nobody_waits(self) -> bool:
        """Say whether the run may be left to the next, once nobody waits for what this one does."""
        await workflow.wait_condition(
            lambda: workflow.all_handlers_finished() or self.is_asked or self._is_over()
        )
        return workflow.all_handlers_finished()
