"""Log in and log out, as plain forms: they work before any script is loaded, and password managers know them."""

import html
from collections.abc import Callable
from datetime import datetime
from urllib.parse import parse_qs

from fastapi import FastAPI, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, RedirectResponse, Response

from base_station.accounts import SESSION_LASTS, TooManyAttemptsError
from base_station.guard import COOKIE, is_this_machine, session_secret
from base_station.pages.frame import LANGUAGE_COOKIE, LOOK_COOKIE, LOOKS, Site, asset
from base_station.pages.language import Language, chosen_language

LARGEST_FORM_BYTES = 4096


def add_login(app: FastAPI, site: Site) -> None:
    """Add `/login` and `/logout` to the application; the guard lets everybody reach them."""

    @app.get("/login", include_in_schema=False)
    async def form(request: Request, next: str = "/") -> Response:  # the address says so
        if is_this_machine(request.scope) and not await run_in_threadpool(site.accounts.any):
            return RedirectResponse(_within(next), 303)
        return _form(site, request, _within(next))

    @app.post("/login", include_in_schema=False)
    async def log_in(request: Request) -> Response:
        return await _log_in(site, request, site.now)

    @app.post("/logout", include_in_schema=False)
    async def log_out(request: Request) -> Response:
        if secret := session_secret(request.headers):
            await run_in_threadpool(site.accounts.log_out, secret)
        answer = RedirectResponse("/login", 303)
        answer.delete_cookie(COOKIE)
        return answer


async def _log_in(site: Site, request: Request, now: Callable[[], datetime]) -> Response:
    said = await _fields(request)
    name, password, wanted = (said.get(key, "") for key in ("name", "password", "next"))
    say = _language(site, request).say
    if not 1 <= len(name) <= 63 or not 1 <= len(password) <= 200:
        return _form(site, request, _within(wanted), say("Name or password is wrong."), name[:63], 401)
    try:
        found = await run_in_threadpool(site.accounts.log_in, name, password, now())
    except TooManyAttemptsError:
        trouble = say("Too many wrong passwords. Try again in a quarter of an hour.")
        return _form(site, request, _within(wanted), trouble, name, 429)
    if found is None:
        return _form(site, request, _within(wanted), say("Name or password is wrong."), name, 401)
    if old := session_secret(request.headers):
        await run_in_threadpool(site.accounts.log_out, old)  # whoever put it into this browser gains nothing
    answer = RedirectResponse(_within(wanted), 303)
    set_session(answer, found[0], secure=request.url.scheme == "https")
    return answer


def set_session(answer: Response, secret: str, *, secure: bool) -> None:
    """Give a browser its session.

    `lax`, so that a link in a message on the ranger's phone finds him logged in; what changes something is safe by the
    checks of Origin and of the CSRF header.
    """
    lasts_s = int(SESSION_LASTS.total_seconds())
    answer.set_cookie(COOKIE, secret, max_age=lasts_s, httponly=True, samesite="lax", secure=secure)


async def _fields(request: Request) -> dict[str, str]:
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > LARGEST_FORM_BYTES:
            return {}
    try:
        read = parse_qs(body.decode(), keep_blank_values=True, max_num_fields=10)
    except ValueError:
        return {}
    return {key: values[0].replace("\0", "") for key, values in read.items()}


def _within(address: str) -> str:
    """Return an address within the station, whatever somebody wrote behind `next=`."""
    inside = address.startswith("/") and not address.startswith("//") and "\\" not in address and address.isprintable()
    return address if inside and len(address) < 1000 and not address.startswith(("/login", "/logout")) else "/"


def _language(site: Site, request: Request) -> Language:
    cookie = request.cookies.get(LANGUAGE_COOKIE, "")
    return chosen_language(
        cookie, request.headers.get("accept-language", ""), site.told.page.language or site.choices.language
    )


_PAGE = """<!doctype html>
<html lang="{lang}"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="stylesheet" href="{style}">
<link rel="icon" href="/favicon.ico"></head>
<body class="{look}"><main class="login">
<p class="brand"><span class="leaf"></span><span class="name">Curupira</span></p>
<h1>{head}</h1>{trouble}
<form method="post" action="/login">
<input type="hidden" name="next" value="{next}">
<label class="field"><span>{name_label}</span>
<input name="name" value="{name}" autocomplete="username" autocapitalize="none" spellcheck="false" required
maxlength="63" {first}></label>
<label class="field"><span>{password_label}</span>
<input name="password" type="password" autocomplete="current-password" required maxlength="200" {second}></label>
<button class="button main" type="submit">{button}</button>
</form><p class="hint">{hint}</p></main>
<script>
if(!document.body.className&&matchMedia("(prefers-color-scheme: dark)").matches)
document.body.className="body--dark"</script>
</body></html>"""


def _form(
    site: Site, request: Request, wanted: str, trouble: str = "", name: str = "", status: int = 200
) -> HTMLResponse:
    language = _language(site, request)
    say = language.say
    dark = LOOKS.get(request.cookies.get(LOOK_COOKIE, "auto"))
    focus = "autofocus"
    values = {
        "lang": language.quasar,
        "title": f"{say('Log in')} · Curupira",
        "head": say("Log in"),
        "next": wanted,
        "name": name,
        "name_label": say("Name"),
        "password_label": say("Password"),
        "button": say("Log in"),
        "hint": say("No account? An operator makes one on the station: python -m base_station user add NAME"),
        "style": asset("style.css"),
    }
    safe = {key: html.escape(value) for key, value in values.items()}
    notice = f'<p class="banner trouble" role="alert">{html.escape(trouble)}</p>' if trouble else ""
    look = {None: "", True: "body--dark", False: "body--light"}[dark]
    page = _PAGE.format(**safe, look=look, trouble=notice, first="" if name else focus, second=focus if name else "")
    return HTMLResponse(page, status, headers={"Cache-Control": "no-store"})
