"""The agent at work: a microphone on one side, an outbox on the other, and everything that can happen between.

Three threads: the reader fills a ring, the listener (this one) empties it, the sender empties the outbox. What the
listener does never waits for the network, and whatever breaks is a named state in log, journal and heartbeat.
"""

import logging
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, cast

from agent.alert import Alert
from agent.capture import Block, Reader
from agent.clip import ClipKeeper
from agent.clock import DeviceClock
from agent.duty import Duty
from agent.errors import AgentError, ModelCondemnedError, ModelError, StorageError
from agent.health import Health, disk_free_mb
from agent.hearing import Hearing, StateChange
from agent.journal import Journal, Json, Setting, WindowRecord
from agent.listen import Listener, Window
from agent.manifest import Manifest
from agent.minute import Minute
from agent.outbox import Outbox
from agent.report import Reporter
from agent.slots import ModelGuard
from agent.watchdog import Watchdog

if TYPE_CHECKING:
    from agent.uplink import Uplink

log = logging.getLogger(__name__)

MINUTE_S = 60.0
REOPENED_FOR = ("zeros", "constant", "stuck", "too_quiet", "dc", "clipping", "unreal", "wrong_rate", "no_audio")
"""States in which the microphone is let go and opened again: Android gives it back to who asks anew."""
FIRST_REOPENING_S, LONGEST_REOPENING_S = 15.0, 600.0
"""Seconds from one opening to the next while a state holds; each time twice as many, and never the last time."""
LAG_S, NO_LAG_S = 4.0, 1.0
"""Seconds behind the microphone at which every second window is left out, and at which none is any more."""
SLOW_SHARE = 0.8
"""Share of the stride at which a window takes too long."""
_TIMING = 0.1
LEAST_FREE_MB = 0.25
"""Below this the next alerts may not find room on the disk: it is said before they are refused."""
_CALM_S = 60.0
"""Seconds without lost audio after which none is being lost."""
_WAIT_S = 1.0
"""Seconds without the sound that is due after which the loop looks up."""
_TOGETHER_S = 1.5
"""Seconds of sound that are waited for at most: each turn of the loop wakes the processor and finds cold caches."""
_PAUSED_WAIT_S = 5.0
"""Seconds from one turn to the next while the microphone is let go."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stages:
    """What the service is put together from."""

    reader: Reader
    hearing: Hearing
    listener: Listener
    reporter: Reporter
    outbox: Outbox
    uplink: "Uplink | None"
    """None: no station is configured; alerts wait on disk."""
    journal: Journal
    health: Health
    clock: DeviceClock
    heartbeat_s: float
    watchdog: Watchdog = field(default_factory=Watchdog)
    guard: ModelGuard | None = None
    """None: the model has nobody behind it."""
    duty: Duty | None = None
    """None: power is no matter."""
    clips: ClipKeeper | None = None
    """None: no sound is kept, ever."""


def setting_of(manifest: Manifest) -> Setting:
    """Return what the journal must say so that its bytes can be read and decided again."""
    return Setting(
        model_digest=manifest.digest,
        labels=manifest.labels,
        sample_rate=manifest.features.sample_rate,
        window_samples=manifest.features.window_samples,
        stride=manifest.stride,
        output_scale=manifest.output.scale,
        output_zero_point=manifest.output.zero_point,
        activation=manifest.activation,
        rules={label: cast("Mapping[str, Json]", asdict(rule)) for label, rule in manifest.rules.items()},
    )


@dataclass(slots=True)
class Service:
    """The listening loop of a live device."""

    stages: Stages
    say: Callable[[Window], None] | None = None
    """Is given every window, for a person who watches."""
    _minute_s: float = field(init=False)
    _beat_s: float = field(init=False)
    _level_dbfs: float = field(init=False, default=-120.0)
    _minute: Minute = field(init=False, default_factory=Minute)
    _expected: int | None = field(init=False, default=None)
    _until: int = field(init=False, default=0)
    """Sample clock up to which sound is waited for."""
    _block_s: float = field(init=False)
    """Monotonic seconds at which the last block was heard..."""
    _arrived_s: float = field(init=False)
    """...and at which it had come."""
    _dropped: int = field(init=False, default=0)
    _reopenings: int = field(init=False, default=0)
    _window_s: float = field(init=False, default=0.0)
    """Seconds that a window takes, a running mean."""
    _lost_s: float = field(init=False, default=-math.inf)
    """Monotonic seconds at which audio was lost last."""
    _reopen_s: float = field(init=False, default=-math.inf)
    """Monotonic seconds before which the source is not opened again..."""
    _reopen_pause_s: float = field(init=False, default=FIRST_REOPENING_S)
    """...and how long that will be the next time."""

    def __post_init__(self) -> None:
        """The first minute and the first heartbeat count from now; the first heartbeat goes at once."""
        now_s = self.stages.clock.monotonic_s()
        self._minute_s = self._block_s = self._arrived_s = now_s
        self._beat_s = now_s - self.stages.heartbeat_s

    def run(self, stop: threading.Event) -> None:
        """Listen until `stop` is set or a recording ends.

        Raises:
            ModelCondemnedError: the model only fails, and another one lies ready.
        """
        reader = self.stages.reader
        reader.start()
        self.stages.watchdog.ready()
        try:
            while not stop.is_set():
                block = reader.get(self._patience_s(), self._until)
                if block is not None:
                    self._hear(block)
                elif reader.ended:
                    break
                elif not self._paused:
                    self._hear_nothing()
                self._keep_time()
        except ModelCondemnedError:
            self._finish()
            raise
        self.stages.watchdog.stopping()
        self._finish()

    def _patience_s(self) -> float:
        """Return for how long to wait for sound up to the next window's end: nothing sooner gives an alert sooner."""
        if self._paused or self._expected is None:
            self._until = 0
            return _PAUSED_WAIT_S if self._paused else _WAIT_S
        listener = self.stages.listener
        rate = listener.manifest.features.sample_rate
        self._until = min(listener.wanted, self._expected + round(_TOGETHER_S * rate))
        due_s = self._arrived_s + (self._until - self._expected) / rate
        return _WAIT_S + max(0.0, due_s - self.stages.clock.monotonic_s())

    @property
    def _paused(self) -> bool:
        """Say whether nothing is to be heard, on purpose."""
        return self.stages.duty is not None and self.stages.duty.paused

    def _hear(self, block: Block) -> None:
        """Take one block through the path of a sound."""
        stages = self.stages
        self._block_s = stages.clock.monotonic_s()
        self._arrived_s = self._block_s if math.isnan(block.arrived_s) else block.arrived_s
        self._note_lag(block)
        self._note_gap(block)
        stages.health.heard(len(block.samples))
        if stages.clips is not None:
            stages.clips.hear(block)
        self._note_states(stages.hearing.push(block))
        windows = stages.listener.push(block)
        while True:
            began_s = stages.clock.monotonic_s()
            try:
                window = next(windows)
            except StopIteration:
                return
            except ModelError as error:
                self._begin_state("model_failed", str(error))
                if stages.guard is not None:
                    stages.guard.failed(str(error), self._block_s)
                # what the generator had left is heard with the next block
                return
            self._time(window, stages.clock.monotonic_s() - began_s)
            self._take(window)

    def _time(self, window: Window, took_s: float) -> None:
        """Name a model that needs nearly as long for a window as there is until the next."""
        if window.outputs is None:
            return
        self._window_s += _TIMING * (took_s - self._window_s)
        stride_s = self.stages.listener.manifest.stride_s
        if self._window_s > SLOW_SHARE * stride_s:
            self._begin_state("model_slow", f"{self._window_s:.2f} s a window, there is one every {stride_s:g} s")
        elif self._window_s < SLOW_SHARE / 2 * stride_s:
            self._end_state("model_slow")

    def _take(self, window: Window) -> None:
        stages = self.stages
        if window.outputs is not None:
            self._end_state("model_failed")
            if stages.guard is not None:
                stages.guard.answered()
        stages.health.window(window)
        self._level_dbfs = window.level_dbfs
        self._minute.window(window)
        output = b"" if window.outputs is None else window.outputs.tobytes()
        gated = window.outputs is None or window.sampled
        stages.journal.window(WindowRecord(end_sample=window.end, gated=gated, output=output))
        for alert in stages.reporter.alerts(window):
            self._keep(alert)
        if self.say is not None:
            self.say(window)

    def _keep(self, alert: Alert) -> None:
        """Bring an alert to disk before anything else is done with it; the sender wakes up by itself."""
        stages = self.stages
        try:
            stages.outbox.put(alert)
        except StorageError as error:
            self._begin_state("outbox_failed", str(error))
        else:
            self._end_state("outbox_failed")
        # behind the put: an alert that the log names is on the disk, or in memory with its state named
        word = "heard" if alert.revision == 0 else "is over"
        log.info(
            "%s %s: began at %.1f s, score %.2f, alert %s",
            alert.label,
            word,
            alert.onset_s,
            alert.score,
            alert.alert_id[:8],
        )
        stages.journal.event(
            "alert",
            alert_id=alert.alert_id,
            revision=alert.revision,
            label=alert.label,
            score=alert.score,
            onset_s=alert.onset_s,
            raised_s=alert.raised_s,
            reason="k of n windows, or their steady mean" if alert.revision == 0 else "quiet again",
        )
        if alert.revision == 0 and stages.clips is not None:
            self._keep_clip(stages.clips, alert.alert_id)

    def _keep_clip(self, clips: ClipKeeper, alert_id: str) -> None:
        """Keep the alert's sound, behind the alert itself; that it was dropped is written down with the reason."""
        duty = self.stages.duty
        saving = duty is not None and not duty.clips
        problem = f"power level {duty.level}" if duty is not None and saving else clips.keep(alert_id)
        kind = "clip_dropped" if problem else "clip_kept"
        log.info("%s: %s%s", alert_id[:8], kind.replace("_", " "), f": {problem}" if problem else "")
        self.stages.journal.event(kind, alert_id=alert_id, reason=problem or "configured")

    def _hear_nothing(self) -> None:
        """No block came: after a while that is a state of its own."""
        if self._expected is not None:
            silent_s = self.stages.clock.monotonic_s() - self._arrived_s
            rate = self.stages.listener.manifest.features.sample_rate
            self._note_states(self.stages.hearing.tick(self._expected + round(silent_s * rate)))
        elif self.stages.clock.monotonic_s() - self._block_s > 2 * _WAIT_S:
            error = self.stages.reader.last_error
            self._begin_state("no_audio", str(error) if error else "no sound has come yet")

    def _note_gap(self, block: Block) -> None:
        if self._expected is None:
            self._end_state("no_audio")
        elif block.start != self._expected:
            rate = self.stages.listener.manifest.features.sample_rate
            lost_s = (block.start - self._expected) / rate
            dropped = self.stages.reader.dropped_samples
            reopenings = self.stages.reader.reopenings
            reason = "source reopened" if reopenings != self._reopenings else "source lost it"
            pause = self._pause_reason()
            if dropped > self._dropped:
                reason = "listener behind"
                self.stages.health.dropped_s = dropped / rate
            elif pause:
                reason = pause
            if reason not in ("source reopened", pause):
                self._lost_s = self._block_s
                self._begin_state("overrun", f"{lost_s:.1f} s of audio lost: {reason}")
            self._dropped, self._reopenings = dropped, reopenings
            self._minute.gap(block.start / rate, lost_s, reason)
            if reason != pause:
                log.warning("%.1f s of audio lost at %.1f s: %s", lost_s, block.start / rate, reason)
        self._expected = block.start + len(block.samples)

    def _pause_reason(self) -> str:
        """Return why nothing was to be heard just now, once; empty where that was no wish of ours."""
        duty = self.stages.duty
        if duty is None or duty.paused:
            return ""
        reason, duty.gap_reason = duty.gap_reason, ""
        return reason

    def _note_lag(self, block: Block) -> None:
        """Hear fewer windows rather than hear them ever later."""
        if math.isnan(block.arrived_s) or block.start + len(block.samples) < self._until:
            return  # it was left waiting on purpose
        stages = self.stages
        lag_s = max(0.0, self._block_s - block.arrived_s)
        stages.health.lag_s = max(stages.health.lag_s, lag_s)
        if lag_s > LAG_S:
            self._begin_state("behind", f"{lag_s:.1f} s behind the microphone; every second window is left out")
            stages.listener.thin = True
        elif lag_s < NO_LAG_S and stages.listener.thin:
            stages.listener.thin = False
            self._end_state("behind")

    def _reopen_if_deaf(self, now_s: float) -> None:
        """Open the source again while it gives no sound worth hearing: at once, then with growing pauses, for ever."""
        deaf = [state for state in self.stages.health.states if state in REOPENED_FOR]
        if not deaf:
            if now_s >= self._reopen_s:
                self._reopen_pause_s = FIRST_REOPENING_S
            return
        if now_s < self._reopen_s:
            return
        self._reopen_s = now_s + self._reopen_pause_s
        self._reopen_pause_s = min(2 * self._reopen_pause_s, LONGEST_REOPENING_S)
        log.info("opening the microphone again: %s", ", ".join(deaf))
        self.stages.reader.reopen(", ".join(deaf))

    def _note_states(self, changes: Sequence[StateChange]) -> None:
        for change in changes:
            if change.begins:
                self._begin_state(change.name, change.detail)
            else:
                self._end_state(change.name)

    def _begin_state(self, name: str, reason: str) -> None:
        if self.stages.health.begin(name, self.stages.clock.monotonic_s()):
            log.warning("%s: %s", name, reason)
            self.stages.journal.event("state_begins", state=name, reason=reason)

    def _end_state(self, name: str) -> None:
        held_s = self.stages.health.end(name, self.stages.clock.monotonic_s())
        if held_s is not None:
            log.info("%s is over after %.0f s", name, held_s)
            self.stages.journal.event("state_ends", state=name, held_s=round(held_s, 1), reason="seen working again")

    def _keep_time(self) -> None:
        """Once a minute a line of journal, every few minutes a heartbeat."""
        stages, now_s = self.stages, self.stages.clock.monotonic_s()
        changed = self._keep_power(now_s)
        # sound, or another try, or a pause that is meant: a reader that is stuck in a driver gives none of them
        stages.watchdog.see((self._expected, stages.reader.reopenings, now_s if self._paused else 0.0), now_s)
        if not self._paused:
            self._reopen_if_deaf(now_s)
        if now_s - self._lost_s >= _CALM_S:
            self._end_state("overrun")
        if now_s - self._minute_s >= MINUTE_S:
            self._minute_s = now_s
            self._write_minute()
        heartbeat_s = stages.heartbeat_s if stages.duty is None else stages.duty.heartbeat_s(stages.heartbeat_s)
        if stages.uplink is not None and (changed or now_s - self._beat_s >= heartbeat_s):
            self._beat_s = now_s
            self._note_storage()
            stages.health.heartbeat_s = heartbeat_s
            beat = stages.health.heartbeat(
                stages.clock.now(), stages.outbox.counts(), stages.reader.reopenings, stages.journal.bytes_written
            )
            stages.uplink.beat(beat)

    def _keep_power(self, now_s: float) -> bool:
        """Let the power policy do its work; return whether its level has changed."""
        duty = self.stages.duty
        if duty is None:
            return False
        was_paused = duty.paused
        changed = duty.keep(now_s)
        self.stages.health.battery = duty.battery()
        if was_paused and not duty.paused:
            self.stages.hearing.rest()  # the microphone has its time to open again before it is called silent
        return changed

    def _write_minute(self) -> None:
        stages = self.stages
        stages.journal.minute(
            level_dbfs=self._minute.take_level_dbfs(),
            queue=stages.outbox.counts().waiting,
            battery=stages.health.battery,
            gaps=self._minute.take_gaps(),
            states=stages.health.states,
            more={**({} if stages.duty is None else stages.duty.minute()), **self._minute.take_more()},
        )
        states = ", ".join(stages.health.states) or "hears well"
        heard_h = stages.health.heard_s / 3_600
        stages.watchdog.say(f"{heard_h:.1f} h heard, {stages.outbox.counts().waiting} alerts wait, {states}")
        for dropped in stages.outbox.take_dropped():
            stages.journal.event(
                "alert_dropped", alert_id=dropped.alert_id, revision=dropped.revision, reason=dropped.reason
            )

    def _note_storage(self) -> None:
        """The journal and the outbox go around a disk that refuses; the station must hear of it."""
        free_mb = disk_free_mb(self.stages.health.folder)
        full = f"{1_000 * free_mb:.0f} kB free" if free_mb is not None and free_mb < LEAST_FREE_MB else ""
        for name, problem in (
            ("disk_failed", self.stages.outbox.disk_error),
            ("journal_failed", self.stages.journal.state),
            ("disk_full", full),
        ):
            if problem:
                self._begin_state(name, problem)
            else:
                self._end_state(name)

    def _finish(self) -> None:
        """Close what is open: what comes after a stop is another event."""
        stages, rate = self.stages, self.stages.listener.manifest.features.sample_rate
        for alert in stages.reporter.closings(stages.listener.finish(), self._level_dbfs):
            self._keep(alert)
        if stages.duty is not None and stages.duty.gap_reason and self._expected is not None:
            now = self._expected + round((stages.clock.monotonic_s() - self._block_s) * rate)
            self._minute.gap(now / rate, stages.clock.monotonic_s() - self._block_s, stages.duty.gap_reason)
        self._write_minute()


def drain(outbox: Outbox, clock: DeviceClock, stop: threading.Event, longest_s: float) -> int:
    """Wait until the sender has emptied the outbox; return how many alerts still wait."""
    end_s = clock.monotonic_s() + longest_s
    while (waiting := outbox.counts().waiting) and clock.monotonic_s() < end_s and not stop.wait(0.1):
        pass
    return waiting


def supervised(name: str, body: Callable[[threading.Event], None], stop: threading.Event) -> threading.Thread:
    """Return a started thread that runs `body` again, after a pause, if it ever fails: deaf is worse than late."""

    def keep_running() -> None:
        pause_s = 1.0
        while not stop.is_set():
            try:
                body(stop)
                return
            except AgentError as error:
                log.error("%s stopped: %s; again in %.0f s", name, error, pause_s)  # noqa: TRY400  # one line for people
            except Exception:  # the supervisor: whatever it is, it is written down and the half starts again
                log.exception("%s stopped by a fault of its own; again in %.0f s", name, pause_s)
            stop.wait(pause_s)
            pause_s = min(2 * pause_s, 60.0)

    thread = threading.Thread(target=keep_running, name=name, daemon=True)
    thread.start()
    return thread
