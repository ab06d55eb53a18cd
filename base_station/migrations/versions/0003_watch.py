"""What the station makes of heartbeats, and what it told people about it."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_SEQ = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Add hours, conditions and deliveries, and since when a device has its model."""
    op.add_column("contacts", sa.Column("model_digest", sa.String(64)))
    op.add_column("contacts", sa.Column("model_since_utc", sa.DateTime))
    op.create_table(
        "hours",
        sa.Column("device_id", sa.String(63), sa.ForeignKey("devices.device_id"), primary_key=True),
        sa.Column("begin_utc", sa.DateTime, primary_key=True),
        sa.Column("n_beats", sa.Integer, nullable=False),
        sa.Column("level_sum", sa.Float, nullable=False),
    )
    op.create_table(
        "conditions",
        sa.Column("seq", _SEQ, primary_key=True, autoincrement=True),
        sa.Column("subject", sa.String(63), nullable=False),
        sa.Column("name", sa.String(32), nullable=False),
        sa.Column("begin_utc", sa.DateTime, nullable=False),
        sa.Column("end_utc", sa.DateTime),
        sa.Column("seen_utc", sa.DateTime, nullable=False),
        sa.Column("returns", sa.Integer, nullable=False),
        sa.Column("detail", sa.String(300), nullable=False),
        sa.Column("devices", sa.Text, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("conditions_by_end", "conditions", ["end_utc"])
    op.create_table(
        "deliveries",
        sa.Column("seq", _SEQ, primary_key=True, autoincrement=True),
        sa.Column("rule", sa.String(40), nullable=False),
        sa.Column("subject", sa.String(120), nullable=False),
        sa.Column("digest", sa.Boolean, nullable=False),
        sa.Column("notice", sa.Text, nullable=False),
        sa.Column("created_utc", sa.DateTime, nullable=False),
        sa.Column("due_utc", sa.DateTime, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("done_utc", sa.DateTime),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("error", sa.String(300), nullable=False),
        sa.UniqueConstraint("rule", "subject"),
        sqlite_autoincrement=True,
    )
    op.create_index("deliveries_by_due", "deliveries", ["outcome", "due_utc"])
