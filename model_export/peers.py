"""Other models on the same tracks, decided by the same decider and scored by the same scorer.

A peer gives scores per stride and label; its threshold is the best that these very tracks allow at the stated rate of
false alerts, which no deployed model gets, so that the comparison errs in its favour.
"""

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from agent.decide import LabelRule
from agent.features import Float32
from model_export.datasets import read_sound
from model_export.errors import DataError
from model_export.evaluation import Evaluation, decided, judge, read_truths
from model_export.operating import SILENT, Answered, Axis, false_alerts, last_ones, rule_at
from model_export.recipe import LABELS
from model_export.tracks import Truth

Float64 = NDArray[np.float64]

YAMNET_CLASSES: Final = {
    "chainsaw": ("Chainsaw",),
    "engine": (
        "Engine", "Light engine (high frequency)", "Medium engine (mid frequency)", "Heavy engine (low frequency)",
        "Idling", "Engine starting", "Accelerating, revving, vroom", "Motor vehicle (road)", "Car", "Truck",
        "Motorcycle",
    ),
}  # fmt: skip
"""AudioSet classes that stand for each label; the highest of them is the score."""
_PATCH, _PATCH_HOP, _WINDOW, _STRIDE = 15_600, 8_000, 48_000, 24_000
_LOGITS: Final = np.linspace(-12.75, 12.75, 256)
AXIS: Final = Axis(labels=LABELS, scores=1 / (1 + np.exp(-_LOGITS)), stride_s=1.5, window_s=3.0)
"""A peer's scores as 256 steps of a tenth of a logit, for the decider."""
BORNE: Final = {"forest": 0.0, "confusers": 1.0}
"""False alerts an hour at which peers are compared."""
_QUIET: Final = ("background", "confusers")


@dataclass(frozen=True, slots=True)
class Yamnet:
    """YAMNet as published: a patch of 0.975 s every 0.5 s, mean over the 3 s of a window."""

    _interpreter: Any
    _columns: dict[str, list[int]]

    @classmethod
    def load(cls, model: Path, class_map: Path) -> "Yamnet":
        """Load the .tflite and the names of its classes; DataError if either is not what is expected."""
        from ai_edge_litert.interpreter import Interpreter

        try:
            with class_map.open(newline="", encoding="utf-8") as file:
                names = [row["display_name"] for row in csv.DictReader(file)]
            columns = {label: [names.index(name) for name in classes] for label, classes in YAMNET_CLASSES.items()}
            interpreter = Interpreter(model_path=str(model), num_threads=1)
            interpreter.allocate_tensors()
        except (OSError, KeyError, ValueError) as error:
            raise DataError(f"{model}, {class_map}: are not YAMNet and its class map: {error}") from error
        return cls(interpreter, columns)

    def scores(self, samples: Float32) -> Float64:
        """Return the score of each label at each stride, shape (n_windows, n_labels); storm is not asked."""
        ins, outs = self._interpreter.get_input_details()[0], self._interpreter.get_output_details()[0]
        starts = range(0, len(samples) - _PATCH + 1, _PATCH_HOP)
        patches = np.zeros((len(starts), 2))
        for row, start in enumerate(starts):
            self._interpreter.set_tensor(ins["index"], samples[start : start + _PATCH].reshape(ins["shape"]))
            self._interpreter.invoke()
            answer = self._interpreter.get_tensor(outs["index"]).ravel()
            patches[row] = [answer[self._columns[label]].max() for label in LABELS[:2]]
        n_windows = max(0, (len(samples) - _WINDOW) // _STRIDE + 1)
        per_window = (_WINDOW - _PATCH) // _PATCH_HOP + 1  # patches that lie wholly within a window
        scores = np.zeros((n_windows, len(LABELS)))
        for row in range(n_windows):
            first = row * _STRIDE // _PATCH_HOP
            scores[row, :2] = patches[first : first + per_window].mean(axis=0)
        return scores


def yamnet_scores(peers: Path, folder: Path, cache: Path) -> dict[str, Float64]:
    """Return YAMNet's scores of every track in a folder, kept so that it listens once."""
    from tqdm import tqdm

    truths = read_truths(folder)
    if cache.is_file():
        with np.load(cache) as file:
            if set(file.files) == {truth.name for truth in truths}:
                return {name: file[name] for name in file.files}
    model = Yamnet.load(peers / "yamnet.tflite", peers / "yamnet_class_map.csv")
    found = {
        truth.name: model.scores(read_sound(folder / f"{truth.name}.wav"))
        for truth in tqdm(truths, desc="YAMNet", unit="track")
    }
    cache.parent.mkdir(parents=True, exist_ok=True)
    partial = cache.with_suffix(".partial")
    with partial.open("wb") as file:
        np.savez(file, **found)  # type: ignore[arg-type]  # arrays by name
    partial.replace(cache)
    return found


@dataclass(frozen=True, slots=True)
class Form:
    """A way to decide that is tried for a peer: k of n windows, each of them a mean of the last ones or itself."""

    hits: int
    of: int
    mean_of: int = 1


FORMS: Final = (Form(2, 3), Form(2, 4), Form(3, 5), Form(1, 1, mean_of=8))


def evaluate_scores(
    name: str, folds: Sequence[tuple[int, Path, dict[str, Float64]]], forms: Sequence[Form] = FORMS
) -> Evaluation:
    """Return the evaluation of any model that gives scores, at the best threshold and way to decide for it.

    Args:
        name: what it is called.
        folds: number, folder of tracks, and scores by track of shape (n_windows, n_labels), a row each 1.5 s.
        forms: what is tried; the one that finds most events of a label, over all levels, is kept.
    """
    heard = [(fold, truth, scores[truth.name]) for fold, folder, scores in folds for truth in read_truths(folder)]
    choices = {label: _best_rule(label, heard, forms) for label in LABELS[:2]}
    rules = {label: choices[label][0] if label in choices else SILENT for label in LABELS}
    means = [choices[label][1].mean_of if label in choices else 1 for label in LABELS]
    tracks = tuple(_judged(fold, truth, _meant(scores, means), rules) for fold, truth, scores in heard)
    facts = {"rules": {label: {**asdict(rule), "mean_of": form.mean_of} for label, (rule, form) in choices.items()}}
    return Evaluation(name=name, tracks=tracks, facts=facts)


def _judged(fold: int, truth: Truth, scores: Float64, rules: dict[str, LabelRule]) -> Any:  # noqa: ANN401  # Judged
    said = decided(scores, rules, AXIS)
    return judge(fold, truth, said, said, rules, AXIS)


def _best_rule(
    label: str, heard: Sequence[tuple[int, Truth, Float64]], forms: Sequence[Form]
) -> tuple[LabelRule, Form]:
    """Return the rule that finds most events and still raises no more than is borne."""
    best, most = (rule_at(0.99), forms[0]), -1
    for form in forms:
        means = [form.mean_of] * len(LABELS)
        meant = [(fold, truth, _meant(scores, means)) for fold, truth, scores in heard]
        quiet = [_answered(truth, scores, label) for _, truth, scores in meant if truth.role in _QUIET]
        rule = _quietest(label, quiet, form.hits, form.of)
        rules = {name: rule if name == label else rule_at(0.99) for name in LABELS}
        found = sum(
            event.delay_s is not None
            for fold, truth, scores in meant
            if truth.role == label
            for event in _judged(fold, truth, scores, rules).events
        )
        if found > most:
            best, most = (rule, form), found
    return best


def _meant(scores: Float64, means: Sequence[int]) -> Float64:
    """Return scores of which each is the mean, by log-odds, of so many last ones; shape (n_windows, n_labels)."""
    odds = scores.clip(1e-6, 1 - 1e-6)
    logits = np.log(odds / (1 - odds))
    columns: list[Float64] = []
    for idx, of in enumerate(means):
        own = logits[:, idx]
        mean = last_ones(own, of, own.min(initial=0.0)).mean(axis=1)
        columns.append(scores[:, idx] if of == 1 else 1 / (1 + np.exp(-mean)))
    return np.stack(columns, axis=1)


def _answered(truth: Truth, scores: Float64, label: str) -> Answered:
    role = "forest" if truth.role == "background" else "confusers"
    return Answered(name=truth.name, role=role, wrong=(label,), outputs=AXIS.to_bytes(scores))


def _quietest(label: str, quiet: Sequence[Answered], hits: int, of: int) -> LabelRule:
    """Return the lowest threshold at which forest raises nothing and confusers one an hour."""
    usable = [float(score) for score in AXIS.scores if 0.001 <= score <= 0.9999]
    low, high = 0, len(usable) - 1
    while low < high:
        middle = (low + high) // 2
        rule = _rule(usable[middle], hits, of)
        if _is_borne(label, quiet, rule):
            high = middle
        else:
            low = middle + 1
    return _rule(usable[low], hits, of)


def _rule(threshold: float, hits: int, of: int) -> LabelRule:
    """Return a rule without hysteresis: a peer's scores may lie close together, and an event must not stay open."""
    rule = rule_at(threshold, hits, of)
    return replace(rule, release=rule.threshold)


def _is_borne(label: str, quiet: Sequence[Answered], rule: LabelRule) -> bool:
    for role, rate in BORNE.items():
        of = [one for one in quiet if one.role == role]
        hours = sum(AXIS.hours(len(one.outputs)) for one in of)
        if sum(false_alerts(one, label, rule, AXIS) for one in of) > rate * hours:
            return False
    return True
