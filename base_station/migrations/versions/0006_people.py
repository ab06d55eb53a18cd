"""Who may read and judge: people with passwords, machines with tokens."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

_SEQ = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Add people, their sessions, the attempts to be one of them, and tokens."""
    op.create_table(
        "people",
        sa.Column("name", sa.String(63), primary_key=True),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("password", sa.String(200), nullable=False),
        sa.Column("added_utc", sa.DateTime, nullable=False),
    )
    op.create_table(
        "sessions",
        sa.Column("digest", sa.LargeBinary(32), primary_key=True),
        sa.Column("name", sa.String(63), sa.ForeignKey("people.name"), nullable=False),
        sa.Column("csrf", sa.String(64), nullable=False),
        sa.Column("expires_utc", sa.DateTime, nullable=False),
    )
    op.create_table(
        "attempts",
        sa.Column("seq", _SEQ, primary_key=True, autoincrement=True),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("at_utc", sa.DateTime, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("attempts_by_time", "attempts", ["at_utc"])
    op.create_table(
        "tokens",
        sa.Column("name", sa.String(63), primary_key=True),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("digest", sa.LargeBinary(32), nullable=False, unique=True),
        sa.Column("added_utc", sa.DateTime, nullable=False),
    )
