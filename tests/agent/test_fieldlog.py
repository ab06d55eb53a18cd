"""Field logs looked at again: where they lie, when things were heard, and what damage does to the answers."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import StorageError
from agent.fieldlog import WallClock, is_whole, journal_folders, rules_of, window_utc
from agent.journal import read
from agent.redecide import compare
from agent.service import setting_of
from agent.story import tell
from tests.agent.field import Field

QUIET, SAW = (-60, -60, -60), (60, -60, -60)


@pytest.fixture(scope="module")
def log(tmp_path_factory, make_manifest) -> bytes:
    """Return a journal's whole file: half an hour with a saw, a gap, a state and an alert."""
    phone = Field(tmp_path_factory.mktemp("phone"), make_manifest())
    phone.hear(*[QUIET] * 40, SAW, SAW, None)
    phone.journal.event("alert", alert_id="a", revision=0, label="chainsaw", score=0.9, onset_s=1.0, raised_s=4.0)
    phone.journal.event("state_begins", state="zeros", reason="every sample is 0")
    phone.minute(gaps=[{"at_s": 3.0, "lost_s": 2.0, "reason": "source reopened"}])
    phone.hear(*[QUIET] * 80)
    phone.stop()
    (segment,) = (phone.folder / "journal").glob("journal-*")
    return segment.read_bytes()


def answers(folder: Path) -> None:
    """Ask everything that can be asked; nothing may raise."""
    compare(folder, {})
    list(tell(folder, datetime(2026, 11, 23, 11, 1, tzinfo=UTC), UTC).reasons())


@given(st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 7)), min_size=1, max_size=12))
@settings(max_examples=150)
def test_bit_flips_cost_lines_and_never_the_answer(tmp_path_factory, log, flips):
    rotten = bytearray(log)
    for place, bit in flips:
        rotten[int(place * len(rotten))] ^= 1 << bit
    folder = tmp_path_factory.mktemp("rotten")
    (folder / "journal-00000000.jsonl").write_bytes(rotten)
    answers(folder)


def test_a_log_cut_at_every_byte_of_its_last_lines_still_answers(tmp_path, log):
    path = tmp_path / "journal-00000000.jsonl"
    for end in range(log.rstrip(b"\n").rfind(b"\n", 0, len(log) - 200), len(log) + 1, 3):
        path.write_bytes(log[:end])
        answers(tmp_path)


def test_rules_that_are_damaged_are_known_to_be(make_manifest):
    from dataclasses import replace

    setting = setting_of(make_manifest())
    assert is_whole(setting)
    assert rules_of(setting) == dict(make_manifest().rules)
    assert not is_whole(replace(setting, rules={**setting.rules, "chainsaw": {"threshold": 7}}))


def test_a_window_is_placed_by_the_line_behind_it(field):
    field.hear(*[QUIET] * 10)
    field.minute()
    field.journal.close()
    (line,) = [line for line in read(field.folder / "journal") if line.windows]
    written = WallClock().utc(line)
    times = [(written - window_utc(line, record, written)).total_seconds() for record in line.windows]
    assert times == [1.5 * number for number in range(9, -1, -1)]


def test_journals_are_found_however_they_were_copied(tmp_path):
    for name in ("ipe-07/journal", "box 2/jatoba-02/journal", "loose"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "journal-00000000.jsonl").touch()
    assert [str(path.relative_to(tmp_path)) for path in journal_folders(tmp_path)] == [
        "box 2/jatoba-02/journal",
        "ipe-07/journal",
        "loose",
    ]
    with pytest.raises(StorageError, match="holds no journal"):
        journal_folders(tmp_path / "none")
