"""The service: what is on disk when, what the journal keeps, and what each thing that breaks is called."""

import sqlite3
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

from agent import journal as journal_module
from agent.alert import Alert, Heartbeat
from agent.capture import Block, Reader
from agent.clip import ClipKeeper
from agent.clipbox import ClipBox
from agent.clock import DeviceClock
from agent.config import DeviceConfig
from agent.decide import Decider, Detection, LabelRule
from agent.errors import AgentError, AudioError, CaptureError, ModelCondemnedError, ModelError, StorageError
from agent.gate import Gate, GateConfig
from agent.health import Health
from agent.hearing import Hearing
from agent.journal import Journal, Line
from agent.listen import Listener, Window
from agent.manifest import Manifest
from agent.outbox import Outbox
from agent.report import Reporter
from agent.service import Service, Stages, drain, setting_of, supervised
from agent.slots import ModelGuard, ModelSlots
from agent.uplink import Uplink

Float32 = NDArray[np.float32]
Int8 = NDArray[np.int8]

RATE = 16_000
STRIDE_S = 1.5
HIT, MISS, FAIL = 100, -100, None


class FakeTime:
    """Seconds that pass when somebody says so."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


class ScriptedReader:
    """A reader that has all its audio at hand; time passes as it is taken. None: a second without a block."""

    def __init__(self, blocks: Sequence[Block | None], clock: FakeTime, *, ends: bool = True) -> None:
        self._blocks = list(blocks)
        self._clock = clock
        self._ends = ends
        self.started = False
        self.dropped_samples = 0
        self.reopenings = 0
        self.reopened: list[tuple[float, str]] = []
        self.last_error: AudioError | None = None
        self.on_get: Callable[[int], None] = lambda _: None
        self.untils: list[int] = []
        self._taken = 0

    def start(self) -> None:
        self.started = True

    @property
    def ended(self) -> bool:
        return self._ends and not self._blocks

    def get(self, timeout_s: float, until: int = 0) -> Block | None:
        assert self.started
        self.on_get(self._taken)
        self.untils.append(until)
        self._taken += 1
        block = self._blocks.pop(0) if self._blocks else None
        self.reopenings += block is None
        self._clock.now_s += 1.0 if block is None else len(block.samples) / RATE
        return block

    def reopen(self, reason: str) -> None:
        self.reopened.append((self._clock.now_s, reason))

    def close(self) -> None:
        pass


@dataclass
class Scripted:
    """First output byte of each window; None fails."""

    answers: Sequence[int | None]
    calls: int = 0

    def outputs(self, frames: Float32) -> Int8:
        answer = self.answers[self.calls] if self.calls < len(self.answers) else MISS
        self.calls += 1
        if answer is None:
            raise ModelError("scripted: the model failed")
        return np.array([answer, MISS, MISS], np.int8)


@dataclass
class BeatKeeper:
    """Takes the service's heartbeats."""

    beats: list[Heartbeat] = field(default_factory=list)

    def beat(self, heartbeat: Heartbeat) -> None:
        self.beats.append(heartbeat)


@dataclass
class Bench:
    """A service and everything around it, at hand for a test."""

    service: Service
    stages: Stages
    reader: ScriptedReader
    classifier: Scripted
    beats: BeatKeeper
    folder: Path
    time: FakeTime
    said: list[Window] = field(default_factory=list)

    def run(self) -> None:
        self.service.run(threading.Event())
        self.stages.journal.flush()

    def lines(self) -> list[Line]:
        return list(journal_module.read(self.folder / "journal"))

    def events(self) -> list[tuple[str, str]]:
        return [(line.event, str(line.fields.get("state", ""))) for line in self.lines() if line.kind == "event"]

    def alerts(self) -> list[Alert]:
        """Take what is in the outbox, in the order in which it would be sent."""
        found: list[Alert] = []
        while (message := self.stages.outbox.due(0.0)) is not None:
            found.append(Alert.from_json(message.body))
            self.stages.outbox.delivered(*message.key)
        return found


Maker = Callable[..., Bench]


@pytest.fixture
def bench(make_manifest: Callable[..., Manifest], tmp_path: Path) -> Iterator[Maker]:
    """Return a maker of benches; what it opens is closed in the end."""
    opened: list[Bench] = []

    def make(
        blocks: Sequence[Block | None],
        answers: Sequence[int | None] = (),
        *,
        gate: bool = False,
        heartbeat_s: float = 60.0,
        station: bool = True,
        ends: bool = True,
        sample_every: int = 20,
        clips: ClipKeeper | None = None,
    ) -> Bench:
        manifest = make_manifest(gate=GateConfig(sample_every=sample_every))
        folder = tmp_path / f"device{len(opened)}"
        now = FakeTime()
        clock = DeviceClock(wall=lambda: 1.8e9 + now(), monotonic=now, synchronised=lambda: True)
        device = DeviceConfig(id="ipe-07")
        journal = Journal(folder / "journal", clock, device_id=device.id)
        journal.describe(setting_of(manifest))
        reader, classifier, beats = ScriptedReader(blocks, now, ends=ends), Scripted(answers), BeatKeeper()
        stages = Stages(
            reader=cast("Reader", reader),
            hearing=Hearing(),
            listener=Listener.of(manifest, classifier, Gate(manifest.gate, None) if gate else None),
            reporter=Reporter(device=device, manifest=manifest, now=clock.now),
            outbox=Outbox(folder / "outbox.db"),
            uplink=cast("Uplink", beats) if station else None,
            journal=journal,
            health=Health(device, manifest, folder, now()),
            clock=clock,
            heartbeat_s=heartbeat_s,
            clips=clips,
        )
        made = Bench(Service(stages), stages, reader, classifier, beats, folder, now)
        made.service.say = made.said.append
        opened.append(made)
        return made

    yield make
    for one in opened:
        one.stages.journal.close()
        one.stages.outbox.close()


def audio(seconds: float, block_s: float = 0.5, first_s: float = 0.0, dbfs: float = -40.0) -> list[Block]:
    """Return noise in blocks."""
    rng = np.random.default_rng(round(1000 * first_s) % 2**31)
    size = round(block_s * RATE)
    return [
        Block(
            start=round(first_s * RATE) + at,
            samples=(rng.standard_normal(size) * 10.0 ** (dbfs / 20.0)).astype(np.float32),
        )
        for at in range(0, round(seconds * RATE), size)
    ]


# Alerts


def test_a_saw_is_one_alert_that_opens_and_closes_under_one_id(bench: Maker) -> None:
    made = bench(audio(40.0), [MISS] * 7 + [HIT] * 4)
    made.run()
    opening, closing = made.alerts()
    assert (opening.revision, opening.state) == (0, "open")
    assert (closing.revision, closing.state) == (1, "closed")
    assert closing.alert_id == opening.alert_id
    assert (opening.label, opening.onset_s, opening.raised_s) == ("chainsaw", 12.0, 15.0)
    assert (closing.onset_s, closing.raised_s) == (12.0, 24.0)
    assert opening.device_id == "ipe-07"
    assert opening.log_mel is not None
    assert closing.log_mel is None


def test_an_alert_is_on_disk_when_the_window_that_raised_it_is_told(bench: Maker) -> None:
    """Told and sent come after: whoever pulls the plug then loses nothing."""
    made = bench(audio(20.0), [HIT] * 4)
    on_disk: list[tuple[bool, int]] = []

    def look(window: Window) -> None:
        with sqlite3.connect(f"file:{made.folder / 'outbox.db'}?mode=ro", uri=True) as database:
            (count,) = database.execute("SELECT count(*) FROM messages").fetchone()
        database.close()
        on_disk.append((bool(window.detections), count))

    made.service.say = look
    made.run()
    assert on_disk[:3] == [(False, 0), (True, 1), (False, 1)]


def test_an_event_that_is_open_at_the_end_is_closed(bench: Maker) -> None:
    made = bench(audio(10.0), [HIT] * 10)
    made.run()
    opening, closing = made.alerts()
    assert closing.alert_id == opening.alert_id
    assert closing.raised_s == 10.0


def test_two_saws_have_two_ids(bench: Maker) -> None:
    made = bench(audio(80.0), [HIT, HIT] + [MISS] * 28 + [HIT, HIT])
    made.run()
    openings = [alert for alert in made.alerts() if alert.revision == 0]
    assert len({alert.alert_id for alert in openings}) == len(openings) == 2


def test_the_journal_has_a_line_for_each_revision_with_its_reason(bench: Maker) -> None:
    made = bench(audio(20.0), [HIT, HIT])
    made.run()
    lines = [line for line in made.lines() if line.event == "alert"]
    assert [(line.fields["revision"], line.fields["reason"]) for line in lines] == [
        (0, "k of n windows, or their steady mean"),
        (1, "quiet again"),
    ]
    assert len({line.fields["alert_id"] for line in lines}) == 1


def test_an_outbox_that_refuses_is_a_state_and_listening_goes_on(
    bench: Maker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made = bench(audio(30.0), [HIT, HIT])
    put, turn = made.stages.outbox.put, iter([StorageError("outbox.db: no space"), None])

    def refuse_once(alert: Alert) -> None:
        error = next(turn)
        if error is not None:
            raise error
        put(alert)

    monkeypatch.setattr(made.stages.outbox, "put", refuse_once)
    made.run()
    assert [event for event in made.events() if event[1]] == [
        ("state_begins", "outbox_failed"),
        ("state_ends", "outbox_failed"),
    ]
    assert made.stages.health.windows == 19
    assert "outbox_failed: outbox.db: no space" in caplog.text


# The journal's windows


def test_every_window_is_in_the_journal_with_its_end_and_bytes(bench: Maker) -> None:
    made = bench(audio(40.0), [MISS, HIT, 3, MISS], gate=True, sample_every=3)
    made.run()
    records = [record for _, record in journal_module.windows(made.lines())]
    assert [record.end_sample for record in records] == [window.end for window in made.said]
    for record, window in zip(records, made.said, strict=True):
        assert record.output == (b"" if window.outputs is None else window.outputs.tobytes())
        assert record.gated == (window.outputs is None or window.sampled)
    assert {(record.gated, bool(record.output)) for record in records} == {(False, True), (True, False), (True, True)}


@settings(max_examples=12)
@given(
    script=st.lists(st.sampled_from([MISS, MISS, HIT, HIT, 20, FAIL]), min_size=10, max_size=80),
    gaps=st.lists(st.tuples(st.integers(1, 200), st.sampled_from([100, 9_000, 30_000, 900_000])), max_size=4),
    gate=st.booleans(),
)
def test_deciding_again_from_the_journal_is_exactly_what_was_decided(
    make_manifest: Callable[..., Manifest],
    tmp_path_factory: pytest.TempPathFactory,
    script: list[int | None],
    gaps: list[tuple[int, int]],
    gate: bool,
) -> None:
    folder, now = tmp_path_factory.mktemp("redecide"), FakeTime()
    manifest = make_manifest(rules={"chainsaw": LabelRule(refractory_s=6.0)}, gate=GateConfig(sample_every=2))
    clock = DeviceClock(wall=lambda: 1.8e9, monotonic=now, synchronised=lambda: True)
    device = DeviceConfig(id="ipe-07")
    shift, lost, pieces = 0, dict(gaps), list[Block | None]()
    for place, block in enumerate(audio(110.0)):
        shift += lost.get(place, 0)
        pieces.append(replace(block, start=block.start + shift))
    live: list[Detection] = []
    with Journal(folder / "journal", clock, device_id=device.id) as log, Outbox(folder / "outbox.db") as outbox:
        log.describe(setting_of(manifest))
        stages = Stages(
            reader=cast("Reader", ScriptedReader(pieces, now)),
            hearing=Hearing(),
            listener=Listener.of(manifest, Scripted(script), Gate(manifest.gate, None) if gate else None),
            reporter=Reporter(device=device, manifest=manifest, now=clock.now),
            outbox=outbox,
            uplink=None,
            journal=log,
            health=Health(device, manifest, folder, now()),
            clock=clock,
            heartbeat_s=60.0,
        )
        Service(stages, say=lambda window: live.extend(window.detections)).run(threading.Event())
    setting, again = None, list[Detection]()
    decider: Decider | None = None
    for segment, record in journal_module.windows(journal_module.read(folder / "journal")):
        setting = segment.setting
        assert setting is not None
        if decider is None:
            decider = Decider(
                labels=setting.labels,
                rules=manifest.rules,
                scores=manifest.score_table(),
                stride=setting.stride,
                sample_rate=setting.sample_rate,
            )
        again += decider.push(record.end_sample, np.frombuffer(record.output, np.int8) if record.output else None)
    assert again == live


def test_the_journal_says_what_its_bytes_mean(bench: Maker) -> None:
    made = bench(audio(6.0))
    made.run()
    manifest = made.stages.listener.manifest
    setting = made.lines()[0].segment.setting
    assert setting == setting_of(manifest)
    assert setting is not None
    assert setting.rules["chainsaw"] == {
        name: getattr(manifest.rules["chainsaw"], name) for name in LabelRule.__slots__
    }


def test_the_loop_waits_for_the_sound_that_ends_a_window_and_no_longer(bench: Maker) -> None:
    made = bench([*audio(20.0), *audio(10.0, first_s=21.3)])
    made.run()
    ends = [window.end for window in made.said]
    assert len(ends) == 12 + 5
    assert set(ends) <= set(made.reader.untils), "no window waits for a later one"
    heard = [0, *(block.start + len(block.samples) for block in [*audio(20.0), *audio(10.0, first_s=21.3)])]
    waits = [until - end for until, end in zip(made.reader.untils[1:], heard[1:], strict=False)]
    assert max(waits) <= 1.5 * RATE
    assert min(waits) >= 0


# Minutes and heartbeats


def test_a_line_a_minute_and_one_at_the_end(bench: Maker) -> None:
    made = bench(audio(150.0))
    made.run()
    minutes = [line for line in made.lines() if line.kind == "minute"]
    assert len(minutes) == 3
    assert [line.clock.monotonic_s for line in minutes] == [
        1_060.0,
        1_120.0,
        1_151.0,
    ]  # the end is noticed a second later
    assert minutes[0].fields["level_dbfs"] == pytest.approx(-40.0, abs=0.5)
    assert minutes[0].fields["queue"] == 0


def test_a_heartbeat_at_once_and_then_as_often_as_configured(bench: Maker) -> None:
    made = bench(audio(65.0), heartbeat_s=20.0)
    made.run()
    beats = made.beats.beats
    assert [beat.audio_s for beat in beats] == [0.5, 20.5, 40.5, 60.5]
    assert beats[0].device_id == "ipe-07"
    assert [beat.audio_per_wall for beat in beats] == [1.0] * 4
    assert beats[-1].windows == 39


def test_a_heartbeat_counts_what_waits_and_names_the_states(bench: Maker) -> None:
    made = bench(audio(30.0) + audio(30.0, first_s=30.0, dbfs=-100.0), [HIT, HIT], heartbeat_s=15.0)
    made.run()
    assert [beat.queue for beat in made.beats.beats] == [0, 2, 2, 2]
    assert made.beats.beats[1].states == ()
    assert made.beats.beats[-1].states == ("too_quiet",)
    assert made.beats.beats[1].top_scores["chainsaw"] > 0.99 > 0.1 > made.beats.beats[2].top_scores["chainsaw"]


def test_without_a_station_there_are_no_heartbeats_and_alerts_wait(bench: Maker) -> None:
    made = bench(audio(30.0), [HIT, HIT], station=False)
    made.run()
    assert made.beats.beats == []
    assert made.stages.outbox.counts().waiting == 2


def test_a_dropped_alert_is_an_event_of_the_journal(bench: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    from agent.outbox import Dropped

    made = bench(audio(6.0))
    drops = [(Dropped(alert_id="a1", revision=1, reason="the outbox is full"),)]
    monkeypatch.setattr(made.stages.outbox, "take_dropped", lambda: drops.pop() if drops else ())
    made.run()
    (line,) = [line for line in made.lines() if line.event == "alert_dropped"]
    assert line.fields == {"alert_id": "a1", "revision": 1, "reason": "the outbox is full"}


# States


def test_a_failing_model_is_a_state_with_begin_and_end(bench: Maker, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    made = bench(audio(30.0), [MISS, MISS, FAIL, FAIL, FAIL, MISS], heartbeat_s=6.5)
    made.run()
    states = [line for line in made.lines() if line.event.startswith("state_")]
    assert [(line.event, line.fields["state"]) for line in states] == [
        ("state_begins", "model_failed"),
        ("state_ends", "model_failed"),
    ]
    assert states[0].fields["reason"] == "scripted: the model failed"
    assert states[1].fields["held_s"] == pytest.approx(3 * STRIDE_S)
    assert [beat.states for beat in made.beats.beats][:3] == [(), ("model_failed",), ()]
    assert caplog.text.count("model_failed") == 2
    assert len(made.said) == 19 - 3


def test_a_model_that_only_fails_is_given_up_when_another_lies_ready(bench: Maker) -> None:
    made = bench(audio(200.0), [MISS] * 10 + [FAIL] * 200)
    told: list[str] = []

    class Ready:
        def has_other(self, digest: str) -> bool:
            return True

        def condemn(self, digest: str, reason: str) -> None:
            told.append(f"{digest} {reason}")

    digest = made.stages.listener.manifest.digest
    guard = ModelGuard(cast("ModelSlots", Ready()), Path("model.tflite"), digest)
    made.service.stages = replace(made.stages, guard=guard)
    with pytest.raises(ModelCondemnedError):
        made.run()
    assert told == [f"{digest} scripted: the model failed"]
    assert 75.0 < made.time.now_s - 1_000.0 < 85.0, "a minute of failures behind ten answers"


def test_a_model_that_needs_too_long_is_named(bench: Maker) -> None:
    made = bench(audio(120.0))
    real = made.classifier.outputs

    def slow(frames: Float32) -> Int8:
        made.time.now_s += 1.4 if made.time.now_s < 1_060.0 else 0.05
        return real(frames)

    made.classifier.outputs = slow  # type: ignore[method-assign]
    made.run()
    assert [event for event in made.events() if event[1] == "model_slow"] == [
        ("state_begins", "model_slow"),
        ("state_ends", "model_slow"),
    ]


def test_gated_windows_do_not_end_the_failure_of_a_model(bench: Maker) -> None:
    made = bench(audio(60.0), [FAIL] * 8 + [MISS], gate=True)  # everything passes for 8 windows, then one in 20
    made.run()
    assert any(window.outputs is None for window in made.said), "the gate never closed"
    states = [line for line in made.lines() if line.event.startswith("state_")]
    (began, ended) = [line.clock.monotonic_s for line in states]
    first_answer_s = next(window.end for window in made.said if window.outputs is not None) / RATE
    assert (began - 1_000.0, ended - 1_000.0) == (3.0, first_answer_s)


def test_digital_zeros_are_a_state_that_ends_with_real_sound(bench: Maker) -> None:
    made = bench(audio(10.0) + silence(15.0, 10.0) + audio(10.0, first_s=25.0))
    made.run()
    assert made.events() == [("state_begins", "zeros"), ("state_ends", "zeros")]


def silence(seconds: float, first_s: float) -> list[Block]:
    return [replace(block, samples=np.zeros_like(block.samples)) for block in audio(seconds, first_s=first_s)]


def test_a_silenced_microphone_is_opened_again_at_once_and_then_ever_more_rarely(bench: Maker) -> None:
    made = bench(audio(10.0) + silence(4_000.0, 10.0) + audio(700.0, first_s=4_010.0) + silence(40.0, 4_710.0))
    made.run()
    times_s = [round(at_s - 1_010.0) for at_s, _ in made.reader.reopened]
    first = [at_s for at_s in times_s if at_s < 4_000]
    assert first[0] <= 10
    pauses_s = [later - earlier for earlier, later in pairwise(first)]
    assert pauses_s[:7] == [15, 30, 60, 120, 240, 480, 600]
    assert set(pauses_s[7:]) == {600}
    assert {reason for _, reason in made.reader.reopened} == {"zeros"}
    # a new silence, long behind the old one: at once again
    again = [at_s for at_s in times_s if at_s >= 4_000]
    assert 4_708 <= again[0] <= 4_710
    assert again[1] - again[0] == 15


def test_real_sound_is_not_interrupted(bench: Maker) -> None:
    made = bench(audio(120.0))
    made.run()
    assert made.reader.reopened == []


def test_a_listener_that_is_behind_leaves_out_every_second_window_and_says_so(bench: Maker) -> None:
    blocks = audio(60.0)
    # block k arrives when the listener takes it, but for those from 20 to 35 s, which have waited for 5 s
    late = [
        replace(block, arrived_s=1_000.0 + (idx + 1) * 0.5 - (5.0 if 40 <= idx < 70 else 0.0))
        for idx, block in enumerate(blocks)
    ]
    made = bench(late, heartbeat_s=20.0)
    made.run()
    assert [event for event in made.events() if event[1] == "behind"] == [
        ("state_begins", "behind"),
        ("state_ends", "behind"),
    ]
    heard = {round(window.end / RATE, 1): window.outputs is not None for window in made.said}
    meanwhile = [was for end_s, was in heard.items() if 21.5 < end_s < 34.5]
    assert meanwhile == [idx % 2 == (not meanwhile[0]) for idx in range(len(meanwhile))]
    assert all(was for end_s, was in heard.items() if not 20 < end_s < 36)


def test_lost_audio_is_a_state_until_a_minute_without_any(bench: Maker) -> None:
    made = bench(audio(10.0) + audio(100.0, first_s=13.0))
    made.run()
    assert made.events() == [("state_begins", "overrun"), ("state_ends", "overrun")]
    assert made.reader.reopened == []


def test_a_microphone_that_never_gave_sound_is_no_audio_with_its_reason(bench: Maker) -> None:
    made = bench([None] * 6 + list(audio(5.0)))
    made.reader.last_error = CaptureError("plughw: no such card")
    made.run()
    states = [line for line in made.lines() if line.event.startswith("state_")]
    assert [(line.event, line.fields["state"]) for line in states] == [
        ("state_begins", "no_audio"),
        ("state_ends", "no_audio"),
    ]
    assert states[0].fields["reason"] == "plughw: no such card"


def test_a_microphone_that_never_gave_sound_needs_no_error_to_be_named(bench: Maker) -> None:
    made = bench([None] * 6)
    made.run()
    (line,) = [line for line in made.lines() if line.event == "state_begins"]
    assert line.fields["reason"] == "no sound has come yet"


def test_a_microphone_that_falls_silent_is_no_audio_within_ten_seconds(bench: Maker) -> None:
    made = bench([*audio(10.0), *[None] * 20, *audio(10.0, first_s=30.0)])
    made.run()
    states = [line for line in made.lines() if line.event.startswith("state_")]
    assert [(line.event, line.fields["state"]) for line in states] == [
        ("state_begins", "no_audio"),
        ("state_ends", "no_audio"),
    ]
    assert states[0].clock.monotonic_s - 1_010.0 <= 10.0


def test_a_disk_that_refuses_is_told_to_the_station(bench: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    made = bench(audio(65.0), heartbeat_s=20.0)

    def break_disk(turn: int) -> None:
        made.stages.outbox.disk_error = "no space" if 30 < turn < 60 else ""
        made.stages.journal.state = "journal_full" if 30 < turn < 60 else ""

    made.reader.on_get = break_disk
    made.run()
    assert [beat.states for beat in made.beats.beats] == [(), ("disk_failed", "journal_failed"), (), ()]


# Lost audio


def test_lost_audio_is_in_the_minutes_line_with_its_reason(bench: Maker, caplog: pytest.LogCaptureFixture) -> None:
    made = bench(audio(10.0) + audio(10.0, first_s=14.0) + audio(10.0, first_s=30.0) + audio(10.0, first_s=41.0))

    def drop(turn: int) -> None:
        made.reader.reopenings = 1 if turn >= 20 else 0
        made.reader.dropped_samples = 6 * RATE if turn >= 40 else 0

    made.reader.on_get = drop
    made.run()
    (minute,) = [line for line in made.lines() if line.kind == "minute"]
    assert minute.fields["gaps"] == [
        {"at_s": 14.0, "lost_s": 4.0, "reason": "source reopened"},
        {"at_s": 30.0, "lost_s": 6.0, "reason": "listener behind"},
        {"at_s": 41.0, "lost_s": 1.0, "reason": "source lost it"},
    ]
    assert made.stages.health.dropped_s == 6.0
    assert "4.0 s of audio lost at 14.0 s: source reopened" in caplog.text


def test_a_gap_is_told_once(bench: Maker) -> None:
    made = bench(audio(10.0) + audio(80.0, first_s=14.0))
    made.run()
    minutes = [line for line in made.lines() if line.kind == "minute"]
    assert [len(cast("list[object]", line.fields.get("gaps", []))) for line in minutes] == [1, 0]


# Stopping


def test_stop_ends_the_loop_and_closes_what_is_open(bench: Maker) -> None:
    made = bench(audio(10.0), [HIT] * 4, ends=False)
    stop = threading.Event()
    made.reader.on_get = lambda turn: stop.set() if turn == 19 else None
    made.service.run(stop)
    assert [alert.state for alert in made.alerts()] == ["open", "closed"]


def test_nobody_needs_to_watch(bench: Maker) -> None:
    made = bench(audio(6.0))
    made.service.say = None
    made.run()
    assert made.stages.health.windows == 3


def test_draining_waits_until_the_outbox_is_empty_and_no_longer(bench: Maker) -> None:
    made = bench(audio(20.0), [HIT, HIT])
    made.run()
    stop, waits = threading.Event(), list[float]()

    class Waiter(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            assert timeout is not None
            waits.append(timeout)
            made.time.now_s += timeout
            if len(waits) == 3:
                made.alerts()  # the sender has sent them all
            return stop.is_set()

    assert drain(made.stages.outbox, made.stages.clock, Waiter(), 20.0) == 0
    assert len(waits) == 3


def test_draining_gives_up_in_time_and_at_once_when_told_to_stop(bench: Maker) -> None:
    made = bench(audio(20.0), [HIT, HIT])
    made.run()

    class Waiter(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            made.time.now_s += timeout or 0.0
            return False

    began_s = made.time.now_s
    assert drain(made.stages.outbox, made.stages.clock, Waiter(), 5.0) == 2
    assert made.time.now_s - began_s == pytest.approx(5.0, abs=0.2)
    stop = threading.Event()
    stop.set()
    assert drain(made.stages.outbox, made.stages.clock, stop, 5.0) == 2


# The supervisor


class NoPause(threading.Event):
    """Notes the pauses and makes none."""

    def __init__(self) -> None:
        super().__init__()
        self.pauses_s: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.pauses_s.append(timeout or 0.0)
        return self.is_set()


def test_a_half_that_fails_starts_again_with_growing_pauses(caplog: pytest.LogCaptureFixture) -> None:
    stop = NoPause()
    turns = iter([AgentError("no route"), ZeroDivisionError("a fault"), *[AgentError("no route")] * 7, None])

    def body(given: threading.Event) -> None:
        assert given is stop
        error = next(turns)
        if error is not None:
            raise error

    supervised("sender", body, stop).join(10.0)
    assert stop.pauses_s == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]
    assert "sender stopped: no route; again in 1 s" in caplog.text
    assert "sender stopped by a fault of its own; again in 2 s" in caplog.text
    assert "ZeroDivisionError" in caplog.text, "a fault of our own keeps its traceback in the log"


def test_a_half_that_is_told_to_stop_does_not_start_again() -> None:
    stop = threading.Event()

    def body(given: threading.Event) -> None:
        given.set()
        raise AgentError("the link is closed")

    thread = supervised("sender", body, stop)
    thread.join(10.0)
    assert not thread.is_alive()


# Clips


class Voices:
    """A voice detector that says what the test wants."""

    def __init__(self, speaks: bool) -> None:
        self.speaks = speaks

    def is_speech(self, buf: bytes, sample_rate: int) -> bool:
        return self.speaks


@pytest.mark.parametrize("speaks", [False, True])
def test_speech_costs_the_clip_and_never_the_alert(bench: Maker, tmp_path: Path, speaks: bool) -> None:
    loud = np.random.default_rng(2).normal(0, 0.1, 8_000).astype(np.float32)
    syllable = np.where(np.arange(8_000) % 8_000 < 4_000, 1.0, 0.01).astype(np.float32)
    samples = [loud * syllable for _ in range(40)]
    blocks = [Block(start=8_000 * number, samples=piece) for number, piece in enumerate(samples)]
    box = ClipBox(tmp_path / "clips", 10_000_000)
    made = bench(blocks, [MISS, HIT, HIT, MISS], clips=ClipKeeper(box, 4.0, Voices(speaks)))
    made.run()
    told = {line.event: line.fields for line in made.lines() if line.event.startswith("clip")}
    opened = [alert for alert in made.alerts() if alert.revision == 0]
    assert len(opened) == 1
    if speaks:
        assert told["clip_dropped"]["reason"] == "speech in it"
        assert not (tmp_path / "clips").exists()
    else:
        assert told["clip_kept"]["alert_id"] == opened[0].alert_id
        assert [path.name for path in (tmp_path / "clips").iterdir()] == [f"{opened[0].alert_id}.held"]


def test_without_the_configuration_no_sound_touches_the_disk(bench: Maker) -> None:
    made = bench(
        [Block(start=8_000 * number, samples=np.full(8_000, 0.1, np.float32)) for number in range(30)], [HIT] * 8
    )
    made.run()
    assert not any(line.event.startswith("clip") for line in made.lines())
    assert not list(made.folder.rglob("*.held"))
