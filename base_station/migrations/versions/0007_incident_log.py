"""Who took an incident on."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

_SEQ = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Add the log of incidents: what people did with them."""
    op.create_table(
        "incident_log",
        sa.Column("seq", _SEQ, primary_key=True, autoincrement=True),
        sa.Column("alert_id", sa.String(36), sa.ForeignKey("alerts.alert_id"), nullable=False),
        sa.Column("done", sa.String(16), nullable=False),
        sa.Column("person", sa.String(63), nullable=False),
        sa.Column("whom", sa.String(63), nullable=False),
        sa.Column("at_utc", sa.DateTime, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("incident_log_by_alert", "incident_log", ["alert_id", "seq"])
