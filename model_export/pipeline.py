"""All of `make export-tflite`, stage by stage: decode, mix and train, convert, choose thresholds, evaluate, ship.

Each stage leaves its result in a folder that is named by recipe and recordings, so that what was interrupted goes
on, and what is the same is not done twice. The shipped files are replaced at the end, when all is known to be good.
"""

import hashlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from agent.decide import LabelRule
from agent.errors import ModelError
from agent.features import Float32
from agent.gate import GateConfig
from agent.manifest import Manifest, load_model
from model_export import card, datasets, heard, operating, shards, split, store, tracks
from model_export.errors import DataError, ExportError
from model_export.mixing import Mixer, features_of
from model_export.recipe import BEGUN, Recipe
from model_export.store import Sound, Store
from model_export.verified import Verified, read_verified

if TYPE_CHECKING:
    from model_export.export import Int8Model
    from model_export.network import KerasModel

log = logging.getLogger(__name__)

_REPRESENTATIVE = 500
_PARITY = 1_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """The recordings of a recipe, decoded and split."""

    recipe: Recipe
    clips: tuple[datasets.Clip, ...]
    parts: Mapping[str, str]
    store: Store
    samples: Path
    """The store's file."""
    folder: Path
    """Where this recipe's results on these recordings are kept."""
    skipped: tuple[datasets.Skipped, ...]
    verified: Verified | None = None
    """Judged alerts that teach too."""

    def sounds(self, part: str, *, with_synth: bool) -> list[Sound]:
        """Return the decoded sounds of one part of the split; synthetic ones belong to any that asks."""
        found: list[Sound] = []
        for sound in self.store.sounds:
            is_synth = sound.kind.startswith("synth-")
            if (is_synth and with_synth) or (not is_synth and self.parts[sound.group] == part):
                found.append(sound)
        return found

    @property
    def data_digest(self) -> str:
        """Return the digest of the recordings that train."""
        return datasets.digest_of(split.part_of(self.clips, dict(self.parts), split.TRAIN))


def prepare(recipe: Recipe, data: Path, cache: Path, verified: Path | None = None) -> Work:
    """Decode and split the recordings; what was decoded before is not decoded again.

    Args:
        recipe: what will be trained.
        data: the recordings.
        cache: where decoded sound and results are kept.
        verified: judged alerts, as `base_station export-labels` writes them.

    Raises:
        DataError: the recordings, or the judged alerts, cannot serve.
    """
    judged = None if verified is None else read_verified(verified, recipe.features).without_fold(recipe.split)
    clips = datasets.read_clips(data)
    parts = split.split(clips, recipe.split)
    opened, skipped = store.open_store(clips, dict(recipe.synth), cache)
    work = Work(
        recipe=recipe,
        clips=tuple(clips),
        parts=parts,
        store=opened,
        samples=Path(str(opened.samples.filename)),  # type: ignore[attr-defined]  # a memmap has it
        folder=cache,
        skipped=(*skipped, *(judged.skipped if judged is not None else ())),
        verified=judged,
    )
    taught = f"{recipe.digest} {work.data_digest}" + (
        f" {judged.digest}" if judged is not None and judged.digest else ""
    )
    key = hashlib.sha256(taught.encode()).hexdigest()[:12]
    return replace(work, folder=cache / f"{recipe.name}-{key}")


def report_skipped(work: Work) -> None:
    """Name the files that were left out."""
    for one in work.skipped:
        log.warning("left out: %s: %s", one.name, one.reason)
    if work.skipped:
        log.warning("%d of %d files were left out", len(work.skipped), len(work.clips) + len(work.verified or ()))
    if work.verified is not None:
        log.info("%d judged alerts teach too", len(work.verified))


def train(work: Work, *, weights: Sequence[Path], minutes: float | None, processes: int) -> "KerasModel":
    """Return the trained network; goes on where an interrupted training stopped."""
    from model_export import training

    sounds = work.sounds(split.TRAIN, with_synth=True)
    job = shards.job_of(work.recipe, work.samples, sounds, work.folder / "shards")
    return training.train(
        work.recipe,
        job,
        work.folder,
        weights=weights,
        minutes=minutes,
        processes=processes,
        verified=work.verified,
    )


def began(work: Work) -> tuple[str, ...] | None:
    """Return whose weights the training began with; None where it did not note them."""
    path = work.folder / BEGUN
    return tuple(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None


def trained_minutes(work: Work) -> float | None:
    """Return how long the training took, over all sittings."""
    path = work.folder / "trained.npz"
    if not path.is_file():
        return None
    with np.load(path) as file:
        return float(json.loads(bytes(file["state"]))["elapsed_s"]) / 60


def export(work: Work, model: "KerasModel", rules: Mapping[str, LabelRule] | None = None) -> Path:
    """Convert, check, set thresholds; return the candidate's .tflite in the work folder.

    Args:
        work: the recordings.
        model: what was trained on them.
        rules: the cross-validated operating point; None: from the recipe's validation sound, if it spares any.

    Whether it may be shipped is asked by `ship`: a fold's model is judged as it is.
    """
    from model_export import export as converting

    recipe = work.recipe
    log.info("converting")
    representative = _windows(work, split.TRAIN, _REPRESENTATIVE, salt=1)
    small = converting.convert_int8(model, representative)
    floating = converting.convert(model, None)
    strangers = work.recipe.split.fold > 0
    windows = _heard_windows(work, _PARITY) if strangers else _windows(work, split.TRAIN, _PARITY, salt=3)
    found = converting.parity(model, floating, small, windows)
    log.info("int8 agrees on %.2f %% of %d windows", 100 * found.int8_agreement, found.windows)
    # mixtures for training are doubtful on purpose: where the network is at odds with itself, so are the two
    hard = converting.parity(
        model, floating, small, _windows(work, split.TEST if strangers else split.TRAIN, _PARITY, salt=2)
    )
    log.info("and on %.2f %% of as many mixtures as hard as those of training", 100 * hard.int8_agreement)
    golden = small.input.to_bytes(converting.golden_windows(recipe.features))
    manifest = Manifest(
        name=recipe.name,
        labels=recipe.labels,
        activation="sigmoid",
        features=recipe.features,
        input=small.input,
        output=small.output,
        model_sha256=small.sha256,
        stride_s=recipe.stride_s,
        rules={label: operating.rule_at(operating.FALLBACK) for label in recipe.labels},
        gate=GateConfig(),
        golden_inputs=golden,
        golden_outputs=small.outputs(golden),
        metrics={},
        data_digest=work.data_digest,
        recipe=json.loads(json.dumps(asdict(recipe))),
        versions=converting.versions(),
        licence=card.LICENCE,
    )
    rules, counted = _operating_point(work, small, operating.Axis.of(manifest), rules)
    marks = tracks.marks_of(work.sounds(split.TRAIN, with_synth=False))
    metrics = {
        "parity": asdict(found),
        "parity_on_hard_mixtures": asdict(hard),
        "validation": counted,
        "trained_on": heard.pack(marks),
    }
    if work.verified is not None:
        metrics["verified"] = {"windows": len(work.verified), "digest": work.verified.digest}
    manifest = replace(manifest, rules=rules, metrics=metrics)
    path = work.folder / "candidate.tflite"
    write_whole(path, small.content)
    write_whole(path.with_suffix(".json"), manifest.to_json().encode())
    return path


def _operating_point(
    work: Work, model: "Int8Model", axis: operating.Axis, rules: Mapping[str, LabelRule] | None
) -> tuple[Mapping[str, LabelRule], dict[str, dict[str, float]]]:
    """Return the rules, and what they raise on validation sound where they come from it."""
    if rules is not None:
        return rules, {}
    recipe = work.recipe
    if recipe.split.validation_share <= 0:
        if recipe.split.fold == 0:
            log.warning(
                "no thresholds were cross-validated for this recipe and it spares no sound for validation: %.2f is "
                "taken; run `python -m model_export crossval`",
                operating.FALLBACK,
            )
        alerted = {label: operating.rule_at(operating.FALLBACK, *of) for label, of in recipe.decision.of.items()}
        return {label: alerted.get(label, operating.SILENT) for label in recipe.labels}, {}
    log.info("choosing thresholds")
    answered = [
        operating.Answered(
            name=stream.name,
            role=stream.role,
            wrong=stream.wrong,
            outputs=model.outputs(
                model.input.to_bytes(operating.windows_of(stream.samples, recipe.features, recipe.stride_s))
            ),
        )
        for stream in _validation(work)
    ]
    chosen = operating.choose(answered, recipe.decision, axis)
    return chosen, operating.counts(answered, chosen, axis)


def _validation(work: Work) -> list[operating.Stream]:
    sounds = work.sounds(split.VALIDATION, with_synth=False)
    # what teaches forest may carry a confuser: the model knows the ground, not what lies on it
    grounds = [
        sound
        for sound in [*sounds, *work.sounds(split.TRAIN, with_synth=False)]
        if sound.target == "background" and sound.length >= 60 * datasets.SAMPLE_RATE
    ]
    if not grounds:
        raise DataError("no background recording of a minute or more teaches; thresholds need some")
    return operating.validation_streams(work.store, sounds, grounds, work.recipe.seed)


def _windows(work: Work, part: str, count: int, *, salt: int) -> Float32:
    """Return mixtures of one part as the model sees them, shape (count, n_frames, n_mels)."""
    mixer = Mixer(work.store, work.sounds(part, with_synth=True), work.recipe.mixing)
    drawn = [mixer.draw(np.random.default_rng([work.recipe.seed, 77, salt, idx])) for idx in range(count)]
    return np.stack([features_of(mixture.samples, work.recipe.features) for mixture in drawn])


def _heard_windows(work: Work, count: int) -> Float32:
    """Return windows of the held-out tracks, as many of each, half of them within events where there are any."""
    folder, truths = held_out_tracks(work)
    rng = np.random.default_rng(work.recipe.seed)
    length = work.recipe.features.window_samples
    windows: list[Float32] = []
    for number, truth in enumerate(truths):
        samples = datasets.read_sound(folder / f"{truth.name}.wav")
        for idx in range(count // len(truths) + (number < count % len(truths))):
            start = int(rng.integers(len(samples) - length))
            if truth.events and idx % 2:
                event = truth.events[int(rng.integers(len(truth.events)))]
                start = int(rng.uniform(event.onset_s, event.offset_s - 3) * datasets.SAMPLE_RATE)
            windows.append(features_of(samples[start : start + length], work.recipe.features))
    return np.stack(windows)


def tracks_folder(work: Work) -> Path:
    """Return where the tracks of the held-out fold are kept: the same for every recipe, so that models compare."""
    names = sorted(clip.name for clip in split.part_of(work.clips, dict(work.parts), split.TEST))
    text = json.dumps([tracks.TRUTH_SCHEMA, tracks.TRACKS_VERSION, datasets.digest_of(work.clips), names])
    return work.folder.parent / f"tracks-{work.recipe.split.fold}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def held_out_tracks(work: Work) -> tuple[Path, list[tracks.Truth]]:
    """Return the tracks of the held-out fold, built unless they are there."""
    folder = tracks_folder(work)
    return folder, tracks.build_tracks(work.store, work.sounds(split.TEST, with_synth=False), folder)


def with_figures(candidate: Path, figures: Mapping[str, Any]) -> None:
    """Note what evaluation found in the candidate's manifest."""
    manifest, _ = load_model(candidate)
    manifest = replace(manifest, metrics={**manifest.metrics, "evaluation": figures})
    write_whole(candidate.with_suffix(".json"), manifest.to_json().encode())


def ship(work: Work, candidate: Path, out: Path, minutes: float | None) -> None:
    """Put model, manifest and card in place, the manifest last: until then the old pair or a refusal, never a mixture.

    Raises:
        ExportError: int8 disagrees with the network, the file is too large, or the agent does not accept it.
    """
    from agent.classify import load_classifier
    from model_export import export as converting

    try:
        manifest, content = load_model(candidate)
        parity: Any = manifest.metrics["parity"]
        converting.check(len(content), parity["int8_agreement"], parity["windows"])
        load_classifier(manifest, content)
    except ModelError as error:
        raise ExportError(f"the agent refuses the new model: {error}") from error
    train_sounds = work.sounds(split.TRAIN, with_synth=False)
    facts = {
        "licences": datasets.licences(split.part_of(work.clips, dict(work.parts), split.TRAIN)),
        "saws": len({sound.group for sound in train_sounds if sound.target == "chainsaw"}),
        "synth": dict(work.recipe.synth),
        "minutes": minutes,
        "began": began(work),
    }
    text = card.write_card(manifest, len(content), facts)
    out.parent.mkdir(parents=True, exist_ok=True)
    notice = out.parent / "LICENSE"
    if not notice.is_file():
        write_whole(notice, card.LICENCE_NOTICE.encode())
    write_whole(out.with_suffix(".md"), text.encode())
    write_whole(out, content)
    write_whole(out.with_suffix(".json"), manifest.to_json().encode())
    log.info("wrote %s (%d bytes), its manifest and its card", out, len(content))


def write_whole(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
