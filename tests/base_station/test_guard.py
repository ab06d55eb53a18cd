"""Who gets in: a browser without a session is led to the login, and no page of somebody else can do anything."""

import asyncio
from typing import Any

import httpx
import pytest
from starlette.responses import PlainTextResponse

from base_station.accounts import Accounts
from base_station.guard import COOKIE, WHO, Guard

PASSWORD = "quem tem olhos veja"
PAGE = {"accept": "text/html"}


@pytest.fixture
def accounts(store) -> Accounts:
    return Accounts(store.database)


@pytest.fixture
def guard(accounts, station_clock) -> Guard:
    async def app(scope, receive, send) -> None:
        who = scope.get(WHO)
        await PlainTextResponse("everybody" if who is None else who.name)(scope, receive, send)

    return Guard(app, accounts, station_clock, [("POST", "/v1/session")])


def ask(
    guard: Guard, method: str, path: str, headers: dict[str, str] | None = None, client: str = "127.0.0.1"
) -> httpx.Response:
    transport = httpx.ASGITransport(app=guard, client=(client, 5))

    async def once() -> httpx.Response:
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8765") as session:
            return await session.request(method, path, headers=headers)

    return asyncio.run(once())


def connect(guard: Guard, headers: dict[str, str]) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []

    async def app(scope, receive, send) -> None:
        await send({"type": "websocket.accept"})

    async def send(message) -> None:
        sent.append(message)

    guard._app = app
    coded = [(name.encode(), value.encode()) for name, value in {"host": "127.0.0.1:8765", **headers}.items()]
    scope = {"type": "websocket", "scheme": "ws", "path": "/_nicegui_ws/socket.io", "headers": coded}
    asyncio.run(guard({**scope, "client": ("127.0.0.1", 5), "query_string": b""}, None, send))
    return sent


EVERYTHING = ["/", "/devices", "/v1/alerts/x/log-mel.png", "/v1/alerts/x/clip.wav", "/tiles/3/2/1", "/_nicegui/auto/x"]


def test_with_nobody_there_this_machine_sees_everything_and_others_nothing(guard):
    for path in EVERYTHING:
        assert ask(guard, "GET", path).text == "everybody"
        assert ask(guard, "GET", path, client="192.168.4.7").status_code == 401


def test_with_people_nothing_is_shown_without_a_session(guard, accounts, station_clock):
    accounts.set_person("ana", "viewer", PASSWORD, station_clock())
    secret, _ = accounts.log_in("ana", PASSWORD, station_clock())
    cookie = {"cookie": f"{COOKIE}={secret}"}
    for path in EVERYTHING:
        assert ask(guard, "GET", path).status_code == 401
        assert ask(guard, "GET", path, cookie).text == "ana"
    station_clock.pass_s(13 * 3600)
    assert ask(guard, "GET", "/", cookie).status_code == 401


def test_a_browser_is_led_to_the_login_and_back(guard, accounts, station_clock):
    accounts.set_person("ana", "viewer", PASSWORD, station_clock())
    answer = ask(guard, "GET", "/incidents/a?b=%2F&c=d", PAGE)
    assert answer.status_code == 303
    assert answer.headers["location"] == "/login?next=%2Fincidents%2Fa%3Fb%3D%252F%26c%3Dd"
    for path in ("/login", "/assets/style.css", "/healthz", "/_nicegui/3.18.0/static/quasar.umd.js"):
        assert ask(guard, "GET", path, PAGE).status_code == 200
    assert ask(guard, "GET", "/_nicegui/3.18.0/static/../../client/x", PAGE).status_code != 200


def test_a_page_of_somebody_else_changes_nothing(guard):
    for headers, allowed in (
        ({"origin": "http://127.0.0.1:8765"}, True),
        ({}, True),  # curl
        ({"origin": "http://evil.example"}, False),
        ({"origin": "http://127.0.0.1:9999"}, False),
        ({"origin": "https://127.0.0.1:8765"}, False),
        ({"origin": "null"}, False),
        ({"sec-fetch-site": "cross-site"}, False),
    ):
        for path in ("/login", "/logout", "/v1/session", "/v1/alerts/x/verdicts", "/_nicegui/client/x/upload/1"):
            assert (ask(guard, "POST", path, headers).status_code == 200) is allowed, (path, headers)


def test_live_events_are_for_our_own_page(guard):
    for headers, answer in (
        ({"origin": "http://127.0.0.1:8765"}, "websocket.accept"),
        ({"origin": "http://evil.example"}, "websocket.close"),
        ({}, "websocket.close"),
    ):
        assert [message["type"] for message in connect(guard, headers)] == [answer]


def test_live_events_want_a_session_once_there_are_people(guard, accounts, station_clock):
    own = {"origin": "http://127.0.0.1:8765"}
    accounts.set_person("ana", "viewer", PASSWORD, station_clock())
    assert connect(guard, own)[0]["type"] == "websocket.close"
    secret, _ = accounts.log_in("ana", PASSWORD, station_clock())
    assert connect(guard, {**own, "cookie": f"{COOKIE}={secret}"})[0]["type"] == "websocket.accept"
