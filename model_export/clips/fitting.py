"""The training of a clip classifier: seeded epoch by epoch and kept every minute, so that a stop changes nothing."""

import csv
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np
from numpy.typing import NDArray

from agent.features import Float32
from model_export.clips.pictures import Int
from model_export.clips.recipe import FitConfig
from model_export.network import KerasModel

_KEEP_EVERY_S: Final = 60.0
_CURVES: Final = ("loss", "accuracy", "test_loss", "test_accuracy")


@dataclass(frozen=True, kw_only=True, slots=True)
class Lesson:
    """What is learnt, and what is looked at meanwhile."""

    inputs: Float32
    """Shape (n, ...): windows, or what a frozen body made of them."""
    truth: Int
    """Shape (n,)."""
    test_inputs: Float32
    """Strangers for the curve; they choose nothing."""
    test_truth: Int
    n_labels: int


def fit(
    model: KerasModel,
    lesson: Lesson,
    config: FitConfig,
    folder: Path,
    *,
    seed: int,
    keep_every_s: float = _KEEP_EVERY_S,
    now: Callable[[], float] = time.monotonic,
) -> list[dict[str, float]]:
    """Train, or go on training; return loss and accuracy of every epoch, on what teaches and on strangers.

    Args:
        model: inputs to logits.
        lesson: what to learn.
        config: how.
        folder: checkpoint, `history.csv` and TensorBoard's logs.
        seed: of all chance, with the number of the epoch: stopping changes nothing.
        keep_every_s: seconds between checkpoints.
        now: a clock in seconds.
    """
    from tensorboard.summary import Writer
    from tqdm import tqdm

    folder.mkdir(parents=True, exist_ok=True)
    optimizer = _compile(model, config)
    optimizer.build(model.trainable_variables)
    checkpoint = folder / "checkpoint.npz"
    history = _load(checkpoint, _variables(model, optimizer)) if checkpoint.is_file() else []
    n_steps = max(1, -(-len(lesson.inputs) // config.batch))
    bar = tqdm(
        total=config.epochs * n_steps, initial=len(history) * n_steps, desc=folder.name, unit="step", mininterval=2
    )
    kept_s = now()
    with closing(Writer(str(folder / "tensorboard"))) as board, bar:
        for epoch in range(len(history), config.epochs):
            row = _epoch(model, optimizer, lesson, config, np.random.default_rng([seed, epoch]), epoch, bar)
            history.append(row)
            for name in _CURVES:
                board.add_scalar(name, row[name], epoch)
            bar.set_postfix({name: f"{row[name]:.3f}" for name in ("loss", "test_accuracy")})
            if now() - kept_s >= keep_every_s:
                _save(checkpoint, _variables(model, optimizer), history)
                kept_s = now()
    _write(folder / "history.csv", history)
    checkpoint.unlink(missing_ok=True)
    return history


def _epoch(
    model: KerasModel,
    optimizer: Any,  # noqa: ANN401
    lesson: Lesson,
    config: FitConfig,
    rng: np.random.Generator,
    epoch: int,
    bar: Any,  # noqa: ANN401
) -> dict[str, float]:
    order = _order(lesson, config, rng)
    firsts = range(0, len(order), config.batch)
    sums = np.zeros((2, 3))
    for number, first in enumerate(firsts):
        rows = order[first : first + config.batch]
        optimizer.learning_rate.assign(rate((epoch + number / len(firsts)) / config.epochs, config.learning_rate))
        inputs = altered(lesson.inputs[rows], config, rng)
        logs = model.train_on_batch(inputs, _one_hot(lesson.truth[rows], lesson.n_labels), return_dict=True)
        sums[0] += _weighted(logs, len(rows))
        bar.update(1)
    for first in range(0, len(lesson.test_inputs), 64):
        truth = lesson.test_truth[first : first + 64]
        inputs = lesson.test_inputs[first : first + 64]
        sums[1] += _weighted(
            model.test_on_batch(inputs, _one_hot(truth, lesson.n_labels), return_dict=True), len(truth)
        )
    means = sums[:, :2] / np.where(sums[:, 2:] > 0, sums[:, 2:], np.nan)
    return dict(zip(_CURVES, map(float, means.ravel()), strict=True))


def _order(lesson: Lesson, config: FitConfig, rng: np.random.Generator) -> Int:
    """Return which inputs are seen in an epoch, and in which order."""
    n_inputs = len(lesson.inputs)
    if not config.balance:
        return rng.permutation(n_inputs).astype(np.int64)
    counts = np.bincount(lesson.truth, minlength=lesson.n_labels)
    weights = 1.0 / counts[lesson.truth]
    return rng.choice(n_inputs, n_inputs, p=weights / weights.sum()).astype(np.int64)


def _weighted(logs: Mapping[str, float], count: int) -> NDArray[np.float64]:
    """Return loss and accuracy of one batch, times its size, and the size: Keras tells them batch by batch."""
    return np.array([float(logs["loss"]) * count, float(logs["accuracy"]) * count, count])


def rate(done: float, highest: float) -> float:
    """Return the learning rate at a share of the training: a cosine down to a hundredth."""
    return highest * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))


def altered(windows: Float32, config: FitConfig, rng: np.random.Generator) -> Float32:
    """Return windows, some of them turned round in time or with a band or a moment blanked.

    What a frozen body made of windows, shape (n, n_features), comes back as it is.
    """
    if windows.ndim != 4:
        return windows
    windows = windows.copy()
    _, n_frames, n_columns, _ = windows.shape
    for idx in np.flatnonzero(rng.random(len(windows)) < config.shift_share):
        windows[idx] = np.roll(windows[idx], int(rng.integers(n_frames)), axis=0)
    for idx in np.flatnonzero(rng.random(len(windows)) < config.mask_share):
        axis, size = (0, n_frames) if rng.random() < 0.5 else (1, n_columns)
        width = int(rng.integers(1, max(2, size // 6)))
        first = int(rng.integers(size - width))
        np.moveaxis(windows[idx], axis, 0)[first : first + width] = 0.0
    return windows


def _compile(model: KerasModel, config: FitConfig) -> Any:  # noqa: ANN401
    optimizer = keras.optimizers.AdamW(learning_rate=config.learning_rate, weight_decay=1e-3, clipnorm=2.0)
    loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=config.label_smoothing)
    model.compile(optimizer=optimizer, loss=loss, metrics=["accuracy"])
    return optimizer


def _one_hot(truth: Int, n_labels: int) -> Float32:
    hot: Float32 = np.eye(n_labels, dtype=np.float32)[truth]
    return hot


def _variables(model: KerasModel, optimizer: Any) -> list[Any]:  # noqa: ANN401
    # what chance will do next is among them: a dropout layer's seed is a variable of the model
    weights = [*model.trainable_variables, *model.non_trainable_variables]
    return [*weights, *(layer.seed_generator.state for layer in _droppers(model)), *optimizer.variables]


def _droppers(model: KerasModel) -> list[Any]:
    return [layer for layer in model.layers if isinstance(layer, keras.layers.Dropout) and layer.rate > 0]


def _save(path: Path, variables: Sequence[Any], history: Sequence[dict[str, float]]) -> None:
    arrays = {f"v{idx:04d}": keras.ops.convert_to_numpy(variable) for idx, variable in enumerate(variables)}
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        np.savez(file, history=np.frombuffer(json.dumps(list(history)).encode(), np.uint8), **arrays)
    partial.replace(path)


def _load(path: Path, variables: Sequence[Any]) -> list[dict[str, float]]:
    with np.load(path) as file:
        for idx, variable in enumerate(variables):
            variable.assign(file[f"v{idx:04d}"])
        history: list[dict[str, float]] = json.loads(bytes(file["history"]))
        return history


def _write(path: Path, history: Sequence[dict[str, float]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["epoch", *_CURVES])
        writer.writeheader()
        writer.writerows({"epoch": epoch, **row} for epoch, row in enumerate(history, 1))
