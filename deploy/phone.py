"""One phone on the cable, what goes onto it, and what became of each step."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from deploy.adb import Adb, AdbError

TARGETS = {"arm64-v8a": "termux-aarch64", "armeabi-v7a": "termux-arm", "armeabi": "termux-arm"}
"""Which bundle a processor takes."""
GOOD = ("done", "kept", "not needed")


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What goes onto every phone."""

    apks: Mapping[str, tuple[Path, ...]]
    """By part of their name: `termux-app`, `termux-api`, `termux-boot`; the first has one for each processor."""
    bundles: Mapping[str, Path]
    """By target."""
    files: Path
    """Where `provision` put the devices' files."""
    pause: Callable[[float], None] = time.sleep


@dataclass(slots=True)
class Phone:
    """One phone on the cable, and what is known of it."""

    adb: Adb
    plan: Plan
    device: str
    """Which device of the fleet it becomes."""
    model: str = ""
    sdk: int = 0
    release: str = ""
    abi: str = ""
    identity: str = ""
    """Changes when the phone is reset to factory state."""
    free_mb: int = -1
    packages: frozenset[str] = frozenset()

    @property
    def target(self) -> str:
        """Return which bundle it takes."""
        return TARGETS.get(self.abi, "")

    @property
    def bundle(self) -> Path:
        """Return its bundle; AdbError if there is none for its processor."""
        path = self.plan.bundles.get(self.target)
        if path is None:
            raise AdbError(f"no bundle for {self.abi or 'an unknown processor'} was given")
        return path

    @property
    def folder(self) -> Path:
        """Return where its own files are."""
        return self.plan.files / self.device


@dataclass(frozen=True, slots=True)
class Done:
    """A step's good end."""

    detail: str
    needed: bool = True
    """False: this phone does not need it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One thing that is done to a phone."""

    name: str
    act: Callable[[Phone], Done]
    by_hand: str
    """How a person does it; `{serial}` is the phone's."""
    stops: bool = False
    """Whether what follows is in vain without it."""
    looks: bool = False
    """Whether it changes nothing, so that a dry run may take it."""
    again: bool = False
    """Whether it is asked anew on each run: a verdict does not keep."""
    key: Callable[[Phone], str] = field(default=lambda _: "1")
    """What it depends on: as long as that is the same, a step that was done is not done again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What became of one step on one phone."""

    step: str
    word: str
    """`done`; `kept`: done earlier; `not needed`; `to do`: in a dry run; `by hand`: not done, the rest goes on;
    `failed`: nothing goes on."""
    detail: str
    by_hand: str = ""
    """What a person can do about it."""

    @property
    def good(self) -> bool:
        """Say whether the phone is as it should be, as far as this step goes."""
        return self.word in GOOD
