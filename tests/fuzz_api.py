"""`python -m tests.fuzz_api`: Schemathesis against the OpenAPI document of a running station, with every credential.

A station in a process of its own with devices, alerts, a clip, a journal and verdicts in it; asked as nobody while
nobody is known, then as nobody, viewer, operator's token and operator's session, and in every round as a device that
signs what was made up (`tests.fuzz_signer`). Looked for: answers 5xx, and answers, types, headers or bodies that the
document does not name. Exit code 1 if there are any.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import httpx

from agent.clip import wav_bytes
from base_station.accounts import OPERATOR, VIEWER, Accounts
from base_station.fieldlog import import_journal
from base_station.guard import COOKIE, CSRF_HEADER
from base_station.opened import opened_store
from tests.base_station.conftest import FakeDevice, StationProcess, make_alert, make_heartbeat
from tests.base_station.test_fieldlog import Phone, write

CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,"
    "response_headers_conformance"
)
DEVICE = "ipe-07"
PASSWORD = "a saw in the rain"
_CASES = re.compile(r"([\d,]+) generated")


@dataclass(frozen=True, slots=True)
class Round:
    """One run of Schemathesis."""

    who: str
    code: int
    text: str

    @property
    def cases(self) -> str:
        found = _CASES.search(self.text)
        return found[1] if found else "?"


def run(arguments: Sequence[str] | None = None) -> int:
    """Fuzz, print what came out, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz_api", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="for each credential (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=None)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="curupira-fuzz-") as folder:
        rounds = fuzz(Path(folder), options.seconds, options.seed)
    for each in rounds:
        print(f"{each.who}: {'nothing found' if each.code == 0 else 'FOUND'}, {each.cases} cases")
        if each.code:
            print(each.text)
    return int(any(each.code for each in rounds))


def fuzz(folder: Path, seconds: float, seed: int | None = None) -> list[Round]:
    """Return a round for each credential."""
    station = StationProcess(folder / "station", environment={"PYTHONWARNINGS": "default"}).wait_ready()
    try:
        device = station.add_device(DEVICE)
        _fill(station, device)
        rounds = [_round(station, device, "nobody, as nobody is known", {}, seconds, seed)]
        for who, headers in _credentials(station).items():
            rounds.append(_round(station, device, who, headers, seconds, seed))
        assert station.process.poll() is None, station.said()
    finally:
        station.stop()
    return rounds


def _fill(station: StationProcess, device: FakeDevice) -> None:
    alert = make_alert(DEVICE)
    station.send(device, alert)
    station.send(device, replace(alert, revision=1, state="closed", raised_s=60.0, log_mel=None))
    station.send(device, make_heartbeat(DEVICE))
    import numpy as np

    path, sound = f"/v1/clips/{alert.alert_id}", wav_bytes(np.zeros(16_000, np.int16))
    httpx.post(station.url + path, content=sound, headers=device.seal(path, sound).headers()).raise_for_status()
    said = {"verdict": "true", "judge": "Maria", "chosen": "random"}
    httpx.post(f"{station.url}/v1/alerts/{alert.alert_id}/verdicts", json=said).raise_for_status()
    write(station.data.parent / "journal", Phone(), device_id=DEVICE)
    with opened_store(station.data) as (store, _):
        import_journal(store, station.data.parent / "journal", datetime.now(UTC))


def _credentials(station: StationProcess) -> dict[str, dict[str, str]]:
    now = datetime.now(UTC)
    with opened_store(station.data) as (store, _):
        accounts = Accounts(store.database)
        accounts.set_person("Maria", OPERATOR, PASSWORD, now)
        tokens = {role: accounts.add_token(role, role, now) for role in (VIEWER, OPERATOR)}
    logged_in = httpx.post(f"{station.url}/v1/session", json={"name": "Maria", "password": PASSWORD}).raise_for_status()
    return {
        "nobody, as there are people": {},
        "viewer's token": {"Authorization": f"Bearer {tokens[VIEWER]}"},
        "operator's token": {"Authorization": f"Bearer {tokens[OPERATOR]}"},
        "operator's session": {
            "Cookie": f"{COOKIE}={logged_in.cookies[COOKIE]}",
            CSRF_HEADER: logged_in.json()["csrf"],
        },
    }


def _round(
    station: StationProcess, device: FakeDevice, who: str, headers: dict[str, str], seconds: float, seed: int | None
) -> Round:
    words = [sys.executable, "-m", "schemathesis.cli", "run", f"{station.url}/v1/openapi.json", "--no-color"]
    words += ["--checks", CHECKS, "--continue-on-failure", "--warnings", "off"]
    words += ["--phases", "examples,coverage,fuzzing", "--generation-database", "none"]
    words += [] if seed is None else ["--seed", str(seed)]
    for name, value in headers.items():
        words += ["--header", f"{name}: {value}"]
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).parents[1]),
        "SCHEMATHESIS_HOOKS": "tests.fuzz_signer",
        "CURUPIRA_FUZZ_DEVICE": device.device_id,
        "CURUPIRA_FUZZ_KEY": device.key.hex(),
    }
    made = Round(who, 0, "")
    for longer in (1, 4, 16):  # on a busy machine a few seconds are over before it has made up anything
        timed = [*words, "--max-time", str(int(seconds * longer))]
        ran = subprocess.run(
            timed, capture_output=True, text=True, env=environment, cwd=station.data.parent, check=False
        )
        made = Round(who, ran.returncode, ran.stdout + ran.stderr)
        if made.code or made.cases != "?":
            break
    return made


if __name__ == "__main__":
    sys.exit(run())
