"""A clip recipe on a folder of recordings, stage by stage: read, split, train each part, judge, and one model of all.

Each stage leaves its result in a folder that is named by recipe and recordings; the same command goes on from there.
"""

import hashlib
import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from agent.features import Float32
from model_export import datasets, network, store
from model_export.clips import fitting, judging, networks, splits
from model_export.clips.judging import Judged
from model_export.clips.networks import Net
from model_export.clips.pictures import Int, Pictures, chosen, pictures
from model_export.clips.recipe import ClipRecipe
from model_export.clips.splits import Part
from model_export.datasets import Clip, Skipped
from model_export.layouts import checks
from model_export.layouts.found import Found
from model_export.layouts.read import read
from model_export.store import Store

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """A recipe, and the recordings that it takes."""

    recipe: ClipRecipe
    found: Found
    clips: tuple[Clip, ...]
    """Those that the recipe takes."""
    store: Store
    pictures: Pictures
    parts: tuple[Part, ...]
    """The tutorial's split and the folds of the honest one."""
    warnings: tuple[str, ...]
    """What whoever reads the figures must know."""
    skipped: tuple[Skipped, ...]
    folder: Path
    """Where results are kept."""

    @property
    def data_digest(self) -> str:
        """Return the digest of the recordings."""
        return datasets.digest_of(self.clips)


def prepare(recipe: ClipRecipe, data: Path, cache: Path, runs: Path, layout: str | None = None) -> Run:
    """Read, decode and split the recordings.

    Args:
        recipe: what to take, and how to split.
        data: the folder of recordings, in any known layout.
        cache: where decoded sound is kept.
        runs: below which the results of this recipe on these recordings are kept.
        layout: its name, where the first that fits is not the one that is meant.

    Raises:
        DataError: the recordings cannot serve.
    """
    found = read(data, layout)
    labelled = [(clip, label) for clip in found.clips if (label := recipe.label_of(clip)) is not None]
    checks.classes(found.clips, recipe.label_of, recipe.labels)
    taken = chosen(labelled, recipe.picture.clips)
    opened, skipped = store.open_store([clip for clip, _ in taken], {}, cache)
    label_by_name = {clip.name: label for clip, label in taken}
    made = pictures(opened, [(sound, label_by_name[sound.name]) for sound in opened.sounds], recipe)
    parts = [splits.tutorial(made, recipe.split, recipe.seed)]
    if found.recordings_known:
        parts += splits.honest(made, recipe.split, {clip.name: clip.fold for clip, _ in taken})
    key = hashlib.sha256(f"{recipe.digest} {datasets.digest_of(clip for clip, _ in taken)}".encode()).hexdigest()[:12]
    run = Run(
        recipe=recipe,
        found=found,
        clips=tuple(clip for clip, _ in taken),
        store=opened,
        pictures=made,
        parts=tuple(parts),
        warnings=tuple(_warnings(recipe, found, made, parts)),
        skipped=tuple(skipped),
        folder=runs / f"{recipe.name}-{key}",
    )
    run.folder.mkdir(parents=True, exist_ok=True)
    return run


def _warnings(recipe: ClipRecipe, found: Found, made: Pictures, parts: Sequence[Part]) -> list[str]:
    said = [*found.notes, *checks.one_fold(found.clips, recipe.label_of)]
    if not found.recordings_known:
        said.append(
            "nothing tells which clips are of one recording, so there is no honest split: the figure is of the "
            "tutorial's kind alone; name the files so that it shows, or bring a manifest.csv with the column group"
        )
        return said
    groups = dict(zip(made.names, made.groups, strict=True))
    both = checks.straddling(groups, {made.names[clip] for clip in parts[0].test})
    if both:
        said.append(
            f"{len(both)} of {len(set(made.groups))} recordings have clips on both sides of the tutorial's split: its "
            "figure is of memory too; the honest one beside it is not"
        )
    return said


def report_skipped(run: Run) -> None:
    """Say at the end what was left out, file by file, and what else to know."""
    for text in run.warnings:
        log.warning("note: %s", text)
    for one in run.skipped:
        log.warning("left out: %s: %s", one.name, one.reason)
    if run.skipped:
        log.warning("%d of %d files were left out", len(run.skipped), len(run.clips))


def start_afresh(run: Run) -> None:
    """Forget what was trained."""
    shutil.rmtree(run.folder)
    run.folder.mkdir(parents=True)


def train(run: Run, weights: Sequence[Path]) -> None:
    """Train all parts and the model of all recordings; what was trained before is kept."""
    wanted = [part for part in run.parts if not _scores_path(run, part.name).is_file()]
    if not wanted and _final_path(run).is_file():
        return
    features, origin = _features(run, weights)
    for part in wanted:
        log.info("%s: %d clips teach, %d judge", part.name, len(part.train), len(part.test))
        net = _new(run, weights)
        _learn(run, net, features, part.train, part.test, part.name)
        windows = run.pictures.of(part.test)
        scores = judging.softmax(_answers(run, net, features, windows))
        judged = judging.judge(run.pictures, part.test, scores, windows)
        np.savez(_scores_path(run, part.name), clips=part.test, scores=judged.scores)
    if not _final_path(run).is_file():
        net = _new(run, weights)
        log.info("the model to export: all %d clips teach", run.pictures.n_clips)
        _learn(run, net, features, np.arange(run.pictures.n_clips), np.empty(0, np.int64), "final")
        arrays = {f"v{idx:04d}": array for idx, array in enumerate(net.whole.get_weights())}
        np.savez(_final_path(run), origin=np.array(origin), **arrays)


def trained(run: Run) -> tuple[Net, str]:
    """Return the model of all recordings, and where the weights of its body were from."""
    net = networks.build(run.recipe)
    with np.load(_final_path(run)) as file:
        net.whole.set_weights([file[f"v{idx:04d}"] for idx in range(len(file.files) - 1)])
        return net, str(file["origin"])


def is_trained(run: Run) -> bool:
    """Say whether all parts and the model of all are there."""
    return _final_path(run).is_file() and all(_scores_path(run, part.name).is_file() for part in run.parts)


def judged(run: Run) -> dict[str, Judged]:
    """Return the answers on the tutorial's split and, all folds as one, on the honest one."""
    found: dict[str, list[Judged]] = {}
    for part in run.parts:
        with np.load(_scores_path(run, part.name)) as file:
            clips, scores = file["clips"], file["scores"]
        made = run.pictures
        one = Judged(
            tuple(made.names[clip] for clip in clips),
            tuple(made.groups[clip] for clip in clips),
            made.truth[clips],
            scores,
        )
        found.setdefault(part.name.split("-")[0], []).append(one)
    return {name: judging.together(parts) for name, parts in found.items()}


def histories(run: Run) -> dict[str, list[dict[str, float]]]:
    """Return loss and accuracy by epoch of each part."""
    found: dict[str, list[dict[str, float]]] = {}
    for part in run.parts:
        path = run.folder / part.name / "history.csv"
        if path.is_file():
            lines = path.read_text(encoding="utf-8").splitlines()
            names = lines[0].split(",")
            found[part.name] = [dict(zip(names, map(float, line.split(",")), strict=True)) for line in lines[1:]]
    return found


def figures(run: Run) -> dict[str, Any]:
    """Return the figures of both splits, for `figures.json` and for people."""
    labels = run.recipe.labels
    splits_found: dict[str, Any] = {}
    for name, answers in judged(run).items():
        thresholds: Mapping[str, float] = run.recipe.decision.alert if len(labels) == 2 else {}
        splits_found[name] = {
            "clips": len(answers.names),
            "recordings": len(set(answers.groups)),
            "accuracy": _row(judging.accuracy(answers)),
            "classes": {
                label: {
                    "clips": int((answers.truth == idx).sum()),
                    "recall": _row(judging.recall(answers, idx, thresholds.get(label))),
                    "precision": _row(judging.precision(answers, idx, thresholds.get(label))),
                    "average_precision": judging.precision_recall(answers, idx)[2],
                    "auc": judging.roc(answers, idx)[2],
                }
                for idx, label in enumerate(labels)
            },
        }
    return {
        "recipe": run.recipe.name,
        "published": run.recipe.published,
        "layout": run.found.layout,
        "data_digest": run.data_digest,
        "clips": run.pictures.n_clips,
        "recordings": len(set(run.pictures.groups)),
        "skipped": len(run.skipped),
        "warnings": list(run.warnings),
        "weights": str(np.load(_final_path(run))["origin"]),
        "splits": splits_found,
    }


def write_figures(run: Run, found: Mapping[str, Any]) -> Path:
    """Write `figures.json` and return its path."""
    path = run.folder / "figures.json"
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return path


def _row(interval: Any) -> dict[str, float]:  # noqa: ANN401  # an Interval
    return {"value": interval.value, "low": interval.low, "high": interval.high}


def _new(run: Run, weights: Sequence[Path]) -> Net:
    keras.backend.clear_session()
    keras.utils.set_random_seed(run.recipe.seed)
    net = networks.build(run.recipe)
    if not run.recipe.network.frozen:
        networks.begin(net, run.recipe, weights, run.pictures.windows)
    return net


def _features(run: Run, weights: Sequence[Path]) -> tuple[Float32 | None, str]:
    """Return what the frozen body makes of all windows, (n_windows, n_features), computed once; None if it learns."""
    recipe = run.recipe
    if not recipe.network.frozen:
        net = networks.build(recipe)
        return None, networks.begin(net, recipe, weights, run.pictures.windows)
    path = run.folder / "features.npz"
    if not path.is_file():
        keras.utils.set_random_seed(recipe.seed)
        net = networks.build(recipe)
        origin = networks.begin(net, recipe, weights, run.pictures.windows)
        made = networks.through(net.body, run.pictures.windows[..., None], label="features of the frozen body")
        arrays = {f"v{idx:04d}": array for idx, array in enumerate(net.body.get_weights())}
        np.savez(path, features=made, origin=np.array(origin), **arrays)
    with np.load(path) as file:
        return file["features"], str(file["origin"])


def _learn(run: Run, net: Net, features: Float32 | None, teach: Int, test: Int, name: str) -> None:
    made = run.pictures
    train_windows, test_windows = made.of(teach), made.of(test)
    inputs = made.windows[..., None] if features is None else features
    lesson = fitting.Lesson(
        inputs=inputs[train_windows],
        truth=made.truth[made.clip[train_windows]],
        test_inputs=inputs[test_windows],
        test_truth=made.truth[made.clip[test_windows]],
        n_labels=len(run.recipe.labels),
    )
    model = net.whole if features is None else net.head
    fitting.fit(model, lesson, run.recipe.training, run.folder / name, seed=run.recipe.seed)
    if features is None:
        picks = np.random.default_rng(run.recipe.seed).permutation(len(train_windows))[:1_024]
        batches = [lesson.inputs[picks[first : first + 64]] for first in range(0, len(picks), 64)]
        network.measure_norms(net.whole, batches)
    elif name == "final":
        with np.load(run.folder / "features.npz") as file:
            net.body.set_weights([file[f"v{idx:04d}"] for idx in range(len(net.body.weights))])


def _answers(run: Run, net: Net, features: Float32 | None, windows: Int) -> Float32:
    if features is None:
        return networks.through(net.whole, run.pictures.windows[windows][..., None])
    return networks.through(net.head, features[windows])


def _scores_path(run: Run, part: str) -> Path:
    return run.folder / f"{part}.npz"


def _final_path(run: Run) -> Path:
    return run.folder / "final.npz"
