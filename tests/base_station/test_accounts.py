"""Who may read and judge; and what happens to those who try it otherwise."""

import csv
import io
import json
import sqlite3
from datetime import timedelta

import pytest

from base_station.accounts import ATTEMPTS_IN_ALL, OPERATOR, SESSION_LASTS, VIEWER, Accounts
from base_station.guard import COOKIE, CSRF_HEADER, LARGEST_BODY_BYTES
from tests.base_station.test_station_commands import run

both = pytest.mark.parametrize("database_url", ["sqlite", "postgresql"], indirect=True)
PASSWORD = "a saw in the rain"


@pytest.fixture(autouse=True)
def quick_hashes(monkeypatch):
    """The work of a hash is argon2's business; here it would be most of the time."""
    from argon2 import PasswordHasher

    monkeypatch.setattr(
        "base_station.accounts.PasswordHasher", lambda: PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    )


@pytest.fixture
def accounts(station):
    accounts = Accounts(station.store.database)
    accounts.set_person("Maria", OPERATOR, PASSWORD, station.clock())
    accounts.set_person("João", VIEWER, PASSWORD, station.clock())
    return accounts


def log_in(station, name="Maria", password=PASSWORD, **more):
    return station.request("POST", "/v1/session", json={"name": name, "password": password}, **more)


def cookie(answer) -> dict[str, str]:
    return {"Cookie": f"{COOKIE}={answer.cookies[COOKIE]}"}


def with_csrf(answer) -> dict[str, str]:
    return {**cookie(answer), CSRF_HEADER: answer.json()["csrf"]}


def test_as_long_as_there_is_nobody_this_machine_may_read(station):
    assert station.request("GET", "/v1/alerts").status_code == 200


@both
def test_then_reading_wants_a_session_and_devices_go_on_as_before(station, ipe, alert_of, accounts):
    refused = station.request("GET", "/v1/alerts")
    assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
    assert refused.headers["content-type"] == "application/problem+json"
    assert station.send(ipe, alert_of("ipe-07")).status_code == 201
    assert station.get("/healthz")["status"] == "ok"
    inside = log_in(station)
    assert inside.json()["role"] == "operator"
    assert len(station.request("GET", "/v1/alerts", headers=cookie(inside)).json()["alerts"]) == 1
    assert station.request("GET", "/v1/session", headers=cookie(inside)).json()["name"] == "Maria"
    assert station.request("DELETE", "/v1/session", headers=with_csrf(inside)).status_code == 204
    assert station.request("GET", "/v1/alerts", headers=cookie(inside)).status_code == 401


def test_the_cookie_is_out_of_reach_of_scripts_and_of_other_sites(station, accounts):
    said = log_in(station).headers["set-cookie"].lower()
    assert "httponly" in said
    # a link in a message leads to a page that knows who follows it; what changes something also wants our Origin
    assert "samesite=lax" in said


def test_a_viewer_reads_and_an_operator_judges_in_his_own_name(station, ipe, alert_of, accounts):
    alert = alert_of("ipe-07", log_mel=None)
    station.send(ipe, alert)
    path, body = f"/v1/alerts/{alert.alert_id}/verdicts", {"verdict": "true", "judge": "somebody else"}
    viewer, operator = log_in(station, "João"), log_in(station)
    assert station.request("POST", path, json=body, headers=with_csrf(viewer)).status_code == 403
    judged = station.request("POST", path, json=body, headers=with_csrf(operator))
    assert (judged.status_code, judged.json()["judge"]) == (201, "Maria")


def test_another_page_cannot_judge_through_the_rangers_browser(station, ipe, alert_of, accounts):
    alert = alert_of("ipe-07", log_mel=None)
    station.send(ipe, alert)
    path, body = f"/v1/alerts/{alert.alert_id}/verdicts", {"verdict": "true"}
    operator = log_in(station)
    for headers in (cookie(operator), {**cookie(operator), CSRF_HEADER: "guess"}):
        assert station.request("POST", path, json=body, headers=headers).status_code == 403
    assert station.request("GET", path, headers=cookie(operator)).json()["verdicts"] == []


def test_a_session_that_somebody_planted_is_worth_nothing_after_the_login(station, accounts):
    planted = log_in(station, "João")
    fresh = log_in(station, headers=cookie(planted))
    assert fresh.cookies[COOKIE] != planted.cookies[COOKIE]
    assert station.request("GET", "/v1/alerts", headers=cookie(planted)).status_code == 401
    invented = {"Cookie": f"{COOKIE}=chosen-by-the-thief"}
    log_in(station, headers=invented)
    assert station.request("GET", "/v1/alerts", headers=invented).status_code == 401


@both
def test_guessing_is_slowed_down_for_a_name_and_for_all_names(station, accounts):
    assert [log_in(station, password="wrong").status_code for _ in range(7)] == [401] * 5 + [429] * 2
    assert log_in(station).status_code == 429  # also the right one, or the answer would tell
    assert log_in(station, "João").status_code == 200
    for n in range(ATTEMPTS_IN_ALL):
        if log_in(station, f"guess{n}", "wrong").status_code == 429:
            break
    else:
        raise AssertionError("many names are a way around")
    station.clock.pass_s(16 * 60)
    assert log_in(station).status_code == 200


def test_nobody_and_somebody_look_the_same(station, accounts):
    wrong, unknown = log_in(station, password="wrong"), log_in(station, "nobody", "wrong")
    assert (wrong.status_code, wrong.content) == (unknown.status_code, unknown.content)


def test_sessions_end_by_time_by_a_new_password_and_with_the_person(station, accounts):
    for end in (
        lambda: station.clock.pass_s(SESSION_LASTS.total_seconds() + 1),
        lambda: accounts.set_person("Maria", OPERATOR, "another password", station.clock()),
    ):
        inside = log_in(station)
        end()
        assert station.request("GET", "/v1/alerts", headers=cookie(inside)).status_code == 401
    inside = log_in(station, password="another password")
    assert accounts.remove_person("Maria")
    assert station.request("GET", "/v1/alerts", headers=cookie(inside)).status_code == 401


@both
def test_a_program_reads_with_its_token_until_it_is_revoked(station, ipe, alert_of, accounts):
    token = accounts.add_token("map", VIEWER, station.clock())
    headers = {"Authorization": f"Bearer {token}"}
    assert station.request("GET", "/v1/alerts", headers=headers).status_code == 200
    assert (
        station.request("POST", "/v1/alerts/x/verdicts", json={"verdict": "true"}, headers=headers).status_code == 403
    )
    assert station.request("GET", "/v1/alerts", headers={"Authorization": f"Bearer {token}x"}).status_code == 401
    assert accounts.revoke_token("map")
    assert station.request("GET", "/v1/alerts", headers=headers).status_code == 401


def test_whoever_copies_the_database_can_be_nobody(station, accounts, tmp_path):
    token = accounts.add_token("map", VIEWER, station.clock())
    secret = log_in(station).cookies[COOKIE]
    station.store.close()
    everything = b"".join(path.read_bytes() for path in tmp_path.glob("station.db*"))
    for hidden in (token, secret, PASSWORD):
        assert hidden.encode() not in everything
    raw = sqlite3.connect(tmp_path / "station.db")
    assert all(row[0].startswith("$argon2id$") for row in raw.execute("SELECT password FROM people"))
    raw.close()


@pytest.mark.parametrize("path", ["/v1/session", "/v1/alerts/x/verdicts"])
def test_too_large_a_body_is_turned_away(station, path):
    answer = station.request("POST", path, content=b" " * (LARGEST_BODY_BYTES + 1))
    assert answer.status_code == 413
    given = 0

    async def endless():
        nonlocal given
        while True:
            given += 4096
            yield b" " * 4096

    answer = station.request("POST", path, content=endless(), headers={"Content-Type": "application/json"})
    assert answer.status_code == 413
    assert given <= LARGEST_BODY_BYTES + 2 * 4096


def test_long_answers_are_packed(station, ipe, alert_of):
    for _ in range(12):
        station.send(ipe, alert_of("ipe-07", log_mel=None))
    answer = station.request("GET", "/v1/alerts", headers={"Accept-Encoding": "gzip"})
    assert answer.headers["content-encoding"] == "gzip"
    assert len(answer.json()["alerts"]) == 12


@both
def test_alerts_go_out_as_geojson_and_csv(station, ipe, alert_of):
    first = alert_of("ipe-07", log_mel=None)
    station.send(ipe, first)
    station.clock.pass_s(3600)
    station.send(ipe, alert_of("ipe-07", log_mel=None, position=None, label="engine"))
    whole = json.loads(station.request("GET", "/v1/export/alerts.geojson").content)
    assert [f["geometry"] and f["geometry"]["coordinates"] for f in whole["features"]] == [None, [-60.02, -3.1]]
    assert whole["features"][1]["id"] == first.alert_id
    rows = list(csv.DictReader(io.StringIO(station.request("GET", "/v1/export/alerts.csv").text)))
    assert [row["label"] for row in rows] == ["engine", "chainsaw"]
    since = (station.clock() - timedelta(minutes=5)).isoformat()
    some = station.request("GET", "/v1/export/alerts.csv", params={"since": since}).text
    assert len(list(csv.DictReader(io.StringIO(some)))) == 1
    none = station.request("GET", "/v1/export/alerts.geojson", params={"label": "storm"})
    assert json.loads(none.content)["features"] == []


def test_people_and_tokens_are_kept_by_commands(tmp_path, capsys, monkeypatch):
    data = tmp_path / "station"
    monkeypatch.setattr("sys.stdin", io.StringIO(PASSWORD + "\n"))
    assert run("user", "add", "Maria", "--role", "operator", "--data", data) == 0
    monkeypatch.setattr("sys.stdin", io.StringIO("short\n"))
    assert run("user", "add", "Ana", "--data", data) == 2
    assert run("user", "add", "../x", "--data", data) == 2
    assert run("token", "add", "map", "--data", data) == 0
    out = capsys.readouterr().out
    assert "crp_" in out
    assert PASSWORD not in out
    assert run("token", "add", "map", "--data", data) == 2
    assert run("user", "list", "--data", data) == 0
    assert capsys.readouterr().out == "Maria  operator\n"
    assert run("token", "list", "--data", data) == 0
    assert run("user", "remove", "Maria", "--data", data) == 0
    assert run("token", "remove", "map", "--data", data) == 0
    assert run("token", "remove", "map", "--data", data) == 2
