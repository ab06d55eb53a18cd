"""What a scan has done, one line a recording, so that the same command goes on where it stopped."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from agent.errors import ConfigError
from model_export.scan.hear import Heard, Job


class Kept:
    """The file `scan.jsonl`: a first line that says what was scanned with, then one line a recording."""

    def __init__(self, path: Path, job: Job) -> None:
        """Open it, or begin it.

        Raises:
            ConfigError: it is of another model, or of another gate.
        """
        self._path = path
        self._digest = hashlib.sha256(job.content + f"{job.manifest}{job.gate}{job.vad}".encode()).hexdigest()[:16]
        self.done: dict[str, tuple[int, int, Heard]] = {}
        """Name -> size, time of the last change in ns, and what was heard."""
        if path.is_file():
            self._read()
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({"scan": self._digest}) + "\n", encoding="utf-8")

    def _read(self) -> None:
        first, *lines = self._path.read_text(encoding="utf-8").split("\n")
        if json.loads(first or "{}").get("scan") != self._digest:
            raise ConfigError(
                f"{self._path}: is of another model or gate; give another --out, or remove it to scan anew"
            )
        for line in lines:
            try:
                found = json.loads(line)
                self.done[found["heard"]["path"]] = (found["size"], found["changed"], Heard.of_json(found["heard"]))
            except (ValueError, KeyError, TypeError):
                continue  # the last line of a scan that was killed while it wrote

    def left(self, root: Path, names: Sequence[str]) -> list[str]:
        """Return the recordings that were not heard, failed, or have changed since."""
        return [name for name in names if not self._is_done(root, name)]

    def _is_done(self, root: Path, name: str) -> bool:
        size, changed, heard = self.done.get(name, (-1, -1, None))
        return heard is not None and not heard.error and (size, changed) == stamp_of(root / name)

    def keep(self, root: Path, heard: Heard) -> None:
        """Write down one recording."""
        size, changed = stamp_of(root / heard.path)
        self.done[heard.path] = (size, changed, heard)
        line = json.dumps({"size": size, "changed": changed, "heard": heard.to_json()})
        with self._path.open("a", encoding="utf-8") as file:
            # a line that was cut off by a kill must not swallow this one
            file.write(("" if self._ends_well() else "\n") + line + "\n")

    def _ends_well(self) -> bool:
        with self._path.open("rb") as file:
            file.seek(-1, 2)
            return file.read(1) == b"\n"


def stamp_of(path: Path) -> tuple[int, int]:
    """Return size and time of the last change; (-1, -1) where there is no file."""
    try:
        found = path.stat()
    except OSError:
        return -1, -1
    return found.st_size, found.st_mtime_ns
