"""What the field does to an agent, done on purpose: each returns what was injected, how often, and what was lost."""

import contextlib
import os
import random
import shutil
import signal
import ssl
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from agent.alert import Alert
from agent.outbox import Outbox
from tests.torture.badlink import BadLink
from tests.torture.rig import Rig, wait_until

DAY_S = 86_400.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """One line of the table."""

    fault: str
    injected: str
    """What, and how often."""
    kept: int
    """Alert revisions that the agent had on disk, or in memory with the state named."""
    lost: int
    """Of these, not at the station in the end."""
    invented: int
    """At the station and not the agent's, or there twice."""
    noticed_s: float | None = None
    recovered_s: float | None = None
    remark: str = ""

    @property
    def holds(self) -> bool:
        """Say whether nothing was lost and nothing invented."""
        return self.invented == 0 and self.lost == 0


def _compared(rig: Rig) -> tuple[int, int, int]:
    """Return how many revisions were kept, lost and invented."""
    kept, arrived = rig.kept(), rig.arrived()
    # what was killed between the disk and the log's line arrives without a line: one a kill at most
    strangers = {one for one in arrived if one not in kept}
    invented = len(arrived) - len(set(arrived)) + max(0, len(strangers) - rig.kills)
    return len(kept), len(kept - set(arrived)), invented


def _ended(
    rig: Rig, agent: "subprocess.Popen[bytes] | None" = None, *, recovered_s: float | None = None, **said: Any
) -> Outcome:
    """End a scenario: stop its agent, let another that hears forest alone send what waits, and compare.

    Args:
        rig: with its station running.
        agent: that still runs, if one does.
        recovered_s: seconds until all was well again; None: those until the outbox was empty.
        said: the other fields of the outcome.
    """
    if agent is not None:
        assert rig.stop(agent) == 0
    began_s = time.monotonic()
    agent = rig.start_agent(rig.forest)
    wait_until(lambda: b" listens " in rig.logs[-1].read_bytes(), "the agent listening")
    wait_until(lambda: rig.waiting() == 0, "the outbox running empty", 120.0)
    assert rig.stop(agent) == 0
    took_s = time.monotonic() - began_s
    kept, lost, invented = _compared(rig)
    recovered_s = round(took_s if recovered_s is None else recovered_s, 1)
    return Outcome(kept=kept, lost=lost, invented=invented, recovered_s=recovered_s, **said)


def kills(folder: Path, *, times: int, seed: int = 1) -> Outcome:
    """kill -9 of the agent at random moments of a loop with detections, at a station that comes and goes."""
    rng = random.Random(seed)
    with Rig(folder) as rig:
        station, station_until_s = rig.start_station(), time.monotonic() + rng.uniform(3, 10)
        for _ in range(times):
            agent = rig.start_agent(rig.saw)
            time.sleep(rng.uniform(0.5, 4.0))
            rig.kill(agent)
            rig.kills += 1
            if time.monotonic() > station_until_s:
                if station.poll() is None:
                    rig.kill(station)
                else:
                    station = rig.start_station()
                station_until_s = time.monotonic() + rng.uniform(3, 10)
        if station.poll() is not None:
            rig.start_station()
        return _ended(
            rig,
            fault="kill -9 of the agent",
            injected=f"{times} kills, the station killed and started meanwhile",
        )


def bad_link(folder: Path, *, seconds: float, through_share: float, seed: int = 2) -> Outcome:
    """A station that refuses, hangs, answers half or nonsense, redirects, or throws the receipt away."""
    with Rig(folder) as rig:
        rig.start_station()
        link = BadLink(rig.port, seed=seed, through_share=through_share)
        agent = rig.start_agent(rig.saw, port=link.port, heartbeat_s=1.0)
        time.sleep(seconds)
        assert rig.stop(agent) == 0
        link.close()
        n_bad = sum(link.met.values()) - link.met["through"]
        return _ended(
            rig,
            fault="a bad link",
            injected=f"{n_bad} of {sum(link.met.values())} connections, {len(link.met) - 1} kinds",
            remark=", ".join(f"{mode} {count}" for mode, count in sorted(link.met.items())),
        )


@contextlib.contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path | None]:
    """Mount a small disk in memory, or yield None where nobody may."""
    folder.mkdir(parents=True, exist_ok=True)
    mount = shutil.which("mount")
    command = [mount or "mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    if mount is None or os.geteuid() != 0 or subprocess.run(command, check=False, capture_output=True).returncode != 0:
        yield None
        return
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False, capture_output=True)


def full_disk(folder: Path) -> Outcome | None:
    """A disk without a free byte while saws are heard: they go by memory, the state is named, and all is well later."""
    with Rig(folder) as rig, small_disk(folder / "disk", 4) as disk:
        if disk is None:
            return None
        rig.state = disk / "agent"
        rig.start_station()
        agent = rig.start_agent(rig.saw, heartbeat_s=1.0)
        wait_until(lambda: len(rig.kept()) >= 2, "two alerts with room on the disk")
        ballast = disk / "ballast"
        with contextlib.suppress(OSError), ballast.open("wb") as file:
            while True:
                file.write(bytes(4_096))
                file.flush()
        before = len(rig.kept())
        names = {"disk_failed", "disk_full"}
        noticed_s = wait_until(lambda: names & set(rig.heartbeat().get("states", [])), "the full disk being named")
        wait_until(lambda: len(rig.kept()) >= before + 6, "alerts going on without a disk")
        behind = len(rig.kept()) - before
        ballast.unlink()
        recovered_s = wait_until(lambda: not names & set(rig.heartbeat().get("states", names)), "the state ending")
        return _ended(
            rig,
            agent,
            fault="a full disk",
            injected="every byte of a 4 MB disk, while saws are heard",
            noticed_s=round(noticed_s, 1),
            recovered_s=recovered_s,
            remark=f"{behind} revisions heard behind it",
        )


def read_only_disk(folder: Path) -> Outcome | None:
    """A file system that is read-only from the start on, as flash that wore out is: it hears and tells by memory."""
    with Rig(folder) as rig, small_disk(folder / "disk", 4) as disk:
        if disk is None:
            return None
        rig.state = disk / "agent"
        _remount(disk, "ro")
        rig.start_station()
        agent = rig.start_agent(rig.saw, heartbeat_s=1.0)
        noticed_s = wait_until(lambda: "disk_failed" in rig.heartbeat().get("states", []), "the disk being named")
        wait_until(lambda: len(rig.kept()) >= 6, "alerts going on without a disk")
        before = len(rig.kept())
        _remount(disk, "rw")
        recovered_s = wait_until(
            lambda: "disk_failed" not in rig.heartbeat().get("states", ["disk_failed"]), "the state ending"
        )
        return _ended(
            rig,
            agent,
            fault="a read-only disk",
            injected="from the start on",
            noticed_s=round(noticed_s, 1),
            recovered_s=recovered_s,
            remark=f"{before} revisions heard without a disk",
        )


def _remount(disk: Path, how: str) -> None:
    subprocess.run(["mount", "-n", "-o", f"remount,{how}", str(disk)], check=True, capture_output=True)


def long_queue(folder: Path, *, count: int) -> Outcome:
    """So many alerts wait while no station is there; the newest saw goes first."""
    with Rig(folder) as rig:
        agent = rig.start_agent(rig.saw)
        wait_until(rig.waiting, "an alert on the disk")
        rig.kill(agent)
        rig.kills += 1
        path = rig.state / "outbox.db"
        with Outbox(path) as outbox:
            message = outbox.due(0.0)
            assert message is not None
            real = Alert.from_json(message.body)
        fill_outbox(path, real, count)
        rig.start_station()
        newest = f"{count - 1:08x}"
        began_s = time.monotonic()
        agent = rig.start_agent(rig.forest)
        noticed_s = wait_until(lambda: rig.arrived(), "the first arrival")
        first = rig.arrived()[0]
        wait_until(lambda: rig.waiting() == 0, "the queue running empty", 600.0)
        took_s = time.monotonic() - began_s
        assert rig.stop(agent) == 0
        arrived = rig.arrived()
        return Outcome(
            fault="a long queue",
            injected=f"{count} alerts wait",
            kept=count,
            lost=count - len({one for one in arrived if one[0] <= newest}),
            invented=len(arrived) - len(set(arrived)),
            noticed_s=round(noticed_s, 1),
            recovered_s=round(took_s, 1),
            remark=f"the newest went {'first' if first[0] == newest else 'NOT first'}; {count / took_s:.0f} a second",
        )


def fill_outbox(path: Path, like: Alert, count: int) -> None:
    """Put alerts of known ids into an outbox."""
    with Outbox(path) as outbox:
        outbox.delivered(like.alert_id, 0)
        for number in range(count):
            outbox.put(replace(like, alert_id=f"{number:08x}-0000-4000-8000-000000000000", log_mel=None))


def rotten_outbox(folder: Path, *, times: int, seed: int = 3) -> Outcome:
    """Bytes of the database, its log or its copy turned over between two runs: each is mended from another."""
    rng = random.Random(seed)
    with Rig(folder) as rig:
        for _ in range(times):
            agent = rig.start_agent(rig.saw)
            before = len(rig.kept())
            wait_until(lambda before=before: len(rig.kept()) > before, "an alert on the disk")  # type: ignore[misc]  # bound
            rig.kill(agent)
            rig.kills += 1
            # what was put last lies in the log beside the database until it is carried over
            files = [one for one in rig.state.glob("outbox.db*") if one.suffix in (".db", ".db-wal", ".copy")]
            path = rng.choice([one for one in files if one.stat().st_size])
            content = bytearray(path.read_bytes())
            for _ in range(rng.randint(1, 8)):
                content[rng.randrange(len(content))] ^= rng.randint(1, 255)
            path.write_bytes(content)
        rig.start_station()
        return _ended(
            rig,
            fault="a rotten outbox",
            injected=f"1 to 8 bytes of the database, its log or its copy turned over between two starts, {times} times",
            remark="the agent started each time",
        )


def clock_jumps(folder: Path) -> Outcome:
    """A wall clock that jumps while alerts wait: none is lost, and they go in the order in which they were heard."""
    with Rig(folder) as rig:
        clock = folder / "clock"
        clock.write_text("0")
        agent = rig.start_agent(rig.saw, heartbeat_s=1.0, clock=clock)
        for offset_s in (0.0, -DAY_S, DAY_S, -time.time()):
            clock.write_text(str(offset_s))
            before = len(rig.kept())
            wait_until(lambda before=before: len(rig.kept()) >= before + 2, "alerts on a clock that is off")  # type: ignore[misc]  # bound
        waited = rig.kept_in_order()
        rig.start_station()
        wait_until(lambda: set(waited) <= set(rig.arrived()), "the alerts arriving")
        clock.write_text("0")
        went = [revision for revision in rig.arrived() if revision in waited]
        newest = max(waited, key=lambda revision: (revision[1] == 0, waited.index(revision)))
        in_order = [revision for revision in went if revision != newest]
        assert in_order == [revision for revision in waited if revision != newest], (went, waited)
        return _ended(
            rig,
            agent,
            fault="a wall clock that jumps",
            injected="by -1 day, by +1 day, to 1970, while alerts wait",
            remark="in order, but for the newest, which goes first",
        )


def wrong_certificate(folder: Path) -> Outcome:
    """Somebody else answers where the station should be, with a certificate of his own; then the station again."""
    with Rig(folder) as rig:
        rig.start_station()
        right = _certificate(folder, "station")
        link = BadLink(rig.port, seed=1, through_share=1.0, tls=_certificate(folder, "another"))
        agent = rig.start_agent(rig.saw, heartbeat_s=1.0, port=link.port, ca_file=folder / "station.pem")
        wait_until(lambda: len(rig.kept()) >= 4 and link.met["through"] >= 2, "alerts that meet the wrong certificate")
        assert rig.arrived() == []
        link.tls = right
        recovered_s = wait_until(lambda: len(rig.arrived()) >= 4, "alerts through the right certificate")
        return _ended(
            rig,
            agent,
            fault="a wrong certificate",
            injected="another authority's, until four alerts wait",
            recovered_s=recovered_s,
        )


def _certificate(folder: Path, name: str) -> ssl.SSLContext:
    """Make a certificate that signs itself, NAME.pem and NAME.key, and return a server's context with it."""
    key, certificate = folder / f"{name}.key", folder / f"{name}.pem"
    subject = ("-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1")
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    command = ["openssl", "req", "-x509", *curve, *subject, "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


MICROPHONES = {
    "zeros": "zeros",
    "dies": None,
    "hangs": "no_audio",
    "floods": None,
    "rate": "wrong_rate",
}


_IN_WORDS = {"zeros": "gives zeros", "rate": "runs at three times its rate"}


def bad_microphone(folder: Path, mode: str) -> Outcome:
    """A recorder that goes silent, dies in the middle of a sample, hangs, or floods the pipe; then a good one again."""
    with Rig(folder) as rig:
        rig.start_station()
        fault = (mode, 3.0, folder / "faulty-once")
        agent = rig.start_agent(rig.saw, speed=1.0, fault=fault, heartbeat_s=1.0)
        state = MICROPHONES[mode]
        noticed_s = None
        if state is not None:
            wait_until(lambda: bool(rig.heartbeat()), "the first heartbeat")
            noticed_s = wait_until(lambda: state in rig.heartbeat().get("states", []), f"the state {state}")
        recovered_s = wait_until(lambda: rig.heartbeat().get("reopenings", 0) >= 1, "the microphone opened again", 40.0)
        wait_until(lambda: len(rig.arrived()) >= 1, "a saw through the reopened microphone", 90.0)
        return _ended(
            rig,
            agent,
            fault=f"the microphone {_IN_WORDS.get(mode, mode)}",
            injected="3 s after the first opening",
            noticed_s=None if noticed_s is None else round(noticed_s, 1),
            recovered_s=recovered_s,
            remark=f"state {state}" if state else "",
        )


def little_memory(folder: Path, *, megabytes: int) -> Outcome:
    """A bound on what the process may take: it works within it."""
    with Rig(folder) as rig:
        rig.start_station()
        agent = rig.start_agent(rig.saw, heartbeat_s=1.0, limit_mb=megabytes)
        wait_until(lambda: len(rig.arrived()) >= 4, "alerts within the bound")
        rss_mb = rig.heartbeat()["rss_mb"]
        return _ended(
            rig,
            agent,
            fault="little memory",
            injected=f"RLIMIT_DATA of {megabytes} MB",
            remark=f"{rss_mb:.0f} MB resident",
        )


def stopped(folder: Path) -> Outcome:
    """SIGSTOP for a while, as a phone that sleeps: what is missed is said, and listening goes on."""
    with Rig(folder) as rig:
        rig.start_station()
        agent = rig.start_agent(rig.saw, speed=1.0, heartbeat_s=1.0)
        wait_until(lambda: rig.arrived(), "a first alert")
        agent.send_signal(signal.SIGSTOP)
        time.sleep(8.0)
        agent.send_signal(signal.SIGCONT)
        before = len(rig.kept())
        recovered_s = wait_until(lambda: len(rig.kept()) > before, "the next alert")
        return _ended(
            rig,
            agent,
            fault="the device sleeps",
            injected="SIGSTOP for 8 s",
            recovered_s=recovered_s,
        )
