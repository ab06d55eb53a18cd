"""Two models on the device: the one that is configured, and the last one that served well.

A file that is damaged on the way, or a model that fails at work, must not leave a phone deaf for the months until
somebody climbs up: the model before it takes over, and the device says so in every heartbeat.
"""

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from agent.counter import write_durably
from agent.errors import FieldError, ModelCondemnedError, ModelError, StorageError
from agent.fields import Fields
from agent.manifest import load_model, manifest_path

log = logging.getLogger(__name__)

Loaded = TypeVar("Loaded")

SLOT_SCHEMA = 1
GOOD_ANSWERS = 400
"""Answers after which a model has served well: ten minutes of a noisy forest."""
LONGEST_FAILURE_S = 60.0
"""Seconds without one answer, failures alone, after which a model is given up for the one before."""
_LARGEST_NOTE_BYTES = 4_096
_LONGEST_REASON = 200


class ModelSlots:
    """The device's own copy of a model that served well, and the name of one that did not."""

    def __init__(self, folder: Path) -> None:
        """Look at nothing yet.

        Args:
            folder: where the device's files lie.
        """
        self._good = folder / "models" / "good.tflite"
        self._note = folder / "models" / "condemned.json"

    def choose(self, configured: Path, load: Callable[[Path], tuple[str, Loaded]]) -> tuple[Loaded, Path, str]:
        """Return what was loaded, from where, and why it is not the configured model (empty: it is).

        Args:
            configured: the model to use if it can be used.
            load: loads and proves a model; returns its digest and whatever is needed of it.

        Raises:
            ModelError: the configured model cannot be used, and no other one served well before.
        """
        try:
            digest, loaded = load(configured)
        except ModelError as error:
            other = self._other(load)
            if other is None:
                raise
            log.error("%s; the model that was good before takes over", error)  # noqa: TRY400  # one line for people
            return other, self._good, str(error)
        problem = self._condemned(digest)
        if not problem:
            return loaded, configured, ""
        other = self._other(load)
        if other is None:
            log.warning("%s; there is no other model, so it is tried again", problem)
            return loaded, configured, ""
        log.error("%s; the model that was good before takes over", problem)
        return other, self._good, problem

    def _other(self, load: Callable[[Path], tuple[str, Loaded]]) -> Loaded | None:
        try:
            return load(self._good)[1]
        except ModelError as error:
            log.debug("no other model: %s", error)
            return None

    def has_other(self, digest: str) -> bool:
        """Say whether a model that served well lies ready, and is not this one."""
        return self._kept() not in (None, digest)

    def _kept(self) -> str | None:
        """Return the digest of the copy, None if there is none that is whole."""
        try:
            return load_model(self._good)[0].digest
        except ModelError:
            return None

    def keep(self, model: Path, digest: str) -> None:
        """Keep a copy of a model that served well; without a copy the device goes on all the same.

        Args:
            model: its file.
            digest: of the model that served; another one that took its place meanwhile has proved nothing.
        """
        if model == self._good:
            return
        try:
            manifest, content = load_model(model)
            if manifest.digest != digest:
                log.info("%s is another model by now (%s): no copy is kept of it", model, manifest.digest)
                return
            if manifest.digest == self._kept():
                return  # from an earlier run: flash is not written for it again
            text = manifest_path(model).read_bytes()
            # between the two the pair does not match, and is refused: better none than a mixture
            write_durably(self._good, content)
            write_durably(manifest_path(self._good), text)
        except (ModelError, OSError, StorageError) as error:
            log.warning("no copy of the model is kept: %s", error)
            return
        log.info("model %s has served well; a copy is kept as %s", manifest.digest, self._good)

    def condemn(self, digest: str, reason: str) -> None:
        """Note that a model failed at work, so that the next start does not try it again."""
        note = {"schema": SLOT_SCHEMA, "digest": digest, "reason": " ".join(reason.split())[:_LONGEST_REASON]}
        try:
            write_durably(self._note, json.dumps(note).encode() + b"\n")
        except StorageError as error:
            log.warning("the model will be tried again at the next start: %s", error)

    def _condemned(self, digest: str) -> str:
        """Return why a model was given up, empty if it was not."""
        try:
            with self._note.open("rb") as file:
                fields = Fields(json.loads(file.read(_LARGEST_NOTE_BYTES)))
            fields.integer("schema", SLOT_SCHEMA, SLOT_SCHEMA)
            named, reason = fields.text("digest", longest=64), fields.text("reason", longest=_LONGEST_REASON)
        except FileNotFoundError:
            return ""
        except (OSError, ValueError, FieldError) as error:
            log.warning("%s: cannot be read, no model is taken to be bad: %s", self._note, error)
            return ""
        return f"model {digest} failed before: {reason}" if named == digest else ""


@dataclass(slots=True)
class ModelGuard:
    """Watches a model at work: keeps it when it has served well, gives it up when it only fails."""

    slots: ModelSlots
    model: Path
    digest: str
    _answers: int = field(init=False, default=0)
    _failing_since_s: float | None = field(init=False, default=None)

    def answered(self) -> None:
        """Count an answer."""
        self._failing_since_s = None
        self._answers += 1
        if self._answers == GOOD_ANSWERS:
            self.slots.keep(self.model, self.digest)

    def failed(self, problem: str, now_s: float) -> None:
        """Count a failure.

        Raises:
            ModelCondemnedError: there was nothing else for too long, and another model lies ready.
        """
        if self._failing_since_s is None:
            self._failing_since_s = now_s
        if now_s - self._failing_since_s < LONGEST_FAILURE_S:
            return
        if self.slots.has_other(self.digest):
            self.slots.condemn(self.digest, problem)
            raise ModelCondemnedError(f"model {self.digest} is given up: {problem}")
        self._failing_since_s = now_s  # to look for another reads a whole model: not at every window
