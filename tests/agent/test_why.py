"""Why was there no alert at 11:42? Every answer that a field log can give, each from a log that says so."""

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from agent.__main__ import main
from agent.errors import ConfigError
from agent.story import Story, end_utc, tell
from agent.why import minute_of

QUIET = (-60, -60, -60)
SAW = (60, -60, -60)
WEAK = (10, -60, -60)
"""Score 0.73, where 0.8 is a hit."""


def at(clock: str) -> datetime:
    return datetime.fromisoformat(f"2026-11-23T{clock}+00:00")


def told(field, clock: str) -> Story:
    field.journal.close()
    return tell(field.folder / "journal", at(clock), UTC)


def until(field, clock: str, *windows) -> None:
    """Hear the same until a time of day."""
    while field.wall_s < at(clock).timestamp():
        field.hear(*windows)


def test_a_window_below_the_threshold_is_named_with_what_it_lacks(field):
    until(field, "11:42:20", QUIET)
    field.hear(WEAK)
    until(field, "11:45", QUIET)
    reason = told(field, "11:42").reasons()["chainsaw"]
    assert "highest was 0.7311, 0.0689 below" in reason


def test_hits_that_are_too_few_are_counted(field):
    until(field, "11:42:20", QUIET)
    field.hear(SAW)
    until(field, "11:45", QUIET)
    assert "1 of the last 3 windows reached 0.8, 2 were needed" in told(field, "11:42").reasons()["chainsaw"]


def test_an_alert_is_named_with_its_receipt(field):
    until(field, "11:42:20", QUIET)
    field.hear(SAW, SAW)
    field.journal.event("alert", alert_id="5d0c9e0a", revision=0, label="chainsaw")
    until(field, "11:43:10", QUIET)
    field.journal.event("delivered", alert_id="5d0c9e0a", revision=0)
    reason = told(field, "11:42").reasons()["chainsaw"]
    assert reason.startswith("alert at 11:42:2")
    assert "by k of n; alert 5d0c9e0a, received by the station at 2026-11-23 11:43:1" in reason


def test_an_alert_without_a_receipt_says_so(field):
    until(field, "11:42:20", QUIET)
    field.hear(SAW, SAW)
    field.journal.event("alert", alert_id="5d0c9e0a", revision=0, label="chainsaw")
    until(field, "11:44", QUIET)
    assert "no receipt of the station so far" in told(field, "11:42").reasons()["chainsaw"]


def test_sound_of_an_event_that_was_open_already_belongs_to_its_alert(field):
    until(field, "11:41:30", QUIET)
    until(field, "11:44", SAW)
    assert "belongs to the event of 11:41:3" in told(field, "11:42").reasons()["chainsaw"]


def test_the_refractory_time_is_told_with_the_seconds_left(field):
    until(field, "11:41:48", QUIET)
    field.hear(SAW, SAW, QUIET, QUIET, QUIET, QUIET, QUIET)  # raised, and over after 6 s
    until(field, "11:42:02", QUIET)
    field.hear(SAW, SAW)
    until(field, "11:44", QUIET)
    reason = told(field, "11:42").reasons()["chainsaw"]
    assert "enough was heard at 11:42:0" in reason
    assert "less than 30 s after the last alert" in reason


def test_a_closed_gate_is_the_reason_where_the_model_heard_nothing(field):
    until(field, "11:45", None)
    assert "gate was closed for every window" in told(field, "11:42").reasons()["chainsaw"]


def test_a_label_that_is_never_reported_says_so(field):
    until(field, "11:45", QUIET)
    assert told(field, "11:42").reasons()["storm"].endswith("(this label is never reported)")


def test_a_deaf_state_leads_the_answer_while_it_holds_and_not_after(field):
    until(field, "11:41", QUIET)
    field.journal.event("state_begins", state="zeros", reason="every sample is 0")
    until(field, "11:42:30", QUIET)
    field.journal.event("state_ends", state="zeros", held_s=90.0)
    until(field, "11:46", QUIET)
    assert told(field, "11:42").reasons()["*"] == "zeros: every sample is 0"
    assert "*" not in told(field, "11:43").reasons()


def test_a_failed_model_is_an_alarm_and_not_no_chainsaw(field):
    until(field, "11:41:50", QUIET)
    field.journal.event("state_begins", state="model_failed", reason="the answer is NaN")
    for _ in range(3):
        field.pass_s(60)
        field.minute(states=["model_failed"])
    assert told(field, "11:42").reasons() == {"*": "model failed: the answer is NaN"}


def test_lost_audio_is_told_in_its_own_minute_alone(field):
    until(field, "11:42:20", QUIET)
    field.pass_s(20)
    field.end += 20 * 16_000
    at_s = field.end / 16_000
    field.hear(QUIET)
    field.minute(gaps=[{"at_s": at_s, "lost_s": 20.0, "reason": "duty pause"}])
    until(field, "11:46", QUIET)
    assert told(field, "11:42").reasons()["*"] == "20.0 s of audio lost: duty pause"
    assert "*" not in told(field, "11:44").reasons()


def test_an_agent_that_did_not_run_is_told_with_its_last_and_its_next_line(field):
    until(field, "11:20", QUIET)
    field.stop()
    field.pass_s(3600)
    field.start("power loss")
    until(field, "12:30", QUIET)
    reason = told(field, "11:42").reasons()["*"]
    assert "not running" in reason
    assert "11:20:0" in reason
    assert "(stop: told to)" in reason
    assert "(start: power loss)" in reason


def test_a_minute_behind_the_journals_end_says_what_may_not_be_on_disk(field):
    until(field, "11:20", QUIET)
    assert "may not be on disk yet" in told(field, "11:42").reasons()["*"]
    assert "begins later" in told(field, "10:00").reasons()["*"]


def test_what_was_written_before_the_clock_was_set_is_put_right(field):
    field.wall_s -= 100 * 86_400
    field.synced = False
    field.stop()
    field.start("power loss")
    field.hear(QUIET, times=1_600)  # 40 minutes
    field.hear(WEAK, times=40)
    field.wall_s += 100 * 86_400
    field.synced = True
    field.hear(QUIET, times=80)
    story = told(field, "11:40:00")
    assert story.certainty == "corrected"
    assert sum(moment.scores["chainsaw"] > 0.7 for moment in story.moments) >= 39


def test_the_latest_such_time_is_meant_unless_a_day_is_named(field):
    now = at("15:00:00")
    assert minute_of("11:42", None, UTC, now) == at("11:42:00")
    assert minute_of("16:00", None, UTC, now) == at("16:00:00") - timedelta(days=1)
    assert minute_of("11:42", date(2026, 11, 1), UTC, now) == datetime(2026, 11, 1, 11, 42, tzinfo=UTC)
    with pytest.raises(ConfigError, match="expected a time of day such as 11:42"):
        minute_of("quarter to", None, UTC, now)


def test_local_time_is_the_machines_own(monkeypatch):
    import time

    monkeypatch.setenv("TZ", "America/Manaus")
    time.tzset()
    try:
        assert minute_of("11:42", date(2026, 11, 23), None, at("12:00:00")) == at("15:42:00")
    finally:
        monkeypatch.undo()
        time.tzset()


def test_the_command_takes_the_latest_such_time_before_the_journals_end(field, capsys):
    until(field, "11:45", QUIET)
    field.stop()
    assert main(["why", "11:42", "--dir", str(field.folder), "--utc", "--json"]) == 0
    story = json.loads(capsys.readouterr().out)
    assert story["from"] == "2026-11-23T11:42:00+00:00"
    assert len(story["windows"]) == 40
    assert story["windows"][0]["scores"]["chainsaw"] == pytest.approx(0.0025)
    assert main(["why", "11:42", "--dir", str(field.folder), "--utc"]) == 0
    screen = capsys.readouterr().out
    assert "ipe-07, 2026-11-23 11:42:00 to 11:43:00 (UTC)" in screen
    assert "chainsaw: no window reached 0.8" in screen


def test_a_folder_without_a_journal_is_no_answer(tmp_path: Path, capsys):
    assert main(["why", "11:42", "--dir", str(tmp_path)]) == 1
    assert "holds no journal" in capsys.readouterr().err
    assert main(["why", "25:61", "--dir", str(tmp_path)]) == 1


def test_damage_is_counted_and_not_fatal(field):
    until(field, "11:45", QUIET)
    field.stop()
    (segment,) = (field.folder / "journal").glob("journal-*")
    segment.write_bytes(segment.read_bytes()[:-7])
    story = tell(field.folder / "journal", at("11:42"), UTC)
    assert story.damaged == 1
    assert len(story.moments) == 40
    assert end_utc(field.folder / "journal") is not None
