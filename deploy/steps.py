"""What is done to a phone, step by step. Each can be done again, says what it could not do, and how a person does it.

The commands are those of Android's and Termux' sources and issues; none of them was tried on a phone by us. So each
setting is read back where Android lets it be read, and only what was read back counts as done.
"""

import hashlib
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

from deploy.adb import HOME, PREFIX, AdbError
from deploy.phone import TARGETS, Done, Phone, Step

PACKAGES = ("com.termux", "com.termux.api", "com.termux.boot")
LEAST_SDK = 24
"""Android 7, which Termux needs."""
LEAST_FREE_MB = 500
"""Termux takes about 180 MB by its own word; what its packages take was not measured, the rest is for them."""
CONFIG_FILES = ("config.yaml", "device.key", "ca.pem")
CONFIG = "~/.config/curupira/config.yaml"
TAKE_CONFIG = (
    "umask 077; mkdir -p ~/.config/curupira && tar -C ~/.config/curupira -xf - && chmod 600 ~/.config/curupira/*"
)
"""What a phone does with `packed_config` on its standard input."""
_POLL_S = 2.0


_FACTS = """getprop ro.product.manufacturer; getprop ro.product.model; getprop ro.build.version.release
getprop ro.build.version.sdk; getprop ro.product.cpu.abi; settings get secure android_id
df -k /data 2>/dev/null | tail -n 1; pm list packages com.termux"""


def look(phone: Phone) -> Done:
    """Find out what phone this is."""
    said = phone.adb.shell(_FACTS, timeout_s=30).out.splitlines()
    if len(said) < 7:
        raise AdbError(f"tells nothing of itself: {' '.join(said)[:100] or 'no answer'}")
    maker, model, phone.release, sdk, phone.abi, phone.identity, disk = (line.strip() for line in said[:7])
    phone.model = model if model.lower().startswith(maker.lower()) else f"{maker} {model}"
    phone.sdk = int(sdk) if sdk.isdecimal() else 0
    phone.packages = frozenset(line.removeprefix("package:").strip() for line in said[7:])
    columns = disk.split()
    phone.free_mb = int(columns[3]) // 1024 if len(columns) > 3 and columns[3].isdecimal() else -1
    if phone.sdk < LEAST_SDK:
        raise AdbError(f"Android {phone.release or '?'} is too old: Termux needs 7 or newer")
    return Done(f"{phone.model}, Android {phone.release}, {phone.abi}")


def measure_space(phone: Phone) -> Done:
    """See whether there is room."""
    if phone.free_mb < 0:
        return Done("the phone does not tell how much is free")
    if phone.free_mb < LEAST_FREE_MB and not set(PACKAGES) <= phone.packages:
        raise AdbError(f"{phone.free_mb} MB free, expected {LEAST_FREE_MB}")
    return Done(f"{phone.free_mb} MB free")


def _apks(phone: Phone) -> list[Path]:
    """Return the three files for this phone's processor."""
    chosen = []
    for name, paths in phone.plan.apks.items():
        fitting = [path for path in paths if phone.abi and phone.abi in path.name]
        fitting = (
            fitting
            or [path for path in paths if "universal" in path.name]
            or [path for path in paths if not any(abi in path.name for abi in (*TARGETS, "x86"))]
        )
        if not fitting:
            raise AdbError(f"no {name}*.apk for {phone.abi}")
        chosen.append(fitting[-1])
    return chosen


_SAID_OF_APKS = (
    ("INSTALL_FAILED_UPDATE_INCOMPATIBLE", "another maker's Termux is on it (F-Droid's, Google's): it must go first"),
    ("INSTALL_FAILED_INSUFFICIENT_STORAGE", "the phone is full"),
    ("INSTALL_FAILED_USER_RESTRICTED", "the phone wants to be asked: developer options, allow installing over USB"),
    ("INSTALL_FAILED_VERSION_DOWNGRADE", "a newer one is on it"),
)


def install_apks(phone: Phone) -> Done:
    """Install Termux, Termux:API and Termux:Boot, all of one source, with the permissions that they declare."""
    chosen = _apks(phone)
    for path in chosen:
        reply = phone.adb.run("install", "-r", "-g", str(path), timeout_s=300)
        if reply.code or "Failure" in reply.out:
            why = next((text for word, text in _SAID_OF_APKS if word in reply.out), reply.last_line)
            raise AdbError(f"{path.name}: {why}")
    return Done(f"{len(chosen)} installed")


def unpack_termux(phone: Phone) -> Done:
    """Open Termux once, which unpacks it, and Termux:Boot once, which arms it."""
    phone.adb.must(phone.adb.shell("am start -n com.termux/.app.TermuxActivity", timeout_s=30), "cannot open Termux")
    _until(phone, lambda: phone.adb.termux("true", timeout_s=20).code == 0, 120, "Termux did not unpack itself")
    phone.adb.must(
        phone.adb.shell("am start -n com.termux.boot/.BootActivity", timeout_s=30), "cannot open Termux:Boot"
    )
    return Done("unpacked, Termux:Boot armed")


def _until(phone: Phone, is_so: Callable[[], bool], longest_s: float, otherwise: str) -> None:
    tries = int(longest_s / _POLL_S)
    for n in range(tries):
        if is_so():
            return
        if n < tries - 1:
            phone.plan.pause(_POLL_S * phone.adb.patience)
    raise AdbError(f"{otherwise} within {longest_s:.0f} s")


def grant_microphone(phone: Phone) -> Done:
    """Let Termux:API, and with it Termux, hear."""
    script = "pm grant com.termux.api android.permission.RECORD_AUDIO; dumpsys package com.termux.api"
    reply = phone.adb.shell(script, timeout_s=30)
    if "android.permission.RECORD_AUDIO: granted=true" not in reply.out:
        raise AdbError(f"not granted: {reply.out.splitlines()[0][:150] if reply.out else 'no answer'}")
    return Done("granted, read back")


def spare_battery(phone: Phone) -> Done:
    """Exempt the three from battery optimisation."""
    commands = [f"dumpsys deviceidle whitelist +{package}" for package in PACKAGES]
    reply = phone.adb.shell("; ".join([*commands, "dumpsys deviceidle whitelist"]), timeout_s=30)
    spared = {part for line in reply.out.splitlines() if line.startswith("user,") for part in line.split(",")}
    missing = [package for package in PACKAGES if package not in spared]
    if missing:
        raise AdbError(f"not exempt: {', '.join(missing)}")
    return Done("exempt, read back")


def allow_overlay(phone: Phone) -> Done:
    """Let Termux come to the front by itself after a boot."""
    if phone.sdk < 29:
        return Done(f"Android {phone.release} lets it without", needed=False)
    script = "appops set com.termux SYSTEM_ALERT_WINDOW allow; appops get com.termux SYSTEM_ALERT_WINDOW"
    reply = phone.adb.shell(script, timeout_s=30)
    if "SYSTEM_ALERT_WINDOW: allow" not in reply.out:
        raise AdbError(f"not allowed: {reply.last_line}")
    return Done("allowed, read back")


def spare_processes(phone: Phone) -> Done:
    """Keep Android 12 and newer from ending Termux' child processes."""
    if phone.sdk < 31:
        return Done(f"Android {phone.release} does not hunt child processes", needed=False)
    if phone.sdk == 31:
        script = (
            "device_config set_sync_disabled_for_tests persistent; "
            "device_config put activity_manager max_phantom_processes 2147483647; "
            "device_config get activity_manager max_phantom_processes"
        )
        expected, more = "2147483647", "; its hunt for busy ones has no switch"
    else:
        name = "settings_enable_monitor_phantom_procs"
        script, expected, more = f"settings put global {name} false; settings get global {name}", "false", ""
    reply = phone.adb.shell(script, timeout_s=30)
    if reply.code or reply.out.splitlines()[-1:] != [expected]:
        raise AdbError(f"not set: {reply.last_line}")
    return Done(f"switched off, read back{more}")


def push_bundle(phone: Phone) -> Done:
    """Bring the bundle, whole."""
    path = phone.bundle
    size_mb = path.stat().st_size / 1e6
    remote = _remote(phone)
    phone.adb.must(phone.adb.run("push", str(path), remote, timeout_s=60 + 5 * size_mb), "cannot push")
    reply = phone.adb.shell(f"sha256sum {remote}", timeout_s=60)
    if sha256_of(path) not in reply.out:
        raise AdbError(f"damaged on its way: {reply.last_line}")
    return Done(f"{size_mb:.1f} MB, checksum right")


def _remote(phone: Phone) -> str:
    return f"/data/local/tmp/curupira-{phone.target}.tar.gz"


def sha256_of(path: Path) -> str:
    """Return a file's digest."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def bring_config(phone: Phone) -> Done:
    """Bring key, configuration and certificate straight into Termux' own folder, which no other app reads."""
    reply = phone.adb.termux(TAKE_CONFIG, timeout_s=60, stdin=packed_config(phone.folder))
    phone.adb.must(reply, "cannot write into Termux' home")
    return Done(f"it is {phone.device}")


def packed_config(folder: Path) -> bytes:
    """Return a device's own files as an archive: they travel through a pipe, never over a command line."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name in CONFIG_FILES:
            path = folder / name
            if path.exists():
                content = path.read_bytes()
                member = tarfile.TarInfo(name)
                member.size, member.mode = len(content), 0o600
                tar.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def config_key(phone: Phone) -> str:
    """Return a digest of the device's own files."""
    digest = hashlib.sha256(phone.device.encode())
    for name in CONFIG_FILES:
        path = phone.folder / name
        digest.update(path.read_bytes() if path.exists() else b"-")
    return digest.hexdigest()


def install(phone: Phone) -> Done:
    """Unpack the bundle in Termux and run its install script; `start` starts it, from within Termux."""
    script = (
        f"rm -rf {HOME}/curupira && tar -C {HOME} -xzf {_remote(phone)} && sh {HOME}/curupira/install.sh --no-start; "
        f"code=$?; rm -rf {HOME}/curupira; exit $code"
    )
    reply = phone.adb.termux(script, timeout_s=1_200)
    if reply.code:
        raise AdbError(reply.reason.removeprefix("error: "))
    phone.adb.shell(f"rm -f {_remote(phone)}", timeout_s=30)
    return Done(next((line for line in reply.out.splitlines() if line.endswith("is installed")), "installed"))


def start(phone: Phone) -> Done:
    """See the agent run; services start with a fresh Termux in the foreground, where Android gives it sound."""
    if _runs(phone):
        return Done("runs")
    phone.adb.shell("am force-stop com.termux; am start -n com.termux/.app.TermuxActivity", timeout_s=30)
    _until(phone, lambda: _runs(phone), 60, "the service does not run")
    return Done("runs, Termux was opened anew")


def _runs(phone: Phone) -> bool:
    return phone.adb.termux(f"sv status {PREFIX}/var/service/curupira", timeout_s=30).out.startswith("run:")


def _instead(command: str) -> str:
    """Return a script that runs a command while the agent rests: two at a time use each other's request numbers up."""
    service = f"{PREFIX}/var/service/curupira"
    return f"trap 'sv up {service} >/dev/null 2>&1' EXIT; sv -w 20 down {service} >/dev/null 2>&1; {command}"


def doctor(phone: Phone) -> Done:
    """Ask the agent itself: go or no-go."""
    reply = phone.adb.termux(_instead(f"curupira doctor --config {CONFIG}"), timeout_s=120)
    if reply.code:
        raise AdbError(next((line for line in reply.out.splitlines() if line.startswith("NO-GO")), reply.last_line))
    return Done("GO")


def drill(phone: Phone) -> Done:
    """Have it raise a drill alert, all the way to the station and back."""
    reply = phone.adb.termux(_instead(f"curupira drill --config {CONFIG} --json"), timeout_s=300)
    if reply.code == 2 and "invalid choice" in reply.out:
        raise AdbError("the installed version has no drill")
    if reply.code:
        raise AdbError(f"exit code {reply.code}: {reply.last_line}")
    return Done("the station has the drill alert")


def _bundle_key(phone: Phone) -> str:
    return sha256_of(phone.bundle)


def _apk_key(phone: Phone) -> str:
    return " ".join(f"{path.name}:{path.stat().st_size}" for path in _apks(phone))


_SETTINGS = "on the phone: Settings, Apps, Termux (and Termux:API, Termux:Boot)"

STEPS: tuple[Step, ...] = (
    Step(
        name="phone",
        act=look,
        by_hand="take a phone with Android 7 or newer; switch USB debugging on and accept this computer",
        stops=True,
        looks=True,
        again=True,
    ),
    Step(
        name="space",
        act=measure_space,
        by_hand="remove apps, pictures and caches on the phone, or reset it to factory state",
        stops=True,
        looks=True,
        again=True,
    ),
    Step(
        name="apks",
        act=install_apks,
        by_hand="adb -s {serial} uninstall com.termux (and com.termux.api, com.termux.boot; their data goes too), then "
        "adb -s {serial} install -r -g FILE for all three APKs of GitHub",
        stops=True,
        key=_apk_key,
    ),
    Step(
        name="termux",
        act=unpack_termux,
        by_hand="open Termux on the phone and wait for its prompt, then open Termux:Boot once",
        stops=True,
    ),
    Step(
        name="microphone",
        act=grant_microphone,
        by_hand=f"{_SETTINGS}: Permissions, Microphone, allow for Termux:API",
    ),
    Step(
        name="battery", act=spare_battery, by_hand=f"{_SETTINGS}: Battery, unrestricted; allow auto-start where it is"
    ),
    Step(name="overlay", act=allow_overlay, by_hand=f"{_SETTINGS}: Display over other apps, allow for Termux"),
    Step(
        name="processes",
        act=spare_processes,
        by_hand="on the phone: Developer options, disable child process restrictions (Android 12L and newer)",
    ),
    Step(
        name="bundle",
        act=push_bundle,
        by_hand="adb -s {serial} push BUNDLE /data/local/tmp/; is the phone full, is the cable good?",
        stops=True,
        key=_bundle_key,
    ),
    Step(
        name="config",
        act=bring_config,
        by_hand="bring config.yaml, device.key and ca.pem to ~/.config/curupira in Termux (chmod 600)",
        stops=True,
        key=config_key,
    ),
    Step(
        name="install",
        act=install,
        by_hand="connect the phone to the internet once; in Termux: tar xzf BUNDLE, sh curupira/install.sh",
        stops=True,
        key=_bundle_key,
    ),
    Step(
        name="start",
        act=start,
        by_hand=f"open Termux on the phone; in it: sv up {PREFIX}/var/service/curupira",
        stops=True,
        again=True,
    ),
    Step(
        name="doctor",
        act=doctor,
        by_hand=f"in Termux: curupira doctor --config {CONFIG}; it says what to do",
        again=True,
    ),
    Step(name="drill", act=drill, by_hand=f"in Termux: curupira drill --config {CONFIG}", again=True),
)
