"""Find alerts by the time of their sound and of their arrival; one process at a time does what only one may do."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add two indexes and the leases; the station before this one refuses the database from now on."""
    op.create_index("revisions_by_onset", "revisions", ["onset_utc"])
    op.create_index("revisions_by_arrival", "revisions", ["received_utc"])
    op.create_table(
        "leases",
        sa.Column("name", sa.String(32), primary_key=True),
        sa.Column("holder", sa.String(64), nullable=False),
        sa.Column("expires_utc", sa.DateTime, nullable=False),
    )
    op.execute("UPDATE meta SET value = '2' WHERE name = 'schema'")
