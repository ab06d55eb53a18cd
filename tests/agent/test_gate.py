"""The gate: what opens it, what must not close it, what it costs; and that it never depends on how audio is cut."""

import csv
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from agent import synth
from agent.acoustics import rms_dbfs
from agent.errors import FieldError
from agent.fields import Fields
from agent.gate import BandRise, Gate, GateConfig, GateVerdict, VoicedRuns, webrtc_vad

Float32 = NDArray[np.float32]

RATE = 16_000
STRIDE, WINDOW = 24_000, 48_000
CELL = 8_000
SHIPPED = GateConfig()
CONFIG = replace(SHIPPED, rise_cells=4, voiced_cells=3)


class LoudVad:
    """Calls every frame over a level voiced; nothing is random in it."""

    def is_speech(self, buf: bytes, sample_rate: int) -> bool:
        assert sample_rate == RATE
        assert len(buf) == 960
        return bool(np.abs(np.frombuffer(buf, "<i2")).max() > 3_000)


def noise(seconds: float, dbfs: float = -40.0, seed: int = 0) -> Float32:
    rng = np.random.default_rng(seed)
    white = rng.standard_normal(round(seconds * RATE)).astype(np.float32)
    return white * np.float32(10.0 ** (dbfs / 20.0))


def hum(seconds: float, dbfs: float, hz: float = 120.0) -> Float32:
    """Return a row of harmonics below 1 kHz: a motor without its chances."""
    at_s = np.arange(round(seconds * RATE)) / RATE
    tones = sum(np.sin(2.0 * np.pi * hz * number * at_s) / number for number in range(1, 9))
    tones = tones / np.sqrt(np.mean(np.square(tones)))
    return np.asarray(tones * 10.0 ** (dbfs / 20.0), np.float32)


def with_motor(ground: Float32, motor: Float32, at_s: float) -> Float32:
    mixed = ground.copy()
    start = round(at_s * RATE)
    mixed[start : start + len(motor)] += motor[: len(mixed) - start]
    return mixed


def verdicts(
    gate: Gate, audio: Float32, block: int = STRIDE, first: int = 0, event_s: float = np.inf
) -> list[tuple[float, GateVerdict]]:
    """Return (end of window in seconds from `first`, verdict) of every window, asked for as a listener would.

    From `event_s` on an event is open.
    """
    found: list[tuple[float, GateVerdict]] = []
    start = 0
    for at in range(0, len(audio), block):
        gate.hold(held=at / RATE >= event_s)
        gate.push(audio[at : at + block])
        while start + WINDOW <= min(at + block, len(audio)):
            found.append(((start + WINDOW) / RATE, gate.verdict(first + start, first + start + WINDOW)))
            start += STRIDE
    return found


def open_ends(found: Sequence[tuple[float, GateVerdict]]) -> list[float]:
    return [end_s for end_s, verdict in found if verdict.passes and not verdict.sampled]


# What opens and closes it


@pytest.mark.parametrize("vad", [True, False], ids=["with webrtcvad", "bands alone"])
def test_a_saw_in_a_forest_opens_within_seconds_and_keeps_open(vad: bool) -> None:
    rng = np.random.Generator(np.random.PCG64(5))
    forest = synth.wind(120.0, rng) * np.float32(0.01)
    saw = synth.chainsaw(40.0, rng, synth.SawSetting(idle_share=0.0))
    saw *= np.float32(10.0 ** ((rms_dbfs(forest) - rms_dbfs(saw)) / 20.0))  # 0 dB over the forest
    mixed = with_motor(forest, saw, at_s=60.0)
    found = verdicts(Gate(SHIPPED, webrtc_vad(SHIPPED.vad_mode) if vad else None), mixed, event_s=66.0)
    during = {end_s: verdict.passes for end_s, verdict in found if 60.0 + 3.0 + 1.5 <= end_s <= 100.0}
    assert all(during.values()), during


def test_a_motor_opens_the_gate_two_seconds_after_its_onset() -> None:
    audio = with_motor(noise(60.0), hum(20.0, -30.0), at_s=30.0)
    found = open_ends(verdicts(Gate(CONFIG, None), audio))
    opened = [end_s for end_s in found if end_s > 20.0]
    assert opened[0] == 33.0  # the first window whose four last cells the motor fills
    assert [later - earlier for earlier, later in pairwise(opened)] == [1.5] * (len(opened) - 1)


def test_where_the_voice_detector_agrees_less_will_do() -> None:
    saw = with_motor(noise(60.0), hum(1.5, -12.0), at_s=30.0)
    assert max(open_ends(verdicts(Gate(CONFIG, None), saw))) < 20.0
    assert max(open_ends(verdicts(Gate(CONFIG, LoudVad()), saw))) > 30.0


def test_everything_passes_before_a_floor_is_known_and_steady_noise_closes_then() -> None:
    found = verdicts(Gate(CONFIG, LoudVad()), noise(60.0))
    passed = open_ends(found)
    # a window is open while it touches the warm-up's last cell, or begins within the hang-over behind it
    last_s = CONFIG.warm_up_s + CONFIG.hang_over_s + WINDOW / RATE
    assert passed == [end_s for end_s, _ in found if end_s < last_s]


def test_a_knock_does_not_open_the_gate() -> None:
    audio = with_motor(noise(60.0), noise(0.2, -10.0, seed=1), at_s=30.0)
    assert max(open_ends(verdicts(Gate(CONFIG, LoudVad()), audio))) < 20.0


def test_a_sound_just_long_enough_fills_a_window_and_the_hang_over() -> None:
    audio = with_motor(noise(60.0), hum(2.0, -20.0), at_s=30.0)  # cells that end at 30.5 to 32.0
    ends = [end_s for end_s in open_ends(verdicts(Gate(CONFIG, None), audio)) if end_s > 20.0]
    # the opening cell ends at 32.0: the windows behind it are open while they begin before 32.0 + 1.5
    assert ends == [33.0, 34.5, 36.0]
    whole = [end_s for end_s in ends if end_s - 3.0 <= 30.0 and end_s >= 32.0]
    assert whole, "no window holds the whole sound"


def test_without_a_hang_over_only_windows_that_touch_the_opening_pass() -> None:
    audio = with_motor(noise(60.0), hum(2.0, -20.0), at_s=30.0)
    gate = Gate(replace(CONFIG, hang_over_s=0.0), None)
    assert [end_s for end_s in open_ends(verdicts(gate, audio)) if end_s > 20.0] == [33.0, 34.5]


# The floor


def heard_for(minutes: float, level_db: float, bands: BandRise) -> list[float]:
    """Feed one band level for a while; return by how much it stood over the floor at each cell."""
    levels = np.full(CONFIG.n_bands, level_db)
    risen = [bands.above_db(levels) for _ in range(round(minutes * 120))]
    return [float(above.max()) for above in risen if above is not None]


def settled() -> BandRise:
    bands = BandRise(CONFIG)
    heard_for(1.0, -50.0, bands)
    return bands


def test_a_steady_saw_does_not_become_the_floor_while_its_event_is_open() -> None:
    bands = settled()
    assert heard_for(0.1, -35.0, bands)[-1] == pytest.approx(15.0)  # until the model has heard it
    bands.held = True
    assert heard_for(30.0, -35.0, bands) == pytest.approx([15.0] * 3_600)
    bands.held = False
    assert heard_for(0.1, -35.0, bands)[-1] == pytest.approx(15.0)


def test_a_saw_of_a_dozen_seconds_is_no_floor_though_nobody_holds_it() -> None:
    assert min(heard_for(0.2, -42.0, settled())) == pytest.approx(8.0)


@pytest.mark.parametrize("level_db", [-70.0, -30.0])
def test_the_floor_follows_a_forest_that_grows_loud_or_quiet_within_its_history(level_db: float) -> None:
    bands = settled()
    assert heard_for(CONFIG.floor_history_s / 60, level_db, bands)[-1] == pytest.approx(0.0)


def test_the_first_floor_is_a_quantile_of_the_warm_up() -> None:
    bands = BandRise(replace(CONFIG, warm_up_s=1.5, floor_quantile=0.5))
    for level_db in (-50.0, -10.0, -48.0):
        assert bands.above_db(np.full(CONFIG.n_bands, level_db)) is None
    above_db = bands.above_db(np.full(CONFIG.n_bands, -40.0))
    assert above_db is not None
    assert above_db == pytest.approx(8.0)


@given(st.lists(st.floats(-90.0, 0.0), min_size=25, max_size=200), st.floats(0.0, 1.0))
def test_the_floor_is_the_quantile_of_what_came_just_before(levels_db: list[float], quantile: float) -> None:
    bands = BandRise(replace(CONFIG, floor_quantile=quantile))
    n_history = round(2 * CONFIG.floor_history_s)
    for idx, level_db in enumerate(levels_db):
        above_db = bands.above_db(np.full(CONFIG.n_bands, level_db))
        if above_db is not None:
            before = sorted(levels_db[max(0, idx - n_history) : idx])
            assert above_db == pytest.approx(level_db - before[int(quantile * (len(before) - 1))])


def test_band_levels_are_decibels_of_the_band_alone() -> None:
    bands = BandRise(CONFIG)
    loud, quiet = (bands.levels_db(hum(0.5, dbfs, hz=1_000.0)[None]) for dbfs in (-20.0, -40.0))
    assert loud.shape == (1, CONFIG.n_bands)
    assert (loud - quiet).max() == pytest.approx(20.0, abs=0.1)
    at_1_khz = int((np.geomspace(100.0, 4_000.0, CONFIG.n_bands + 1) <= 1_000.0).sum()) - 1
    assert int(loud.argmax()) == at_1_khz


def test_digital_silence_has_a_level_and_no_warning() -> None:
    levels_db = BandRise(CONFIG).levels_db(np.zeros((1, CELL), np.float32))
    assert np.isfinite(levels_db).all()


@pytest.mark.parametrize("n_bands", [1, 10, 32])
@pytest.mark.parametrize("band_hz", [(20.0, 4_000.0), (20.0, 8_000.0), (100.0, 1_000.0)])
def test_narrow_bands_have_a_level_too(n_bands: int, band_hz: tuple[float, float]) -> None:
    config = replace(CONFIG, n_bands=n_bands, band_min_hz=band_hz[0], band_max_hz=band_hz[1])
    levels_db = BandRise(config).levels_db(noise(0.5)[None])
    assert levels_db.shape == (1, n_bands)
    assert levels_db == pytest.approx(levels_db.mean(), abs=20.0)


# Independence of the cutting


def cut(audio: Float32, sizes: Sequence[int]) -> list[Float32]:
    pieces, at = [], 0
    for turn in range(len(audio)):
        size = sizes[turn % len(sizes)]
        pieces.append(audio[at : at + size])
        at += size
        if at >= len(audio):
            break
    return pieces


SCENE = with_motor(with_motor(noise(45.0), hum(3.0, -25.0), at_s=17.0), hum(5.0, -30.0), at_s=35.0)
"""Opens twice, closes twice."""


@settings(max_examples=25)
@given(st.lists(st.integers(1, 200_000), min_size=1, max_size=4).filter(lambda sizes: sum(sizes) > 600))
def test_verdicts_do_not_depend_on_block_sizes(sizes: list[int]) -> None:
    expected = verdicts(Gate(CONFIG, LoudVad()), SCENE, block=STRIDE)
    assert [verdict.passes for _, verdict in expected].count(False) > 5
    gate, found, start, heard = Gate(CONFIG, LoudVad()), [], 0, 0
    for piece in cut(SCENE, sizes):
        gate.push(piece)
        heard += len(piece)
        while start + WINDOW <= heard:
            found.append(((start + WINDOW) / RATE, gate.verdict(start, start + WINDOW)))
            start += STRIDE
    assert found == expected


def test_a_whole_recording_as_one_block_is_gated_as_in_small_ones() -> None:
    whole = verdicts(Gate(CONFIG, None), SCENE, block=len(SCENE))
    assert whole == verdicts(Gate(CONFIG, None), SCENE, block=1_600)


@pytest.mark.parametrize("block", [1, 479, 480, 960, CELL])
def test_runs_of_voiced_frames_do_not_depend_on_block_sizes(block: int) -> None:
    audio = with_motor(noise(2.0, -60.0), hum(0.4, -15.0), at_s=0.7)
    whole = VoicedRuns(LoudVad(), 5).voiced(audio)
    runs = VoicedRuns(LoudVad(), 5)
    pieces = [runs.voiced(audio[at : at + block]) for at in range(0, len(audio), block)]
    assert any(pieces) == whole


def test_a_run_must_have_its_length() -> None:
    exactly, short = (with_motor(noise(2.0, -60.0), hum(0.03 * n, -10.0), at_s=0.03 * 20) for n in (5, 4))
    assert VoicedRuns(LoudVad(), 5).voiced(exactly)
    assert not VoicedRuns(LoudVad(), 5).voiced(short)


# The forced sample


@pytest.mark.parametrize("every", [1, 2, 7, 20])
def test_one_in_n_closed_windows_passes_all_the_same(every: int) -> None:
    found = verdicts(Gate(replace(CONFIG, sample_every=every), None), noise(120.0))
    closed = [verdict for _, verdict in found if verdict.sampled or not verdict.passes]
    assert [verdict.sampled for verdict in closed] == [place % every == every - 1 for place in range(len(closed))]
    assert all(verdict.passes == verdict.sampled for verdict in closed)


# Lost audio


def test_behind_lost_audio_cells_begin_anew_and_the_floor_stays() -> None:
    gate = Gate(CONFIG, None)
    verdicts(gate, noise(30.0)[:-100])
    gate.reset(100 * RATE)
    found = verdicts(gate, with_motor(noise(20.0, seed=3), hum(4.0, -30.0), at_s=10.0), first=100 * RATE)
    # no second warm-up; the motor opens it as ever
    assert open_ends(found)[0] == 12.0
    assert all(end_s >= 12.0 for end_s in open_ends(found))


def test_a_rise_does_not_span_lost_audio() -> None:
    gate = Gate(CONFIG, None)
    verdicts(gate, with_motor(noise(31.0), hum(1.0, -30.0), at_s=30.0))
    gate.reset(60 * RATE)
    found = verdicts(gate, with_motor(noise(6.0), hum(1.0, -30.0), at_s=0.0), first=60 * RATE)
    assert open_ends(found) == []


def test_a_voiced_run_does_not_span_lost_audio() -> None:
    runs = VoicedRuns(LoudVad(), 5)
    loud = hum(0.12, -10.0)
    assert not runs.voiced(loud)
    runs.reset()
    assert not runs.voiced(loud)
    assert runs.voiced(loud), "without the reset the two runs are one"


def test_lost_audio_forgets_what_the_voice_detector_had() -> None:
    gate = Gate(replace(CONFIG, warm_up_s=0.5), LoudVad())
    gate.push(hum(0.625, -10.0))  # 20 frames of 30 ms and a rest
    gate.reset(10 * RATE)
    gate.push(noise(0.5))
    assert not gate.verdict(10 * RATE, 10 * RATE + CELL).passes


# Ingredients


def test_the_kind_names_the_ingredients() -> None:
    assert Gate(CONFIG, webrtc_vad(2)).kind == "webrtc-2+bands"
    assert Gate(CONFIG, None).kind == "bands"


def test_without_webrtcvad_the_bands_decide_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "webrtcvad", None)
    assert webrtc_vad(2) is None


def test_webrtc_hears_a_saw_and_not_silence() -> None:
    vad = webrtc_vad(2)
    assert vad is not None
    assert not VoicedRuns(vad, 5).voiced(np.zeros(RATE, np.float32))
    saw = synth.chainsaw(3.0, np.random.Generator(np.random.PCG64(1)), synth.SawSetting(idle_share=0.0))
    assert VoicedRuns(vad, 5).voiced(saw)


# Configuration


def test_a_gate_is_read_from_a_manifest() -> None:
    assert GateConfig.parse(Fields(asdict(CONFIG))) == CONFIG


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"vad_mode": 4}, "gate.vad_mode: is 4, expected a whole number from 0 to 3"),
        ({"sample_every": 0}, "gate.sample_every: is 0, expected a whole number from 1 to 10000"),
        ({"snr_db": 6}, "gate.snr_db: is not a known key"),
        ({"band_min_hz": 4_000}, "band_max_hz: is 4000, expected above band_min_hz = 4000"),
        ({"band_min_hz": 3_990, "n_bands": 32}, "n_bands: is 32, too many between 3990 and 4000 Hz"),
        ({"band_min_hz": 7_900, "band_max_hz": 8_000, "n_bands": 32}, "n_bands: is 32, too many between"),
    ],
)
def test_a_wrong_gate_names_what_is_wrong(changed: dict[str, object], text: str) -> None:
    with pytest.raises(FieldError, match="^" + text.replace(".", r"\.")):
        GateConfig.parse(Fields(asdict(CONFIG) | changed, "gate"))


# What it costs, on real sound


def recordings(data_dir: Path, key: str, value: str) -> list[Float32]:
    soundfile = pytest.importorskip("soundfile")
    with (data_dir / "manifest.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row[key] == value]
    sounds = [soundfile.read(data_dir / row["path"], dtype="float32", always_2d=True)[0].mean(axis=1) for row in rows]
    return [np.trim_zeros(sound) for sound in sounds]


def strength(samples: Float32) -> float:
    """Return the RMS above 60 Hz, where no wind is."""
    spectrum = np.fft.rfft(samples)
    spectrum[np.fft.rfftfreq(len(samples), 1.0 / RATE) < 60.0] = 0.0
    return float(np.sqrt(np.mean(np.square(np.fft.irfft(spectrum, len(samples))))))


def looped(sound: Float32, n_samples: int) -> Float32:
    """Return a sound repeated to a length, its ends faded into each other."""
    n_fade = round(0.3 * RATE)
    ramp = np.linspace(0.0, 1.0, n_fade, dtype=np.float32)
    longer = sound
    while len(longer) < n_samples:
        seam = longer[-n_fade:] * (1 - ramp) + sound[:n_fade] * ramp
        longer = np.concatenate([longer[:-n_fade], seam, sound[n_fade:]])
    return longer[:n_samples]


@pytest.mark.data
@pytest.mark.slow
def test_on_real_sound_the_gate_spares_half_a_forest_and_loses_hardly_a_saw(data_dir: Path) -> None:
    config = SHIPPED
    forests = recordings(data_dir, "dataset", "capuchin-forest")
    saws = recordings(data_dir, "target", "chainsaw")
    forest_passed: list[bool] = []
    for forest in forests:
        found = verdicts(Gate(config, webrtc_vad(config.vad_mode)), forest)
        forest_passed += [
            verdict.passes and not verdict.sampled for end_s, verdict in found if end_s > config.warm_up_s + 3.0
        ]
    saw_passed: list[bool] = []
    at, n_saw = 60 * RATE, 12 * RATE
    for place, saw in enumerate(saws):
        mixed = forests[place * 7 % len(forests)][: at + n_saw + RATE].copy()
        sound = looped(saw, n_saw)
        gain = strength(mixed[at : at + n_saw]) / strength(sound) * 10.0 ** (-5.0 / 20.0)
        mixed[at : at + n_saw] += sound * np.float32(gain)
        found = verdicts(Gate(config, webrtc_vad(config.vad_mode)), mixed)
        saw_passed += [
            verdict.passes and not verdict.sampled
            for end_s, verdict in found
            if at + 2 * RATE <= end_s * RATE <= at + n_saw
        ]
    lost = 1.0 - np.mean(saw_passed)
    print(f"forest windows passed {np.mean(forest_passed):.3f}, saw windows at -5 dB lost {lost:.3f}")
    assert np.mean(forest_passed) <= 0.60
    assert lost <= 0.01
