"""The operating point: thresholds from validation sound, through the agent's own decider.

No recording of a saw is spared for this: thresholds follow from what must stay quiet. For each label the lowest
threshold is taken that raises nothing on forest and stays under a rate on everything else, plus a margin, because the
tail of a few minutes of sound says little about the hours to come.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from agent import synth
from agent.decide import Decider, LabelRule
from agent.features import FeatureConfig, Float32, log_mel, window_features
from model_export.datasets import SAMPLE_RATE
from model_export.export import Int8Model
from model_export.mixing import mixed
from model_export.recipe import Recipe
from model_export.store import Sound, Store, repeated

log = logging.getLogger(__name__)

Int8 = NDArray[np.int8]

MARGINS: Final[dict[str, float]] = {"chainsaw": 1.0, "engine": 2.2}
"""Logits added to the lowest threshold that would do: the next forest is not in an hour of validation."""
LOWEST, FALLBACK, HIGHEST = 0.5, 0.9, 0.985
BORNE_PER_HOUR: Final[dict[str, float]] = {"forest": 0.0, "confusers": 1.0, "places": 10.0, "engines": 6.0}
"""False alerts of one label an hour, by what is heard; a role that is not named here is counted and not judged.

Places and engines are dozens of recordings cut to seconds: what comes in months, in minutes."""
ENGINE_PATIENCE = 4.0
"""So many times as many are borne for the engine, before its larger margin: no recording decides alone."""
_PIECE_S = 12.0
_GAP_S = 4.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Stream:
    """Sound that says how often a label may be raised on it."""

    name: str
    role: str
    """forest, places, confusers or engines: what it counts with."""
    samples: Float32
    wrong: tuple[str, ...]
    """Labels that are false here."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answered:
    """A stream after the model heard it."""

    stream: Stream
    outputs: Int8
    """Shape (n_windows, n_labels)."""


def validation_streams(store: Store, sounds: Sequence[Sound], forests: Sequence[Sound], seed: int) -> list[Stream]:
    """Return what must stay quiet: places, storms, confusers at two levels, and engines for the saw.

    Args:
        store: decoded sounds.
        sounds: those of the validation part.
        forests: long recordings to lay the confusers on.
        seed: of which piece lies where.
    """
    rng = np.random.default_rng(seed)
    real = [sound for sound in sounds if not sound.kind.startswith("synth-")]
    long = [sound for sound in real if sound.target == "background" and sound.length > 60 * SAMPLE_RATE]
    short = [sound for sound in real if sound.target == "background" and sound not in long]
    confusers = [sound for sound in real if sound.target in ("machine", "other")]
    engines = [sound for sound in real if sound.target == "engine"]
    both, saw = ("chainsaw", "engine"), ("chainsaw",)
    streams = [Stream(name=one.name, role="forest", samples=_whole(store, one), wrong=both) for one in long]
    streams.append(Stream(name="places", role="places", samples=_row(store, short), wrong=both))
    storms = [sound for sound in real if sound.target == "storm"]
    streams.append(Stream(name="storms", role="places", samples=_row(store, storms), wrong=both))
    for snr_db, role in ((10.0, "confusers"), (0.0, "faint confusers")):
        laid = _laid(store, confusers, forests, snr_db, rng)
        streams.append(Stream(name=f"confusers {snr_db:g} dB", role=role, samples=laid, wrong=both))
    makes: list[Callable[[], Float32]] = [
        lambda: synth.engine(_PIECE_S, rng, synth.random_engine(rng)) for _ in range(40)
    ]
    makes += [lambda one=one: _piece(store, one) for one in engines]  # type: ignore[misc]  # bound early
    for snr_db in (10.0, 0.0):
        laid = _laid_pieces([make() for make in makes], store, forests, snr_db, rng)
        streams.append(Stream(name=f"engines {snr_db:g} dB", role="engines", samples=laid, wrong=saw))
    return [stream for stream in streams if len(stream.samples) > 6 * SAMPLE_RATE]


def answer(model: Int8Model, stream: Stream, features: FeatureConfig, stride_s: float) -> Answered:
    """Return a stream with the model's bytes at every stride."""
    return Answered(
        stream=stream, outputs=model.outputs(model.input.to_bytes(windows_of(stream.samples, features, stride_s)))
    )


def windows_of(samples: Float32, features: FeatureConfig, stride_s: float) -> Float32:
    """Return all windows of a recording at a stride, shape (n, n_frames, n_mels)."""
    frames = log_mel(samples, features)
    step = round(stride_s * features.sample_rate / features.hop)
    starts = range(0, len(frames) - features.n_frames + 1, step)
    return np.stack([window_features(frames[start : start + features.n_frames]) for start in starts])


def false_alerts(answered: Answered, label: str, rule: LabelRule, recipe: Recipe, scores: NDArray[np.float64]) -> int:
    """Return how often a rule would raise its label on a stream, by the agent's decider."""
    stride = round(recipe.stride_s * SAMPLE_RATE)
    idx = recipe.labels.index(label)
    decider = Decider(labels=(label,), rules={label: rule}, scores=scores, stride=stride, sample_rate=SAMPLE_RATE)
    raised = 0
    for number, outputs in enumerate(answered.outputs[:, idx : idx + 1]):
        end = number * stride + recipe.features.window_samples
        raised += sum(detection.opens for detection in decider.push(end, outputs))
    return raised


def choose(answered: Sequence[Answered], recipe: Recipe, scores: NDArray[np.float64]) -> dict[str, LabelRule]:
    """Return the rule of each label: the lowest threshold that every stream bears, with a margin.

    Args:
        answered: the validation streams.
        recipe: labels, features and stride.
        scores: score of each output byte, shape (256,).
    """
    rules = {label: _choose(label, answered, recipe, scores) for label in recipe.labels if label != "storm"}
    return {label: rules.get(label, LabelRule(alert=False, threshold=0.8, release=0.6)) for label in recipe.labels}


def rule_at(threshold: float) -> LabelRule:
    """Return a rule that opens at a threshold and holds an event open a logit below it."""
    return LabelRule(threshold=round(threshold, 4), release=round(_shifted(threshold, -1.0), 4))


def _choose(label: str, answered: Sequence[Answered], recipe: Recipe, scores: NDArray[np.float64]) -> LabelRule:
    judging = [one for one in answered if label in one.stream.wrong]
    candidates = [float(score) for score in scores if LOWEST <= score <= HIGHEST]
    for threshold in candidates:
        if _borne(judging, label, rule_at(threshold), recipe, scores):
            chosen = min(max(_shifted(threshold, MARGINS.get(label, 0.0)), LOWEST), HIGHEST)
            log.info("%s: %.3f is quiet on validation, %.3f with the margin", label, threshold, chosen)
            return rule_at(chosen)
    log.warning("%s: no threshold is quiet on validation; %.2f is taken", label, FALLBACK)
    return rule_at(FALLBACK)


def _borne(
    judging: Sequence[Answered], label: str, rule: LabelRule, recipe: Recipe, scores: NDArray[np.float64]
) -> bool:
    patience = ENGINE_PATIENCE if label == "engine" else 1.0
    for role, rate in BORNE_PER_HOUR.items():
        of = [one for one in judging if one.stream.role == role]
        hours = sum(len(one.stream.samples) for one in of) / SAMPLE_RATE / 3_600
        # rounded: a stream of minutes cannot show less than one alert
        if sum(false_alerts(one, label, rule, recipe, scores) for one in of) > round(patience * rate * hours):
            return False
    return True


def counts(
    answered: Sequence[Answered], rules: Mapping[str, LabelRule], recipe: Recipe, scores: NDArray[np.float64]
) -> dict[str, dict[str, float]]:
    """Return per stream its minutes and the false alerts of each label, for the manifest's metrics."""
    return {
        one.stream.name: {
            "minutes": round(len(one.stream.samples) / SAMPLE_RATE / 60, 1),
            **{label: false_alerts(one, label, rules[label], recipe, scores) for label in one.stream.wrong},
        }
        for one in answered
    }


def _shifted(score: float, logits: float) -> float:
    odds = score / (1 - score) * float(np.exp(logits))
    return odds / (1 + odds)


def _whole(store: Store, sound: Sound) -> Float32:
    return store.read(sound, 0, sound.length)


def _piece(store: Store, sound: Sound) -> Float32:
    n_samples = int(_PIECE_S * SAMPLE_RATE)
    return repeated(_whole(store, sound)[: 2 * n_samples], n_samples)


def _row(store: Store, sounds: Sequence[Sound]) -> Float32:
    """Return pieces one after another, all at one level."""
    pieces = [_piece(store, sound) * np.float32(10 ** ((-30 - sound.level_dbfs) / 20)) for sound in sounds]
    return np.concatenate([piece.clip(-1, 1) for piece in pieces]) if pieces else np.zeros(0, np.float32)


def _laid(
    store: Store, sounds: Sequence[Sound], forests: Sequence[Sound], snr_db: float, rng: np.random.Generator
) -> Float32:
    return _laid_pieces([_piece(store, sound) for sound in sounds], store, forests, snr_db, rng)


def _laid_pieces(
    pieces: Sequence[Float32], store: Store, forests: Sequence[Sound], snr_db: float, rng: np.random.Generator
) -> Float32:
    """Return pieces on forest at a ratio, with gaps between them."""
    laid: list[Float32] = []
    for piece in pieces:
        forest = forests[int(rng.integers(len(forests)))]
        length = len(piece) + int(_GAP_S * SAMPLE_RATE)
        ground = store.read(forest, int(rng.integers(max(1, forest.length - length))), length)
        total = mixed(ground, piece, snr_db, int(_GAP_S * SAMPLE_RATE / 2))
        laid.append(total / max(1.0, float(np.abs(total).max())))
    return np.concatenate(laid) if laid else np.zeros(0, np.float32)
