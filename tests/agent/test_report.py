"""Detections become alerts: one id for both revisions, the picture with the opening, and the station reads each."""

import uuid
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.alert import LARGEST_ALERT_BYTES, Alert, Battery, Clock, Position
from agent.config import DeviceConfig
from agent.decide import Detection
from agent.listen import Window
from agent.manifest import Manifest
from agent.report import Reporter

Maker = Callable[..., Manifest]

RATE = 16_000
FRAMES = np.random.default_rng(0).normal(-6, 3, (94, 64)).astype(np.float32)
POSITION = Position(latitude=-3.1, longitude=-60.0)


def detection(label: str = "chainsaw", *, opens: bool = True, alert: bool = True) -> Detection:
    return Detection(label=label, opens=opens, onset=12 * RATE, raised=15 * RATE + 8, score=0.987654, alert=alert)


def window(*detections: Detection, frames: bool = True, level_dbfs: float = -31.456) -> Window:
    return Window(
        start=12 * RATE,
        end=15 * RATE,
        outputs=np.zeros(3, np.int8) if frames else None,
        sampled=False,
        frames=FRAMES if frames else None,
        level_dbfs=level_dbfs,
        detections=detections,
    )


def clocks() -> Iterator[Clock]:
    for second in range(1_000):
        yield Clock(
            boot_id="5d0c77aa",
            monotonic_s=float(second),
            utc=f"2026-11-20T11:42:{second % 60:02}Z",
            utc_certainty="guess",
        )


@pytest.fixture
def reporter(make_manifest: Maker) -> Reporter:
    return make_reporter(make_manifest())


def make_reporter(manifest: Manifest, *, drill: bool = False) -> Reporter:
    return Reporter(
        device=DeviceConfig(id="ipe-07", position=POSITION),
        manifest=manifest,
        now=clocks().__next__,
        battery=lambda: Battery(percent=81.0),
        drill=drill,
    )


def test_an_opening_says_everything(reporter: Reporter) -> None:
    (alert,) = reporter.alerts(window(detection()))
    assert (alert.revision, alert.state, alert.device_id, alert.label) == (0, "open", "ipe-07", "chainsaw")
    assert (alert.score, alert.level_dbfs) == (0.9877, -31.5)
    assert (alert.onset_s, alert.raised_s) == (12.0, 15.0005)
    assert alert.clock.monotonic_s == 0.0
    assert alert.model_digest == reporter.manifest.digest
    assert alert.battery == Battery(percent=81.0)
    assert alert.position == POSITION
    assert not alert.drill
    assert alert.log_mel is not None
    image = alert.log_mel
    assert (image.hop_s, image.mel_min_hz, image.mel_max_hz) == (0.03125, 50.0, 7_600.0)
    assert np.abs(image.low + image.step * image.pixels() - FRAMES).max() < image.step


def test_a_closing_has_the_id_of_its_opening_and_no_picture(reporter: Reporter) -> None:
    (opening,) = reporter.alerts(window(detection()))
    (closing,) = reporter.alerts(window(detection(opens=False)))
    assert (closing.revision, closing.state, closing.alert_id) == (1, "closed", opening.alert_id)
    assert closing.log_mel is None
    assert closing.clock.monotonic_s == 1.0


def test_the_next_event_has_another_id(reporter: Reporter) -> None:
    alerts = [alert for opens in (True, False) * 3 for alert in reporter.alerts(window(detection(opens=opens)))]
    assert len({alert.alert_id for alert in alerts}) == 3
    assert [alert.revision for alert in alerts] == [0, 1] * 3
    assert {uuid.UUID(alert.alert_id).version for alert in alerts} == {4}


def test_labels_do_not_share_an_event(reporter: Reporter) -> None:
    saw, engine = reporter.alerts(window(detection(), detection("engine")))
    (engine_closed,) = reporter.alerts(window(detection("engine", opens=False)))
    (saw_closed,) = reporter.closings((detection(opens=False),), -40.0)
    assert saw.alert_id != engine.alert_id
    assert engine_closed.alert_id == engine.alert_id
    assert (saw_closed.alert_id, saw_closed.state, saw_closed.level_dbfs) == (saw.alert_id, "closed", -40.0)


def test_what_is_not_reported_makes_no_alert(reporter: Reporter) -> None:
    assert reporter.alerts(window()) == []
    assert reporter.alerts(window(detection("storm", alert=False))) == []
    assert reporter.closings((detection("storm", opens=False, alert=False),), -40.0) == []


def test_a_window_without_frames_opens_without_a_picture(reporter: Reporter) -> None:
    (alert,) = reporter.alerts(window(detection(), frames=False))
    assert alert.log_mel is None


@pytest.mark.parametrize("level_dbfs", [float("-inf"), float("nan")])
def test_digital_silence_has_a_level_that_can_be_sent(reporter: Reporter, level_dbfs: float) -> None:
    (alert,) = reporter.alerts(window(detection(), level_dbfs=level_dbfs))
    assert Alert.from_json(alert.to_json()).level_dbfs == -120.0


def test_a_drill_says_so(make_manifest: Maker) -> None:
    (alert,) = make_reporter(make_manifest(), drill=True).alerts(window(detection()))
    assert alert.drill


def test_a_device_that_knows_no_battery_sends_none(make_manifest: Maker) -> None:
    reporter = Reporter(device=DeviceConfig(), manifest=make_manifest(), now=clocks().__next__)
    (alert,) = reporter.alerts(window(detection()))
    assert alert.battery is None
    assert alert.position is None
    assert alert.device_id == "unnamed"


@given(
    toggles=st.lists(st.sampled_from(["chainsaw", "engine"]), max_size=30),
    score=st.floats(0, 1),
    level_dbfs=st.floats(-120, 20),
)
def test_the_station_reads_every_alert(
    make_manifest: Maker, toggles: list[str], score: float, level_dbfs: float
) -> None:
    reporter = make_reporter(make_manifest())
    open_labels: set[str] = set()
    for label in toggles:
        found = Detection(label=label, opens=label not in open_labels, onset=0, raised=48_000, score=score, alert=True)
        open_labels ^= {label}
        for alert in reporter.alerts(window(found, level_dbfs=level_dbfs)):
            body = alert.to_json()
            assert len(body) < LARGEST_ALERT_BYTES
            assert Alert.from_json(body) == alert
