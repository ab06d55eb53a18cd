"""What this very device takes to listen: the real loop, in real time, on synthesised sound.

In real time, because a phone that has little to do runs slowly, and a CPU-second is then another one than at full
speed. Twice: with the model left out, and with every window given to it.
"""

import itertools
import logging
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from agent import synth
from agent.battery import look
from agent.capture import Block, Paced, Reader
from agent.classify import load_classifier
from agent.clock import DeviceClock
from agent.config import AgentConfig
from agent.gate import Gate, webrtc_vad
from agent.health import Health
from agent.hearing import Hearing
from agent.journal import Journal
from agent.listen import Listener
from agent.manifest import load_model
from agent.outbox import Outbox
from agent.power import LEAST_BETWEEN_S
from agent.report import Reporter
from agent.service import Service, Stages, setting_of

log = logging.getLogger(__name__)

_BLOCK = 8_000
_FOREST_S = 60.0
_NEVER = 10**9
_ALWAYS_S = 3_600.0
_LOOK_S = 10.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """What was measured."""

    seconds: float
    """Of sound, in each of the two runs."""
    listen_cpu_s: float
    """CPU-seconds per hour without the model."""
    model_cpu_s: float
    """CPU-seconds per hour more, with every window given to the model."""
    draw_w: float | None
    """Watts that the battery gave meanwhile; None where nobody tells, or while it is charged."""


class _Forest:
    """A microphone that hears a synthesised forest for ever."""

    name = "synthesised forest"
    live = True

    def __init__(self, samples: NDArray[np.float32]) -> None:
        self._samples = samples

    def blocks(self) -> Iterator[Block]:
        for number in itertools.count():
            at = number * _BLOCK % (len(self._samples) - _BLOCK)
            yield Block(start=number * _BLOCK, samples=self._samples[at : at + _BLOCK])

    def close(self) -> None:
        """Nothing is held."""


def measure(config: AgentConfig, seconds: float) -> Measured:
    """Run the loop twice and return what it took.

    Args:
        config: the device's; its model and gate are used, its microphone is not.
        seconds: of sound in each run; CPU time is known after some, a fuel gauge wants minutes.

    Raises:
        ModelError: the model cannot be loaded.
    """
    forest = synth.forest(_FOREST_S, np.random.default_rng(11))
    draws: list[float] = []
    without = _run(config, forest, seconds, every=_NEVER, draws=draws)
    with_all = _run(config, forest, seconds, every=1, draws=draws)
    return Measured(
        seconds=seconds,
        listen_cpu_s=round(without, 3),
        model_cpu_s=round(max(0.0, with_all - without), 3),
        draw_w=round(sum(draws) / len(draws), 3) if draws else None,
    )


def _run(config: AgentConfig, forest: NDArray[np.float32], seconds: float, *, every: int, draws: list[float]) -> float:
    """Listen for so long and return CPU-seconds per hour."""
    with tempfile.TemporaryDirectory(prefix="curupira-") as folder:
        clock = DeviceClock()
        with (
            Journal(Path(folder) / "journal", clock, device_id=config.device.id) as journal,
            Outbox(Path(folder) / "outbox.db") as outbox,
        ):
            service, reader = _service(config, forest, clock, journal, outbox, every)
            stop = threading.Event()
            gauge = threading.Thread(target=_watch, args=(config.power.source, stop, draws), daemon=True)
            timer = threading.Timer(seconds, stop.set)
            began_s = time.process_time()
            gauge.start()
            timer.start()
            service.run(stop)
            took_s = time.process_time() - began_s
            reader.close()
    return took_s / seconds * 3_600.0


def _service(
    config: AgentConfig, forest: NDArray[np.float32], clock: DeviceClock, journal: Journal, outbox: Outbox, every: int
) -> tuple[Service, Reader]:
    manifest, content = load_model(config.listen.model)
    # a gate that knows no floor yet lets everything through, and costs what it costs
    open_gate = replace(manifest.gate, warm_up_s=_ALWAYS_S)
    gate = (
        Gate(open_gate, webrtc_vad(open_gate.vad_mode) if config.listen.vad else None) if config.listen.gate else None
    )
    listener = Listener.of(manifest, load_classifier(manifest, content), gate)
    listener.every = every
    journal.describe(setting_of(manifest))
    reader = Reader(lambda: Paced(_Forest(forest), clock.monotonic_s), monotonic=clock.monotonic_s)
    stages = Stages(
        reader=reader,
        hearing=Hearing(),
        listener=listener,
        reporter=Reporter(device=config.device, manifest=manifest, now=clock.now),
        outbox=outbox,
        uplink=None,
        journal=journal,
        health=Health(config.device, manifest, Path(), clock.monotonic_s()),
        clock=clock,
        heartbeat_s=config.station.heartbeat_s,
    )
    return Service(stages), reader


def _watch(source: str, stop: threading.Event, draws: list[float]) -> None:
    """Look at what the battery gives, now and then; Termux no more often than it can bear."""
    pause_s = _LOOK_S
    while not stop.wait(pause_s):
        reading = look(source)
        if reading is not None and reading.draw_w is not None and reading.draw_w > 0:
            draws.append(reading.draw_w)
        pause_s = _LOOK_S if reading is not None and reading.source == "sysfs" else LEAST_BETWEEN_S
