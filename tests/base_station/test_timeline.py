"""A log along time: few points keep what is least and greatest, and no line goes on over a gap."""

import math
from datetime import timedelta
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.journal import Journal, WindowRecord
from base_station import timeline
from base_station.fieldlog import import_journal
from tests.base_station.test_fieldlog import TRUE_START, Phone
from tests.base_station.test_shelf import SETTING

DAY = timedelta(days=1)


@st.composite
def lines(draw):
    """Return times 1.5 s apart with a few gaps between them, values, and how long a gap is."""
    n = draw(st.integers(1, 3000))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    steps = np.full(n, 1.5)
    for at in draw(st.lists(st.integers(0, n - 1), max_size=4)):
        steps[at] = draw(st.floats(100, 20_000))
    values = rng.random(n).astype(np.float32)
    values[rng.random(n) < draw(st.floats(0, 0.9))] = np.nan
    return 1.7e9 + np.cumsum(steps), values


@settings(deadline=None, max_examples=60)
@given(line=lines(), n_bins=st.integers(1, 400))
def test_few_points_keep_the_least_the_greatest_and_the_gaps(line, n_bins):
    times_s, values = line
    points = timeline.envelope(times_s, values, n_bins, break_s=4.0)
    shown = [(ms, value) for ms, value in points if value is not None]
    heard = values[np.isfinite(values)]
    assert [ms for ms, _ in points] == sorted(ms for ms, _ in points)
    assert len(points) <= max(2 * len(times_s) if len(times_s) <= 2 * n_bins else 0, 4 * n_bins)
    if not len(heard):
        assert shown == []
        return
    assert min(value for _, value in shown) == pytest.approx(float(heard.min()), abs=1e-4)
    assert max(value for _, value in shown) == pytest.approx(float(heard.max()), abs=1e-4)
    known = {round(1000 * at_s): value for at_s, value in zip(times_s.tolist(), values.tolist(), strict=True)}
    assert all(known[ms] == pytest.approx(value, abs=1e-4) for ms, value in shown)
    # a gap that is longer than the line may bridge is a gap of the drawing, too
    bin_s = (times_s[-1] - times_s[0]) / n_bins
    bridged_s = max(4.0, 2 * bin_s) if len(times_s) > 2 * n_bins else 4.0
    at_s = times_s[np.isfinite(values)]
    for idx in np.flatnonzero(np.diff(at_s) > bridged_s + 0.01):
        begin_ms, end_ms = 1000 * at_s[idx], 1000 * at_s[idx + 1]
        assert any(value is None and begin_ms <= ms <= end_ms for ms, value in points)


@settings(deadline=None, max_examples=30)
@given(line=lines(), n_bins=st.integers(5, 50))
def test_each_part_of_a_span_keeps_its_own_peak(line, n_bins):
    times_s, values = line
    if len(times_s) <= 2 * n_bins:
        return
    shown = [(ms, v) for ms, v in timeline.envelope(times_s, values, n_bins, break_s=4.0) if v is not None]
    edges = np.linspace(times_s[0], times_s[-1], n_bins + 1)
    for begin_s, end_s in pairwise(edges):
        within = (times_s >= begin_s + 0.01) & (times_s < end_s - 0.01) & np.isfinite(values)
        if within.any():
            peak = max((v for ms, v in shown if 1000 * begin_s - 20 <= ms <= 1000 * end_s + 20), default=-math.inf)
            assert peak >= float(values[within].max()) - 1e-4


def log_of_a_night(folder, device_id="ipe-07"):
    """Write a log: it hears, goes deaf, is off for an hour, saves power, loses sound, hears a saw."""
    phone = Phone()

    def minutes(journal, count, first, byte=-100, **more):
        for number in range(count):
            for _ in range(40):
                phone.uptime_s += 1.5
                sample = round((phone.uptime_s - first) * 16_000)
                journal.window(WindowRecord(sample, gated=False, output=bytes([byte & 0xFF, 0x81])))
            journal.minute(level_dbfs=-50.0 + number, queue=0, **more)

    with Journal(folder, phone.clock, device_id=device_id) as journal:
        journal.describe(SETTING)
        journal.event("start", reason="told to")
        minutes(journal, 3, 100)
        journal.event("state_begins", state="zeros", reason="Android gives zeros")
        minutes(journal, 2, 100)
        journal.event("state_ends", state="zeros", held_s=120.0, reason="seen working again")
        journal.event("power", level="saving", before="full", reason="30 %")
        minutes(journal, 2, 100)
        journal.event("power", level="full", before="saving", reason="60 %")
        journal.event("stop", reason="battery empty")
    phone.uptime_s += 3600
    with Journal(folder, phone.clock, device_id=device_id) as journal:
        journal.describe(SETTING)
        first = phone.uptime_s
        journal.event("start", reason="power loss")
        lost = [{"at_s": 60.0, "lost_s": 4.0, "reason": "overrun"}]
        minutes(journal, 2, first, gaps=lost)
        minutes(journal, 1, first, byte=100)
        for n, label in enumerate(("chainsaw", "engine")):
            ident = f"00000000-0000-4000-8000-{n:012d}"
            journal.event("alert", alert_id=ident, revision=0, label=label, score=0.9, onset_s=1.0, raised_s=2.0)
            journal.event("alert", alert_id=ident, revision=1, label=label, score=0.9, onset_s=1.0, raised_s=2.0)
    return folder


@pytest.mark.parametrize("database_url", ["sqlite", "postgresql"], indirect=True)
def test_a_night_s_log_says_when_it_was_deaf_off_saving_and_which_alerts_never_arrived(
    station, ipe, alert_of, tmp_path
):
    import_journal(station.store, log_of_a_night(tmp_path / "journal"), station.clock())
    station.send(ipe, alert_of("ipe-07", alert_id="00000000-0000-4000-8000-000000000000", log_mel=None))
    found = timeline.load(station.store, "ipe-07", TRUE_START - DAY, TRUE_START + DAY)
    told = [
        (s.kind, s.what, s.reason, round(s.begin_s - TRUE_START.timestamp()), s.end_s - s.begin_s)
        for s in found.stretches
    ]
    assert told == [
        ("deaf", "zeros", "Android gives zeros", 180, pytest.approx(120, abs=0.1)),
        ("saving", "saving", "30 %", 300, pytest.approx(120, abs=0.1)),
        ("off", "", "battery empty", 420, pytest.approx(3600, abs=0.1)),
        ("lost", "", "overrun", 4076, pytest.approx(4, abs=0.1)),
        ("lost", "", "overrun", 4076, pytest.approx(4, abs=0.1)),
    ]
    assert [(alert.label, alert.arrived) for alert in found.alerts] == [("chainsaw", True), ("engine", False)]
    assert len(found.window_s) == found.n_heard == 400
    assert found.n_files == 2
    points = found.label_points("chainsaw", found.begin_s, found.end_s, 20)
    assert max(value for _, value in points if value is not None) == pytest.approx(228 / 256, abs=1e-3)
    off_ms = [ms for ms, value in points if value is None]
    assert any(TRUE_START.timestamp() + 400 < ms / 1000 < TRUE_START.timestamp() + 4100 for ms in off_ms)
    levels = found.measure_points("level_dbfs", found.begin_s, found.end_s, 200)
    assert [value for _, value in levels][:3] == [-50.0, -49.0, -48.0]
    assert found.measure_points("percent", found.begin_s, found.end_s, 200) == []


def test_a_span_without_a_log_has_no_timeline_and_a_long_one_is_cut(station, ipe, tmp_path):
    assert timeline.load(station.store, "ipe-07", TRUE_START, TRUE_START + DAY) is None
    import_journal(station.store, log_of_a_night(tmp_path / "journal"), station.clock())
    assert timeline.load(station.store, "nobody", TRUE_START - DAY, TRUE_START + DAY) is None
    assert timeline.load(station.store, "ipe-07", TRUE_START - 40 * DAY, TRUE_START + DAY) is None
    part = timeline.load(station.store, "ipe-07", TRUE_START, TRUE_START + timedelta(seconds=240))
    assert [one.kind for one in part.stretches] == ["deaf"]
    assert part.end_s - part.begin_s == pytest.approx(240)
    points = part.label_points("chainsaw", part.begin_s, part.end_s, 500)
    assert all(1000 * part.begin_s <= ms <= 1000 * part.end_s for ms, _ in points)
