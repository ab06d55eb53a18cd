"""How much the device may do with the power that it has: three named levels, and what moves it between them.

`full` hears everything. `saving` lets the microphone go for a third of the time, gives the model every second window
and tells less often: a saw at work for two minutes is heard all the same. `survival` hears one minute in five: a device
that does so for four days is worth more than one that hears everything for one. Charge and heat move the level, each
with its own margin on the way back.
"""

from dataclasses import dataclass, field

from agent.alert import Battery
from agent.errors import FieldError
from agent.fields import Fields

LEVELS = ("full", "saving", "survival")
SOURCES = ("auto", "sysfs", "termux", "none")
LEAST_BETWEEN_S = 60.0
"""Seconds between two looks at the battery, at least: Termux starts a whole Android process for each."""
STALE_S = 3_600.0
"""Seconds for which the last reading counts; behind that nobody knows the battery."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LevelConfig:
    """What drives the device to a level, and what it does there."""

    below_percent: float = 0.0
    """Charge below which the level holds; 0: charge never drives there."""
    hotter_than_c: float = 90.0
    """Degrees Celsius of the battery above which it holds."""
    every: int = 1
    """The model hears one window in so many, as long as nothing leans to an alert."""
    listen_s: float = 60.0
    """Seconds of each cycle in which the microphone is open..."""
    pause_s: float = 0.0
    """...and in which it is let go; 0: it stays open."""
    heartbeat_s: float = 0.0
    """Seconds between heartbeats where that is more than `station.heartbeat_s`."""
    clips: bool = True
    """Whether an alert may bring its sound along, if clips are configured at all."""

    @property
    def duty(self) -> float:
        """Return the share of time in which the microphone is open."""
        return self.listen_s / (self.listen_s + self.pause_s)

    @classmethod
    def parse(cls, fields: Fields, default: "LevelConfig") -> "LevelConfig":
        """Read one level; what is not said is as in `default`."""
        below, hotter = "below_percent", "hotter_than_c"
        level = cls(
            below_percent=fields.number(below, 0, 100) if fields.has(below) else default.below_percent,
            hotter_than_c=fields.number(hotter, 20, 90) if fields.has(hotter) else default.hotter_than_c,
            every=fields.integer("every", 1, 4) if fields.has("every") else default.every,
            # shorter, and a gate that opens after 2.5 s and a mean over 8 windows would not fit in
            listen_s=fields.number("listen_s", 20, 3_600) if fields.has("listen_s") else default.listen_s,
            pause_s=fields.number("pause_s", 0, 3_600) if fields.has("pause_s") else default.pause_s,
            heartbeat_s=fields.number("heartbeat_s", 0, 86_400) if fields.has("heartbeat_s") else default.heartbeat_s,
            clips=fields.flag("clips") if fields.has("clips") else default.clips,
        )
        fields.done()
        return level


FULL = LevelConfig()
SAVING = LevelConfig(
    below_percent=50.0, hotter_than_c=45.0, every=2, listen_s=60.0, pause_s=30.0, heartbeat_s=900.0, clips=False
)
SURVIVAL = LevelConfig(
    below_percent=25.0, hotter_than_c=52.0, every=2, listen_s=60.0, pause_s=240.0, heartbeat_s=3_600.0, clips=False
)


@dataclass(frozen=True, kw_only=True, slots=True)
class PowerConfig:
    """Section `power`: where the battery's state comes from, and what follows from it."""

    source: str = "auto"
    """`auto`: the kernel, else Termux, and nothing for a recording; `sysfs`, `termux`, or `none`."""
    read_every_s: float = 300.0
    """Seconds between two looks at the battery."""
    margin_percent: float = 10.0
    """Charge above a bound at which its level is left again: a cloud must not make the device hop."""
    margin_c: float = 4.0
    """Degrees under a bound at which its level is left again."""
    saving: LevelConfig = SAVING
    survival: LevelConfig = SURVIVAL

    def __post_init__(self) -> None:
        """Refuse levels in the wrong order, and one that is never left again."""
        saving, survival = self.saving, self.survival
        if survival.below_percent > saving.below_percent:
            raise FieldError(
                "survival.below_percent",
                f"is {survival.below_percent:g}, expected at most saving.below_percent = {saving.below_percent:g}",
            )
        if survival.hotter_than_c < saving.hotter_than_c:
            raise FieldError(
                "survival.hotter_than_c",
                f"is {survival.hotter_than_c:g}, expected at least saving.hotter_than_c = {saving.hotter_than_c:g}",
            )
        if saving.below_percent + self.margin_percent > 100:
            raise FieldError(
                "margin_percent",
                f"is {self.margin_percent:g}, too much above saving.below_percent = {saving.below_percent:g}: "
                "the level would never be left",
            )

    def level(self, name: str) -> LevelConfig:
        """Return what the device does at a level."""
        return {"full": FULL, "saving": self.saving, "survival": self.survival}[name]

    @classmethod
    def parse(cls, fields: Fields) -> "PowerConfig":
        """Read `power`; FieldError names what is wrong."""
        default = cls()
        source = fields.choice("source", SOURCES) if fields.has("source") else default.source
        read_every_s = (
            fields.number("read_every_s", LEAST_BETWEEN_S, 3_600)
            if fields.has("read_every_s")
            else default.read_every_s
        )
        margin_percent = (
            fields.number("margin_percent", 1, 50) if fields.has("margin_percent") else default.margin_percent
        )
        margin_c = fields.number("margin_c", 0.5, 20) if fields.has("margin_c") else default.margin_c
        saving = _level(fields, "saving", default.saving)
        survival = _level(fields, "survival", default.survival)
        try:
            return cls(
                source=source,
                read_every_s=read_every_s,
                margin_percent=margin_percent,
                margin_c=margin_c,
                saving=saving,
                survival=survival,
            )
        except FieldError as error:
            raise FieldError(f"power.{error.key}", error.problem) from error


def _level(fields: Fields, name: str, default: LevelConfig) -> LevelConfig:
    return LevelConfig.parse(fields.sub(name), default) if fields.has(name) else default


@dataclass(frozen=True, slots=True)
class Change:
    """The level becomes another."""

    before: str
    level: str
    reason: str


@dataclass(slots=True)
class Policy:
    """Readings in, a level out; charge and heat each have a say, and the lower level wins."""

    config: PowerConfig
    _charge: int = field(init=False, default=0)
    """Place in LEVELS that the charge asks for..."""
    _heat: int = field(init=False, default=0)
    """...and the heat."""

    @property
    def level(self) -> str:
        """Return the level that holds."""
        return LEVELS[max(self._charge, self._heat)]

    def update(self, battery: Battery) -> Change | None:
        """Take a reading and return the change that it makes; a field that is missing changes nothing."""
        before = self.level
        bounds = (self.config.saving, self.config.survival)
        if battery.percent is not None:
            missing = [bound.below_percent - battery.percent for bound in bounds]
            self._charge = _rank(missing, self._charge, self.config.margin_percent)
        if battery.temperature_c is not None:
            excess = [battery.temperature_c - bound.hotter_than_c for bound in bounds]
            self._heat = _rank(excess, self._heat, self.config.margin_c)
        return self._change(before, _said(battery))

    def forget(self) -> Change | None:
        """Nobody has known the battery for long: save, but do not stay nearly deaf for a broken gauge."""
        before = self.level
        self._charge, self._heat = min(self._charge, 1), min(self._heat, 1)
        return self._change(before, f"the battery has said nothing for {STALE_S / 60:.0f} min")

    def _change(self, before: str, reason: str) -> Change | None:
        return Change(before, self.level, reason) if self.level != before else None


def _rank(over: list[float], rank: int, margin: float) -> int:
    """Return how many bounds are passed; one that held is left only `margin` behind it.

    Args:
        over: by how much a reading is on the wrong side of the bound of each level but the first.
        rank: how many held before.
        margin: in the same unit.
    """
    passed = [excess > (-margin if idx < rank else 0.0) for idx, excess in enumerate(over)]
    return max((idx + 1 for idx, holds in enumerate(passed) if holds), default=0)


def _said(battery: Battery) -> str:
    words = [] if battery.percent is None else [f"battery {battery.percent:.0f} %"]
    words += [] if battery.temperature_c is None else [f"{battery.temperature_c:.1f} °C"]
    return ", ".join(words)


@dataclass(slots=True)
class Cycle:
    """Listening and pausing in turns."""

    since_s: float
    """Monotonic seconds at which the present part began."""
    paused: bool = False

    def step(self, now_s: float, level: LevelConfig, *, held: bool) -> bool:
        """Go on to the next part if it is time, and return whether that is so.

        Args:
            now_s: monotonic seconds.
            level: what holds now; a level without pauses ends one at once.
            held: something leans to an alert: the pause waits for it, a whole cycle at most.
        """
        lasted_s = now_s - self.since_s
        if self.paused:
            turns = lasted_s >= level.pause_s
        else:
            longest_s = level.listen_s + (level.listen_s + level.pause_s if held else 0.0)
            turns = level.pause_s > 0 and lasted_s >= longest_s
        if turns:
            self.paused, self.since_s = not self.paused, now_s
        return turns
