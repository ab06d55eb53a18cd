"""Asking the station which of many waiting alerts it has already, instead of sending them all once more.

An outbox that came back from its copy or from an image of the card holds alerts that were receipted long ago. Two
receipts in a row that say "I had that" are reason to ask; an answer that knows less than half of them, or is about
the last of them, is reason to go on sending.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from agent.errors import FieldError
from agent.fields import Fields
from agent.outbox import Key, Waiting

MOST_ASKED = 500
FEWEST_ASKED = 10
"""Fewer are sent as quickly as they are asked for."""
CAPABILITY = "receipts"
_KNOWN_IN_A_ROW = 2
_SCHEMA = 1


@dataclass(slots=True)
class Inquiry:
    """Whether it is worth asking now."""

    _takes: bool = False
    _known_in_a_row: int = 0

    @property
    def is_due(self) -> bool:
        """Say whether the next request should ask."""
        return self._takes and self._known_in_a_row >= _KNOWN_IN_A_ROW

    def receipted(self, document: Fields, *, was_known: bool) -> None:
        """Take notice of a receipt for an alert: what the station takes, and whether it had the alert before."""
        takes = document.sequence("takes") if document.has("takes") else ()
        self._takes = CAPABILITY in takes
        self._known_in_a_row = self._known_in_a_row + 1 if was_known else 0

    def stop(self) -> None:
        """Go on sending, until receipts give reason to ask again."""
        self._known_in_a_row = 0

    def answered(self, document: Fields, wanted: Sequence[Waiting]) -> list[Key]:
        """Return what the station has of `wanted`; FieldError if it names anything else."""
        asked = {one.key for one in wanted}
        have = [_key(item) for item in document.sequence("have", longest=MOST_ASKED)]
        if not asked.issuperset(have):
            raise FieldError("have", "names an alert that was not asked for")
        if len(asked) < MOST_ASKED or 2 * len(have) < len(asked):
            self.stop()
        return have


def question(wanted: Sequence[Waiting]) -> bytes:
    """Return the body of the request (docs/protocol.md)."""
    alerts = [{"alert_id": one.alert_id, "revision": one.revision, "sha256": one.sha256} for one in wanted]
    return json.dumps({"schema": _SCHEMA, "alerts": alerts}, separators=(",", ":")).encode()


def _key(item: object) -> Key:
    pair = cast("list[object]", item) if isinstance(item, list) else []
    alert_id, revision = pair if len(pair) == 2 else (None, None)
    if isinstance(alert_id, str) and isinstance(revision, int):
        return alert_id, revision
    raise FieldError("have", "holds something else than pairs of alert and revision")
