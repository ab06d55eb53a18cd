"""Recipes that sort clips: both splits, a training that can be stopped, a report, an int8 model that the agent runs."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import ConfigError, FieldError
from agent.features import FeatureConfig, log_mel, window_features
from agent.wav import write_wav
from model_export.__main__ import main
from model_export.clips import exporting, judging, pictures, splits
from model_export.clips.judging import Judged
from model_export.clips.pictures import Pictures
from model_export.clips.recipe import ClipRecipe, load_recipe, names, parse_recipe, path_of
from model_export.errors import DataError, ExportError
from model_export.recipe import load_recipe as load_mixture

RATE = 16_000
# Keras 3.x turns variables into arrays in a way that NumPy 2 deprecates
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
CLIP_RECIPES = ("rainforest-classic", "urbansound8k", "urbansound8k-inception", "urban-small-cnn", "call-counter")


def document(**changes: object) -> dict[str, object]:
    return {
        "kind": "clips",
        "name": "tiny",
        "seed": 4,
        "published": "none",
        "labels": ["hum", "hiss"],
        "take": "class",
        "stride_s": 1.5,
        "features": {"hop": 750, "n_frames": 64, "n_mels": 32},
        "picture": {"kind": "log_mel", "windows": 1},
        "network": {"kind": "small_cnn", "dropout": 0.1},
        "training": {"epochs": 6, "batch": 8, "learning_rate": 0.01, "shift_share": 0.5, "mask_share": 0.2},
        "split": {"share": 0.3, "folds": 2},
        "decision": {"alert": {"hum": 0.6}, "hits": 1, "of": 2},
        **changes,
    }


def hum(pitch_hz: float, seconds: float, rng: np.random.Generator) -> np.ndarray:
    t = np.arange(int(seconds * RATE)) / RATE
    waves = sum(np.sin(2 * np.pi * pitch_hz * n * t) / n for n in range(1, 6))
    return (0.1 * waves + 0.01 * rng.standard_normal(len(t))).astype(np.float32)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ESC-50's layout: hums and hisses, three clips of each of five recordings, and one broken file."""
    folder = tmp_path_factory.mktemp("esc50")
    rng = np.random.default_rng(2)
    (folder / "audio").mkdir()
    (folder / "meta").mkdir()
    rows = []
    for number in range(30):
        kind, recording = ("hum", "hiss")[number % 2], number // 6
        samples = hum(70 + 25 * recording, 3.2, rng) if kind == "hum" else rng.standard_normal(51_200) * 0.05
        name = f"{1 + recording % 2}-{recording}{number % 2}-{chr(65 + number // 2 % 3)}-{number % 2}.wav"
        write_wav(folder / "audio" / name, samples.astype(np.float32), RATE)
        rows.append([name, 1 + recording % 2, number % 2, kind, "False", f"{recording}{number % 2}", "A"])
    rows.append(["2-99-A-0.wav", 2, 0, "hum", "False", "99", "A"])
    (folder / "audio/2-99-A-0.wav").write_bytes(b"RIFF")
    with (folder / "meta/esc50.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["filename", "fold", "target", "category", "esc10", "src_file", "take"], *rows])
    return folder


@pytest.fixture(scope="module")
def recipe_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    path.write_text(yaml.safe_dump(document()))
    return path


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("var")
    return ["--cache", str(folder / "cache"), "--runs", str(folder / "runs")]


@pytest.fixture(scope="module")
def trained(data: Path, recipe_file: Path, places: list[str]) -> Path:
    """The run's folder after `train`."""
    assert main(["train", str(recipe_file), "--data", str(data), *places]) == 0
    (folder,) = Path(places[3]).iterdir()
    return folder


@pytest.mark.slow
def test_training_writes_figures_of_both_splits_and_everything_people_look_at(trained: Path) -> None:
    figures = json.loads((trained / "figures.json").read_text())
    assert figures["clips"] == 30
    assert figures["skipped"] == 1
    assert any("have clips on both sides of the tutorial's split" in text for text in figures["warnings"])
    assert figures["splits"]["honest"]["clips"] == 30  # every clip a stranger once
    assert figures["splits"]["honest"]["accuracy"]["value"] > 0.8
    page = (trained / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 9
    assert "http" not in page.replace("http-equiv", "")
    pngs = {path.stem for path in (trained / "png").iterdir()}
    assert pngs == {
        *("recall", "curves", "mistakes", "class-hum", "class-hiss"),
        *("confusion-tutorial", "confusion-honest", "tradeoffs-tutorial", "tradeoffs-honest"),
    }
    assert list((trained / "tutorial/tensorboard").iterdir())
    assert len((trained / "tutorial/history.csv").read_text().splitlines()) == 1 + 6


@pytest.mark.slow
def test_the_agent_runs_what_is_exported(
    trained: Path, data: Path, recipe_file: Path, places: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    from agent.__main__ import main as agent

    out = trained.parent / "tiny.tflite"
    assert main(["export", str(recipe_file), "--data", str(data), "--out", str(out), *places]) == 0
    assert "int8 agrees" in (trained / "report.html").read_text()
    capsys.readouterr()
    rng = np.random.default_rng(3)
    write_wav(trained / "night.wav", np.concatenate([rng.standard_normal(RATE * 12) * 0.05, hum(110, 12, rng)]), RATE)
    assert agent(["replay", str(trained / "night.wav"), "--model", str(out), "--no-gate", "--json", "--scores"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    (alert,) = [line for line in lines if line["kind"] == "alert"]
    assert alert["label"] == "hum"
    assert 9 <= alert["onset_s"] <= 15
    for window in (line["scores"] for line in lines if line["kind"] == "window"):
        assert abs(sum(window.values()) - 1) < 0.02  # a softmax, in bytes
    assert main(["predict", str(trained / "night.wav"), "--model", str(out)]) == 0
    assert "hum" in capsys.readouterr().out


@pytest.mark.slow
def test_evaluate_says_the_same_again_without_training(
    trained: Path, data: Path, recipe_file: Path, places: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from model_export.clips import fitting

    monkeypatch.setattr(fitting, "fit", lambda *_, **__: pytest.fail("trained again"))
    before = (trained / "figures.json").read_text()
    for command in ("evaluate", "train"):
        assert main([command, str(recipe_file), "--data", str(data), *places]) == 0
    assert (trained / "figures.json").read_text() == before


def test_what_was_not_trained_cannot_be_evaluated(data: Path, recipe_file: Path, tmp_path: Path) -> None:
    from model_export.clips import commands

    with pytest.raises(DataError, match="is not trained"):
        commands.evaluate(_options(data, recipe_file, tmp_path))


def _options(data: Path, recipe: Path, folder: Path) -> object:
    import argparse

    return argparse.Namespace(
        recipe=recipe, data=data, cache=folder, runs=folder, layout=None, epochs=None, mixtures=None, fold=None
    )


@pytest.mark.slow
def test_a_training_that_was_stopped_goes_on_as_if_it_never_was(tmp_path: Path) -> None:
    import keras

    from model_export.clips import fitting, networks

    recipe = parse_recipe(document())
    rng = np.random.default_rng(1)
    windows = rng.standard_normal((24, 64, 32, 1)).astype(np.float32)
    truth = (np.arange(24) % 2).astype(np.int64)
    lesson = fitting.Lesson(inputs=windows, truth=truth, test_inputs=windows[:4], test_truth=truth[:4], n_labels=2)

    def weights(folder: Path, stop_after: int | None) -> list[np.ndarray]:
        keras.utils.set_random_seed(3)
        net = networks.build(recipe)
        config = recipe.training
        clock = iter(float(n) for n in range(10_000))

        def now() -> float:
            at_s = next(clock)
            if stop_after is not None and at_s > 3 * stop_after:
                raise KeyboardInterrupt
            return at_s

        fitting.fit(net.whole, lesson, config, folder, seed=5, keep_every_s=0.0, now=now)
        return [np.asarray(array) for array in net.whole.get_weights()]

    whole = weights(tmp_path / "whole", None)
    with pytest.raises(KeyboardInterrupt):
        weights(tmp_path / "parts", 1)
    assert (tmp_path / "parts/checkpoint.npz").is_file()
    for one, other in zip(whole, weights(tmp_path / "parts", None), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    assert len((tmp_path / "parts/history.csv").read_text().splitlines()) == 1 + recipe.training.epochs


@pytest.mark.slow
def test_a_network_that_resizes_its_picture_is_exported_as_it_answers() -> None:
    """Keras takes everything behind a Resizing layer to be in training unless told otherwise."""
    from model_export.clips import networks

    recipe = parse_recipe(document(network={"kind": "small_cnn", "size": [48, 48]}))
    net = networks.build(recipe)
    windows = np.random.default_rng(1).standard_normal((40, 64, 32)).astype(np.float32)
    windows[20:] *= 3
    small = exporting.convert(net, windows, recipe)
    wanted = judging.softmax(networks.through(net.whole, windows[..., None]))
    assert np.abs(small.logits(windows) - wanted).max() < 0.05
    operators = {detail["op_name"] for detail in small._interpreter._get_ops_details()}
    assert "SQUARED_DIFFERENCE" not in operators  # of a batch norm that learns


@pytest.mark.slow
def test_a_rare_class_is_seen_as_often_as_a_frequent_one_where_it_is_asked_for() -> None:
    from model_export.clips import fitting

    truth = np.array([0] * 90 + [1] * 10, np.int64)
    lesson = fitting.Lesson(inputs=truth, truth=truth, test_inputs=truth, test_truth=truth, n_labels=2)
    config = parse_recipe(document()).training
    balanced = fitting._order(lesson, replace(config, balance=True), np.random.default_rng(1))
    assert 35 <= truth[balanced].sum() <= 65
    assert sorted(fitting._order(lesson, config, np.random.default_rng(1)).tolist()) == list(range(100))


@pytest.mark.parametrize("name", CLIP_RECIPES)
def test_every_recipe_that_comes_along_is_read(name: str) -> None:
    recipe = load_recipe(path_of(name))
    assert recipe.name == name
    assert recipe.published
    stride = recipe.stride_s * RATE / recipe.features.hop
    assert stride == round(stride)  # else the agent refuses its manifest
    assert exporting.rule_of(recipe, next(iter(recipe.decision.alert))).alert


def test_the_default_recipe_keeps_its_digest() -> None:
    recipe = load_mixture(path_of("rainforest"))
    shipped = json.loads((Path(exporting.__file__).parents[2] / "agent/models/default.json").read_text())["recipe"]
    assert shipped["name"] == recipe.name
    assert {"small-cnn", "rainforest", *CLIP_RECIPES} <= set(names())
    assert recipe.digest == "8f7fbe0baffca060"


def test_magnitudes_cannot_go_to_a_phone_and_the_reason_is_said() -> None:
    recipe = load_recipe(path_of("call-counter-stft"))
    assert "the agent computes log-mel alone" in exporting.why_not(recipe)
    with pytest.raises(ExportError, match="cannot be run by the agent"):
        exporting.export_model(_run_of(recipe), Path("x.tflite"))


def _run_of(recipe: ClipRecipe) -> object:
    return type("Run", (), {"recipe": recipe})()


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"labels": ["hum"]}, "labels: is .*, expected two or more"),
        ({"labels": ["hum", "Hiss!"]}, "labels: is .*, expected two or more"),
        ({"classes": {"his": ["x"]}}, "classes.his: is none of the labels"),
        ({"decision": {"alert": {"his": 0.5}, "hits": 1, "of": 1}}, "decision.alert.his: is none"),
        (
            {"network": {"kind": "small_cnn", "frozen": True}},
            "network.frozen: is true, but small_cnn begins from nothing",
        ),
        ({"network": {"kind": "small_cnn", "size": [64]}}, "network.size: has 1 numbers"),
        ({"training": {"epochs": 1, "batch": 2, "learning_rat": 1}}, "learning_rate: is missing"),
        ({"features": {"hopp": 3}}, "hopp: is not a known key"),
    ],
)
def test_a_wrong_recipe_is_named_by_key(changes: dict[str, object], problem: str) -> None:
    with pytest.raises(FieldError, match=problem):
        parse_recipe(document(**changes))


def test_an_unknown_recipe_names_those_that_are_there() -> None:
    with pytest.raises(ConfigError, match=r"nonsense\.yaml: cannot be read: .* there are: .*urbansound8k"):
        load_recipe(path_of("nonsense"))


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["train", "urban-small-cnn", "--data", ".", "--fold", "1"], "--fold: means nothing to urban-small-cnn"),
        (["crossval", "urban-small-cnn", "--data", "."], "sorts clips; `train` judges it"),
        (["evaluate"], "--tracks is missing"),
        (["evaluate", "urban-small-cnn"], "give --data"),
    ],
)
def test_wrong_use_is_named(arguments: list[str], problem: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert problem in capsys.readouterr().err


def many(groups: list[tuple[int, int]]) -> Pictures:
    """Clips of recordings: (label, how many clips) of each."""
    truth = np.array([label for label, count in groups for _ in range(count)], np.int64)
    owners = tuple(f"r{idx}" for idx, (_, count) in enumerate(groups) for _ in range(count))
    n_clips = len(truth)
    return Pictures(
        np.zeros((n_clips, 1, 1), np.float32), np.arange(n_clips), truth, tuple(map(str, range(n_clips))), owners
    )


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 9)), min_size=6, max_size=40), st.integers(2, 5))
def test_no_recording_is_on_both_sides_of_the_honest_split(groups: list[tuple[int, int]], folds: int) -> None:
    found = many(groups)
    parts = splits.honest(found, replace(parse_recipe(document()).split, folds=folds), {})
    judged = np.concatenate([part.test for part in parts])
    assert sorted(judged.tolist()) == list(range(found.n_clips))
    for part in parts:
        assert not {found.groups[clip] for clip in part.train} & {found.groups[clip] for clip in part.test}


def test_folds_get_their_share_of_every_class() -> None:
    found = many([(label, 4) for label in (0, 1) for _ in range(8)])
    number = splits.recording_folds(found, 4)
    for fold in range(1, 5):
        assert np.bincount(found.truth[number == fold]).tolist() == [8, 8]


def test_the_tutorials_split_takes_its_share_of_each_class() -> None:
    part = splits.tutorial(many([(0, 20), (1, 10)]), parse_recipe(document()).split, 1)
    assert len(part.test) == 9
    assert len(np.intersect1d(part.train, part.test)) == 0


@pytest.mark.parametrize(("length", "expected"), [(10, [0]), (100, [0]), (150, [25]), (300, [0, 100, 200])])
def test_windows_lie_evenly_in_a_clip(length: int, expected: list[int]) -> None:
    assert pictures.starts(length, 100, 3) == expected


def test_a_picture_is_what_the_agent_computes() -> None:
    features = FeatureConfig()
    samples = np.random.default_rng(1).standard_normal(features.window_samples).astype(np.float32) * 0.1
    np.testing.assert_array_equal(
        pictures.picture(samples, "log_mel", features), window_features(log_mel(samples, features))
    )


def test_magnitudes_of_a_tone_peak_at_its_pitch() -> None:
    features = FeatureConfig(n_fft=320, hop=320, n_frames=150)
    tone = np.sin(2 * np.pi * 1_000 * np.arange(features.window_samples) / RATE).astype(np.float32)
    found = pictures.picture(tone, "magnitude", features)
    assert found.shape == (150, 161)
    assert (found.argmax(axis=1) == 20).all()  # 1000 Hz of 50 Hz a bin


def answers(truth: list[int], scores: list[list[float]]) -> Judged:
    names = tuple(map(str, range(len(truth))))
    return Judged(names, names, np.array(truth, np.int64), np.array(scores))


def test_figures_of_a_worked_example() -> None:
    judged = answers([0, 0, 1, 1], [[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.3, 0.7]])
    assert judging.accuracy(judged).value == 0.75
    assert judging.recall(judged, 0).value == 0.5
    assert judging.precision(judged, 1).value == pytest.approx(2 / 3)
    assert judging.recall(judged, 1, threshold=0.75).value == 0.5
    assert judging.confusion(judged, 2).tolist() == [[1, 1], [0, 2]]
    assert judging.roc(judged, 1)[2] == 1.0
    assert judging.precision_recall(judged, 1)[2] == 1.0


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=2, max_size=30))
def test_the_area_under_the_roc_is_the_chance_to_rank_a_pair_rightly(pairs: list[tuple[bool, int]]) -> None:
    truth = [int(own) for own, _ in pairs]
    if len(set(truth)) < 2:
        return
    scores = [score / 5 for _, score in pairs]
    judged = answers(truth, [[1 - score, score] for score in scores])
    ones = [score for own, score in zip(truth, scores, strict=True) if own]
    noughts = [score for own, score in zip(truth, scores, strict=True) if not own]
    ranked = np.mean([(one > nought) + 0.5 * (one == nought) for one in ones for nought in noughts])
    assert judging.roc(judged, 1)[2] == pytest.approx(ranked)


def test_spectrograms_are_drawn_and_a_broken_file_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_wav(tmp_path / "a.wav", hum(200, 1.0, np.random.default_rng(1)), RATE)
    (tmp_path / "b.wav").write_bytes(b"RIFF")
    assert main(["spectrogram", str(tmp_path / "a.wav"), str(tmp_path / "b.wav"), "--out", str(tmp_path / "png")]) == 1
    assert (tmp_path / "png/a.png").read_bytes().startswith(b"\x89PNG")
    assert "b.wav: cannot be read as sound" in caplog.text
