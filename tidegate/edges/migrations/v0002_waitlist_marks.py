"""How far each lane of each waitlist has come."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "waitlist_marks",
        sa.Column("feature", sa.String(), primary_key=True),
        sa.Column("tier", sa.String(), primary_key=True),
        sa.Column("reserved_below", sa.BigInteger(), nullable=False),
        sa.Column("issued_below", sa.BigInteger(), nullable=False),
        sa.Column("called_below", sa.BigInteger(), nullable=False),
        sa.Column("gaps", sa.JSON(), nullable=False),
    )


def downgrade() -> None:
    """Drop it: waitlists begin anew, and numbers may come twice."""
    op.drop_table("waitlist_marks")
