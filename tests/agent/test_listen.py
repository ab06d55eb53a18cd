"""The path of a sound: windows in order and once each, whatever the blocks, the gaps and the model do."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from agent.capture import Block
from agent.classify import Classifier
from agent.decide import Decider, Detection, LabelRule
from agent.errors import ModelError
from agent.features import log_mel
from agent.gate import Gate
from agent.hearing import level_dbfs
from agent.listen import Listener, Window
from agent.manifest import Manifest

Float32 = NDArray[np.float32]
Int8 = NDArray[np.int8]

RATE = 16_000
WINDOW, STRIDE = 48_000, 24_000


@dataclass
class Scripted:
    """Answers by turn, and fails where the script says so."""

    answers: Sequence[int | None] = ()
    """First output byte of each call; None fails. Behind the script: -100."""
    seen: list[Float32] = field(default_factory=list)

    def outputs(self, frames: Float32) -> Int8:
        turn = len(self.seen)
        self.seen.append(frames.copy())
        answer = self.answers[turn] if turn < len(self.answers) else -100
        if answer is None:
            raise ModelError("scripted: the model failed")
        return np.array([answer, -100, -100], np.int8)


class ByLoudness:
    """Answers by what it sees: loud windows are saws, so that what is decided depends on the sound alone."""

    def outputs(self, frames: Float32) -> Int8:
        return np.array([100 if frames[-20:].max() > 0.0 else -100, -100, -100], np.int8)


def sound(seconds: float, seed: int = 0) -> Float32:
    """Return noise that is loud now and then, so that gate and model have something to say."""
    rng = np.random.default_rng(seed)
    samples = rng.standard_normal(round(seconds * RATE)) * 0.005
    for start_s in np.arange(14.0, seconds, 17.0):
        start = round(start_s * RATE)
        loud = samples[start : start + 5 * RATE]
        loud += 0.1 * np.sin(2.0 * np.pi * 440.0 * np.arange(len(loud)) / RATE)
    return samples.astype(np.float32)


def blocks(samples: Float32, sizes: Sequence[int], first: int = 0) -> list[Block]:
    """Cut samples into blocks of these sizes, again and again."""
    found, at, turn = [], 0, 0
    while at < len(samples):
        piece = samples[at : at + sizes[turn % len(sizes)]]
        found.append(Block(start=first + at, samples=piece))
        at += len(piece)
        turn += 1
    return found


def listener(manifest: Manifest, classifier: Classifier | None = None, gate: Gate | None = None) -> Listener:
    return Listener.of(manifest, classifier or Scripted(), gate)


def heard(ear: Listener, pieces: Sequence[Block]) -> list[Window]:
    return [window for block in pieces for window in ear.push(block)]


def facts(windows: Sequence[Window]) -> list[tuple[object, ...]]:
    """Return what must be equal exactly."""
    return [
        (
            window.start,
            window.end,
            None if window.outputs is None else tuple(window.outputs.tolist()),
            window.sampled,
            window.level_dbfs,
            window.detections,
        )
        for window in windows
    ]


@pytest.fixture(scope="module")
def manifest(make_manifest: Callable[..., Manifest]) -> Manifest:
    return make_manifest()


# Windows


def test_windows_follow_each_other_a_stride_apart(manifest: Manifest) -> None:
    windows = heard(listener(manifest), blocks(sound(10.0), [RATE]))
    assert [(window.start, window.end) for window in windows] == [
        (start, start + WINDOW) for start in range(0, 10 * RATE - WINDOW + 1, STRIDE)
    ]


def test_audio_shorter_than_a_window_gives_none(manifest: Manifest) -> None:
    ear = listener(manifest)
    assert heard(ear, blocks(sound(3.0)[:-1], [1_000])) == []
    assert ear.heard == WINDOW - 1
    assert len(heard(ear, [Block(start=WINDOW - 1, samples=np.zeros(1, np.float32))])) == 1


def test_an_empty_block_changes_nothing(manifest: Manifest) -> None:
    ear = listener(manifest)
    pieces = blocks(sound(6.0), [RATE])
    pieces.insert(3, Block(start=3 * RATE, samples=np.empty(0, np.float32)))
    assert len(heard(ear, pieces)) == 3


def test_the_sample_clock_may_begin_anywhere(manifest: Manifest) -> None:
    windows = heard(listener(manifest), blocks(sound(6.0), [RATE], first=777))
    assert [window.start for window in windows] == [777, 777 + STRIDE, 777 + 2 * STRIDE]


SOUND = sound(50.0)


@settings(max_examples=20)
@given(st.lists(st.integers(1, 200_000), min_size=1, max_size=4).filter(lambda sizes: sum(sizes) > 500))
def test_windows_do_not_depend_on_block_sizes(manifest: Manifest, sizes: list[int]) -> None:
    """Live audio comes in half seconds, replay in tens: both must say the same."""
    expected = heard(listener(manifest, ByLoudness(), Gate(manifest.gate, None)), blocks(SOUND, [8_000]))
    found = heard(listener(manifest, ByLoudness(), Gate(manifest.gate, None)), blocks(SOUND, sizes))
    assert facts(found) == facts(expected)
    assert sum(window.outputs is None for window in expected) > 5
    assert sum(len(window.detections) for window in expected) >= 2
    for one, other in zip(found, expected, strict=True):
        if one.frames is not None:
            assert other.frames is not None
            assert np.abs(one.frames - other.frames).max() < 1e-5


def test_frames_are_the_log_mel_of_the_windows_own_samples(manifest: Manifest) -> None:
    samples = sound(20.0)
    for window in heard(listener(manifest), blocks(samples, [7_919])):
        assert window.frames is not None
        own = log_mel(samples[window.start : window.end], manifest.features)
        assert np.abs(window.frames - own).max() < 1e-5


def test_the_level_is_of_the_last_stride(manifest: Manifest) -> None:
    samples = sound(30.0)
    for window in heard(listener(manifest), blocks(samples, [160_000])):
        assert window.level_dbfs == pytest.approx(level_dbfs(samples[window.end - STRIDE : window.end]), abs=1e-6)


def test_windows_may_lie_apart(make_manifest: Callable[..., Manifest]) -> None:
    """A stride longer than a window, to save power, leaves sound out and mixes nothing up."""
    sparse = make_manifest(stride_s=7.5)
    samples = sound(40.0)
    windows = heard(listener(sparse), blocks(samples, [RATE]))
    assert [window.start / RATE for window in windows] == [0.0, 7.5, 15.0, 22.5, 30.0]
    for window in windows:
        assert window.frames is not None
        own = log_mel(samples[window.start : window.end], sparse.features)
        assert np.abs(window.frames - own).max() < 1e-5
        assert window.level_dbfs == pytest.approx(level_dbfs(samples[window.start : window.end]), abs=1e-6)


def test_the_gate_hears_what_lies_between_windows_too(make_manifest: Callable[..., Manifest]) -> None:
    sparse = make_manifest(stride_s=4.5)
    windows = heard(listener(sparse, gate=Gate(sparse.gate, None)), blocks(SOUND, [8_000]))
    gate, heard_to = Gate(sparse.gate, None), 0
    for window in windows:
        gate.push(SOUND[heard_to : window.end])
        heard_to = window.end
        assert gate.verdict(window.start, window.end).passes == (window.outputs is not None)
    assert {window.outputs is None for window in windows} == {True, False}


# Lost audio


def test_a_window_never_spans_lost_audio(manifest: Manifest) -> None:
    samples = sound(30.0)
    gap_start, gap_end = 10 * RATE + 123, 17 * RATE + 456
    pieces = blocks(samples[:gap_start], [5_000]) + blocks(samples[gap_end:], [5_000], first=gap_end)
    windows = heard(listener(manifest), pieces)
    assert all(window.end <= gap_start or window.start >= gap_end for window in windows)
    assert next(window.start for window in windows if window.start >= gap_end) == gap_end
    for window in windows:
        assert window.frames is not None
        assert np.abs(window.frames - log_mel(samples[window.start : window.end], manifest.features)).max() < 1e-5


def test_the_gate_too_begins_anew_behind_lost_audio(manifest: Manifest) -> None:
    ear = listener(manifest, gate=Gate(manifest.gate, None))
    heard(ear, blocks(sound(13.0), [8_000]))
    quiet = sound(13.0, seed=4)
    windows = heard(ear, blocks(quiet, [8_000], first=100 * RATE))
    assert [window.outputs is None for window in windows] == [True] * len(windows)
    assert windows[0].start == 100 * RATE


# The gate


def test_the_model_sees_what_the_gate_passes_and_nothing_else(manifest: Manifest) -> None:
    classifier = Scripted()
    config = replace(manifest.gate, sample_every=4)
    windows = heard(listener(manifest, classifier, Gate(config, None)), blocks(SOUND, [8_000]))
    classified = [window for window in windows if window.outputs is not None]
    assert len(classifier.seen) == len(classified) < len(windows)
    assert all((window.frames is None) == (window.outputs is None) for window in windows)
    assert any(window.sampled for window in classified)
    assert not any(window.sampled for window in windows if window.outputs is None)


def test_without_a_gate_every_window_is_classified(manifest: Manifest) -> None:
    windows = heard(listener(manifest), blocks(SOUND, [8_000]))
    assert all(window.outputs is not None and not window.sampled for window in windows)


# Models that fail


def test_a_window_on_which_the_model_fails_is_lost_and_the_next_are_heard(manifest: Manifest) -> None:
    ear = listener(manifest, Scripted([-100, None, -100, -100]))
    pieces = blocks(sound(12.0), [6 * RATE])
    first = ear.push(pieces[0])
    assert next(first).start == 0
    with pytest.raises(ModelError, match="the model failed"):
        next(first)
    assert [window.start for window in ear.push(pieces[1])] == [
        2 * STRIDE,
        3 * STRIDE,
        4 * STRIDE,
        5 * STRIDE,
        6 * STRIDE,
    ]


def test_a_model_that_fails_for_long_does_not_fill_the_memory(manifest: Manifest) -> None:
    ear = listener(manifest, Scripted([None] * 1_000))
    for block in blocks(sound(120.0), [8_000]):
        with_error = ear.push(block)
        try:
            assert list(with_error) == []
        except ModelError:
            continue
    assert len(ear._stream.samples(0, ear.heard)) <= 2 * WINDOW


# Decisions


def rules(**changed: object) -> dict[str, LabelRule]:
    return {"chainsaw": replace(LabelRule(), **changed)}  # type: ignore[arg-type]  # the caller knows the kinds


def test_detections_come_with_the_window_that_decided(make_manifest: Callable[..., Manifest]) -> None:
    ear = listener(make_manifest(rules=rules()), Scripted([-100, 100, 100]))
    windows = heard(ear, blocks(sound(9.0), [RATE]))
    assert [bool(window.detections) for window in windows] == [False, False, True, False, False]
    (opening,) = windows[2].detections
    assert (opening.label, opening.raised, opening.onset) == ("chainsaw", windows[2].end, windows[1].end - STRIDE)


def test_the_end_of_the_audio_closes_what_is_open(make_manifest: Callable[..., Manifest]) -> None:
    ear = listener(make_manifest(rules=rules()), Scripted([100] * 10))
    heard(ear, blocks(sound(9.1), [RATE]))
    (closing,) = ear.finish()
    assert (closing.opens, closing.raised) == (False, ear.heard)
    assert ear.finish() == ()


@settings(max_examples=15)
@given(
    script=st.lists(st.sampled_from([-100, -100, 100, 100, 20, None]), min_size=10, max_size=60),
    gaps=st.lists(st.tuples(st.integers(1, 40), st.integers(1, 500_000)), max_size=3),
    gated=st.booleans(),
)
def test_what_was_decided_can_be_decided_again_from_ends_and_bytes(
    make_manifest: Callable[..., Manifest], script: list[int | None], gaps: list[tuple[int, int]], gated: bool
) -> None:
    manifest = make_manifest(rules=rules(refractory_s=6.0))
    ear = listener(manifest, Scripted(script), Gate(manifest.gate, None) if gated else None)
    windows: list[Window] = []
    shift = 0
    lost = dict(gaps)
    for place, block in enumerate(blocks(SOUND, [20_000])):
        shift += lost.get(place, 0)
        try:
            windows.extend(ear.push(replace(block, start=block.start + shift)))
        except ModelError:
            continue
    live = [detection for window in windows for detection in window.detections]
    again = Decider(
        labels=manifest.labels,
        rules=manifest.rules,
        scores=manifest.score_table(),
        stride=manifest.stride,
        sample_rate=RATE,
    )
    decided: list[Detection] = []
    for window in windows:
        decided += again.push(window.end, window.outputs)
    assert decided == live


# Leaving windows out, to save power


def quiet(seconds: float) -> list[Block]:
    rng = np.random.default_rng(5)
    return blocks((rng.standard_normal(round(seconds * RATE)) * 0.005).astype(np.float32), [8_000])


@dataclass
class AtTime:
    """Answers by what the window sounds like at that time: the script is of all windows, heard or not."""

    ear: Listener | None = None
    answers: Sequence[int] = ()

    def outputs(self, frames: Float32) -> Int8:
        assert self.ear is not None
        idx = self.ear._start // STRIDE - 1
        return np.array([self.answers[idx] if idx < len(self.answers) else -100, -100, -100], np.int8)


def at_every(manifest: Manifest, every: int, answers: Sequence[int], seconds: float) -> list[Window]:
    classifier = AtTime(answers=answers)
    ear = listener(manifest, classifier)
    classifier.ear, ear.every = ear, every
    return heard(ear, quiet(seconds))


def first_opening(windows: Sequence[Window]) -> int | None:
    return next((window.end for window in windows for found in window.detections if found.opens), None)


def test_in_quiet_the_model_hears_one_window_in_so_many(manifest: Manifest) -> None:
    for every in (1, 2, 3):
        windows = at_every(manifest, every, [], 40.0)
        assert [window.outputs is not None for window in windows] == [
            idx % every == every - 1 for idx in range(len(windows))
        ]


def test_from_the_first_leaning_window_on_none_is_left_out(manifest: Manifest) -> None:
    windows = at_every(manifest, 2, [-100] * 9 + [60], 40.0)  # 60 is over `release`, and no hit
    was_heard = [window.outputs is not None for window in windows]
    assert was_heard[:10] == [False, True] * 5
    looks_at = manifest.rules["chainsaw"].looks_at
    assert was_heard[10 : 10 + looks_at - 1] == [True] * (looks_at - 1)
    assert False in was_heard[10 + looks_at :]


@settings(max_examples=25)
@given(
    onset=st.integers(0, 12),
    hits=st.integers(1, 5),
    spare=st.integers(0, 2),
    every=st.integers(2, 4),
    before=st.lists(st.sampled_from([-100, -30, 0]), min_size=12, max_size=12),
)
def test_a_saw_that_lasts_is_found_with_a_delay_of_the_windows_left_out_at_most(
    make_manifest: Callable[..., Manifest], onset: int, hits: int, spare: int, every: int, before: list[int]
) -> None:
    rule = LabelRule(hits=hits, of=hits + spare)
    manifest = make_manifest(rules={"chainsaw": rule})
    answers = [*before[:onset], *[100] * 20]
    full, saving = (first_opening(at_every(manifest, turn, answers, 60.0)) for turn in (1, every))
    assert full is not None
    assert saving is not None
    assert full <= saving <= full + (every - 1) * STRIDE


@settings(max_examples=25)
@given(answers=st.lists(st.sampled_from([-100, 0, 60, 100]), max_size=36), every=st.integers(2, 4))
def test_what_is_left_out_never_raises_an_alert_sooner(manifest: Manifest, answers: list[int], every: int) -> None:
    full = first_opening(at_every(manifest, 1, answers, 55.0))
    saving = first_opening(at_every(manifest, every, answers, 55.0))
    assert saving is None or (full is not None and full <= saving)


def test_a_listener_that_is_behind_leaves_out_even_what_leans(manifest: Manifest) -> None:
    classifier = AtTime(answers=[100] * 40)
    ear = listener(manifest, classifier)
    classifier.ear, ear.thin = ear, True
    assert [window.outputs is not None for window in heard(ear, quiet(20.0))] == [False, True] * 6
