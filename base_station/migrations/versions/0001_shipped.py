"""The tables as the first station made them; where they are, they stay as they are."""

from alembic import op
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

revision = "0001"
down_revision = None

metadata = MetaData()

meta = Table(
    "meta",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("value", String(64), nullable=False),
)

devices = Table(
    "devices",
    metadata,
    Column("device_id", String(63), primary_key=True),
    Column("sealed_key", LargeBinary, nullable=False),
    Column("added_utc", DateTime, nullable=False),
    Column("revoked_utc", DateTime),
)

contacts = Table(
    "contacts",
    metadata,
    Column("device_id", String(63), ForeignKey("devices.device_id"), primary_key=True),
    Column("highest_counter", BigInteger, nullable=False),
    Column("boot_id", String(64)),
    Column("last_contact_utc", DateTime),
    Column("clock_offset_s", Float),
    Column("heartbeat_utc", DateTime),
    Column("heartbeat", Text),
)

SEQ = BigInteger().with_variant(Integer, "sqlite")  # only INTEGER counts up by itself there

alerts = Table(
    "alerts",
    metadata,
    Column("seq", SEQ, primary_key=True, autoincrement=True),
    Column("alert_id", String(36), nullable=False, unique=True),
    Column("device_id", String(63), ForeignKey("devices.device_id"), nullable=False),
    Column("label", String(32), nullable=False),
    Column("drill", Boolean, nullable=False),
    Column("received_utc", DateTime, nullable=False),
    Index("alerts_by_device", "device_id", "seq"),
    Index("alerts_by_label", "label", "seq"),
    sqlite_autoincrement=True,
)

revisions = Table(
    "revisions",
    metadata,
    Column("seq", SEQ, primary_key=True, autoincrement=True),
    Column("alert_id", String(36), ForeignKey("alerts.alert_id"), nullable=False),
    Column("revision", Integer, nullable=False),
    Column("received_utc", DateTime, nullable=False),
    Column("state", String(16), nullable=False),
    Column("score", Float, nullable=False),
    Column("level_dbfs", Float, nullable=False),
    Column("lasted_s", Float, nullable=False),
    Column("onset_utc", DateTime, nullable=False),
    Column("onset_from", String(16), nullable=False),
    Column("latitude", Float),
    Column("longitude", Float),
    Column("has_log_mel", Boolean, nullable=False),
    Column("body_sha256", LargeBinary(32), nullable=False),
    Column("body", Text, nullable=False),  # last: lists never read it, and SQLite then skips its pages
    UniqueConstraint("alert_id", "revision"),
    sqlite_autoincrement=True,
)

blobs = Table(
    "blobs",
    metadata,
    Column("alert_id", String(36), ForeignKey("alerts.alert_id"), primary_key=True),
    Column("revision", Integer, primary_key=True),
    Column("kind", String(16), primary_key=True),
    Column("data", LargeBinary, nullable=False),
)

heartbeats = Table(
    "heartbeats",
    metadata,
    Column("seq", SEQ, primary_key=True, autoincrement=True),
    Column("device_id", String(63), ForeignKey("devices.device_id"), nullable=False),
    Column("received_utc", DateTime, nullable=False),
    Column("body", Text, nullable=False),
    Index("heartbeats_by_device", "device_id", "seq"),
    sqlite_autoincrement=True,
)

nonces = Table(
    "nonces",
    metadata,
    Column("seq", SEQ, primary_key=True, autoincrement=True),
    Column("device_id", String(63), ForeignKey("devices.device_id"), nullable=False),
    Column("nonce", String(64), nullable=False),
    Column("expires_utc", DateTime, nullable=False),
    Index("nonces_by_device", "device_id", "nonce"),
    sqlite_autoincrement=True,
)


def upgrade() -> None:
    """Make what is missing."""
    metadata.create_all(op.get_bind(), checkfirst=True)
    known = op.get_bind().execute(meta.select().where(meta.c.name == "schema")).one_or_none()
    if known is None:
        op.get_bind().execute(meta.insert().values(name="schema", value="1"))
