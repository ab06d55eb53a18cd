"""One agent to a storage folder: two would use each other's request numbers up."""

import errno
import fcntl
import logging
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from agent.errors import ConfigError

log = logging.getLogger(__name__)

_WORN = (errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO)
"""What a disk says that was well when the device was set up."""


@contextmanager
def alone(folder: Path) -> Generator[None]:
    """Make the storage folder and hold it; ConfigError if another agent does."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("w")
    except OSError as error:
        if error.errno not in _WORN:
            raise ConfigError(f"{folder}: cannot use the storage folder: {error.strerror}") from error
        # worn-out flash turns read-only: a phone that tells from memory is better than one that does not start
        log.error("%s: the disk refuses (%s); going on from memory", folder, error.strerror)  # noqa: TRY400
        yield
        return
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConfigError(f"{folder}: another agent uses this storage.folder; stop it first") from error
        yield
