"""How `provision` makes devices known: in the station's own data folder, or over its API with an operator's token."""

import stat
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote

import requests

from agent.errors import ConfigError
from agent.signing import new_key, read_key
from deploy.roster import Member

if TYPE_CHECKING:  # the station takes a second to import
    from base_station.keys import KeyRing
    from base_station.store import Store

_TIMEOUT_S = 20.0
_LARGEST_TOKEN_BYTES = 1_000


class Registrar(Protocol):
    """Where devices are made known."""

    def enrol(self, member: Member, key_file: Path) -> str:
        """See to it that device and station have the same key; return what was done, as `Provisioned.key` says.

        Raises:
            ConfigError: the station refuses, or has another key.
        """
        ...

    def admitted(self) -> Sequence[str]:
        """Return the ids of all devices that the station listens to."""
        ...


class LocalRegistrar:
    """The station's database and keys, on its own machine."""

    def __init__(self, store: "Store", ring: "KeyRing", now: datetime) -> None:
        """Take the open database."""
        self._store = store
        self._ring = ring
        self._now = now

    def enrol(self, member: Member, key_file: Path) -> str:
        """See to it that device and station have the same key, and make none where there is one."""
        done = self._key(member, key_file)
        self._describe(member)
        return done

    def _key(self, member: Member, key_file: Path) -> str:
        from base_station.admission import admit
        from base_station.keys import write_secret

        device = self._store.device(member.id)
        mine = read_key(key_file) if key_file.exists() else None
        if device is None:
            admit(self._store, self._ring, member.id, key_file, self._now, key=mine)
            return "new" if mine is None else "registered"
        if device.revoked_utc is not None:
            raise ConfigError(
                f"{member.id}: the station refuses it since {device.revoked_utc:%Y-%m-%d}; admit it again: "
                f"python -m base_station device add {member.id} --rotate --key-out {key_file}"
            )
        theirs = self._ring.open(device.sealed_key)
        if mine is None:
            write_secret(key_file, theirs.hex().encode())
            return "restored"
        if mine != theirs:
            raise ConfigError(
                f"{key_file}: is not the key that the station has for {member.id}; remove the file to take the "
                "station's, or make a new one: "
                f"python -m base_station device add {member.id} --rotate --key-out {key_file}"
            )
        return "kept"

    def _describe(self, member: Member) -> None:
        from base_station.admission import COMMAND_LINE
        from base_station.registry import found, move_device, rename_device

        device = found(self._store, member.id)
        if member.name not in {member.id, device.name}:
            rename_device(self._store, member.id, member.name, who=COMMAND_LINE, now_utc=self._now)
        place = member.position
        if place is not None and (place.latitude, place.longitude) != (device.latitude, device.longitude):
            move_device(self._store, member.id, place, who=COMMAND_LINE, now_utc=self._now)

    def admitted(self) -> Sequence[str]:
        """Return the ids of all devices that the station listens to."""
        return [device.device_id for device in self._store.devices() if device.revoked_utc is None]


class RemoteRegistrar:
    """A station elsewhere, over its API; its keys are made here and handed in, and cannot be had back from it."""

    def __init__(self, url: str, token: str, ca_file: Path | None) -> None:
        """Prepare the connection.

        Args:
            url: the station's address, `https://host:port`.
            token: of an operator.
            ca_file: the station's certificate authority.
        """
        self._url = url.rstrip("/")
        self._session = requests.Session()
        self._session.trust_env = False  # no proxy or netrc comes between
        self._session.verify = True if ca_file is None else str(ca_file)
        self._session.headers["Authorization"] = f"Bearer {token}"

    def enrol(self, member: Member, key_file: Path) -> str:
        """Hand in the device's key; a fresh one becomes the device's only once the station has it."""
        from base_station.keys import write_secret

        if key_file.exists():
            key, draft = read_key(key_file), None
        else:
            key, draft = new_key(), key_file.with_name(f".{key_file.name}.new")
            # one that an earlier run wrote and could not hand in, or whose answer was lost, is tried again
            if draft.exists():
                key = read_key(draft)
            else:
                write_secret(draft, key.hex().encode())
        status, device = self._post(member, key)
        if draft is not None:
            draft.replace(key_file)
        if status == 201:
            return "new" if draft is not None else "registered"
        self._describe(member, device)
        return "kept" if draft is None else "new"

    def _post(self, member: Member, key: bytes) -> tuple[int, Mapping[str, Any]]:
        said = {"device_id": member.id, "key": key.hex(), **_described(member)}
        status, answer = self._ask("POST", "/v1/devices", said)
        if status in (200, 201):
            return status, answer
        raise ConfigError(
            f"{member.id}: the station says {status}: {answer.get('detail', 'nothing more')}"
            + ("; revoke it there, or give it a new key and put that in its folder" if status == 409 else "")
        )

    def _describe(self, member: Member, device: Mapping[str, Any]) -> None:
        wanted = _described(member)
        place = wanted.get("position")
        same = device.get("name") == wanted.get("name", device.get("name"))
        if place is not None:
            same = same and (device.get("latitude"), device.get("longitude")) == tuple(place.values())
        if not same:
            status, answer = self._ask("PATCH", f"/v1/devices/{member.id}", wanted)
            if status != 200:
                raise ConfigError(f"{member.id}: the station says {status}: {answer.get('detail', 'nothing more')}")

    def admitted(self) -> Sequence[str]:
        """Return the ids of all devices that the station listens to."""
        found: list[str] = []
        path = "/v1/devices"
        while path:
            status, answer = self._ask("GET", path, None)
            if status != 200:
                raise ConfigError(f"{self._url}: says {status}: {answer.get('detail', 'nothing more')}")
            found += [device["device_id"] for device in answer["devices"] if device["revoked_utc"] is None]
            after = answer.get("after")
            path = f"/v1/devices?after={quote(after, safe='')}" if after else ""
        return found

    def _ask(self, method: str, path: str, said: object) -> tuple[int, Mapping[str, Any]]:
        try:
            response = self._session.request(
                method, self._url + path, json=said, timeout=_TIMEOUT_S, allow_redirects=False
            )
            answer = response.json()
        except requests.JSONDecodeError as error:
            raise ConfigError(f"{self._url}: answers {response.status_code} and is no station") from error
        except requests.RequestException as error:
            raise ConfigError(f"{self._url}: cannot be reached: {str(error)[:200]}") from error
        if not isinstance(answer, dict):
            raise ConfigError(f"{self._url}: answers {response.status_code} and is no station")
        return response.status_code, answer


def _described(member: Member) -> dict[str, Any]:
    described: dict[str, Any] = {}
    if member.name != member.id:
        described["name"] = member.name
    if member.position is not None:
        described["position"] = {"latitude": member.position.latitude, "longitude": member.position.longitude}
    return described


def read_token(path: Path) -> str:
    """Return the token in a file that its owner alone may read; ConfigError otherwise, without the token in it."""
    try:
        mode = path.stat().st_mode
        text = path.read_bytes()[:_LARGEST_TOKEN_BYTES].decode("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--token-file: {path} cannot be read; write into it what `token add` printed") from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigError(f"--token-file: others may read {path} (mode {mode & 0o777:o}); run: chmod 600 {path}")
    if not text or len(text.split()) != 1:
        raise ConfigError(f"--token-file: {path} holds no token; write into it what `token add` printed")
    return text
