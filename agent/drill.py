"""`python -m agent drill`: does the whole chain work, right now, here? A synthesised saw through all of it and back.

`rehearsal` brings the saw through reader, gate, model and decision; from here it goes through an outbox to the
station, whose signed receipts end the drill. The alert is flagged as a drill from the first byte: the station shows
it as one, and no log counts its sound. With --speaker the saw is played aloud and heard with the microphone.
"""

import argparse
import json
import logging
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path

from agent.alert import Alert
from agent.capture import open_source
from agent.classify import Classifier, load_classifier
from agent.clock import DeviceClock
from agent.config import AgentConfig, read_config
from agent.counter import Counter
from agent.errors import AgentError, AudioError, ConfigError, StorageError
from agent.gate import Gate, webrtc_vad
from agent.journal import Journal
from agent.lock import alone
from agent.manifest import Manifest, load_model
from agent.meter import LiveLine
from agent.outbox import Outbox
from agent.rehearsal import LABEL, Heard, Speaker, Stage, Synthesised, judge, listen
from agent.report import Reporter
from agent.signing import read_key

log = logging.getLogger(__name__)

DONE, NO = 0, 1
RECEIPT_S = 30.0
"""How long the station's receipt is waited for."""


@dataclass(slots=True)
class Courier:
    """Brings the drill's alerts to the station from an outbox of their own, and waits for the receipts."""

    config: AgentConfig
    clock: DeviceClock
    folder: Path
    """Where the outbox lies for as long as the drill takes, on the same disk as the real one."""
    _done: threading.Event = field(init=False, default_factory=threading.Event)
    _waiting: set[tuple[str, int]] = field(init=False, default_factory=set[tuple[str, int]])
    _refused: str = field(init=False, default="")
    _trouble: str = field(init=False, default="")

    def bring(self, alerts: list[Alert], *, offline: bool) -> Iterator[Stage]:
        """Yield what outbox and station made of the alerts."""
        outbox = Outbox(self.folder / "drill.db", max_bytes=1_000_000)
        with outbox:
            began_s = time.perf_counter()
            problem = outbox.disk_error
            try:
                for alert in alerts:
                    outbox.put(alert)
            except StorageError as error:
                problem = str(error)
            yield Stage(
                name="outbox",
                good=not problem,
                text=problem or f"{len(alerts)} revisions on disk, flagged as a drill",
                took_s=time.perf_counter() - began_s,
                cure="see `disk` of `python -m agent doctor`",
            )
            if not offline:
                self._waiting = {(alert.alert_id, alert.revision) for alert in alerts}
                yield self._send(outbox)

    def _send(self, outbox: Outbox) -> Stage:
        began_s = time.perf_counter()
        try:
            trouble = self._exchange(outbox)
        except AgentError as error:
            trouble = str(error)
        return Stage(
            name="station",
            good=not trouble,
            text=trouble or "signed receipts for all revisions; the station shows them as a drill",
            took_s=time.perf_counter() - began_s,
            cure="check station.urls, the network, and that the station knows this device (base_station device list)",
        )

    def _exchange(self, outbox: Outbox) -> str:
        """Send until all is receipted or the time is over; return what went wrong."""
        from agent.uplink import StationLink, Uplink  # a third of the start-up

        station = self.config.station
        if not station.urls or station.key_file is None:
            return "no station is configured: alerts would stay on this device"
        link = StationLink(
            urls=station.urls,
            device_id=self.config.device.id,
            key=read_key(station.key_file),
            counter=Counter(self.config.storage.folder / "counter"),
            clock=self.clock,
            ca_file=station.ca_file,
        )
        stop = threading.Event()
        uplink = Uplink(outbox, link, self.clock, random.Random(), self._note)  # noqa: S311  # jitter, not a secret
        thread = threading.Thread(target=uplink.run, args=(stop,), name="drill", daemon=True)
        thread.start()
        came = self._done.wait(RECEIPT_S)
        stop.set()
        outbox.wake.set()
        thread.join(5.0)
        link.close()
        if self._refused:
            return f"the station refuses it: {self._refused}"
        return "" if came else f"no receipt within {RECEIPT_S:.0f} s: {self._trouble or 'the link is slow'}"

    def _note(self, kind: str, **fields: str | float | None) -> None:
        """Take what the uplink tells."""
        if kind == "link_down":
            self._trouble = str(fields.get("reason"))
        if kind == "parked":
            self._refused = str(fields.get("reason"))
        if kind in ("delivered", "parked"):
            self._waiting.discard((str(fields.get("alert_id")), int(fields.get("revision") or 0)))
            if not self._waiting or self._refused:
                self._done.set()


def describe(parser: argparse.ArgumentParser) -> None:
    """Say what the command does and takes."""
    parser.description = (
        "Sends a synthesised saw through capture, gate, model, decision, outbox and station, and waits for "
        "the receipt: does the whole chain work, right now, here? The alert is flagged as a drill everywhere. The "
        "agent must not be running. Exit code 0: every stage did its part; 1: one did not."
    )
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="the device's YAML file")
    parser.add_argument("--speaker", action="store_true", help="play the saw aloud, and hear it with the microphone")
    parser.add_argument("--offline", action="store_true", help="end at the outbox; nothing is sent")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> int:
    """Run the drill, and say of each stage what it did."""
    logging.getLogger("agent").setLevel(logging.ERROR)
    config = read_config(options.config)
    clock = DeviceClock()
    with ExitStack() as stack:
        stack.enter_context(alone(config.storage.folder))
        line = LiveLine(sys.stderr)
        stack.callback(line.clear)
        stages, alerts = _drill(config, clock, line.show, speaker=options.speaker, offline=options.offline)
        line.clear()
        good = all(stage.good for stage in stages)
        _write_down(config, clock, stages, good=good)
    print(_document(config, stages, alerts, good=good) if options.json else _screen(config, stages, good=good))
    return DONE if good else NO


def _drill(
    config: AgentConfig, clock: DeviceClock, show: Callable[[str], None], *, speaker: bool, offline: bool
) -> tuple[list[Stage], list[Alert]]:
    manifest, content = load_model(config.listen.model)
    if LABEL not in manifest.labels:
        raise ConfigError(f"{config.listen.model}: knows no {LABEL}, and the drill plays one")
    classifier = load_classifier(manifest, content)
    vad = webrtc_vad(manifest.gate.vad_mode) if config.listen.vad else None
    gate = Gate(manifest.gate, vad) if config.listen.gate else None
    reporter = Reporter(device=config.device, manifest=manifest, now=clock.now, drill=True)
    try:
        heard = _hear_scene(config, manifest, classifier, gate, reporter, show, speaker=speaker)
    except AudioError as error:
        heard = Heard(problem=str(error))
    stages = judge(heard, manifest)
    alerts = [alert for alert in heard.alerts if alert.label == LABEL][:2]
    if alerts:
        with tempfile.TemporaryDirectory(prefix=".drill-", dir=config.storage.folder) as folder:
            stages += Courier(config, clock, Path(folder)).bring(alerts, offline=offline)
    return stages, alerts


def _hear_scene(
    config: AgentConfig,
    manifest: Manifest,
    classifier: Classifier,
    gate: Gate | None,
    reporter: Reporter,
    show: Callable[[str], None],
    *,
    speaker: bool,
) -> Heard:
    if not speaker:
        return listen(Synthesised(), manifest, classifier, gate, reporter, show=show)
    loudspeaker = Speaker()
    source = open_source(config.capture)
    try:
        return listen(source, manifest, classifier, gate, reporter, at_saw=loudspeaker.play, show=show)
    finally:
        loudspeaker.stop()


def _write_down(config: AgentConfig, clock: DeviceClock, stages: list[Stage], *, good: bool) -> None:
    """Leave one line in the field log, so that nobody wonders later what was heard here."""
    journal_bytes = round(config.storage.journal_mb * 1e6)
    with Journal(
        config.storage.folder / "journal", clock, device_id=config.device.id, max_bytes=journal_bytes
    ) as journal:
        bad = ", ".join(stage.name for stage in stages if not stage.good)
        journal.event("drill", good=good, reason=f"failed: {bad}" if bad else "every stage did its part")


def _screen(config: AgentConfig, stages: list[Stage], *, good: bool) -> str:
    lines = [f"Drill of {config.device.id}: a synthesised saw, flagged as a drill", ""]
    for stage in stages:
        lines.append(f"  {'ok ' if stage.good else 'BAD'}  {stage.name:<9} {stage.took_s:7.3f} s  {stage.text}")
        if not stage.good and stage.cure:
            lines.append(f"       {'':<9} {'':9}  -> {stage.cure}")
    bad = [stage.name for stage in stages if not stage.good]
    lines += ["", "THE CHAIN WORKS" if good else f"THE CHAIN IS BROKEN at {bad[0]}"]
    return "\n".join(lines)


def _document(config: AgentConfig, stages: list[Stage], alerts: list[Alert], *, good: bool) -> str:
    document = {
        "kind": "drill",
        "device": config.device.id,
        "good": good,
        "alert_id": alerts[0].alert_id if alerts else None,
        "stages": [{**asdict(stage), "took_s": round(stage.took_s, 4)} for stage in stages],
    }
    return json.dumps(document)
