"""`python -m agent`: run, replay, doctor. Exit codes: 0 done, 1 it ran and the answer is no, 2 wrong use."""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy: its threads make a 3 s log-mel many times slower

import argparse
import importlib
import io
import logging
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, cast

from agent import VERSION
from agent.alert import Alert
from agent.battery import BatteryWatch, look
from agent.capture import Reader, audio_files, open_source
from agent.classify import load_classifier
from agent.clip import ClipKeeper
from agent.clipbox import ClipBox
from agent.clock import DeviceClock
from agent.config import AgentConfig, read_config
from agent.counter import Counter
from agent.duty import Duty
from agent.errors import AgentError, AudioError, ConfigError, ModelCondemnedError, ModelError, StorageError
from agent.gate import Gate, webrtc_vad
from agent.health import Health
from agent.hearing import SILENCE_DBFS, Hearing
from agent.journal import Journal
from agent.listen import Listener, Window
from agent.lock import alone
from agent.manifest import BUNDLED_MODEL, Manifest, load_model
from agent.meter import LiveLine
from agent.outbox import Outbox, peek
from agent.replay import Printer, cpu_s, replay
from agent.report import Reporter
from agent.service import Service, Stages, drain, setting_of, supervised
from agent.signing import read_key
from agent.slots import ModelGuard, ModelSlots
from agent.watchdog import RunMark, Watchdog, alive_file

if TYPE_CHECKING:
    from agent.uplink import Uplink

log = logging.getLogger("agent")

DONE, NO, WRONG_USE = 0, 1, 2
_DRAIN_S = 20.0
_LATER = {
    "drill": ("agent.drill", "a saw that is none, through the whole chain and back"),
    "watch": ("agent.watch", "level, gate, scores and decision, live"),
    "why": ("agent.why", "what was heard at 11:42, and why there was an alert or none"),
    "redecide": ("agent.redecide", "a field log at another operating point"),
    "budget": ("agent.budget", "how long battery and panel last, and what would last longer"),
    "support-bundle": ("agent.support", "one file for whoever helps from afar"),
}
"""Commands in modules of their own, which describe themselves, and are run from there."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    options = _parser(words).parse_args(words)
    logging.basicConfig(
        level=logging.DEBUG if options.verbose else logging.INFO,
        stream=sys.stderr,
        format="%(asctime)s %(levelname)-7s %(message)s",
    )
    cast("io.TextIOWrapper", sys.stdout).reconfigure(errors="backslashreplace")  # file names need not be text
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        code = command(options)
        sys.stdout.flush()  # here a reader that has gone is still caught
        return code
    except (ConfigError, ModelError) as error:
        print(f"error: {error}", file=sys.stderr)
        return WRONG_USE
    except AgentError as error:
        print(f"error: {error}", file=sys.stderr)
        return NO
    except BrokenPipeError:  # whoever read the output has seen enough
        _forget_output()
        return DONE
    except OSError as error:
        _forget_output()
        print(f"error: {error.filename or 'standard output'}: {error.strerror}", file=sys.stderr)
        return NO
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return NO


def _forget_output() -> None:
    """Lead standard output nowhere: what is left of it must not raise again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parser(words: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m agent",
        description="Listens for chainsaws and engines, and tells the base station.",
        epilog="Exit codes: 0 done, 1 it ran and the answer is no, 2 wrong use or configuration.",
    )
    parser.add_argument("--version", action="version", version=VERSION)
    parser.add_argument("-v", "--verbose", action="store_true", help="log more")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _describe_run(commands.add_parser("run", help="listen, for ever"))
    _describe_replay(commands.add_parser("replay", help="recordings through the same code"))
    _describe_doctor(commands.add_parser("doctor", help="go or no-go, on one screen"))
    for name, (module, summary) in _LATER.items():
        parser_of_it = commands.add_parser(name, help=summary)
        if name in words:  # what listens for months needs none of them in its memory
            importlib.import_module(module).describe(parser_of_it)
    return parser


def _describe_run(run: argparse.ArgumentParser) -> None:
    run.description = (
        "Listens to the configured source until SIGTERM or Ctrl-C, or until a recording ends. "
        "Alerts are on disk before they are sent; what the station has not receipted is sent after the next start."
    )
    run.add_argument("--config", type=Path, required=True, metavar="FILE", help="the device's YAML file")
    run.add_argument("--say", action="store_true", help="print every window as it is heard")
    run.set_defaults(command=run_command)


def _describe_replay(play: argparse.ArgumentParser) -> None:
    play.description = (
        "Plays recordings, as fast as this machine can, through gate, model and decision. A folder means "
        "every audio file under it, sorted; each file is heard as by a device that has just started. "
        "WAV of any kind; FLAC, MP3 and Ogg with the [audio] extra."
    )
    play.epilog = "Example: python -m agent replay night.wav --json --scores"
    play.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="audio file or folder")
    play.add_argument("--json", action="store_true", help="one JSON object a line (design: the replay contract)")
    play.add_argument("--scores", action="store_true", help="also a line for every stride, gated ones included")
    play.add_argument("--model", type=Path, default=BUNDLED_MODEL, metavar="FILE", help=".tflite with its .json beside")
    play.add_argument("--no-gate", action="store_true", help="classify every window")
    play.add_argument(
        "--gated-too",
        action="store_true",
        help="with --scores: also what the model would say of windows that the gate keeps from it (alerts stay)",
    )
    play.add_argument("--no-vad", action="store_true", help="gate by band energy alone")
    play.add_argument("--send", action="store_true", help="send the alerts to the station of --config")
    play.add_argument("--config", type=Path, metavar="FILE", help="the device's YAML file, for --send")
    play.set_defaults(command=replay_command)


def _describe_doctor(check: argparse.ArgumentParser) -> None:
    check.description = (
        "Checks model, runtime, microphone (with a live bar), disk, clock, battery, permissions and station, and says "
        "what to do about each that is not well. Exit code 0: go; 1: no-go."
    )
    check.add_argument("--config", type=Path, metavar="FILE", help="the device's YAML file; without it, defaults")
    check.add_argument("--offline", action="store_true", help="leave microphone and station out")
    check.add_argument("--listen", type=float, default=3.0, metavar="SECONDS", help="hear the microphone for so long")
    check.add_argument("--json", action="store_true", help="one JSON object")
    check.set_defaults(command=doctor_command)


def load_stages(
    model: Path, *, gate: bool, vad: bool, asks_all: bool = False
) -> tuple[Manifest, Callable[[], Listener], str]:
    """Load a model and return its manifest, a maker of listeners, and what the gate is made of."""
    manifest, content = load_model(model)
    classifier = load_classifier(manifest, content)

    def new_gate() -> Gate | None:
        return Gate(manifest.gate, webrtc_vad(manifest.gate.vad_mode) if vad else None) if gate else None

    probe = new_gate()
    kind = "off" if probe is None else probe.kind
    return manifest, lambda: Listener.of(manifest, classifier, new_gate(), asks_all=asks_all), kind


def replay_command(options: argparse.Namespace) -> int:
    """Play recordings; print what was heard; with --send, tell the station."""
    started_s = time.monotonic()
    logging.getLogger("agent.classify").setLevel(logging.WARNING)
    if options.send and options.config is None:
        raise ConfigError("--send: needs --config FILE, which names the station and the device's key")
    if options.gated_too and not options.scores:
        raise ConfigError("--gated-too: needs --scores: it is their lines that tell")
    config = read_config(options.config) if options.config else AgentConfig()
    if options.send and not config.station.urls:
        raise ConfigError(f"{options.config}: station.urls: is missing, expected the station's address, for --send")
    paths = [path for given in options.paths for path in audio_files(given)]
    manifest, new_listener, _ = load_stages(
        options.model, gate=not options.no_gate, vad=not options.no_vad, asks_all=options.gated_too
    )
    printer = Printer(sys.stdout, manifest, as_json=options.json, with_scores=options.scores)
    clock = DeviceClock()
    reporter = Reporter(device=config.device, manifest=manifest, now=clock.now)
    with ExitStack() as stack:
        outbox = None
        if options.send:
            stack.enter_context(alone(config.storage.folder))
            outbox = _sender(config, clock, stack)[0]

        def put(alerts: list[Alert]) -> None:
            for alert in alerts:
                if outbox is not None:
                    outbox.put(alert)

        def keep(window: Window) -> None:
            put(reporter.alerts(window))

        def end(listener: Listener) -> None:
            put(reporter.closings(listener.finish(), SILENCE_DBFS))

        summary = replay(paths, new_listener, printer, keep, end)
        waiting = drain(outbox, clock, threading.Event(), _DRAIN_S) if outbox is not None else 0
    printer.summary(summary, cpu_s(), time.monotonic() - started_s)
    if waiting:
        log.error("%d alerts were not receipted within %.0f s; they stay in the outbox", waiting, _DRAIN_S)
    return NO if summary.unreadable or waiting else DONE


def run_command(options: argparse.Namespace) -> int:
    """Listen until told to stop."""
    config = read_config(options.config)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stop.set())
    clock = DeviceClock()
    with alone(config.storage.folder), _marked(config.storage.folder / "run", clock.boot_id) as mark:
        why = f"{mark.reason}: {mark.detail}" if mark.detail else mark.reason
        while True:
            try:
                return _listen(config, clock, stop, why, say=options.say)
            except ModelCondemnedError as error:
                log.error("%s; the model that was good before takes over", error)  # noqa: TRY400  # one line for people
                why = "model given up"


def _listen(config: AgentConfig, clock: DeviceClock, stop: threading.Event, why: str, *, say: bool) -> int:
    """Put everything together and listen; ModelCondemnedError if it must be put together anew with another model."""
    halt = threading.Event()
    """Ends this round's sender: what stops the agent stops it as well, at the end."""
    with ExitStack() as stack:
        stages, gate_kind = _stages(config, clock, stack, halt)
        manifest, journal, reader = stages.listener.manifest, stages.journal, stages.reader
        stages.health.start_reason = why.partition(":")[0]
        journal.event("start", version=VERSION, model=manifest.digest, gate=gate_kind, reason=why)
        log.info(
            "%s listens (%s): model %s %s, gate %s", config.device.id, why, manifest.name, manifest.digest, gate_kind
        )
        Service(stages, say=_sayer(manifest) if say else None).run(stop)
        waiting = drain(stages.outbox, clock, stop, _DRAIN_S) if stages.uplink is not None else 0
        problem = reader.last_error if reader.ended else None
        journal.event("stop", reason="told to" if stop.is_set() else str(problem or "the recording ended"))
        halt.set()
    if isinstance(problem, AudioError):
        raise problem
    if waiting:
        log.warning("%d alerts wait on disk for the next start", waiting)
    return DONE


def _stages(config: AgentConfig, clock: DeviceClock, stack: ExitStack, stop: threading.Event) -> tuple[Stages, str]:
    """Put everything together, and say what the gate is made of; `stack` takes it apart again."""
    folder = config.storage.folder
    journal_bytes = round(config.storage.journal_mb * 1e6)
    journal = Journal(folder / "journal", clock, device_id=config.device.id, max_bytes=journal_bytes)
    stack.enter_context(journal)
    slots = ModelSlots(folder)

    def load(model: Path) -> tuple[str, tuple[Manifest, Callable[[], Listener], str]]:
        loaded = load_stages(model, gate=config.listen.gate, vad=config.listen.vad)
        return loaded[0].digest, loaded

    try:
        (manifest, new_listener, gate_kind), model, instead_of = slots.choose(config.listen.model, load)
    except ModelError as error:
        journal.event("start_failed", reason=str(error))  # for who reads the field log of a silent phone
        raise
    journal.describe(setting_of(manifest))
    box = _clip_box(config)
    outbox, uplink = _sender(config, clock, stack, journal, stop, box)
    reader = Reader(
        lambda: open_source(config.capture),
        ring_s=config.capture.ring_s,
        drop_oldest=config.capture.source != "file",
        monotonic=clock.monotonic_s,
    )
    stack.callback(reader.close)
    health = Health(config.device, manifest, folder, clock.monotonic_s())
    if instead_of:
        health.begin("model_fallback", clock.monotonic_s())
        journal.event("state_begins", state="model_fallback", reason=instead_of)
    alive, touch_s = alive_file(folder)
    listener = new_listener()
    duty = Duty(
        config=config.power,
        reader=reader,
        listener=listener,
        health=health,
        journal=journal,
        watch=_battery_watch(config, clock, stack, stop),
        started_s=clock.monotonic_s(),
    )
    stages = Stages(
        reader=reader,
        hearing=Hearing(),
        listener=listener,
        reporter=Reporter(device=config.device, manifest=manifest, now=clock.now, battery=duty.battery),
        outbox=outbox,
        uplink=uplink,
        journal=journal,
        health=health,
        clock=clock,
        heartbeat_s=config.station.heartbeat_s,
        watchdog=Watchdog(alive, touch_s=touch_s),
        guard=ModelGuard(slots, model, manifest.digest),
        duty=duty,
        clips=None if box is None else ClipKeeper(box, config.clips.length_s),
    )
    return stages, gate_kind


def _battery_watch(
    config: AgentConfig, clock: DeviceClock, stack: ExitStack, stop: threading.Event
) -> BatteryWatch | None:
    """Start the thread that looks at the battery; None where nobody is to look, or where a recording is played."""
    source = config.power.source
    if source == "none" or (source == "auto" and config.capture.source == "file"):
        return None
    watch = BatteryWatch(lambda: look(source), clock.monotonic_s, config.power.read_every_s)
    supervised("battery", watch.run, stop)
    stack.callback(stop.set)
    return watch


@contextmanager
def _marked(path: Path, boot_id: str) -> Generator[RunMark]:
    """Leave a mark of this run and of how it ends; what kills it leaves the mark of a run that goes on."""
    mark = RunMark(path, boot_id)
    mark.begin()
    try:
        yield mark
    except BaseException as error:
        mark.end(f"{type(error).__name__}: {error}")
        raise
    mark.end()


def _sender(
    config: AgentConfig,
    clock: DeviceClock,
    stack: ExitStack,
    journal: Journal | None = None,
    stop: threading.Event | None = None,
    box: ClipBox | None = None,
) -> "tuple[Outbox, Uplink | None]":
    """Open the outbox and, where a station is configured, start the sending thread."""
    folder, station = config.storage.folder, config.station
    key = read_key(station.key_file) if station.key_file is not None else b""
    outbox = Outbox(folder / "outbox.db", max_bytes=round(config.storage.outbox_mb * 1e6))
    stack.callback(outbox.close)
    if outbox.set_aside is not None:
        log.warning("the outbox was broken and is set aside as %s; %d alerts saved", outbox.set_aside, outbox.salvaged)
        if journal is not None:
            journal.event("outbox_broken", path=str(outbox.set_aside), salvaged=outbox.salvaged, reason="integrity")
    if not station.urls:
        return outbox, None
    from agent.uplink import StationLink, Uplink  # a third of the start-up, for those who have a station alone

    link = StationLink(
        urls=station.urls,
        device_id=config.device.id,
        key=key,
        counter=Counter(folder / "counter"),
        clock=clock,
        ca_file=station.ca_file,
    )
    stack.callback(link.close)
    note = journal.event if journal is not None else _unnoted
    uplink = Uplink(outbox, link, clock, random.Random(), note, box)  # noqa: S311  # jitter, not a secret
    halt = stop or threading.Event()
    thread = supervised("sender", uplink.run, halt)
    stack.callback(thread.join, 5.0)
    stack.callback(halt.set)
    stack.callback(outbox.wake.set)
    return outbox, uplink


def _clip_box(config: AgentConfig) -> ClipBox | None:
    """Return where clips wait, if any are wanted; those whose alerts were receipted before the start may go."""
    folder = config.storage.folder
    if not config.clips.keep:
        return None
    box = ClipBox(folder / "clips", round(config.clips.most_mb * 1e6))
    with suppress(StorageError):  # no outbox yet, or a broken one: the clips stay held, within their bytes
        box.settle({message.alert_id for message, _ in peek(folder / "outbox.db")})
    return box


def _unnoted(kind: str, **fields: str | float | None) -> None:
    log.debug("%s %s", kind, fields)


def _sayer(manifest: Manifest) -> Callable[[Window], None]:
    """Return what prints a window for a person: time, level, and what the model thinks."""
    table = manifest.score_table()
    rate = manifest.features.sample_rate

    def say(window: Window) -> None:
        minutes, seconds = divmod(window.end / rate, 60)
        heard = "gate closed"
        if window.outputs is not None:
            scores = zip(manifest.labels, table[window.outputs.astype(int) + 128], strict=True)
            heard = "  ".join(f"{label} {score:4.2f}" for label, score in scores)
        marks = "".join(
            f"   <-- {detection.label} {'begins' if detection.opens else 'ends'}"
            for detection in window.detections
            if detection.alert
        )
        print(f"{int(minutes):02d}:{seconds:04.1f}  {window.level_dbfs:6.1f} dBFS  {heard}{marks}", flush=True)

    return say


def doctor_command(options: argparse.Namespace) -> int:
    """Check the device and say go or no-go."""
    from agent import doctor

    logging.getLogger("agent").setLevel(logging.ERROR)
    config = read_config(options.config) if options.config else AgentConfig()
    line = LiveLine(sys.stderr)
    findings = doctor.examine(
        config, offline=options.offline, config_file=options.config, listen_s=options.listen, show=line.show
    )
    line.clear()
    print(doctor.document(config, findings) if options.json else doctor.screen(config, findings))
    return DONE if all(finding.good for finding in findings) else NO


if __name__ == "__main__":
    sys.exit(main())
