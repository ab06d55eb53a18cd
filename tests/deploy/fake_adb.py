"""Stands for adb and the phones behind it: run as `adb`, it answers as one of nine models would.

A folder (FAKE_ADB) has a folder per phone, with the file `profile` (a line per trait) and what was done to it. Only
what starts fast is imported: forty phones make a thousand calls.
"""

# pathlib takes as long to import as all of this to run
# ruff: noqa: PTH110, PTH118, PTH123, PTH208

import os
import sys
import time

MODELS = {
    "galaxy-s21": ("samsung", "SM-G991B", "13", "33", "arm64-v8a"),
    "pixel-6": ("Google", "Pixel 6", "14", "34", "arm64-v8a"),
    "moto-g5": ("motorola", "Moto G (5)", "8.1.0", "27", "armeabi-v7a"),
    "galaxy-j5": ("samsung", "SM-J500M", "7.1.1", "25", "armeabi-v7a"),
    "redmi-9": ("Xiaomi", "M2004J19C", "10", "29", "arm64-v8a"),
    "redmi-note-11": ("Xiaomi", "2201117TG", "12", "31", "arm64-v8a"),
    "huawei-p20": ("HUAWEI", "EML-L29", "10", "29", "arm64-v8a"),
    "lg-k10": ("LGE", "LG-K430", "6.0", "23", "armeabi-v7a"),
    "nokia-7": ("HMD Global", "Nokia 7.2", "11", "30", "arm64-v8a"),
}


class Phone:
    def __init__(self, serial):
        self.serial = serial
        self.folder = os.path.join(os.environ["FAKE_ADB"], serial)
        self.traits = self.read("profile").split("\n")
        self.model = MODELS[self.traits[0]]

    def read(self, name):
        try:
            with open(os.path.join(self.folder, name)) as file:
                return file.read()
        except OSError:
            return ""

    def write(self, name, text):
        with open(os.path.join(self.folder, name), "w") as file:
            file.write(text)

    def has(self, name):
        return os.path.exists(os.path.join(self.folder, name))

    def is_(self, trait):
        return trait in self.traits

    def shell(self, script):
        if "run-as com.termux" in script:
            return self.termux(script)
        if script.startswith("getprop"):
            maker, model, release, sdk, abi = self.model
            free = 120 if self.is_("full") else 9000
            print(maker, model, release, sdk, abi, "id-" + self.serial + self.read("reset"), sep="\n")
            print(f"/dev/block/dm-6 100000000 9000000 {free * 1024} 10% /data")
            if self.has("apks"):
                print("package:com.termux\npackage:com.termux.api\npackage:com.termux.boot")
            return 0
        if script.startswith("pm grant"):
            if self.is_("refuses") and not self.has("granted-by-hand"):
                print(
                    "java.lang.SecurityException: grantRuntimePermission: Neither user 2000 nor current process has it"
                )
                return 255
            print("android.permission.RECORD_AUDIO: granted=true, flags=[ USER_SET ]")
        elif "deviceidle" in script:
            if self.is_("hangs"):
                time.sleep(1000)
            print("system-excidle,com.android.providers.downloads,10011")
            if not self.is_("refuses"):
                print("user,com.termux,10200\nuser,com.termux.api,10200\nuser,com.termux.boot,10200")
        elif "SYSTEM_ALERT_WINDOW" in script:
            print("SYSTEM_ALERT_WINDOW: allow; time=+3d ago")
        elif "device_config" in script:
            print("2147483647")
        elif "settings_enable_monitor_phantom_procs" in script:
            print("null" if self.is_("forgets") else "false")
        elif script.startswith("sha256sum"):
            import hashlib

            with open(self.read("pushed"), "rb") as file:
                print(hashlib.sha256(file.read()).hexdigest() + "  " + script.split()[1])
        elif "force-stop" in script:
            self.write("running", "yes")
        elif not script.startswith(("am start", "rm -f")):
            print("fake: " + script, file=sys.stderr)
            return 99
        return 0

    def termux(self, script):
        if not self.has("apks"):
            print("run-as: unknown package: com.termux", file=sys.stderr)
            return 1
        if "tar -C ~/.config/curupira -xf -" in script:
            with open(os.path.join(self.folder, "config.tar"), "wb") as file:
                file.write(sys.stdin.buffer.read())
            return 0
        if "curupira/install.sh" in script and "curupira-update" not in script:
            return self.install()
        if 'echo "service=' in script:
            print("service=run: curupira: (pid 7) 60s\nversion=1.0\nalive_s=4\nfree_mb=9000\njournal_mb=3")
            return 0
        if "uname -m" in script:
            print("aarch64\n(3, 14)\n64")
            return 0
        if "curupira-update" in script:
            with open(os.path.join(self.folder, "update"), "wb") as file:
                file.write(sys.stdin.buffer.read())
            print("curupira 2.0 is installed")
            return 0
        if "tail -n" in script:
            print("2026-11-24 INFO    ipe-07 listens")
            return 0
        if "tar -cf - journal" in script:
            with open(os.path.join(self.folder, "journal.tar"), "rb") as file:
                sys.stdout.buffer.write(file.read())
            return 0
        if "curupira doctor" in script:
            bad = self.is_("deaf")
            print("Curupira 1.0\n\n  BAD  microphone  mic: gives digital silence" if bad else "  ok   model")
            print("\nNO-GO: microphone" if bad else "\nGO")
            return int(bad)
        if "curupira drill" in script:
            if self.is_("no-drill"):
                print(
                    "agent: error: argument COMMAND: invalid choice: 'drill' (choose from run, replay)", file=sys.stderr
                )
                return 2
            print('{"good": true}')
            return int(self.is_("no-way-home"))
        if "sv status" in script:
            running = self.has("running")
            print("run: curupira: (pid 7) 60s" if running else "down: curupira: 3s")
            return 0
        if not self.has("unpacked"):  # the first look is too early
            self.write("unpacked", "yes")
            return 126
        return 0

    def install(self):
        if self.is_("fills-up"):
            print("installing python-numpy\ndpkg: error: cannot write: No space left on device", file=sys.stderr)
            return 1
        if self.is_("no-internet"):
            print("error: pkg could not install: python-numpy", file=sys.stderr)
            return 1
        print("curupira 1.0 is installed")
        return 0

    def install_apk(self, path):
        if self.is_("f-droid"):
            print(
                f"adb: failed to install {path}: Failure [INSTALL_FAILED_UPDATE_INCOMPATIBLE: signatures]",
                file=sys.stderr,
            )
            return 1
        if self.model[4] not in path and "boot" not in path and "api" not in path:
            print("Failure [INSTALL_FAILED_NO_MATCHING_ABIS]")
            return 1
        if "boot" in path:
            self.write("apks", "yes")
        print("Success")
        return 0


def devices():
    print("List of devices attached")
    for serial in sorted(os.listdir(os.environ["FAKE_ADB"])):
        state = "unauthorized" if "unauthorized" in Phone(serial).traits else "device"
        print(f"{serial}\t{state}")
    return 0


def main(arguments):
    if arguments == ["devices"]:
        return devices()
    assert arguments[0] == "-s", arguments
    phone = Phone(arguments[1])
    words = arguments[2:]
    with open(os.path.join(phone.folder, "calls"), "a") as file:
        file.write(" ".join(words).replace("\n", " ") + "\n")
    if phone.is_("slow"):
        time.sleep(0.2)
    if phone.is_("unplugged") and "install.sh" in words[-1]:
        print(f"error: device '{phone.serial}' not found", file=sys.stderr)
        return 1
    if words[0] == "install":
        return phone.install_apk(words[-1])
    if words[0] == "push":
        phone.write("pushed", words[1])
        return 0
    return phone.shell(words[1])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
