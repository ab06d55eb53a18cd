"""Four-fold cross-validation: every recording is heard once as a stranger.

For each fold a model is trained on the others, converted, and run through the agent over tracks made of the fold's
recordings. Thresholds are crossed too: those of a fold come from what the models of the other folds said to *their*
strangers, so that no track chooses the threshold by which it is judged. The thresholds that ship come from all folds.
Each fold is kept when it is done, and an interrupted training goes on.
"""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from agent.decide import LabelRule
from agent.errors import FieldError
from agent.fields import Fields
from agent.gate import GateConfig
from agent.manifest import load_model, manifest_path
from model_export import evaluation, margins, pipeline, tracks
from model_export.errors import DataError
from model_export.evaluation import Evaluation, Judged
from model_export.operating import SILENT, Answered, Axis, choose
from model_export.recipe import Recipe

Float64 = NDArray[np.float64]

log = logging.getLogger(__name__)

RULES_SCHEMA = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Fold:
    """One fold's model, its tracks, and what it says about every window of them."""

    number: int
    candidate: Path
    tracks: Path
    scores: Mapping[str, Float64]
    """By track, gate off, shape (n_windows, n_labels)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CrossValidated:
    """All folds, judged."""

    evaluation: Evaluation
    rules: dict[str, LabelRule]
    """The operating point of the shipped model: from all folds."""
    folds: tuple[Fold, ...]


def cross_validate(
    recipe: Recipe,
    data: Path,
    cache: Path,
    *,
    numbers: Sequence[int],
    train: Callable[[pipeline.Work], Path],
    verified: Path | None = None,
) -> CrossValidated:
    """Train, run and judge the folds.

    Args:
        recipe: whose split names the folds.
        data: the recordings.
        cache: where decoded sound, models and tracks are kept.
        numbers: which folds; two at least, for each is judged by the others' thresholds.
        train: returns the path of a fold's converted candidate, training it unless it is there.
        verified: judged alerts that teach too; those of a fold's devices and days do not teach that fold's model.

    Raises:
        DataError: fewer than two folds, or a fold lacks what a track needs.
    """
    if len(numbers) < 2:
        raise DataError("one fold alone has no threshold of its own; name two or more (--folds 1,2)")
    folds = [_fold(recipe.with_fold(number), data, cache, number, train, verified) for number in numbers]
    judged: list[Judged] = []
    facts: dict[str, object] = {}
    cost: dict[str, float] = {}
    for fold in folds:
        rules = rules_of([other for other in folds if other is not fold], recipe)
        kept = _judged(fold, rules)
        judged += kept.tracks
        facts[f"fold {fold.number}"] = kept.facts
        cost = {key: cost.get(key, 0.0) + value for key, value in kept.cost.items()}
    rules = rules_of(folds, recipe)
    facts["shipped rules"] = {label: asdict(rule) for label, rule in rules.items() if rule.alert}
    facts["recipe"] = recipe.digest
    return CrossValidated(
        evaluation=Evaluation(name=recipe.name, tracks=tuple(judged), cost=cost, facts=facts),
        rules=rules,
        folds=tuple(folds),
    )


def _fold(
    recipe: Recipe, data: Path, cache: Path, number: int, train: Callable[[pipeline.Work], Path], verified: Path | None
) -> Fold:
    log.info("fold %d", number)
    work = pipeline.prepare(recipe, data, cache, verified)
    pipeline.report_skipped(work)
    candidate = train(work)
    folder, truths = pipeline.held_out_tracks(work)
    kept = work.folder / f"scores-{folder.name}.npz"
    if not kept.is_file():
        said, _ = evaluation.listen(folder, truths, candidate)
        with kept.with_suffix(".partial").open("wb") as file:
            np.savez(file, **{name: one.all_scores for name, one in said.items()})  # type: ignore[arg-type]  # by name
        kept.with_suffix(".partial").replace(kept)
    with np.load(kept) as file:
        return Fold(number=number, candidate=candidate, tracks=folder, scores={key: file[key] for key in file.files})


def rules_of(folds: Sequence[Fold], recipe: Recipe) -> dict[str, LabelRule]:
    """Return the operating point from what the models of these folds said to their strangers."""
    answered: list[Answered] = []
    axis = _axis(folds)
    for fold in folds:
        answered += answers(evaluation.read_truths(fold.tracks), fold.scores, axis, fold.number)
    return choose(answered, recipe.decision, axis)


def _axis(folds: Sequence[Fold]) -> Axis:
    """Return how the folds' scores are read: each quantises in its own way, and the first one's steps serve all."""
    if not folds:
        raise DataError("no fold was given")
    manifest, _ = load_model(folds[0].candidate)
    return Axis.of(manifest)


def answers(truths: Sequence[tracks.Truth], scores: Mapping[str, Float64], axis: Axis, number: int) -> list[Answered]:
    """Return the tracks that must stay quiet: forest, confusers, and engines, on which a saw is false."""
    found: list[Answered] = []
    for truth in truths:
        role, wrong = margins.must_be_quiet(truth)
        if role:
            outputs = axis.to_bytes(scores[truth.name])
            found.append(Answered(name=f"{number} {truth.name}", role=role, wrong=wrong, outputs=outputs))
    return found


def _judged(fold: Fold, rules: Mapping[str, LabelRule]) -> Evaluation:
    """Run the device's own code over a fold's tracks at these rules; kept, for the same rules are not run twice."""
    manifest, content = load_model(fold.candidate)
    # the gate is what ships now, whenever the fold was converted
    manifest = replace(
        manifest, rules={label: rules.get(label, SILENT) for label in manifest.labels}, gate=GateConfig()
    )
    ruled = fold.candidate.with_name("ruled.tflite")
    kept = fold.candidate.with_name(f"judged-{fold.tracks.name}.json")
    text = manifest.to_json()
    if kept.is_file() and manifest_path(ruled).is_file() and manifest_path(ruled).read_text(encoding="utf-8") == text:
        return Evaluation.from_json(kept.read_text(encoding="utf-8"))
    pipeline.write_whole(ruled, content)
    pipeline.write_whole(manifest_path(ruled), text.encode())
    kept.unlink(missing_ok=True)
    found = evaluation.evaluate(fold.tracks, ruled, fold=fold.number)
    pipeline.write_whole(kept, found.to_json().encode())
    return found


def margins_text(found: CrossValidated, recipe: Recipe) -> str:
    """Return what thresholds chosen on the folds' own tracks would find, for each label that opens by its mean."""
    folds = [
        margins.Heard(number=one.number, truths=evaluation.read_truths(one.tracks), scores=one.scores)
        for one in found.folds
    ]
    axis = _axis(found.folds)
    return "\n\n".join(
        margins.table(label, *margins.margins(label, folds, of, axis))
        for label, of in recipe.decision.steady_of.items()
    )


def rules_text(rules: Mapping[str, LabelRule], recipe: Recipe, data_digest: str) -> str:
    """Return the file of an operating point, to lie beside its recipe."""
    document = {
        "schema": RULES_SCHEMA,
        "recipe": recipe.digest,
        "data_digest": data_digest,
        "rules": {label: asdict(rule) for label, rule in rules.items()},
    }
    return json.dumps(document, indent=1) + "\n"


def rules_path(recipe: Path) -> Path:
    """Return where the operating point of a recipe file lies: beside it, ending in .rules.json."""
    return recipe.with_suffix(".rules.json")


def read_rules(path: Path, recipe: Recipe) -> dict[str, LabelRule] | None:
    """Return a recipe's operating point; None where there is none, or it is of another recipe.

    Raises:
        DataError: the file is damaged.
    """
    if not path.is_file():
        return None
    try:
        fields = Fields(json.loads(path.read_text(encoding="utf-8")))
        fields.integer("schema", RULES_SCHEMA, RULES_SCHEMA)
        digest = fields.text("recipe", longest=64)
        fields.text("data_digest", longest=64)
        rules = fields.sub("rules")
        found = {label: LabelRule.parse(rules.sub(label)) for label in recipe.labels}
        fields.done()
    except (ValueError, FieldError) as error:
        raise DataError(f"{path}: is no operating point: {error}; cross-validate anew") from error
    if digest != recipe.with_fold(0).digest:
        log.warning("%s: is of another recipe (%s); its thresholds are not used", path, digest)
        return None
    return found
