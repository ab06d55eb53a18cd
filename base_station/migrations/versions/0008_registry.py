"""What devices are called and where they hang, who changed what, and the files of journals."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

_SEQ = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Add name and place to devices, the audit and the journals' files."""
    op.add_column("devices", sa.Column("name", sa.String(80), nullable=False, server_default=""))
    op.add_column("devices", sa.Column("latitude", sa.Float))
    op.add_column("devices", sa.Column("longitude", sa.Float))
    op.create_table(
        "audit",
        sa.Column("seq", _SEQ, primary_key=True, autoincrement=True),
        sa.Column("at_utc", sa.DateTime, nullable=False),
        sa.Column("who", sa.String(63), nullable=False),
        sa.Column("action", sa.String(32), nullable=False),
        sa.Column("subject", sa.String(63), nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("audit_by_subject", "audit", ["subject", "seq"])
    _journal_files()


def _journal_files() -> None:
    op.create_table(
        "journal_files",
        sa.Column("seq", _SEQ, primary_key=True, autoincrement=True),
        sa.Column("device_id", sa.String(63), sa.ForeignKey("devices.device_id"), nullable=False),
        sa.Column("run", sa.String(32), nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("boot_id", sa.String(64), nullable=False),
        sa.Column("first_s", sa.Float, nullable=False),
        sa.Column("last_s", sa.Float, nullable=False),
        sa.Column("zero_utc", sa.DateTime),
        sa.Column("dated", sa.String(16), nullable=False),
        sa.Column("first_utc", sa.DateTime),
        sa.Column("last_utc", sa.DateTime),
        sa.Column("n_lines", sa.Integer, nullable=False),
        sa.Column("n_windows", sa.Integer, nullable=False),
        sa.Column("n_bytes", sa.Integer, nullable=False),
        sa.Column("kept_utc", sa.DateTime, nullable=False),
        sa.Column("data", sa.LargeBinary, nullable=False),
        sa.UniqueConstraint("device_id", "run", "number"),
        sqlite_autoincrement=True,
    )
    op.create_index("journal_files_by_time", "journal_files", ["device_id", "last_utc"])
    op.create_index("journal_files_by_arrival", "journal_files", ["kept_utc"])
