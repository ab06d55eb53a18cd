"""The station as a process: ready, killed, started again, stopped."""

import http.client
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from urllib.parse import urlsplit

import httpx
import pytest

pytestmark = pytest.mark.slow


def test_an_acknowledged_alert_survives_kill_9(start_station, alert_of):
    station = start_station()
    device = station.add_device("ipe-07")
    alerts = [alert_of("ipe-07") for _ in range(5)]
    for alert in alerts:
        assert station.send(device, alert).json()["kind"] == "receipt"
    station.kill()
    again = start_station(data=station.data)
    assert [alert["alert_id"] for alert in again.alerts()] == [alert.alert_id for alert in reversed(alerts)]
    assert again.send(device, alerts[0]).status_code == 200  # the same receipt: nothing comes twice
    assert len(again.alerts()) == 5


def test_killed_in_the_middle_of_many_it_has_every_one_that_it_acknowledged(start_station, alert_of):
    station = start_station()
    device = station.add_device("ipe-07")
    acknowledged: list[str] = []

    def send_until_dead() -> None:
        template = alert_of("ipe-07")
        for n in range(10_000):
            alert = replace(template, alert_id=f"00000000-0000-4000-8000-{n:012d}")
            try:
                station.send(device, alert)
            except httpx.HTTPError:
                return
            acknowledged.append(alert.alert_id)

    sender = threading.Thread(target=send_until_dead)
    sender.start()
    while len(acknowledged) < 20:
        time.sleep(0.01)
    station.kill()
    sender.join()
    kept = {alert["alert_id"] for alert in start_station(data=station.data).alerts_all()}
    assert set(acknowledged) <= kept
    assert len(kept) <= len(acknowledged) + 1  # the one whose receipt was cut off


def test_it_stops_in_time_with_exit_code_0_whatever_is_open(start_station):
    station = start_station()
    address = urlsplit(station.url)
    with (
        closing(http.client.HTTPConnection(address.hostname, address.port)) as half,
        closing(socket.create_connection((address.hostname, address.port))),
    ):
        half.putrequest("POST", "/v1/alerts")
        half.putheader("Content-Length", "1000")
        half.endheaders(b"{")
        assert station.stop() < 2.5
    assert station.process.returncode == 0
    assert "Traceback" not in station.said()


def test_a_second_station_on_the_same_port_is_told_so(start_station, tmp_path):
    station = start_station()
    port = urlsplit(station.url).port
    with pytest.raises(AssertionError, match=f"127.0.0.1:{port} cannot be used"):
        start_station("--port", str(port), data=tmp_path / "other")


def test_many_devices_at_once(start_station, alert_of):
    station = start_station()
    devices = [station.add_device(f"device-{n}") for n in range(2)]

    def send_twenty(device) -> None:
        for _ in range(20):
            station.send(device, alert_of(device.device_id, log_mel=None))

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(send_twenty, devices))
    assert len(station.alerts()) == 40
