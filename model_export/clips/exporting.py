"""From a trained clip classifier to an int8 TFLite with the manifest that `python -m agent replay --model` reads."""

import json
import logging
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np

from agent.classify import load_classifier
from agent.decide import LabelRule
from agent.features import Float32, log_mel
from agent.gate import GateConfig
from agent.manifest import BUNDLED_MODEL, Manifest
from model_export import export, rounding
from model_export.clips import networks, run
from model_export.clips.networks import Net
from model_export.clips.recipe import INCEPTION, LOG_MEL, ClipRecipe
from model_export.clips.run import Run
from model_export.errors import ExportError
from model_export.export import Int8Model
from model_export.pipeline import write_whole

log = logging.getLogger(__name__)

_REPRESENTATIVE: Final = 200
_ROUNDED: Final = 32
"""Windows by which layers are rounded: every layer runs on all of them, and pictures may be large."""
_COMPARED: Final = 300
_TIMED: Final = 30
_LOWEST_AGREEMENT: Final = 0.95
"""Of the best label; lower than for the shipped model, whose labels are three and not ten."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Exported:
    """An exported model, and what is known of it."""

    path: Path
    n_bytes: int
    agreement: float
    """Share of windows on which int8 gives the label that the trained network gives."""
    windows: int
    """Of how many."""
    cpu_ms: float
    """CPU milliseconds a window on this machine: features and model, as the agent runs them."""


def why_not(recipe: ClipRecipe) -> str:
    """Return why no agent can run what this recipe makes, or nothing."""
    if recipe.picture.kind == LOG_MEL:
        return ""
    return (
        f"{recipe.name}: cannot be run by the agent: its network sees magnitudes of the Fourier transform, and the "
        "agent computes log-mel alone (agent/features.py); set picture.kind: log_mel"
    )


def export_model(found: Run, out: Path) -> Exported:
    """Convert the model of all recordings, check it, and write it with its manifest.

    Raises:
        ExportError: no agent can run such a model, int8 disagrees with it, or the agent refuses it.
    """
    recipe = found.recipe
    if problem := why_not(recipe):
        raise ExportError(problem)
    net, _ = run.trained(found)
    picks = np.random.default_rng(recipe.seed).permutation(len(found.pictures.windows))
    windows = found.pictures.windows[picks]
    small = convert(net, windows[:_REPRESENTATIVE], recipe)
    compared = windows[-_COMPARED:]
    wanted = networks.through(net.whole, compared[..., None]).argmax(axis=1)
    agreement = float((small.logits(compared).argmax(axis=1) == wanted).mean())
    if agreement < _LOWEST_AGREEMENT:
        raise ExportError(
            f"int8 names {100 * agreement:.1f} % of {len(compared)} windows as the trained network does, expected "
            f"{100 * _LOWEST_AGREEMENT:.0f} %; give it more varied clips, or train it longer"
        )
    manifest = _manifest(found, small, agreement)
    classifier = load_classifier(manifest, small.content)
    cpu_ms = _cpu_ms(recipe, classifier.outputs)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(out, small.content)
    write_whole(out.with_suffix(".json"), manifest.to_json().encode())
    if len(small.content) > export.LARGEST_MODEL_BYTES:
        log.warning(
            "%s has %.1f MB: the agent runs it, but the shipped one has %.1f MB, and all of the agent shall need 80 MB",
            out,
            len(small.content) / 1e6,
            BUNDLED_MODEL.stat().st_size / 1e6,
        )
    return Exported(path=out, n_bytes=len(small.content), agreement=agreement, windows=len(compared), cpu_ms=cpu_ms)


def convert(net: Net, representative: Float32, recipe: ClipRecipe) -> Int8Model:
    """Return the network as full int8 with its softmax: outputs are scores."""
    whole = net.whole
    if recipe.network.kind != INCEPTION:  # its branches do not line up layer by layer
        whole = rounding.rounded(whole, representative[:_ROUNDED])
    # said outright: behind a Resizing layer, which takes itself to be in training, Keras exports batch norms that learn
    logits = whole(whole.input, training=False)
    scored = keras.Model(whole.input, keras.layers.Softmax()(logits))
    return Int8Model.load(export.convert(scored, representative))


def _manifest(found: Run, small: Int8Model, agreement: float) -> Manifest:
    recipe = found.recipe
    golden = small.input.to_bytes(export.golden_windows(recipe.features))
    licences = {clip.licence for clip in found.clips}
    return Manifest(
        name=recipe.name,
        labels=recipe.labels,
        activation="none",
        features=recipe.features,
        input=small.input,
        output=small.output,
        model_sha256=small.sha256,
        stride_s=recipe.stride_s,
        rules={label: rule_of(recipe, label) for label in recipe.labels},
        gate=GateConfig(),
        golden_inputs=golden,
        golden_outputs=small.outputs(golden),
        metrics={"splits": run.figures(found)["splits"], "int8_agreement": agreement},
        data_digest=found.data_digest,
        recipe=json.loads(json.dumps(asdict(recipe))),
        versions=export.versions(),
        licence="CC-BY-NC-4.0" if any("NC" in one for one in licences) else "as the recordings allow",
    )


def rule_of(recipe: ClipRecipe, label: str) -> LabelRule:
    """Return when the agent alerts for a label."""
    threshold = recipe.decision.alert.get(label)
    if threshold is None:
        return LabelRule(alert=False)
    return LabelRule(
        threshold=threshold,
        # who counts calls wants every window below the threshold to end one
        release=threshold if recipe.decision.counts else round(0.75 * threshold, 4),
        hits=recipe.decision.hits,
        of=recipe.decision.of,
        close_after_s=recipe.stride_s if recipe.decision.counts else 6.0,
        refractory_s=0.0 if recipe.decision.counts else 30.0,
    )


def _cpu_ms(recipe: ClipRecipe, outputs: Any) -> float:  # noqa: ANN401  # a classifier's method
    rng = np.random.default_rng(1)
    sounds = [(rng.standard_normal(recipe.features.window_samples) * 0.05).astype(np.float32) for _ in range(_TIMED)]
    outputs(log_mel(sounds[0], recipe.features))
    began_s = time.process_time()
    for sound in sounds:
        outputs(log_mel(sound, recipe.features))
    return 1_000 * (time.process_time() - began_s) / _TIMED
