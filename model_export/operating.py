"""The operating point: thresholds from what must stay quiet, through the agent's own decider.

No recording of a saw is spared for this: thresholds follow from sound that holds none. For each label the lowest
threshold is taken that raises no more than is borne on what was heard, and that is expected to raise no more in the
hours to come. The second is read from the tail of the highest scores, one per half minute: the excess over a high
level has one form for most distributions (Pickands 1975), so that a few minutes say what a few hours would. Where a
label may open by its steady mean as well as by k of n, either way is given its share of what is borne.
"""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from agent import synth
from agent.decide import LOWEST_LOG_ODDS, Decider, LabelRule
from agent.features import FeatureConfig, Float32, log_mel, window_features
from agent.manifest import Manifest
from model_export.datasets import SAMPLE_RATE
from model_export.mixing import mixed
from model_export.recipe import DecisionConfig
from model_export.store import Sound, Store, repeated

log = logging.getLogger(__name__)

Int8 = NDArray[np.int8]
Float64 = NDArray[np.float64]

LOWEST, FALLBACK, HIGHEST = 0.3, 0.9, 0.995
LOWEST_STEADY = 0.5
"""What lasts must at least be more likely than not."""
SILENT: Final = LabelRule(alert=False, threshold=0.8, release=0.6)
"""The rule of a label that is heard and not reported."""
_TAIL = 20
"""Highest moments that the tail is read from."""
_APART_S = 30.0
"""Moments closer than this are one."""
_PIECE_S = 12.0
_GAP_S = 4.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Answered:
    """What a model said, window by window, to sound on which some labels are false."""

    name: str
    role: str
    """forest, confusers or engines: which rate counts."""
    wrong: tuple[str, ...]
    """Labels that are false here."""
    outputs: Int8
    """Shape (n_windows, n_labels)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Axis:
    """How windows and bytes are to be read."""

    labels: tuple[str, ...]
    scores: Float64
    """Score of each output byte, shape (256,)."""
    stride_s: float
    window_s: float

    @classmethod
    def of(cls, manifest: Manifest) -> "Axis":
        """Return how to read a model's windows."""
        return cls(
            labels=manifest.labels,
            scores=manifest.score_table(),
            stride_s=manifest.stride_s,
            window_s=manifest.features.window_samples / manifest.features.sample_rate,
        )

    def windows(self, duration_s: float) -> int:
        """Return how many windows lie in so many seconds."""
        return max(0, math.floor((duration_s - self.window_s) / self.stride_s + 1e-6) + 1)

    def hours(self, n_windows: int) -> float:
        """Return how long so many strides last."""
        return n_windows * self.stride_s / 3_600

    def to_bytes(self, scores: Float64) -> Int8:
        """Return the nearest output bytes of scores, same shape; NaN (gated out) becomes the lowest."""
        between = (self.scores[1:] + self.scores[:-1]) / 2
        return (np.searchsorted(between, np.nan_to_num(scores, nan=-1.0)) - 128).astype(np.int8)

    def raised(
        self, outputs: Int8, gated: NDArray[np.bool_], rules: Mapping[str, LabelRule]
    ) -> list[tuple[str, float]]:
        """Return (label, seconds) of each alert that the agent's decider opens on these windows."""
        stride = round(self.stride_s * SAMPLE_RATE)
        decider = Decider(labels=self.labels, rules=rules, scores=self.scores, stride=stride, sample_rate=SAMPLE_RATE)
        found: list[tuple[str, float]] = []
        for number, output in enumerate(outputs):
            end = number * stride + round(self.window_s * SAMPLE_RATE)
            found += [
                (detection.label, end / SAMPLE_RATE)
                for detection in decider.push(end, None if gated[number] else output)
                if detection.opens and detection.alert
            ]
        return found


def choose(answered: Sequence[Answered], decision: DecisionConfig, axis: Axis) -> dict[str, LabelRule]:
    """Return the rule of each label, from what must stay quiet."""
    return {
        label: _choose(label, answered, decision, axis) if label in decision.of else SILENT for label in axis.labels
    }


def rule_at(threshold: float, hits: int = 2, of: int = 3, *, steady: float = 1.0, steady_of: int = 8) -> LabelRule:
    """Return a rule that opens at a threshold, or by a steady mean, and holds an event open below either."""
    release = min(_shifted(threshold, -1.0), steady)
    return LabelRule(
        threshold=round(threshold, 4),
        release=math.floor(release * 10_000) / 10_000,
        hits=hits,
        of=of,
        steady=round(steady, 4),
        steady_of=steady_of,
    )


def false_alerts(answered: Answered, label: str, rule: LabelRule, axis: Axis) -> int:
    """Return how often a rule would raise its label, by the agent's decider."""
    idx = axis.labels.index(label)
    alone = Axis(labels=(label,), scores=axis.scores, stride_s=axis.stride_s, window_s=axis.window_s)
    outputs = answered.outputs[:, idx : idx + 1]
    return len(alone.raised(outputs, np.zeros(len(outputs), bool), {label: rule}))


def _choose(label: str, answered: Sequence[Answered], decision: DecisionConfig, axis: Axis) -> LabelRule:
    hits, of = decision.of[label]
    steady_of = decision.steady_of.get(label)
    quick = 1.0 if steady_of is None else decision.quick_share.get(label, 0.5)
    judging = [one for one in answered if label in one.wrong]

    def expected(statistic: Callable[[Int8], Float64], lowest: float, share: float) -> float:
        """Return the score at which every role is expected to raise as often as is borne of this way."""
        rates = decision.borne.items()
        return max(
            lowest, *(_expected_quiet(label, judging, role, rate * share, axis, statistic) for role, rate in rates)
        )

    def rule(threshold: float, steady: float) -> LabelRule:
        if steady_of is None:
            return rule_at(threshold, hits, of)
        return rule_at(threshold, hits, of, steady=min(steady, HIGHEST), steady_of=steady_of)

    low, steady_low = expected(lambda outputs: hit_logits(outputs, hits, of, axis), LOWEST, quick), LOWEST_STEADY
    if steady_of is not None:
        steady_low = expected(lambda outputs: steady_logits(outputs, steady_of, axis), LOWEST_STEADY, 1.0 - quick)
    for score in axis.scores:
        threshold = float(score)
        if threshold < low:
            continue
        if threshold > HIGHEST:
            break
        # what the tail did not foresee raises both ways by as much
        found = rule(threshold, _shifted(steady_low, _logit(threshold) - _logit(low)))
        if _borne(label, judging, found, decision, axis):
            log.info("%s: %s (%.3f by the tail)", label, words_of(found), low)
            return found
    log.warning("%s: no threshold up to %.3f is quiet; that is taken", label, HIGHEST)
    return rule(HIGHEST, HIGHEST)


def words_of(rule: LabelRule) -> str:
    """Return a rule's two ways in words."""
    hits = f"{rule.threshold:.3f} in {rule.hits} of {rule.of} windows"
    return hits if rule.steady == 1.0 else f"{hits}, or {rule.steady:.3f} by the mean of {rule.steady_of}"


def _borne(label: str, judging: Sequence[Answered], rule: LabelRule, decision: DecisionConfig, axis: Axis) -> bool:
    """Say whether a rule raises no more on what was heard than is borne; forest raises nothing."""
    for role, rate in decision.borne.items():
        of = [one for one in judging if one.role == role]
        hours = sum(axis.hours(len(one.outputs)) for one in of)
        allowed = 0 if role == "forest" else math.floor(rate * hours)
        if sum(false_alerts(one, label, rule, axis) for one in of) > allowed:
            return False
    return True


def _expected_quiet(
    label: str,
    judging: Sequence[Answered],
    role: str,
    rate: float,
    axis: Axis,
    statistic: Callable[[Int8], Float64],
) -> float:
    """Return the score at which a statistic of a role is expected to be reached as often as is borne, by its tail."""
    of = [one for one in judging if one.role == role]
    if not of:
        return 0.0
    hours = sum(axis.hours(len(one.outputs)) for one in of)
    idx = axis.labels.index(label)
    moments = np.concatenate([peaks(statistic(one.outputs[:, idx]), axis) for one in of])
    return _score(tail_threshold(moments, hours, rate))


def hit_logits(outputs: Int8, hits: int, of: int, axis: Axis) -> Float64:
    """Return the logit that k of the last n windows reach, at each window, shape (n_windows,).

    Args:
        outputs: the label's bytes, shape (n_windows,).
        hits: k.
        of: n.
        axis: how to read them.
    """
    logits = _logits(outputs, axis)
    kth: Float64 = np.sort(last_ones(logits, of, logits.min(initial=0.0)), axis=1)[:, of - hits]
    return kth


def steady_logits(outputs: Int8, of: int, axis: Axis) -> Float64:
    """Return the mean logit of the last n windows as the agent's decider takes it, shape (n_windows,)."""
    logits = _logits(outputs, axis).clip(min=LOWEST_LOG_ODDS)
    mean: Float64 = last_ones(logits, of, LOWEST_LOG_ODDS).mean(axis=1)
    return mean


def last_ones(values: Float64, of: int, before: float) -> Float64:
    """Return at each window the last n values, shape (n_windows, n); `before` stands for those before the first."""
    return np.lib.stride_tricks.sliding_window_view(np.concatenate([np.full(of - 1, before), values]), of)


def peaks(statistic: Float64, axis: Axis) -> Float64:
    """Return the highest moments of a statistic, no two within half a minute, in falling order."""
    return statistic[peak_places(statistic, axis)]


def peak_places(statistic: Float64, axis: Axis) -> NDArray[np.intp]:
    """Return the windows at which a statistic has its highest moments, no two within half a minute, highest first."""
    apart = max(1, round(_APART_S / axis.stride_s))
    free = np.ones(len(statistic), bool)
    found: list[int] = []
    for idx in np.argsort(-statistic, kind="stable"):
        if free[idx]:
            found.append(int(idx))
            free[max(0, idx - apart + 1) : idx + apart] = False
    return np.array(found, np.intp)


def _logits(outputs: Int8, axis: Axis) -> Float64:
    scores = axis.scores[outputs.astype(np.int64) + 128].clip(1e-9, 1 - 1e-9)
    logits: Float64 = np.log(scores / (1 - scores))
    return logits


def tail_threshold(moments: Float64, hours: float, per_hour: float) -> float:
    """Return the logit that is expected to be reached `per_hour` times an hour.

    The excess over the level is taken to follow a generalised Pareto distribution, fitted by probability-weighted
    moments (Hosking and Wallis 1987). Its shape is held between -0.5 and 0: logits have an end, and a few moments
    that look like a heavier tail than the exponential are chance.

    Args:
        moments: independent peaks, logits.
        hours: in which they were heard.
        per_hour: the rate that is borne.
    """
    falling = np.sort(moments)[::-1]
    n_tail = min(_TAIL, len(falling) - 1)
    if n_tail < 3:
        return float(falling[0]) if len(falling) else -math.inf
    level = float(falling[n_tail])
    excess = falling[:n_tail] - level
    mean = float(excess.mean())
    if mean <= 0:
        return level
    above = (np.arange(1, n_tail + 1) - 0.35) / n_tail  # share of the excesses that lie above each
    weighted = float((above * excess).mean())
    shape = min(0.0, max(-0.5, 2 - mean / (mean - 2 * weighted) if mean > 2 * weighted else 0.0))
    scale = mean * (1 - shape)
    share = hours * per_hour / n_tail
    if shape > -1e-6:
        return level - scale * math.log(share)
    return level + scale / shape * (float(share**-shape) - 1)


def counts(answered: Sequence[Answered], rules: Mapping[str, LabelRule], axis: Axis) -> dict[str, dict[str, float]]:
    """Return per stream its minutes and the false alerts of each label, for the manifest's metrics."""
    return {
        one.name: {
            "minutes": round(60 * axis.hours(len(one.outputs)), 1),
            **{label: false_alerts(one, label, rules[label], axis) for label in one.wrong},
        }
        for one in answered
    }


def _shifted(score: float, logits: float) -> float:
    return _score(_logit(score) + logits)


def _logit(score: float) -> float:
    return math.log(score / (1 - score))


def _score(logit: float) -> float:
    return 1 / (1 + math.exp(-min(max(logit, -700.0), 700.0)))


@dataclass(frozen=True, kw_only=True, slots=True)
class Stream:
    """Validation sound of a recipe that is not cross-validated."""

    name: str
    role: str
    samples: Float32
    wrong: tuple[str, ...]


def validation_streams(store: Store, sounds: Sequence[Sound], forests: Sequence[Sound], seed: int) -> list[Stream]:
    """Return what must stay quiet: forest and places, storms, confusers on forest, and engines for the saw.

    Args:
        store: decoded sounds.
        sounds: those of the validation part.
        forests: long recordings to lay the confusers on.
        seed: of which piece lies where.
    """
    rng = np.random.default_rng(seed)
    real = [sound for sound in sounds if not sound.kind.startswith("synth-")]
    long = [sound for sound in real if sound.target == "background" and sound.length > 60 * SAMPLE_RATE]
    short = [sound for sound in real if sound.target in ("background", "storm") and sound not in long]
    confusing = [sound for sound in real if sound.target in ("machine", "other")]
    engines = [sound for sound in real if sound.target == "engine"]
    both, saw = ("chainsaw", "engine"), ("chainsaw",)
    streams = [Stream(name=one.name, role="forest", samples=store.read(one, 0, one.length), wrong=both) for one in long]
    laid = _laid([_piece(store, sound) for sound in [*confusing, *short]], store, forests, 10.0, rng)
    streams.append(Stream(name="confusers 10 dB", role="confusers", samples=laid, wrong=both))
    makes: list[Callable[[], Float32]] = [
        lambda: synth.engine(_PIECE_S, rng, synth.random_engine(rng)) for _ in range(40)
    ]
    makes += [lambda one=one: _piece(store, one) for one in engines]  # type: ignore[misc]  # bound early
    laid = _laid([make() for make in makes], store, forests, 10.0, rng)
    streams.append(Stream(name="engines 10 dB", role="engines", samples=laid, wrong=saw))
    return [stream for stream in streams if len(stream.samples) > 6 * SAMPLE_RATE]


def windows_of(samples: Float32, features: FeatureConfig, stride_s: float) -> Float32:
    """Return all windows of a recording at a stride, shape (n, n_frames, n_mels)."""
    frames = log_mel(samples, features)
    step = round(stride_s * features.sample_rate / features.hop)
    starts = range(0, len(frames) - features.n_frames + 1, step)
    return np.stack([window_features(frames[start : start + features.n_frames]) for start in starts])


def _piece(store: Store, sound: Sound) -> Float32:
    n_samples = int(_PIECE_S * SAMPLE_RATE)
    return repeated(store.read(sound, 0, sound.length)[: 2 * n_samples], n_samples)


def _laid(
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
