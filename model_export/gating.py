"""What each ingredient of the gate saves and costs, on tracks whose events are known.

The gate is the agent's own, asked window by window as the device asks it. While a saw sounds, the decision would hold
the noise floor from the alert on; here the truth does, 4.5 s behind the onset.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from agent.features import Float32
from agent.gate import Gate, GateConfig, Vad, webrtc_vad
from model_export.datasets import SAMPLE_RATE, read_sound
from model_export.evaluation import within
from model_export.tracks import Truth

Bool = NDArray[np.bool_]

_WINDOW, _STRIDE = 48_000, 24_000
_HELD_AFTER_S, _HELD_UNTIL_S = 4.5, 6.0
NEVER_DB: Final = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """A gate to compare."""

    name: str
    config: GateConfig
    with_vad: bool


def ingredients(config: GateConfig) -> tuple[Variant, ...]:
    """Return the gate as it is, and each of its ingredients alone."""
    voice = replace(config, rise_db=NEVER_DB, voiced_rise_db=0.0, voiced_cells=1)
    return (
        Variant(name=f"WebRTC mode {config.vad_mode} alone", config=voice, with_vad=True),
        Variant(name="bands alone", config=config, with_vad=False),
        Variant(name="both, as shipped", config=config, with_vad=True),
    )


def closed(samples: Float32, truth: Truth, config: GateConfig, vad: Vad | None) -> Bool:
    """Return which windows the gate keeps from the model, shape (n_windows,); the forced sample counts as kept."""
    gate = Gate(config, vad)
    gated_to = 0
    kept: list[bool] = []
    for start in range(0, len(samples) - _WINDOW + 1, _STRIDE):
        end = start + _WINDOW
        end_s = end / SAMPLE_RATE
        held = any(
            event.label != "other" and event.onset_s + _HELD_AFTER_S < end_s < event.offset_s + _HELD_UNTIL_S
            for event in truth.events
        )
        gate.hold(held=held)
        gate.push(samples[gated_to:end])
        gated_to = end
        verdict = gate.verdict(start, end)
        kept.append(verdict.sampled or not verdict.passes)
    return np.array(kept, bool)


def rows(folders: Sequence[Path], truths: Sequence[Sequence[Truth]], config: GateConfig) -> list[dict[str, Any]]:
    """Return per ingredient the share of forest windows it spares and of saw windows it loses, level by level.

    Args:
        folders: of tracks, one a fold.
        truths: of each folder.
        config: the shipped gate.
    """
    from tqdm import tqdm

    variants = ingredients(config)
    counts: dict[tuple[str, str], list[int]] = {}
    told = [
        (folder, truth)
        for folder, of in zip(folders, truths, strict=True)
        for truth in of
        if truth.role in ("background", "chainsaw")
    ]
    for folder, truth in tqdm(told, desc="the gate's ingredients", unit="track"):
        samples = read_sound(folder / f"{truth.name}.wav")
        ends_s = (np.arange(0, len(samples) - _WINDOW + 1, _STRIDE) + _WINDOW) / SAMPLE_RATE
        asked = np.ones(len(ends_s), bool)
        if truth.role == "chainsaw":
            asked = within(ends_s, truth.events, _WINDOW / SAMPLE_RATE)
        on = "forest" if truth.role == "background" else truth.level
        for variant in variants:
            vad = webrtc_vad(variant.config.vad_mode) if variant.with_vad else None
            kept = closed(samples, truth, variant.config, vad)
            count = counts.setdefault((variant.name, on), [0, 0])
            count[0] += int((kept & asked).sum())
            count[1] += int(asked.sum())
    return [
        {"gate": name, "on": on, "kept": kept, "windows": windows} for (name, on), (kept, windows) in counts.items()
    ]


def table(found: Sequence[dict[str, Any]]) -> str:
    """Return the rows as Markdown."""
    names = list(dict.fromkeys(row["gate"] for row in found))
    levels = {row["on"] for row in found if row["on"] != "forest"}
    on = ["forest", *sorted(levels, key=lambda one: 99.0 if one == "far" else -float(one.split()[0]))]
    share = {(row["gate"], row["on"]): row["kept"] / max(1, row["windows"]) for row in found}
    lines = [
        f"| gate: keeps from the model | {' | '.join('forest' if one == 'forest' else f'saw {one}' for one in on)} |",
        "|---" * (len(on) + 1) + "|",
    ]
    for name in names:
        cells = " | ".join(f"{100 * share[name, one]:.1f} %" if (name, one) in share else "–" for one in on)
        lines.append(f"| {name} | {cells} |")
    return "\n".join(lines)
