"""Events and what is drawn from them: marks, conflicts, forecasts; and the history of demand."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the first tables."""
    _make_events()
    _make_histories()


def downgrade() -> None:
    """Drop them, and with them everything recorded."""
    for table in ("demand_history", "forecasts", "conflicts", "marks", "events"):
        op.drop_table(table)


def _make_events() -> None:
    op.create_table(
        "events",
        sa.Column("source", sa.String(), primary_key=True),
        sa.Column("sequence", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_index("events_by_at", "events", ["at"])
    op.create_index("events_by_type", "events", ["type", "at"])
    op.create_index("events_by_subject", "events", ["subject", "at"])
    op.create_table(
        "marks",
        sa.Column("source", sa.String(), primary_key=True),
        sa.Column("contiguous", sa.BigInteger(), nullable=False),
        sa.Column("highest", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "conflicts",
        sa.Column("source", sa.String(), primary_key=True),
        sa.Column("sequence", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("digest", sa.String(), primary_key=True),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
    )


def _make_histories() -> None:
    op.create_table(
        "forecasts",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("what", sa.String(), nullable=False),
        sa.Column("made_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("p50", sa.DateTime(timezone=True)),
        sa.Column("p90", sa.DateTime(timezone=True)),
        sa.Column("came_true_at", sa.DateTime(timezone=True)),
    )
    op.create_index("forecasts_by_subject", "forecasts", ["subject", "what", "made_at"])
    op.create_table(
        "demand_history",
        sa.Column("pool", sa.String(), primary_key=True),
        sa.Column("tier", sa.String(), primary_key=True),
        sa.Column("at", sa.DateTime(timezone=True), primary_key=True),
        sa.Column("admitted_rps", sa.Float(), nullable=False),
        sa.Column("refused_rps", sa.Float(), nullable=False),
        sa.Column("not_exposed_rps", sa.Float(), nullable=False),
    )
    op.create_index("demand_history_by_at", "demand_history", ["at"])
