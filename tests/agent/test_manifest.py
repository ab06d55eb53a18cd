"""The manifest: what is written is read, and whatever disagrees with it stops the start with one line."""

import base64
import dataclasses
import hashlib
import json
import random
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.decide import LabelRule
from agent.errors import FieldError, ModelError
from agent.features import FeatureConfig
from agent.gate import GateConfig
from agent.manifest import (
    BUNDLED_MODEL,
    FEWEST_GOLDEN,
    LARGEST_MANIFEST_BYTES,
    Manifest,
    Quantisation,
    load_model,
    manifest_path,
)

Maker = Callable[..., Manifest]
Document = dict[str, Any]

MODEL = b"a model, as far as this file is concerned"
DIGEST = hashlib.sha256(MODEL).hexdigest()


def same(one: Manifest, other: Manifest) -> bool:
    """Say whether two manifests are equal, arrays included."""
    return all(
        np.array_equal(left, right) if isinstance(left, np.ndarray) else left == right
        for left, right in (
            (getattr(one, field.name), getattr(other, field.name)) for field in dataclasses.fields(Manifest)
        )
    )


@pytest.fixture(scope="session")
def document(make_manifest: Maker) -> Callable[[], Document]:
    """Return a maker of a valid manifest as a mapping, to be damaged."""
    text = make_manifest(model_sha256=DIGEST).to_json()
    return lambda: json.loads(text)  # type: ignore[no-any-return]  # JSON


def write(folder: Path, manifest: Document | str | bytes, model: bytes = MODEL) -> Path:
    path = folder / "forest.tflite"
    path.write_bytes(model)
    text = json.dumps(manifest) if isinstance(manifest, dict) else manifest
    manifest_path(path).write_bytes(text.encode() if isinstance(text, str) else text)
    return path


# ---- what is written is read


@given(
    seed=st.integers(0, 1_000),
    labels=st.lists(st.from_regex(r"[a-z][a-z0-9_]{0,31}", fullmatch=True), min_size=1, max_size=6, unique=True),
    activation=st.sampled_from(["sigmoid", "none"]),
    n_golden=st.integers(FEWEST_GOLDEN, 20),
    stride_hops=st.integers(4, 400),
    n_mels=st.integers(8, 64),
    scale=st.floats(1e-9, 1e3),
    zero_point=st.integers(-128, 127),
    threshold=st.floats(0.01, 0.99),
)
def test_a_manifest_survives_its_file(
    make_manifest: Maker,
    seed: int,
    labels: list[str],
    activation: str,
    n_golden: int,
    stride_hops: int,
    n_mels: int,
    scale: float,
    zero_point: int,
    threshold: float,
) -> None:
    manifest = make_manifest(
        seed=seed,
        labels=labels,
        activation=activation,
        n_golden=n_golden,
        stride_s=stride_hops * 500 / 16_000,
        features=FeatureConfig(n_mels=n_mels),
        output=Quantisation(scale=scale, zero_point=zero_point),
        rules={labels[0]: LabelRule(threshold=threshold, release=threshold / 2, hits=3, of=5, refractory_s=9.5)},
        gate=GateConfig(vad_mode=1, rise_db=threshold),
    )
    assert same(Manifest.from_json(manifest.to_json()), manifest)
    assert Manifest.from_json(manifest.to_json()).to_json() == manifest.to_json()


def test_what_is_derived(make_manifest: Maker) -> None:
    manifest = make_manifest(model_sha256=DIGEST, stride_s=1.5)
    assert manifest.digest == DIGEST[:16]
    assert manifest.stride == 24_000
    rules = {label: LabelRule(threshold=0.9) for label in manifest.labels}
    assert manifest.with_rules(rules).rules == rules
    assert manifest_path(Path("models/forest.tflite")) == Path("models/forest.json")


@pytest.mark.parametrize("sample_rate_hop", [(16_000, 500), (16_000, 160), (22_050, 441), (8_000, 80)])
def test_every_stride_of_whole_hops_is_taken(make_manifest: Maker, sample_rate_hop: tuple[int, int]) -> None:
    rate, hop = sample_rate_hop
    features = FeatureConfig(sample_rate=rate, hop=hop, mel_max_hz=3_000.0)
    text = make_manifest(features=features, stride_s=rate // hop * hop / rate).to_json()
    for n_hops in range(-(-rate // (10 * hop)), 60 * rate // hop, 31):
        changed = json.loads(text) | {"stride_s": n_hops * hop / rate}
        assert Manifest.from_json(json.dumps(changed)).stride == n_hops * hop


# ---- what is wrong is named

WRONG: list[tuple[str, Any, str]] = [
    ("schema", 2, "schema: is 2, expected a whole number from 1 to 1"),
    ("name", "", "name: is '', expected text of 1 to 64 characters"),
    ("labels", [], "labels: is empty or names a label twice"),
    ("labels", ["chainsaw", "engine", "chainsaw"], "labels: is empty or names a label twice"),
    ("labels", ["chainsaw", "engine", "Far storm"], "labels: holds 'Far storm', expected small words"),
    ("labels", "chainsaw", "labels: is 'chainsaw', expected a list"),
    ("labels", ["chainsaw", "engine", "bird"], "rules.bird: is missing"),
    ("labels", ["chainsaw", "engine"], "golden.outputs: does not unpack to 16 x 2 bytes"),
    ("activation", "softmax", "activation: is 'softmax', expected one of sigmoid, none"),
    ("features.hop", 400, "features_digest: is "),
    ("features.hop", 2_000, "features.hop: is 2000, expected 1 to n_fft = 1024"),
    ("features.version", 2, "features.version: is 2, this code computes 1"),
    ("features.colour", 1, "features.colour: is not a known key"),
    ("features_digest", "0" * 16, "features_digest: is '0000000000000000', but these features have "),
    ("features_digest", None, "features_digest: is None, expected text"),
    ("input.scale", 0, "input.scale: is 0, expected a number from 1e-09 to 1000"),
    ("input.zero_point", 128, "input.zero_point: is 128, expected a whole number from -128 to 127"),
    ("output.scale", "1", "output.scale: is '1', expected a number"),
    ("output.bits", 8, "output.bits: is not a known key"),
    ("model_sha256", "abc", "model_sha256: is 'abc', expected text of 64 to 64 characters"),
    ("stride_s", 0.05, "stride_s: is 0.05, expected a number from 0.1 to 60"),
    ("stride_s", 1.51, "stride_s: is 1.51, expected whole hops of 0.03125 s, so that windows share frames"),
    ("rules.chainsaw.threshold", 1, "rules.chainsaw.threshold: is 1, expected a number"),
    ("rules.chainsaw.hits", 4, "rules.chainsaw.hits: is 4, expected 1 to of = 3"),
    ("rules.chainsaw.release", 0.9, "rules.chainsaw.release: is 0.9, expected above 0 and at most threshold"),
    ("rules.bird", {}, "rules.bird: is not a known key"),
    ("gate.vad_mode", 4, "gate.vad_mode: is 4, expected a whole number from 0 to 3"),
    ("golden.count", FEWEST_GOLDEN - 1, "golden.count: is 15, expected a whole number from 16 to 1000"),
    ("golden.count", FEWEST_GOLDEN + 1, "golden.inputs: does not unpack to 17 x 94 x 64 bytes"),
    ("golden.inputs", "AAAA", "golden.inputs: is not base64 of zlib data: "),
    ("golden.inputs", "…", "golden.inputs: is not base64 of zlib data: "),
    ("golden.outputs", base64.b64encode(zlib.compress(b"short")).decode(), "golden.outputs: does not unpack to 16 x 3"),
    ("golden.extra", 1, "golden.extra: is not a known key"),
    ("metrics", [], "metrics: is [], expected a mapping"),
    ("recipe", None, "recipe: is None, expected a mapping"),
    ("versions", {"numpy": 2}, "versions.numpy: is 2, expected text"),
    ("data_digest", 7, "data_digest: is 7, expected text"),
    ("licence", "x" * 65, "licence: is "),
    ("colour", "green", "colour: is not a known key"),
]


def put(document: Document, path: str, value: object) -> None:
    *parents, key = path.split(".")
    part = document
    for parent in parents:
        part = part[parent]
    part[key] = value


@pytest.mark.parametrize(("path", "value", "said"), WRONG, ids=[f"{path} {value!r:.20}" for path, value, _ in WRONG])
def test_what_is_wrong_is_named(
    tmp_path: Path, document: Callable[[], Document], path: str, value: object, said: str
) -> None:
    changed = document()
    put(changed, path, value)
    model = write(tmp_path, changed)
    with pytest.raises(ModelError) as caught:
        load_model(model)
    line = str(caught.value)
    assert line.startswith(f"{manifest_path(model)}: {said}")
    assert line.splitlines() == [line]


def test_every_missing_key_is_named(document: Callable[[], Document]) -> None:
    whole = document()
    # a mapping's own keys are named too, save where they are for people
    free = ("metrics", "recipe", "versions")
    paths = [
        f"{key}.{inner}" for key, part in whole.items() if isinstance(part, dict) and key not in free for inner in part
    ]
    for path in [*whole, *paths]:
        changed = document()
        *parents, key = path.split(".")
        part = changed[parents[0]] if parents else changed
        del part[key]
        with pytest.raises(FieldError) as caught:
            Manifest.from_json(json.dumps(changed))
        assert str(caught.value) == f"{path}: is missing"


def test_more_than_a_phone_can_hold_is_refused_unseen(document: Callable[[], Document]) -> None:
    changed = document()
    features = FeatureConfig(n_mels=256, n_frames=2_000)
    changed |= {"features": dataclasses.asdict(features), "features_digest": features.digest}
    changed["golden"]["count"] = 1_000
    with pytest.raises(FieldError, match=r"^golden\.inputs: are 512000000 bytes, expected at most 8000000$"):
        Manifest.from_json(json.dumps(changed))


@pytest.mark.parametrize("key", ["inputs", "outputs"])
def test_golden_data_that_unpacks_huge_takes_little_memory(document: Callable[[], Document], key: str) -> None:
    changed = document()
    changed["golden"][key] = base64.b64encode(zlib.compress(bytes(50_000_000), 9)).decode()
    text = json.dumps(changed)
    tracemalloc.start()
    with pytest.raises(FieldError, match=f"^golden.{key}: does not unpack to "):
        Manifest.from_json(text)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3_000_000


@pytest.mark.parametrize("text", ["", "null", "[]", "5", "{", "[" * 100_000, b"\xff\xfe\x00", '{"schema": 1', "NaN"])
def test_what_is_no_document_is_refused(tmp_path: Path, text: str | bytes) -> None:
    with pytest.raises(ModelError, match=r"forest\.json: document: is ") as caught:
        load_model(write(tmp_path, text))
    assert str(caught.value).splitlines() == [str(caught.value)]


def test_a_cut_manifest_is_refused_wherever_it_is_cut(make_manifest: Maker) -> None:
    text = make_manifest().to_json().rstrip()
    ends = random.Random(0).sample(range(len(text)), 30)
    for end in [*ends, len(text) - 1]:
        with pytest.raises(FieldError, match=r"^document: is not JSON: "):
            Manifest.from_json(text[:end])


@given(data=st.data())
def test_a_damaged_manifest_is_one_or_a_field_error(document: Callable[[], Document], data: st.DataObject) -> None:
    changed = document()
    changed["golden"]["inputs"] = "AAAA"
    body = bytearray(json.dumps(changed).encode())
    for place in data.draw(st.lists(st.integers(0, len(body) - 1), min_size=1, max_size=4)):
        body[place] = data.draw(st.integers(0, 255))
    with pytest.raises(FieldError) as caught:  # the inputs stay wrong
        Manifest.from_json(bytes(body))
    assert str(caught.value).splitlines() == [str(caught.value)]


# ---- a model and its manifest


def test_a_model_that_fits_is_loaded(tmp_path: Path, make_manifest: Maker) -> None:
    manifest = make_manifest(model_sha256=DIGEST)
    loaded, content = load_model(write(tmp_path, manifest.to_json()))
    assert content == MODEL
    assert same(loaded, manifest)


@pytest.mark.parametrize("model", [b"", MODEL[: len(MODEL) // 2], MODEL[:-1] + b"!", MODEL + b"\0"])
def test_a_model_that_was_cut_or_changed_is_refused(tmp_path: Path, make_manifest: Maker, model: bytes) -> None:
    path = write(tmp_path, make_manifest(model_sha256=DIGEST).to_json(), model)
    with pytest.raises(ModelError) as caught:
        load_model(path)
    found = hashlib.sha256(model).hexdigest()[:12]
    assert str(caught.value) == (
        f"{path}: is damaged or not the model that forest.json describes (sha256 {found}…, "
        f"expected {DIGEST[:12]}…, {len(model)} bytes); copy both again"
    )


def test_a_file_that_is_not_there_is_named(tmp_path: Path, document: Callable[[], Document]) -> None:
    model = write(tmp_path, document())
    manifest_path(model).unlink()
    with pytest.raises(ModelError, match=r"forest\.json: cannot read the model: No such file"):
        load_model(model)
    model.unlink()
    with pytest.raises(ModelError, match=r"forest\.tflite: cannot read the model: No such file"):
        load_model(model)
    for folder in (tmp_path, Path("/")):
        with pytest.raises(ModelError, match="cannot read the model: Is a directory"):
            load_model(folder)


def test_a_manifest_over_its_size_is_not_even_parsed(tmp_path: Path, make_manifest: Maker) -> None:
    text = make_manifest(model_sha256=DIGEST).to_json()
    load_model(write(tmp_path, text + " " * (LARGEST_MANIFEST_BYTES - len(text.encode()))))
    with pytest.raises(ModelError, match=f"has {LARGEST_MANIFEST_BYTES + 1} bytes, expected at most"):
        load_model(write(tmp_path, text + " " * (LARGEST_MANIFEST_BYTES + 1 - len(text.encode()))))


def test_the_bundled_model_fits_its_manifest() -> None:
    if not BUNDLED_MODEL.is_file():
        pytest.skip("no bundled model in this checkout")
    manifest, content = load_model(BUNDLED_MODEL)
    assert len(content) <= 3_000_000
    assert {label for label, rule in manifest.rules.items() if rule.alert} == {"chainsaw", "engine"}
    assert same(Manifest.from_json(manifest.to_json()), manifest)


# ---- numbers


def test_bytes_are_rounded_then_saturated() -> None:
    quantisation = Quantisation(scale=0.5, zero_point=10)
    real = np.array([0.0, 0.5, 0.7, 0.8, -0.7, 1e9, -1e9, 58.5, -69.0], np.float32)
    expected = [10, 11, 11, 12, 9, 127, -128, 127, -128]
    assert quantisation.to_bytes(real).tolist() == expected
    assert quantisation.to_real(np.array([10, 11, -128], np.int8)).tolist() == [0.0, 0.5, -69.0]


@given(scale=st.floats(1e-4, 10), zero_point=st.integers(-128, 127))
def test_every_byte_survives_its_number(scale: float, zero_point: int) -> None:
    quantisation = Quantisation(scale=scale, zero_point=zero_point)
    every = np.arange(-128, 128).astype(np.int8)
    assert np.array_equal(quantisation.to_bytes(quantisation.to_real(every).astype(np.float32)), every)


def test_scores_of_logits_are_a_sigmoid(make_manifest: Maker) -> None:
    table = make_manifest(output=Quantisation(scale=0.1, zero_point=20)).score_table()
    assert table.shape == (256,)
    assert table[128 + 20] == 0.5
    assert table[128 + 20 + 22] == pytest.approx(1 / (1 + np.exp(-2.2)))
    assert (np.diff(table) > 0).all()


def test_scores_of_scores_stay_within_bounds(make_manifest: Maker) -> None:
    table = make_manifest(activation="none", output=Quantisation(scale=1 / 200, zero_point=-100)).score_table()
    assert table[0] == 0.0
    assert table[128 - 100] == 0.0
    assert table[128] == pytest.approx(0.5)
    assert table[255] == 1.0
    assert (np.diff(table) >= 0).all()


def test_the_steepest_logits_make_no_noise(make_manifest: Maker) -> None:
    table = make_manifest(output=Quantisation(scale=1e3, zero_point=0)).score_table()
    assert table[0] < 1e-300
    assert table[-1] == 1.0
