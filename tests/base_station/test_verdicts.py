"""Verdicts are kept, measured and become a data set that training reads."""

import csv
import io
import wave
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import insert

from agent.alert import LogMelImage
from agent.features import FeatureConfig, window_features
from base_station import backup, tables
from base_station.labels import export_labels, target_of
from base_station.precision import Judged, at_random, by_uncertainty, chance, precisions, wilson
from base_station.retention import Retention, prune
from base_station.verdicts import Verdict, Verdicts

BEGIN = datetime(2026, 11, 20, tzinfo=UTC)
both = pytest.mark.parametrize("database_url", ["sqlite", "postgresql"], indirect=True)


def judged(verdict: str, score: float = 0.9) -> Judged:
    return Judged(label="chainsaw", score=score, verdict=verdict)


@pytest.mark.parametrize(
    ("right", "total", "low", "high"),
    [(0, 0, 0.0, 1.0), (0, 10, 0.0, 0.278), (10, 10, 0.722, 1.0), (8, 10, 0.490, 0.943), (81, 263, 0.255, 0.366)],
)
def test_the_interval_is_wilsons(right, total, low, high):
    assert wilson(right, total) == pytest.approx((low, high), abs=5e-4)


@given(right=st.integers(0, 500), wrong=st.integers(0, 500))
def test_the_interval_holds_the_share_and_narrows_with_more(right, wrong):
    low, high = wilson(right, right + wrong)
    assert 0 <= low <= high <= 1
    if right + wrong:
        assert low <= right / (right + wrong) <= high
        narrow = wilson(10 * right, 10 * (right + wrong))
        assert narrow[1] - narrow[0] < high - low


def test_verdicts_are_counted_by_key():
    counts = [("chainsaw", "true", 2), ("engine", "true", 1), ("chainsaw", "false", 1), ("chainsaw", "unsure", 1)]
    saw, engine = precisions(counts)
    assert (saw.key, saw.right, saw.wrong, saw.unsure) == ("chainsaw", 2, 1, 1)
    assert (engine.key, engine.right, engine.wrong, engine.unsure) == ("engine", 1, 0, 0)
    assert precisions([("engine", "unsure", 3)])[0].share is None


@both
def test_precision_is_told_by_label_device_and_month_and_drills_are_left_out(station, ipe, alert_of):
    for label, verdict, drill in (("chainsaw", "true", False), ("engine", "false", False), ("engine", "true", True)):
        alert = alert_of("ipe-07", label=label, drill=drill, log_mel=None)
        station.send(ipe, alert)
        say(station, alert.alert_id, verdict, chosen="random")
    told = {
        by: [(row["key"], row["right"], row["wrong"]) for row in station.get("/v1/precision", by=by)["precision"]]
        for by in ("label", "device", "month")
    }
    assert told == {
        "label": [("chainsaw", 1, 0), ("engine", 0, 1)],
        "device": [("ipe-07", 1, 1)],
        "month": [("2026-11", 1, 1)],
    }


@given(scores=st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=60), score=st.floats(0, 1))
def test_a_chance_is_one(scores, score):
    assert 0 <= chance(score, sorted(scores)) <= 1


def test_the_most_doubtful_comes_first_and_verdicts_change_what_is_doubtful():
    waiting = [("high", "chainsaw", 0.98), ("middle", "chainsaw", 0.6)]
    assert by_uncertainty(waiting, [])[0] == "middle"
    known = [judged("false", 0.6)] * 30 + [judged("true", 0.98)] * 15 + [judged("false", 0.98)] * 15
    assert by_uncertainty(waiting, known)[0] == "high"


@given(ids=st.lists(st.text(max_size=5), unique=True), seed=st.text(max_size=5))
def test_a_random_order_loses_nobody_and_does_not_hang_on_the_order_of_arrival(ids, seed):
    assert at_random(ids, seed) == at_random(list(reversed(ids)), seed)
    assert sorted(at_random(ids, seed)) == sorted(ids)


def say(station, alert_id: str, verdict: str, **more):
    body = {"verdict": verdict, "judge": "Maria", **more}
    return station.request("POST", f"/v1/alerts/{alert_id}/verdicts", json=body)


@both
def test_what_was_said_stays_and_the_latest_counts(station, ipe, alert_of):
    alert = alert_of("ipe-07", log_mel=None)
    station.send(ipe, alert)
    assert say(station, alert.alert_id, "true", chosen="random").status_code == 201
    station.clock.pass_s(60)
    second = say(station, alert.alert_id, "false", heard="motorbike", chosen="random", note="João's bike")
    assert second.json()["at_utc"] == "2026-11-20T03:01:00.000Z"
    said = station.get(f"/v1/alerts/{alert.alert_id}/verdicts")["verdicts"]
    assert [(each["verdict"], each["heard"]) for each in said] == [("true", ""), ("false", "motorbike")]
    (only,) = station.get("/v1/precision")["precision"]
    assert (only["key"], only["right"], only["wrong"]) == ("chainsaw", 0, 1)


@both
def test_what_was_judged_leaves_the_queue_and_what_was_chosen_by_doubt_does_not_measure(station, ipe, alert_of):
    alerts = [alert_of("ipe-07", log_mel=None, score=score) for score in (0.99, 0.55, 0.8)]
    for alert in [*alerts, alert_of("ipe-07", log_mel=None, drill=True)]:
        station.send(ipe, alert)
    queue = station.get("/v1/review", order="uncertain")["alert_ids"]
    assert queue == [alerts[1].alert_id, alerts[2].alert_id, alerts[0].alert_id]
    assert sorted(station.get("/v1/review", order="random")["alert_ids"]) == sorted(queue)
    say(station, alerts[1].alert_id, "false", chosen="uncertain")
    assert alerts[1].alert_id not in station.get("/v1/review", order="uncertain")["alert_ids"]
    assert station.get("/v1/precision")["precision"] == []
    assert len(station.get("/v1/precision", chosen="all")["precision"]) == 1


def test_verdicts_change_how_sure_an_incident_is(station, ipe, alert_of):
    for _ in range(5):
        alert = alert_of("ipe-07", log_mel=None)
        station.send(ipe, alert)
        before = station.get("/v1/incidents")["incidents"][0]["confidence"]
        say(station, alert.alert_id, "false", chosen="random")
        assert station.get("/v1/incidents")["incidents"][0]["confidence"] < before


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"verdict": "maybe", "judge": "x"}, "verdict"),
        ({"verdict": "true"}, "judge"),
        ({"verdict": "true", "judge": "x", "heard": "<script>"}, "heard"),
        ({"verdict": "true", "judge": "x", "note": "a\0b"}, "note"),
        ({"verdict": "true", "judge": "x", "surprise": 1}, "surprise"),
        ({"verdict": "true", "judge": "x" * 64}, "judge"),
    ],
)
def test_a_wrong_verdict_is_named(station, ipe, alert_of, body, field):
    alert = alert_of("ipe-07", log_mel=None)
    station.send(ipe, alert)
    answer = station.request("POST", f"/v1/alerts/{alert.alert_id}/verdicts", json=body)
    assert (answer.status_code, answer.json()["field"]) == (422, field)
    assert say(station, "nothing", "true").status_code == 404


def test_a_form_of_another_page_judges_nothing(station, ipe, alert_of):
    """A browser sends a form across origins without asking; it cannot send JSON so."""
    alert = alert_of("ipe-07", log_mel=None)
    station.send(ipe, alert)
    path = f"/v1/alerts/{alert.alert_id}/verdicts"
    content = '{"verdict": "true", "judge": "x"}'
    for kind in ("text/plain", "application/x-www-form-urlencoded", None):
        headers = {} if kind is None else {"Content-Type": kind}
        assert station.request("POST", path, content=content, headers=headers).status_code == 422
    assert station.get(path)["verdicts"] == []


def test_judged_alerts_are_kept_when_others_go(station, ipe, alert_of):
    alerts = [alert_of("ipe-07"), alert_of("ipe-07")]
    for alert in alerts:
        station.send(ipe, alert)
    say(station, alerts[0].alert_id, "true")
    station.clock.pass_s(86_400 * 100)
    prune(station.store.database, Retention(alert_days=30, picture_days=10), station.clock())
    (kept,) = station.store.events()
    assert (kept.alert_id, kept.log_mel_revision) == (alerts[0].alert_id, 0)
    assert list(backup.faults(station.store, station.keys, deep=True)) == []


@pytest.mark.parametrize(
    ("label", "verdict", "heard", "expected"),
    [
        ("chainsaw", "true", "", ("chainsaw", "chainsaw")),
        ("chainsaw", "true", "two_saws", ("two_saws", "chainsaw")),
        ("chainsaw", "false", "", ("not_chainsaw", "other")),
        ("chainsaw", "false", "engine", ("engine", "engine")),
        ("chainsaw", "false", "storm", ("storm", "storm")),
        ("chainsaw", "false", "cicada", ("cicada", "other")),
        ("chainsaw", "false", "chainsaw", ("chainsaw", "other")),
    ],
)
def test_a_verdict_says_what_a_clip_is_for(label, verdict, heard, expected):
    assert target_of(label, verdict, heard) == expected


def wav(seconds: float) -> bytes:
    content = io.BytesIO()
    with wave.open(content, "wb") as sound:
        sound.setparams((1, 2, 16_000, 0, "NONE", ""))
        sound.writeframes((np.sin(np.arange(int(16_000 * seconds)) / 9) * 8000).astype("<i2").tobytes())
    return content.getvalue()


@both
def test_what_was_judged_becomes_a_data_set_that_training_reads(station, ipe, alert_of, tmp_path, monkeypatch):
    from model_export.datasets import read_clips, read_sound

    alerts = [alert_of("ipe-07") for _ in range(4)]
    for alert in alerts:
        station.send(ipe, alert)
    with station.store.database.write() as connection:
        for alert in alerts[:2]:
            row = {"alert_id": alert.alert_id, "revision": 0, "kind": "clip", "data": wav(2.0)}
            connection.execute(insert(tables.blobs).values(**row))
    say(station, alerts[0].alert_id, "true")
    say(station, alerts[1].alert_id, "false", heard="motorbike", judge="=cmd()")
    say(station, alerts[2].alert_id, "false", heard="storm")
    say(station, alerts[3].alert_id, "unsure")
    for _ in range(2):  # again: the same
        done = export_labels(station.store, tmp_path / "set")
        assert (done.sounds, done.log_mels, done.left_out) == (2, 3, 1)
    monkeypatch.setattr("model_export.datasets.NEEDED", ())  # here it is read without the set that it adds to
    clips = read_clips(tmp_path / "set")
    assert sorted((clip.target, clip.kind) for clip in clips) == [("chainsaw", "chainsaw"), ("other", "motorbike")]
    assert len({clip.group for clip in clips}) == 1  # one device, one day
    assert all(len(read_sound(clip.path)) == 32_000 for clip in clips)
    with (tmp_path / "set" / "log_mels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["target"] for row in rows} == {"chainsaw", "other", "storm"}
    assert {row["judge"] for row in rows} == {"Maria", "'=cmd()"}
    assert {row["fold"] for row in rows} == {""}
    seen = np.load(tmp_path / "set" / rows[0]["path"])
    image = station.store.log_mel(rows[0]["alert_id"], 0)
    assert seen["log_mel"].shape == (image.n_frames, image.n_mels)
    assert float(seen["log_mel"].min()) == pytest.approx(image.low)


def test_what_the_model_saw_teaches_without_any_sound(station, ipe, alert_of, tmp_path):
    from model_export.verified import read_verified

    features = FeatureConfig()
    seen = np.random.default_rng(1).normal(-5, 2, (features.n_frames, features.n_mels)).astype(np.float32)
    hop_s = features.hop / features.sample_rate
    picture = LogMelImage.of(seen, hop_s=hop_s, mel_min_hz=features.mel_min_hz, mel_max_hz=features.mel_max_hz)
    alerts = [alert_of("ipe-07", log_mel=picture), alert_of("ipe-07", log_mel=picture)]
    for alert, verdict in zip(alerts, ("true", "false"), strict=True):
        station.send(ipe, alert)
        say(station, alert.alert_id, verdict)
    export_labels(station.store, tmp_path / "set")
    found = read_verified(tmp_path / "set", features)
    assert sorted(zip(found.targets, found.labels[:, 0], strict=True)) == [("chainsaw", 1.0), ("other", 0.0)]
    assert len(set(found.groups)) == 1  # one device, one day
    assert np.abs(found.windows[0] - window_features(seen)).max() < picture.step


def test_every_saying_is_kept_for_an_alert_and_none_for_nobody(store, station_clock):
    verdict = Verdict(
        alert_id="x", verdict="true", heard="", chosen="other", judge="M", note="", at_utc=station_clock()
    )
    assert not Verdicts(store).add(verdict)
