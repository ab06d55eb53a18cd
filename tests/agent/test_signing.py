"""Signatures: the example on the page, every part counts, and a key never shows."""

import base64
import dataclasses
import hashlib
import hmac
import os
import re
import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import ConfigError, FieldError
from agent.signing import (
    HEADER_BOOT,
    HEADER_COUNTER,
    HEADER_DEVICE,
    HEADER_SIGNATURE,
    HEADER_TIME,
    KEY_BYTES,
    LARGEST_COUNTER,
    RequestSeal,
    answer_is_signed,
    new_key,
    read_key,
    request_is_signed,
    sign_answer,
    sign_request,
)

REPO = Path(__file__).resolve().parents[2]
KEY = bytes(range(100, 100 + KEY_BYTES))
BODY = b'{"schema":1}'


def sealed(seal: RequestSeal, key: bytes = KEY, body: bytes = BODY) -> RequestSeal:
    return dataclasses.replace(seal, signature=sign_request(key, "POST", "/v1/alerts", body, seal))


SEAL = sealed(RequestSeal(device_id="ipe-07", boot_id="5d0c77aa-31b2", counter=7, time_utc="1970-01-01T00:00:09.000Z"))
SEALS = st.builds(
    RequestSeal,
    device_id=st.from_regex(r"[a-z0-9][a-z0-9._-]{0,62}", fullmatch=True),
    boot_id=st.text("0123456789abcdef-", min_size=8, max_size=64),
    counter=st.integers(0, LARGEST_COUNTER),
    time_utc=st.datetimes().map(lambda moment: moment.isoformat() + "Z"),
)


# ---- the page


@pytest.fixture(scope="module")
def page() -> str:
    text = (REPO / "docs" / "protocol.md").read_text(encoding="utf-8")
    return text.split("### A worked example")[1].split("\n## ")[0]


def http_block(page: str, number: int) -> tuple[str, dict[str, str], bytes]:
    """Return first line, headers and body of one of the page's HTTP examples."""
    head, _, body = page.split("```http\n")[number + 1].split("\n```", maxsplit=1)[0].partition("\n\n")
    first, *lines = head.split("\n")
    return first, dict(line.split(": ", 1) for line in lines), body.encode()


def page_key(page: str) -> bytes:
    found = re.search(r"`([0-9a-f]{64})`", page)
    assert found
    return bytes.fromhex(found[1])


def test_the_request_on_the_page_is_signed(page: str) -> None:
    first, headers, body = http_block(page, 0)
    method, path, _ = first.split()
    seal = RequestSeal.parse(headers)
    assert request_is_signed(page_key(page), method, path, body, seal)
    assert f"its body has {len(body)} bytes" in page


def test_the_text_on_the_page_is_what_is_signed(page: str) -> None:
    # HMAC by the standard library alone: the page must do without our code
    text = page.split("```text\n")[1].split("\n```", maxsplit=1)[0]
    _, headers, body = http_block(page, 0)
    assert text.endswith(hashlib.sha256(body).hexdigest())
    expected = "v1=" + hmac.new(page_key(page), text.encode(), "sha256").hexdigest()
    assert headers[HEADER_SIGNATURE] == expected


def test_the_answer_on_the_page_is_signed(page: str) -> None:
    seal = RequestSeal.parse(http_block(page, 0)[1])
    _, headers, body = http_block(page, 1)
    assert answer_is_signed(page_key(page), seal, body, headers[HEADER_SIGNATURE])


# ---- requests


@given(key=st.binary(min_size=KEY_BYTES, max_size=KEY_BYTES), seal=SEALS, body=st.binary(max_size=100))
def test_a_signed_request_survives_its_headers(key: bytes, seal: RequestSeal, body: bytes) -> None:
    signed = sealed(seal, key, body)
    parsed = RequestSeal.parse(signed.headers())
    assert parsed == signed
    assert request_is_signed(key, "POST", "/v1/alerts", body, parsed)


@pytest.mark.parametrize(
    "change",
    [
        {"device_id": "ipe-08"},
        {"boot_id": "5d0c77aa-31b3"},
        {"counter": 8},
        {"time_utc": "1970-01-01T00:00:09.001Z"},
        {"signature": ""},
        {"signature": "v1=" + "0" * 64},
        {"signature": "é"},
        {"signature": SEAL.signature.upper()},
        {"signature": SEAL.signature[:-1]},
    ],
    ids=str,
)
def test_a_changed_seal_is_not_signed(change: dict[str, object]) -> None:
    assert request_is_signed(KEY, "POST", "/v1/alerts", BODY, SEAL)
    assert not request_is_signed(KEY, "POST", "/v1/alerts", BODY, dataclasses.replace(SEAL, **change))


@pytest.mark.parametrize(
    ("key", "method", "path", "body"),
    [
        (KEY[::-1], "POST", "/v1/alerts", BODY),
        (KEY, "PUT", "/v1/alerts", BODY),
        (KEY, "POST", "/v1/heartbeats", BODY),
        (KEY, "POST", "/v1/alerts/", BODY),
        (KEY, "POST", "/v1/alerts", BODY + b" "),
        (KEY, "POST", "/v1/alerts", b""),
    ],
    ids=["key", "method", "path", "longer path", "longer body", "no body"],
)
def test_a_changed_request_is_not_signed(key: bytes, method: str, path: str, body: bytes) -> None:
    assert not request_is_signed(key, method, path, body, SEAL)


@given(one=SEALS, other=SEALS, bodies=st.tuples(st.binary(max_size=3), st.binary(max_size=3)))
def test_two_requests_never_share_a_signature(
    one: RequestSeal, other: RequestSeal, bodies: tuple[bytes, bytes]
) -> None:
    same = one == other and bodies[0] == bodies[1]
    assert (sealed(one, KEY, bodies[0]).signature == sealed(other, KEY, bodies[1]).signature) == same


@pytest.mark.parametrize(
    ("header", "values"),
    [
        (HEADER_DEVICE, ["", "Ipe", "-a", "a b", "a" * 64, "é", "a\n"]),
        (HEADER_BOOT, ["", "short", "g" * 8, "a" * 65, "5D0C77AA"]),
        (HEADER_COUNTER, ["", "-1", "1.0", "+1", " 1", "1e3", "9" * 17, "٣", str(LARGEST_COUNTER + 1)]),
        (HEADER_TIME, ["", "now", "2026", "2" * 41, "2026-11-20 11:42:07", "2026-11-20T11:42:07Z\nx"]),
        (HEADER_SIGNATURE, ["", "v1=", "v2=" + "0" * 64, "v1=" + "0" * 63, "v1=" + "A" * 64, "v1=" + "0" * 64 + "\n"]),
    ],
)
def test_a_malformed_header_is_named(header: str, values: list[str]) -> None:
    headers = SEAL.headers()
    RequestSeal.parse(headers)
    for value in values:
        with pytest.raises(FieldError) as caught:
            RequestSeal.parse(headers | {header: value})
        assert caught.value.key == header
    del headers[header]
    with pytest.raises(FieldError, match=f"^{header}: is missing"):
        RequestSeal.parse(headers)


@given(st.dictionaries(st.sampled_from(list(SEAL.headers())), st.text(max_size=80)))
def test_any_headers_are_a_seal_or_a_field_error(headers: dict[str, str]) -> None:
    changed = SEAL.headers() | headers
    try:
        seal = RequestSeal.parse(changed)
    except FieldError:
        return
    assert RequestSeal.parse(seal.headers()) == seal


# ---- answers


def test_an_answer_is_good_for_its_own_request_alone() -> None:
    answer = b'{"kind":"receipt"}'
    signature = sign_answer(KEY, SEAL.device_id, SEAL.boot_id, SEAL.counter, answer)
    assert answer_is_signed(KEY, SEAL, answer, signature)
    for other in (
        dataclasses.replace(SEAL, counter=8),
        dataclasses.replace(SEAL, boot_id="5d0c77aa-31b3"),
        dataclasses.replace(SEAL, device_id="ipe-08"),
    ):
        assert not answer_is_signed(KEY, other, answer, signature)
    assert not answer_is_signed(KEY[::-1], SEAL, answer, signature)
    assert not answer_is_signed(KEY, SEAL, answer + b" ", signature)
    for wrong in ("", "é", signature[:-1], signature + "0", "v1=" + "0" * 64):
        assert not answer_is_signed(KEY, SEAL, answer, wrong)


def test_a_request_is_no_answer_to_itself() -> None:
    assert not answer_is_signed(KEY, SEAL, BODY, SEAL.signature)


# ---- keys


def key_file(tmp_path: Path, content: bytes, mode: int = 0o600) -> Path:
    path = tmp_path / "ipe-07.key"
    path.write_bytes(content)
    path.chmod(mode)
    return path


@pytest.mark.parametrize("form", ["{}", "{}\n", " {}\r\n"])
@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_key_file_is_read(tmp_path: Path, form: str, mode: int) -> None:
    assert read_key(key_file(tmp_path, form.format(KEY.hex()).encode(), mode)) == KEY


def test_what_systemd_hands_over_may_look_open_to_a_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = key_file(tmp_path, KEY.hex().encode(), 0o440)  # an access list's mask, systemd 257
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(path.parent))
    assert read_key(path) == KEY
    path.chmod(0o444)
    with pytest.raises(ConfigError, match="others may read"):
        read_key(path)
    path.chmod(0o440)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "elsewhere"))
    with pytest.raises(ConfigError, match="others may read"):
        read_key(path)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o610, 0o601, 0o666, 0o602])
def test_a_key_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = key_file(tmp_path, KEY.hex().encode(), mode)
    with pytest.raises(
        ConfigError, match=rf"others may read the device key \(mode {mode:o}\); run: chmod 600 "
    ) as caught:
        read_key(path)
    assert KEY.hex() not in str(caught.value)


SECRET = KEY.hex()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        SECRET[:-1].encode(),
        SECRET[:-2].encode(),
        (SECRET + "00").encode(),
        (SECRET[:-1] + "x").encode(),
        ("key: " + SECRET).encode(),
        KEY,
        base64.b64encode(KEY),
        SECRET.encode("utf-16"),
        (SECRET + "é").encode(),
    ],
    ids=["empty", "line", "odd", "short", "long", "no digit", "yaml", "raw", "base64", "utf-16", "accent"],
)
def test_what_is_no_key_is_refused_and_never_shown(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ConfigError, match=r"ipe-07\.key: ") as caught:
        read_key(key_file(tmp_path, content))
    error: BaseException | None = caught.value
    while error is not None:
        for start in range(0, len(SECRET) - 8, 4):
            assert SECRET[start : start + 8] not in str(error)
        error = error.__cause__ or error.__context__
    assert "\n" not in str(caught.value)


def test_a_missing_key_says_how_to_make_one(tmp_path: Path) -> None:
    for path in (tmp_path / "none.key", tmp_path):
        with pytest.raises(
            ConfigError, match=r"cannot read the device key: .*; make one with `base_station device add`"
        ):
            read_key(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_key_of_another_user_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read the device key"):
        read_key(key_file(tmp_path, KEY.hex().encode(), 0o000))


def test_a_new_key_is_new_and_fits_its_file(tmp_path: Path) -> None:
    keys = {new_key() for _ in range(20)}
    assert len(keys) == 20
    assert {len(key) for key in keys} == {KEY_BYTES}
    key = keys.pop()
    assert set(key.hex()) <= set(string.hexdigits)
    assert read_key(key_file(tmp_path, key.hex().encode())) == key
