"""Ending a process that has spoken to Temporal."""

import os
import sys
from typing import NoReturn


def leave(code: int) -> NoReturn:
    """End at once with `code`, what was printed flushed.

    The threads of Temporal's SDK may still act, and abort an interpreter that winds down, so that
    a command that was refused with 3 would end with 134.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
