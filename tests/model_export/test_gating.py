"""What the gate's ingredients save and cost: steady noise is spared, a motor over it is not, each as counted."""

from pathlib import Path

import numpy as np
import pytest

from agent import synth
from agent.gate import GateConfig, webrtc_vad
from agent.wav import write_wav
from model_export.gating import closed, ingredients, rows, table
from model_export.tracks import TrueEvent, Truth

RATE = 16_000


def soundscape(*, saw: bool) -> tuple[np.ndarray, Truth]:
    rng = np.random.default_rng(3)
    samples = (rng.standard_normal(90 * RATE) * 0.005).astype(np.float32)
    events: tuple[TrueEvent, ...] = ()
    if saw:
        part = synth.chainsaw(12.0, rng)
        samples[45 * RATE : 57 * RATE] += part * np.float32(0.05 / part.std())
        events = (TrueEvent(label="chainsaw", onset_s=45.0, offset_s=57.0, source="s", recording="r", ground="g"),)
    role, level = ("chainsaw", "20 dB") if saw else ("background", "")
    return samples, Truth(name=role, role=role, level=level, duration_s=90.0, events=events, marks={})


def test_steady_noise_is_spared_and_a_saw_is_not() -> None:
    config = GateConfig()
    samples, truth = soundscape(saw=False)
    kept = closed(samples, truth, config, webrtc_vad(config.vad_mode))
    assert len(kept) == 59
    # the first ten seconds pass whatever they hold
    assert not kept[:4].any()
    assert kept[10:].mean() > 0.9
    samples, truth = soundscape(saw=True)
    kept = closed(samples, truth, config, webrtc_vad(config.vad_mode))
    assert not kept[30:37].any()


def test_the_table_counts_forest_and_saws_for_each_ingredient(tmp_path: Path) -> None:
    pytest.importorskip("soundfile")
    truths = []
    for saw in (False, True):
        samples, truth = soundscape(saw=saw)
        write_wav(tmp_path / f"{truth.name}.wav", samples, RATE)
        truths.append(truth)
    found = rows([tmp_path], [truths], GateConfig())
    assert {row["gate"] for row in found} == {variant.name for variant in ingredients(GateConfig())}
    saws = [row for row in found if row["on"] == "20 dB"]
    assert {(row["kept"], row["windows"]) for row in saws if row["gate"] != "WebRTC mode 2 alone"} == {(0, 7)}
    text = table(found)
    assert text.startswith("| gate: keeps from the model | forest | saw 20 dB |")
    assert "| both, as shipped | " in text
