"""Recipes: read whole, refused with the key's name."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.errors import ConfigError, FieldError
from agent.features import FeatureConfig
from model_export.__main__ import main
from model_export.recipe import load_recipe, parse_recipe

RECIPES = Path(__file__).parents[2] / "model_export" / "recipes"
SHIPPED = RECIPES / "rainforest.yaml"


def write(tmp_path: Path, document: object) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


@pytest.mark.parametrize("name", ["rainforest", "rainforest-audioset", "rainforest-imagenet"])
def test_the_recipes_of_the_forest_are_right(name: str) -> None:
    recipe = load_recipe(RECIPES / f"{name}.yaml")
    assert recipe.labels == ("chainsaw", "engine", "storm")
    assert recipe.features.window_samples == pytest.approx(3 * FeatureConfig().sample_rate, abs=recipe.features.hop)
    assert recipe.stride_s * recipe.features.sample_rate % recipe.features.hop == 0, "windows share their frames"


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("mixing.saw_shares", 0.4, "mixing.saw_shares: is not a known key; did you mean saw_share?"),
        ("mixing.saw_share", 1.4, "mixing.saw_share: is 1.4, expected a number from 0 to 1"),
        ("mixing.both_share", 0.5, "mixing.both_share: is 0.5, more than saw_share or engine_share"),
        ("mixing.snr_low_db", 30, "mixing.snr_low_db: is 30, above snr_high_db"),
        ("mixing.hard", {"drill": "many"}, "mixing.hard.drill: is 'many', expected a number"),
        ("training.batch", 1.5, "training.batch: is 1.5, expected a whole number"),
        ("network.alpha", None, "network.alpha: is None, expected a number"),
        ("labels", ["chainsaw"], "labels: is ['chainsaw'], expected"),
        ("synth.dragons", 3, "synth.dragons: is not a known key"),
        ("split", [], "split: is [], expected a mapping"),
    ],
)
def test_a_wrong_value_is_named(tmp_path: Path, document: Any, path: str, value: object, message: str) -> None:
    *above, last = path.split(".")
    place = document
    for key in above:
        place = place[key]
    place[last] = value
    file = write(tmp_path, document)
    with pytest.raises(ConfigError) as caught:
        load_recipe(file)
    assert str(caught.value).startswith(f"{file}: {message}")
    assert "\n" not in str(caught.value)


def test_what_is_no_yaml_or_not_there_is_one_line(tmp_path: Path) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [1,\n b: 2")
    for path in (broken, tmp_path / "none.yaml"):
        with pytest.raises(ConfigError) as caught:
            load_recipe(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_weights_that_are_not_there_are_named_before_anything_is_decoded(
    tmp_path: Path, document: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "here.npz").touch()
    weights = ["--weights", str(tmp_path / "here.npz"), "--weights", str(tmp_path / "none.tflite")]
    places = ["--data", str(tmp_path), "--cache", str(tmp_path / "cache"), "--recipe", str(write(tmp_path, document))]
    for command in ("train", "export-tflite", "crossval"):
        assert main([command, *places, *weights]) == 2
        assert "none.tflite: there is no such file of weights" in capsys.readouterr().err
    assert not (tmp_path / "cache").exists()


def test_another_value_is_another_digest(tmp_path: Path, document: Any) -> None:
    first = load_recipe(write(tmp_path, document)).digest
    document["mixing"]["far_share"] = 0.26
    assert load_recipe(write(tmp_path, document)).digest != first


def test_the_command_line_says_it_in_one_line_and_exits_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--data", str(tmp_path / "none")]) == 2
    assert main(["train", "--data", str(tmp_path), "--recipe", str(tmp_path / "none.yaml")]) == 2
    assert main(["evaluate", "--tracks", str(tmp_path), "--model", str(tmp_path / "no.tflite")]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 3
    assert all(line.startswith("model_export: ") for line in said)


@pytest.mark.parametrize("command", ["", "train", "export", "export-tflite", "tracks", "evaluate"])
def test_help_teaches(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([*command.split(), "--help"])
    assert caught.value.code == 0
    said = capsys.readouterr().out
    assert "Exit code" in said
    assert "manifest.csv" in said


def test_another_kind_of_network_is_another_recipe_and_the_usual_one_needs_no_name(document: dict[str, Any]) -> None:
    usual = parse_recipe(document)
    named = parse_recipe({**document, "network": {**document["network"], "kind": "mobilenet_v2"}})
    small = parse_recipe({**document, "network": {**document["network"], "kind": "small_cnn"}})
    assert usual == named
    assert usual.digest == named.digest != small.digest


def test_a_decision_may_name_a_steady_mean(document: dict[str, Any]) -> None:
    decision = {**document["decision"], "chainsaw": {"hits": 2, "of": 4, "steady_of": 8}}
    parsed = parse_recipe({**document, "decision": decision})
    assert parsed.decision.steady_of == {"chainsaw": 8}
    assert parsed.digest == parse_recipe(document).digest, "another decision is no other network"
    quick = parse_recipe(
        {**document, "decision": {**decision, "chainsaw": {**decision["chainsaw"], "quick_share": 0.1}}}
    )
    assert quick.decision.quick_share == {"chainsaw": 0.1}
    with pytest.raises(FieldError, match=r"decision.chainsaw.steady_of: is 1, expected"):
        parse_recipe({**document, "decision": {**decision, "chainsaw": {"hits": 2, "of": 4, "steady_of": 1}}})
