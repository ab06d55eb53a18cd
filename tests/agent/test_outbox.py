"""The queue on disk: order, durability, bounds, and disks that break or refuse."""

import contextlib
import sqlite3
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agent import outbox as outbox_module
from agent.alert import Alert, Clock
from agent.errors import StorageError
from agent.mirror import Mirror
from agent.outbox import LARGEST_SPARE_BYTES, OUTBOX_SCHEMA, Message, Outbox

REPO = Path(__file__).resolve().parents[2]
LATER = 1e9


def make_alert(number: int, revision: int = 0, *, padding: int = 0) -> Alert:
    """Return an alert; `padding` makes it heavier."""
    return Alert(
        alert_id=str(uuid.UUID(int=number)),
        revision=revision,
        state="closed" if revision else "open",
        device_id="ipe-07",
        label="chainsaw",
        score=0.97,
        onset_s=12.0,
        raised_s=15.0,
        clock=Clock(boot_id="0123-4567", monotonic_s=1.0, utc="2026-11-20T11:42:07.250Z", utc_certainty="guess"),
        model_digest="m" * min(padding, 64),
        level_dbfs=-31.5,
    )


def name(message: Message | None) -> tuple[int, int] | None:
    return None if message is None else (uuid.UUID(message.alert_id).int, message.revision)


def drain(outbox: Outbox, now_s: float = 0.0) -> list[tuple[int, int]]:
    """Deliver everything that is due, and return it in the order in which it went."""
    order: list[tuple[int, int]] = []
    while (message := outbox.due(now_s)) is not None:
        order.append((uuid.UUID(message.alert_id).int, message.revision))
        outbox.delivered(*message.key)
    return order


def iter_due(outbox: Outbox) -> Iterator[Message]:
    """Deliver everything that is due, and yield it."""
    while (message := outbox.due(0.0)) is not None:
        yield message
        outbox.delivered(*message.key)


def copy_of(path: Path) -> Path:
    return path.with_name(path.name + ".copy")


def rot(path: Path, seq: int) -> None:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("UPDATE messages SET body = replace(body, '0.97', '0.79') WHERE seq = ?", (seq,))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "outbox.db"


@pytest.fixture
def outbox(path: Path) -> Iterator[Outbox]:
    with Outbox(path) as opened:
        yield opened


# Order


def test_what_is_due_is_what_was_put_byte_for_byte(outbox: Outbox) -> None:
    alert = make_alert(1)
    outbox.put(alert)
    message = outbox.due(0.0)
    assert message is not None
    assert message.body == alert.to_json()
    assert Alert.from_json(message.body) == alert


def test_after_an_outage_the_newest_saw_goes_first_and_the_rest_in_order(outbox: Outbox) -> None:
    for number, revision in [(1, 0), (1, 1), (2, 0), (3, 0), (2, 1), (4, 0), (4, 1)]:
        outbox.put(make_alert(number, revision))
    assert drain(outbox) == [(4, 0), (1, 0), (1, 1), (2, 0), (3, 0), (2, 1), (4, 1)]


def test_a_saw_heard_while_the_queue_drains_goes_ahead(outbox: Outbox) -> None:
    for number in (1, 2, 3):
        outbox.put(make_alert(number))
    assert name(outbox.due(0.0)) == (3, 0)
    outbox.delivered(*make_key(3))
    assert name(outbox.due(0.0)) == (1, 0)
    outbox.put(make_alert(4))
    assert drain(outbox) == [(4, 0), (1, 0), (2, 0)]


def make_key(number: int, revision: int = 0) -> tuple[str, int]:
    return str(uuid.UUID(int=number)), revision


def test_a_closing_waits_for_its_opening(outbox: Outbox) -> None:
    outbox.put(make_alert(1))
    outbox.put(make_alert(1, 1))
    outbox.failed(*make_key(1), 50.0, "no")
    assert outbox.due(10.0) is None
    assert outbox.next_due_s() == 50.0
    assert drain(outbox, 50.0) == [(1, 0), (1, 1)]


@pytest.mark.parametrize("settle", [Outbox.delivered, lambda box, *key: box.park(*key, "no such device")])
def test_a_closing_goes_once_its_opening_is_settled(outbox: Outbox, settle: Callable[..., None]) -> None:
    outbox.put(make_alert(1))
    outbox.put(make_alert(1, 1))
    settle(outbox, *make_key(1))
    assert name(outbox.due(0.0)) == (1, 1)


def test_one_bad_alert_does_not_block_the_rest(outbox: Outbox) -> None:
    for number in (1, 2, 3):
        outbox.put(make_alert(number))
    outbox.failed(*make_key(3), 100.0, "station error 500")
    assert drain(outbox, 1.0) == [(2, 0), (1, 0)]
    assert drain(outbox, 100.0) == [(3, 0)]


def test_a_pardoned_alert_goes_at_once(outbox: Outbox) -> None:
    outbox.put(make_alert(1))
    outbox.failed(*make_key(1), 100.0, "no answer")
    outbox.wake_up(*make_key(1))
    assert name(outbox.due(0.0)) == (1, 0)


def test_the_same_revision_twice_is_one(outbox: Outbox) -> None:
    outbox.put(make_alert(1))
    outbox.put(make_alert(1))
    assert outbox.counts().waiting == 1
    assert drain(outbox) == [(1, 0)]


def test_put_wakes_the_sender(outbox: Outbox) -> None:
    assert not outbox.wake.is_set()
    outbox.put(make_alert(1))
    assert outbox.wake.is_set()


# Restarts


def test_alerts_and_their_steps_survive_a_restart_and_deadlines_do_not(path: Path) -> None:
    with Outbox(path) as outbox:
        outbox.put(make_alert(1))
        outbox.put(make_alert(2))
        outbox.park(*make_key(2), "clip too long")
        for _ in range(3):
            outbox.failed(*make_key(1), LATER, "no answer")
    with Outbox(path) as outbox:
        message = outbox.due(0.0)  # a clock that began anew
        assert message is not None
        assert (name(message), message.attempts) == ((1, 0), 3)
        assert (outbox.counts().waiting, outbox.counts().parked) == (1, 1)


def test_the_file_says_which_schema_it_has(path: Path, outbox: Outbox) -> None:
    db = sqlite3.connect(path)
    assert db.execute("PRAGMA user_version").fetchone() == (OUTBOX_SCHEMA,)
    db.close()


def test_a_put_is_on_disk_when_it_returns(outbox: Outbox) -> None:
    assert outbox._db is not None
    assert outbox._db.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
    assert outbox._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_kill_9_between_put_and_delivery_loses_nothing(path: Path) -> None:
    program = (
        "import os, signal, sys; sys.path.insert(0, 'tests/agent')\n"
        "from pathlib import Path; from test_outbox import Outbox, make_alert, make_key\n"
        f"outbox = Outbox(Path({str(path)!r}))\n"
        "for number in range(1, 6): outbox.put(make_alert(number))\n"
        "outbox.delivered(*make_key(2)); outbox.due(0.0)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    child = subprocess.run([sys.executable, "-c", program], cwd=REPO, check=False, capture_output=True, text=True)
    assert child.returncode == -9, child.stderr
    with Outbox(path) as outbox:
        assert outbox.set_aside is None
        assert sorted(drain(outbox)) == [(1, 0), (3, 0), (4, 0), (5, 0)]


class AsAList(RuleBasedStateMachine):
    """The outbox must behave like a list that is written with a pencil."""

    @dataclass
    class Row:
        number: int
        revision: int
        seq: int
        attempts: int = 0
        parked: bool = False

    @dataclass
    class Model:
        rows: "list[AsAList.Row]" = field(default_factory=list)
        resting: dict[tuple[int, int], float] = field(default_factory=dict)
        front: int = 0

    def __init__(self) -> None:
        super().__init__()
        self._folder = Path(self._temporary())
        self.path = self._folder / "outbox.db"
        self.outbox = Outbox(self.path)
        self.model = self.Model()
        self.now_s = 0.0
        self.seq = 0

    @staticmethod
    def _temporary() -> str:
        import tempfile

        return tempfile.mkdtemp()

    def teardown(self) -> None:
        import shutil

        self.outbox.close()
        shutil.rmtree(self._folder)

    def expected(self) -> "AsAList.Row | None":
        waiting = [row for row in self.model.rows if not row.parked]
        openings = {row.number for row in waiting if row.revision == 0}
        free = [
            row
            for row in waiting
            if self.model.resting.get((row.number, row.revision), 0.0) <= self.now_s
            and not (row.revision == 1 and row.number in openings)
        ]
        ahead = [row for row in free if row.revision == 0 and row.seq > self.model.front]
        if ahead:
            return max(ahead, key=lambda row: row.seq)
        return min(free, key=lambda row: row.seq, default=None)

    @rule(number=st.integers(1, 6), revision=st.integers(0, 1))
    def put(self, number: int, revision: int) -> None:
        self.outbox.put(make_alert(number, revision))
        if all((row.number, row.revision) != (number, revision) for row in self.model.rows):
            self.seq += 1
            self.model.rows.append(self.Row(number, revision, self.seq))

    def settle(self, row: "AsAList.Row") -> None:
        self.model.resting.pop((row.number, row.revision), None)
        if row.revision == 0:
            self.model.front = max(self.model.front, row.seq)

    @rule()
    def deliver(self) -> None:
        row = self.expected()
        if row is not None:
            self.outbox.delivered(*make_key(row.number, row.revision))
            self.settle(row)
            self.model.rows.remove(row)

    @rule()
    def refuse(self) -> None:
        row = self.expected()
        if row is not None:
            self.outbox.park(*make_key(row.number, row.revision), "refused")
            self.settle(row)
            row.parked = True

    @rule(rest_s=st.floats(0, 20))
    def fail(self, rest_s: float) -> None:
        row = self.expected()
        if row is not None:
            self.outbox.failed(*make_key(row.number, row.revision), self.now_s + rest_s, "no answer")
            self.model.resting[row.number, row.revision] = self.now_s + rest_s
            row.attempts += 1

    @rule(later_s=st.floats(0, 15))
    def wait(self, later_s: float) -> None:
        self.now_s += later_s

    @rule(hard=st.booleans())
    def restart(self, hard: bool) -> None:
        forgotten = self.outbox
        if not hard:
            forgotten.close()
        self.outbox = Outbox(self.path)
        forgotten.close()
        self.now_s = 0.0
        self.model.resting.clear()
        self.model.front = 0

    @precondition(lambda self: self.model.resting)
    @rule()
    def pardon(self) -> None:
        number, revision = next(iter(self.model.resting))
        self.outbox.wake_up(*make_key(number, revision))
        del self.model.resting[number, revision]

    @invariant()
    def agrees(self) -> None:
        row, message = self.expected(), self.outbox.due(self.now_s)
        assert name(message) == (None if row is None else (row.number, row.revision))
        if row is not None and message is not None:
            assert message.attempts == row.attempts
        counts = self.outbox.counts()
        assert counts.waiting == sum(1 for row in self.model.rows if not row.parked)
        assert counts.parked == sum(1 for row in self.model.rows if row.parked)


AsAList.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None, derandomize=True)
TestTheOutboxAsAList = AsAList.TestCase


# Bounds


def test_when_full_refused_alerts_go_first_then_closings_then_the_oldest_openings(path: Path) -> None:
    row_bytes = len(make_alert(1).to_json()) + 512 + 2  # "closed" is two letters longer than "open"
    with Outbox(path, max_bytes=5 * row_bytes) as outbox:
        outbox.put(make_alert(1))
        outbox.put(make_alert(1, 1))
        outbox.put(make_alert(2))
        outbox.park(*make_key(2), "bad")
        outbox.put(make_alert(3))
        outbox.put(make_alert(4))
        assert outbox.take_dropped() == ()
        gone = []
        for number in range(5, 11):
            outbox.put(make_alert(number))
            gone += [(uuid.UUID(drop.alert_id).int, drop.revision, drop.reason) for drop in outbox.take_dropped()]
        full = "outbox full"
        assert gone == [
            (2, 0, "outbox full; refused before: bad"),
            (1, 1, full),
            (1, 0, full),
            (3, 0, full),
            (4, 0, full),
            (5, 0, full),
        ]
        assert outbox.counts().dropped == 6
        assert drain(outbox) == [(10, 0), (6, 0), (7, 0), (8, 0), (9, 0)]


def test_a_closing_never_pushes_out_an_opening(path: Path) -> None:
    row_bytes = len(make_alert(1).to_json()) + 512
    with Outbox(path, max_bytes=3 * row_bytes) as outbox:
        for number in (1, 2, 3):
            outbox.put(make_alert(number))
        outbox.put(make_alert(3, 1))
        assert [(drop.alert_id, drop.revision) for drop in outbox.take_dropped()] == [make_key(3, 1)]
        assert outbox.counts().waiting == 3


def test_the_last_opening_stays_whatever_it_weighs(path: Path) -> None:
    with Outbox(path, max_bytes=1) as outbox:
        outbox.put(make_alert(1))
        outbox.put(make_alert(2))
        assert drain(outbox) == [(2, 0)]


@given(st.lists(st.tuples(st.integers(1, 30), st.integers(0, 1)), max_size=60), st.integers(600, 9_000))
@settings(max_examples=30)
def test_the_bytes_stay_within_the_bound_and_every_loss_is_counted(
    tmp_path_factory: pytest.TempPathFactory, keys: list[tuple[int, int]], max_bytes: int
) -> None:
    with Outbox(tmp_path_factory.mktemp("bound") / "outbox.db", max_bytes=max_bytes) as outbox:
        dropped: list[tuple[int, int]] = []
        put: list[tuple[int, int]] = []
        for number, revision in keys:
            outbox.put(make_alert(number, revision))
            put.append((number, revision))
            dropped += [(uuid.UUID(drop.alert_id).int, drop.revision) for drop in outbox.take_dropped()]
            counts = outbox.counts()
            assert counts.bytes <= max_bytes or counts.waiting == 1
        assert outbox.counts().dropped == len(dropped)
        assert set(drain(outbox)) | set(dropped) == set(put)


# Broken files


@pytest.mark.parametrize("content", [b"this is not a database", b"SQLite format 3\0" + b"\xff" * 5_000])
def test_a_file_that_is_no_database_is_set_aside(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    with Outbox(path) as outbox:
        assert outbox.set_aside == path.with_name("outbox.db.broken-1")
        assert outbox.set_aside.read_bytes() == content
        outbox.put(make_alert(1))
        assert drain(outbox) == [(1, 0)]


def test_only_the_latest_broken_files_are_kept(path: Path) -> None:
    path.parent.mkdir()
    for _ in range(6):
        path.write_bytes(b"nonsense" * 100)
        Outbox(path).close()
    kept = sorted(found.name for found in path.parent.glob("*.broken-?"))
    assert kept == ["outbox.db.broken-4", "outbox.db.broken-5", "outbox.db.broken-6"]


@pytest.mark.parametrize(
    "spoil",
    ["PRAGMA user_version = 7", "ALTER TABLE messages RENAME COLUMN crc TO sum", f"UPDATE messages SET seq = {2**60}"],
)
def test_a_database_of_another_kind_is_set_aside(path: Path, spoil: str) -> None:
    with Outbox(path) as outbox:
        outbox.put(make_alert(1))
    db = sqlite3.connect(path)
    db.execute(spoil)
    db.commit()
    db.close()
    with Outbox(path) as outbox:
        assert outbox.set_aside is not None
        outbox.put(make_alert(2))
        assert (2, 0) in drain(outbox)


SCARRED = 12


@pytest.fixture(scope="module")
def whole_file(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("whole") / "outbox.db"
    with Outbox(path) as outbox:
        for number in range(1, SCARRED + 1):
            outbox.put(make_alert(number, padding=64))
        outbox.park(*make_key(SCARRED), "refused")
    return path.read_bytes()


@given(
    st.lists(st.tuples(st.floats(0, 0.9999), st.binary(min_size=1, max_size=64)), min_size=1, max_size=6),
    st.floats(0, 1),
    st.booleans(),
)
@settings(max_examples=80)
def test_corruption_anywhere_is_never_fatal_and_never_sent(
    tmp_path_factory: pytest.TempPathFactory,
    whole_file: bytes,
    scars: list[tuple[float, bytes]],
    cut_at: float,
    cut: bool,
) -> None:
    path = tmp_path_factory.mktemp("scars") / "outbox.db"
    content = bytearray(whole_file)
    for where, scar in scars:
        at = int(where * len(content))
        content[at : at + len(scar)] = scar
    path.write_bytes(content[: int(cut_at * len(content))] if cut else content)
    originals = {make_alert(number, padding=64).to_json() for number in range(1, SCARRED + 1)}
    with Outbox(path) as outbox:
        for _ in range(SCARRED + 1):
            message = outbox.due(0.0)
            if message is None:
                break
            assert message.body in originals
            outbox.delivered(*message.key)
        assert outbox.due(0.0) is None
        outbox.put(make_alert(99))
        assert drain(outbox) == [(99, 0)]
        assert outbox.disk_error == ""


@pytest.mark.parametrize("with_copy", [True, False])
def test_what_a_broken_file_held_is_carried_over(path: Path, with_copy: bool) -> None:
    with Outbox(path) as outbox:
        for number in range(1, 101):
            outbox.put(make_alert(number, padding=64))
        outbox.park(*make_key(50), "refused")
    content = bytearray(path.read_bytes())
    middle = len(content) // 2 // 4096 * 4096
    content[middle : middle + 4096] = b"\x07" * 4096
    path.write_bytes(content)
    if not with_copy:
        copy_of(path).unlink()
    with Outbox(path) as outbox:
        assert outbox.set_aside is not None
        assert outbox.salvaged == 100 if with_copy else 90 <= outbox.salvaged < 100
        counts = outbox.counts()
        assert counts.waiting + counts.parked == outbox.salvaged
        order = drain(outbox)
        assert order[0] == (100, 0)
        assert order[1:] == sorted(order[1:])


@pytest.mark.parametrize("open_", [True, False])
def test_a_body_that_rotted_comes_from_the_copy(path: Path, open_: bool) -> None:
    with Outbox(path) as outbox:
        for number in (1, 2, 3):
            outbox.put(make_alert(number))
        if open_:
            rot(path, 2)
            assert sorted(drain(outbox)) == [(1, 0), (2, 0), (3, 0)]
            assert (outbox.counts().waiting, outbox.counts().parked) == (0, 0)
    if not open_:
        rot(path, 2)
        with Outbox(path) as outbox:
            bodies = {name(message): message.body for message in iter_due(outbox)}
        assert bodies[(2, 0)] == make_alert(2).to_json()
        assert len(bodies) == 3


def test_a_body_that_rotted_without_a_copy_is_parked_and_the_rest_goes(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Outbox(path) as outbox:
        for number in (1, 2, 3):
            outbox.put(make_alert(number))
    rot(path, 2)
    copy_of(path).unlink()
    with Outbox(path) as outbox:
        assert drain(outbox) == [(3, 0), (1, 0)]
        assert (outbox.counts().waiting, outbox.counts().parked) == (0, 1)
        assert "damaged" in caplog.text
    with Outbox(path) as outbox:
        assert outbox.counts().parked == 1


def test_a_file_that_breaks_while_open_is_set_aside_and_the_put_succeeds(path: Path) -> None:
    with Outbox(path) as outbox:
        outbox.put(make_alert(1))
        outbox.close()  # it opens again by itself
        path.write_bytes(b"\x13" * 9_000)
        outbox.put(make_alert(2))
        assert outbox.set_aside is not None
        assert drain(outbox) == [(2, 0), (1, 0)]


# The copy


@given(st.data())
@settings(max_examples=60)
def test_either_file_alone_is_enough(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Whatever happens to one of the two between two starts, every alert goes out as it was put."""
    path = tmp_path_factory.mktemp("either") / "outbox.db"
    put: dict[tuple[int, int] | None, bytes] = {}
    for number in range(1, data.draw(st.integers(2, 6))):
        with Outbox(path) as outbox:
            alert = make_alert(number, padding=64)
            outbox.put(alert)
            put[(number, 0)] = alert.to_json()
        victim = data.draw(st.sampled_from([path, copy_of(path)]))  # the log is carried over when the outbox closes
        content = bytearray(victim.read_bytes())
        for _ in range(data.draw(st.integers(0, 8))):
            content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
        victim.write_bytes(content)
    with Outbox(path) as outbox:
        assert {name(message): message.body for message in iter_due(outbox)} == put


def test_rows_outlive_a_schema_that_no_longer_numbers_them(path: Path) -> None:
    """One byte of the schema's text, and the primary key is a column like any other, empty in every row."""
    for number in (1, 2, 3):
        with Outbox(path) as outbox:
            outbox.put(make_alert(number))
    content = bytearray(path.read_bytes())
    content[content.index(b"INTEGER PRIMARY KEY")] ^= 0x20  # still INTEGER
    path.write_bytes(content)
    with Outbox(path) as outbox:
        assert outbox.set_aside is None
    content = bytearray(path.read_bytes())
    content[content.lower().index(b"integer primary key") + len("intege")] ^= 0x01  # and now INTEGES
    path.write_bytes(content)
    copy_of(path).unlink()
    with Outbox(path) as outbox:
        assert sorted(name(message) for message in iter_due(outbox)) == [(1, 0), (2, 0), (3, 0)]
        assert outbox.set_aside is not None


def test_a_schema_that_python_cannot_even_quote_is_damage_like_any_other(path: Path) -> None:
    with Outbox(path) as outbox:
        outbox.put(make_alert(1))
    content = bytearray(path.read_bytes())
    at = content.index(b"CREATE TABLE messages")
    content[at + len("CREATE TABLE messages") + 1] = ord("'")  # SQLite quotes all that follows in its message
    content[at + len("CREATE TABLE messages") + 4] = 0xB7
    path.write_bytes(content)
    with Outbox(path) as outbox:
        assert [name(message) for message in iter_due(outbox)] == [(1, 0)]
        assert outbox.set_aside is not None


def test_the_copy_forgets_what_left_and_stays_bounded(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_module, "_COPY_SLACK_BYTES", 10_000)
    with Outbox(path) as outbox:
        outbox.put(make_alert(1))
        outbox.park(*make_key(1), "refused")
        for number in range(2, 200):
            outbox.put(make_alert(number))
            outbox.delivered(*make_key(number))
            assert copy_of(path).stat().st_size < 15_000
        assert Mirror(copy_of(path)).keys() == [make_key(1)]


def test_an_empty_outbox_has_an_empty_copy(path: Path) -> None:
    with Outbox(path) as outbox:
        outbox.put(make_alert(1))
        assert copy_of(path).stat().st_size > 0
        outbox.delivered(*make_key(1))
        assert copy_of(path).stat().st_size == 0


def test_an_outbox_from_before_the_copy_gets_one(path: Path) -> None:
    with Outbox(path) as outbox:
        outbox.put(make_alert(1))
    copy_of(path).unlink()
    with Outbox(path):
        assert Mirror(copy_of(path)).keys() == [make_key(1)]


def test_what_left_just_before_the_power_went_goes_out_once_more(path: Path) -> None:
    with Outbox(path) as outbox:
        outbox.put(make_alert(1))
        outbox.put(make_alert(2))
        before = copy_of(path).read_bytes()
        outbox.delivered(*make_key(1))
    copy_of(path).write_bytes(before)  # the note was not synced
    with Outbox(path) as outbox:
        assert sorted(drain(outbox)) == [(1, 0), (2, 0)]


def test_what_the_write_ahead_log_lost_comes_from_the_copy(path: Path) -> None:
    outbox = Outbox(path)
    for number in (1, 2, 3):
        outbox.put(make_alert(number))
    log = path.with_name(path.name + "-wal")
    content = bytearray(log.read_bytes())
    content[100] ^= 1
    files = {one.name: one.read_bytes() for one in (path, copy_of(path))}  # as kill -9 leaves them
    outbox.close()
    elsewhere = path.parent / "after"
    elsewhere.mkdir()
    for name_, kept in files.items():
        (elsewhere / name_).write_bytes(kept)
    (elsewhere / log.name).write_bytes(content)
    with Outbox(elsewhere / path.name) as outbox:
        assert drain(outbox) == [(3, 0), (1, 0), (2, 0)]


# Disks that refuse


class FullDisk:
    """A database whose writes fail while `full` is set."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self.full = False

    def execute(self, sql: str, *arguments: object) -> sqlite3.Cursor:
        if self.full and sql.startswith(("INSERT", "DELETE", "UPDATE")):
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise error
        return self._db.execute(sql, *arguments)

    def close(self) -> None:
        self._db.close()


@pytest.fixture
def full_disk(outbox: Outbox) -> FullDisk:
    outbox.due(0.0)
    assert outbox._db is not None
    disk = FullDisk(outbox._db)
    outbox._db = disk
    return disk


def test_on_a_full_disk_alerts_go_by_memory_in_the_same_order(outbox: Outbox, full_disk: FullDisk) -> None:
    outbox.put(make_alert(1))
    full_disk.full = True
    for number, revision in [(1, 1), (2, 0), (2, 1), (3, 0)]:
        with pytest.raises(StorageError, match=r"outbox.*full"):
            outbox.put(make_alert(number, revision))
    assert outbox.counts().in_memory == 4
    assert name(outbox.due(0.0)) == (3, 0)
    assert "full" in outbox.disk_error  # that it can still be read changes nothing
    assert drain(outbox) == [(3, 0), (1, 0), (1, 1), (2, 0), (2, 1)]
    assert outbox.counts().waiting == 0


def test_what_waited_in_memory_is_written_once_the_disk_takes_it(
    path: Path, outbox: Outbox, full_disk: FullDisk
) -> None:
    outbox.put(make_alert(1))
    full_disk.full = True
    with pytest.raises(StorageError):
        outbox.put(make_alert(2))
    outbox.delivered(*make_key(1))
    full_disk.full = False
    outbox.put(make_alert(3))
    assert outbox.disk_error == ""
    assert outbox.counts().in_memory == 0
    with Outbox(path) as other:
        assert drain(other) == [(3, 0), (2, 0)]


def test_an_alert_in_memory_rests_and_counts_its_attempts_too(outbox: Outbox, full_disk: FullDisk) -> None:
    full_disk.full = True
    for number in (1, 2, 2):
        with pytest.raises(StorageError):
            outbox.put(make_alert(number))
    assert outbox.counts().in_memory == 2
    outbox.failed(*make_key(2), 50.0, "no answer")
    assert name(outbox.due(0.0)) == (1, 0)
    full_disk.full = False
    outbox.delivered(*make_key(1))
    message = outbox.due(50.0)
    assert message is not None
    assert (name(message), message.attempts) == ((2, 0), 1)


def test_memory_is_bounded_too(outbox: Outbox, full_disk: FullDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_module, "LARGEST_SPARE_BYTES", 5_000)
    full_disk.full = True
    for number in range(1, 40):
        with pytest.raises(StorageError):
            outbox.put(make_alert(number))
    counts = outbox.counts()
    assert counts.bytes <= 5_000 < LARGEST_SPARE_BYTES
    assert counts.dropped + counts.waiting == 39
    assert len(outbox.take_dropped()) == counts.dropped
    assert name(outbox.due(0.0)) == (39, 0)


def test_a_path_that_cannot_be_opened_still_sends_from_memory(tmp_path: Path) -> None:
    (tmp_path / "outbox.db").mkdir()
    with Outbox(tmp_path / "outbox.db") as outbox:
        assert outbox.disk_error
        with pytest.raises(StorageError, match=r"outbox\.db"):
            outbox.due(0.0)
        with pytest.raises(StorageError, match=r"outbox\.db"):
            outbox.put(make_alert(1))
        assert drain_memory(outbox) == [(1, 0)]
        with pytest.raises(StorageError):
            outbox.put(make_alert(2))
        (tmp_path / "outbox.db").rmdir()
        outbox.put(make_alert(3))
        assert drain(outbox) == [(3, 0), (2, 0)]


def drain_memory(outbox: Outbox) -> list[tuple[int, int] | None]:
    order = []
    while outbox.counts().in_memory:
        message = outbox.due(0.0)
        assert message is not None
        order.append(name(message))
        outbox.delivered(*message.key)
    return order


def test_alerts_from_before_a_refused_start_are_joined_not_overwritten(path: Path) -> None:
    with Outbox(path) as outbox:
        outbox.put(make_alert(1))
        outbox.put(make_alert(2))
    hidden = path.with_name("hidden")
    path.rename(hidden)
    path.mkdir()
    with Outbox(path) as outbox:
        for number in (3, 4):
            with pytest.raises(StorageError):
                outbox.put(make_alert(number))
        path.rmdir()
        hidden.rename(path)
        outbox.put(make_alert(5))
        assert sorted(drain(outbox)) == [(number, 0) for number in (1, 2, 3, 4, 5)]


# Two threads


def test_one_thread_puts_while_another_sends(outbox: Outbox) -> None:
    sent: list[tuple[int, int]] = []

    def send() -> None:
        while len(sent) < 60:
            outbox.wake.wait(5.0)
            outbox.wake.clear()
            sent.extend(drain(outbox))

    sender = threading.Thread(target=send)
    sender.start()
    for number in range(1, 31):
        outbox.put(make_alert(number))
        outbox.put(make_alert(number, 1))
    sender.join(30.0)
    assert len(sent) == len(set(sent)) == 60
