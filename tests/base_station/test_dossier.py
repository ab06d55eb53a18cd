"""What is known of an incident: single windows too, once the device's field log was brought home."""

from datetime import timedelta

from agent.alert import Clock
from base_station.dossier import WINDOWS_AROUND, look
from base_station.fieldlog import import_journal
from base_station.inbox import iso
from base_station.incidents import Rules
from tests.base_station.conftest import BOOT, make_alert
from tests.base_station.test_fieldlog import TRUE_START, Phone
from tests.base_station.test_shelf import listen


def test_windows_are_there_once_the_field_log_of_a_device_came_home(station, ipe, tmp_path):
    station.clock.now = TRUE_START + timedelta(seconds=70)
    clock = Clock(boot_id=BOOT, monotonic_s=50.0, utc=iso(station.clock.now), utc_certainty="synced")
    alert = make_alert("ipe-07", clock=clock, log_mel=None)
    assert station.send(ipe, alert).status_code == 201
    before = look(station.store, alert.alert_id, Rules())
    assert before is not None
    assert before.windows == {}
    import_journal(station.store, listen(tmp_path / "journal", Phone(), minutes=20), station.clock())
    found = look(station.store, alert.alert_id, Rules())
    assert found is not None
    assert list(found.windows) == ["ipe-07"]
    points = found.windows["ipe-07"]
    end_ms = 1000 * (found.incident.last_utc + WINDOWS_AROUND).timestamp()
    assert max(at_ms for at_ms, _ in points) <= end_ms  # the rest of the log is not of this incident
    second_minute = [value for at_ms, value in points if 62 <= at_ms / 1000 - TRUE_START.timestamp() < 118]
    assert second_minute[0] == 0.8516
    assert None in [value for _, value in points]  # in the third minute the gate was closed: no line goes over it


def test_a_field_log_without_the_incident_s_label_has_nothing_to_draw(station, ipe, tmp_path):
    station.clock.now = TRUE_START + timedelta(seconds=70)
    clock = Clock(boot_id=BOOT, monotonic_s=50.0, utc=iso(station.clock.now), utc_certainty="synced")
    alert = make_alert("ipe-07", clock=clock, log_mel=None, label="gunshot")
    station.send(ipe, alert)
    import_journal(station.store, listen(tmp_path / "journal", Phone()), station.clock())
    found = look(station.store, alert.alert_id, Rules())
    assert found is not None
    assert found.windows == {}
