"""The training loop: a warm-up and a cosine, averaged weights, a checkpoint after each shard, and the time kept.

Keras 3 alone, so that any of its backends trains; only the export needs TensorFlow.
"""

import csv
import functools
import json
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import keras
import numpy as np

from agent.features import Float32
from model_export import network, pretrained
from model_export.recipe import BEGUN, Recipe, TrainConfig
from model_export.shards import MixJob, Shard, make_shard, read_shard, shards
from model_export.verified import Verified, as_carried

Optimizer: TypeAlias = Any
Tensor: TypeAlias = Any

log = logging.getLogger(__name__)

_NEXT_LOOK = 3
"""A shard is seen again so many shards later."""
UNKNOWN_KIND = -1.0
"""What stands where nobody said which kinds of sound are in a window: the second head learns nothing there."""
_NORM_BATCHES = 48
_TILT = 1.0
"""Spread of a tilt in log power: 4 dB."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """How far a training has come."""

    shard: int = 0
    """The next shard."""
    step: int = 0
    """Steps done."""
    elapsed_s: float = 0.0
    """Seconds spent training, over all sittings."""
    budget_s: float = math.inf
    """Seconds after which the schedule ends, however many mixtures are left."""


def train(
    recipe: Recipe,
    job: MixJob,
    folder: Path,
    *,
    weights: Sequence[Path],
    minutes: float | None,
    processes: int = 1,
    verified: Verified | None = None,
    now: Callable[[], float] = time.monotonic,
) -> network.KerasModel:
    """Return the trained network with averaged weights; goes on where an interrupted training stopped.

    Args:
        recipe: what to train.
        job: where its mixtures come from.
        folder: checkpoints, the history and the result.
        weights: what the network begins with (`pretrained.load`).
        minutes: the schedule ends by then, or None for all mixtures of the recipe.
        processes: how many make mixtures.
        verified: alerts that people judged, shown beside the mixtures.
        now: a clock in seconds.
    """
    from tqdm import tqdm

    keras.utils.set_random_seed(recipe.seed)
    folder.mkdir(parents=True, exist_ok=True)
    exported = network.build(recipe.network, recipe.features, len(recipe.labels))
    model = network.for_training(exported, len(job.kinds))
    result = folder / "trained.npz"
    if result.is_file():
        _load(result, exported.variables)
        return exported
    optimizer = _compile(model, recipe)
    checkpoint = folder / "checkpoint.npz"
    progress = _kept(checkpoint, model, optimizer) or Progress(budget_s=minutes * 60 if minutes else math.inf)
    if progress.step == 0:
        _begin(model, recipe, job, weights)
        optimizer.build(model.trainable_variables)
    config = recipe.training
    # who has so many minutes gets one schedule that fills them
    cycles = config.cycles if math.isinf(progress.budget_s) else 1
    n_shards, n_steps = _size(config)
    bar = tqdm(total=n_steps, initial=progress.step, desc="training", unit="step", mininterval=5)
    started = now() - progress.elapsed_s
    step = progress.step
    for number, path in shards(job, range(progress.shard, n_shards), processes):
        cycle, shards_in = divmod(number, n_shards // cycles)
        if cycle > 0 and shards_in == 0:
            optimizer = _next_cycle(model, optimizer, recipe)
        rng = np.random.default_rng([recipe.seed, number])
        shard = with_verified(_looked_at(read_shard(path), job, number, config.looks), verified, config, rng)
        done = step / n_steps
        losses: list[float] = []
        for windows, targets in _batches(shard, config, rng):
            done = max(step / n_steps, (now() - started) / progress.budget_s)
            if done >= 1:
                break
            optimizer.learning_rate.assign(rate(step, done, config, cycles))
            losses.append(float(model.train_on_batch(windows, targets)))
            step += 1
            bar.update(1)
        progress = replace(progress, shard=number + 1, step=step, elapsed_s=now() - started)
        loss = float(np.mean(losses)) if losses else math.nan
        bar.set_postfix(loss=f"{loss:.4f}", minutes=f"{progress.elapsed_s / 60:.1f}", done=f"{100 * done:.0f}%")
        _note(folder / "history.csv", progress, loss, rate(step, min(done, 1), config, cycles))
        _save(checkpoint, [*model.variables, *optimizer.variables], progress)
        _forget(path, number, config.looks)
        if done >= 1:
            break
    bar.close()
    optimizer.finalize_variable_values(model.trainable_variables)
    network.measure_norms(exported, _plain_batches(job, progress.shard - 1, config.batch))
    _save(result, exported.variables, progress)
    return exported


def _forget(path: Path, number: int, looks: int) -> None:
    """Remove the shard that has now been looked at for the last time."""
    last_looked_at = number - _NEXT_LOOK * (looks - 1)
    (path.parent / path.name.replace(f"{number:05d}", f"{last_looked_at:05d}")).unlink(missing_ok=True)


def rate(step: int, done: float, config: TrainConfig, cycles: int = 1) -> float:
    """Return the learning rate of a step: a straight warm-up, then a cosine over the share done; in each cycle anew.

    Args:
        step: steps done, from the very first.
        done: share of the whole training that is done, 0 to 1.
        config: of it.
        cycles: how many schedules the whole training is.
    """
    cycle = min(int(done * cycles), cycles - 1)
    steps_in = step - round(step * cycle / (done * cycles)) if cycle > 0 else step
    warm = min(1.0, (steps_in + 1) / max(1, config.warm_up))
    highest = config.learning_rate * (config.again if cycle > 0 else 1.0)
    return highest * warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(done * cycles - cycle, 1.0))))


def _compile(model: network.KerasModel, recipe: Recipe) -> Optimizer:
    config = recipe.training
    optimizer = keras.optimizers.AdamW(
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        clipnorm=2.0,
        use_ema=config.ema > 0,
        ema_momentum=config.ema if config.ema > 0 else 0.99,
    )
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    loss = functools.partial(weighted_loss, n_labels=len(recipe.labels), kinds_weight=recipe.network.kinds_weight)
    model.compile(optimizer=optimizer, loss=loss)
    return optimizer


def _size(config: TrainConfig) -> tuple[int, int]:
    """Return how many shards and steps a whole training has."""
    n_shards = max(1, round(config.mixtures / config.shard)) * config.cycles
    return n_shards, config.looks * n_shards * config.shard // config.batch


def _next_cycle(model: network.KerasModel, optimizer: Optimizer, recipe: Recipe) -> Optimizer:
    """Begin a cycle where the one before ended, with its averaged weights, and return a fresh optimizer."""
    optimizer.finalize_variable_values(model.trainable_variables)
    fresh = _compile(model, recipe)
    fresh.build(model.trainable_variables)
    return fresh


def weighted_loss(targets: Tensor, logits: Tensor, n_labels: int, kinds_weight: float = 0.0) -> Tensor:
    """Return the mean binary cross-entropy of the labels, each by its own weight, plus that of the kinds, summed.

    Args:
        targets: shape (n, 2 x n_labels + n_kinds): the labels, their weights, and which kinds are there, where known.
        logits: shape (n, n_labels + n_kinds), or so many times as many as there are networks in the model.
        n_labels: how many of them are labels.
        kinds_weight: of the second head.
    """
    n_answers = n_labels + (targets.shape[-1] - 2 * n_labels if kinds_weight > 0 else 0)
    networks = [logits[:, start : start + n_answers] for start in range(0, logits.shape[-1], n_answers)]
    losses = [_loss_of(one, targets, n_labels, kinds_weight) for one in networks]
    return sum(losses[1:], losses[0]) / len(losses)


def _loss_of(logits: Tensor, targets: Tensor, n_labels: int, kinds_weight: float) -> Tensor:
    labels, weights, kinds = targets[:, :n_labels], targets[:, n_labels : 2 * n_labels], targets[:, 2 * n_labels :]
    entropy = keras.ops.softplus(logits[:, :n_labels]) - labels * logits[:, :n_labels]
    loss = keras.ops.mean(entropy * weights, axis=-1)
    if logits.shape[-1] > n_labels:
        named = logits[:, n_labels:]
        known = keras.ops.cast(kinds >= 0, named.dtype)
        loss = loss + kinds_weight * keras.ops.sum(known * (keras.ops.softplus(named) - kinds * named), axis=-1)
    return loss


def _kept(checkpoint: Path, model: network.KerasModel, optimizer: Optimizer) -> Progress | None:
    """Put model and optimizer where an interrupted training left them; None where there was none."""
    if not checkpoint.is_file():
        return None
    optimizer.build(model.trainable_variables)
    progress = _load(checkpoint, [*model.variables, *optimizer.variables])
    log.info("going on at shard %d after %.1f minutes", progress.shard, progress.elapsed_s / 60)
    return progress


def _begin(model: network.KerasModel, recipe: Recipe, job: MixJob, weights: Sequence[Path]) -> None:
    """Give the network its first weights, and note whose they are."""
    begun: tuple[str, ...] = ()
    if pretrained.starts_from_weights(recipe.network):
        begun = pretrained.load(model, recipe.network, weights)
        job.folder.mkdir(parents=True, exist_ok=True)
        first = read_shard(make_shard(job, 0)).windows[:256]
        network.start_from(model, first[..., None])
    elif recipe.network.kind in pretrained.SOURCES:
        log.warning("alpha %g has no weights here: training starts from random ones", recipe.network.alpha)
    (job.folder.parent / BEGUN).write_text(json.dumps(begun), encoding="utf-8")


def _looked_at(shard: Shard, job: MixJob, number: int, looks: int) -> Shard:
    """Return a shard together with those whose next look is due."""
    # the first shards have no forerunners: they are themselves seen again
    earlier = [number - _NEXT_LOOK * look for look in range(1, looks)]
    due = [shard, *(read_shard(make_shard(job, one)) if one >= 0 else shard for one in earlier)]
    return Shard(
        np.concatenate([one.windows for one in due]),
        np.concatenate([one.labels for one in due]),
        np.concatenate([one.weights for one in due]),
        np.concatenate([one.kinds for one in due]),
    )


def with_verified(shard: Shard, verified: Verified | None, config: TrainConfig, rng: np.random.Generator) -> Shard:
    """Return a shard in which judged windows have the places of some mixtures, and as many others are as coarse."""
    if verified is None or not len(verified) or config.verified_share <= 0:
        return shard
    drawn = verified.draw(round(config.verified_share * len(shard.windows)), rng)
    order = rng.permutation(len(shard.windows))
    places, beside = order[: len(drawn)], order[len(drawn) : 2 * len(drawn)]
    windows, labels, weights, kinds = (
        array.copy() for array in (shard.windows, shard.labels, shard.weights, shard.kinds)
    )
    windows[places] = verified.windows[drawn]
    labels[places] = verified.labels[drawn]
    weights[places] = verified.weights[drawn]
    if verified.merged > 1:
        windows[beside] = [as_carried(window, verified.merged) for window in windows[beside]]
    kinds[places] = UNKNOWN_KIND  # people named the alert, not all that can be heard in it
    return Shard(windows, labels, weights, kinds)


def _batches(shard: Shard, config: TrainConfig, rng: np.random.Generator) -> Sequence[tuple[Float32, Float32]]:
    """Return shuffled batches, blended and blanked here and there."""
    order = rng.permutation(len(shard.windows))
    n_batches = len(order) // config.batch
    return [
        _batch(shard, order[idx * config.batch : (idx + 1) * config.batch], config, rng) for idx in range(n_batches)
    ]


def _batch(
    shard: Shard, chosen: np.ndarray[Any, np.dtype[np.int64]], config: TrainConfig, rng: np.random.Generator
) -> tuple[Float32, Float32]:
    windows, labels, weights = shard.windows[chosen], shard.labels[chosen], shard.weights[chosen]
    kinds = shard.kinds[chosen]
    labels = labels * (1 - 2 * config.label_smoothing) + config.label_smoothing
    share = np.where(rng.random(len(chosen)) < config.mixup_share, rng.beta(0.4, 0.4, len(chosen)), 1.0)
    share = share.astype(np.float32)
    other = rng.permutation(len(chosen))
    kept = share[:, None]
    windows = windows * kept[..., None] + windows[other] * (1 - kept[..., None])
    labels = labels * kept + labels[other] * (1 - kept)
    known = (kinds >= 0) & ((kinds[other] >= 0) | (kept == 1))
    kinds = np.where(known, kinds * kept + kinds[other] * (1 - kept), UNKNOWN_KIND)
    # a blend with something of which nothing is known is not known either
    weights = np.where(kept < 1, np.minimum(weights, weights[other]), weights)
    for idx in np.flatnonzero(rng.random(len(chosen)) < config.mask_share):
        _blank(windows[idx], rng)
    for idx in np.flatnonzero(rng.random(len(chosen)) < config.tilt_share):
        _tilt(windows[idx], rng)
    return windows[..., None], np.concatenate([labels, weights, kinds], axis=1)


def _blank(window: Float32, rng: np.random.Generator) -> None:
    """Blank a band or a moment of a window: neither alone may decide."""
    n_frames, n_mels = window.shape
    if rng.random() < 0.5:
        width = int(rng.integers(2, max(3, n_mels // 7)))
        low = int(rng.integers(n_mels - width))
        window[:, low : low + width] = 0.0
    else:
        width = int(rng.integers(3, max(4, n_frames // 6)))
        start = int(rng.integers(n_frames - width))
        window[start : start + width] = 0.0


def _tilt(window: Float32, rng: np.random.Generator) -> None:
    """Give a window another frequency response: in log-mel that is a sum, and the window's mean stays taken away."""
    n_mels = window.shape[1]
    n_knots = int(rng.integers(2, 7))
    curve = np.interp(np.arange(n_mels), np.linspace(0, n_mels - 1, n_knots), rng.normal(0, _TILT, n_knots))
    window += (curve - curve.mean()).astype(np.float32)


def _plain_batches(job: MixJob, number: int, batch: int) -> list[Float32]:
    windows = read_shard(make_shard(job, number)).windows[: _NORM_BATCHES * 64]
    return [windows[start : start + batch, ..., None] for start in range(0, len(windows) - batch + 1, batch)]


def _save(path: Path, variables: Sequence[Any], progress: Progress) -> None:
    arrays = {f"v{idx:04d}": keras.ops.convert_to_numpy(variable) for idx, variable in enumerate(variables)}
    state = {"shard": progress.shard, "step": progress.step, "elapsed_s": progress.elapsed_s}
    if math.isfinite(progress.budget_s):
        state["budget_s"] = progress.budget_s
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        np.savez(file, state=np.frombuffer(json.dumps(state).encode(), np.uint8), **arrays)
    partial.replace(path)


def _load(path: Path, variables: Sequence[Any]) -> Progress:
    with np.load(path) as file:
        for idx, variable in enumerate(variables):
            variable.assign(file[f"v{idx:04d}"])
        return Progress(**json.loads(bytes(file["state"])))


def _note(path: Path, progress: Progress, loss: float, learning_rate: float) -> None:
    is_new = not path.is_file()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        if is_new:
            writer.writerow(["shard", "step", "loss", "learning_rate", "elapsed_s"])
        writer.writerow(
            [progress.shard - 1, progress.step, f"{loss:.5f}", f"{learning_rate:.3e}", f"{progress.elapsed_s:.1f}"]
        )
