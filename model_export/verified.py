"""What rangers judged, taught beside the mixtures: log-mels of alerts, as `base_station export-labels` writes them.

Few alerts come with sound, and all with the window that the model saw, of fine frames two or more as one
(`agent.alert.PICTURE_HOP_S`): each of them is put back as often as it stands for, and as many mixtures beside it are
made as coarse, or coarse would soon mean "judged". A true alert is a saw in its own forest, through
its own microphone; a false one is just what the model mistakes. Alerts of one device and day share their forest: they
are one group, which belongs to one fold as recordings do.
"""

import csv
import hashlib
import math
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from agent.alert import frames_as_one
from agent.features import FeatureConfig, Float32, coarser, window_features
from model_export.datasets import Skipped
from model_export.errors import DataError
from model_export.recipe import LABELS
from model_export.split import SplitConfig, fold_of

LIST: Final = "log_mels.csv"
_COLUMNS: Final = ("path", "target", "group")
_LARGEST_BYTES: Final = 4 * 1024 * 1024
_MOST_OFTEN: Final = 2
"""A window is shown so many times with one shard, at most: a handful must not be learned by heart."""
_LABEL_WEIGHT: Final = {
    "chainsaw": (1.0, 0.25, 0.4),
    "engine": (1.0, 1.0, 0.4),
    "storm": (1.0, 1.0, 0.4),
    "machine": (1.0, 0.0, 0.4),
}
"""By target, how much each label may teach: a saw is a motor, and whether another machine is an engine is not asked."""
_QUIET_WEIGHT: Final = (1.0, 1.0, 0.4)


@dataclass(frozen=True, kw_only=True, slots=True)
class Verified:
    """Judged windows."""

    windows: Float32
    """Shape (n, n_frames, n_mels), as the model sees them."""
    labels: Float32
    """Shape (n, n_labels): 1 where the label holds."""
    weights: Float32
    """Shape (n, n_labels): how much each label may teach."""
    targets: tuple[str, ...]
    groups: tuple[str, ...]
    """Device and day."""
    merged: int = 1
    """So many frames of these windows are alike, as alerts carry them."""
    skipped: tuple[Skipped, ...] = ()

    def __len__(self) -> int:
        """Return how many windows there are."""
        return len(self.windows)

    @property
    def digest(self) -> str:
        """Return a short hash over all that teaches; empty where nothing does."""
        if not len(self):
            return ""
        content = hashlib.sha256(np.ascontiguousarray(self.windows).tobytes())
        content.update(self.labels.tobytes())
        return content.hexdigest()[:16]

    def without_fold(self, config: SplitConfig) -> "Verified":
        """Return those that may teach while a fold is held out."""
        kept = [idx for idx, group in enumerate(self.groups) if fold_of(group, (), config) != config.fold]
        return Verified(
            windows=self.windows[kept],
            labels=self.labels[kept],
            weights=self.weights[kept],
            targets=tuple(self.targets[idx] for idx in kept),
            groups=tuple(self.groups[idx] for idx in kept),
            merged=self.merged,
            skipped=self.skipped,
        )

    def draw(self, most: int, rng: np.random.Generator) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """Return numbers of windows to show with one shard: by target, then by device and day, then by alert.

        Args:
            most: how many at most; a small collection gives fewer.
            rng: of the shard.
        """
        by_target: dict[str, dict[str, list[int]]] = {}
        for idx, (target, group) in enumerate(zip(self.targets, self.groups, strict=True)):
            by_target.setdefault(target, {}).setdefault(group, []).append(idx)
        pools = [list(groups.values()) for groups in by_target.values()]
        drawn: list[int] = []
        for _ in range(min(most, _MOST_OFTEN * len(self))):
            groups = pools[int(rng.integers(len(pools)))]
            members = groups[int(rng.integers(len(groups)))]
            drawn.append(members[int(rng.integers(len(members)))])
        return np.asarray(drawn, np.int64)


def read_verified(folder: Path, features: FeatureConfig) -> Verified:
    """Read what was judged; windows of other features than the recipe's are left out, and named.

    Args:
        folder: as `base_station export-labels` wrote it.
        features: of the recipe.

    Raises:
        DataError: there is no list, it lacks a column, or not one window can teach.
    """
    rows = _rows(folder / LIST)
    merged = frames_as_one(features.hop / features.sample_rate)
    windows: list[Float32] = []
    targets: list[str] = []
    groups: list[str] = []
    skipped: list[Skipped] = []
    for row in rows:
        try:
            window = _window(folder, row["path"], features, merged)
        except DataError as error:
            skipped.append(Skipped(name=row["path"], reason=str(error)))
            continue
        windows.append(window)
        targets.append(row["target"])
        groups.append(row["group"])
    if not windows:
        reason = f", the first one because it {skipped[0].reason}" if skipped else ""
        raise DataError(f"{folder / LIST}: none of its {len(rows)} windows can teach{reason}")
    return Verified(
        windows=np.stack(windows),
        labels=np.asarray([[float(label == target) for label in LABELS] for target in targets], np.float32),
        weights=np.asarray([_LABEL_WEIGHT.get(target, _QUIET_WEIGHT) for target in targets], np.float32),
        targets=tuple(targets),
        groups=tuple(groups),
        merged=merged,
        skipped=tuple(skipped),
    )


def as_carried(window: Float32, merged: int) -> Float32:
    """Return a window as it is when an alert has carried it, same shape."""
    return _as_often(coarser(window, merged), merged, len(window))


def _as_often(columns: Float32, merged: int, n_frames: int) -> Float32:
    """Return each column as often as it stands for a frame, shape (n_frames, n_mels)."""
    return np.repeat(columns, merged, axis=0)[:n_frames]


def _rows(path: Path) -> Sequence[Mapping[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            missing = [name for name in _COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise DataError(
                    f"{path}: lacks the columns {', '.join(missing)}; `base_station export-labels` has them"
                )
            return [{name: row[name] or "" for name in _COLUMNS} for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{path}: cannot be read: {error}; expected a folder that `base_station export-labels` wrote"
        ) from error


def _window(folder: Path, name: str, features: FeatureConfig, merged: int) -> Float32:
    """Return one window as the model sees it; DataError says why it cannot teach."""
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise DataError("lies outside the folder")
    try:
        if path.stat().st_size > _LARGEST_BYTES:
            raise DataError(f"is larger than {_LARGEST_BYTES} bytes")
        with np.load(path, allow_pickle=False) as file:
            frames = np.asarray(file["log_mel"], np.float32)
            told = (float(file["hop_s"]), float(file["mel_min_hz"]), float(file["mel_max_hz"]))
    except (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile) as error:
        raise DataError(f"cannot be read: {error}") from error
    expected = (merged * features.hop / features.sample_rate, features.mel_min_hz, features.mel_max_hz)
    shape = (math.ceil(features.n_frames / merged), features.n_mels)
    if frames.shape != shape or not np.allclose(told, expected, rtol=1e-3):
        raise DataError(
            f"has {frames.shape} values, {told[0]:g} s apart, {told[1]:g} to {told[2]:g} Hz; of what the recipe's "
            f"model sees an alert carries {shape}, {expected[0]:g} s, {expected[1]:g} to {expected[2]:g} Hz"
        )
    if not np.isfinite(frames).all():
        raise DataError("holds values that are no numbers")
    return window_features(_as_often(frames, merged, features.n_frames))
