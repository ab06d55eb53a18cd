"""What a bundle can be made for: one line of the table a target, and why it is as it is."""

from collections.abc import Mapping
from dataclasses import dataclass, field

PI64_LIMIT_BYTES = 40_000_000
"""A bundle for a 64-bit Pi travels over a ranger post's link or on an old SD card."""
_GLIBC_MINORS = (*range(41, 33, -1), 31, 28, 27, 26, 24, 17, 12, 5)
"""The glibc versions (2.x) that wheels are made for, newest first; pip compares each file of an index with each tag."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """A machine, its Python, and what of the software it brings itself."""

    name: str
    title: str
    """For people."""
    python: str | None
    """The interpreter's version, `3.11`; None: whatever the device has, so that only pure wheels fit."""
    sys_platform: str = "linux"
    machine: str
    """As `uname -m` says."""
    platforms: tuple[str, ...] = ()
    """What pip may fetch compiled wheels for, the best first."""
    pins: str = "agent"
    """Which file under constraints/ names the dependencies."""
    scripts: tuple[str, ...]
    """Folders under deploy/ that become the bundle's install scripts and service files."""
    from_system: Mapping[str, str] = field(default_factory=dict)
    """Dependencies that are left out, and the system's package that brings each."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Dependencies that are left out for good, and why."""
    purified: tuple[str, ...] = ()
    """Dependencies whose compiled half is optional and does not exist there."""
    compiled_there: Mapping[str, str] = field(default_factory=dict)
    """What the device may compile from source, and what it gains."""
    system_packages: Mapping[str, str] = field(default_factory=dict)
    """Further packages of the system, and what each is for."""
    limit_bytes: int | None = None


def _manylinux(machine: str, glibc_minor: int) -> tuple[str, ...]:
    """Return what a machine with glibc 2.`glibc_minor` runs, newest first."""
    tags = [f"manylinux_2_{minor}_{machine}" for minor in _GLIBC_MINORS if minor <= glibc_minor]
    return (*tags, f"manylinux2014_{machine}")


_ALSA = {"alsa-utils": "arecord, which reads the microphone"}
_PORTAUDIO = {"libportaudio2": "only for capture.source: sounddevice"}
_VENV = {
    "python3-venv": "the environment that the bundle is installed into",
    "libstdc++6": "NumPy and the runtime are made of C++; every Debian with apt has it",
}
_AGENT = ("linux/common", "linux/agent")
_STATION = ("linux/common", "linux/station")


def _linux(name: str, title: str, machine: str, python: str, glibc_minor: int, limit: int | None = None) -> Target:
    return Target(
        name=name,
        title=title,
        machine=machine,
        python=python,
        platforms=_manylinux(machine, glibc_minor),
        scripts=_AGENT,
        system_packages={**_VENV, **_ALSA, **_PORTAUDIO},
        limit_bytes=limit,
    )


def _station(name: str, title: str, machine: str, python: str, glibc_minor: int) -> Target:
    return Target(
        name=f"station-{name}",
        title=f"base station on {title}",
        machine=machine,
        python=python,
        platforms=_manylinux(machine, glibc_minor),
        pins="run",
        scripts=_STATION,
        left_out={"soundfile": "only for replaying FLAC, MP3 and Ogg"},
        system_packages=_VENV,
    )


def _termux(machine: str, pip_machine: str) -> Target:
    return Target(
        name=f"termux-{machine}",
        title=f"Android phone with Termux, {pip_machine}",
        machine=pip_machine,
        python=None,
        sys_platform="android",
        scripts=("termux",),
        from_system={"numpy": "python-numpy", "tflite-runtime": "python-tflite-runtime"},
        purified=("pyyaml",),
        compiled_there={"webrtcvad-wheels": "the gate hears voices by WebRTC's detector as well as by band energy"},
        system_packages={
            "python": "3.11 or newer",
            "python-numpy": "no wheel exists for Android",
            "python-tflite-runtime": "no wheel exists for Android",
            "pulseaudio": "17.0-4 or newer: parec, which reads the microphone",
            "termux-services": "runit, which starts the agent again",
            "termux-api": "battery state",
            "clang": "only to compile what is under sdists/",
        },
    )


TARGETS: Mapping[str, Target] = {
    target.name: target
    for target in (
        _termux("aarch64", "aarch64"),
        _termux("arm", "armv8l"),
        _linux("pi64-bookworm", "Raspberry Pi OS 12, 64 bit", "aarch64", "3.11", 36, PI64_LIMIT_BYTES),
        _linux("pi64-trixie", "Raspberry Pi OS 13, 64 bit", "aarch64", "3.13", 41, PI64_LIMIT_BYTES),
        Target(
            name="pi32-bookworm",
            title="Raspberry Pi OS 12, 32 bit (Pi 2 and newer)",
            machine="armv7l",
            python="3.11",
            platforms=_manylinux("armv7l", 36),
            scripts=_AGENT,
            # tflite-runtime was built against NumPy 1, of which there are no armv7l wheels; Debian has 1.24
            from_system={"numpy": "python3-numpy"},
            left_out={
                "sounddevice": "needs cffi, which has no armv7l wheel: sound comes by arecord",
                "cffi": "only for sounddevice",
                "pycparser": "only for cffi",
            },
            purified=("pyyaml",),
            system_packages={**_VENV, "python3-numpy": "1.24; no wheel exists for armv7l", **_ALSA},
        ),
        _linux("x86-64-py311", "x86-64 Linux, Python 3.11 (Debian 12)", "x86_64", "3.11", 36),
        _linux("x86-64-py312", "x86-64 Linux, Python 3.12 (Ubuntu 24.04)", "x86_64", "3.12", 39),
        _linux("x86-64-py313", "x86-64 Linux, Python 3.13 (Debian 13)", "x86_64", "3.13", 41),
        _station("pi64-bookworm", "Raspberry Pi OS 12, 64 bit", "aarch64", "3.11", 36),
        _station("pi64-trixie", "Raspberry Pi OS 13, 64 bit", "aarch64", "3.13", 41),
        _station("x86-64-py311", "x86-64 Linux, Python 3.11 (Debian 12)", "x86_64", "3.11", 36),
        _station("x86-64-py312", "x86-64 Linux, Python 3.12 (Ubuntu 24.04)", "x86_64", "3.12", 39),
        _station("x86-64-py313", "x86-64 Linux, Python 3.13 (Debian 13)", "x86_64", "3.13", 41),
    )
}
