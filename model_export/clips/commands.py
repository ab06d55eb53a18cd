"""The commands of clip recipes: train, evaluate, export, predict, spectrogram."""

import argparse
import csv
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from agent.errors import ConfigError
from agent.features import FeatureConfig, log_mel
from agent.manifest import BUNDLED_MODEL, load_model
from model_export import datasets
from model_export.clips.recipe import ClipRecipe, document_of, is_clips, load_recipe
from model_export.errors import DataError

if TYPE_CHECKING:
    from model_export.clips.exporting import Exported
    from model_export.clips.run import Run

log = logging.getLogger(__name__)

Add = Callable[[str, str, Callable[[argparse.Namespace], int]], argparse.ArgumentParser]


def takes(options: argparse.Namespace) -> bool:
    """Say whether the recipe that is named sorts clips."""
    return is_clips(document_of(options.recipe))


def train(options: argparse.Namespace) -> int:
    """Train every part of a recipe, and write its report."""
    from model_export.clips import run

    found = _prepared(options)
    if options.afresh:
        run.start_afresh(found)
    run.train(found, options.weights)
    return _report(found)


def evaluate(options: argparse.Namespace) -> int:
    """Print the figures of what was trained, and write the report again."""
    found = _prepared(options)
    _expect_trained(found)
    return _report(found)


def export(options: argparse.Namespace) -> int:
    """Convert what was trained to an int8 model with its manifest."""
    found = _prepared(options)
    _expect_trained(found)
    _export(found, options)
    return _report(found)


def whole(options: argparse.Namespace) -> int:
    """Train, judge, convert."""
    from model_export.clips import run

    found = _prepared(options)
    run.train(found, options.weights)
    _export(found, options)
    return _report(found)


def _prepared(options: argparse.Namespace) -> "Run":
    from model_export.clips import run

    recipe = _recipe(options)
    return run.prepare(recipe, options.data, options.cache, options.runs, options.layout)


def _recipe(options: argparse.Namespace) -> ClipRecipe:
    recipe = load_recipe(options.recipe)
    for name in ("mixtures", "fold"):
        if getattr(options, name, None) is not None:
            raise ConfigError(f"--{name}: means nothing to {recipe.name}, which sorts clips and mixes none")
    return recipe if options.epochs is None else recipe.with_epochs(options.epochs)


def _expect_trained(found: "Run") -> None:
    from model_export.clips import run

    if not run.is_trained(found):
        raise DataError(
            f"{found.folder}: is not trained, or not to the end; run `python -m model_export train` with the same "
            "recipe and data"
        )


def _export(found: "Run", options: argparse.Namespace) -> None:
    from model_export.clips import exporting

    out = (
        options.out if options.out not in (None, BUNDLED_MODEL) else Path("var/models") / f"{found.recipe.name}.tflite"
    )
    made = exporting.export_model(found, out)
    told = _told(made)
    (found.folder / "exported.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    for key, value in told.items():
        print(f"{key}: {value}")
    if found.recipe.decision.counts and found.found.long:
        _count(found, made.path)


def _count(found: "Run", model: Path) -> None:
    """Count calls in the long recordings beside the clips, by the agent's own loop, and write `counts.csv`."""
    from model_export.scan import work
    from model_export.scan.hear import job_of

    manifest, content = load_model(model)
    names = [str(path.resolve()) for path in found.found.long]
    heard = list(work.here("/", names, job_of(manifest, content, gate=False, vad=False), 1))
    path = found.folder / "counts.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["recording", "calls", "error"])
        writer.writerows([Path(one.path).name, len(one.events), one.error] for one in heard)
    print(f"{sum(len(one.events) for one in heard)} calls in {len(heard)} long recordings: {path}")


def _told(made: "Exported") -> dict[str, Any]:
    return {
        "model": str(made.path),
        "megabytes": round(made.n_bytes / 1e6, 2),
        "int8 agrees": f"on {100 * made.agreement:.1f} % of {made.windows} windows",
        "CPU ms a window": round(made.cpu_ms, 2),
    }


def _report(found: "Run") -> int:
    from model_export.clips import page, run

    figures = run.figures(found)
    run.write_figures(found, figures)
    exported = found.folder / "exported.json"
    told = json.loads(exported.read_text(encoding="utf-8")) if exported.is_file() else None
    path = page.write(found, figures, told)
    for name, one in figures["splits"].items():
        print(f"{name:9} accuracy {page.interval(one['accuracy'])} on {one['clips']} clips")
        for label, row in one["classes"].items():
            print(f"  {label:18} recall {page.interval(row['recall'])}  precision {page.interval(row['precision'])}")
    print(f"published: {figures['published']}\nweights: {figures['weights']}\nreport: {path}")
    run.report_skipped(found)
    return 0


def describe(add: Add) -> None:
    """Add the commands that need no recipe."""
    told = add("predict", "print each class of a model with its score, file by file", predict)
    told.add_argument("files", nargs="+", type=Path, metavar="FILE", help="WAV, FLAC, MP3 or Ogg")
    told.add_argument("--model", type=Path, default=BUNDLED_MODEL, metavar="FILE", help="(%(default)s)")
    told.add_argument("--json", action="store_true", help="one JSON object a line")
    drawn = add("spectrogram", "draw recordings as log-mel pictures (PNG)", spectrogram)
    drawn.add_argument("files", nargs="+", type=Path, metavar="FILE", help="WAV, FLAC, MP3 or Ogg")
    drawn.add_argument("--out", type=Path, metavar="DIR", help="where they go; beside the recordings by default")
    drawn.add_argument("--mels", type=int, default=128, metavar="N", help="mel bands (%(default)s)")


def predict(options: argparse.Namespace) -> int:
    """Print the scores of files: the mean over their windows, and the highest."""
    from agent.classify import load_classifier

    manifest, content = load_model(options.model)
    classifier = load_classifier(manifest, content)
    table, features = manifest.score_table(), manifest.features
    n_broken = 0
    for path in options.files:
        try:
            samples = datasets.read_sound(path)
        except DataError as error:
            n_broken += 1
            log.error("%s", error)  # noqa: TRY400  # one line that names the file
            continue
        if len(samples) < features.window_samples:
            samples = np.tile(samples, -(-features.window_samples // len(samples)))
        firsts = range(0, len(samples) - features.window_samples + 1, manifest.stride)
        windows = (log_mel(samples[first : first + features.window_samples], features) for first in firsts)
        scores = np.stack([table[classifier.outputs(window).astype(int) + 128] for window in windows])
        rows = sorted(
            zip(manifest.labels, scores.mean(axis=0), scores.max(axis=0), strict=True), key=lambda row: -row[1]
        )
        if options.json:
            found = {label: {"mean": round(float(mean), 4), "max": round(float(most), 4)} for label, mean, most in rows}
            print(json.dumps({"path": str(path), "windows": len(scores), "scores": found}))
        else:
            print(f"{path}  ({len(scores)} windows)")
            for label, mean, most in rows:
                print(f"  {label:20} {mean:.3f}   highest {most:.3f}")
    return 1 if n_broken else 0


def spectrogram(options: argparse.Namespace) -> int:
    """Draw recordings."""
    from model_export.clips import plots

    if not 8 <= options.mels <= 256:
        raise ConfigError(f"--mels is {options.mels}, expected 8 to 256")
    features = FeatureConfig(n_mels=options.mels, hop=256)
    n_broken = 0
    for path in options.files:
        try:
            samples = datasets.read_sound(path)
        except DataError as error:
            n_broken += 1
            log.error("%s", error)  # noqa: TRY400  # one line that names the file
            continue
        folder = options.out or path.parent
        folder.mkdir(parents=True, exist_ok=True)
        out = folder / f"{path.stem}.png"
        out.write_bytes(plots.spectrogram(samples, path.name, features))
        print(out)
    return 1 if n_broken else 0
