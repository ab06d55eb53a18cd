"""One HTML page of an evaluation: tables, plots, and spectrograms that play. Nothing in it comes from elsewhere."""

import base64
import html
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.features import FeatureConfig, Float32, log_mel, mel_centres_hz
from agent.wav import write_wav
from model_export import summary as figures
from model_export.datasets import SAMPLE_RATE, read_sound
from model_export.evaluation import Evaluation
from model_export.scoring import ALERTED

Float64 = NDArray[np.float64]

_BEFORE_S, _AFTER_S = 7.5, 1.5
STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:75rem;margin:2rem auto;padding:0 1rem;
color:#1b2a20;background:#fbfbf8}
table{border-collapse:collapse;margin:1rem 0;font-size:.85rem;display:block;overflow-x:auto}
td,th{border:1px solid #cdd5cd;padding:.25rem .5rem;text-align:left;white-space:nowrap}
th{background:#e9efe8}figure{margin:1rem 0}img,svg{max-width:100%;height:auto}
.cases{display:grid;grid-template-columns:repeat(auto-fill,minmax(20rem,1fr));gap:1rem}
.cases figure{margin:0;border:1px solid #cdd5cd;padding:.5rem;background:#fff}audio{width:100%}
"""


def page(
    evaluation: Evaluation,
    summary: Mapping[str, Any],
    folders: Mapping[int, Path],
    curves: Mapping[str, Sequence[tuple[float, float]]],
    peers: Sequence[tuple[str, dict[str, Any]]] = (),
) -> str:
    """Return the page.

    Args:
        evaluation: what was measured.
        summary: its figures (`summary.summarise`).
        folders: fold -> folder of its tracks, for sound and pictures of the worst.
        curves: name -> (false alerts an hour on confusers and forest, recall) along the thresholds.
        peers: name and figures of other models on the same tracks.
    """
    parts = [
        f"<h1>Evaluation of {html.escape(evaluation.name)}</h1>",
        _picture("Recall by level, with 95 % intervals over recordings", _recall_plot(summary, peers)),
        _html_table(figures.table(dict(summary))),
        _picture(
            "Recall, all levels, against false alerts an hour on forest and confusers, by the hits of k of n alone",
            _curve(curves),
        ),
        _picture("Calibration: share of windows that are true, by score", _calibration_plot(summary)),
        _html_table(figures.details(dict(summary))),
    ]
    if peers:
        parts += [
            "<h2>Side by side</h2>",
            _html_table(figures.side_by_side([(evaluation.name, dict(summary)), *peers])),
        ]
    for title, key in (("The worst false alerts", "worst_false"), ("The worst misses", "worst_missed")):
        cases = [_case(row, folders) for row in summary[key]]
        parts.append(f'<h2>{title}</h2><div class="cases">{"".join(cases)}</div>')
    body = "\n".join(parts)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" '
        f'content="width=device-width"><title>Evaluation</title><style>{STYLE}</style></head><body>{body}</body></html>\n'
    )


def _case(row: Mapping[str, Any], folders: Mapping[int, Path]) -> str:
    """Return one alert or miss with its picture and its sound."""
    text = f"{row['label']} {row['score']:.2f}, fold {row['fold']}, {row['track']} at {row['at_s']:.1f} s"
    caption = f"<figcaption>{html.escape(text)}<br>{html.escape(row['source'] or 'forest alone')}</figcaption>"
    folder = folders.get(row["fold"])
    if folder is None:
        return f"<figure>{caption}</figure>"
    # a false alert comes behind what it heard, a missed event begins at its time
    first_s = max(0.0, row["at_s"] - (_BEFORE_S if "level" not in row else _AFTER_S))
    piece = read_sound(folder / f"{row['track']}.wav", (first_s, first_s + _BEFORE_S + _AFTER_S))
    sound = f'<audio controls preload="none" src="{_sound_uri(piece)}"></audio>'
    return (
        f'<figure><img alt="Spectrogram: {html.escape(text)}" src="{_spectrogram_uri(piece)}">{sound}{caption}</figure>'
    )


def _sound_uri(samples: Float32) -> str:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "piece.wav"
        write_wav(path, samples / np.float32(max(0.05, float(np.abs(samples).max()) * 1.1)), SAMPLE_RATE)
        return "data:audio/wav;base64," + base64.b64encode(path.read_bytes()).decode()


def _spectrogram_uri(samples: Float32) -> str:
    features = FeatureConfig()
    picture = log_mel(samples, features).T
    figure, axes = _axes(4.2, 2.2)
    high = float(picture.max())
    axes.imshow(
        picture,
        origin="lower",
        aspect="auto",
        cmap="magma",
        vmin=high - 12,
        vmax=high,
        extent=(0, len(samples) / SAMPLE_RATE, 0, features.n_mels),
    )
    centres_hz = mel_centres_hz(features)
    marks_hz = (200, 500, 1_000, 2_000, 4_000)
    axes.set_yticks([int(np.searchsorted(centres_hz, hz)) for hz in marks_hz], [f"{hz / 1000:g}" for hz in marks_hz])
    axes.set_xlabel("seconds")
    axes.set_ylabel("kHz")
    return "data:image/png;base64," + base64.b64encode(_drawn(figure, "png")).decode()


def _recall_plot(summary: Mapping[str, Any], peers: Sequence[tuple[str, dict[str, Any]]]) -> str:
    figure, axes = _axes(9, 3.6)
    rows = summary["recall"]
    names = [f"{row['label']}\n{row['level']}" for row in rows]
    values = np.array([[row["recall"][key] for key in ("value", "low", "high")] for row in rows])
    at = np.arange(len(rows))
    spread = [values[:, 0] - values[:, 1], values[:, 2] - values[:, 0]]
    axes.errorbar(at, values[:, 0], yerr=spread, fmt="o", capsize=3, color="#1b6e3c", label="the agent")
    for number, (name, other) in enumerate(peers, 1):
        found = {(row["label"], row["level"]): row["recall"]["value"] for row in other["recall"]}
        own = [found.get((row["label"], row["level"]), np.nan) for row in rows]
        axes.plot(at + 0.12 * number, own, "x", label=name)
    axes.set_xticks(at, names, fontsize=8)
    axes.set_ylim(-0.02, 1.04)
    axes.set_ylabel("recall")
    axes.grid(axis="y", alpha=0.3)
    # outside: at every level some model has its mark where a legend would be
    axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), fontsize=8)
    return _drawn(figure, "svg").decode()


def _curve(curves: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    figure, axes = _axes(6, 3.6)
    for name, points in curves.items():
        axes.step([point[0] for point in points], [point[1] for point in points], where="post", label=name)
    axes.set_xlim(0, 6)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("false alerts an hour")
    axes.set_ylabel("recall")
    axes.grid(alpha=0.3)
    if curves:
        axes.legend(loc="lower right")
    return _drawn(figure, "svg").decode()


def _calibration_plot(summary: Mapping[str, Any]) -> str:
    figure, axes = _axes(4.5, 3.6)
    axes.plot([0, 1], [0, 1], color="#999999", linewidth=1)
    for label in ALERTED:
        bins = [one for one in summary["calibration"][label]["bins"] if one["true_share"] is not None]
        axes.plot([one["mean_score"] for one in bins], [one["true_share"] for one in bins], "o-", label=label)
    axes.set_xlabel("mean score")
    axes.set_ylabel("share that is true")
    axes.legend(loc="upper left")
    return _drawn(figure, "svg").decode()


def _axes(width: float, height: float) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def _drawn(figure: Any, kind: str) -> bytes:  # noqa: ANN401  # matplotlib's figure
    out = io.BytesIO()
    figure.savefig(out, format=kind, dpi=90)
    drawn = out.getvalue()
    return drawn[drawn.index(b"<svg") :] if kind == "svg" else drawn


def _picture(caption: str, svg: str) -> str:
    return f"<figure>{svg}<figcaption>{html.escape(caption)}</figcaption></figure>"


def _html_table(markdown: str) -> str:
    """Return Markdown tables as HTML: a blank line ends one."""
    tables: list[str] = []
    for block in markdown.split("\n\n"):
        lines = [line for line in block.splitlines() if line.startswith("|")]
        rows = [[html.escape(cell.strip()) for cell in line.strip("|").split("|")] for line in lines]
        if len(rows) > 1:
            head = "".join(f"<th>{cell}</th>" for cell in rows[0])
            body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows[2:])
            tables.append(f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")
    return "\n".join(tables)


def curve(evaluation: Evaluation, label: str) -> list[tuple[float, float]]:
    """Return (false alerts an hour, recall) along the thresholds, from the agent's own run.

    False alerts are those that were raised, so the curve begins at the operating point and goes left: a higher
    threshold finds what scored higher.
    """
    false = sorted(
        (alert.score for track in evaluation.tracks for alert in track.false if alert.label == label
         and track.role in ("background", "confusers")),
        reverse=True,
    )  # fmt: skip
    hours = sum(track.duration_s for track in evaluation.tracks if track.role in ("background", "confusers")) / 3_600
    events = [event for track in evaluation.tracks if track.role == label for event in track.events]
    points = [(0.0, _share_above(events, false[0] if false else 0.0, strict=bool(false)))]
    points += [((n + 1) / hours, _share_above(events, score, strict=False)) for n, score in enumerate(false)]
    return points


def _share_above(events: Sequence[Any], score: float, *, strict: bool) -> float:
    found = [event.delay_s is not None and (event.best > score if strict else event.best >= score) for event in events]
    return float(np.mean(found)) if found else 0.0
