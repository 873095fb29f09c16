"""Run a program that dies with the process that started it: `tether.py PARENT_PID PROGRAM ...`.

A program of its own, run with `-I -S`, so that it costs milliseconds and so that nothing runs
between a fork and an exec in a process that has threads.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_CANNOT_RUN = 127
"""What shells answer for a program that is not there."""


def main() -> None:
    """Tie this process to its parent, lead a process group, and become the program."""
    parent, program = int(sys.argv[1]), sys.argv[2:]
    os.setpgid(0, 0)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        # The parent died before the kernel was asked to tell us.
        sys.exit(_CANNOT_RUN)
    try:
        os.execvp(program[0], program)  # noqa: S606 - becoming the given program is the purpose
    except OSError as error:
        sys.exit(f"cannot run {program[0]}: {error.strerror}")


if __name__ == "__main__":
    main()
