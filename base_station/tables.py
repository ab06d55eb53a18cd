"""What the database holds. Every change here goes with a migration (`migrations/versions`).

`devices` (who may speak), `contacts` (how each device was when it last spoke), `alerts` (one row per event, in the
order of arrival) with its `revisions` (append-only), `blobs` (pictures and sounds, apart from rows that lists read),
`heartbeats` (a short history) and `hours` (a longer, thinner one), `tallies` (how many alerts there are), `nonces`
(challenges that wait), `leases` (which process does what only one may do), `conditions` (what was wrong with devices),
`deliveries` (what people were told), `verdicts` (what they said), `incident_log` (what they did about incidents),
`field_events` and `journal_files` (journals brought home), `audit` (who changed what), `people`, `sessions`, `attempts`
and `tokens` (who may read and judge), `day_hours`, `day_devices`, `month_devices`, `day_listening` and `day_incidents`
(what each day brought, for reports), `choices` (what operators chose on the page).
"""

from datetime import UTC, datetime

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)


class Utc(TypeDecorator[datetime]):
    """Aware times outside, UTC without a zone in the database: SQLite has no zones."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return UTC without a zone."""
        del dialect
        return None if value is None else value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return UTC with its zone."""
        del dialect
        return None if value is None else value.replace(tzinfo=UTC)


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
    Column("added_utc", Utc, nullable=False),
    Column("revoked_utc", Utc),
    Column("name", String(80), nullable=False, server_default=""),
    Column("latitude", Float),
    Column("longitude", Float),
)

contacts = Table(
    "contacts",
    metadata,
    Column("device_id", String(63), ForeignKey("devices.device_id"), primary_key=True),
    Column("highest_counter", BigInteger, nullable=False),
    Column("boot_id", String(64)),
    Column("last_contact_utc", Utc),
    Column("clock_offset_s", Float),
    Column("heartbeat_utc", Utc),
    Column("heartbeat", Text),
    Column("model_digest", String(64)),
    Column("model_since_utc", Utc),
    Column("latitude", Float),
    Column("longitude", Float),
    Column("battery_percent", Float),
    Column("temperature_c", Float),
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
    Column("received_utc", Utc, nullable=False),
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
    Column("received_utc", Utc, nullable=False),
    Column("state", String(16), nullable=False),
    Column("score", Float, nullable=False),
    Column("level_dbfs", Float, nullable=False),
    Column("lasted_s", Float, nullable=False),
    Column("onset_utc", Utc, nullable=False),
    Column("onset_from", String(16), nullable=False),
    Column("latitude", Float),
    Column("longitude", Float),
    Column("has_log_mel", Boolean, nullable=False),
    Column("body_sha256", LargeBinary(32), nullable=False),
    Column("body", Text, nullable=False),  # last: lists never read it, and SQLite then skips its pages
    UniqueConstraint("alert_id", "revision"),
    Index("revisions_by_onset", "onset_utc"),
    Index("revisions_by_arrival", "received_utc"),
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
    Column("received_utc", Utc, nullable=False),
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
    Column("expires_utc", Utc, nullable=False),
    Index("nonces_by_device", "device_id", "nonce"),
    sqlite_autoincrement=True,
)

leases = Table(
    "leases",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("holder", String(64), nullable=False),
    Column("expires_utc", Utc, nullable=False),
)

hours = Table(
    "hours",
    metadata,
    Column("device_id", String(63), ForeignKey("devices.device_id"), primary_key=True),
    Column("begin_utc", Utc, primary_key=True),
    Column("n_beats", Integer, nullable=False),
    Column("level_sum", Float, nullable=False),
    Column("first_utc", Utc),
    Column("last_utc", Utc),
    Column("started_utc", Utc),
    Column("restarted_utc", Utc),
    Column("start_reason", String(32)),
    Column("heard_sum", Float),
    Column("paused_s", Float),
    Column("percent_sum", Float),
    Column("n_percent", Integer),
    Column("most_c", Float),
    Index("hours_by_time", "begin_utc"),
)

tallies = Table(
    "tallies",
    metadata,
    Column("label", String(32), primary_key=True),
    Column("drill", Boolean, primary_key=True),
    Column("n_alerts", BigInteger, nullable=False),
    Column("upto_seq", BigInteger, nullable=False),
)

day_hours = Table(
    "day_hours",
    metadata,
    Column("day", Date, primary_key=True),
    Column("label", String(32), primary_key=True),
    Column("hour", Integer, primary_key=True, autoincrement=False),
    Column("n_alerts", Integer, nullable=False),
    sqlite_with_rowid=False,  # in the order of its key: a span of days lies together
)

day_devices = Table(
    "day_devices",
    metadata,
    Column("day", Date, primary_key=True),
    Column("label", String(32), primary_key=True),
    Column("device_id", String(63), primary_key=True),
    Column("n_alerts", Integer, nullable=False),
    sqlite_with_rowid=False,  # in the order of its key: a span of days lies together
)

month_devices = Table(
    "month_devices",
    metadata,
    Column("month", Date, primary_key=True),
    Column("label", String(32), primary_key=True),
    Column("device_id", String(63), primary_key=True),
    Column("n_alerts", Integer, nullable=False),
    sqlite_with_rowid=False,
)

day_listening = Table(
    "day_listening",
    metadata,
    Column("day", Date, primary_key=True),
    Column("device_hours", Float, nullable=False),
    Column("n_devices", Integer, nullable=False),
)

day_incidents = Table(
    "day_incidents",
    metadata,
    Column("day", Date, primary_key=True),
    Column("label", String(32), primary_key=True),
    Column("n_incidents", Integer),
)

choices = Table(
    "choices",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("sealed", LargeBinary, nullable=False),
    Column("changed_utc", Utc, nullable=False),
)

conditions = Table(
    "conditions",
    metadata,
    Column("seq", SEQ, primary_key=True, autoincrement=True),
    Column("subject", String(63), nullable=False),
    Column("name", String(32), nullable=False),
    Column("begin_utc", Utc, nullable=False),
    Column("end_utc", Utc),
    Column("seen_utc", Utc, nullable=False),
    Column("returns", Integer, nullable=False),
    Column("detail", String(300), nullable=False),
    Column("devices", Text, nullable=False),
    Index("conditions_by_end", "end_utc"),
    Index("conditions_by_subject", "subject", "seq"),
    Index("conditions_by_name", "name", "end_utc"),
    sqlite_autoincrement=True,
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("seq", SEQ, primary_key=True, autoincrement=True),
    Column("rule", String(40), nullable=False),
    Column("subject", String(120), nullable=False),
    Column("digest", Boolean, nullable=False),
    Column("notice", Text, nullable=False),
    Column("created_utc", Utc, nullable=False),
    Column("due_utc", Utc, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("done_utc", Utc),
    Column("outcome", String(16), nullable=False),
    Column("error", String(300), nullable=False),
    UniqueConstraint("rule", "subject"),
    Index("deliveries_by_due", "outcome", "due_utc"),
    sqlite_autoincrement=True,
)

verdicts = Table(
    "verdicts",
    metadata,
    Column("seq", SEQ, primary_key=True, autoincrement=True),
    Column("alert_id", String(36), ForeignKey("alerts.alert_id"), nullable=False),
    Column("verdict", String(8), nullable=False),
    Column("heard", String(32), nullable=False),
    Column("chosen", String(16), nullable=False),
    Column("judge", String(63), nullable=False),
    Column("note", String(500), nullable=False),
    Column("at_utc", Utc, nullable=False),
    Index("verdicts_by_alert", "alert_id", "seq"),
    sqlite_autoincrement=True,
)

incident_log = Table(
    "incident_log",
    metadata,
    Column("seq", SEQ, primary_key=True, autoincrement=True),
    Column("incident_id", String(36), ForeignKey("alerts.alert_id"), nullable=False),
    Column("at_utc", Utc, nullable=False),
    Column("who", String(63), nullable=False),
    Column("action", String(16), nullable=False),
    Column("assignee", String(63), nullable=False),
    Column("note", String(500), nullable=False),
    Index("incident_log_by_incident", "incident_id", "seq"),
    sqlite_autoincrement=True,
)

field_events = Table(
    "field_events",
    metadata,
    Column("seq", SEQ, primary_key=True, autoincrement=True),
    Column("digest", LargeBinary(16), nullable=False, unique=True),
    Column("device_id", String(63), ForeignKey("devices.device_id"), nullable=False),
    Column("run", String(32), nullable=False),
    Column("kind", String(100), nullable=False),
    Column("at_utc", Utc),
    Column("dated", String(16), nullable=False),
    Column("alert_id", String(36)),
    Column("fields", Text, nullable=False),
    Column("imported_utc", Utc, nullable=False),
    Index("field_events_by_device", "device_id", "seq"),
    Index("field_events_by_alert", "alert_id"),
    sqlite_autoincrement=True,
)

audit = Table(
    "audit",
    metadata,
    Column("seq", SEQ, primary_key=True, autoincrement=True),
    Column("at_utc", Utc, nullable=False),
    Column("who", String(63), nullable=False),
    Column("action", String(32), nullable=False),
    Column("subject", String(63), nullable=False),
    Column("detail", Text, nullable=False),
    Index("audit_by_subject", "subject", "seq"),
    sqlite_autoincrement=True,
)

journal_files = Table(
    "journal_files",
    metadata,
    Column("seq", SEQ, primary_key=True, autoincrement=True),
    Column("device_id", String(63), ForeignKey("devices.device_id"), nullable=False),
    Column("run", String(32), nullable=False),
    Column("number", Integer, nullable=False),
    Column("boot_id", String(64), nullable=False),
    Column("first_s", Float, nullable=False),
    Column("last_s", Float, nullable=False),
    Column("zero_utc", Utc),
    Column("dated", String(16), nullable=False),
    Column("first_utc", Utc),
    Column("last_utc", Utc),
    Column("n_lines", Integer, nullable=False),
    Column("n_windows", Integer, nullable=False),
    Column("n_bytes", Integer, nullable=False),
    Column("kept_utc", Utc, nullable=False),
    Column("data", LargeBinary, nullable=False),  # last: lists never read it
    UniqueConstraint("device_id", "run", "number"),
    Index("journal_files_by_time", "device_id", "last_utc"),
    Index("journal_files_by_arrival", "kept_utc"),
    sqlite_autoincrement=True,
)

journal_tracks = Table(
    "journal_tracks",
    metadata,
    Column("file_seq", SEQ, ForeignKey("journal_files.seq", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("data", LargeBinary, nullable=False),
)

people = Table(
    "people",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("role", String(16), nullable=False),
    Column("password", String(200), nullable=False),
    Column("added_utc", Utc, nullable=False),
)

sessions = Table(
    "sessions",
    metadata,
    Column("digest", LargeBinary(32), primary_key=True),
    Column("name", String(63), ForeignKey("people.name"), nullable=False),
    Column("csrf", String(64), nullable=False),
    Column("expires_utc", Utc, nullable=False),
)

attempts = Table(
    "attempts",
    metadata,
    Column("seq", SEQ, primary_key=True, autoincrement=True),
    Column("name", String(63), nullable=False),
    Column("at_utc", Utc, nullable=False),
    Index("attempts_by_time", "at_utc"),
    sqlite_autoincrement=True,
)

tokens = Table(
    "tokens",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("role", String(16), nullable=False),
    Column("digest", LargeBinary(32), nullable=False, unique=True),
    Column("added_utc", Utc, nullable=False),
)
