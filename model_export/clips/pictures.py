"""From decoded clips to what the network sees: windows of log-mel, or of plain magnitudes."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agent.features import FeatureConfig, Float32, log_mel, window_features
from model_export.clips.recipe import LOG_MEL, ClipRecipe
from model_export.datasets import Clip
from model_export.store import Sound, Store

Int = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Pictures:
    """Every window of every clip that a recipe takes."""

    windows: Float32
    """Shape (n_windows, n_frames, n_columns)."""
    clip: Int
    """Which clip each window is of, shape (n_windows,)."""
    truth: Int
    """Label of each clip, shape (n_clips,)."""
    names: tuple[str, ...]
    """Of the clips."""
    groups: tuple[str, ...]
    """Recording of each clip."""

    @property
    def n_clips(self) -> int:
        """Return how many clips there are."""
        return len(self.names)

    def of(self, clips: Int) -> Int:
        """Return the indices of the windows of these clips."""
        return np.flatnonzero(np.isin(self.clip, clips)).astype(np.int64)


def picture(samples: Float32, kind: str, features: FeatureConfig) -> Float32:
    """Return one window's picture, shape (n_frames, n_columns): n_mels of log-mel, or n_fft // 2 + 1 magnitudes."""
    if kind == LOG_MEL:
        return window_features(log_mel(samples, features))
    frames = np.lib.stride_tricks.sliding_window_view(samples, features.n_fft)[:: features.hop][: features.n_frames]
    taper = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(features.n_fft) / features.n_fft)
    magnitudes: Float32 = np.abs(np.fft.rfft(frames * taper)).astype(np.float32)
    return magnitudes


def columns(recipe: ClipRecipe) -> int:
    """Return the width of a picture."""
    return recipe.features.n_mels if recipe.picture.kind == LOG_MEL else recipe.features.n_fft // 2 + 1


def starts(length: int, window: int, most: int) -> list[int]:
    """Return where windows begin in a clip: as many as fit side by side, evenly spread; one where none fits."""
    n_windows = min(most, max(1, length // window))
    spare = max(0, length - window)
    if n_windows == 1:
        return [spare // 2]
    return [round(spare * number / (n_windows - 1)) for number in range(n_windows)]


def chosen(clips: Sequence[tuple[Clip, str]], most: int) -> list[tuple[Clip, str]]:
    """Return at most so many clips of each label, always the same ones whatever else is there; 0: all."""
    if most == 0:
        return list(clips)
    by_label: dict[str, list[Clip]] = {}
    for clip, label in sorted(clips, key=lambda pair: hashlib.sha256(pair[0].name.encode()).digest()):
        by_label.setdefault(label, []).append(clip)
    kept = {clip.name for found in by_label.values() for clip in found[:most]}
    return [(clip, label) for clip, label in clips if clip.name in kept]


def pictures(store: Store, sounds: Sequence[tuple[Sound, str]], recipe: ClipRecipe) -> Pictures:
    """Return the windows of these sounds.

    Args:
        store: where they lie.
        sounds: with their labels.
        recipe: how many windows, and of what kind.
    """
    windows: list[Float32] = []
    clip: list[int] = []
    length = recipe.features.window_samples
    for idx, (sound, _) in enumerate(sounds):
        for start in starts(sound.length, length, recipe.picture.windows):
            windows.append(picture(store.read(sound, start, length), recipe.picture.kind, recipe.features))
            clip.append(idx)
    return Pictures(
        windows=np.stack(windows),
        clip=np.array(clip, np.int64),
        truth=np.array([recipe.labels.index(label) for _, label in sounds], np.int64),
        names=tuple(sound.name for sound, _ in sounds),
        groups=tuple(sound.group for sound, _ in sounds),
    )
