"""The devices' pages in a real browser: the fleet, one device, adding, and what only operators may."""

from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from agent.alert import Battery
from base_station.accounts import OPERATOR, VIEWER, Accounts
from base_station.keys import open_ring
from base_station.registry import add_device
from base_station.settings import Settings, prepare_folder
from base_station.store import Contact, Store
from tests.base_station.chromium import clock_now
from tests.base_station.conftest import BOOT, FakeDevice, make_heartbeat
from tests.base_station.pages.conftest import PHONE
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
        self.store.keep_heartbeat(contact, make_heartbeat(device_id, clock=clock_now(), **changes))


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
