"""How many incidents began on each day, for reports."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Add the counts; days that are here already are counted bit by bit."""
    op.create_table(
        "day_incidents",
        sa.Column("day", sa.Date, primary_key=True),
        sa.Column("label", sa.String(32), primary_key=True),
        sa.Column("n_incidents", sa.Integer, nullable=True),
    )
