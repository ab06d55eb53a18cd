"""The power policy at work in the listening loop: what the journal, the heartbeat and the decision see of it."""

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from agent import duty
from agent import journal as journal_module
from agent.alert import Battery, Heartbeat
from agent.battery import BatteryWatch, Reading
from agent.capture import Block, Reader
from agent.clock import DeviceClock
from agent.config import DeviceConfig
from agent.decide import Decider, Detection, LabelRule
from agent.duty import Duty
from agent.errors import CaptureError
from agent.health import Health
from agent.hearing import Hearing
from agent.journal import Journal, Line
from agent.listen import Listener, Window
from agent.manifest import Manifest
from agent.outbox import Outbox
from agent.power import STALE_S, PowerConfig
from agent.report import Reporter
from agent.service import Service, Stages, setting_of
from agent.uplink import Uplink
from agent.watchdog import Watchdog

RATE = 16_000
BLOCK = 8_000


class Microphone:
    """A live reader whose time is its sound, or its silence: it can be let go, and can be lost."""

    dropped_samples = 0
    reopenings = 0
    last_error: CaptureError | None = None
    ended = False

    def __init__(self, *, dead_from_s: float = 1e12, dead_until_s: float = 1e12, live: bool = True) -> None:
        self.now_s = 1_000.0
        self.dead_from_s = dead_from_s
        self.dead_until_s = dead_until_s
        self._live = live
        self._open = True
        self._noise = (np.random.default_rng(3).standard_normal(BLOCK) * 0.01).astype(np.float32)
        self.openings = 1
        self.waits_s: list[float] = []

    def start(self) -> None:
        pass

    def get(self, timeout_s: float, until: int = 0) -> Block | None:
        if not self._open or self.dead_from_s <= self.now_s - 1_000.0 < self.dead_until_s:
            self.waits_s.append(timeout_s)
            self.now_s += timeout_s
            return None
        start = round((self.now_s - 1_000.0) * RATE)
        self.now_s += BLOCK / RATE
        return Block(start=start, samples=self._noise * np.float32(1 + start % 7), arrived_s=self.now_s)

    def pause(self) -> bool:
        self._open = not self._live
        return self._live

    def resume(self) -> None:
        self._open = True
        self.openings += 1
        self.now_s += 0.25  # a card takes its time

    def reopen(self, reason: str) -> None:
        assert self._open, f"reopened for {reason} while it is let go"


@dataclass
class Answers:
    """First output byte of each window, by turn, again and again."""

    script: Sequence[int] = (-100,)
    calls: int = 0

    def outputs(self, frames: NDArray[np.float32]) -> NDArray[np.int8]:
        self.calls += 1
        return np.array([self.script[(self.calls - 1) % len(self.script)], -100, -100], np.int8)


@dataclass
class Rig:
    """A service with a battery that the test owns."""

    service: Service
    duty: Duty
    stages: Stages
    microphone: Microphone
    watch: BatteryWatch
    answers: Answers
    folder: Path
    battery: list[Battery | None]
    beats: list[Heartbeat] = field(default_factory=list)
    said: list[Window] = field(default_factory=list)
    signs: list[tuple[float, str]] = field(default_factory=list)

    def beat(self, heartbeat: Heartbeat) -> None:
        self.beats.append(heartbeat)

    def run(self, seconds: float, acts: dict[float, Battery | None] | None = None) -> None:
        """Listen for so long; at each time given, the battery says that from then on."""
        stop, microphone = threading.Event(), self.microphone
        real, until_s, left = microphone.get, microphone.now_s + seconds, dict(acts or {})
        looked_s = [-1e9]

        def get(timeout_s: float, until: int = 0) -> Block | None:
            for at_s in [at_s for at_s in left if microphone.now_s - 1_000.0 >= at_s]:
                self.battery[0] = left.pop(at_s)
                looked_s[0] = -1e9
            if microphone.now_s - looked_s[0] >= 300.0:
                looked_s[0] = microphone.now_s
                self.watch.look_once()
            if microphone.now_s >= until_s:
                stop.set()
            return real(timeout_s)

        microphone.get = get  # type: ignore[method-assign]
        self.service.run(stop)
        self.stages.journal.flush()

    def lines(self) -> list[Line]:
        return list(journal_module.read(self.folder / "journal"))

    def events(self, kind: str) -> list[Line]:
        return [line for line in self.lines() if line.event == kind]

    def minutes(self) -> list[Line]:
        return [line for line in self.lines() if line.kind == "minute"]

    def gaps(self) -> list[dict[str, object]]:
        return [gap for line in self.minutes() for gap in cast("list[dict[str, object]]", line.fields.get("gaps", []))]


Maker = Callable[..., Rig]


def build(
    folder: Path,
    manifest: Manifest,
    script: Sequence[int] = (-100,),
    *,
    config: PowerConfig | None = None,
    microphone: Microphone | None = None,
    heartbeat_s: float = 300.0,
) -> Rig:
    mic = microphone or Microphone()
    clock = DeviceClock(wall=lambda: 1.8e9 + mic.now_s, monotonic=lambda: mic.now_s, synchronised=lambda: True)
    device, answers = DeviceConfig(id="ipe-07"), Answers(script)
    journal = Journal(folder / "journal", clock, device_id=device.id)
    journal.describe(setting_of(manifest))
    battery: list[Battery | None] = [None]

    def look() -> Reading | None:
        return None if battery[0] is None else Reading(source="sysfs", battery=battery[0])

    watch = BatteryWatch(look, clock.monotonic_s, 300.0)
    listener, health = Listener.of(manifest, answers, None), Health(device, manifest, folder, clock.monotonic_s())
    duty = Duty(
        config=config or PowerConfig(),
        reader=cast("Reader", mic),
        listener=listener,
        health=health,
        journal=journal,
        watch=watch,
        started_s=clock.monotonic_s(),
    )
    signs: list[tuple[float, str]] = []
    stages = Stages(
        reader=cast("Reader", mic),
        hearing=Hearing(),
        listener=listener,
        reporter=Reporter(device=device, manifest=manifest, now=clock.now, battery=duty.battery),
        outbox=Outbox(folder / "outbox.db"),
        uplink=None,
        journal=journal,
        health=health,
        clock=clock,
        heartbeat_s=heartbeat_s,
        watchdog=Watchdog(None, lambda text: signs.append((mic.now_s, text))),
        duty=duty,
    )
    rig = Rig(Service(stages), duty, stages, mic, watch, answers, folder, battery, signs=signs)
    rig.stages = replace(stages, uplink=cast("Uplink", rig))
    rig.service = Service(rig.stages, say=rig.said.append)
    return rig


@pytest.fixture
def make(make_manifest: Callable[..., Manifest], tmp_path: Path) -> Iterator[Maker]:
    made: list[Rig] = []

    def maker(script: Sequence[int] = (-100,), **options: object) -> Rig:
        made.append(build(tmp_path / f"device{len(made)}", make_manifest(), script, **options))  # type: ignore[arg-type]  # by keyword
        return made[-1]

    yield maker
    for rig in made:
        rig.stages.journal.close()
        rig.stages.outbox.close()


EMPTY = Battery(percent=12.0, temperature_c=30.0, charging=False)
FULL = Battery(percent=90.0, temperature_c=30.0, charging=True)


def test_an_empty_battery_lets_the_microphone_go_for_four_minutes_of_five(make: Maker) -> None:
    rig = make()
    rig.run(3_600.0, {0.0: EMPTY})
    (change,) = rig.events("power")
    assert change.fields == {
        "level": "survival",
        "before": "full",
        "reason": "battery 12 %, 30.0 °C",
        "every": 2,
        "duty": 0.2,
        "heartbeat_s": 3_600.0,
    }
    assert rig.microphone.openings == 13
    assert rig.stages.health.heard_s == pytest.approx(720.0, rel=0.03)
    assert rig.stages.health.paused_s == pytest.approx(2_880.0, rel=0.03)
    assert max(rig.microphone.waits_s) == 5.0, "a loop that turns each second would keep the processor awake"


def test_a_pause_is_a_gap_with_its_reason_and_neither_quiet_nor_deaf(make: Maker) -> None:
    rig = make()
    rig.run(3_600.0, {0.0: EMPTY})
    assert {gap["reason"] for gap in rig.gaps()} == {"paused to save power: survival"}
    assert all(239.0 < cast("float", gap["lost_s"]) < 247.0 for gap in rig.gaps())
    assert [line for line in rig.lines() if line.event.startswith("state_")] == []
    silent = [line for line in rig.minutes()[:-1] if line.fields["level_dbfs"] is None]
    assert len(silent) > 30
    assert all(line.fields["paused_s"] > 55.0 and line.fields["power"] == "survival" for line in silent)  # type: ignore[operator]  # a number
    assert min(cast("float", line.fields["level_dbfs"] or 0.0) for line in rig.minutes()) > -60.0
    assert all(beat.states == () for beat in rig.beats)


def test_a_stop_within_a_pause_still_names_it(make: Maker) -> None:
    rig = make()
    rig.run(200.0, {0.0: EMPTY})
    (gap,) = rig.gaps()
    assert gap["reason"] == "paused to save power: survival"
    assert gap["lost_s"] == pytest.approx(140.0, abs=6.0)


def test_the_station_hears_of_a_change_at_once_and_when_the_next_heartbeat_is_due(make: Maker) -> None:
    rig = make(heartbeat_s=60.0)
    rig.run(5_270.0, {200.0: EMPTY, 5_000.0: FULL})
    at_s = [round(beat.clock.monotonic_s - 1_000.0) for beat in rig.beats]
    assert at_s[:6] == pytest.approx([0, 60, 120, 180, 200, 3_800], abs=7)
    assert at_s[6:] == pytest.approx([at_s[6] + 60 * idx for idx in range(len(at_s) - 6)], abs=2)
    assert 5_000 <= at_s[6] <= 5_010
    survival = [beat for beat in rig.beats if beat.power == "survival"]
    assert [(beat.heartbeat_s, beat.battery) for beat in survival] == [(3_600.0, EMPTY)] * 2
    assert {beat.heartbeat_s for beat in rig.beats if beat.power == "full"} == {60.0}
    assert all(beat.audio_per_wall == pytest.approx(1.0, abs=0.05) for beat in rig.beats), "a pause is not deafness"
    assert rig.beats[-1].paused_s == pytest.approx(3_840.0, rel=0.05)
    assert all(len(beat.to_json()) < 1_000 for beat in rig.beats)


def test_a_supervisor_sees_a_pause_as_life(make: Maker) -> None:
    rig = make(config=replace(PowerConfig(), survival=replace(PowerConfig().survival, pause_s=3_000.0)))
    rig.run(7_000.0, {0.0: EMPTY})
    at_s = [at_s for at_s, text in rig.signs if text == "WATCHDOG=1"]
    assert max(later - earlier for earlier, later in pairwise(at_s)) < 60.0


def test_a_microphone_that_dies_is_named_between_pauses_too(make: Maker) -> None:
    rig = make(microphone=Microphone(dead_from_s=310.0))
    rig.run(900.0, {0.0: EMPTY})
    (begins,) = rig.events("state_begins")
    assert begins.fields["state"] == "no_audio"
    assert begins.clock.monotonic_s - 1_000.0 < 325.0
    at_s = [at_s - 1_000.0 for at_s, text in rig.signs if text == "WATCHDOG=1"]
    assert not [at for at in at_s if 320.0 < at < 360.0], "while it should listen and hears nothing, it is not alive"


def test_a_microphone_that_stalls_before_a_pause_and_opens_slowly_behind_it_is_not_silent(make: Maker) -> None:
    rig = make(microphone=Microphone(dead_from_s=56.0, dead_until_s=305.0))
    rig.run(400.0, {0.0: EMPTY})
    assert rig.events("state_begins") == []
    (gap, _) = rig.gaps()
    assert gap["reason"] == "paused to save power: survival"


def test_a_stop_while_the_microphone_opens_again_names_the_whole_pause(make: Maker) -> None:
    rig = make(microphone=Microphone(dead_from_s=60.0, dead_until_s=1e12))
    rig.run(304.0, {0.0: EMPTY})
    (gap,) = rig.gaps()
    assert gap["lost_s"] == pytest.approx(244.0, abs=6.0)


def test_minutes_and_alerts_carry_the_battery(make: Maker) -> None:
    rig = make([100])
    rig.run(130.0, {0.0: FULL})
    assert {str(line.fields["battery"]) for line in rig.minutes()} == {
        "{'percent': 90.0, 'temperature_c': 30.0, 'charging': True}"
    }
    message = rig.stages.outbox.due(0.0)
    assert message is not None
    assert b'"percent":90.0' in message.body
    assert all("power" not in line.fields for line in rig.minutes())


def test_what_leans_to_an_alert_is_heard_to_its_end(make: Maker) -> None:
    """A saw that begins in the last seconds of listening is not cut off."""
    quiet_windows = 18  # one in two is heard: the last of these ends at 57 s
    rig = make([-100] * quiet_windows + [100] * 40)
    rig.run(290.0, {0.0: EMPTY})
    opened = [window.end / RATE for window in rig.said for found in window.detections if found.opens]
    assert opened == [60.0]
    assert rig.said[-1].end / RATE > 110.0, "the whole saw was heard"


def test_a_recording_is_not_paused_but_the_model_rests(make: Maker) -> None:
    rig = make(microphone=Microphone(live=False))
    rig.run(600.0, {0.0: EMPTY})
    assert rig.gaps() == []
    assert rig.stages.health.heard_s == pytest.approx(600.0, abs=2.0)
    assert rig.stages.health.classified == pytest.approx(rig.stages.health.windows / 2, abs=2)
    assert [line.fields["passed_over"] for line in rig.minutes()[1:-1]] == [20] * 9, "not the gate kept these away"


@pytest.fixture
def short_memory(monkeypatch: pytest.MonkeyPatch) -> float:
    """A tenth of the hour for which a reading counts: sound takes its time to compute."""
    monkeypatch.setattr(duty, "STALE_S", STALE_S / 10)
    return STALE_S / 10


def test_a_battery_that_falls_silent_is_named_and_the_device_hears_again(make: Maker, short_memory: float) -> None:
    rig = make()
    rig.run(1_600.0, {0.0: EMPTY, 600.0: None, 1_500.0: EMPTY})
    assert [line.fields["level"] for line in rig.events("power")] == ["survival", "saving", "survival"]
    (begins,) = rig.events("state_begins")
    (ends,) = rig.events("state_ends")
    assert begins.fields["state"] == ends.fields["state"] == "battery_unknown"
    assert begins.clock.monotonic_s - 1_300.0 == pytest.approx(short_memory, abs=7.0)
    assert rig.duty.battery() == EMPTY


def test_a_device_without_a_battery_misses_none_unless_one_was_asked_for(make: Maker, short_memory: float) -> None:
    rig = make()
    rig.run(short_memory + 10)
    assert [line.event for line in rig.lines() if line.event] == []
    asked = make(config=replace(PowerConfig(), source="sysfs"))
    asked.run(short_memory + 10)
    assert [line.fields["state"] for line in asked.events("state_begins")] == ["battery_unknown"]


def test_clips_go_with_the_level(make: Maker) -> None:
    rig = make()
    assert rig.duty.clips
    rig.run(30.0, {0.0: EMPTY})
    assert not rig.duty.clips


@settings(max_examples=6)
@given(
    script=st.lists(st.sampled_from([-100, -100, -100, 60, 100]), min_size=3, max_size=60),
    percents=st.lists(st.sampled_from([5.0, 30.0, 90.0]), min_size=1, max_size=6),
)
def test_whatever_the_power_does_the_journal_decides_again_exactly(
    make_manifest: Callable[..., Manifest],
    tmp_path_factory: pytest.TempPathFactory,
    script: list[int],
    percents: list[float],
) -> None:
    manifest = make_manifest(rules={"chainsaw": LabelRule(refractory_s=6.0, steady=0.9)})
    rig = build(tmp_path_factory.mktemp("duty"), manifest, script)
    rig.run(600.0, {idx * 110.0: Battery(percent=percent) for idx, percent in enumerate(percents)})
    rig.stages.journal.close()
    rig.stages.outbox.close()
    live = [found for window in rig.said for found in window.detections]
    again: list[Detection] = []
    decider = Decider(
        labels=manifest.labels,
        rules=manifest.rules,
        scores=manifest.score_table(),
        stride=manifest.stride,
        sample_rate=RATE,
    )
    for _, record in journal_module.windows(rig.lines()):
        again += decider.push(record.end_sample, np.frombuffer(record.output, np.int8) if record.output else None)
    assert again == live
