"""One recording through the agent's listening loop: the same code as `python -m agent replay`, so the same events."""

import functools
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from agent.classify import load_classifier
from agent.decide import Detection
from agent.errors import AgentError
from agent.gate import Gate, webrtc_vad
from agent.listen import Listener
from agent.manifest import Manifest
from agent.replay import heard


@dataclass(frozen=True, slots=True)
class Job:
    """What every recording is heard with; it travels to the workers once."""

    manifest: str
    """The text of the manifest."""
    content: bytes
    """Of the .tflite."""
    gate: bool = True
    """Whether the gate may keep windows from the model."""
    vad: bool = True
    """Whether WebRTC's voice detector is part of the gate."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """Something was heard in a recording; seconds from its start."""

    label: str
    onset_s: float
    raised_s: float
    """When the agent would have alerted."""
    end_s: float
    score: float
    """The highest."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Heard:
    """What one recording holds, or why it could not be heard."""

    path: str
    """Below the folder that is scanned."""
    seconds: float = 0.0
    cpu_s: float = 0.0
    windows: int = 0
    classified: int = 0
    """Windows that the model saw."""
    events: tuple[Event, ...] = ()
    error: str = ""
    """Why it could not be heard, or not to its end."""

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        return asdict(self)

    @classmethod
    def of_json(cls, found: dict[str, Any]) -> "Heard":
        """Return it from what `to_json` gave."""
        return cls(**{**found, "events": tuple(Event(**event) for event in found["events"])})


@functools.lru_cache(maxsize=1)
def _stages(job: Job) -> tuple[Manifest, Callable[[], Listener]]:
    """Load the model once a process."""
    manifest = Manifest.from_json(job.manifest)
    classifier = load_classifier(manifest, job.content)

    def new_listener() -> Listener:
        vad = webrtc_vad(manifest.gate.vad_mode) if job.vad else None
        return Listener.of(manifest, classifier, Gate(manifest.gate, vad) if job.gate else None)

    return manifest, new_listener


def hear(root: str, name: str, job: Job) -> Heard:
    """Return what a recording holds; a file that cannot be read is told of and stops nothing.

    Args:
        root: the folder that is scanned, as this machine sees it.
        name: of the recording, below it.
        job: what to hear it with.
    """
    manifest, new_listener = _stages(job)
    listener = new_listener()
    began_s = time.process_time()
    detections: list[Detection] = []
    windows = classified = 0
    error = ""
    try:
        for window in heard(Path(root) / name, listener):
            windows += 1
            classified += window.outputs is not None
            detections += window.detections
    except (AgentError, OSError) as problem:
        error = " ".join(str(problem).split())[:300]
    detections += listener.finish()
    return Heard(
        path=name,
        seconds=listener.heard / manifest.features.sample_rate,
        cpu_s=time.process_time() - began_s,
        windows=windows,
        classified=classified,
        events=tuple(events_of(detections, manifest)),
        error=error,
    )


def events_of(detections: list[Detection], manifest: Manifest) -> list[Event]:
    """Return the events that are reported: an opening and its closing are one."""
    rate = manifest.features.sample_rate
    found: list[Event] = []
    opened: dict[str, Detection] = {}
    for detection in detections:
        if not detection.alert:
            continue
        if detection.opens:
            opened[detection.label] = detection
            continue
        first = opened.pop(detection.label)
        # the closing comes when it has been quiet for so long
        end_s = detection.raised / rate - manifest.rules[detection.label].close_after_s
        found.append(
            Event(
                label=detection.label,
                onset_s=first.onset / rate,
                raised_s=first.raised / rate,
                end_s=max(end_s, first.raised / rate),
                score=round(detection.score, 4),
            )
        )
    return sorted(found, key=lambda event: (event.raised_s, event.label))


def job_of(manifest: Manifest, content: bytes, *, gate: bool, vad: bool) -> Job:
    """Return the job of a model; equal models give equal jobs."""
    return Job(json.dumps(json.loads(manifest.to_json()), sort_keys=True), content, gate, vad)
