"""A recipe: one YAML file that says everything about a model but the recordings.

Read by the agent's own reader of untrusted mappings, so that a mistyped key is named and never passes in silence.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import yaml

from agent.errors import ConfigError, FieldError
from agent.features import FeatureConfig
from agent.fields import Fields
from model_export.split import SplitConfig

SYNTHS = (
    "saw",
    "engine",
    "insects",
    "birds",
    "wind",
    "forest",
    "rain",
    "wings",
    "yowl",
    "rotors",
    "aircraft",
    "appliances",
    "hammers",
)
LABELS = ("chainsaw", "engine", "storm")
QUIET_ROLES = ("forest", "confusers", "engines")
"""What must stay quiet: forest alone, confusers on forest, and engines, on which a saw is false."""


_CONFUSER_FAR_SHARE: Final = 0.15


@dataclass(frozen=True, kw_only=True, slots=True)
class MixConfig:
    """What a training window is made of. Shares are probabilities."""

    saw_share: float = 0.40
    """Windows with a saw."""
    engine_share: float = 0.25
    """Windows with an engine..."""
    both_share: float = 0.04
    """...and those with both, counted in each."""
    storm_share: float = 0.12
    """Windows with rain or thunder over the background."""
    confuser_share: float = 0.36
    """Windows with a sound that is none of the labels, alone or under an event."""
    synth_saw_share: float = 0.22
    """Saws that are synthetic."""
    synth_engine_share: float = 0.15
    """Engines that are synthetic."""
    far_share: float = 0.25
    """Events from far away: nothing above 0.7 to 4 kHz is left."""
    partial_share: float = 0.30
    """Events that begin or end within the window."""
    snr_low_db: float = -12.0
    """Event over the background that it covers, RMS above 60 Hz, drawn evenly from here..."""
    snr_high_db: float = 22.0
    """...to here."""
    level_low_dbfs: float = -66.0
    """Level of the background, RMS, drawn evenly from here..."""
    level_high_dbfs: float = -14.0
    """...to here."""
    voice_share: float = 0.0
    """Confusers that are taken from the backgrounds other than forest: animals and brooks close to the device."""
    timbre_share: float = 0.0
    """Events and confusers that get a frequency response of their own: one saw stands for its cousins."""
    rev_share: float = 0.0
    """Saws and engines whose speed rises and falls within the window by up to an octave."""
    confuser_far_share: float = _CONFUSER_FAR_SHARE
    """Confusers from as far away."""
    bend_share: float = 0.0
    """Confusers that are heard at 0.6 to 1.6 times their speed, or bent like a saw's: one cow stands for many."""
    hold_share: float = 0.0
    """Confusers of which the loudest half to two seconds goes on and on, as a cow's that takes no breath."""
    hard: Mapping[str, float] = field(default_factory=dict)
    """Weight of a class among the confusers, 1 where not named."""
    places: Mapping[str, float] = field(default_factory=dict)
    """Weight of a class among the backgrounds, 1 where not named."""

    def __post_init__(self) -> None:
        """Refuse shares and ranges that contradict each other."""
        if self.both_share > min(self.saw_share, self.engine_share):
            raise FieldError("mixing.both_share", f"is {self.both_share:g}, more than saw_share or engine_share")
        if self.saw_share + self.engine_share - self.both_share > 1:
            raise FieldError("mixing.engine_share", "saw_share + engine_share - both_share is over 1")
        for low, high in (("snr_low_db", "snr_high_db"), ("level_low_dbfs", "level_high_dbfs")):
            if getattr(self, low) > getattr(self, high):
                raise FieldError(f"mixing.{low}", f"is {getattr(self, low):g}, above {high}")

    @classmethod
    def parse(cls, fields: Fields) -> "MixConfig":
        """Read a recipe's `mixing`; FieldError names what is wrong."""
        shares = ("saw", "engine", "both", "storm", "confuser", "synth_saw", "synth_engine", "far", "partial")
        values: dict[str, Any] = {f"{name}_share": fields.number(f"{name}_share", 0, 1) for name in shares}
        # not in the recipes of older models
        later = ("voice_share", "timbre_share", "rev_share", "bend_share", "hold_share", "confuser_far_share")
        optional = [key for key in later if fields.has(key)]
        values |= {key: fields.number(key, 0, 1) for key in optional}
        values |= {key: fields.number(key, -40, 60) for key in ("snr_low_db", "snr_high_db")}
        values |= {key: fields.number(key, -90, -3) for key in ("level_low_dbfs", "level_high_dbfs")}
        values |= {key: _weights(fields.sub(key)) for key in ("hard", "places")}
        fields.done()
        return cls(**values)


_VERIFIED_SHARE: Final = 0.1
_AGAIN: Final = 0.625
MOBILENET: Final = "mobilenet_v2"
MOBILENET_V1: Final = "mobilenet_v1"
PAIR: Final = "pair"
BEGUN: Final = "begun.json"
"""The file in a training's folder that says whose weights it began with."""
NETWORKS: Final = (MOBILENET, MOBILENET_V1, PAIR, "small_cnn")


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkConfig:
    """The network: on one channel, with dropout before the last layer, one logit a label."""

    kind: str = MOBILENET
    """`mobilenet_v2`; `mobilenet_v1`, which can start from YAMNet's weights; `pair`: the first layers of both side by
    side; or `small_cnn`: three convolutions and two dense layers, as tutorials have it."""
    alpha: float = 1.0
    """Width of a MobileNet; pre-trained weights exist for 1.0 here."""
    dropout: float = 0.25
    """Share of pooled features dropped in training."""
    batch_norm_momentum: float = 0.95
    """Keras' own 0.999 leaves the moving averages useless after so short a training."""
    kinds_weight: float = 0.0
    """Weight in the loss of a second head that is trained to name every class in the window, and is not exported: what
    tells a bell from a drill also tells both from a saw. 0: no such head."""

    @classmethod
    def parse(cls, fields: Fields) -> "NetworkConfig":
        """Read a recipe's `network`; FieldError names what is wrong."""
        config = cls(
            kind=fields.choice("kind", NETWORKS) if fields.has("kind") else MOBILENET,
            alpha=fields.number("alpha", 0.1, 1.4),
            dropout=fields.number("dropout", 0, 0.9),
            batch_norm_momentum=fields.number("batch_norm_momentum", 0.5, 0.9999),
            kinds_weight=fields.number("kinds_weight", 0, 10) if fields.has("kinds_weight") else 0.0,
        )
        fields.done()
        return config


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """How long and how fast the network learns."""

    mixtures: int = 70_000
    """Mixtures in all."""
    looks: int = 2
    """How often each is seen, some shards apart: making a mixture costs as much as learning from it."""
    cycles: int = 1
    """How often all of this is done, each time with fresh mixtures and from the averaged weights of the time before."""
    again: float = _AGAIN
    """Highest learning rate of later cycles, relative to the first one's."""
    shard: int = 2_048
    """Mixtures made at a time by one process; also the distance of checkpoints."""
    batch: int = 64
    """Mixtures a step."""
    learning_rate: float = 1.2e-3
    """Highest rate of AdamW, reached after..."""
    warm_up: int = 400
    """...so many steps; then a cosine down to a hundredth."""
    weight_decay: float = 0.02
    """Of kernels only."""
    ema: float = 0.997
    """How much of the averaged weights a step keeps; the average is what is exported."""
    label_smoothing: float = 0.02
    """Targets are this far from 0 and 1."""
    mixup_share: float = 0.08
    """Windows blended with another one."""
    mask_share: float = 0.3
    """Windows with a band or a moment blanked."""
    tilt_share: float = 0.0
    """Windows that get, at each look, a smooth frequency response of their own, of some decibels."""
    verified_share: float = _VERIFIED_SHARE
    """Windows that are alerts which people judged (`--verified`), where there are so many."""

    @classmethod
    def parse(cls, fields: Fields) -> "TrainConfig":
        """Read a recipe's `training`; FieldError names what is wrong."""
        config = cls(
            mixtures=fields.integer("mixtures", 1, 100_000_000),
            looks=fields.integer("looks", 1, 20) if fields.has("looks") else 2,
            cycles=fields.integer("cycles", 1, 20) if fields.has("cycles") else 1,
            again=fields.number("again", 0.001, 1) if fields.has("again") else _AGAIN,
            shard=fields.integer("shard", 8, 100_000),
            batch=fields.integer("batch", 2, 4_096),
            learning_rate=fields.number("learning_rate", 1e-6, 1),
            warm_up=fields.integer("warm_up", 0, 1_000_000),
            weight_decay=fields.number("weight_decay", 0, 1),
            ema=fields.number("ema", 0, 0.99999),
            label_smoothing=fields.number("label_smoothing", 0, 0.2),
            mixup_share=fields.number("mixup_share", 0, 1),
            mask_share=fields.number("mask_share", 0, 1),
            tilt_share=fields.number("tilt_share", 0, 1) if fields.has("tilt_share") else 0.0,
            verified_share=fields.number("verified_share", 0, 0.9) if fields.has("verified_share") else _VERIFIED_SHARE,
        )
        fields.done()
        return config


@dataclass(frozen=True, kw_only=True, slots=True)
class DecisionConfig:
    """When windows become an alert; the thresholds follow from it (`model_export/operating.py`)."""

    of: Mapping[str, tuple[int, int]] = field(default_factory=lambda: {"chainsaw": (2, 3), "engine": (2, 3)})
    """Label -> hits, and among how many recent windows; a label that is not named is heard and not reported."""
    steady_of: Mapping[str, int] = field(default_factory=dict)
    """Label -> of how many windows the mean may open an event too; a label that is not named opens by hits alone."""
    quick_share: Mapping[str, float] = field(default_factory=dict)
    """Label -> how much of what is borne its k of n may take where the mean opens too; half where it is not named. Less
    leaves more to the mean, which finds more, later."""
    borne: Mapping[str, float] = field(default_factory=lambda: {"forest": 1.0, "confusers": 1.0, "engines": 1.0})
    """False alerts of one label an hour that are borne, by what is heard, as the tail expects them; on forest that was
    heard, none."""

    @classmethod
    def parse(cls, fields: Fields) -> "DecisionConfig":
        """Read a recipe's `decision`; FieldError names what is wrong."""
        borne = fields.sub("borne")
        rates = {role: borne.number(role, 0.001, 100) for role in borne.all_keys()}
        for role in rates:
            if role not in QUIET_ROLES:
                raise FieldError(f"decision.borne.{role}", f"is not a known key; known: {', '.join(QUIET_ROLES)}")
        of: dict[str, tuple[int, int]] = {}
        steady_of: dict[str, int] = {}
        quick_share: dict[str, float] = {}
        for label in fields.all_keys():
            if label == "borne":
                continue
            if label not in LABELS:
                raise FieldError(f"decision.{label}", f"is not a known label; known: {', '.join(LABELS)}")
            rule = fields.sub(label)
            hits = rule.integer("hits", 1, 20)
            of[label] = (hits, rule.integer("of", hits, 20))
            if rule.has("steady_of"):
                steady_of[label] = rule.integer("steady_of", 2, 40)
            if rule.has("quick_share"):
                quick_share[label] = rule.number("quick_share", 0.001, 0.999)
            rule.done()
        fields.done()
        return cls(of=of, steady_of=steady_of, quick_share=quick_share, borne=rates)


_KEPT: Final = (
    ("mixing", "bend_share", 0.0),
    ("mixing", "hold_share", 0.0),
    ("mixing", "confuser_far_share", _CONFUSER_FAR_SHARE),
    ("network", "kind", MOBILENET),
    ("training", "verified_share", _VERIFIED_SHARE),
    ("training", "cycles", 1),
    ("training", "again", _AGAIN),
)
"""What older recipes did not say, and did."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """Everything about a model but the recordings."""

    name: str
    """For people; also the name in the manifest."""
    seed: int
    """Of all chance in mixing and training."""
    labels: tuple[str, ...]
    """In the order of the outputs."""
    stride_s: float
    """Seconds between two windows on the device."""
    split: SplitConfig
    synth: Mapping[str, int]
    """How many sounds of each kind `agent.synth` and `confusers` add."""
    mixing: MixConfig
    network: NetworkConfig
    training: TrainConfig
    decision: DecisionConfig = field(default_factory=DecisionConfig)
    features: FeatureConfig = field(default_factory=FeatureConfig)

    @property
    def digest(self) -> str:
        """Return a short hash over every value that training depends on: another decision is no other network."""
        values = {key: value for key, value in asdict(self).items() if key != "decision"}
        # recipes from before there was a choice keep their digest
        for part, key, kept in _KEPT:
            if values[part][key] == kept:
                del values[part][key]
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]

    def with_fold(self, fold: int) -> "Recipe":
        """Return the same recipe with one fold held out, or none (0)."""
        return replace(self, split=replace(self.split, fold=fold))

    def with_mixtures(self, mixtures: int) -> "Recipe":
        """Return the same recipe at another size."""
        return replace(self, training=replace(self.training, mixtures=mixtures))


def parse_recipe(document: object) -> Recipe:
    """Read a recipe; FieldError names what is wrong."""
    fields = Fields(document)
    labels = fields.texts("labels", longest=8)
    if labels != LABELS:
        raise FieldError("labels", f"is {list(labels)}, expected {list(LABELS)}: the mixer knows these")
    synths = fields.sub("synth")
    for kind in synths.all_keys():
        if kind not in SYNTHS:
            raise FieldError(f"synth.{kind}", f"is not a known key; known: {', '.join(SYNTHS)}")
    recipe = Recipe(
        name=fields.text("name", longest=64, shortest=1),
        seed=fields.integer("seed", 0, 2**53),
        labels=labels,
        stride_s=fields.number("stride_s", 0.1, 60),
        split=SplitConfig.parse(fields.sub("split")),
        synth={kind: synths.integer(kind, 0, 100_000) for kind in synths.all_keys()},
        mixing=MixConfig.parse(fields.sub("mixing")),
        network=NetworkConfig.parse(fields.sub("network")),
        training=TrainConfig.parse(fields.sub("training")),
        decision=DecisionConfig.parse(fields.sub("decision")) if fields.has("decision") else DecisionConfig(),
        features=FeatureConfig.parse(fields.sub("features")) if fields.has("features") else FeatureConfig(),
    )
    fields.done()
    return recipe


def load_recipe(path: Path) -> Recipe:
    """Read a recipe file.

    Raises:
        ConfigError: it cannot be read, is no YAML, or a key or value is wrong.
    """
    try:
        return parse_recipe(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: is no YAML: {' '.join(str(error).split())}") from error
    except FieldError as error:
        raise ConfigError(f"{path}: {error}") from error


def _weights(fields: Fields) -> dict[str, float]:
    return {key: fields.number(key, 0, 1e6) for key in fields.all_keys()}
