"""A small world of recordings, made on the spot, for the training side's tests."""

import csv
from pathlib import Path

import numpy as np
import pytest

from agent import synth
from agent.features import Float32
from agent.wav import write_wav
from model_export.recipe import Recipe, parse_recipe
from model_export.store import Sound, Store

RATE = 16_000


def recipe_document() -> dict[str, object]:
    """A recipe small enough for a test, every key given."""
    return {
        "name": "tiny",
        "seed": 3,
        "labels": ["chainsaw", "engine", "storm"],
        "stride_s": 1.5,
        "split": {
            "folds": 2,
            "fold": 1,
            "fold_dataset": "esc50",
            "fold_groups": {"forest-test": 1, "forest-train": 2, "forest-validation": 2},
            "validation_share": 0.2,
        },
        "synth": {"saw": 4, "engine": 4, "insects": 2, "rain": 2},
        "mixing": {
            "saw_share": 0.4,
            "engine_share": 0.25,
            "both_share": 0.04,
            "storm_share": 0.12,
            "confuser_share": 0.36,
            "synth_saw_share": 0.3,
            "synth_engine_share": 0.3,
            "far_share": 0.25,
            "partial_share": 0.3,
            "snr_low_db": -12,
            "snr_high_db": 22,
            "level_low_dbfs": -60,
            "level_high_dbfs": -15,
            "hard": {"drill": 3},
            "places": {"forest": 5},
        },
        "network": {"alpha": 0.35, "dropout": 0.2, "batch_norm_momentum": 0.9},
        "training": {
            "mixtures": 512,
            "shard": 128,
            "batch": 32,
            "learning_rate": 0.003,
            "warm_up": 4,
            "weight_decay": 0.01,
            "ema": 0.8,
            "label_smoothing": 0.02,
            "mixup_share": 0.1,
            "mask_share": 0.3,
        },
        "decision": {
            "chainsaw": {"hits": 2, "of": 3},
            "engine": {"hits": 2, "of": 3},
            "borne": {"forest": 0.1, "confusers": 0.5, "engines": 0.5},
        },
    }


@pytest.fixture
def document() -> dict[str, object]:
    return recipe_document()


@pytest.fixture
def recipe() -> Recipe:
    return parse_recipe(recipe_document())


def world() -> list[tuple[str, str, str, Float32]]:
    """(name, class, group, samples) of recordings: two clips from each of several recordings of every target."""
    rng = np.random.default_rng(8)
    made: list[tuple[str, str, str, Float32]] = []
    made += [
        (f"background/forest-{part}", "forest", f"forest-{part}", synth.forest(62.0, rng))
        for part in ("train", "test", "validation")
    ]
    for number in range(8):
        for clip in range(2):
            made += [
                (f"chainsaw/{number}-{clip}", "saw", f"saw{number}", synth.chainsaw(3.0, rng, synth.random_saw(rng))),
                (f"engine/{number}-{clip}", "car", f"car{number}", synth.engine(3.0, rng, synth.random_engine(rng))),
            ]
        made.append((f"storm/{number}", "rain", f"rain{number}", synth.rain(3.0, rng)))
        made.append((f"background/bird{number}", "birds", f"bird{number}", synth.birds(3.0, rng)))
        drill = (rng.standard_normal(RATE * 2) * 0.1).astype(np.float32)
        made.append((f"machine/drill{number}", "drill", f"drill{number}", drill))
    return made


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with manifest.csv, as data sets bring it."""
    folder = tmp_path_factory.mktemp("data")
    with (folder / "manifest.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "dataset", "class", "target", "recording", "group", "fold", "seconds", "licence"])
        for name, kind, group, samples in world():
            path = folder / f"{name}.wav"
            path.parent.mkdir(exist_ok=True)
            write_wav(path, samples, RATE)
            target = name.split("/")[0]
            writer.writerow([f"{name}.wav", "made", kind, target, group, group, "1", len(samples) / RATE, "CC0"])
    return folder


@pytest.fixture(scope="session")
def small_store() -> Store:
    """A store in memory, of the same world."""
    sounds: list[Sound] = []
    pieces: list[np.ndarray] = []
    at = 0
    for name, kind, group, samples in world():
        pieces.append(np.rint(samples * 32_767).astype(np.int16))
        target = name.split("/")[0]
        sounds.append(
            Sound(name=name, kind=kind, target=target, group=group, start=at, length=len(samples), level_dbfs=-30.0)
        )
        at += len(samples)
    return Store(tuple(sounds), np.concatenate(pieces))
