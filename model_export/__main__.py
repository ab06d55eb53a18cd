"""`python -m model_export`: from recordings to the model that phones run."""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.errors import AgentError, ConfigError
from agent.manifest import BUNDLED_MODEL
from model_export import download
from model_export.clips import commands as clips
from model_export.clips.recipe import names, path_of
from model_export.errors import DataError, ExportError
from model_export.scan import commands as scan

if TYPE_CHECKING:
    from agent.decide import LabelRule
    from model_export import pipeline
    from model_export.evaluation import Evaluation
    from model_export.recipe import Recipe

_RECIPE = Path(__file__).parent / "recipes" / "rainforest.yaml"
_EPILOG = """\
Usual ways:
  make export-tflite DATA=folder            all of it: train, convert, check, write agent/models/default.*
  make evaluate DATA=folder                 how good is the recipe on recordings that it never heard? four folds
  python -m model_export train RECIPE --data D
                                            train alone; stop it whenever you like, the same command goes on
  python -m model_export tracks --data D --fold 4 --out T && python -m model_export evaluate --tracks T --model M
                                            one model on soundscapes of one fold

DATA is a folder as it was unpacked: ESC-50, UrbanSound8K, a CSV of ID,Class, calls and what is none, Raven or Audacity
labels beside recordings, the station's labels, a manifest.csv, or folders of sound named after labels:
  chainsaw/*.wav  engine/*.wav  storm/*.wav  background/*.wav  machine/*.wav  other/*.wav
RECIPE is a file or one of: {recipes} (docs/recipes.md).

Exit code: 0 done; 1 it ran and the answer is no (a model that must not be shipped); 2 wrong use, recipe or recordings.
""".format(recipes=", ".join(names()))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand and return its exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if getattr(options, "given", None) is not None:
        options.recipe = options.given
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    # TensorFlow's own chatter is not for people; Keras picks its backend at import
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
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
    again = train.add_mutually_exclusive_group()
    again.add_argument("--resume", action="store_true", help="go on where it stopped, which is what it does anyhow")
    again.add_argument("--afresh", action="store_true", help="forget what was trained (recipes that sort clips)")
    export = _add(commands, "export", "convert what `train` trained, check it, set thresholds", export_command)
    _data_options(export)
    export.add_argument("--out", type=Path, metavar="FILE", help="the .tflite (var/models/RECIPE.tflite)")
    whole = _add(commands, "export-tflite", "all stages, up to agent/models/default.*", whole_command)
    _data_options(whole)
    _training_options(whole)
    whole.add_argument("--out", type=Path, default=BUNDLED_MODEL, metavar="FILE", help="the .tflite (%(default)s)")
    whole.add_argument(
        "--evaluation", type=Path, metavar="FILE", help="what `crossval --json` wrote: its figures go into the card"
    )
    tracks = _add(commands, "tracks", "build held-out soundscapes with known events", tracks_command)
    _data_options(tracks)
    tracks.add_argument("--out", type=Path, required=True, metavar="DIR", help="where WAV and truth files go")
    tracks.add_argument("--events", type=int, default=32, metavar="N", help="saws, and engines, a track (%(default)s)")
    evaluate = _add(commands, "evaluate", "run the agent over such soundscapes and score it", evaluate_command)
    evaluate.add_argument("--tracks", type=Path, metavar="DIR", help="what `tracks` built; or RECIPE and --data")
    _data_options(evaluate, required=False)
    evaluate.add_argument("--model", type=Path, default=BUNDLED_MODEL, metavar="FILE", help="(%(default)s)")
    evaluate.add_argument(
        "--trained-on-them", action="store_true", help="go on though the model was trained on these recordings"
    )
    _report_options(evaluate)
    crossval = _add(
        commands, "crossval", "train and judge every fold: each recording once a stranger", crossval_command
    )
    _data_options(crossval)
    _training_options(crossval)
    _report_options(crossval)
    crossval.add_argument("--folds", type=_numbers, metavar="N,N", help="these alone, two at least; all by default")
    crossval.add_argument(
        "--margins", action="store_true", help="what thresholds chosen on these very tracks would find, too"
    )
    crossval.add_argument("--rules", type=Path, metavar="FILE", help="write the operating point of all folds here")
    release = _add(
        commands, "release-check", "is a recipe worse than the shipped one? exit 1 if it is", release_command
    )
    release.add_argument(
        "--shipped", type=Path, required=True, metavar="FILE", help="what `crossval --json` wrote for it"
    )
    release.add_argument("--candidate", type=Path, required=True, metavar="FILE", help="the same of the new recipe")

    def add(name: str, text: str, command: object) -> argparse.ArgumentParser:
        return _add(commands, name, text, command)

    clips.describe(add)
    scan.describe(add)
    download.describe(add)
    return parser


def _add(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, text: str, command: object
) -> argparse.ArgumentParser:
    sub = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".", epilog=_EPILOG)
    sub.formatter_class = argparse.RawDescriptionHelpFormatter
    sub.set_defaults(command=command)
    return sub


def _data_options(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    parser.add_argument("given", nargs="?", type=path_of, metavar="RECIPE", help="a name or a file (see below)")
    parser.add_argument("--data", type=Path, required=required, metavar="DIR", help="the recordings (see below)")
    parser.add_argument("--recipe", type=path_of, default=_RECIPE, metavar="RECIPE", help="the same (%(default)s)")
    parser.add_argument("--layout", metavar="NAME", help="of the recordings, where it is not the first that fits")
    parser.add_argument("--epochs", type=int, metavar="N", help="another length than the recipe's (that sort clips)")
    parser.add_argument(
        "--runs",
        type=Path,
        default=Path("var/runs"),
        metavar="DIR",
        help="reports of recipes that sort clips (%(default)s)",
    )
    parser.add_argument(
        "--cache", type=Path, default=Path("var/cache"), metavar="DIR", help="decoded sound, checkpoints (%(default)s)"
    )
    parser.add_argument("--mixtures", type=int, metavar="N", help="another size of training than the recipe's")
    parser.add_argument(
        "--verified",
        type=Path,
        metavar="DIR",
        help="alerts that people judged, by `base_station export-labels`: what the model saw of each teaches too",
    )
    parser.add_argument("--fold", type=int, metavar="N", help="hold this fold out; 0: none (the recipe's own)")


def _report_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep every track's outcome here")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page with plots and playable spectrograms")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables here too")
    parser.add_argument("--gate", action="store_true", help="what each ingredient of the gate saves and costs, too")
    parser.add_argument("--peers", type=Path, metavar="DIR", help="yamnet.tflite and its class map: side by side")
    parser.add_argument(
        "--beside",
        type=Path,
        metavar="FILE",
        action="append",
        default=[],
        help="what another evaluation of the same tracks kept (--json): side by side",
    )


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"is {text!r}, expected numbers such as 1,2") from error


def _training_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--weights",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="ImageNet weights, folded (.npz; without them Keras downloads them), or YAMNet's .tflite; twice: both",
    )
    parser.add_argument(
        "--minutes", type=float, default=0.0, metavar="M", help="training ends by then; 0: all mixtures (%(default)g)"
    )
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="that make mixtures (%(default)s)")


def train_command(options: argparse.Namespace) -> int:
    """Train, or go on training."""
    if clips.takes(options):
        return clips.train(options)
    work = _work(options)
    _train(work, options)
    print(work.folder / "trained.npz")
    return 0


def export_command(options: argparse.Namespace) -> int:
    """Convert what was trained."""
    if clips.takes(options):
        return clips.export(options)
    from model_export import pipeline

    work = _work(options)
    if not (work.folder / "trained.npz").is_file():
        raise DataError(f"{work.folder}: nothing was trained there; run `python -m model_export train` with this data")
    model = pipeline.train(work, weights=[], minutes=None, processes=0)
    print(pipeline.export(work, model, _rules(work, options)))
    return 0


def whole_command(options: argparse.Namespace) -> int:
    """Train, convert, evaluate on the fold that was held out, if any, and ship."""
    if clips.takes(options):
        return clips.whole(options)
    from model_export import evaluation, pipeline, summary

    work = _work(options)
    candidate = _candidate(work, options)
    kept: evaluation.Evaluation | None = None
    if work.recipe.split.fold:
        folder, _ = pipeline.held_out_tracks(work)
        kept = evaluation.evaluate(folder, candidate, fold=work.recipe.split.fold)
    elif options.evaluation:
        kept = _kept(options.evaluation)
    if kept is not None:
        figures = summary.summarise(kept)
        pipeline.with_figures(candidate, figures)
        print(summary.table(figures))
    pipeline.ship(work, candidate, options.out, pipeline.trained_minutes(work))
    print(f"\nwrote {options.out}, {options.out.with_suffix('.json').name}, {options.out.with_suffix('.md').name}")
    return 0


def _candidate(work: "pipeline.Work", options: argparse.Namespace) -> Path:
    """Return the converted model, training it unless it is there."""
    from model_export import pipeline

    candidate = work.folder / "candidate.tflite"
    if not candidate.with_suffix(".json").is_file():
        pipeline.export(work, _train(work, options), _rules(work, options))
    return candidate


def _rules(work: "pipeline.Work", options: argparse.Namespace) -> "dict[str, LabelRule] | None":
    """Return the cross-validated operating point beside the recipe, where it is of this recipe."""
    from model_export import crossval

    return crossval.read_rules(crossval.rules_path(options.recipe), work.recipe) if not work.recipe.split.fold else None


def tracks_command(options: argparse.Namespace) -> int:
    """Build the held-out soundscapes."""
    _refuse_clips(options)
    from model_export import split, tracks

    work = _work(options)
    if not work.recipe.split.fold:
        raise ConfigError("no fold is held out, so nothing is left for tracks; give --fold N")
    sounds = work.sounds(split.TEST, with_synth=False)
    for truth in tracks.build_tracks(work.store, sounds, options.out, events=options.events):
        print(f"{truth.name}: {truth.duration_s / 60:.1f} min, {len(truth.events)} events")
    return 0


def evaluate_command(options: argparse.Namespace) -> int:
    """Score a model on soundscapes."""
    if clips.takes(options):
        if options.data is None:
            raise ConfigError(f"{options.recipe}: sorts clips: give --data, the recordings that it was trained on")
        return clips.evaluate(options)
    if options.tracks is None:
        raise ConfigError("--tracks is missing: the soundscapes that `python -m model_export tracks` builds")
    from model_export import evaluation

    if not options.model.is_file():
        raise ConfigError(f"{options.model}: there is no model; make one with `make export-tflite DATA=folder`")
    if not options.trained_on_them:
        evaluation.refuse_known(options.model, evaluation.read_truths(options.tracks))
    kept = evaluation.evaluate(options.tracks, options.model)
    _write_report(kept, {0: options.tracks}, options, Path("var/peers"))
    return 0


def crossval_command(options: argparse.Namespace) -> int:
    """Train, run and judge all folds."""
    _refuse_clips(options)
    from model_export import crossval, datasets
    from model_export.recipe import load_recipe

    recipe = _recipe(options, load_recipe(options.recipe)).with_fold(0)
    numbers = options.folds or tuple(range(1, recipe.split.folds + 1))
    found = crossval.cross_validate(
        recipe,
        options.data,
        options.cache,
        numbers=numbers,
        train=lambda work: _candidate(work, options),
        verified=options.verified,
    )
    _write_report(
        found.evaluation, {fold.number: fold.tracks for fold in found.folds}, options, options.cache / "peers"
    )
    if options.margins:
        print(crossval.margins_text(found, recipe))
    if options.rules:
        digest = datasets.digest_of(datasets.read_clips(options.data))
        options.rules.write_text(crossval.rules_text(found.rules, recipe, digest), encoding="utf-8")
    return 0


def _refuse_clips(options: argparse.Namespace) -> None:
    if clips.takes(options):
        raise ConfigError(f"{options.recipe}: sorts clips; `train` judges it on both splits, `evaluate` says it again")


def release_command(options: argparse.Namespace) -> int:
    """Compare two kept cross-validations."""
    from model_export import release

    differences = release.compare(_kept(options.shipped), _kept(options.candidate))
    print(release.report(differences))
    worse = [one.name for one in differences if one.is_worse]
    if worse:
        print(f"\nworse beyond chance: {', '.join(worse)}")
    return 1 if worse else 0


def _kept(path: Path) -> "Evaluation":
    from model_export.evaluation import Evaluation

    try:
        return Evaluation.from_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}; make it with `crossval --json`") from error
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def _write_report(kept: "Evaluation", folders: dict[int, Path], options: argparse.Namespace, cache: Path) -> None:
    """Print the tables, and write them as asked for."""
    from agent.gate import GateConfig
    from model_export import evaluation, gating, report, summary

    figures = summary.summarise(kept)
    peers = _peers(folders, options.peers, cache) if options.peers else []
    peers += [(other.name, summary.summarise(other)) for other in map(_kept, options.beside)]
    text = f"{summary.table(figures)}\n\n{summary.details(figures)}\n"
    if options.gate:
        told = [evaluation.read_truths(folder) for folder in folders.values()]
        text += f"\n{gating.table(gating.rows(list(folders.values()), told, GateConfig()))}\n"
    if peers:
        text += f"\n{summary.side_by_side([(kept.name, figures), *peers])}\n"
    speed = figures["speed"]
    text += f"\n{speed['audio_h']:.1f} h of tracks, {speed['times_real_time']:.0f} times real time on one core.\n"
    print(text)
    if options.json:
        options.json.write_text(kept.to_json(), encoding="utf-8")
    if options.markdown:
        options.markdown.write_text(text, encoding="utf-8")
    if options.html:
        curves = {label: report.curve(kept, label) for label in ("chainsaw", "engine")}
        options.html.write_text(report.page(kept, figures, folders, curves, peers), encoding="utf-8")


def _peers(folders: dict[int, Path], peers: Path, cache: Path) -> "list[tuple[str, dict[str, Any]]]":
    from model_export import summary
    from model_export.peers import evaluate_scores, yamnet_scores

    folds = [
        (number, folder, yamnet_scores(peers, folder, cache / f"yamnet-{folder.name}.npz"))
        for number, folder in folders.items()
    ]
    kept = evaluate_scores("YAMNet", folds)
    rules = kept.facts["rules"]
    forms = ", ".join(
        f"{label} {rule['threshold']:g} in {rule['hits']} of {rule['of']}"
        + (f" means of {rule['mean_of']}" if rule["mean_of"] > 1 else "")
        for label, rule in rules.items()
    )
    return [(f"YAMNet ({forms})", summary.summarise(kept))]


def _work(options: argparse.Namespace) -> "pipeline.Work":
    from model_export import pipeline
    from model_export.recipe import load_recipe

    recipe = _recipe(options, load_recipe(options.recipe))
    work = pipeline.prepare(recipe, options.data, options.cache, options.verified)
    pipeline.report_skipped(work)
    return work


def _recipe(options: argparse.Namespace, recipe: "Recipe") -> "Recipe":
    """Return the recipe with what the command line changes; what is wrong there is said before anything is decoded."""
    for path in getattr(options, "weights", ()):
        if not path.is_file():
            raise ConfigError(f"{path}: there is no such file of weights; leave ImageNet's out to download them")
    if options.mixtures is not None:
        if options.mixtures < recipe.training.shard:
            raise ConfigError(f"--mixtures is {options.mixtures}, expected at least a shard of {recipe.training.shard}")
        recipe = recipe.with_mixtures(options.mixtures)
    if options.fold is not None:
        if not 0 <= options.fold <= recipe.split.folds:
            raise ConfigError(f"--fold is {options.fold}, expected 0 (none) to {recipe.split.folds}")
        recipe = recipe.with_fold(options.fold)
    return recipe


def _train(work: "pipeline.Work", options: argparse.Namespace) -> object:
    from model_export import pipeline

    minutes = options.minutes if options.minutes > 0 else None
    return pipeline.train(work, weights=options.weights, minutes=minutes, processes=options.processes)


if __name__ == "__main__":
    raise SystemExit(main())
