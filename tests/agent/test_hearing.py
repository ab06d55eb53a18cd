"""Each way of not hearing has a name, begins within ten seconds, and ends on real sound alone."""

from collections.abc import Callable

import numpy as np
import pytest

from agent.capture import Block
from agent.hearing import Hearing, level_dbfs
from agent.resample import Resampler

RATE = 16_000
HALF = 8_000
rng = np.random.default_rng(1)


def noise(_: int, level: float = 0.01) -> np.ndarray:
    return (level * rng.standard_normal(HALF)).astype(np.float32)


FROZEN = noise(0)

FAULTS: dict[str, Callable[[int], np.ndarray]] = {
    "zeros": lambda _: np.zeros(HALF, np.float32),
    "constant": lambda _: np.full(HALF, 0.25, np.float32),
    "stuck": lambda _: FROZEN,
    "too_quiet": lambda idx: noise(idx, 1e-6),
    "dc": lambda idx: noise(idx) + np.float32(0.3),
    "clipping": lambda idx: np.sign(noise(idx)).astype(np.float32),
}


def blocks(make: Callable[[int], np.ndarray], seconds: int, start: int = 0) -> list[Block]:
    made = []
    for idx in range(2 * seconds):
        samples = make(idx)
        clipped = int((np.abs(samples) >= 0.999).sum())
        made.append(Block(start=start + idx * HALF, samples=samples, clipped=clipped))
    return made


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_begins_within_ten_seconds_and_ends_with_real_sound(name: str) -> None:
    hearing = Hearing()
    for block in blocks(noise, 5):
        assert hearing.push(block) == []
    changes = [change for block in blocks(FAULTS[name], 12, 5 * RATE) for change in hearing.push(block)]
    assert [(change.name, change.begins) for change in changes] == [(name, True)]
    assert changes[0].at_sample <= 15 * RATE
    assert hearing.states == (name,)
    assert changes[0].detail
    back = [change for block in blocks(noise, 5, 17 * RATE) for change in hearing.push(block)]
    assert [(change.name, change.begins) for change in back] == [(name, False)]
    assert hearing.states == ()


@pytest.mark.parametrize("offset", [0.25, 0.01, -1.0])
def test_a_constant_is_still_one_behind_the_resampler(offset: float) -> None:
    hearing, resampler = Hearing(), Resampler(44_100, RATE)
    names: list[str] = []
    start = 0
    for _ in range(24):
        samples = resampler.push(np.full(22_050, offset, np.float32))
        names += [change.name for change in hearing.push(Block(start=start, samples=samples))]
        start += len(samples)
    assert names == ["constant"]


def test_a_stuck_block_is_still_one_behind_the_resampler() -> None:
    hearing, resampler = Hearing(), Resampler(48_000, RATE)
    block = (0.01 * rng.standard_normal(24_000)).astype(np.float32)
    changes = []
    for idx in range(12):
        changes += hearing.push(Block(start=idx * HALF, samples=resampler.push(block)))
    assert [change.name for change in changes] == ["stuck"]


def test_an_offset_does_not_hide_that_there_is_nothing_to_hear() -> None:
    hearing = Hearing()
    changes = [
        change
        for block in blocks(lambda idx: noise(idx, 8e-6) + np.float32(0.02), 12)
        for change in hearing.push(block)
    ]
    assert [change.name for change in changes] == ["too_quiet"]


def test_a_forest_at_night_and_a_loud_saw_are_both_good_hearing() -> None:
    hearing = Hearing()
    for level in (3e-5, 0.01, 0.15):
        for block in blocks(lambda idx, level=level: noise(idx, level), 12):
            assert hearing.push(block) == []


def test_no_blocks_is_a_state_too_and_ends_with_the_next_sound() -> None:
    hearing = Hearing()
    for block in blocks(noise, 3):
        hearing.push(block)
    changes = [change for second in range(4, 16) for change in hearing.tick(second * RATE)]
    assert [(change.name, change.begins) for change in changes] == [("no_audio", True)]
    assert changes[0].at_sample <= 13 * RATE
    back = [change for block in blocks(noise, 4, 16 * RATE) for change in hearing.push(block)]
    assert [(change.name, change.begins) for change in back] == [("no_audio", False)]


def test_silence_counts_from_the_last_sound_and_not_from_the_first_look() -> None:
    hearing = Hearing()
    for block in blocks(noise, 6):
        hearing.push(block)
    end = 6 * RATE
    assert hearing.tick(end + 2 * RATE) == []
    assert hearing.tick(end + 8 * RATE - 1) == []
    assert [change.name for change in hearing.tick(end + 8 * RATE)] == ["no_audio"]


def test_a_device_that_slept_is_not_silent_for_that() -> None:
    hearing = Hearing()
    for block in blocks(noise, 6):
        hearing.push(block)
    assert hearing.tick(600 * RATE) == []
    assert hearing.tick(603 * RATE) == []


def test_a_short_pause_is_no_state() -> None:
    hearing = Hearing()
    for round_idx in range(5):
        assert hearing.tick((10 * round_idx + 1) * RATE) == []
        for block in blocks(noise, 3, (10 * round_idx + 5) * RATE):
            assert hearing.push(block) == []


def test_levels() -> None:
    assert level_dbfs(np.zeros(100, np.float32)) == -120.0
    assert level_dbfs(np.empty(0, np.float32)) == -120.0
    assert level_dbfs(np.ones(100, np.float32)) == pytest.approx(0.0, abs=1e-4)
    sine = np.sin(np.arange(16_000) * 0.1).astype(np.float32)
    assert level_dbfs(sine) == pytest.approx(-3.01, abs=0.01)


def paced(rate: float, seconds: int, *, first_s: float = 100.0, jitter_s: float = 0.0) -> list[Block]:
    """Blocks of half a second of sound that come as from a card which runs at this share of the rate it names."""
    made = []
    for idx in range(2 * seconds):
        arrived_s = first_s + (idx + 1) * 0.5 / rate + jitter_s * (idx % 2)
        made.append(Block(start=idx * HALF, samples=noise(idx), arrived_s=arrived_s))
    return made


@pytest.mark.parametrize(("rate", "within_s"), [(3.0, 10), (2.0, 10), (0.5, 12), (1.2, 13), (48 / 44.1, 60)])
def test_a_rate_that_is_not_what_it_says_is_named(rate: float, within_s: float) -> None:
    hearing = Hearing()
    for block in paced(rate, 200):
        changes = hearing.push(block)
        if changes:
            assert [(change.name, change.begins) for change in changes] == [("wrong_rate", True)]
            assert block.arrived_s - 100.0 <= within_s
            assert " s of sound came in " in changes[0].detail
            break
    else:
        pytest.fail("nobody noticed")


@pytest.mark.parametrize(("rate", "jitter_s"), [(1.0, 0.0), (1.0, 0.45), (1.01, 0.0), (0.99, 0.3)])
def test_a_cheap_clock_and_late_blocks_are_no_wrong_rate(rate: float, jitter_s: float) -> None:
    hearing = Hearing()
    assert [change for block in paced(rate, 300, jitter_s=jitter_s) for change in hearing.push(block)] == []


def test_a_source_that_was_opened_again_is_timed_anew() -> None:
    hearing = Hearing()
    before = paced(1.0, 30)
    # a minute of nothing, then buffers that come at once
    after = [
        Block(start=block.start + 90 * RATE, samples=block.samples, arrived_s=block.arrived_s + 88.8)
        for block in before
    ]
    assert [change for block in before + after for change in hearing.push(block)] == []


def test_samples_that_are_no_numbers_are_a_state() -> None:
    hearing = Hearing()
    broken = [Block(start=idx * HALF, samples=np.zeros(HALF, np.float32), unreal=HALF // 2) for idx in range(6)]
    changes = [change for block in broken for change in hearing.push(block)]
    assert [change.name for change in changes] == ["unreal"]
    assert "4000 of 8000 samples are no numbers" in changes[0].detail


def test_a_flood_is_a_wrong_rate_though_most_of_it_is_lost() -> None:
    hearing = Hearing()
    for idx in range(40):  # every half second one block arrives of a hundred that were there
        hearing.push(Block(start=idx * 100 * HALF, samples=noise(idx), arrived_s=100.0 + 0.5 * idx))
        if hearing.states:
            break
    assert hearing.states == ("wrong_rate",)
    assert idx <= 20


def test_recordings_are_not_timed() -> None:
    hearing = Hearing()
    for block in blocks(noise, 60):
        hearing.push(block)
    assert hearing.states == ()
