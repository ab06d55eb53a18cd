"""Signatures on what goes over the wire: requests by the device, answers by the station.

Both sides import this. HMAC-SHA256 with a key per device; what is signed is text, a line per part, so that no
two different requests can have the same text (docs/protocol.md has a worked example).
"""

import hashlib
import hmac
import os
import re
import secrets
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from agent.errors import ConfigError, FieldError

KEY_BYTES = 32
DEVICE_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_BOOT_ID = re.compile(r"[0-9a-f-]{8,64}")
_SIGNATURE = re.compile(r"v1=[0-9a-f]{64}")
LARGEST_COUNTER = 2**53  # what JSON numbers carry exactly

HEADER_DEVICE = "X-Curupira-Device"
HEADER_BOOT = "X-Curupira-Boot"
HEADER_COUNTER = "X-Curupira-Counter"
HEADER_TIME = "X-Curupira-Time"
HEADER_SIGNATURE = "X-Curupira-Signature"


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestSeal:
    """What a signed request says of itself, beside its body."""

    device_id: str
    """The device's name at the station."""
    boot_id: str
    """Changes whenever the device starts; tells its monotonic clocks apart."""
    counter: int
    """Larger than in every earlier request of this device: a copy of an old request is refused by it."""
    time_utc: str
    """The device's own idea of the time, ISO 8601. Recorded and never judged: a phone may believe it is 1970."""
    signature: str = ""
    """`v1=` and 64 hexadecimal digits."""

    def headers(self) -> dict[str, str]:
        """Return the HTTP headers that carry this seal."""
        return {
            HEADER_DEVICE: self.device_id,
            HEADER_BOOT: self.boot_id,
            HEADER_COUNTER: str(self.counter),
            HEADER_TIME: self.time_utc,
            HEADER_SIGNATURE: self.signature,
        }

    @classmethod
    def parse(cls, headers: Mapping[str, str]) -> "RequestSeal":
        """Read the seal from request headers; FieldError names the header that is missing or malformed."""
        device_id = _header(headers, HEADER_DEVICE, DEVICE_ID)
        boot_id = _header(headers, HEADER_BOOT, _BOOT_ID)
        counter = int(_header(headers, HEADER_COUNTER, re.compile(r"[0-9]{1,16}")))
        if counter > LARGEST_COUNTER:
            raise FieldError(HEADER_COUNTER, f"is {counter}, expected at most {LARGEST_COUNTER}")
        time_utc = _header(headers, HEADER_TIME, re.compile(r"[0-9TZ:.+-]{10,40}"))
        signature = _header(headers, HEADER_SIGNATURE, _SIGNATURE)
        return cls(device_id=device_id, boot_id=boot_id, counter=counter, time_utc=time_utc, signature=signature)


def _header(headers: Mapping[str, str], name: str, form: re.Pattern[str]) -> str:
    value = headers.get(name, "")
    if not form.fullmatch(value):
        raise FieldError(name, "is missing or malformed")
    return value


def new_key() -> bytes:
    """Return a fresh device key."""
    return secrets.token_bytes(KEY_BYTES)


def read_key(path: Path) -> bytes:
    """Return the key in a key file: 64 hexadecimal digits, readable by its owner alone.

    Raises:
        ConfigError: no such file, open to others, or not a key. The text never holds the key.
    """
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path}: cannot read the device key: {error}; make one with `base_station device add`"
        ) from error
    if mode & (stat.S_IRWXO if is_credential(path) else stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigError(f"{path}: others may read the device key (mode {mode & 0o777:o}); run: chmod 600 {path}")
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise ConfigError(f"{path}: is not a device key, expected {2 * KEY_BYTES} hexadecimal digits")
    return key


def is_credential(path: Path) -> bool:
    """Say whether systemd handed the file over (LoadCredential=): its access list looks like a group."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY", "")
    return bool(folder) and path.resolve().parent == Path(folder).resolve()


def sign_request(key: bytes, method: str, path: str, body: bytes, seal: RequestSeal) -> str:
    """Return the signature of a request; `seal.signature` does not count."""
    digest = hashlib.sha256(body).hexdigest()
    lines = (
        "curupira-request-v1",
        method,
        path,
        seal.device_id,
        seal.boot_id,
        str(seal.counter),
        seal.time_utc,
        digest,
    )
    return _signature(key, lines)


def request_is_signed(key: bytes, method: str, path: str, body: bytes, seal: RequestSeal) -> bool:
    """Say whether the seal's signature is right, in constant time."""
    expected = sign_request(key, method, path, body, seal)
    return hmac.compare_digest(expected.encode(), seal.signature.encode())


def sign_answer(key: bytes, device_id: str, boot_id: str, counter: int, body: bytes) -> str:
    """Return the station's signature of its answer to one request, which boot id and counter name."""
    digest = hashlib.sha256(body).hexdigest()
    return _signature(key, ("curupira-answer-v1", device_id, boot_id, str(counter), digest))


def answer_is_signed(key: bytes, seal: RequestSeal, body: bytes, signature: str) -> bool:
    """Say whether an answer is the station's, and to this request, in constant time."""
    expected = sign_answer(key, seal.device_id, seal.boot_id, seal.counter, body)
    return hmac.compare_digest(expected.encode(), signature.encode())


def _signature(key: bytes, lines: tuple[str, ...]) -> str:
    return "v1=" + hmac.new(key, "\n".join(lines).encode(), hashlib.sha256).hexdigest()
