"""The station's database and keys, for commands that work beside a running station."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from base_station.keys import KeyRing, open_ring
from base_station.settings import Settings, prepare_folder
from base_station.store import Store


@contextlib.contextmanager
def opened_store(data: Path, database: str | None = None) -> Iterator[tuple[Store, KeyRing]]:
    """Yield the station's database and keys."""
    settings = Settings(data=data, database=database)
    prepare_folder(data)
    with contextlib.closing(Store(settings.database_url)) as store:
        yield store, open_ring(settings.key_file, make=not store.any_device())
