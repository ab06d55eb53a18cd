"""What people said of alerts."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_SEQ = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Add verdicts."""
    op.create_table(
        "verdicts",
        sa.Column("seq", _SEQ, primary_key=True, autoincrement=True),
        sa.Column("alert_id", sa.String(36), sa.ForeignKey("alerts.alert_id"), nullable=False),
        sa.Column("verdict", sa.String(8), nullable=False),
        sa.Column("heard", sa.String(32), nullable=False),
        sa.Column("chosen", sa.String(16), nullable=False),
        sa.Column("judge", sa.String(63), nullable=False),
        sa.Column("note", sa.String(500), nullable=False),
        sa.Column("at_utc", sa.DateTime, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("verdicts_by_alert", "verdicts", ["alert_id", "seq"])
