"""What each day brought, counted for reports, and what operators chose on the settings page."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Add counts by day, and choices."""
    op.create_table(
        "day_hours",
        sa.Column("day", sa.Date, primary_key=True),
        sa.Column("label", sa.String(32), primary_key=True),
        sa.Column("hour", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("n_alerts", sa.Integer, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "day_devices",
        sa.Column("day", sa.Date, primary_key=True),
        sa.Column("label", sa.String(32), primary_key=True),
        sa.Column("device_id", sa.String(63), primary_key=True),
        sa.Column("n_alerts", sa.Integer, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "month_devices",
        sa.Column("month", sa.Date, primary_key=True),
        sa.Column("label", sa.String(32), primary_key=True),
        sa.Column("device_id", sa.String(63), primary_key=True),
        sa.Column("n_alerts", sa.Integer, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "day_listening",
        sa.Column("day", sa.Date, primary_key=True),
        sa.Column("device_hours", sa.Float, nullable=False),
        sa.Column("n_devices", sa.Integer, nullable=False),
    )
    op.create_table(
        "choices",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
        sa.Column("changed_utc", sa.DateTime, nullable=False),
    )
