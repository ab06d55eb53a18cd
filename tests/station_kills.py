"""kill -9 of the station during ingest, again and again: `python -m tests.station_kills --kills 100`.

After each kill the station is started anew on the same data, and must have every alert that it acknowledged before;
the devices go on as real ones do, with larger counters. At the end the database is checked, and a backup that was
taken meanwhile is restored.
"""

import argparse
import random
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from dataclasses import replace
from pathlib import Path

import httpx

from tests.base_station.conftest import FakeDevice, StationProcess, make_alert

SENDERS = 3


def send_until_dead(station: StationProcess, device: FakeDevice, acknowledged: list[str]) -> None:
    """Send alerts until the station is gone, and note those that it acknowledged."""
    template = make_alert(device.device_id)
    while True:
        alert = replace(template, alert_id=str(uuid.uuid4()))
        try:
            station.send(device, alert)
        except httpx.HTTPError:
            return
        acknowledged.append(alert.alert_id)


def station_command(*words: object) -> None:
    """Run a command of the station; it must succeed."""
    subprocess.run([sys.executable, "-m", "base_station", *map(str, words)], check=True, capture_output=True)


def main() -> int:
    """Kill and look, and say what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "station"
        acknowledged: list[str] = []
        station = StationProcess(data).wait_ready(120)
        devices = [station.add_device(f"tree-{n}") for n in range(SENDERS)]
        backup = Path(folder) / "backup.db"
        for kill in range(options.kills):
            threads = [threading.Thread(target=send_until_dead, args=(station, d, acknowledged)) for d in devices]
            for thread in threads:
                thread.start()
            if kill == options.kills // 2:
                station_command("backup", backup, "--data", data)
            time.sleep(rng.uniform(0.05, 0.8))
            station.kill()
            for thread in threads:
                thread.join()
            station = StationProcess(data).wait_ready(120)
            kept = {alert["alert_id"] for alert in station.alerts_all()}
            lost = set(acknowledged) - kept
            if lost:
                print(f"kill {kill + 1}: {len(lost)} acknowledged alerts are gone: {sorted(lost)[:3]}")
                return 1
            if (kill + 1) % 10 == 0:
                print(f"{kill + 1} kills, {len(acknowledged)} acknowledged, {len(kept)} kept, none lost", flush=True)
        station.stop()
        station_command("check", "--deep", "--data", data)
        restored = Path(folder) / "restored"
        station_command("restore", backup, "--data", restored)
        (restored / "station.key").unlink(missing_ok=True)
        (restored / "station.key").write_bytes((data / "station.key").read_bytes())
        (restored / "station.key").chmod(0o600)
        station_command("check", "--deep", "--data", restored)
        print("the database is sound; so is what the backup under load restores to")
    return 0


if __name__ == "__main__":
    sys.exit(main())
