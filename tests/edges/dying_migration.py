"""Migrate a record, and die as by `kill -9` right behind a statement: URL, revision, its words."""

import os
import signal
import sys

from sqlalchemy import Connection, event

from tidegate.edges.migrations import migrate
from tidegate.edges.record import Record

COMMIT = "COMMIT"


def main(url: str, to: str, words: str) -> None:
    """Migrate until the first statement with these words has run, or the commit is due."""

    def die(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def ran(_: Connection, __: object, statement: str, *___: object) -> None:
        if words in statement:
            die()

    engine = Record(url).engine
    event.listen(engine, "after_cursor_execute", ran)
    if words == COMMIT:
        event.listen(engine, "commit", die)
    migrate(engine, to)


if __name__ == "__main__":
    main(*sys.argv[1:])
