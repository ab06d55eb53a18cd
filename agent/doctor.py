"""Go or no-go: what a technician looks at on the ground, before anybody climbs.

Each check ends in one finding; a bad one says what to do. What only real hardware can show is said to be unchecked.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from agent import VERSION
from agent.capture import SAMPLE_RATE, open_source
from agent.classify import load_classifier
from agent.clock import DeviceClock
from agent.config import AgentConfig
from agent.counter import Counter
from agent.errors import AgentError
from agent.fields import shown
from agent.gate import webrtc_vad
from agent.health import Health, disk_free_mb
from agent.hearing import level_dbfs
from agent.manifest import Manifest, load_model
from agent.outbox import EMPTY
from agent.signing import read_key
from agent.uplink import StationLink

LEAST_DISK_MB = 100.0
_LISTEN_S = 3.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """What one check found."""

    name: str
    good: bool
    text: str
    """What was seen."""
    cure: str = ""
    """What to do where it is not good."""


def examine(config: AgentConfig, *, offline: bool) -> list[Finding]:
    """Check everything and return the findings, in the order in which sound meets the parts."""
    findings = list(_model(config))
    if not offline:
        findings.append(_microphone(config))
    findings.append(_disk(config.storage.folder))
    findings.append(_clock())
    if not offline:
        findings.append(_station(config))
    return findings


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
        return f"{manifest.name} {manifest.digest} on {classifier.runtime} ({speed}), golden answers right"

    yield _checked("model", "copy the model and its .json again, or install a TFLite runtime", runtime)
    found = webrtc_vad(0) is not None
    yield Finding(
        name="gate", good=True, text="webrtcvad and bands" if found else "bands alone: webrtcvad is not installed"
    )


def _microphone(config: AgentConfig) -> Finding:
    def listen() -> str:
        source = open_source(config.capture)
        try:
            heard = 0
            level = -120.0
            for block in source.blocks():
                heard += len(block.samples)
                level = max(level, level_dbfs(block.samples))
                if heard >= _LISTEN_S * SAMPLE_RATE:
                    break
        finally:
            source.close()
        if level <= -119.0:
            raise AgentError(f"{source.name}: gives digital silence, not sound")
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
