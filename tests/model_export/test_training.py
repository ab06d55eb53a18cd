"""The training side end to end on synthetic sound: train, stop, go on, export, and the agent hears with the result."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from model_export.recipe import TrainConfig
from tests.model_export.test_verified import write_set

pytest.importorskip("tensorflow")
pytest.importorskip("soundfile")

pytestmark = [
    pytest.mark.slow,
    # TensorFlow and its converter warn of their own affairs
    pytest.mark.filterwarnings("ignore"),
]


def test_the_rate_warms_up_and_falls_to_a_hundredth() -> None:
    from model_export.training import rate

    config = TrainConfig(learning_rate=1.0, warm_up=10)
    assert rate(0, 0.0, config) == pytest.approx(0.1)
    assert rate(10, 0.0, config) == pytest.approx(1.0)
    assert rate(500, 0.5, config) == pytest.approx(0.505)
    assert rate(1_000, 1.0, config) == pytest.approx(0.01)


def test_a_second_cycle_begins_anew_and_lower() -> None:
    from model_export.training import rate

    config = TrainConfig(learning_rate=1.0, warm_up=10, cycles=2, again=0.5)
    assert rate(499, 0.499, config, 2) == pytest.approx(0.01, abs=1e-3)
    assert rate(500, 0.5, config, 2) == pytest.approx(0.05)
    assert rate(510, 0.51, config, 2) == pytest.approx(0.5, rel=0.01)
    assert rate(750, 0.75, config, 2) == pytest.approx(0.2525)
    assert rate(1_000, 1.0, config, 2) == pytest.approx(0.005)


def test_a_second_cycle_goes_on_from_the_averaged_weights(document: dict[str, object]) -> None:
    import keras

    from model_export import training
    from model_export.recipe import parse_recipe

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    recipe = parse_recipe(document)
    optimizer = training._compile(model, recipe)
    rng = np.random.default_rng(1)
    for _ in range(5):
        model.train_on_batch(rng.normal(0, 1, (8, 4)), np.ones((8, 6)))
    (averaged,) = [one for one in optimizer.variables if "average" in one.path and one.shape == (4, 3)]
    kept = np.array(averaged)
    assert not np.allclose(kept, model.layers[0].kernel)
    fresh = training._next_cycle(model, optimizer, recipe)
    np.testing.assert_array_equal(model.layers[0].kernel, kept)
    assert int(fresh.iterations) == 0


def test_the_loss_is_the_textbook_one_and_knows_weights() -> None:
    import keras

    from model_export.training import weighted_loss

    logits = np.array([[2.0, -1.0, 0.5]], np.float32)
    targets = np.array([[1.0, 0.0, 1.0, 1.0, 0.5, 0.0]], np.float32)
    scores = 1 / (1 + np.exp(-logits[0]))
    expected = (-np.log(scores[0]) - 0.5 * np.log(1 - scores[1])) / 3
    assert float(keras.ops.convert_to_numpy(weighted_loss(targets, logits, 3))[0]) == pytest.approx(expected, rel=1e-5)


def test_the_second_head_adds_its_own_loss() -> None:
    import keras

    from model_export.training import weighted_loss

    logits = np.array([[0.0, 0.0, 0.0, 1.5, -2.0]], np.float32)
    targets = np.array([[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0]], np.float32)
    scores = 1 / (1 + np.exp(-logits[0, 3:]))
    expected = 0.5 * (-np.log(scores[0]) - np.log(1 - scores[1]))
    found = keras.ops.convert_to_numpy(weighted_loss(targets, logits, 3, 0.5))
    assert float(found[0]) == pytest.approx(expected, rel=1e-5)


def test_pretrained_weights_start_as_the_same_function(weights_file: Path) -> None:
    """Folded weights, then statistics of real windows: training mode must begin where inference mode is."""
    import keras

    from agent import synth
    from agent.features import FeatureConfig
    from model_export import network, pretrained
    from model_export.mixing import features_of
    from model_export.recipe import NetworkConfig

    features = FeatureConfig()
    rng = np.random.default_rng(2)
    windows = np.stack([features_of(synth.forest(3.0, rng), features) for _ in range(16)])[..., None]
    model = network.build(NetworkConfig(dropout=0.0), features, 3)
    pretrained.load(model, NetworkConfig(), [weights_file])
    before = keras.ops.convert_to_numpy(model(windows, training=False))
    network.start_from(model, windows)
    for training in (False, True):
        after = keras.ops.convert_to_numpy(model(windows, training=training))
        assert np.allclose(after, before, atol=2e-3 * np.abs(before).max())


def _beats_the_best_constant(recipe: Path, data: Path, cache: Path, judged: Path) -> bool:
    """Say whether a trained network knows more about its first mixtures than how often each label holds.

    The losses of the history are no measure: each is of other mixtures, and one small shard is harder than another.
    """
    import keras

    from model_export import network, pipeline, shards, split
    from model_export.recipe import load_recipe
    from model_export.training import weighted_loss

    work = pipeline.prepare(load_recipe(recipe), data, cache, judged)
    job = shards.job_of(work.recipe, work.samples, work.sounds(split.TRAIN, with_synth=True), work.folder / "shards")
    job.folder.mkdir(exist_ok=True)
    first = shards.read_shard(shards.make_shard(job, 0))
    trained = pipeline.train(work, weights=[], minutes=None, processes=0)

    def loss(logits: np.ndarray) -> float:
        targets = np.concatenate([first.labels, first.weights], axis=1)
        return float(keras.ops.convert_to_numpy(weighted_loss(targets, logits, 3)).mean())

    share = (first.labels * first.weights).sum(axis=0) / first.weights.sum(axis=0)
    constant = np.broadcast_to(np.log(share / (1 - share)), first.labels.shape).astype(np.float32)
    return loss(network.logits_of(trained, first.windows)) < loss(constant)


def test_a_tiny_model_goes_all_the_way(
    data: Path,
    document: dict[str, object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from agent.classify import load_classifier
    from agent.manifest import load_model
    from model_export import export, pipeline, tracks, training
    from model_export.__main__ import main

    # so short a training leaves logits near 0, where one step of int8 decides; few windows are enough for the way
    monkeypatch.setattr(export, "LOWEST_AGREEMENT", 0.3)
    monkeypatch.setattr(pipeline, "_REPRESENTATIVE", 40)
    monkeypatch.setattr(pipeline, "_PARITY", 30)
    recipe = tmp_path / "recipe.yaml"
    document["training"] = {**document["training"], "mixtures": 256, "cycles": 2}  # type: ignore[dict-item]
    recipe.write_text(yaml.safe_dump(document))
    judged = write_set(tmp_path / "judged", [("chainsaw", "ipe-07-20261120"), ("other", "ipe-08-20261120")])
    common = ["--data", str(data), "--recipe", str(recipe), "--cache", str(tmp_path / "cache")]
    common += ["--verified", str(judged)]

    # stopped after the second shard...
    real_note = training._note

    def stop_after_two(path: Path, progress: training.Progress, loss: float, learning_rate: float) -> None:
        real_note(path, progress, loss, learning_rate)
        if progress.shard == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(training, "_note", stop_after_two)
    assert main(["train", *common, "--processes", "0"]) == 1
    assert "goes on" in capsys.readouterr().err
    # ...it goes on with the third, and learns
    monkeypatch.setattr(training, "_note", real_note)
    real_tracks = tracks.build_tracks
    monkeypatch.setattr(tracks, "build_tracks", lambda *args: real_tracks(*args, events=2))
    out = tmp_path / "models" / "tiny.tflite"
    assert main(["export-tflite", *common, "--processes", "0", "--out", str(out)]) == 0
    (history,) = (tmp_path / "cache").glob("tiny-*/history.csv")
    rows = [line.split(",") for line in history.read_text().splitlines()[1:]]
    assert [row[0] for row in rows] == ["0", "1", "2", "2", "3"]
    assert _beats_the_best_constant(recipe, data, tmp_path / "cache", judged)

    # the agent takes the result, golden answers and all
    manifest, content = load_model(out)
    classifier = load_classifier(manifest, content)
    assert manifest.labels == ("chainsaw", "engine", "storm")
    assert len(manifest.golden_inputs) >= 24
    assert len(np.unique(manifest.golden_outputs, axis=0)) > 8
    frames = np.random.default_rng(1).standard_normal((94, 64)).astype(np.float32)
    assert classifier.outputs(frames).shape == (3,)
    document = json.loads(out.with_suffix(".json").read_text())
    assert {row["level"] for row in document["metrics"]["evaluation"]["recall"]} >= {"20 dB", "-10 dB", "far"}
    assert document["metrics"]["verified"]["windows"] >= 1
    card = out.with_suffix(".md").read_text()
    assert "CC BY-NC 4.0" in card
    assert manifest.digest in card
    assert (out.parent / "LICENSE").is_file()

    # again: everything is there, nothing is trained
    shipped = out.read_bytes()
    assert main(["export-tflite", *common, "--processes", "0", "--out", str(out)]) == 0
    assert out.read_bytes() == shipped
    assert len(history.read_text().splitlines()) == 6


def test_two_folds_are_judged_as_strangers(
    data: Path,
    document: dict[str, object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """crossval: trained, heard, judged by each other's thresholds, written down; the second time nothing is done."""
    from agent.manifest import load_model
    from model_export import evaluation, export, pipeline, tracks, training
    from model_export.__main__ import main

    monkeypatch.setattr(export, "LOWEST_AGREEMENT", 0.0)
    monkeypatch.setattr(pipeline, "_REPRESENTATIVE", 20)
    monkeypatch.setattr(pipeline, "_PARITY", 10)
    real_tracks = tracks.build_tracks
    monkeypatch.setattr(tracks, "build_tracks", lambda *args: real_tracks(*args, events=2))
    document["training"] = {**document["training"], "mixtures": 128, "looks": 1}  # type: ignore[dict-item]  # a mapping
    # which network is judged is no matter here, and a small one is converted in a tenth of the time
    small = {"kind": "small_cnn", "kinds_weight": 0.05}
    document["network"] = {**document["network"], **small}  # type: ignore[dict-item]  # a mapping
    document["split"] = {**document["split"], "validation_share": 0, "fold": 0}  # type: ignore[dict-item]  # a mapping
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(document))
    common = ["--data", str(data), "--recipe", str(recipe), "--cache", str(tmp_path / "cache")]
    kept, page, rules = (tmp_path / name for name in ("kept.json", "page.html", "recipe.rules.json"))
    command = ["crossval", *common, "--processes", "0", "--json", str(kept), "--html", str(page), "--rules", str(rules)]
    assert main(command) == 0
    found = evaluation.Evaluation.from_json(kept.read_text())
    assert {track.fold for track in found.tracks} == {1, 2}
    assert len(found.tracks) == 26
    recordings = [
        {e.recording for track in found.tracks if track.fold == fold for e in track.events} for fold in (1, 2)
    ]
    assert recordings[0].isdisjoint(recordings[1])
    assert "times real time" in capsys.readouterr().out
    assert page.read_text().startswith("<!doctype html>")

    # each fold was judged by thresholds that it did not choose
    folds = found.facts["fold 1"]["rules"], found.facts["fold 2"]["rules"]
    ruled = sorted((tmp_path / "cache").glob("tiny-*/ruled.json"))
    assert [dict(load_model(path.with_suffix(".tflite"))[0].rules)["chainsaw"].threshold for path in ruled] in (
        [fold["chainsaw"]["threshold"] for fold in folds],
        [fold["chainsaw"]["threshold"] for fold in reversed(folds)],
    )

    # again: nothing is trained, nothing is heard anew
    monkeypatch.setattr(training, "train", pytest.fail)
    monkeypatch.setattr(evaluation, "listen", pytest.fail)
    capsys.readouterr()
    assert main([*command, "--beside", str(kept)]) == 0
    assert evaluation.Evaluation.from_json(kept.read_text()) == found
    assert capsys.readouterr().out.count("\n| tiny |") == 4, "beside itself, in both tables"

    # a fold's model refuses the other fold's tracks, which taught it
    (other,) = {path.parent for path in (tmp_path / "cache").glob("tracks-2-*/background.json")}
    (first,) = {
        path.with_suffix(".tflite")
        for path in ruled
        if load_model(path.with_suffix(".tflite"))[0].recipe["split"]["fold"] == 1
    }
    assert main(["evaluate", "--tracks", str(other), "--model", str(first)]) == 2
    assert "measure its memory" in capsys.readouterr().err
    assert main(["crossval", *common, "--folds", "1"]) == 2
    assert "one fold alone" in capsys.readouterr().err
