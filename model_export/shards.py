"""Mixtures made ahead of the trainer by processes of their own, a bounded number of files at a time.

A shard is named by seed and number, and each mixture has a seed of its own: a shard made again is the same.
"""

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from agent.features import FeatureConfig, Float32
from model_export.mixing import Mixer, features_of
from model_export.recipe import MixConfig, Recipe
from model_export.store import Sound, Store

_AHEAD = 4
_mixers: dict[str, Mixer] = {}


@dataclass(frozen=True, kw_only=True, slots=True)
class MixJob:
    """All that a process needs to make shards."""

    samples: Path
    """The store's file of samples."""
    sounds: tuple[Sound, ...]
    """Those of one part of the split."""
    mixing: MixConfig
    features: FeatureConfig
    seed: int
    folder: Path
    """Where shards are written."""
    size: int
    """Mixtures in a shard."""
    kinds: tuple[str, ...] = ()
    """Classes of sound that the second head is to name; none: no such head."""


@dataclass(frozen=True, slots=True)
class Shard:
    """Mixtures ready for training."""

    windows: Float32
    """Shape (n, n_frames, n_mels)."""
    labels: Float32
    """Shape (n, n_labels)."""
    weights: Float32
    """Shape (n, n_labels)."""
    kinds: Float32
    """Shape (n, n_kinds): 1 where a sound of the class is in the window."""


_FEWEST_OF_KIND = 4
"""Recordings that a class needs to be named by the second head; fewer teach a recording, not a class."""


def kinds_of(sounds: Sequence[Sound]) -> tuple[str, ...]:
    """Return the classes with recordings enough, sorted."""
    groups: dict[str, set[str]] = {}
    for sound in sounds:
        groups.setdefault(sound.kind, set()).add(sound.group)
    return tuple(sorted(kind for kind, members in groups.items() if len(members) >= _FEWEST_OF_KIND))


def job_of(recipe: Recipe, samples: Path, sounds: Sequence[Sound], folder: Path, *, salt: int = 0) -> MixJob:
    """Return the job of a recipe; another salt gives other mixtures of the same kind."""
    return MixJob(
        samples=samples,
        sounds=tuple(sounds),
        mixing=recipe.mixing,
        features=recipe.features,
        seed=recipe.seed + 1_000_003 * salt,
        folder=folder,
        size=recipe.training.shard,
        kinds=kinds_of(sounds) if recipe.network.kinds_weight > 0 else (),
    )


def make_shard(job: MixJob, number: int) -> Path:
    """Write a shard unless it is there, and return its path; runs in a process of its own."""
    path = job.folder / f"shard-{job.seed}-{number:05d}.npz"
    if path.is_file():
        return path
    mixer = _mixer(job)
    n_labels = 3
    windows = np.empty((job.size, job.features.n_frames, job.features.n_mels), np.float16)
    labels = np.empty((job.size, n_labels), np.float32)
    weights = np.empty((job.size, n_labels), np.float32)
    kinds = np.zeros((job.size, len(job.kinds)), np.float32)
    places = {kind: idx for idx, kind in enumerate(job.kinds)}
    for idx in range(job.size):
        mixture = mixer.draw(np.random.default_rng([job.seed, number, idx]))
        windows[idx] = features_of(mixture.samples, job.features)
        labels[idx], weights[idx] = mixture.labels, mixture.weights
        kinds[idx, [places[kind] for kind in mixture.kinds if kind in places]] = 1.0
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        np.savez(file, windows=windows, labels=labels, weights=weights, kinds=kinds)
    partial.replace(path)
    return path


def _mixer(job: MixJob) -> Mixer:
    """Return this process's mixer of a store; sorting the sounds is not done twice."""
    key = str(job.samples)
    if key not in _mixers:
        store = Store(job.sounds, np.memmap(job.samples, np.int16, "r"))
        _mixers[key] = Mixer(store, job.sounds, job.mixing)
    return _mixers[key]


def read_shard(path: Path) -> Shard:
    """Read a shard back, as float32."""
    with np.load(path) as file:
        return Shard(file["windows"].astype(np.float32), file["labels"], file["weights"], file["kinds"])


def shards(job: MixJob, numbers: Sequence[int], processes: int) -> Iterator[tuple[int, Path]]:
    """Yield shards in order while the next ones are being made.

    Args:
        job: what to make.
        numbers: which shards.
        processes: how many make them; 0: this one, when asked.
    """
    job.folder.mkdir(parents=True, exist_ok=True)
    if processes == 0:
        for number in numbers:
            yield number, make_shard(job, number)
        return
    # spawn: a fork of a process in which TensorFlow has threads may hang
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn"), initializer=_be_humble) as pool:
        waiting: deque[tuple[int, Future[Path]]] = deque()
        todo = deque(numbers)
        try:
            while todo or waiting:
                while todo and len(waiting) < _AHEAD + processes:
                    number = todo.popleft()
                    waiting.append((number, pool.submit(make_shard, job, number)))
                number, future = waiting.popleft()
                yield number, future.result()
        finally:
            for _, future in waiting:
                future.cancel()


def _be_humble() -> None:
    """Let the trainer go first."""
    os.nice(3)
