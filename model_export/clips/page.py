"""One HTML page of a run, with its pictures inside it and beside it as PNG. Nothing in it comes from elsewhere."""

import base64
import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from model_export.clips import plots, run
from model_export.clips.judging import Judged
from model_export.clips.run import Run
from model_export.report import STYLE

_ON_A_SHEET = 12
_MISTAKES = 24
_SPLITS = {
    "tutorial": "tutorial's split: clips by chance",
    "honest": "honest split: every recording a stranger",
}


def write(found: Run, figures: Mapping[str, Any], exported: Mapping[str, Any] | None) -> Path:
    """Write `report.html` and the PNGs, and return the page's path.

    Args:
        found: the run.
        figures: of it (`run.figures`).
        exported: what `exporting` found of the int8 model, if it was made.
    """
    folder = found.folder / "png"
    folder.mkdir(exist_ok=True)
    pictures = _pictures(found, figures)
    for name, (_, content) in pictures.items():
        (folder / f"{name}.png").write_bytes(content)
    path = found.folder / "report.html"
    path.write_text(_page(found, figures, exported, pictures), encoding="utf-8")
    return path


def _pictures(found: Run, figures: Mapping[str, Any]) -> dict[str, tuple[str, bytes]]:
    labels = found.recipe.labels
    judged = run.judged(found)
    rows = [
        (name, np.array([[row["recall"][key] for key in ("value", "low", "high")] for row in one["classes"].values()]))
        for name, one in figures["splits"].items()
    ]
    made = {
        "recall": ("Recall of each class", plots.bars(rows, labels)),
        "curves": ("Loss and accuracy by epoch, on strangers", plots.curves(run.histories(found))),
    }
    for name, answers in judged.items():
        made[f"confusion-{name}"] = (f"Confusion, {_SPLITS[name]}", plots.confusion(answers, labels, _SPLITS[name]))
        made[f"tradeoffs-{name}"] = (f"Thresholds, {_SPLITS[name]}", plots.tradeoffs(answers, labels, name))
    last = judged.get("honest", judged["tutorial"])
    made["mistakes"] = ("What was named wrongly, the surest mistakes first", _mistakes(found, last))
    for idx, label in enumerate(labels):
        made[f"class-{label}"] = (f"What the network sees of {label}", _class_sheet(found, idx))
    return made


def _class_sheet(found: Run, label: int) -> bytes:
    made = found.pictures
    clips = np.flatnonzero(made.truth == label)
    # as many recordings as there are places
    firsts = {made.groups[clip]: clip for clip in clips[::-1]}
    shown = sorted({*firsts.values()})[:_ON_A_SHEET]
    windows = [made.windows[int(np.flatnonzero(made.clip == clip)[0])] for clip in shown]
    title = f"{found.recipe.labels[label]}: {len(clips)} clips of {len(firsts)} recordings"
    return plots.sheet(windows, [_short(made.names[clip]) for clip in shown], title)


def _mistakes(found: Run, answers: Judged) -> bytes:
    labels, made = found.recipe.labels, found.pictures
    by_name = {name: idx for idx, name in enumerate(made.names)}
    wrong = np.flatnonzero(answers.answers != answers.truth)
    worst = wrong[np.argsort(-answers.scores[wrong].max(axis=1), kind="stable")][:_MISTAKES]
    windows = [made.windows[int(np.flatnonzero(made.clip == by_name[answers.names[idx]])[0])] for idx in worst]
    captions = [
        f"{labels[answers.truth[idx]]} as {labels[answers.answers[idx]]} {answers.scores[idx].max():.2f}\n"
        f"{_short(answers.names[idx])}"
        for idx in worst
    ]
    title = f"{len(wrong)} of {len(answers.names)} clips were named wrongly"
    return plots.sheet(windows or [np.zeros((2, 2), np.float32)], captions or ["none"], title)


def _short(name: str) -> str:
    return name.rsplit("/", 1)[-1][-34:]


def _page(
    found: Run,
    figures: Mapping[str, Any],
    exported: Mapping[str, Any] | None,
    pictures: Mapping[str, tuple[str, bytes]],
) -> str:
    recipe = found.recipe
    parts = [
        f"<h1>{html.escape(recipe.name)}</h1>",
        f"<p>{figures['clips']} clips of {figures['recordings']} recordings ({html.escape(figures['layout'])}); "
        f"{len(recipe.labels)} classes; {figures['skipped']} files left out. Body: {html.escape(recipe.network.kind)}, "
        f"weights {html.escape(figures['weights'])}. Published beside it: {html.escape(figures['published'])}.</p>",
        *(f'<p class="warning">{html.escape(text)}</p>' for text in figures["warnings"]),
        _table(["split", "clips", "recordings", "accuracy (95 % over recordings)"], _split_rows(figures)),
        *(_class_table(name, figures["splits"][name]) for name in figures["splits"]),
    ]
    if exported is not None:
        parts.append(_table(["the int8 model", ""], [[key, str(value)] for key, value in exported.items()]))
    parts += [_figure(caption, content) for caption, content in pictures.values()]
    style = STYLE + ".warning{background:#fff3d6;border-left:4px solid #c98a00;padding:.5rem .75rem}"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{html.escape(recipe.name)}</title><style>{style}</style></head><body>{''.join(parts)}</body></html>\n"
    )


def _split_rows(figures: Mapping[str, Any]) -> list[list[str]]:
    return [
        [_SPLITS[name], str(one["clips"]), str(one["recordings"]), interval(one["accuracy"])]
        for name, one in figures["splits"].items()
    ]


def _class_table(name: str, split: Mapping[str, Any]) -> str:
    rows = [
        [
            label,
            str(row["clips"]),
            interval(row["recall"]),
            interval(row["precision"]),
            f"{row['average_precision']:.2f}",
            f"{row['auc']:.2f}",
        ]
        for label, row in split["classes"].items()
    ]
    head = [f"{name}: class", "clips", "recall", "precision", "average precision", "ROC area"]
    return _table(head, rows)


def interval(row: Mapping[str, float]) -> str:
    """Return a figure with its interval, for people."""
    return f"{row['value']:.3f} ({row['low']:.3f} to {row['high']:.3f})"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    first = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{first}</tr></thead><tbody>{body}</tbody></table>"


def _figure(caption: str, content: bytes) -> str:
    uri = base64.b64encode(content).decode()
    text = html.escape(caption)
    return f'<figure><img alt="{text}" src="data:image/png;base64,{uri}"><figcaption>{text}</figcaption></figure>'
