"""What a device was like hour by hour, its charge and heat beside its latest heartbeat, and conditions by device."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Add columns and indices; hours that are here already say nothing more than they did."""
    op.add_column("contacts", sa.Column("battery_percent", sa.Float))
    op.add_column("contacts", sa.Column("temperature_c", sa.Float))
    for column in (
        sa.Column("first_utc", sa.DateTime),
        sa.Column("last_utc", sa.DateTime),
        sa.Column("started_utc", sa.DateTime),
        sa.Column("restarted_utc", sa.DateTime),
        sa.Column("start_reason", sa.String(32)),
        sa.Column("heard_sum", sa.Float),
        sa.Column("paused_s", sa.Float),
        sa.Column("percent_sum", sa.Float),
        sa.Column("n_percent", sa.Integer),
        sa.Column("most_c", sa.Float),
    ):
        op.add_column("hours", column)
    op.create_index("conditions_by_subject", "conditions", ["subject", "seq"])
    op.create_index("conditions_by_name", "conditions", ["name", "end_utc"])
