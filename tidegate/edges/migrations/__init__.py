"""Bringing the record's tables to the form that this release reads and writes.

Each step is a file here, named for its number. The steps run within one transaction that writes, so
that a killed start leaves the tables as they were, and of two that start at once one waits for the
other and finds nothing left to do.
"""

from pathlib import Path
from typing import Final

from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine

from tidegate.edges.record.engine import transaction
from tidegate.edges.record.postgresql import lift_statement_limit
from tidegate.edges.record.urls import POSTGRESQL, shown
from tidegate.errors import Broken

_HERE: Final = Path(__file__).parent
EMPTY: Final = "base"
NEWEST: Final = "head"


def migrate(engine: Engine, to: str = NEWEST) -> tuple[str, ...]:
    """Move the tables up or down to a revision and return the revisions stepped through.

    Raises Broken when a newer release has moved them on, Unavailable when nobody answers.
    """
    script = ScriptDirectory(str(_HERE), version_locations=[str(_HERE)])
    numbered = [step.revision for step in reversed(list(script.walk_revisions()))]
    targets = {EMPTY: 0, NEWEST: len(numbered)}
    with transaction(engine, writes=True) as connection:
        if engine.dialect.name == POSTGRESQL:
            # Years of events take longer than anything else here; waits for locks stay bounded.
            lift_statement_limit(connection)
        context = MigrationContext.configure(connection)
        held = context.get_current_revision()
        if held is not None and held not in numbered:
            message = (
                f"record: {shown(engine.url)} is at revision {held!r}, expected one of {numbered}. "
                "A newer release has used it: run that one, or restore a backup."
            )
            raise Broken(message, code="record-newer")
        current = 0 if held is None else numbered.index(held) + 1
        target = targets[to] if to in targets else numbered.index(to) + 1
        with Operations.context(context):
            for revision in numbered[current:target]:
                script.get_revision(revision).module.upgrade()
            for revision in reversed(numbered[target:current]):
                script.get_revision(revision).module.downgrade()
        context.stamp(script, numbered[target - 1] if target else EMPTY)
    return tuple(numbered[min(current, target) : max(current, target)])
