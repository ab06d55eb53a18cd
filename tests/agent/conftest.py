"""What the agent's tests share: a manifest that holds together, of a model that need not exist."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.clock import DeviceClock
from agent.decide import LabelRule
from agent.features import FeatureConfig
from agent.gate import GateConfig
from agent.journal import Journal, WindowRecord
from agent.manifest import FEWEST_GOLDEN, Manifest, Quantisation
from agent.service import setting_of

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


class Field:
    """A phone in the forest: its journal, on clocks that only the test moves; the sound passes with them."""

    def __init__(self, folder: Path, manifest: Manifest, device_id: str = "ipe-07") -> None:
        self.folder, self.manifest, self.device_id = folder, manifest, device_id
        self.wall_s = datetime(2026, 11, 23, 11, 0, tzinfo=UTC).timestamp()
        self.monotonic_s = 100.0
        self.synced = True
        self.start("first start")

    def start(self, reason: str) -> None:
        """Begin a run of the agent."""
        self.clock = DeviceClock(
            wall=lambda: self.wall_s, monotonic=lambda: self.monotonic_s, synchronised=lambda: self.synced
        )
        self.journal = Journal(self.folder / "journal", self.clock, device_id=self.device_id)
        self.journal.describe(setting_of(self.manifest))
        self.journal.event("start", reason=reason)
        self.end = self.manifest.features.window_samples - self.manifest.stride
        self.minute_s = self.monotonic_s

    def stop(self, reason: str = "told to") -> None:
        """End it cleanly."""
        self.journal.event("stop", reason=reason)
        self.journal.close()

    def pass_s(self, seconds: float) -> None:
        """Let time go by without sound."""
        self.wall_s += seconds
        self.monotonic_s += seconds

    def hear(self, *windows: "Sequence[int] | None", times: int = 1) -> None:
        """Hear windows: the model's bytes, or None where the gate is closed; a line a minute comes by itself."""
        for outputs in windows * times:
            self.pass_s(self.manifest.stride_s)
            self.end += self.manifest.stride
            output = b"" if outputs is None else np.array(outputs, np.int8).tobytes()
            self.journal.window(WindowRecord(end_sample=self.end, gated=outputs is None, output=output))
            if self.monotonic_s - self.minute_s >= 60.0:
                self.minute()

    def minute(self, **fields: Any) -> None:
        """Write the line of the minute."""
        self.minute_s = self.monotonic_s
        self.journal.minute(level_dbfs=-42.0, queue=0, **fields)


@pytest.fixture
def field(tmp_path: Path, make_manifest: Callable[..., Manifest]) -> Iterator[Field]:
    """Return a phone that listens since 11:00 UTC; byte b is a score of sigmoid(b / 10)."""
    phone = Field(tmp_path / "ipe-07", make_manifest())
    yield phone
    phone.journal.close()
