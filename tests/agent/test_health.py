"""What a device counts, and the heartbeat made of it: totals go on, spans begin anew."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import VERSION, health
from agent.alert import Clock, Heartbeat, Position
from agent.config import DeviceConfig
from agent.health import Health, disk_free_mb, rss_mb
from agent.listen import Window
from agent.manifest import Manifest, Quantisation
from agent.outbox import Counts

Maker = Callable[..., Manifest]

RATE = 16_000
POSITION = Position(latitude=-3.1, longitude=-60.0)


def window(outputs: list[int] | None = None, level_dbfs: float = -40.0) -> Window:
    return Window(
        start=0,
        end=3 * RATE,
        outputs=None if outputs is None else np.array(outputs, np.int8),
        sampled=False,
        frames=None,
        level_dbfs=level_dbfs,
        detections=(),
    )


def clock(monotonic_s: float) -> Clock:
    return Clock(boot_id="5d0c77aa", monotonic_s=monotonic_s, utc="2026-11-20T11:42:07Z", utc_certainty="guess")


def counts(waiting: int) -> Counts:
    return Counts(waiting=waiting, parked=1, bytes=0, in_memory=2, dropped=3)


def make_health(manifest: Manifest, folder: Path = Path(), started_s: float = 100.0) -> Health:
    device = DeviceConfig(id="ipe-07", position=POSITION)
    return Health(device=device, manifest=manifest, folder=folder, started_s=started_s)


@pytest.fixture
def device(make_manifest: Maker, tmp_path: Path) -> Health:
    return make_health(make_manifest(output=Quantisation(scale=0.1, zero_point=0)), tmp_path)


def test_a_heartbeat_says_what_was_heard(device: Health) -> None:
    device.heard(60 * RATE)
    device.window(window([0, -128, 22]))
    device.window(window([-5, -100, 5]))
    device.window(window())
    device.dropped_s = 1.26
    beat = device.heartbeat(clock(160.0), queue=counts(3))
    assert (beat.device_id, beat.version, beat.position, beat.clock) == ("ipe-07", VERSION, POSITION, clock(160.0))
    assert beat.model_digest == device.manifest.digest
    assert (beat.uptime_s, beat.audio_s, beat.audio_per_wall) == (60.0, 60.0, 1.0)
    assert (beat.windows, beat.classified, beat.queue, beat.dropped_s) == (3, 2, 3, 1.3)
    assert beat.top_scores == {"chainsaw": 0.5, "engine": 0.0, "storm": 0.9}
    assert beat.level_dbfs == -40.0
    assert beat.states == ()
    assert beat.disk_free_mb > 0


def test_the_next_heartbeat_is_about_what_came_since(device: Health) -> None:
    device.heard(60 * RATE)
    device.window(window([127, 127, 127], level_dbfs=-10.0))
    device.heartbeat(clock(160.0), queue=counts(0))
    device.heard(15 * RATE)
    device.window(window([0, -20, -20], level_dbfs=-50.0))
    beat = device.heartbeat(clock(190.0), queue=counts(0))
    assert (beat.uptime_s, beat.audio_s, beat.windows, beat.classified) == (90.0, 75.0, 2, 2)
    assert beat.audio_per_wall == 0.5
    assert beat.top_scores["chainsaw"] == 0.5
    assert beat.level_dbfs == -50.0


def test_a_deaf_device_says_so(device: Health) -> None:
    beat = device.heartbeat(clock(400.0), queue=counts(0))
    assert (beat.audio_per_wall, beat.audio_s, beat.top_scores) == (0.0, 0.0, {})
    assert beat.level_dbfs == -120.0


def test_levels_are_averaged_as_power(device: Health) -> None:
    for level_dbfs in (-10.0, -40.0, -40.0, -40.0):
        device.window(window(level_dbfs=level_dbfs))
    assert device.heartbeat(clock(160.0), queue=counts(0)).level_dbfs == -16.0  # a quarter of the power of -10


@pytest.mark.parametrize("level_dbfs", [float("-inf"), float("nan"), -300.0])
def test_digital_silence_is_at_the_floor(device: Health, level_dbfs: float) -> None:
    device.window(window(level_dbfs=level_dbfs))
    assert device.heartbeat(clock(160.0), queue=counts(0)).level_dbfs == -120.0


def test_states_hold_from_their_begin_to_their_end(device: Health) -> None:
    assert device.begin("zeros", 110.0)
    assert not device.begin("zeros", 120.0)
    assert device.begin("clipping", 125.0)
    assert device.states == ("clipping", "zeros")
    assert device.heartbeat(clock(130.0), queue=counts(0)).states == ("clipping", "zeros")
    assert device.end("zeros", 140.0) == 30.0
    assert device.end("zeros", 150.0) is None
    assert device.states == ("clipping",)


def test_a_clock_that_stands_or_goes_back_breaks_nothing(device: Health) -> None:
    device.heard(RATE)
    for monotonic_s in (100.0, 100.0, 90.0):
        beat = device.heartbeat(clock(monotonic_s), queue=counts(0))
        assert beat.uptime_s == 0.0
        assert Heartbeat.from_json(beat.to_json()) == beat


STEPS = st.one_of(
    st.tuples(st.just("heard"), st.integers(0, 10**7)),
    st.tuples(st.just("window"), st.lists(st.integers(-128, 127), min_size=3, max_size=3) | st.none()),
    st.tuples(st.just("beat"), st.floats(0, 1e5)),
    st.tuples(st.sampled_from(["begin", "end"]), st.sampled_from(["zeros", "constant", "model_stuck"])),
)


@given(st.lists(STEPS, max_size=20), st.floats(-200, 20) | st.just(float("-inf")))
def test_the_station_reads_every_heartbeat(
    make_manifest: Maker, steps: list[tuple[str, object]], level_dbfs: float
) -> None:
    device = make_health(make_manifest())
    now_s, heard = 100.0, 0
    for kind, value in [*steps, ("beat", 1.0)]:
        if kind == "heard":
            heard += value  # type: ignore[operator]  # an int beside this word
            device.heard(value)  # type: ignore[arg-type]  # the same
        elif kind == "window":
            device.window(window(value, level_dbfs))  # type: ignore[arg-type]  # bytes beside this word
        elif kind == "beat":
            now_s += value  # type: ignore[operator]  # seconds beside this word
            beat = device.heartbeat(clock(now_s), queue=counts(0))
            assert Heartbeat.from_json(beat.to_json()) == beat
            assert beat.audio_s == round(heard / RATE, 1)
        else:
            getattr(device, kind)(value, now_s)


# ---- what the system tells


def test_memory_is_what_the_system_tells(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    statm = tmp_path / "statm"
    statm.write_text("5000 1000 7 7 0 7 0")
    monkeypatch.setattr(health, "_STATM", statm)
    monkeypatch.setattr(health.mmap, "PAGESIZE", 16_384)  # as on a Raspberry Pi 5
    assert rss_mb() == pytest.approx(16.384)


@pytest.mark.parametrize("content", [None, "", "5000", "many pages"])
def test_memory_that_nobody_tells_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str | None) -> None:
    statm = tmp_path / "statm"
    if content is not None:
        statm.write_text(content)
    monkeypatch.setattr(health, "_STATM", statm)
    assert rss_mb() == 0.0


def test_this_process_has_a_plausible_size() -> None:
    if not Path("/proc/self/statm").is_file():
        pytest.skip("no /proc here")
    assert 10 < rss_mb() < 100_000


def test_the_disk_of_a_missing_folder_is_unknown(tmp_path: Path) -> None:
    assert (disk_free_mb(tmp_path) or 0.0) > 0
    assert disk_free_mb(tmp_path / "none") is None


def test_a_heartbeat_says_how_alerts_fare_and_how_far_behind_it_was(device: Health) -> None:
    device.start_reason = "power loss"
    device.lag_s = 5.04
    beat = device.heartbeat(clock(160.0), counts(4), reopenings=7)
    assert (beat.queue, beat.parked, beat.in_memory, beat.lost_alerts) == (4, 1, 2, 3)
    assert (beat.start_reason, beat.lag_s, beat.reopenings) == ("power loss", 5.0, 7)
    assert device.heartbeat(clock(220.0), counts(4)).lag_s == 0.0


def test_a_heartbeat_is_small_even_when_everything_is_wrong(device: Health) -> None:
    for state in ("zeros", "constant", "stuck", "too_quiet", "dc", "clipping", "wrong_rate", "no_audio", "overrun"):
        device.begin(state, 101.0)
    for state in ("behind", "model_failed", "outbox_failed", "disk_failed", "journal_failed"):
        device.begin(state, 101.0)
    device.window(window([0, -128, 22]))
    assert len(device.heartbeat(clock(1e7), counts(100_000), reopenings=100_000).to_json()) < 1_000
