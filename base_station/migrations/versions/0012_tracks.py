"""What each file of a journal says along time, for charts."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"

_SEQ = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Add the tracks; files that are here already get theirs when they are first looked at."""
    op.create_table(
        "journal_tracks",
        sa.Column("file_seq", _SEQ, sa.ForeignKey("journal_files.seq", ondelete="CASCADE"), primary_key=True),
        sa.Column("data", sa.LargeBinary, nullable=False),
    )
