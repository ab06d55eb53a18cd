"""The devices' pages in a real browser: the fleet, one device, adding, and what only operators may."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from sqlalchemy import insert

from agent.alert import Battery
from base_station import tables
from base_station.accounts import OPERATOR, VIEWER, Accounts
from base_station.contacts import Contact
from base_station.keys import open_ring
from base_station.registry import add_device, audit_entries
from base_station.settings import Settings, prepare_folder
from base_station.store import Store
from tests.base_station.chromium import clock_now
from tests.base_station.conftest import BOOT, FakeDevice, make_heartbeat
from tests.base_station.pages.conftest import DESKTOP, PHONE
from tests.base_station.test_accounts import quick_hashes  # noqa: F401  # a fixture

pytestmark = [pytest.mark.browser, pytest.mark.slow]
PASSWORD = "a saw in the rain"


class Ground:
    """A station's data folder, filled before the station starts: nobody waits for commands then."""

    def __init__(self, data: Path) -> None:
        self.data = data
        prepare_folder(data)
        settings = Settings(data=data)
        self.ring = open_ring(settings.key_file, make=True)
        self.store = Store(settings.database_url)
        self.accounts = Accounts(self.store.database)

    def people(self) -> None:
        """Let there be an operator and a viewer."""
        for name, role in (("Maria", OPERATOR), ("João", VIEWER)):
            self.accounts.set_person(name, role, PASSWORD, datetime.now(UTC))

    def device(self, device_id: str, **more) -> FakeDevice:
        """Admit a device."""
        made = add_device(self.store, self.ring, device_id, who="test", now_utc=datetime.now(UTC), **more)
        return FakeDevice(device_id=device_id, key=made.key, counter=10_000)

    def beat(self, device_id: str, at_utc: datetime | None = None, counter: int = 1, **changes) -> None:
        """Let it have called."""
        contact = Contact(device_id=device_id, boot_id=BOOT, counter=counter, at_utc=at_utc or datetime.now(UTC))
        self.store.keep_heartbeat(contact, beat(device_id, **changes))


def beat(name, **changes):
    return make_heartbeat(name, clock=clock_now(), **changes)


@pytest.fixture
def ground(tmp_path):
    ground = Ground(tmp_path / "station")
    yield ground
    ground.store.close()


def enter(tab, name):
    """Give a tab somebody's session."""
    answer = httpx.post(f"{tab.url}/v1/session", json={"name": name, "password": PASSWORD}, timeout=30)
    cookies = [{"name": key, "value": value, "url": tab.url} for key, value in answer.cookies.items()]
    tab.context.add_cookies(cookies)
    return tab


def test_each_count_of_the_fleet_leads_to_the_devices_it_counts(ground, start_station, visit):
    for name in ("ipe-07", "cedro-01", "jatoba-03"):
        ground.device(name)
    ground.beat("ipe-07")
    hot = Battery(percent=9, temperature_c=55.0, charging=False)
    ground.beat("cedro-01", battery=hot, states=("zeros",))
    station = start_station(data=ground.data)
    tab = visit(station.url, "/devices", width=PHONE)
    tab.page.locator(".figure.listening", has_text="1").wait_for()  # the station's look around was there
    tab.page.locator(".device-row.trouble", has_text="hears nothing, too hot, battery low").wait_for()
    tab.page.locator(".chip.hot").click()
    tab.page.locator("a[aria-current]", has_text="too hot").wait_for()
    assert tab.page.locator(".device-row").all_inner_texts()[0].startswith("cedro-01")
    assert tab.page.locator(".device-row").count() == 1
    tab.page.locator(".figure.never").click()
    tab.page.locator("[data-device=jatoba-03]").wait_for()
    tab.page.get_by_label("Name or id").fill("nowhere")
    tab.page.keyboard.press("Enter")
    tab.says("No device is so.")
    tab.assert_well()


def test_a_device_that_is_added_shows_its_key_once_and_is_heard_then_renamed_moved_and_refused(
    ground, start_station, visit
):
    ground.people()
    station = start_station(data=ground.data)
    tab = enter(visit(station.url, "/login"), "Maria")
    tab.open("/devices")
    tab.page.get_by_role("link", name="Add a device").click()
    tab.page.get_by_label("Id").fill("Ipê 7")
    tab.page.get_by_role("button", name="Add it and show its key").click()
    tab.says("Id: small letters, digits")
    tab.page.get_by_label("Id").fill("ipe-07")
    tab.page.get_by_label("Name").fill("<b>Ipê</b>")
    tab.page.get_by_label("Latitude").fill("−3,10452")
    tab.page.get_by_label("Longitude").fill("300")
    tab.page.keyboard.press("Enter")
    tab.says("Longitude: a number from")
    tab.page.get_by_label("Longitude").fill("-60.02531")
    tab.page.keyboard.press("Enter")
    key = tab.page.locator("code.key").inner_text()
    assert tab.page.get_by_role("img", name="QR code of the key").is_visible()
    for width in (PHONE, DESKTOP):
        tab.page.set_viewport_size({"width": width, "height": 900})
        tab.assert_well()
    device = FakeDevice(device_id="ipe-07", key=bytes.fromhex(key))
    station.send(device, beat("ipe-07"))
    tab.page.get_by_role("button", name="I have it").click()
    tab.page.wait_for_url("**/devices/ipe-07")
    tab.page.get_by_role("heading", name="<b>Ipê</b>").wait_for()
    tab.says("3.10452° S, 60.02531° W")
    assert key not in tab.page.content()

    tab.page.get_by_role("button", name="Rename").click()
    tab.page.locator(".dialog").get_by_label("Name").fill("Ipê at the river")
    tab.page.keyboard.press("Enter")
    tab.page.get_by_role("heading", name="Ipê at the river").wait_for()
    tab.page.get_by_role("button", name="Move").click()
    tab.page.locator(".dialog").get_by_label("Latitude").fill("-3.2")
    tab.page.keyboard.press("Enter")
    tab.says("3.20000° S, 60.02531° W")
    tab.page.get_by_role("button", name="Revoke").click()
    tab.says("Revoke ipe-07?")
    tab.page.locator(".dialog").get_by_role("button", name="Cancel").click()
    tab.page.locator(".dialog").wait_for(state="detached")
    station.send(device, beat("ipe-07"))  # nothing was done
    tab.page.get_by_role("button", name="Revoke").click()
    tab.page.locator(".dialog").get_by_role("button", name="Revoke").click()
    tab.page.locator(".device-row.revoked").wait_for()
    assert refused(station, device) == 403

    tab.page.get_by_role("button", name="New key").click()
    tab.page.locator(".dialog").get_by_role("button", name="Make a new key").click()
    fresh = tab.page.locator("code.key").inner_text()
    assert fresh != key
    station.send(FakeDevice(device_id="ipe-07", key=bytes.fromhex(fresh)), beat("ipe-07"))
    assert refused(station, device) == 401
    for action in ("gave it a new key", "revoked it", "moved it", "renamed it", "added it"):
        tab.page.locator(".changes-list li", has_text=action).locator("text=Maria").wait_for()
    tab.assert_well()
    said = station.said()
    assert key not in said
    assert fresh not in said
    assert [entry.action for entry in audit_entries(ground.store, subject="ipe-07")][::-1] == [
        "device_added",
        "device_renamed",
        "device_moved",
        "device_revoked",
        "key_replaced",
    ]


def refused(station, device):
    body = beat(device.device_id).to_json()
    headers = device.seal("/v1/heartbeats", body).headers()
    return httpx.post(f"{station.url}/v1/heartbeats", content=body, headers=headers, timeout=30).status_code


def test_a_viewer_sees_everything_and_changes_nothing(ground, start_station, visit):
    ground.people()
    ground.device("ipe-07")
    ground.beat("ipe-07")
    station = start_station(data=ground.data)
    tab = enter(visit(station.url, "/login"), "João")
    tab.open("/devices")
    tab.page.locator("[data-device=ipe-07]").wait_for()
    assert tab.page.get_by_role("link", name="Add a device").count() == 0
    tab.open("/devices/_add")
    tab.says("This page is for operators; João may only look.")
    assert tab.page.locator("#main form").count() == 0
    tab.open("/devices/ipe-07")
    tab.page.get_by_text("81 %, charging").wait_for()
    for name in ("Rename", "Move", "New key", "Revoke"):
        assert tab.page.get_by_role("button", name=name).count() == 0

    # an operator who becomes a viewer while his page is open
    boss = enter(visit(station.url, "/login"), "Maria")
    boss.open("/devices/ipe-07")
    boss.page.get_by_role("button", name="Revoke").click()
    boss.page.locator(".dialog").wait_for()
    ground.accounts.set_person("Maria", VIEWER, PASSWORD, datetime.now(UTC))
    boss.page.locator(".dialog").get_by_role("button", name="Revoke").click()
    boss.page.wait_for_url("**/login**")
    assert ground.store.device("ipe-07").revoked_utc is None


def test_gaps_are_shown_with_their_reasons_over_days(ground, start_station, visit):
    now = datetime.now(UTC)
    ground.device("ipe-07")
    begin, started, counter = now - timedelta(hours=20), now - timedelta(hours=40), 0
    for quarter in range(80):
        at, hour = begin + timedelta(minutes=15 * quarter), quarter // 4
        if 4 <= hour < 8 or 12 <= hour < 15:
            started = at if hour < 8 else started
            continue
        counter += 1
        uptime_s = (at - started).total_seconds()
        reason = "power loss" if hour >= 8 else ""
        ground.beat("ipe-07", at, counter, uptime_s=uptime_s, start_reason=reason, level_dbfs=-50.0 - hour)
    ground.beat("ipe-07", now, counter + 1, uptime_s=(now - started).total_seconds(), states=("zeros",))
    with ground.store.database.write() as connection:
        for hours in (9, 7, 5):
            held = {"begin_utc": now - timedelta(hours=hours), "end_utc": now - timedelta(hours=hours - 1)}
            cool = {"subject": "ipe-07", "name": "hot", "returns": 0, "detail": "55 °C", "devices": "[]"}
            connection.execute(insert(tables.conditions).values(**held, **cool, seen_utc=held["end_utc"]))
    station = start_station(data=ground.data)
    tab = visit(station.url, "/devices/ipe-07?days=1", width=PHONE)
    tab.page.locator("[data-reason=off]", has_text="power was lost").wait_for()
    tab.page.locator("[data-reason=station]", has_text="No device called").wait_for()
    tab.page.locator(".wrong li", has_text="hears nothing").wait_for()
    assert tab.page.locator("td", has_text="too hot").all_inner_texts() == ["too hot · 3 times"]  # alike: one row
    tab.page.locator(".device-charts svg text").first.wait_for()
    assert "Battery, %: 81" in tab.page.locator(".device-charts [role=img]").get_attribute("aria-label")
    tab.page.get_by_role("link", name="30 days").click()
    tab.page.locator("[data-reason=off]").wait_for()
    tab.open("/devices/nobody")
    tab.says("There is no device nobody here.")
    tab.assert_well()


def test_they_look_right_everywhere(ground, start_station, looked_at):
    now = datetime.now(UTC)
    for number in range(6):
        ground.device(f"ipe-{number:02d}", name="" if number else "Ipê at the river bend", position=None)
        if number < 5:
            for hours in range(30, -1, -1):
                if number or not 9 < hours < 14:
                    at, up_s = now - timedelta(hours=hours), 3600.0 * (40 - hours)
                    ground.beat(f"ipe-{number:02d}", at, 31 - hours, uptime_s=up_s, level_dbfs=-50.0 - hours % 7)
    ground.store.revoke_device("ipe-04", now)
    ground.beat("ipe-03", now, 99, states=("zeros",), battery=Battery(percent=7, temperature_c=51.0, charging=False))
    station = start_station(data=ground.data)
    looked_at(station.url, "/devices", "devices", wait=lambda page: page.locator(".device-row.trouble").wait_for())
    looked_at(
        station.url,
        "/devices/ipe-00",
        "device",
        wait=lambda page: page.locator(".device-charts svg text").first.wait_for(),
    )
    looked_at(station.url, "/devices/_add", "device-add", wait=lambda page: page.get_by_label("Id").wait_for())
