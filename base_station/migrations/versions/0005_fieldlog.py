"""What journals that came home on a card tell."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_SEQ = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Add the events of journals."""
    op.create_table(
        "field_events",
        sa.Column("seq", _SEQ, primary_key=True, autoincrement=True),
        sa.Column("digest", sa.LargeBinary(16), nullable=False, unique=True),
        sa.Column("device_id", sa.String(63), sa.ForeignKey("devices.device_id"), nullable=False),
        sa.Column("run", sa.String(32), nullable=False),
        sa.Column("kind", sa.String(100), nullable=False),
        sa.Column("at_utc", sa.DateTime),
        sa.Column("dated", sa.String(16), nullable=False),
        sa.Column("alert_id", sa.String(36)),
        sa.Column("fields", sa.Text, nullable=False),
        sa.Column("imported_utc", sa.DateTime, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("field_events_by_device", "field_events", ["device_id", "seq"])
    op.create_index("field_events_by_alert", "field_events", ["alert_id"])
