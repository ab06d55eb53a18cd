"""What the agent's tests share: a manifest that holds together, of a model that need not exist."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from agent.decide import LabelRule
from agent.features import FeatureConfig
from agent.gate import GateConfig
from agent.manifest import FEWEST_GOLDEN, Manifest, Quantisation
from tests.agent.field import Field

LABELS = ("chainsaw", "engine", "storm")


def _make_manifest(
    *,
    labels: Sequence[str] = LABELS,
    rules: Mapping[str, LabelRule] | None = None,
    gate: GateConfig | None = None,
    features: FeatureConfig | None = None,
    activation: str = "sigmoid",
    output: Quantisation | None = None,
    stride_s: float = 1.5,
    model_sha256: str = "5d" * 32,
    n_golden: int = FEWEST_GOLDEN,
    seed: int = 0,
) -> Manifest:
    features = features or FeatureConfig()
    rng = np.random.default_rng(seed)
    golden_inputs = rng.integers(-128, 128, (n_golden, features.n_frames, features.n_mels)).astype(np.int8)
    golden_outputs = rng.integers(-128, 128, (n_golden, len(labels))).astype(np.int8)
    given_rules = rules or {}
    default_rules = {label: LabelRule(alert=label != "storm") for label in labels}
    return Manifest(
        name="maker",
        labels=tuple(labels),
        activation=activation,
        features=features,
        input=Quantisation(scale=0.07, zero_point=-12),
        output=output or Quantisation(scale=0.1, zero_point=0),
        model_sha256=model_sha256,
        stride_s=stride_s,
        rules={label: given_rules.get(label, default_rules[label]) for label in labels},
        gate=gate or GateConfig(),
        golden_inputs=golden_inputs,
        golden_outputs=golden_outputs,
        metrics={"recall_10_db": 0.9},
        data_digest="0f" * 8,
        recipe={"seed": seed},
        versions={"numpy": np.__version__},
        licence="CC-BY-NC-4.0",
    )


@pytest.fixture(scope="session")  # hypothesis runs many examples in one test: a maker has no state
def make_manifest() -> Callable[..., Manifest]:
    """Return a maker of valid manifests with random golden data.

    All arguments are by keyword: `labels`, `rules` (of some labels; the others have the defaults, storm without
    alerts), `gate`, `features`, `activation`, `output`, `stride_s`, `model_sha256`, `n_golden`, `seed`.
    The golden answers belong to no model; `dataclasses.replace` puts others in.
    """
    return _make_manifest


@pytest.fixture(autouse=True)
def as_loud_as_before() -> Iterator[None]:
    """Put log levels back: commands for people make the agent's log quiet for their process."""
    loggers = [logging.getLogger(name) for name in ("agent", "agent.classify")]
    levels = [logger.level for logger in loggers]
    yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


@pytest.fixture
def field(tmp_path: Path, make_manifest: Callable[..., Manifest]) -> Iterator[Field]:
    """Return a phone that listens since 11:00 UTC; byte b is a score of sigmoid(b / 10)."""
    phone = Field(tmp_path / "ipe-07", make_manifest())
    yield phone
    phone.journal.close()
