"""What lists and figures would have to count or read anew each time: places of devices, numbers of alerts."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

_CONTACTS = sa.table(
    "contacts",
    sa.column("device_id", sa.String),
    sa.column("heartbeat", sa.Text),
    sa.column("latitude", sa.Float),
    sa.column("longitude", sa.Float),
)


def upgrade() -> None:
    """Add places of devices, filled from their heartbeats, tallies of alerts, and an index for the hours."""
    op.add_column("contacts", sa.Column("latitude", sa.Float))
    op.add_column("contacts", sa.Column("longitude", sa.Float))
    op.create_index("hours_by_time", "hours", ["begin_utc"])
    op.create_table(
        "tallies",
        sa.Column("label", sa.String(32), primary_key=True),
        sa.Column("drill", sa.Boolean, primary_key=True),
        sa.Column("n_alerts", sa.BigInteger, nullable=False),
        sa.Column("upto_seq", sa.BigInteger, nullable=False),
    )
    known = _CONTACTS.c
    rows = op.get_bind().execute(sa.select(known.device_id, known.heartbeat).where(known.heartbeat.is_not(None))).all()
    for row in rows:
        position = json.loads(row.heartbeat).get("position")
        if position:
            place = {name: position[name] for name in ("latitude", "longitude")}
            op.get_bind().execute(sa.update(_CONTACTS).where(known.device_id == row.device_id).values(**place))
