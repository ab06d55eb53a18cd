"""Admitting devices: a key, known to the station and written to a file for the device, both or neither."""

from datetime import datetime
from pathlib import Path

from agent.errors import ConfigError
from agent.signing import new_key
from base_station.keys import KeyRing, write_secret
from base_station.registry import audit_row
from base_station.store import Store

COMMAND_LINE = "command line"
"""Who did it, in the audit, where somebody works on the station's own machine."""


def admit(
    store: Store, ring: KeyRing, device_id: str, key_file: Path, now_utc: datetime, *, key: bytes | None = None
) -> bool:
    """Give a device a key and admit it; return whether it is new to the station.

    Args:
        store: the station's database.
        ring: the station's keys.
        device_id: the device's name, valid.
        key_file: where its key goes; replaced if there is one.
        now_utc: station time.
        key: the key that it has already; None makes a fresh one.

    Raises:
        ConfigError: the key cannot be written; the station does not know it then.
    """
    key = key or new_key()
    draft = key_file.with_name(f".{key_file.name}.new")
    draft.unlink(missing_ok=True)
    write_secret(draft, key.hex().encode())
    try:
        sealed = ring.seal(key)
        is_new = store.add_device(
            device_id, sealed, now_utc, also=audit_row(COMMAND_LINE, "device_added", device_id, now_utc)
        )
        if not is_new:
            store.rotate_key(device_id, sealed, also=audit_row(COMMAND_LINE, "key_replaced", device_id, now_utc))
        draft.replace(key_file)
    except OSError as error:
        raise ConfigError(f"{key_file}: cannot write the key: {error.strerror or error}") from error
    finally:
        draft.unlink(missing_ok=True)
    return is_new
