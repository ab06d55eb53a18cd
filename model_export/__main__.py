"""`python -m model_export`: from recordings to the model that phones run."""

import argparse
import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from agent.errors import AgentError, ConfigError
from agent.manifest import BUNDLED_MODEL
from model_export.errors import DataError, ExportError

if TYPE_CHECKING:
    from model_export import pipeline

_RECIPE = Path(__file__).parent / "recipes" / "rainforest.yaml"
_EPILOG = """\
Usual ways:
  make export-tflite DATA=folder            all of it: train, convert, check, evaluate, write agent/models/default.*
  python -m model_export train --data D     train alone; stop it whenever you like, the same command goes on
  python -m model_export tracks --data D --out T && python -m model_export evaluate --tracks T
                                            how good is a model on recordings that it never heard?

DATA is a folder with manifest.csv, or one with folders of sound named after labels:
  chainsaw/*.wav  engine/*.wav  storm/*.wav  background/*.wav  machine/*.wav  other/*.wav

Exit code: 0 done; 1 it ran and the answer is no (a model that must not be shipped); 2 wrong use, recipe or recordings.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand and return its exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    # TensorFlow's own chatter is not for people; Keras picks its backend at import
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        return int(options.command(options))
    except ExportError as error:
        print(f"model_export: {error}", file=sys.stderr)
        return 1
    except AgentError as error:
        print(f"model_export: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        print(f"model_export: {error}; install the training side: pip install 'curupira[train]'", file=sys.stderr)
        return 2
    except OSError as error:
        print(
            f"model_export: {error.filename or 'file'}: {error.strerror}; free space or mend its rights",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        print("model_export: stopped; the same command goes on from the last checkpoint", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m model_export",
        description="Recordings -> mixtures -> training -> evaluation -> an int8 model with its manifest and card.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    train = _add(commands, "train", "train a recipe; goes on where it stopped", train_command)
    _data_options(train)
    _training_options(train)
    export = _add(commands, "export", "convert what `train` trained, check it, choose thresholds", export_command)
    _data_options(export)
    whole = _add(commands, "export-tflite", "all stages, up to agent/models/default.*", whole_command)
    _data_options(whole)
    _training_options(whole)
    whole.add_argument("--out", type=Path, default=BUNDLED_MODEL, metavar="FILE", help="the .tflite (%(default)s)")
    tracks = _add(commands, "tracks", "build held-out soundscapes with known events", tracks_command)
    _data_options(tracks)
    tracks.add_argument("--out", type=Path, required=True, metavar="DIR", help="where WAV and truth files go")
    tracks.add_argument("--events", type=int, default=32, metavar="N", help="saws, and engines, a track (%(default)s)")
    evaluate = _add(commands, "evaluate", "run the agent over such soundscapes and score it", evaluate_command)
    evaluate.add_argument("--tracks", type=Path, required=True, metavar="DIR", help="what `tracks` built")
    evaluate.add_argument("--model", type=Path, default=BUNDLED_MODEL, metavar="FILE", help="(%(default)s)")
    evaluate.add_argument("--json", type=Path, metavar="FILE", help="also write every figure here")
    evaluate.add_argument("--no-gate", action="store_true", help="classify every window")
    return parser


def _add(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, text: str, command: object
) -> argparse.ArgumentParser:
    sub = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".", epilog=_EPILOG)
    sub.formatter_class = argparse.RawDescriptionHelpFormatter
    sub.set_defaults(command=command)
    return sub


def _data_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="the recordings (see below)")
    parser.add_argument("--recipe", type=Path, default=_RECIPE, metavar="FILE", help="(%(default)s)")
    parser.add_argument(
        "--cache", type=Path, default=Path("var/cache"), metavar="DIR", help="decoded sound, checkpoints (%(default)s)"
    )
    parser.add_argument("--mixtures", type=int, metavar="N", help="another size of training than the recipe's")


def _training_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--weights", type=Path, metavar="FILE", help="ImageNet weights, folded (.npz); without it Keras downloads them"
    )
    parser.add_argument(
        "--minutes", type=float, default=38.0, metavar="M", help="training ends by then; 0: all mixtures (%(default)g)"
    )
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="that make mixtures (%(default)s)")


def train_command(options: argparse.Namespace) -> int:
    """Train, or go on training."""
    work = _work(options)
    _train(work, options)
    print(work.folder / "trained.npz")
    return 0


def export_command(options: argparse.Namespace) -> int:
    """Convert what was trained."""
    from model_export import pipeline

    work = _work(options)
    if not (work.folder / "trained.npz").is_file():
        raise DataError(f"{work.folder}: nothing was trained there; run `python -m model_export train` with this data")
    model = pipeline.train(work, weights=None, minutes=None, processes=0)
    print(pipeline.export(work, model))
    return 0


def whole_command(options: argparse.Namespace) -> int:
    """Train, convert, evaluate, ship."""
    from model_export import evaluation, pipeline

    work = _work(options)
    candidate = work.folder / "candidate.tflite"
    if not candidate.with_suffix(".json").is_file():
        pipeline.export(work, _train(work, options))
    document = pipeline.judge(work, candidate)
    print(evaluation.table(document))
    pipeline.ship(work, candidate, options.out, pipeline.trained_minutes(work))
    print(f"\nwrote {options.out}, {options.out.with_suffix('.json').name}, {options.out.with_suffix('.md').name}")
    return 0


def tracks_command(options: argparse.Namespace) -> int:
    """Build the held-out soundscapes."""
    from model_export import split, tracks

    work = _work(options)
    sounds = work.sounds(split.TEST, with_synth=False)
    for truth in tracks.build_tracks(work.store, sounds, options.out, events=options.events):
        print(f"{truth.name}: {truth.duration_s / 60:.1f} min, {len(truth.events)} events")
    return 0


def evaluate_command(options: argparse.Namespace) -> int:
    """Score a model on soundscapes."""
    from model_export import evaluation

    if not options.model.is_file():
        raise ConfigError(f"{options.model}: there is no model; make one with `make export-tflite DATA=folder`")
    document = evaluation.evaluate(options.tracks, options.model, ["--no-gate"] if options.no_gate else [])
    print(evaluation.table(document))
    if options.json:
        options.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return 0


def _work(options: argparse.Namespace) -> "pipeline.Work":
    from model_export import pipeline
    from model_export.recipe import load_recipe

    recipe = load_recipe(options.recipe)
    if options.mixtures is not None:
        if options.mixtures < recipe.training.shard:
            raise ConfigError(f"--mixtures is {options.mixtures}, expected at least a shard of {recipe.training.shard}")
        recipe = recipe.with_mixtures(options.mixtures)
    work = pipeline.prepare(recipe, options.data, options.cache)
    pipeline.report_skipped(work)
    return work


def _train(work: "pipeline.Work", options: argparse.Namespace) -> object:
    from model_export import pipeline

    if options.weights is not None and not options.weights.is_file():
        raise ConfigError(f"{options.weights}: there is no such file of weights; leave --weights out to download them")
    minutes = options.minutes if options.minutes > 0 else None
    return pipeline.train(work, weights=options.weights, minutes=minutes, processes=options.processes)


if __name__ == "__main__":
    raise SystemExit(main())
