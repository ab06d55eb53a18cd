"""The manifest beside a model: everything that must agree with it, from features to thresholds.

`model_export` writes it, the agent refuses to start when any part of it disagrees with this code or this file.
"""

import base64
import binascii
import hashlib
import json
import math
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.alert import LABEL
from agent.decide import LabelRule
from agent.errors import FieldError, ModelError
from agent.features import FeatureConfig
from agent.fields import Fields, shown
from agent.gate import GateConfig

Int8 = NDArray[np.int8]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

MANIFEST_SCHEMA = 1
FEWEST_GOLDEN = 16
LARGEST_MANIFEST_BYTES = 4_000_000
LARGEST_GOLDEN_BYTES = 8_000_000
"""A small manifest must not unpack into more than the memory of a phone."""
ACTIVATIONS = ("sigmoid", "none")
BUNDLED_MODEL = Path(__file__).parent / "models" / "default.tflite"


@dataclass(frozen=True, kw_only=True, slots=True)
class Quantisation:
    """How bytes stand for numbers: real = (byte - zero_point) x scale."""

    scale: float
    zero_point: int

    def to_bytes(self, real: Float32) -> Int8:
        """Round to nearest, then saturate, then cast; a plain cast would truncate and wrap."""
        nearest = np.rint(real * np.float32(1.0 / self.scale)) + np.float32(self.zero_point)
        saturated: Int8 = nearest.clip(-128, 127).astype(np.int8)
        return saturated

    def to_real(self, quantised: Int8) -> Float64:
        """Return the numbers that the bytes stand for."""
        return (quantised.astype(np.float64) - self.zero_point) * self.scale

    @classmethod
    def parse(cls, fields: Fields) -> "Quantisation":
        """Read a quantisation; FieldError names what is wrong."""
        quantisation = cls(scale=fields.number("scale", 1e-9, 1e3), zero_point=fields.integer("zero_point", -128, 127))
        fields.done()
        return quantisation


def score_table(output: Quantisation, activation: str) -> Float64:
    """Return the score of every output byte, shape (256,), rising; index = byte + 128."""
    real = output.to_real(np.arange(-128, 128).astype(np.int8))
    if activation == "sigmoid":
        scores: Float64 = 1.0 / (1.0 + np.exp(-real.clip(min=-700.0)))  # beyond, exp is no float64
        return scores
    return real.clip(0.0, 1.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """What a model is, how to feed it, how to read it, and how to know that it still is itself."""

    name: str
    """For people: `rainforest`."""
    labels: tuple[str, ...]
    """In the order of the model's outputs."""
    activation: str
    """`sigmoid`: the outputs are logits; `none`: they are scores already."""
    features: FeatureConfig
    input: Quantisation
    output: Quantisation
    model_sha256: str
    """Of the .tflite file."""
    stride_s: float
    """Seconds between two windows for which the rules were chosen."""
    rules: Mapping[str, LabelRule]
    """The operating point of each label."""
    gate: GateConfig
    golden_inputs: Int8
    """Real windows as the model's input bytes, shape (n_golden, n_frames, n_mels)."""
    golden_outputs: Int8
    """The model's answers to them where XNNPACK runs the graph, shape (n_golden, n_labels)."""
    metrics: Mapping[str, Any]
    """What evaluation found; for people."""
    data_digest: str
    """Of the training recordings."""
    recipe: Mapping[str, Any]
    versions: Mapping[str, str]
    licence: str
    """Of the weights."""

    @property
    def digest(self) -> str:
        """Return the short name of the model that alerts and the journal carry."""
        return self.model_sha256[:16]

    @property
    def stride(self) -> int:
        """Return samples between two windows."""
        return round(self.stride_s * self.features.sample_rate)

    def score_table(self) -> Float64:
        """Return the score of every output byte, shape (256,); index = byte + 128."""
        return score_table(self.output, self.activation)

    def to_json(self) -> str:
        """Return the text of the manifest file."""
        document = {
            "schema": MANIFEST_SCHEMA,
            "name": self.name,
            "labels": list(self.labels),
            "activation": self.activation,
            "features": asdict(self.features),
            "features_digest": self.features.digest,
            "input": asdict(self.input),
            "output": asdict(self.output),
            "model_sha256": self.model_sha256,
            "stride_s": self.stride_s,
            "rules": {label: asdict(rule) for label, rule in self.rules.items()},
            "gate": asdict(self.gate),
            "golden": {
                "count": len(self.golden_inputs),
                "inputs": _pack(self.golden_inputs),
                "outputs": _pack(self.golden_outputs),
            },
            "metrics": self.metrics,
            "data_digest": self.data_digest,
            "recipe": self.recipe,
            "versions": self.versions,
            "licence": self.licence,
        }
        return json.dumps(document, indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> "Manifest":
        """Read a manifest; FieldError names the field that is wrong."""
        try:
            fields = Fields(json.loads(text))
        except (ValueError, RecursionError) as error:
            raise FieldError("document", f"is not JSON: {error}") from error
        fields.integer("schema", MANIFEST_SCHEMA, MANIFEST_SCHEMA)
        labels = _labels(fields)
        features = _features(fields)
        rules = fields.sub("rules")
        golden = fields.sub("golden")
        count = golden.integer("count", FEWEST_GOLDEN, 1_000)
        manifest = cls(
            name=fields.text("name", longest=64, shortest=1),
            labels=labels,
            activation=fields.choice("activation", ACTIVATIONS),
            features=features,
            input=Quantisation.parse(fields.sub("input")),
            output=Quantisation.parse(fields.sub("output")),
            model_sha256=fields.text("model_sha256", longest=64, shortest=64),
            stride_s=_stride_s(fields, features),
            rules={label: LabelRule.parse(rules.sub(label)) for label in labels},
            gate=GateConfig.parse(fields.sub("gate")),
            golden_inputs=_unpack(golden, "inputs", (count, features.n_frames, features.n_mels)),
            golden_outputs=_unpack(golden, "outputs", (count, len(labels))),
            metrics=fields.mapping("metrics"),
            data_digest=fields.text("data_digest", longest=64),
            recipe=fields.mapping("recipe"),
            versions=_versions(fields.sub("versions")),
            licence=fields.text("licence", longest=64),
        )
        rules.done()
        golden.done()
        fields.done()
        return manifest

    def with_rules(self, rules: Mapping[str, LabelRule]) -> "Manifest":
        """Return the same manifest at another operating point."""
        return replace(self, rules=rules)


def manifest_path(model: Path) -> Path:
    """Return where the manifest of a model file lies: beside it, ending in .json."""
    return model.with_suffix(".json")


def load_model(model: Path) -> tuple[Manifest, bytes]:
    """Read a model and its manifest, and check that they belong together.

    Raises:
        ModelError: either cannot be read, the manifest is wrong, or the file is not the one it describes.
    """
    try:
        content = model.read_bytes()
        path = manifest_path(model)
        text = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{error.filename}: cannot read the model: {error.strerror}") from error
    if len(text) > LARGEST_MANIFEST_BYTES:
        raise ModelError(f"{path}: has {len(text)} bytes, expected at most {LARGEST_MANIFEST_BYTES}")
    try:
        manifest = Manifest.from_json(text)
    except FieldError as error:
        raise ModelError(f"{path}: {error}") from error
    found = hashlib.sha256(content).hexdigest()
    if found != manifest.model_sha256:
        raise ModelError(
            f"{model}: is damaged or not the model that {path.name} describes "
            f"(sha256 {found[:12]}…, expected {manifest.model_sha256[:12]}…, {len(content)} bytes); copy both again"
        )
    return manifest, content


def _labels(fields: Fields) -> tuple[str, ...]:
    labels = fields.texts("labels", longest=32)
    if not labels or len(set(labels)) != len(labels):
        raise FieldError("labels", "is empty or names a label twice")
    for label in labels:
        if not LABEL.fullmatch(label):  # the station would refuse every alert for it
            raise FieldError("labels", f"holds {shown(label)}, expected small words")
    return labels


def _versions(fields: Fields) -> dict[str, str]:
    return {package: fields.text(package) for package in fields.all_keys()}


def _features(fields: Fields) -> FeatureConfig:
    features = FeatureConfig.parse(fields.sub("features"))
    expected = fields.text("features_digest", longest=64)
    if features.digest != expected:
        raise FieldError("features_digest", f"is {expected!r}, but these features have {features.digest!r}")
    return features


def _stride_s(fields: Fields, features: FeatureConfig) -> float:
    stride_s = fields.number("stride_s", 0.1, 60)
    samples = stride_s * features.sample_rate
    if abs(samples - round(samples)) > 1e-6 or round(samples) % features.hop:  # 4.02 s x 8 kHz is no whole number
        hop_s = features.hop / features.sample_rate
        raise FieldError(
            "stride_s", f"is {stride_s:g}, expected whole hops of {hop_s:g} s, so that windows share frames"
        )
    return stride_s


def _pack(values: Int8) -> str:
    return base64.b64encode(zlib.compress(values.tobytes(), 9)).decode()


def _unpack(fields: Fields, key: str, shape: tuple[int, ...]) -> Int8:
    expected = math.prod(shape)
    if expected > LARGEST_GOLDEN_BYTES:
        raise FieldError(fields.name(key), f"are {expected} bytes, expected at most {LARGEST_GOLDEN_BYTES}")
    text = fields.text(key, longest=LARGEST_MANIFEST_BYTES)
    try:
        raw = zlib.decompressobj().decompress(base64.b64decode(text, validate=True), expected + 1)
    except (binascii.Error, ValueError, zlib.error) as error:
        raise FieldError(fields.name(key), f"is not base64 of zlib data: {error}") from error
    if len(raw) != expected:
        raise FieldError(fields.name(key), f"does not unpack to {' x '.join(map(str, shape))} bytes")
    return np.frombuffer(raw, np.int8).reshape(shape)
