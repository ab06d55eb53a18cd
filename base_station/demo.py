"""`demo`: a forest of simulated phones with a week behind it and events that go on, to try everything at once.

It fills a database of its own through the same doors as the real one; nothing in it was ever heard.
"""

import argparse
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from sqlalchemy import insert

from agent import VERSION, synth
from agent.alert import Alert, Battery, Clock, Heartbeat, LogMelImage, Position
from agent.errors import ConfigError
from agent.features import FeatureConfig, log_mel
from agent.signing import new_key
from base_station import tables
from base_station.contacts import Contact
from base_station.forest import Forest, ForestConfig, grow
from base_station.inbox import iso
from base_station.incidents import Heard
from base_station.keys import KeyRing, open_ring
from base_station.locate import Place
from base_station.settings import Settings, listening_socket, prepare_folder
from base_station.store import Onset, Store
from base_station.verdicts import Verdict, Verdicts
from base_station.watch import ticking

DONE = 0
WEEK = timedelta(days=7)
N_DEVICES = 200
BEAT_S = 300.0
LIVE_EVERY = timedelta(minutes=3)
"""Between the beginnings of live events."""

_MARK = "demo"
_MODEL = "5eed5eed5eed5eed"
_DIED = ("tree-017", "tree-113")
_VANISHED = ("tree-196", "tree-197", "tree-198", "tree-199")
_DEAF = "tree-042"
_HOT = "tree-077"
_UNSTEADY = "tree-005"
_GONE_AT, _BACK_AT = 3, 9
"""Hours, UTC, in which it is off."""


def run_demo(options: argparse.Namespace) -> int:
    """Fill and serve; in a folder that goes with the process where none is named."""
    if options.data is not None:
        return _run(options, options.data)
    with tempfile.TemporaryDirectory(prefix="curupira-demo-") as folder:
        return _run(options, Path(folder))


def _run(options: argparse.Namespace, data: Path) -> int:
    settings = Settings(data=data, port=options.port)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(DONE))
    prepare_folder(data)
    with closing(Store(settings.database_url)) as store:
        _own(store)
        ring = open_ring(settings.key_file, make=True)
        if not store.devices():
            print("growing a forest with a week behind it …", flush=True)
            n_alerts = fill(store, ring, datetime.now(UTC), seed=1)
            print(f"{N_DEVICES} phones, {n_alerts} alerts", flush=True)
        if options.fill_only:
            return DONE
        from base_station.serve import serve

        with listening_socket(settings) as listening, ticking(Live(store, _now, seed=2)):
            serve(settings, listening, now=_now, on_ready=lambda url: print(f"page: {url}", flush=True))
    return DONE


def _now() -> datetime:
    return datetime.now(UTC)


def _own(store: Store) -> None:
    """Mark an empty database as a demo's; refuse one that is a real station's."""
    meta = tables.meta
    with store.database.write() as connection:
        marked = connection.execute(meta.select().where(meta.c.name == _MARK)).one_or_none()
        used = connection.execute(tables.devices.select().limit(1)).first()
        if marked is None and used is not None:
            raise ConfigError("--data: is a real station's; the demo wants a folder of its own")
        if marked is None:
            connection.execute(insert(meta).values(name=_MARK, value="1"))


def fill(store: Store, ring: KeyRing, now: datetime, seed: int) -> int:
    """Fill an empty database with a week; return the number of alerts."""
    begin = now - WEEK
    forest = grow(_config(hours=WEEK.total_seconds() / 3600, saws_per_hour=0.08, storms=1, outages=1), begin, seed)
    for name in forest.devices:
        store.add_device(name, ring.seal(new_key()), begin - timedelta(days=1))
    _past_hours(store, sorted(forest.devices), begin, now, seed)
    pictures = _pictures(seed)
    heard = [alert for alert in forest.heard if alert.received_utc <= now]
    counters: dict[str, int] = {}
    for alert in heard:
        _close(store, alert, _open(store, alert, counters, pictures), counters)
    for name, place in forest.devices.items():
        beat = _heartbeat(name, place, now, seed)
        store.keep_heartbeat(_contact(name, counters, _last_call(name, now)), beat)
    _judge(store, forest, heard)
    return len(heard)


class Live:
    """Lets the forest go on: heartbeats, and now and then a saw."""

    def __init__(self, store: Store, now: Callable[[], datetime], seed: int) -> None:
        """Take the database and the time."""
        self._store = store
        self._now = now
        self._seed = seed
        self._places = grow(_config(hours=0.01), now(), 1).devices
        self._pictures = _pictures(seed)
        self._counters = {device.device_id: device.highest_counter for device in store.devices()}
        self._next = now()
        self._beat: dict[str, datetime] = {}
        self._coming: list[Heard] = []
        self._open: list[tuple[Heard, Alert]] = []

    def tick(self) -> None:
        """Send what is due."""
        now = self._now()
        if now >= self._next:
            self._next = now + LIVE_EVERY
            self._seed += 1
            forest = grow(_config(hours=0.02, saws_per_hour=100.0, false_per_device_day=0.0), now, self._seed)
            self._coming += [replace(alert, place=self._places[alert.device_id]) for alert in forest.heard[:12]]
        due = [alert for alert in self._coming if alert.received_utc <= now]
        self._coming = [alert for alert in self._coming if alert.received_utc > now]
        for alert in due:
            self._open.append((alert, _open(self._store, alert, self._counters, self._pictures)))
        for alert, opening in [each for each in self._open if each[0].last_utc <= now]:
            _close(self._store, alert, opening, self._counters)
            self._open.remove((alert, opening))
        for idx, (name, place) in enumerate(self._places.items()):
            last = self._beat.setdefault(name, now - timedelta(seconds=BEAT_S * (idx % 20) / 20))
            if (now - last).total_seconds() >= BEAT_S and name not in _DIED + _VANISHED:
                self._beat[name] = now
                contact = _contact(name, self._counters, now)
                self._store.keep_heartbeat(contact, _heartbeat(name, place, now, self._seed))

    def leave(self) -> None:
        """Nothing is held."""


def _config(**changes: float) -> ForestConfig:
    return replace(ForestConfig(n_devices=N_DEVICES), **changes)  # type: ignore[arg-type]  # numbers all


def _last_call(name: str, now: datetime) -> datetime:
    if name in _DIED:
        return now - timedelta(days=2)
    if name in _VANISHED:
        return now - timedelta(hours=3, minutes=_VANISHED.index(name))
    return now - timedelta(seconds=int(name[-3:]) % 290)


def _contact(name: str, counters: dict[str, int], at: datetime) -> Contact:
    counters[name] = counters.get(name, 0) + 1
    return Contact(device_id=name, boot_id="de300000-0001", counter=counters[name], at_utc=at, clock_offset_s=0.0)


def _open(store: Store, heard: Heard, counters: dict[str, int], pictures: Mapping[str, Sequence[LogMelImage]]) -> Alert:
    """Keep an alert's opening, as a device would send it."""
    some = pictures[heard.label]
    opening = _alert(heard, some[sum(heard.alert_id.encode()) % len(some)])
    contact = _contact(heard.device_id, counters, heard.received_utc)
    store.keep_alert(contact, opening, opening.to_json(), _onset(heard))
    return opening


def _close(store: Store, heard: Heard, opening: Alert, counters: dict[str, int]) -> None:
    """Keep its closing."""
    lasted_s = (heard.last_utc - heard.first_utc).total_seconds()
    closed = replace(opening, revision=1, state="closed", raised_s=opening.onset_s + lasted_s, log_mel=None)
    contact = _contact(heard.device_id, counters, max(heard.last_utc, heard.received_utc))
    store.keep_alert(contact, closed, closed.to_json(), _onset(heard))


def _onset(heard: Heard) -> Onset:
    return Onset(utc=heard.first_utc, source="device" if heard.dated else "received")


def _alert(heard: Heard, picture: LogMelImage) -> Alert:
    place = heard.place
    return Alert(
        alert_id=heard.alert_id,
        revision=0,
        state="open",
        device_id=heard.device_id,
        label=heard.label,
        score=round(heard.score, 3),
        onset_s=100.0,
        raised_s=103.0,
        clock=_clock(heard.received_utc),
        model_digest=_MODEL,
        level_dbfs=round(heard.level_dbfs, 1),
        position=None if place is None else Position(latitude=place.latitude, longitude=place.longitude),
        log_mel=picture,
    )


def _clock(at: datetime) -> Clock:
    return Clock(boot_id="de300000-0001", monotonic_s=5000.0, utc=iso(at), utc_certainty="synced")


def _heartbeat(name: str, place: Place, now: datetime, seed: int) -> Heartbeat:
    rng = np.random.default_rng([seed, int(name[-3:]), int(now.timestamp()) // 3600])
    hot = 52.0 if name == _HOT else float(rng.normal(31, 3))
    return Heartbeat(
        device_id=name,
        version=VERSION,
        clock=_clock(now),
        model_digest=_MODEL,
        uptime_s=500_000.0,
        audio_s=499_000.0,
        audio_per_wall=0.0 if name == _DEAF else 1.0,
        windows=330_000,
        classified=160_000,
        top_scores={"chainsaw": round(float(rng.uniform(0, 0.3)), 3), "engine": round(float(rng.uniform(0, 0.3)), 3)},
        level_dbfs=round(_level_dbfs(now, rng), 1),
        states=("zeros",) if name == _DEAF else (),
        queue=0,
        dropped_s=0.0,
        disk_free_mb=4000.0,
        rss_mb=66.0,
        position=Position(latitude=place.latitude, longitude=place.longitude),
        battery=Battery(
            percent=round(float(rng.uniform(40, 100))), temperature_c=round(hot, 1), charging=6 < now.hour < 18
        ),
    )


def _level_dbfs(at: datetime, rng: np.random.Generator) -> float:
    """Return a level as the hours of a forest have it: insects at night, birds at dawn."""
    return float(-48.0 + 4.0 * np.cos(2 * np.pi * (at.hour - 21) / 24) + rng.normal(0, 1.5))


def _past_hours(store: Store, names: Sequence[str], begin: datetime, now: datetime, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows: list[dict[str, object]] = []
    at = begin.replace(minute=0, second=0, microsecond=0)
    while at < now - timedelta(hours=1):
        rows += [
            _past_hour(name, at, begin, rng) for name in names if at < _last_call(name, now) and not _off(name, at)
        ]
        at += timedelta(hours=1)
    with store.database.write() as connection:
        connection.execute(insert(tables.hours), rows)


def _past_hour(name: str, at: datetime, begin: datetime, rng: np.random.Generator) -> dict[str, object]:
    """Return an hour of a phone with a panel: charged and warm by day, emptier by night."""
    day = np.cos(2 * np.pi * (at.hour - 13) / 24)
    back = at.replace(hour=_BACK_AT) - timedelta(days=int(at.hour < _BACK_AT))
    started = max(begin, back) if name == _UNSTEADY else begin
    return {
        "device_id": name,
        "begin_utc": at,
        "n_beats": 12,
        "level_sum": 12 * _level_dbfs(at, rng),
        "first_utc": at,
        "last_utc": at + timedelta(minutes=55),
        "started_utc": started,
        "restarted_utc": started,
        "start_reason": "power loss" if started > begin else "",
        "heard_sum": 0.0 if name == _DEAF else 12 * float(rng.uniform(0.98, 1.0)),
        "paused_s": 0.0,
        "percent_sum": 12 * float(np.clip(72 + 20 * day + rng.normal(0, 2), 5, 100)),
        "n_percent": 12,
        "most_c": float(round((46 if name == _HOT else 29) + 6 * day + rng.normal(0, 1), 1)),
    }


def _off(name: str, at: datetime) -> bool:
    """Say whether a phone was off: one with a worn battery is, late every night."""
    return name == _UNSTEADY and _GONE_AT <= at.hour < _BACK_AT


def _pictures(seed: int) -> dict[str, list[LogMelImage]]:
    """Return what the model would see of some synthesised saws in the forest."""
    config = FeatureConfig()
    images: list[LogMelImage] = []
    for n in range(6):
        rng = np.random.default_rng([seed, n])
        samples = synth.chainsaw(3.2, rng) * np.float32(0.05 * (n + 1)) + synth.insects(3.2, rng) * np.float32(0.05)
        frames = log_mel(samples.astype(np.float32), config)[: config.n_frames]
        images.append(
            LogMelImage.of(
                frames,
                hop_s=config.hop / config.sample_rate,
                mel_min_hz=config.mel_min_hz,
                mel_max_hz=config.mel_max_hz,
            )
        )
    return {"chainsaw": images}


def _judge(store: Store, forest: Forest, heard: Sequence[Heard]) -> None:
    """Let a ranger have judged some of the older alerts, by the truth."""
    verdicts = Verdicts(store)
    for alert in heard[: len(heard) // 2 : 7]:
        truth = forest.truth[alert.alert_id]
        right = truth >= 0 and forest.sources[truth].kind == "saw"
        verdicts.add(
            Verdict(
                alert_id=alert.alert_id,
                verdict="true" if right else "false",
                heard="" if right else "storm" if truth >= 0 else "",
                chosen="random",
                judge="demo",
                note="",
                at_utc=alert.received_utc + timedelta(hours=5),
            )
        )
