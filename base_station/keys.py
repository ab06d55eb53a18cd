"""The devices' keys, sealed: whoever copies the database alone can sign nothing.

HMAC needs the very key, so a digest would not do. Each key lies in the database encrypted with the station's
own key, which lies beside it in a file that its owner alone may read, and which no backup of the database holds.
"""

import contextlib
import os
import stat
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken

from agent.errors import ConfigError
from agent.signing import new_key

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class KeyRing:
    """Seals and opens device keys with the station's key."""

    def __init__(self, station_key: bytes) -> None:
        """Take the station's key, as Fernet writes it; ValueError if it is not one."""
        self._fernet = Fernet(station_key)
        # an unknown device costs the same work as a known one, so that time does not tell which names exist
        self.dummy = self.seal(new_key())

    def seal(self, device_key: bytes) -> bytes:
        """Return the key as it may lie in the database."""
        return self._fernet.encrypt(device_key)

    def open(self, sealed: bytes) -> bytes:
        """Return the key that was sealed.

        Raises:
            ConfigError: another station key sealed it.
        """
        try:
            return self._fernet.decrypt(sealed)
        except InvalidToken as error:
            raise ConfigError(
                "station.key: did not seal the device keys in this database; put back the file that belongs to it"
            ) from error


def open_ring(path: Path, *, make: bool) -> KeyRing:
    """Return the ring for the station key in a file.

    Args:
        path: the key file.
        make: make a fresh key if there is no file; False where sealed keys exist that only the lost one can open.

    Raises:
        ConfigError: missing, readable by others, unreadable or no key. The text never holds the key.
    """
    if make and not path.exists():
        with contextlib.suppress(FileExistsError):  # another process of this station was quicker
            write_secret(path, Fernet.generate_key())
    try:
        mode = path.stat().st_mode
        text = path.read_bytes().strip()
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot read the station key: {error.strerror or error}; put it back from a backup, "
            "or remove the database too and add the devices anew"
        ) from error
    if mode & _OTHERS:
        raise ConfigError(f"{path}: others may read the station key (mode {mode & 0o777:o}); run: chmod 600 {path}")
    try:
        return KeyRing(text)
    except ValueError as error:
        raise ConfigError(f"{path}: is not a station key; put it back from a backup") from error


def write_secret(path: Path, secret: bytes) -> None:
    """Write a file that its owner alone may read; it is whole and on disk when it appears under its name.

    Raises:
        FileExistsError: there is one already; it is left as it was.
        ConfigError: it cannot be written.
    """
    draft = path.with_name(f".{path.name}-{os.getpid()}")
    try:
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(secret + b"\n")
                file.flush()
                os.fsync(file.fileno())
            path.hardlink_to(draft)
        finally:
            draft.unlink()
    except FileExistsError:
        raise
    except OSError as error:
        raise ConfigError(f"{path}: cannot write the key: {error.strerror or error}") from error
