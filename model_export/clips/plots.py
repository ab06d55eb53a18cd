"""The pictures of a run, as PNG: curves, confusion, ROC and precision-recall, sheets of spectrograms."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.features import FeatureConfig, Float32, log_mel, mel_centres_hz
from model_export.clips import judging
from model_export.clips.judging import Judged

_GREEN, _GREY = "#1b6e3c", "#9aa79d"
_MARKS_HZ = (200, 500, 1_000, 2_000, 4_000, 8_000)


def curves(histories: Mapping[str, Sequence[Mapping[str, float]]]) -> bytes:
    """Return loss and accuracy by epoch: the tutorial's split, and every honest fold."""
    figure, (left, right) = _figure(10, 3.8, 2)
    for name, rows in histories.items():
        colour = "#b3541e" if name == "tutorial" else _GREEN
        known = name in ("tutorial", "honest-1")
        kind = name.split("-")[0]
        epochs = [row["epoch"] for row in rows]
        for axes, key in ((left, "loss"), (right, "accuracy")):
            axes.plot(epochs, [row[key] for row in rows], "--", color=colour, alpha=0.45, linewidth=1)
            label = kind if known else None
            axes.plot(epochs, [row[f"test_{key}"] for row in rows], color=colour, alpha=0.9, linewidth=1.3, label=label)
            axes.set_xlabel("epoch")
            axes.set_ylabel(f"{key} (dashed: on what teaches)")
            axes.grid(alpha=0.3)
    if histories:
        right.legend(loc="lower right")
    return _png(figure)


def confusion(judged: Judged, labels: Sequence[str], title: str) -> bytes:
    """Return the confusion matrix: rows are what it is, columns what was said; colours are shares of the row."""
    counts = judging.confusion(judged, len(labels))
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    size = 2.6 + 0.42 * len(labels)
    figure, axes = _figure(size + 0.6, size)
    axes.imshow(shares, cmap="Greens", vmin=0, vmax=1)
    ticks = range(len(labels))
    axes.set_xticks(ticks, labels, rotation=45, ha="right")
    axes.set_yticks(ticks, labels)
    if len(labels) <= 20:
        for row in ticks:
            for column in ticks:
                if counts[row, column]:
                    dark = shares[row, column] > 0.55
                    text = str(counts[row, column])
                    axes.text(
                        column, row, text, ha="center", va="center", fontsize=8, color="white" if dark else "black"
                    )
    axes.set_xlabel("said")
    axes.set_ylabel("is")
    axes.set_title(title, fontsize=10)
    return _png(figure)


def tradeoffs(judged: Judged, labels: Sequence[str], title: str) -> bytes:
    """Return ROC and precision-recall of each class against the rest."""
    figure, (left, right) = _figure(11, 4.4, 2)
    left.plot([0, 1], [0, 1], color=_GREY, linewidth=0.8)
    for idx, label in enumerate(labels):
        fpr, tpr, area = judging.roc(judged, idx)
        recalls, precisions, average = judging.precision_recall(judged, idx)
        name = label if len(labels) <= 20 else None
        left.step(fpr, tpr, where="post", label=f"{name} {area:.2f}" if name else None)
        right.step(recalls, precisions, where="pre", label=f"{name} {average:.2f}" if name else None)
    for axes, across, up in ((left, "false-positive rate", "true-positive rate"), (right, "recall", "precision")):
        axes.set_xlabel(across)
        axes.set_ylabel(up)
        axes.set_xlim(-0.01, 1.01)
        axes.set_ylim(-0.01, 1.02)
        axes.grid(alpha=0.3)
        if len(labels) <= 20:
            axes.legend(fontsize=7, loc="lower left" if axes is right else "lower right", title_fontsize=7)
    left.set_title(f"ROC, {title} (area)", fontsize=10)
    right.set_title(f"precision and recall, {title} (average precision)", fontsize=10)
    return _png(figure)


def sheet(pictures: Sequence[Float32], captions: Sequence[str], title: str, columns: int = 6) -> bytes:
    """Return many pictures, shape (n_frames, n_columns) each, on one sheet."""
    rows = -(-len(pictures) // columns)
    figure, axes = _figure(2.0 * columns, 1.9 * rows + 0.4, columns, rows)
    for place in np.atleast_1d(axes).ravel():
        place.set_axis_off()
    for place, picture, caption in zip(np.atleast_1d(axes).ravel(), pictures, captions, strict=False):
        low, high = np.percentile(picture, [5, 99.5])
        place.imshow(picture.T, origin="lower", aspect="auto", cmap="magma", vmin=low, vmax=max(high, low + 1e-6))
        place.set_title(caption, fontsize=6.5)
    figure.suptitle(title, fontsize=10)
    return _png(figure)


def spectrogram(samples: Float32, title: str, features: FeatureConfig) -> bytes:
    """Return one recording's log-mel with its axes, as tutorials show it."""
    figure, axes = _figure(9, 3.4)
    picture = log_mel(samples, features).T / np.log(10) * 10
    high = float(picture.max()) if picture.size else 0.0
    seconds = len(samples) / features.sample_rate
    drawn = axes.imshow(
        picture,
        origin="lower",
        aspect="auto",
        cmap="magma",
        vmin=high - 70,
        vmax=high,
        extent=(0, seconds, 0, len(picture)),
    )
    centres_hz = mel_centres_hz(features)
    marks = [hz for hz in _MARKS_HZ if centres_hz[0] <= hz <= centres_hz[-1]]
    axes.set_yticks([int(np.searchsorted(centres_hz, hz)) for hz in marks], [f"{hz / 1000:g}" for hz in marks])
    axes.set_xlabel("seconds")
    axes.set_ylabel("kHz (mel)")
    axes.set_title(title, fontsize=10)
    figure.colorbar(drawn, label="dB")
    return _png(figure)


def bars(rows: Sequence[tuple[str, NDArray[np.float64]]], labels: Sequence[str]) -> bytes:
    """Return value and interval of each class: one mark a split."""
    figure, axes = _figure(max(6.0, 0.75 * len(labels) + 2), 3.4)
    for number, (name, values) in enumerate(rows):
        at = np.arange(len(labels)) + 0.16 * number
        spread = [values[:, 0] - values[:, 1], values[:, 2] - values[:, 0]]
        colour = "#b3541e" if name == "tutorial" else _GREEN
        axes.errorbar(at, values[:, 0], yerr=np.maximum(0, spread), fmt="o", capsize=3, color=colour, label=name)
    axes.set_xticks(np.arange(len(labels)), labels, rotation=30, ha="right")
    axes.set_ylim(-0.02, 1.04)
    axes.set_ylabel("recall, 95 % over recordings")
    axes.grid(axis="y", alpha=0.3)
    axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2, fontsize=8)
    return _png(figure)


def _figure(width: float, height: float, columns: int = 1, rows: int = 1) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns)


def _png(figure: Any) -> bytes:  # noqa: ANN401  # matplotlib's figure
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=90)
    return out.getvalue()
