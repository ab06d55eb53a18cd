"""Devices come in from everywhere; the page and what programs read stay on this machine."""

import asyncio
import ssl
from dataclasses import replace

import httpx
import pytest
from starlette.responses import PlainTextResponse

from agent.errors import ConfigError
from agent.signing import HEADER_SIGNATURE, answer_is_signed
from base_station.__main__ import main
from base_station.doors import Doors
from base_station.inbox import ALERTS, CLIPS, HEARTBEATS, is_device_path
from base_station.settings import Settings, page_url


def ask(method: str, path: str, *, client: str, host: str) -> int:
    doors = Doors(PlainTextResponse("in"), is_device_path, ["127.0.0.1", "localhost", "[::1]"])
    transport = httpx.ASGITransport(app=doors, client=(client, 5))

    async def once() -> int:
        async with httpx.AsyncClient(transport=transport, base_url=f"https://{host}") as session:
            return (await session.request(method, path)).status_code

    return asyncio.run(once())


@pytest.mark.parametrize("path", [ALERTS, HEARTBEATS, CLIPS + "5d0c9e0a-0000-4000-8000-000000000001"])
@pytest.mark.parametrize("client", ["192.168.4.7", "fd00::9", "127.0.0.1"])
def test_devices_come_in_from_everywhere(path, client):
    assert ask("POST", path, client=client, host="station.local") == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", ALERTS),
        ("GET", "/v1/devices"),
        ("POST", "/v1/alerts/"),
        ("POST", "/v1/session"),
        ("POST", CLIPS),
        ("POST", CLIPS + "a/b"),
        ("GET", "/healthz"),
    ],
)
def test_nobody_else_does(method, path):
    assert ask(method, path, client="192.168.4.7", host="station.local") == 403
    assert ask(method, path, client="192.168.4.7", host="127.0.0.1") == 403  # whatever name it uses
    assert ask(method, path, client="127.0.0.1", host="127.0.0.1") == 200
    assert ask(method, path, client="127.0.0.1", host="evil.example") == 400  # a page from elsewhere


def test_a_page_from_elsewhere_gets_no_live_events():
    doors = Doors(PlainTextResponse("in"), is_device_path, ["127.0.0.1"])
    sent: list[dict] = []

    async def send(message) -> None:
        sent.append(message)

    asyncio.run(doors({"type": "websocket", "client": ("192.168.4.7", 5), "path": "/"}, None, send))
    assert sent == [{"type": "websocket.close", "code": 1008}]


def test_beyond_loopback_it_serves_after_init_alone(tmp_path):
    data = tmp_path / "station"
    with pytest.raises(ConfigError, match="TLS"):
        Settings(data=data, host="0.0.0.0")
    assert main(["init", "--data", str(data), "--name", "station.local"]) == 0
    settings = Settings(data=data, host="0.0.0.0")
    assert page_url(settings, 8765) == "https://127.0.0.1:8765/"
    with pytest.raises(ConfigError, match="expected an address"):
        Settings(data=data, host="example.org")


@pytest.mark.slow
def test_over_tls_a_device_sends_and_the_page_is_for_this_machine(start_station, tmp_path, heartbeat_of):
    data = tmp_path / "station"
    main(["init", "--data", str(data), "--name", "station.local"])
    station = start_station("--host", "0.0.0.0", data=data)
    assert station.url.startswith("https://127.0.0.1:")
    device = replace(station.add_device("ipe-07"))
    trust = ssl.create_default_context(cafile=str(data / "tls" / "ca.pem"))
    body = heartbeat_of("ipe-07").to_json()
    with httpx.Client(verify=trust, timeout=30) as client:
        seal = device.seal(HEARTBEATS, body)
        answer = client.post(station.url + HEARTBEATS, content=body, headers=seal.headers())
        assert answer_is_signed(device.key, seal, answer.content, answer.headers[HEADER_SIGNATURE])
        assert client.get(f"{station.url}/v1/devices").json()["devices"][0]["device_id"] == "ipe-07"
        with pytest.raises(httpx.TransportError):
            client.get(station.url.replace("https", "http"))
