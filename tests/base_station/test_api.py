"""The API as devices and programs meet it."""

import asyncio
import json
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import httpx
import pytest

from agent.alert import LARGEST_ALERT_BYTES, Alert
from agent.signing import HEADER_COUNTER, HEADER_DEVICE, HEADER_SIGNATURE, new_key, sign_request
from base_station import api

pytestmark = pytest.mark.parametrize("database_url", ["sqlite", "postgresql"], indirect=True)

GOOD_KINDS = ("receipt", "refused", "counter", "reopened")


def assert_problem(response: httpx.Response, status: int, field: str | None = None) -> None:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    document = response.json()
    assert document["status"] == status
    assert document["detail"]
    assert document.get("field") == field
    assert HEADER_SIGNATURE not in response.headers


def test_an_alert_is_taken_and_listed(station, ipe, alert_of):
    alert = alert_of("ipe-07")
    answer = station.send(ipe, alert)
    assert answer.status_code == 201
    assert answer.json() == {
        "schema": 1,
        "kind": "receipt",
        "alert_id": alert.alert_id,
        "revision": 0,
        "station_utc": "2026-11-20T03:00:00.000Z",
        "takes": ["gzip", "receipts"],
    }
    listed = station.get("/v1/alerts")
    assert listed["before"] is None
    (only,) = listed["alerts"]
    assert only["alert_id"] == alert.alert_id
    assert (only["label"], only["device_id"], only["state"], only["score"]) == ("chainsaw", "ipe-07", "open", 0.97)
    assert only["onset_utc"] == "2026-11-20T02:59:57.000Z"
    whole = station.get(f"/v1/alerts/{alert.alert_id}")
    assert Alert.from_json(json.dumps(whole["revisions"][0]["document"]).encode()) == alert


def test_the_same_bytes_again_get_the_same_receipt_and_no_second_row(station, ipe, alert_of):
    alert = alert_of("ipe-07")
    first, second = station.send(ipe, alert), station.send(ipe, alert)
    assert (first.status_code, second.status_code) == (201, 200)
    assert second.json()["kind"] == "receipt"
    assert second.json()["alert_id"] == alert.alert_id
    assert len(station.get("/v1/alerts")["alerts"]) == 1
    assert len(station.get(f"/v1/alerts/{alert.alert_id}")["revisions"]) == 1


def test_the_same_name_with_another_body_is_refused_for_good(station, ipe, alert_of):
    alert = alert_of("ipe-07")
    station.send(ipe, alert)
    answer = station.send(ipe, replace(alert, score=0.5))
    assert answer.status_code == 422
    assert answer.json()["kind"] == "refused"
    assert (answer.json()["alert_id"], answer.json()["revision"]) == (alert.alert_id, 0)
    assert station.get("/v1/alerts")["alerts"][0]["score"] == 0.97


def test_another_device_can_neither_repeat_nor_close_an_alert(station, ipe, alert_of):
    other = station.add("cedro-01")
    alert = alert_of("ipe-07")
    station.send(ipe, alert)
    for revision, state in ((0, "open"), (1, "closed")):
        theirs = replace(alert, device_id="cedro-01", revision=revision, state=state)
        answer = station.send(other, theirs)
        assert (answer.status_code, answer.json()["kind"]) == (422, "refused")
    assert station.get("/v1/alerts")["alerts"][0]["state"] == "open"


def test_a_closing_revision_closes_the_event(station, ipe, alert_of):
    alert = alert_of("ipe-07")
    station.send(ipe, alert)
    station.send(ipe, replace(alert, revision=1, state="closed", raised_s=60.0, score=0.99, log_mel=None))
    (event,) = station.get("/v1/alerts")["alerts"]
    assert (event["state"], event["revision"], event["score"], event["lasted_s"]) == ("closed", 1, 0.99, 48.0)
    assert event["log_mel_url"].endswith("revision=0")
    assert len(station.get(f"/v1/alerts/{alert.alert_id}")["revisions"]) == 2


def test_a_closing_that_comes_before_its_opening_is_taken(station, ipe, alert_of):
    alert = alert_of("ipe-07")
    station.send(ipe, replace(alert, revision=1, state="closed", raised_s=60.0, log_mel=None))
    station.send(ipe, alert)
    (event,) = station.get("/v1/alerts")["alerts"]
    assert event["state"] == "closed"
    assert event["log_mel_url"] is not None


def test_concurrent_copies_make_exactly_one_row(station, ipe, alert_of):
    alert = alert_of("ipe-07")
    body = alert.to_json()
    seals = [ipe.seal("/v1/alerts", body) for _ in range(12)]
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda seal: station.post(ipe, "/v1/alerts", body, seal)[0], seals))
    kinds = [answer.json()["kind"] for answer in answers]
    assert set(kinds) <= {"receipt", "counter"}  # those overtaken by a later counter are asked to try again
    assert [answer.status_code for answer in answers].count(201) == 1
    assert len(station.get("/v1/alerts")["alerts"]) == 1
    assert len(station.get(f"/v1/alerts/{alert.alert_id}")["revisions"]) == 1


def test_a_copied_request_is_worth_nothing(station, ipe, alert_of):
    body = alert_of("ipe-07").to_json()
    first, seal = station.post(ipe, "/v1/alerts", body)
    contact = station.get("/v1/devices")["devices"][0]["last_contact_utc"]
    station.clock.pass_s(60)
    again, _ = station.post(ipe, "/v1/alerts", body, seal)
    assert (first.status_code, again.status_code) == (201, 409)
    assert again.json()["kind"] == "counter"
    assert again.json()["highest"] == seal.counter
    assert ipe.believes(again, seal)
    assert station.get("/v1/devices")["devices"][0]["last_contact_utc"] == contact


def test_a_device_that_lost_its_counter_comes_back_by_the_challenge(station, ipe, alert_of, heartbeat_of):
    ipe.counter = 5000
    station.send(ipe, heartbeat_of("ipe-07"))
    ipe.counter = 0
    alert = alert_of("ipe-07")
    asked = station.send(ipe, alert)
    assert (asked.status_code, asked.json()["kind"], asked.json()["highest"]) == (409, "counter", 5001)
    challenge = json.dumps({"schema": 1, "nonce": asked.json()["nonce"]}).encode()
    reopened, seal = station.post(ipe, "/v1/challenge", challenge)
    assert reopened.status_code == 200
    assert reopened.json() == {"schema": 1, "kind": "reopened", "highest": 5001}
    assert ipe.believes(reopened, seal)
    ipe.counter = reopened.json()["highest"]
    assert station.send(ipe, alert).status_code == 201


@pytest.mark.parametrize("fault", ["used", "expired", "foreign", "invented"])
def test_a_challenge_is_good_once_for_a_while_and_for_one_device(station, ipe, heartbeat_of, fault):
    other = station.add("cedro-01")
    station.send(ipe, heartbeat_of("ipe-07"))
    ipe.counter = 0
    nonce = station.send(ipe, heartbeat_of("ipe-07")).json()["nonce"]
    answering = other if fault == "foreign" else ipe
    challenge = json.dumps({"schema": 1, "nonce": "0" * 32 if fault == "invented" else nonce}).encode()
    if fault == "expired":
        station.clock.pass_s(301)
    if fault == "used":
        assert station.post(ipe, "/v1/challenge", challenge)[0].json()["kind"] == "reopened"
    answer, seal = station.post(answering, "/v1/challenge", challenge)
    assert (answer.status_code, answer.json()["kind"]) == (409, "counter")
    assert answering.believes(answer, seal)
    assert answer.json()["nonce"] != nonce


def test_wrong_key_and_unknown_device_look_the_same(station, ipe, alert_of):
    ipe.key = new_key()
    wrong, _ = station.post(ipe, "/v1/alerts", alert_of("ipe-07").to_json())
    ipe.device_id = "nobody"
    unknown, _ = station.post(ipe, "/v1/alerts", alert_of("nobody").to_json())
    assert_problem(wrong, 401)
    assert_problem(unknown, 401)
    assert wrong.content == unknown.content
    assert station.get("/v1/alerts")["alerts"] == []


def test_the_signature_is_checked_before_anything_in_the_body_is_read(station, ipe):
    ipe.key = new_key()
    for body in (b"", b"{", b'{"schema": 99}', b"\xff\xfe"):
        assert_problem(station.post(ipe, "/v1/alerts", body)[0], 401)


@pytest.mark.parametrize("what", ["body", "path", "counter", "boot", "time"])
def test_a_tampered_request_is_not_taken(station, ipe, alert_of, what):
    body = alert_of("ipe-07").to_json()
    seal = ipe.seal("/v1/heartbeats" if what == "path" else "/v1/alerts", body)
    if what == "body":
        body = body.replace(b'"score":0.97', b'"score":0.98')
    tampered = {
        "counter": replace(seal, counter=seal.counter + 1),
        "boot": replace(seal, boot_id="0" * 12),
        "time": replace(seal, time_utc="1970-01-01T00:00:00Z"),
    }.get(what, seal)
    assert_problem(station.post(ipe, "/v1/alerts", body, tampered)[0], 401)


@pytest.mark.parametrize("header", [HEADER_DEVICE, HEADER_COUNTER, HEADER_SIGNATURE])
@pytest.mark.parametrize("value", [None, "", "x y", "1" * 5000, "-1", "<script>"])
def test_missing_and_malformed_headers_are_named(station, ipe, alert_of, header, value):
    body = alert_of("ipe-07").to_json()
    headers = ipe.seal("/v1/alerts", body).headers()
    if value is None:
        del headers[header]
    else:
        headers[header] = value
    response = station.request("POST", "/v1/alerts", content=body, headers=headers)
    assert_problem(response, 401, field=header)


def test_a_revoked_device_is_told_so_and_a_stranger_is_not(station, ipe, alert_of):
    station.store.revoke_device("ipe-07", station.clock())
    assert_problem(station.post(ipe, "/v1/alerts", alert_of("ipe-07").to_json())[0], 403)
    ipe.key = new_key()
    assert_problem(station.post(ipe, "/v1/alerts", alert_of("ipe-07").to_json())[0], 401)


def test_a_new_key_admits_a_revoked_device_and_old_requests_stay_worthless(station, ipe, alert_of):
    body = alert_of("ipe-07").to_json()
    _, old = station.post(ipe, "/v1/alerts", body)
    station.store.revoke_device("ipe-07", station.clock())
    ipe.key = new_key()
    assert station.store.rotate_key("ipe-07", station.keys.seal(ipe.key))
    assert_problem(station.post(ipe, "/v1/alerts", body, old)[0], 401)
    ipe.counter = 0
    assert station.post(ipe, "/v1/alerts", body)[0].status_code == 200


@pytest.mark.parametrize("path", ["/v1/alerts", "/v1/heartbeats", "/v1/challenge"])
def test_too_large_a_body_is_turned_away(station, ipe, path):
    body = b"x" * (api.LARGEST_BODY[path] + 1)
    assert_problem(station.post(ipe, path, body)[0], 413)


def test_a_body_that_hides_its_size_is_read_no_further_than_the_bound(station, ipe):
    given = 0

    async def endless():
        nonlocal given
        while True:
            given += 4096
            yield b"x" * 4096

    seal = ipe.seal("/v1/alerts", b"")
    response = station.request("POST", "/v1/alerts", content=endless(), headers=seal.headers())
    assert_problem(response, 413)
    assert given <= LARGEST_ALERT_BYTES + 2 * 4096


def test_a_body_that_never_ends_is_given_up(station, ipe, monkeypatch):
    monkeypatch.setattr(api, "SLOWEST_BODY_S", 0.05)

    async def dripping():
        yield b"{"
        await asyncio.Event().wait()

    seal = ipe.seal("/v1/alerts", b"")
    response = station.request("POST", "/v1/alerts", content=dripping(), headers=seal.headers())
    assert_problem(response, 408)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"", "document"),
        (b"not json", "document"),
        (b"[1, 2]", "document"),
        (b"\xff\xfe\xfd", "document"),
        (b"[" * 60_000, "document"),
        (b'{"schema": 1, "alert_id": "\\ud800", "revision": 0}', "document"),
        (b"{}", "schema"),
        (b'{"schema": 2, "alert_id": "0b9d8b6e-2a0b-4b43-9c2f-5a8e3c1f9d10", "revision": 0}', "schema"),
        (b'{"schema": 1, "revision": 0}', "alert_id"),
        (b'{"schema": 1, "alert_id": 7, "revision": 0}', "alert_id"),
        (b'{"schema": 1, "alert_id": "0b9d8b6e-2a0b-4b43-9c2f-5a8e3c1f9d10", "revision": "0"}', "revision"),
    ],
)
def test_what_names_no_alert_is_a_problem_and_not_a_refusal(station, ipe, body, field):
    assert_problem(station.post(ipe, "/v1/alerts", body)[0], 400, field=field)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("score", 1.5),
        ("score", "high"),
        ("score", None),
        ("state", "ajar"),
        ("label", "<script>alert(1)</script>"),
        ("label", "Robert'); DROP TABLE alerts;--"),
        ("device_id", "../../etc/passwd"),
        ("device_id", "cedro-01"),
        ("level_dbfs", 10**400),
        ("onset_s", -1),
        ("clock", {"boot_id": "x" * 12, "monotonic_s": 1, "utc": "yesterday", "utc_certainty": "synced"}),
        ("position", {"latitude": 91, "longitude": 0}),
        ("drill", "no"),
        ("surprise", 1),
    ],
)
def test_a_wrong_field_is_refused_by_name(station, ipe, alert_of, key, value):
    document = json.loads(alert_of("ipe-07").to_json()) | {key: value}
    response, seal = station.post(ipe, "/v1/alerts", json.dumps(document).encode())
    assert response.status_code == 422
    answer = response.json()
    assert answer["kind"] == "refused"
    assert (answer["alert_id"], answer["revision"]) == (document["alert_id"], 0)
    assert answer["reason"].startswith(key)
    assert ipe.believes(response, seal)
    assert station.get("/v1/alerts")["alerts"] == []


def test_not_a_number_is_refused(station, ipe, alert_of):
    body = alert_of("ipe-07").to_json().replace(b'"score":0.97', b'"score":NaN')
    assert station.post(ipe, "/v1/alerts", body)[0].json()["reason"].startswith("score")


def test_a_picture_that_does_not_unpack_is_refused(station, ipe, alert_of):
    document = json.loads(alert_of("ipe-07").to_json())
    document["log_mel"]["data"] = "AAAA"
    response, _ = station.post(ipe, "/v1/alerts", json.dumps(document).encode())
    assert response.json()["reason"].startswith("log_mel.data")


def test_heartbeats_show_in_the_device_list(station, ipe, heartbeat_of):
    assert station.get("/v1/devices")["devices"][0]["last_contact_utc"] is None
    ipe.time_utc = "2026-11-20T02:58:20Z"
    answer = station.send(ipe, heartbeat_of("ipe-07", states=("zeros",)))
    assert (answer.status_code, answer.json()["kind"]) == (200, "receipt")
    (device,) = station.get("/v1/devices")["devices"]
    assert device["last_contact_utc"] == "2026-11-20T03:00:00.000Z"
    assert device["clock_offset_s"] == 100.0
    assert device["heartbeat"]["states"] == ["zeros"]
    assert "key" not in json.dumps(device)


def test_a_heartbeat_of_another_device_is_refused(station, ipe, heartbeat_of):
    answer = station.send(ipe, heartbeat_of("cedro-01"))
    assert (answer.status_code, answer.json()["kind"]) == (422, "refused")


def test_a_device_clock_of_nonsense_is_recorded_as_unknown(station, ipe, heartbeat_of):
    ipe.time_utc = "9999-99-99T99:99:99"
    station.send(ipe, heartbeat_of("ipe-07"))
    assert station.get("/v1/devices")["devices"][0]["clock_offset_s"] is None


def test_pages_of_alerts_follow_each_other_without_gap_or_repetition(station, ipe, alert_of):
    sent = [alert_of("ipe-07", log_mel=None, label=("chainsaw", "engine")[n % 2]) for n in range(23)]
    for alert in sent:
        station.send(ipe, alert)
    seen, before = [], None
    while True:
        page = station.get("/v1/alerts", limit=5, **({} if before is None else {"before": before}))
        seen += [alert["alert_id"] for alert in page["alerts"]]
        before = page["before"]
        if before is None:
            break
    assert seen == [alert.alert_id for alert in reversed(sent)]
    engines = station.get("/v1/alerts", label="engine", limit=500)["alerts"]
    assert len(engines) == 11
    assert station.get("/v1/alerts", device="cedro-01")["alerts"] == []


@pytest.mark.parametrize(
    ("params", "field"),
    [({"limit": 501}, "limit"), ({"limit": 0}, "limit"), ({"before": "x"}, "before"), ({"label": "x" * 99}, "label")],
)
def test_wrong_parameters_are_named(station, params, field):
    assert_problem(station.request("GET", "/v1/alerts", params=params), 422, field=field)


def test_the_picture_of_an_alert_is_a_png(station, ipe, alert_of):
    alert = alert_of("ipe-07")
    station.send(ipe, alert)
    url = station.get("/v1/alerts")["alerts"][0]["log_mel_url"]
    response = station.request("GET", url)
    assert response.headers["content-type"] == "image/png"
    assert response.content.startswith(b"\x89PNG\r\n\x1a\n")
    assert_problem(station.request("GET", f"/v1/alerts/{uuid.uuid4()}/log-mel.png"), 404)
    assert_problem(station.request("GET", url.replace("revision=0", "revision=1")), 404)


@pytest.mark.parametrize("alert_id", ["x", "..%2f..%2fetc%2fpasswd", "' OR 1=1 --", "%00"])
def test_what_is_not_here_is_said_plainly(station, alert_id):
    assert_problem(station.request("GET", f"/v1/alerts/{alert_id}"), 404)


def test_wrong_methods_and_paths_are_answered_by_the_api(station):
    wrong = station.request("DELETE", "/v1/alerts")
    assert_problem(wrong, 405)
    assert wrong.headers["allow"] == "GET, POST"
    assert_problem(station.request("GET", "/v1/nothing"), 404)


def test_only_loopback_names_are_answered(station):
    for host, status in (("127.0.0.1:8765", 200), ("localhost", 200), ("[::1]:8765", 200), ("evil.example", 400)):
        assert station.request("GET", "/v1/alerts", headers={"Host": host}).status_code == status, host


def test_healthz_says_that_the_database_answers(station):
    assert station.get("/healthz")["status"] == "ok"


def test_a_database_that_refuses_is_a_503_and_never_a_receipt(station, ipe, alert_of):
    with station.store.database.engine.begin() as connection:  # a fault that no public call can make
        connection.exec_driver_sql("ALTER TABLE blobs RENAME TO gone")
    response, _ = station.post(ipe, "/v1/alerts", alert_of("ipe-07").to_json())
    with station.store.database.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE gone RENAME TO blobs")
    assert_problem(response, 503)
    assert response.headers["retry-after"]
    assert station.get("/v1/alerts")["alerts"] == []


def test_openapi_describes_the_wire_and_every_reference_in_it_leads_somewhere(station):
    document = station.get("/v1/openapi.json")
    assert set(document["paths"]["/v1/alerts"]) == {"get", "post"}
    text = json.dumps(document)
    schemas = document["components"]["schemas"]
    for part in text.split('"$ref": "')[1:]:
        name = part.split('"')[0]
        assert name.startswith("#/components/schemas/")
        assert name.rsplit("/", 1)[1] in schemas
    assert "log_mel" in schemas["Alert"]["properties"]


def test_no_page_of_the_api_loads_anything_from_the_internet(station):
    for path in ("/docs", "/redoc"):
        assert station.request("GET", path).status_code == 404


def test_a_seal_signed_for_one_answer_does_not_fit_another(station, ipe, alert_of):
    response, seal = station.post(ipe, "/v1/alerts", alert_of("ipe-07").to_json())
    assert ipe.believes(response, seal)
    assert not ipe.believes(response, replace(seal, counter=seal.counter + 1))
    assert sign_request(ipe.key, "POST", "/v1/alerts", b"", seal) != seal.signature
