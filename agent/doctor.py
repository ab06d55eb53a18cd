"""Go or no-go: what a technician looks at on the ground, before anybody climbs.

Each check ends in one finding; a bad one says what to do. What only real hardware can show is said to be unchecked.
"""

import contextlib
import json
import os
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from agent import VERSION
from agent.alert import Battery
from agent.battery import Reading, look
from agent.capture import SAMPLE_RATE, open_source
from agent.classify import Classifier, load_classifier
from agent.clock import DeviceClock
from agent.config import AgentConfig
from agent.counter import Counter
from agent.errors import AgentError
from agent.fields import shown
from agent.gate import webrtc_vad
from agent.health import Health, disk_free_mb
from agent.hearing import Hearing, level_dbfs
from agent.manifest import Manifest, load_model
from agent.meter import bar
from agent.outbox import EMPTY
from agent.signing import is_credential, read_key
from agent.uplink import StationLink

LEAST_DISK_MB = 100.0
LISTEN_S = 3.0
"""Seconds for which the microphone is heard."""
LEAST_BATTERY_PERCENT = 15.0
HOTTEST_C = 45.0
"""A lithium cell that is charged or kept hotter than this ages in weeks."""
SLOWEST_SHARE = 0.5
"""Share of the time that the model may take: the rest is for heat, for other programs, for the years."""
_TIMED_WINDOWS = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """What one check found."""

    name: str
    good: bool
    text: str
    """What was seen."""
    cure: str = ""
    """What to do where it is not good."""


def examine(
    config: AgentConfig,
    *,
    offline: bool,
    config_file: Path | None = None,
    listen_s: float = LISTEN_S,
    show: Callable[[str], None] = lambda _: None,
) -> list[Finding]:
    """Check everything and return the findings, in the order in which sound meets the parts.

    Args:
        config: the device's.
        offline: leave microphone and station out.
        config_file: where `config` was read, to see who may change it.
        listen_s: for how long the microphone is heard.
        show: is given a line with the level's bar while it is heard.
    """
    findings = list(_model(config))
    if not offline:
        findings.append(_microphone(config, listen_s, show))
    findings.append(_disk(config.storage.folder))
    findings.append(_clock())
    findings.append(battery(look(config.power.source)))
    findings.append(_permissions(config, config_file))
    if not offline:
        findings.append(_station(config))
    return findings


def document(config: AgentConfig, findings: list[Finding]) -> str:
    """Return the findings as one JSON object."""
    go = all(finding.good for finding in findings)
    listed = [asdict(finding) for finding in findings]
    return json.dumps({"kind": "doctor", "device": config.device.id, "version": VERSION, "go": go, "findings": listed})


def screen(config: AgentConfig, findings: list[Finding]) -> str:
    """Return the findings as one screen of text."""
    lines = [f"Curupira {VERSION}, device {config.device.id}", ""]
    for finding in findings:
        lines.append(f"  {'ok ' if finding.good else 'BAD'}  {finding.name:<11} {finding.text}")
        if not finding.good and finding.cure:
            lines.append(f"       {'':<11} -> {finding.cure}")
    bad = [finding.name for finding in findings if not finding.good]
    lines += ["", f"NO-GO: {', '.join(bad)}" if bad else "GO"]
    return "\n".join(lines)


def _checked(name: str, cure: str, check: Callable[[], str]) -> Finding:
    """Run one check; an error of ours is its finding."""
    try:
        return Finding(name=name, good=True, text=check())
    except AgentError as error:
        return Finding(name=name, good=False, text=str(error), cure=cure)


def _model(config: AgentConfig) -> Iterator[Finding]:
    def runtime() -> str:
        manifest, content = load_model(config.listen.model)
        classifier = load_classifier(manifest, content)
        speed = "XNNPACK" if classifier.xnnpack else "no XNNPACK: int8 is slow here"
        proven.append((manifest, classifier))
        return f"{manifest.name} {manifest.digest} on {classifier.runtime} ({speed}), golden answers right"

    proven: list[tuple[Manifest, Classifier]] = []
    yield _checked("model", "copy the model and its .json again, or install a TFLite runtime", runtime)
    for manifest, classifier in proven:
        yield _speed(manifest, classifier)
    found = webrtc_vad(0) is not None
    yield Finding(
        name="gate", good=True, text="webrtcvad and bands" if found else "bands alone: webrtcvad is not installed"
    )


def _speed(manifest: Manifest, classifier: Classifier) -> Finding:
    """Time windows of real sound: a device that needs longer for one than there is until the next loses audio."""
    frames = manifest.input.to_real(manifest.golden_inputs[:_TIMED_WINDOWS]).astype("float32")
    began_s = time.perf_counter()
    for window in frames:
        classifier.outputs(window)
    window_s = (time.perf_counter() - began_s) / len(frames)
    share = window_s / manifest.stride_s
    return Finding(
        name="speed",
        good=share <= SLOWEST_SHARE,
        text=f"{1000 * window_s:.1f} ms a window, {share:.2%} of the time there is",
        cure="find out what else runs here, or whether the device is hot; or use a runtime with XNNPACK",
    )


def _microphone(config: AgentConfig, listen_s: float, show: Callable[[str], None]) -> Finding:
    hearing = Hearing()

    def listen() -> str:
        source = open_source(config.capture)
        try:
            heard = 0
            level = -120.0
            for block in source.blocks():
                heard += len(block.samples)
                now_dbfs = level_dbfs(block.samples)
                level = max(level, now_dbfs)
                hearing.push(block)
                show(f"  listening to {source.name}: {bar(now_dbfs)} {now_dbfs:4.0f} dBFS, loudest {level:4.0f}")
                if heard >= listen_s * SAMPLE_RATE:
                    break
        finally:
            source.close()
        if level <= -119.0:
            raise AgentError(f"{source.name}: gives digital silence, not sound")
        if hearing.states:
            raise AgentError(f"{source.name}: {', '.join(hearing.states).replace('_', ' ')}")
        return f"{source.name}: {heard / SAMPLE_RATE:.1f} s heard, loudest {level:.0f} dBFS"

    cure = "check the microphone permission, the card's name in capture.device, and that nothing else holds it"
    return _checked("microphone", cure, listen)


def _disk(folder: Path) -> Finding:
    probe = folder / ".doctor"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"curupira")
        probe.unlink()
    except OSError as error:
        return Finding(
            name="disk", good=False, text=f"{folder}: cannot write: {error.strerror}", cure="check owner and mount"
        )
    free_mb = disk_free_mb(folder) or 0.0
    return Finding(
        name="disk",
        good=free_mb >= LEAST_DISK_MB,
        text=f"{folder}: {free_mb:,.0f} MB free",
        cure=f"free at least {LEAST_DISK_MB:.0f} MB",
    )


def _clock() -> Finding:
    now = DeviceClock().now()
    return Finding(
        name="clock",
        good=now.utc_certainty != "unset",
        text=f"{now.utc}, {now.utc_certainty}",
        cure="set the date; alerts would still go, with times that the station must correct",
    )


def battery(reading: Reading | None) -> Finding:
    """Say what the battery says; a device without one, or that does not tell, is well."""
    found = Battery() if reading is None else reading.battery
    parts = [] if found.percent is None else [f"{found.percent:.0f} %"]
    parts += [] if found.charging is None else ["charging" if found.charging else "not charging"]
    parts += [] if found.temperature_c is None else [f"{found.temperature_c:.0f} °C"]
    is_low = found.percent is not None and found.percent < LEAST_BATTERY_PERCENT and not found.charging
    is_hot = found.temperature_c is not None and found.temperature_c > HOTTEST_C
    return Finding(
        name="battery",
        good=not (is_low or is_hot),
        text=", ".join(parts) or "none that the system tells of",
        cure=f"charge it above {LEAST_BATTERY_PERCENT:.0f} %, out of the sun; look at the panel's plug",
    )


def _permissions(config: AgentConfig, config_file: Path | None) -> Finding:
    """Say who else may read the key, or change what this device does."""
    wrong: list[str] = []
    files = [(config_file, 0o022), (config.storage.folder, 0o022), (config.station.key_file, 0o077)]
    for path, forbidden in files:
        if path is None:
            continue
        with contextlib.suppress(OSError):  # what is not there is told by other checks
            mode = stat.S_IMODE(path.stat().st_mode)
            if mode & forbidden and not is_credential(path):
                wrong.append(f"{path} has mode {mode:o}")
    user = "root (a user of its own would do)" if os.geteuid() == 0 else f"user {os.geteuid()}"
    return Finding(
        name="permissions",
        good=not wrong,
        text="; ".join(wrong) or f"runs as {user}; nobody else may change its files or read its key",
        cure="chmod go-w the folder and the configuration, chmod 600 the key",
    )


def _station(config: AgentConfig) -> Finding:
    def round_trip() -> str:
        station = config.station
        if not station.urls or station.key_file is None:
            raise AgentError("no station is configured: alerts would stay on this device")
        manifest, _ = load_model(config.listen.model)
        return _heartbeat_answer(config, manifest, read_key(station.key_file))

    cure = "check station.urls, the network, and that the station knows this device (base_station device list)"
    return _checked("station", cure, round_trip)


def _heartbeat_answer(config: AgentConfig, manifest: Manifest, key: bytes) -> str:
    """Send one signed heartbeat and wait for the signed receipt: the whole way, there and back."""
    clock = DeviceClock()
    link = StationLink(
        urls=config.station.urls,
        device_id=config.device.id,
        key=key,
        counter=Counter(config.storage.folder / "counter"),
        clock=clock,
        ca_file=config.station.ca_file,
    )
    try:
        began_s = clock.monotonic_s()
        health = Health(config.device, manifest, config.storage.folder, began_s)
        answer = link.post("/v1/heartbeats", health.heartbeat(clock.now(), EMPTY).to_json())
    finally:
        link.close()
    if not answer.signed:
        raise AgentError(f"no signed answer: {answer.trouble or f'status {answer.status}'}")
    if answer.kind == "refused":
        raise AgentError(f"the station refuses this device's heartbeat: {shown(answer.document.get('reason'))}")
    return f"signed answer in {1000 * (clock.monotonic_s() - began_s):.0f} ms"
