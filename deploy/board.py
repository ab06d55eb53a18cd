"""What is seen while many phones are worked on: a table that follows, or a line a step where nobody watches."""

import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from deploy.phone import Outcome

_STYLES = {"done": "green", "kept": "green", "not needed": "dim", "to do": "cyan", "by hand": "yellow", "failed": "red"}
_MARKS = {"done": "+", "kept": "=", "not needed": "-", "to do": "?", "by hand": "!", "failed": "X"}


@dataclass(slots=True)
class Row:
    """One phone, or one device."""

    key: str
    """Serial or address."""
    device: str = ""
    model: str = ""
    doing: str = "waits"
    outcomes: list[Outcome] = field(default_factory=list)
    ended: bool = False

    def verdict(self, n_steps: int) -> tuple[str, str]:
        """Return the word for the whole, and its style."""
        bad = [outcome.step for outcome in self.outcomes if not outcome.good]
        if any(outcome.word == "failed" for outcome in self.outcomes):
            return f"FAILED at {bad[-1]}", "red"
        if not self.ended:
            return self.doing, "cyan"
        if any(outcome.word == "to do" for outcome in self.outcomes):
            return f"to do: {', '.join(bad)}", "cyan"
        if bad:
            return f"by hand: {', '.join(bad)}", "yellow"
        return ("ready", "green") if len(self.outcomes) == n_steps else ("NOT FINISHED", "red")

    def is_ready(self, n_steps: int) -> bool:
        """Say whether everything was done."""
        return self.ended and len(self.outcomes) == n_steps and all(outcome.good for outcome in self.outcomes)


class Board:
    """All rows, shown while they change; any thread may write."""

    def __init__(self, rows: Sequence[Row], steps: Sequence[str], *, quiet: bool = False) -> None:
        """Show rows in this order.

        Args:
            rows: a row a phone.
            steps: the names of the steps, in order.
            quiet: show nothing while it runs.
        """
        self.rows = {row.key: row for row in rows}
        self._steps = tuple(steps)
        self._quiet = quiet
        self._lock = threading.Lock()
        self._console = Console(stderr=True)
        self._live: Live | None = None

    def __enter__(self) -> "Board":
        """Begin to show."""
        if self._console.is_terminal and not self._quiet:
            self._live = Live(get_renderable=self._picture, console=self._console, refresh_per_second=4)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop showing."""
        if self._live is not None:
            self._live.stop()

    def doing(self, key: str, step: str) -> None:
        """Say what is done now."""
        with self._lock:
            self.rows[key].doing = step

    def know(self, key: str, *, device: str = "", model: str = "") -> None:
        """Say what became known of a phone."""
        with self._lock:
            self.rows[key].device = device or self.rows[key].device
            self.rows[key].model = model or self.rows[key].model

    def add(self, key: str, outcome: Outcome) -> None:
        """Say what became of a step."""
        with self._lock:
            self.rows[key].outcomes.append(outcome)
        if self._live is None and not self._quiet:
            print(f"{key}  {outcome.step:<10} {outcome.word}: {outcome.detail}", file=sys.stderr, flush=True)

    def end(self, key: str) -> None:
        """Say that nothing more will be done to a phone."""
        with self._lock:
            self.rows[key].ended = True

    def _picture(self) -> Group:
        with self._lock:
            return Group(table(list(self.rows.values()), self._steps))

    @property
    def all_ready(self) -> bool:
        """Say whether every phone is."""
        return bool(self.rows) and all(row.is_ready(len(self._steps)) for row in self.rows.values())

    def report(self) -> None:
        """Print the table, and under it what is left to do by hand."""
        rows = list(self.rows.values())
        console = Console(width=None if sys.stdout.isatty() else 120)
        console.print(table(rows, self._steps))
        for row in rows:
            for outcome in row.outcomes:
                if not outcome.good and outcome.word != "to do":
                    what = f"{row.key} {row.device} {outcome.step}: {outcome.detail}"
                    console.print(Text(what, "bold"), soft_wrap=True)
                    console.print(Text(f"  -> {outcome.by_hand}"), soft_wrap=True)
        n_ready = sum(row.is_ready(len(self._steps)) for row in rows)
        console.print("; ".join(f"{mark} {word}" for word, mark in _MARKS.items()))
        console.print(f"{n_ready} of {len(rows)} ready")

    def document(self) -> Mapping[str, object]:
        """Return the same for programs."""
        return {
            "schema": 1,
            "steps": list(self._steps),
            "ready": sum(row.is_ready(len(self._steps)) for row in self.rows.values()),
            "phones": [_facts(row, len(self._steps)) for row in self.rows.values()],
        }


def _facts(row: Row, n_steps: int) -> Mapping[str, object]:
    return {
        "serial": row.key,
        "device": row.device,
        "model": row.model,
        "ready": row.is_ready(n_steps),
        "verdict": row.verdict(n_steps)[0],
        "steps": [
            {"step": outcome.step, "result": outcome.word, "detail": outcome.detail, "by_hand": outcome.by_hand}
            for outcome in row.outcomes
        ],
    }


def table(rows: Sequence[Row], steps: Sequence[str]) -> Table:
    """Return the table: a mark a step, and a word for the whole."""
    made = Table(box=None, pad_edge=False)
    for title in ("phone", "device", "model", "steps", "result"):
        made.add_column(title, no_wrap=title != "result", overflow="fold")
    for row in rows:
        marks = Text()
        for outcome in row.outcomes:
            marks.append(_MARKS[outcome.word], _STYLES[outcome.word])
        marks.append("·" * (len(steps) - len(row.outcomes)), "dim")
        word, style = row.verdict(len(steps))
        made.add_row(row.key, row.device, row.model, marks, Text(word, style))
    return made
