"""Devices come in under every name, everybody else under the station's own; from elsewhere only with a session."""

import asyncio
import ssl
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from starlette.responses import PlainTextResponse

from agent.errors import ConfigError
from agent.signing import HEADER_SIGNATURE, answer_is_signed
from base_station.__main__ import main
from base_station.accounts import Accounts
from base_station.doors import Doors
from base_station.inbox import ALERTS, CLIPS, HEARTBEATS, is_device_path
from base_station.settings import Settings, page_url
from base_station.store import Store

PASSWORD = "quem tem olhos veja"


def ask(method: str, path: str, *, client: str, host: str) -> int:
    doors = Doors(PlainTextResponse("in"), is_device_path, ["station.local", "192.168.4.1"])
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
def test_everybody_else_has_to_know_the_station_by_its_own_name(method, path):
    for own in ("127.0.0.1", "localhost:8765", "[::1]:8765", "station.local", "STATION.local:8765", "192.168.4.1"):
        assert ask(method, path, client="192.168.4.7", host=own) == 200
    for other in ("evil.example", "station.local.evil.example", "[::2]"):
        assert ask(method, path, client="127.0.0.1", host=other) == 400


def test_a_page_from_elsewhere_gets_no_live_events():
    doors = Doors(PlainTextResponse("in"), is_device_path, [])
    sent: list[dict] = []

    async def send(message) -> None:
        sent.append(message)

    scope = {"type": "websocket", "client": ("127.0.0.1", 5), "path": "/", "headers": [(b"host", b"evil.example")]}
    asyncio.run(doors(scope, None, send))
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


def test_beyond_loopback_it_wants_an_operator_with_a_password(tmp_path, capsys):
    data = tmp_path / "station"
    main(["init", "--data", str(data), "--name", "station.local"])
    assert main(["serve", "--data", str(data), "--host", "0.0.0.0", "--port", "0"]) == 2
    assert "user add NAME --role operator" in capsys.readouterr().err
    add_person(data, "bea", "viewer")
    assert main(["serve", "--data", str(data), "--host", "0.0.0.0", "--port", "0"]) == 2


def add_person(data: Path, name: str, role: str) -> None:
    with closing(Store(Settings(data=data).database_url)) as store:
        Accounts(store.database).set_person(name, role, PASSWORD, datetime.now(UTC))


@pytest.mark.slow
def test_over_tls_a_device_sends_and_a_ranger_reads_after_he_logged_in(start_station, tmp_path, heartbeat_of):
    data = tmp_path / "station"
    main(["init", "--data", str(data), "--name", "station.local"])
    add_person(data, "ana", "operator")
    station = start_station("--host", "0.0.0.0", data=data)
    assert station.url.startswith("https://127.0.0.1:")
    device = station.add_device("ipe-07")
    trust = ssl.create_default_context(cafile=str(data / "tls" / "ca.pem"))
    body = heartbeat_of("ipe-07").to_json()
    with httpx.Client(verify=trust, timeout=30, base_url=station.url) as client:
        seal = device.seal(HEARTBEATS, body)
        answer = client.post(HEARTBEATS, content=body, headers=seal.headers())
        assert answer_is_signed(device.key, seal, answer.content, answer.headers[HEADER_SIGNATURE])
        assert client.get("/v1/devices").status_code == 401
        page = client.get("/devices?x=1", headers={"Accept": "text/html"})
        assert (page.status_code, page.headers["location"]) == (303, "/login?next=%2Fdevices%3Fx%3D1")
        said = {"name": "ana", "password": PASSWORD, "next": "/"}
        came = client.post("/login", data=said, headers={"Origin": station.url})
        assert (came.status_code, came.headers["location"]) == (303, "/")
        cookie = came.headers["set-cookie"]
        assert all(part in cookie for part in ("HttpOnly", "Secure", "SameSite=lax"))
        assert client.get("/v1/devices").json()["devices"][0]["device_id"] == "ipe-07"
        home = client.get("/", headers={"Accept": "text/html"})
        assert home.status_code == 200
        assert "default-src 'self'" in home.headers["content-security-policy"]
        with pytest.raises(httpx.TransportError):
            client.get(station.url.replace("https", "http"))
