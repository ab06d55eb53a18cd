"""What people did about incidents is kept, found again when two turn out to be one, and outlives retention."""

from datetime import timedelta

import pytest
from sqlalchemy import URL

from agent.alert import Clock, Position
from base_station import backup
from base_station.inbox import iso
from base_station.incident_log import ACKNOWLEDGED, ASSIGNED, NOTED, Entry, IncidentLog, stand
from base_station.incidents import Rules
from base_station.recent import incident_around
from base_station.retention import Retention, prune
from base_station.store import Store
from tests.base_station.conftest import BOOT, START, make_alert

both = pytest.mark.parametrize("database_url", ["sqlite", "postgresql"], indirect=True)


def entry(incident_id: str, action: str = ACKNOWLEDGED, after_s: float = 0.0, **more: str) -> Entry:
    return Entry(incident_id=incident_id, at_utc=START + timedelta(seconds=after_s), who="Ana", action=action, **more)


def heard(station, device, after_s: float = 0.0, **more):
    at = station.clock.now = START + timedelta(seconds=after_s)
    clock = Clock(boot_id=BOOT, monotonic_s=8123.4, utc=iso(at), utc_certainty="synced")
    alert = make_alert(device.device_id, log_mel=None, clock=clock, **more)
    assert station.send(device, alert).status_code == 201
    return alert.alert_id


@both
def test_entries_are_kept_in_order_and_come_to_a_stand(station, ipe):
    alert_id, log = heard(station, ipe), IncidentLog(station.store)
    before = log.marker()
    said = [
        entry(alert_id),
        entry(alert_id, ASSIGNED, 5, assignee="João"),
        entry(alert_id, NOTED, 9, note="two men, one lorry"),
        entry(alert_id, ACKNOWLEDGED, 12),
    ]
    assert all(log.add(one) for one in said)
    assert log.of([alert_id]) == said
    assert log.marker() > before
    assert stand(said).acknowledged == said[0]
    assert stand(said).assigned == said[1]
    assert stand([*said, entry(alert_id, ASSIGNED, 20)]).assigned is None
    assert not log.add(entry("00000000-0000-4000-8000-000000000000"))


def test_two_incidents_that_turn_out_to_be_one_have_one_log(station, ipe):
    log, rules = IncidentLog(station.store), Rules(window_s=100.0)
    first, last = heard(station, ipe), heard(station, ipe, 150)
    log.add(entry(first))
    log.add(entry(last, NOTED, note="the second"))
    apart = incident_around(station.store, last, rules)
    assert apart is not None
    assert apart.alert_ids == (last,)
    between = heard(station, ipe, 75)
    whole = incident_around(station.store, last, rules)
    assert whole is not None
    assert whole.alert_ids == (first, between, last)
    assert whole.incident_id == first
    assert [one.action for one in log.of(whole.alert_ids)] == [ACKNOWLEDGED, NOTED]


def test_an_incident_is_whole_however_long_it_goes_on(station, ipe):
    ids = [heard(station, ipe, 150.0 * number) for number in range(40)]  # 100 minutes without a pause
    apart = heard(station, ipe, 150.0 * 60)
    found = incident_around(station.store, ids[20], Rules())
    assert found is not None
    assert found.alert_ids == tuple(ids)
    assert apart not in found.alert_ids
    assert incident_around(station.store, "nobody", Rules()) is None


def test_a_place_far_away_is_another_incident(station, ipe):
    other = station.add("cedro-01")
    here = heard(station, ipe)
    there = heard(station, other, 5, position=Position(latitude=-3.5, longitude=-60.02))
    found = incident_around(station.store, here, Rules())
    assert found is not None
    assert there not in found.alert_ids


def test_the_api_keeps_what_is_done_and_says_what_is_wrong(station, ipe):
    alert_id = heard(station, ipe)
    path = f"/v1/incidents/{alert_id}/log"

    def post(path: str = path, **body: str):
        return station.request("POST", path, json=body)

    kept = post(action="assigned", assignee="João <b>", who="Ana")
    assert kept.status_code == 201
    assert kept.json() == {
        "incident_id": alert_id, "at_utc": iso(station.clock()), "who": "Ana", "action": "assigned",
        "assignee": "João <b>", "note": "",
    }  # fmt: skip
    assert station.get(path)["entries"] == [kept.json()]
    assert post(action="acknowledged").status_code == 422
    assert post(action="noted", who="Ana", note=" ").status_code == 422
    assert post(action="sold", who="Ana").status_code == 422
    assert post(action="noted", who="Ana", note="x" * 501).status_code == 422
    assert post("/v1/incidents/nobody/log", action="acknowledged", who="Ana").status_code == 404
    assert station.request("GET", "/v1/incidents/no%00body/log").status_code == 404


def test_what_people_acted_on_outlives_retention_and_is_in_a_backup(station, ipe, tmp_path):
    kept, gone = heard(station, ipe), heard(station, ipe, 4000)
    IncidentLog(station.store).add(entry(kept))
    file = tmp_path / "copy.db"
    backup.back_up(station.store.database, file)
    prune(station.store.database, Retention(alert_days=1), START + timedelta(days=9))
    assert station.store.event(kept) is not None
    assert station.store.event(gone) is None
    assert list(backup.faults(station.store, station.keys, deep=True)) == []
    again = Store(URL.create("sqlite", database=str(file)))
    assert [one.who for one in IncidentLog(again).of([kept])] == ["Ana"]
    again.close()
