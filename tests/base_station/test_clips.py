"""Clips at the station: only of alerts that it has, only by who sent them, and each once."""

import numpy as np
import pytest
from sqlalchemy import delete

from agent.clip import LARGEST_CLIP_BYTES, wav_bytes
from base_station import tables
from base_station.accounts import Accounts
from base_station.backup import faults

SOUND = wav_bytes((3_000 * np.sin(np.arange(32_000) / 5)).astype(np.int16))


@pytest.fixture
def alert(station, ipe, alert_of):
    sent = alert_of("ipe-07")
    assert station.send(ipe, sent).status_code == 201
    return sent


def test_a_clip_is_kept_and_played(station, ipe, alert):
    assert station.get("/v1/alerts")["alerts"][0]["clip_url"] is None
    response, seal = station.post(ipe, f"/v1/clips/{alert.alert_id}", SOUND)
    assert (response.status_code, response.json()["clip"]) == (201, alert.alert_id)
    assert ipe.believes(response, seal)
    (listed,) = station.get("/v1/alerts")["alerts"]
    played = station.request("GET", listed["clip_url"])
    assert (played.content, played.headers["content-type"]) == (SOUND, "audio/wav")


def test_the_same_clip_again_is_receipted_and_another_is_refused(station, ipe, alert):
    path = f"/v1/clips/{alert.alert_id}"
    assert [station.post(ipe, path, SOUND)[0].status_code for _ in range(2)] == [201, 200]
    response, seal = station.post(ipe, path, SOUND[:44] + SOUND[46:48] + SOUND[46:])
    assert response.json()["kind"] == "refused"
    assert ipe.believes(response, seal)


@pytest.mark.parametrize("body", [b"", b"RIFF", SOUND[:-10], b"{}"])
def test_what_is_no_sound_is_refused_for_good(station, ipe, alert, body):
    response, seal = station.post(ipe, f"/v1/clips/{alert.alert_id}", body)
    assert (response.status_code, response.json()["clip"]) == (422, alert.alert_id)
    assert ipe.believes(response, seal)
    assert station.get("/v1/alerts")["alerts"][0]["clip_url"] is None


def test_no_other_device_and_no_unknown_alert_gets_a_clip(station, ipe, alert):
    jatoba = station.add("jatoba-02")
    response, _ = station.post(jatoba, f"/v1/clips/{alert.alert_id}", SOUND)
    assert (response.status_code, response.json()["reason"]) == (422, "no alert of this device has that id")
    response, _ = station.post(ipe, "/v1/clips/5d0c9e0a-0000-4000-8000-00000000dead", SOUND)
    assert response.status_code == 422
    assert station.get("/v1/alerts")["alerts"][0]["clip_url"] is None


def test_a_replayed_clip_request_is_a_matter_of_its_counter(station, ipe, alert):
    path = f"/v1/clips/{alert.alert_id}"
    seal = ipe.seal(path, SOUND)
    station.post(ipe, path, SOUND, seal)
    response, _ = station.post(ipe, path, SOUND, seal)
    assert (response.status_code, response.json()["kind"]) == (409, "counter")


def test_nothing_unsigned_or_too_large_is_taken(station, ipe, alert):
    path = f"/v1/clips/{alert.alert_id}"
    assert station.request("POST", path, content=SOUND).status_code == 401
    seal = ipe.seal("/v1/clips/another", SOUND)
    assert station.post(ipe, path, SOUND, seal)[0].status_code == 401, "the path is signed"
    assert station.post(ipe, path, b"x" * (LARGEST_CLIP_BYTES + 1))[0].status_code == 413
    assert station.request("GET", f"/v1/alerts/{alert.alert_id}/clip.wav").status_code == 404


def test_clips_come_and_are_played_also_once_there_are_people(station, ipe, alert):
    token = Accounts(station.store.database).add_token("map", "viewer", station.clock())
    assert station.request("GET", "/v1/alerts").status_code == 401
    sound = wav_bytes(np.zeros(80_000, np.int16))  # more than the guard lets a person send
    assert station.post(ipe, f"/v1/clips/{alert.alert_id}", sound)[0].status_code == 201
    path = f"/v1/alerts/{alert.alert_id}/clip.wav"
    assert station.request("GET", path).status_code == 401
    assert station.request("GET", path, headers={"Authorization": f"Bearer {token}"}).content == sound


def test_a_clip_beside_it_does_not_hide_a_picture_that_is_gone(station, ipe, alert):
    station.post(ipe, f"/v1/clips/{alert.alert_id}", SOUND)
    assert list(faults(station.store, station.keys, deep=False)) == []
    blobs = tables.blobs.c
    with station.store.database.write() as connection:
        connection.execute(delete(tables.blobs).where(blobs.alert_id == alert.alert_id, blobs.kind == "log_mel"))
    assert [fault for fault in faults(station.store, station.keys, deep=False) if "has lost its picture" in fault]
