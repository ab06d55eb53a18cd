"""A clip recipe: one YAML file (`kind: clips`) that says everything about a classifier but the recordings."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import yaml

from agent.alert import LABEL
from agent.errors import ConfigError, FieldError
from agent.features import FeatureConfig
from agent.fields import Fields
from model_export.datasets import Clip

RECIPES: Final = Path(__file__).parent.parent / "recipes"
KIND: Final = "clips"
LOG_MEL, MAGNITUDE = "log_mel", "magnitude"
MOBILENET, INCEPTION, SMALL_CNN, CALL_CNN = "mobilenet_v2", "inception_v3", "small_cnn", "call_cnn"
REST: Final = "*"
"""In `classes`: everything that no other label takes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PictureConfig:
    """What the network sees of a clip."""

    kind: str = LOG_MEL
    """`log_mel`, as the agent computes it, or `magnitude`: of the short-time Fourier transform, which no agent does."""
    windows: int = 1
    """Windows taken from a clip, evenly spread; as many as fit, one at least."""
    clips: int = 0
    """Clips of a class at most, chosen for ever by name; 0: all."""

    @classmethod
    def parse(cls, fields: Fields) -> "PictureConfig":
        """Read a recipe's `picture`; FieldError names what is wrong."""
        config = cls(
            kind=fields.choice("kind", (LOG_MEL, MAGNITUDE)),
            windows=fields.integer("windows", 1, 1_000),
            clips=fields.integer("clips", 0, 1_000_000) if fields.has("clips") else 0,
        )
        fields.done()
        return config


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkConfig:
    """The network: a body, and a head of dense layers."""

    kind: str
    """`mobilenet_v2`, `inception_v3`; from scratch `small_cnn` (four blocks) or `call_cnn` (two)."""
    frozen: bool = False
    """Whether the body keeps its ImageNet weights: its outputs are computed once, and the head alone learns."""
    size: tuple[int, int] = (0, 0)
    """The picture is brought to this size inside the network; 0, 0: it stays as it is."""
    flatten: bool = False
    """Whether the head sees every place of the body's output, or its mean over all places."""
    dense: tuple[int, ...] = ()
    """Units of the head's hidden layers."""
    dropout: float = 0.0
    """Before each of the head's layers."""

    @classmethod
    def parse(cls, fields: Fields) -> "NetworkConfig":
        """Read a recipe's `network`; FieldError names what is wrong."""
        kind = fields.choice("kind", (MOBILENET, INCEPTION, SMALL_CNN, CALL_CNN))
        config = cls(
            kind=kind,
            frozen=fields.flag("frozen") if fields.has("frozen") else False,
            size=_pair(fields, "size") if fields.has("size") else (0, 0),
            flatten=fields.flag("flatten") if fields.has("flatten") else False,
            dense=_integers(fields, "dense", 1, 8_192) if fields.has("dense") else (),
            dropout=fields.number("dropout", 0, 0.9) if fields.has("dropout") else 0.0,
        )
        fields.done()
        if config.frozen and kind in (SMALL_CNN, CALL_CNN):
            raise FieldError("network.frozen", f"is true, but {kind} begins from nothing")
        return config


@dataclass(frozen=True, kw_only=True, slots=True)
class FitConfig:
    """How the network learns."""

    epochs: int
    batch: int
    learning_rate: float
    """Highest rate of AdamW; a cosine takes it down to a hundredth."""
    shift_share: float = 0.0
    """Windows that are turned round in time, by any amount."""
    mask_share: float = 0.0
    """Windows with a band or a moment blanked."""
    label_smoothing: float = 0.0
    balance: bool = False
    """Whether rare classes are seen as often as frequent ones."""

    @classmethod
    def parse(cls, fields: Fields) -> "FitConfig":
        """Read a recipe's `training`; FieldError names what is wrong."""
        shares = {key: fields.number(key, 0, 1) for key in ("shift_share", "mask_share") if fields.has(key)}
        config = cls(
            epochs=fields.integer("epochs", 1, 10_000),
            batch=fields.integer("batch", 2, 4_096),
            learning_rate=fields.number("learning_rate", 1e-6, 1),
            label_smoothing=fields.number("label_smoothing", 0, 0.5) if fields.has("label_smoothing") else 0.0,
            balance=fields.flag("balance") if fields.has("balance") else False,
            **shares,
        )
        fields.done()
        return config


BY = ("recording", "fold")


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitConfig:
    """Two splits, side by side: the tutorial's, by clip, and an honest one, in which every recording is a stranger."""

    share: float = 0.3
    """Of the clips of each class, drawn by chance, that judge in the tutorial's split."""
    folds: int = 4
    """Folds of the honest split; each judges once."""
    by: str = "recording"
    """`recording`: folds are made of whole recordings; `fold`: the data set's own count."""

    @classmethod
    def parse(cls, fields: Fields) -> "SplitConfig":
        """Read a recipe's `split`; FieldError names what is wrong."""
        config = cls(
            share=fields.number("share", 0.01, 0.9),
            folds=fields.integer("folds", 2, 20),
            by=fields.choice("by", BY) if fields.has("by") else "recording",
        )
        fields.done()
        return config


@dataclass(frozen=True, kw_only=True, slots=True)
class CountConfig:
    """How calls are counted in long recordings, and how the agent alerts."""

    alert: Mapping[str, float] = field(default_factory=dict)
    """Label -> threshold; the others are heard and not reported."""
    hits: int = 1
    """Windows over the threshold..."""
    of: int = 1
    """...among so many open an event."""
    counts: bool = False
    """Whether events are counted: consecutive windows over the threshold are one, without refractory or hysteresis."""

    @classmethod
    def parse(cls, fields: Fields) -> "CountConfig":
        """Read a recipe's `decision`; FieldError names what is wrong."""
        alert = fields.sub("alert")
        hits = fields.integer("hits", 1, 20)
        config = cls(
            alert={label: alert.number(label, 0.01, 0.999) for label in alert.all_keys()},
            hits=hits,
            of=fields.integer("of", hits, 20),
            counts=fields.flag("counts") if fields.has("counts") else False,
        )
        fields.done()
        return config


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipRecipe:
    """Everything about a clip classifier but the recordings."""

    name: str
    seed: int
    published: str
    """The published figure that it stands beside, and of what; for people."""
    labels: tuple[str, ...]
    take: str
    """Which word of a clip decides: `class`, the data set's own, or `target`, what it is for here."""
    classes: Mapping[str, tuple[str, ...]]
    """Label -> the words that mean it; a label that is not named means itself."""
    stride_s: float
    """Seconds between two windows in long recordings."""
    picture: PictureConfig
    network: NetworkConfig
    training: FitConfig
    split: SplitConfig
    decision: CountConfig
    features: FeatureConfig

    @property
    def digest(self) -> str:
        """Return a short hash over every value that training depends on."""
        values = {key: value for key, value in asdict(self).items() if key not in ("decision", "published", "stride_s")}
        if not self.training.balance:
            del values["training"]["balance"]  # runs from before there was such a thing keep their folder
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]

    def label_of(self, clip: Clip) -> str | None:
        """Return the label of a clip, or None if the recipe does not take it."""
        word = clip.kind if self.take == "class" else clip.target
        rest = None
        for label in self.labels:
            words = self.classes.get(label, (label,))
            if word in words:
                return label
            if REST in words:
                rest = label
        return rest

    def with_epochs(self, epochs: int) -> "ClipRecipe":
        """Return the same recipe at another length."""
        return replace(self, training=replace(self.training, epochs=epochs))


def parse_recipe(document: object) -> ClipRecipe:
    """Read a clip recipe; FieldError names what is wrong."""
    fields = Fields(document)
    fields.choice("kind", (KIND,))
    labels = fields.texts("labels", longest=100)
    if len(labels) < 2 or len(set(labels)) != len(labels) or not all(LABEL.fullmatch(label) for label in labels):
        raise FieldError("labels", f"is {list(labels)}, expected two or more different small words")
    recipe = ClipRecipe(
        name=fields.text("name", longest=64, shortest=1),
        seed=fields.integer("seed", 0, 2**53),
        published=fields.text("published", longest=400),
        labels=labels,
        take=fields.choice("take", ("class", "target")),
        classes=_classes(fields, labels) if fields.has("classes") else {},
        stride_s=fields.number("stride_s", 0.1, 60),
        picture=PictureConfig.parse(fields.sub("picture")),
        network=NetworkConfig.parse(fields.sub("network")),
        training=FitConfig.parse(fields.sub("training")),
        split=SplitConfig.parse(fields.sub("split")),
        decision=CountConfig.parse(fields.sub("decision")),
        features=_features(fields) if fields.has("features") else FeatureConfig(),
    )
    for label in recipe.decision.alert:
        if label not in labels:
            raise FieldError(f"decision.alert.{label}", f"is none of the labels {', '.join(labels)}")
    fields.done()
    return recipe


def document_of(path: Path) -> Any:  # noqa: ANN401  # YAML can be anything
    """Return what a recipe file holds.

    Raises:
        ConfigError: it cannot be read, or is no YAML.
    """
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}; there are: {', '.join(names())}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: is no YAML: {' '.join(str(error).split())}") from error


def is_clips(document: object) -> bool:
    """Say whether a recipe sorts clips; the others mix soundscapes."""
    return isinstance(document, Mapping) and document.get("kind") == KIND


def load_recipe(path: Path) -> ClipRecipe:
    """Read a clip recipe file; ConfigError says what is wrong."""
    try:
        return parse_recipe(document_of(path))
    except FieldError as error:
        raise ConfigError(f"{path}: {error}") from error


def names() -> list[str]:
    """Return the names of the recipes that come along."""
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


def path_of(name: str) -> Path:
    """Return the file of a recipe that is given by name or as a file."""
    path = Path(name)
    return path if path.suffix in (".yaml", ".yml") else RECIPES / f"{name}.yaml"


def _classes(fields: Fields, labels: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    sub = fields.sub("classes")
    for label in sub.all_keys():
        if label not in labels:
            raise FieldError(f"classes.{label}", f"is none of the labels {', '.join(labels)}")
    return {label: sub.texts(label, longest=500) for label in sub.all_keys()}


def _features(fields: Fields) -> FeatureConfig:
    """Return the agent's features with what the recipe changes."""
    sub = fields.sub("features")
    return FeatureConfig.parse(Fields({**asdict(FeatureConfig()), **{key: sub.raw(key) for key in sub.all_keys()}}))


def _integers(fields: Fields, key: str, low: int, high: int) -> tuple[int, ...]:
    found: list[int] = []
    for value in fields.sequence(key, longest=20):
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise FieldError(fields.name(key), f"holds {value!r}, expected whole numbers from {low} to {high}")
        found.append(value)
    return tuple(found)


def _pair(fields: Fields, key: str) -> tuple[int, int]:
    values = _integers(fields, key, 32, 1_024)
    if len(values) != 2:
        raise FieldError(fields.name(key), f"has {len(values)} numbers, expected height and width")
    return values[0], values[1]
