"""What people did about incidents."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

_SEQ = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Add the log of incidents."""
    op.create_table(
        "incident_log",
        sa.Column("seq", _SEQ, primary_key=True, autoincrement=True),
        sa.Column("incident_id", sa.String(36), sa.ForeignKey("alerts.alert_id"), nullable=False),
        sa.Column("at_utc", sa.DateTime, nullable=False),
        sa.Column("who", sa.String(63), nullable=False),
        sa.Column("action", sa.String(16), nullable=False),
        sa.Column("assignee", sa.String(63), nullable=False),
        sa.Column("note", sa.String(500), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("incident_log_by_incident", "incident_log", ["incident_id", "seq"])
