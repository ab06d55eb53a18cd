"""The model card: what the model is for, what it was made of, what it does, what it mistakes."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from agent.manifest import Manifest
from model_export.operating import words_of
from model_export.recipe import MOBILENET, MOBILENET_V1, PAIR
from model_export.summary import table

LICENCE = "CC-BY-NC-4.0"

_BEGAN = {
    MOBILENET: "MobileNetV2 trained on ImageNet (Apache-2.0)",
    MOBILENET_V1: "the first layers of YAMNet, which was trained on AudioSet (Apache-2.0)",
}

LICENCE_NOTICE = """\
The files default.tflite, default.json and default.md in this folder (the trained weights, their manifest and
their card) are licensed under the Creative Commons Attribution-NonCommercial 4.0 International licence,
CC-BY-NC-4.0:
https://creativecommons.org/licenses/by-nc/4.0/legalcode

They were trained on recordings whose licences forbid commercial use (default.md names them); the weights carry
the strictest of those terms. The code of this project is under the Apache License 2.0 (LICENSE in the top folder),
and weights trained with it on other recordings carry whatever those recordings allow.

Attribution: "Curupira model, trained on ESC-50, UrbanSound8K and further recordings named in its card".
"""

_TEMPLATE = """\
# Model card: {name}

A {network} on {n_frames} x {n_mels} log-mel windows of 3 s, full int8, {kilobytes:.0f} kB. It
answers with three logits: {labels}. The agent alerts for {alerted}; the rest is heard and kept in the journal.

- Digest `{digest}`, features `{features}`, training recordings `{data}`.
- Made by `make export-tflite` from the recipe `{recipe}` (all of it is in the manifest), {minutes}.
- Operating point: {rules}.

## Intended use
Telling rangers within seconds that a chainsaw or an engine runs near a device in a forest. An alert is a reason
to look and to listen, not evidence. Not for counting trees, for naming machines or people, or for any commercial use
(licence below).

## What it does on recordings that it never heard
Forest, saws, engines and confusers as strangers, split by recording{folds}; run through the agent with its gate and
decision (`make evaluate`). Levels are RMS above 60 Hz, event over the forest it covers; *far* is 0 dB after a 1.2 kHz
low-pass.

{metrics}

Int8 against the trained network on {parity_windows} windows: the same labels on {parity:.1f} %.

## What it mistakes
{confusions}

## Limits
- {saws} recordings of saws taught it, {synthetic} more are synthetic. Saws, woods and microphones unlike them may
  go unheard; battery saws, which have no exhaust, most of all.
- The intervals above are wide because the test has few recordings; the next forest is not in them.
- Rain on the device, wind in the microphone and cicada choruses hide faint saws. Nobody should rely on silence.
- Scores are not calibrated probabilities.

## Data
| data set | clips | licence |
|---|---|---|
{data_rows}

The weights began as {began}. What the project itself synthesises (`agent/synth.py`,
`model_export/confusers.py`) was added: {synthesised}.

## Licence
The weights are CC BY-NC 4.0, because most of the recordings forbid commercial use: UrbanSound8K and ESC-50 are
CC BY-NC. With recordings of your own, `make export-tflite DATA=...` makes weights under your own terms.
"""


def write_card(manifest: Manifest, n_bytes: int, facts: Mapping[str, Any]) -> str:
    """Return the card's text.

    Args:
        manifest: of the model.
        n_bytes: size of the model file.
        facts: `licences` (data set -> [licences, clips]), `saws`, `synth` (kind -> how many), `minutes`, `began` (whose
            weights).
    """
    metrics: Any = manifest.metrics
    evaluation = metrics.get("evaluation")
    rules = "; ".join(
        f"{label} at {words_of(rule)}, one every {manifest.stride_s:g} s"
        for label, rule in manifest.rules.items()
        if rule.alert
    )
    alerted = " and ".join(label for label, rule in manifest.rules.items() if rule.alert)
    minutes = facts.get("minutes")
    return _TEMPLATE.format(
        name=manifest.name,
        network=_network(manifest.recipe["network"]),
        began=_began(facts["began"]),
        n_frames=manifest.features.n_frames,
        n_mels=manifest.features.n_mels,
        kilobytes=n_bytes / 1_000,
        labels=", ".join(manifest.labels),
        alerted=alerted,
        digest=manifest.digest,
        features=manifest.features.digest,
        data=manifest.data_digest,
        recipe=manifest.recipe["name"],
        minutes=f"{minutes:.0f} minutes of training" if minutes else "training time unknown",
        rules=rules,
        folds=""
        if manifest.recipe["split"].get("fold")
        else ", by models of the same recipe that were cross-validated",
        metrics=table(evaluation) if evaluation else "Not evaluated.",
        parity_windows=metrics["parity"]["windows"],
        parity=100 * metrics["parity"]["int8_agreement"],
        confusions=_confusions(evaluation),
        saws=facts["saws"],
        synthetic=facts["synth"].get("saw", 0),
        synthesised=", ".join(f"{count} of {kind}" for kind, count in facts["synth"].items()) or "nothing",
        data_rows="\n".join(
            f"| {name} | {clips} | {json.dumps(text, ensure_ascii=False)[1:-1]} |"
            for name, (text, clips) in facts["licences"].items()
        ),
    )


def _confusions(evaluation: dict[str, Any] | None) -> str:
    """Return the held-out false alerts by kind of sound."""
    worst = evaluation["worst_false"] if evaluation else []
    if not worst:
        return "Nothing in the held-out tracks raised a false alert; longer ones will."
    counts: dict[tuple[str, str], int] = {}
    for row in worst:
        kind = row["source"].split("/")[-2] if row["source"].count("/") > 1 else row["source"] or "forest alone"
        counts[row["label"], kind] = counts.get((row["label"], kind), 0) + 1
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return "\n".join(f"- {kind}, heard as {label}: {count} of the false alerts" for (label, kind), count in ordered)


def _began(sources: Sequence[str] | None) -> str:
    if sources is None:
        return "what the training did not note"
    return " and ".join(_BEGAN[one] for one in sources) or "random numbers"


def _network(network: dict[str, Any]) -> str:
    if network.get("kind", MOBILENET) == MOBILENET:
        return f"MobileNetV2 (alpha {network['alpha']:g})"
    if network["kind"] == MOBILENET_V1:
        return f"MobileNet (alpha {network['alpha']:g}) without its last block"
    if network["kind"] == PAIR:
        return f"network of the first layers of MobileNet and of MobileNetV2 (alpha {network['alpha']:g}) side by side"
    return "small convolutional network"
