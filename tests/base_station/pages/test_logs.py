"""Field logs in a real browser: a phone's journal is dropped, and what it brought is seen."""

import base64
import zipfile

import httpx
import pytest

from tests.base_station.pages.conftest import PHONE
from tests.base_station.test_cards import pack
from tests.base_station.test_fieldlog import Phone, write
from tests.base_station.test_logexport import log_with_a_weak_saw
from tests.base_station.test_shelf import listen
from tests.base_station.test_timeline import log_of_a_night

pytestmark = [pytest.mark.browser, pytest.mark.slow]

DROP = """([files]) => {
  const dataTransfer = new DataTransfer();
  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  for (const [name, text] of files) dataTransfer.items.add(new File([bytes(text)], name));
  const event = new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true });
  document.querySelector(".drop").dispatchEvent(event);
}"""


def drop(page, *files):
    """Drop (name, bytes) pairs onto the page, as a hand would."""
    page.evaluate(DROP, [[[name, base64.b64encode(content).decode()] for name, content in files]])


def bring(station, folder):
    """Bring a journal in over the API."""
    files = [("files", (path.name, path.read_bytes())) for path in sorted(folder.iterdir())]
    answer = httpx.post(f"{station.url}/v1/journals", files=files, timeout=60)
    assert answer.status_code == 201, answer.text


def test_journals_that_are_dropped_or_chosen_are_listed_and_strangers_and_damage_are_named(
    start_station, visit, looked_at, tmp_path
):
    station = start_station()
    looked_at(station.url, "/logs", "logs-empty", lambda page: page.get_by_text("No field log yet.").wait_for())
    station.add_device("ipe-07")
    folder = listen(tmp_path / "heard", Phone())
    (path,) = folder.iterdir()
    lines = path.read_bytes().splitlines(keepends=True)
    lines[2] = lines[2].replace(b"-50", b"-51")
    tab = visit(station.url, "/logs")
    drop(tab.page, (path.name, b"".join(lines)), ("photo.jpg", b"x"))
    tab.says("1 file is new.")
    tab.says("1 line is damaged and was passed over:")
    tab.says(f"{path.name}:3: line: is damaged: its checksum is another")
    tab.page.locator("tbody").get_by_text("ipe-07").wait_for()

    write(tmp_path / "alerts", Phone())
    write(tmp_path / "stranger", Phone(), device_id="nobody")
    files = [(f"{at.parent.name}/{at.name}", at.read_bytes()) for at in sorted(tmp_path.glob("[as]*/journal-*"))]
    packed = {"name": "card.zip", "mimeType": "application/zip", "buffer": pack("zip", files)}
    tab.page.locator(".drop input[type=file]").first.set_input_files([packed])
    tab.says("2 alerts never arrived here.")
    tab.says("this station does not know")
    assert tab.page.locator("tbody .missing").inner_text() == "2"
    tab.assert_well()
    tab.page.set_viewport_size({"width": PHONE, "height": 844})
    tab.assert_well()

    drop(tab.page, ("photo.jpg", b"x"))
    tab.says("No journal is among these files")
    drop(tab.page, ("card.zip", b"no archive"))
    tab.says("is damaged or encrypted, pack it again")
    looked_at(station.url, "/logs", "logs", lambda page: page.locator("tbody").get_by_text("ipe-07").wait_for())


def test_a_log_is_seen_along_time_and_zooming_draws_it_finer(start_station, visit, looked_at, tmp_path):
    station = start_station()
    station.add_device("ipe-07")
    bring(station, log_of_a_night(tmp_path / "journal"))
    tab = visit(station.url, "/logs/ipe-07")
    tab.says("400 windows")
    tab.page.locator(".timeline svg").first.wait_for()
    tab.says("battery empty")
    assert tab.page.locator("tbody .missing").count() == 2
    alike = tab.page.locator("tbody tr", has_text="overrun")  # lost sound, minute by minute: one row
    assert alike.count() == 1
    assert "8 s · 2 times" in alike.inner_text()
    tab.page.get_by_role("button", name="in the chart").first.click()
    tab.page.wait_for_function("!document.body.innerText.includes('battery empty')")
    assert tab.page.locator("tbody .missing").count() == 2
    tab.page.get_by_role("button", name="All of it").click()
    tab.says("battery empty")
    tab.assert_well()
    looked_at(station.url, "/logs/ipe-07", "log", lambda page: page.get_by_text("battery empty").wait_for())
    visit(station.url, "/logs/nobody").says("No log of this device can be shown.")


def test_other_rules_change_the_alerts_and_what_is_shown_is_taken_along(start_station, visit, tmp_path):
    station = start_station()
    station.add_device("ipe-07")
    bring(station, log_with_a_weak_saw(tmp_path / "journal"))
    tab = visit(station.url, "/logs/ipe-07")
    threshold = tab.page.get_by_label("Threshold").first
    threshold.fill("0.65")
    threshold.blur()
    tab.page.get_by_role("button", name="Decide again").click()
    tab.says("1 new, 0 gone, 1 as before.")
    assert tab.page.locator(".change").inner_text() == "new"
    tab.assert_well()
    threshold.fill("0.95")
    threshold.blur()
    tab.page.get_by_role("button", name="Decide again").click()
    tab.says("0 new, 1 gone, 0 as before.")
    threshold.fill("0.2")
    tab.page.get_by_label("Hits").first.fill("9")
    tab.page.get_by_label("Hits").first.blur()
    tab.page.get_by_role("button", name="Decide again").click()
    tab.says("chainsaw.hits: is 9, expected 1 to of = 3")
    tab.page.get_by_role("button", name="The log's own rules").click()
    tab.page.wait_for_function("document.querySelector('.rules input').value === '0.8'")
    tab.page.get_by_role("combobox").last.select_option(label="Chainsaw from 0.80")
    tab.page.locator("a[href*='at_least']").wait_for()
    with tab.page.expect_download() as download:
        tab.page.get_by_text("Windows, CSV").click()
    assert len(download.value.path().read_text().splitlines()) == 41
    with tab.page.expect_download() as download:
        tab.page.get_by_text("Judged alerts, for training").click()
    assert zipfile.is_zipfile(download.value.path())
