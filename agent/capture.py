"""Where sound comes from: files, commands and microphones, all as 16 kHz mono blocks on one sample clock.

A source is small and knows nothing of threads; `Reader` runs one in a thread of its own, keeps a bounded ring of
blocks, and opens a live source again, for ever, when it stops.
"""

import contextlib
import fcntl
import importlib
import itertools
import logging
import math
import os
import queue
import select
import shutil
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from agent.config import CaptureConfig
from agent.errors import AudioError, CaptureError
from agent.resample import Resampler
from agent.wav import WavFile

log = logging.getLogger(__name__)

Float32 = NDArray[np.float32]

SAMPLE_RATE = 16_000
AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff")
LONGEST_PAUSE_S = 60.0
_FILE_BLOCK_S = 10.0
_LIVE_BLOCK_S = 0.5
_FULL_SCALE = 0.999
_MOST_READ = 4_000_000
"""Samples of all channels read from a file at once: 32 channels must not take 32 times the memory."""
_LAST_WORDS_BYTES = 2_000
_PIPE_BYTES = 2**18
_LEAST_PIPE_BYTES = 2**14
_END_S = 2.0
"""Seconds that a recorder gets to end by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """What a source delivers at once."""

    start: int
    """Index of the first sample on the sample clock; a jump means that audio was lost before it."""
    samples: Float32
    """Shape (n,), mono at 16 kHz, in [-1, 1]."""
    clipped: int = 0
    """Samples at full scale, counted before resampling."""
    unreal: int = 0
    """Samples that are no numbers (NaN, infinite), which are heard as silence."""
    arrived_s: float = math.nan
    """Monotonic seconds at which the reader got it; NaN where nobody looked at a clock."""


class AudioSource(Protocol):
    """Something that delivers sound."""

    name: str
    """For people: the file, the command, the card."""
    live: bool
    """True where sound that is not taken is lost, and where an end is a failure."""

    def blocks(self) -> Iterator[Block]:
        """Yield blocks whose `start` begins at 0; end with the recording.

        Raises:
            AudioError: the recording cannot be read (on).
            CaptureError: a live source stopped.
        """
        ...

    def close(self) -> None:
        """Let go of file, child or card; may be called at any time and twice."""
        ...


class _Converter:
    """Any rate and number of channels to blocks of 16 kHz mono."""

    def __init__(self, sample_rate: int) -> None:
        self._sample_rate = sample_rate
        self._resampler = Resampler(sample_rate, SAMPLE_RATE)
        self._start = 0

    def block(self, channels: Float32) -> Block:
        """Return the block that samples of shape (n, channels) give."""
        unreal = clipped = 0
        # NaN and infinity show in the extremes; most blocks hold neither them nor full scale, and are looked at once
        peak = max(channels.max(), -channels.min()) if channels.size else 0.0
        if not np.isfinite(peak):
            real = np.isfinite(channels)
            unreal = int((~real.all(axis=1)).sum())
            channels = np.where(real, channels, np.float32(0.0))
        if not peak < _FULL_SCALE:
            clipped = int((np.abs(channels) >= _FULL_SCALE).any(axis=1).sum())
        mono: Float32 = channels[:, 0] if channels.shape[1] == 1 else channels.mean(axis=1, dtype=np.float32)
        return self._at_clock(self._resampler.push(np.ascontiguousarray(mono)), clipped, unreal)

    def rest(self) -> Block:
        """Return what the resampler still holds."""
        return self._at_clock(self._resampler.flush(), 0)

    def skip(self, lost_s: float) -> None:
        """Move the sample clock over sound that was lost; what comes next does not follow what came before."""
        self._resampler = Resampler(self._sample_rate, SAMPLE_RATE)
        self._start += max(1, round(lost_s * SAMPLE_RATE))

    def _at_clock(self, samples: Float32, clipped: int, unreal: int = 0) -> Block:
        block = Block(start=self._start, samples=samples, clipped=clipped, unreal=unreal)
        self._start += len(samples)
        return block


class AudioFile:
    """A recording, read in pieces, so that an hour needs no more memory than a minute."""

    live = False

    def __init__(self, path: Path, block_s: float = _FILE_BLOCK_S) -> None:
        """Open nothing yet; `blocks` does."""
        self.name = str(path)
        self._path = path
        self._block_s = block_s

    def blocks(self) -> Iterator[Block]:
        """Yield the recording; AudioError if it cannot be read."""
        if self._path.suffix.lower() == ".wav" or _begins_as_wav(self._path):
            yield from self._wav_blocks()
        else:
            yield from self._decoded_blocks()

    def close(self) -> None:
        """Nothing stays open between blocks that an abandoned iterator does not close itself."""

    def _wav_blocks(self) -> Iterator[Block]:
        with WavFile(self._path) as wav:
            if wav.truncated:
                log.warning("%s: is cut short by %d bytes; what is there is heard", self._path, wav.truncated)
            if wav.n_frames == 0:
                log.warning("%s: holds no sound", self._path)
            converter = _Converter(wav.sample_rate)
            n_frames = max(1, min(round(self._block_s * wav.sample_rate), _MOST_READ // wav.channels))
            while len(channels := wav.read(n_frames)):
                yield converter.block(channels)
            yield converter.rest()
            if wav.bad_samples:
                log.warning("%s: %d samples are no numbers and were heard as silence", self._path, wav.bad_samples)

    def _decoded_blocks(self) -> Iterator[Block]:
        try:
            soundfile = importlib.import_module("soundfile")
        except (ImportError, OSError) as error:
            raise AudioError(
                f"{self._path}: only WAV can be read here; for others: pip install 'curupira[audio]'"
            ) from error
        try:
            with soundfile.SoundFile(str(self._path)) as file:
                converter = _Converter(int(file.samplerate))
                n_frames = round(self._block_s * file.samplerate)
                while len(channels := file.read(n_frames, dtype="float32", always_2d=True)):
                    yield converter.block(channels)
                yield converter.rest()
        except (soundfile.SoundFileError, OSError, RuntimeError) as error:
            raise AudioError(f"{self._path}: cannot be decoded: {' '.join(str(error).split())[:200]}") from error


def _begins_as_wav(path: Path) -> bool:
    """Say whether a file is a WAV under another name; AudioError if it cannot be read at all."""
    try:
        if not path.is_file() and path.exists() and not path.is_dir():  # to open a named pipe may take for ever
            raise AudioError(f"{path}: cannot open: it is no regular file")
        with path.open("rb") as file:
            return file.read(4) in {b"RIFF", b"RF64"}
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL in it
        raise AudioError(f"{path}: cannot open: {getattr(error, 'strerror', error)}") from error


class Paced:
    """Another source, delivered no faster than it sounds."""

    def __init__(
        self,
        source: AudioSource,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        """Wrap a source; clock and sleep are arguments for tests."""
        self.name = source.name
        self.live = source.live
        self._source = source
        self._monotonic = monotonic
        self._sleep = sleep

    def blocks(self) -> Iterator[Block]:
        """Yield each block when its last sample has sounded."""
        began_s = self._monotonic()
        for block in self._source.blocks():
            due_s = began_s + (block.start + len(block.samples)) / SAMPLE_RATE
            self._sleep(max(0.0, due_s - self._monotonic()))
            yield block

    def close(self) -> None:
        """Close the wrapped source."""
        self._source.close()


class Chained:
    """A recording, and then another one again and again: the forest after the demo's saw."""

    live = False

    def __init__(self, first: AudioSource, then: AudioSource) -> None:
        """Play `first` once, `then` for ever."""
        self.name = first.name
        self._sources = itertools.chain([first], itertools.repeat(then))

    def blocks(self) -> Iterator[Block]:
        """Yield on one sample clock."""
        offset = 0
        for source in self._sources:
            end = offset
            for block in source.blocks():
                start = offset + block.start
                end = start + len(block.samples)
                yield replace(block, start=start)
            if end == offset:
                return  # an empty recording would spin for ever
            offset = end

    def close(self) -> None:
        """Files close themselves."""


class CommandMic:
    """Any command that writes raw s16le PCM to its standard output: parec, arecord, rec."""

    live = True

    def __init__(self, argv: Sequence[str], sample_rate: int, channels: int = 1, timeout_s: float = 10.0) -> None:
        """Start nothing yet; `blocks` does.

        Args:
            argv: the command, word by word.
            sample_rate: samples per second that it writes.
            channels: interleaved channels that it writes.
            timeout_s: seconds without a byte after which it hangs.
        """
        self.name = " ".join(argv)
        self._argv = list(argv)
        self._sample_rate = sample_rate
        self._channels = channels
        self._timeout_s = timeout_s
        self._child: subprocess.Popen[bytes] | None = None
        self._last_words = b""

    def blocks(self) -> Iterator[Block]:
        """Yield what the command writes; CaptureError when it ends, hangs or cannot be started."""
        try:
            child = subprocess.Popen(
                self._argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,  # a group of its own: what a shell started ends with the shell
            )
        except (OSError, ValueError) as error:
            raise CaptureError(f"{self._argv[0]}: cannot start: {getattr(error, 'strerror', error)}") from error
        self._child = child
        try:
            yield from self._read(child)
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(timeout=_END_S)
        finally:
            self._child = None
            end_group(child)
            assert child.stdout is not None
            assert child.stderr is not None
            while select.select([child.stderr], [], [], 0)[0] and self._hear_words(child):
                pass
            child.stdout.close()
            child.stderr.close()
        said = self._last_words.decode(errors="replace").strip().splitlines()
        reason = f": {said[-1].strip()[:200]}" if said else ""
        raise CaptureError(f"{self.name}: ended with exit code {child.returncode}{reason}")

    def _read(self, child: "subprocess.Popen[bytes]") -> Iterator[Block]:
        assert child.stdout is not None
        converter = _Converter(self._sample_rate)
        frame_bytes = 2 * self._channels
        wanted = round(_LIVE_BLOCK_S * self._sample_rate) * frame_bytes
        longest_s = _roomy(child.stdout) / 2 / (self._sample_rate * frame_bytes)
        block_s, began_s = 0.0, time.monotonic()
        pending = b""
        while True:
            self._wait(child)
            piece = child.stdout.read(wanted - len(pending))
            pending += piece
            if len(pending) >= wanted or not piece:
                # a command that dies may leave half a sample behind
                whole = len(pending) - len(pending) % frame_bytes
                pcm = np.frombuffer(pending[:whole], "<i2").astype(np.float32) * np.float32(2**-15)
                pending = pending[whole:]
                yield converter.block(pcm.reshape(-1, self._channels))
                now_s = time.monotonic()
                block_s, began_s = min(now_s - began_s, _LIVE_BLOCK_S), now_s
            if not piece:
                return
            if not select.select([child.stdout], [], [], 0)[0]:
                # as long as the rest of the last block took: a recorder's every buffer would wake the processor
                time.sleep(min(longest_s, (1 - len(pending) / wanted) * block_s))

    def _wait(self, child: "subprocess.Popen[bytes]") -> None:
        """Return when there is sound to be read, or the end; CaptureError if there is neither in time."""
        assert child.stdout is not None
        assert child.stderr is not None
        pipes = [child.stdout, child.stderr]
        hangs_at_s = time.monotonic() + self._timeout_s
        while (left_s := hangs_at_s - time.monotonic()) > 0:
            ready, _, _ = select.select(pipes, [], [], left_s)
            if child.stderr in ready and not self._hear_words(child):
                pipes.remove(child.stderr)
            if child.stdout in ready:
                return
        raise CaptureError(f"{self.name}: hangs: not a byte for {self._timeout_s:g} s")

    def _hear_words(self, child: "subprocess.Popen[bytes]") -> bool:
        """Keep the last of what the command says, which may be a line a second for a year; False at its end."""
        assert child.stderr is not None
        words = child.stderr.read(_LAST_WORDS_BYTES)
        self._last_words = (self._last_words + words)[-_LAST_WORDS_BYTES:]
        return bool(words)

    def close(self) -> None:
        """End the command; whoever reads from it sees its end and lets go of the rest."""
        child = self._child
        if child is not None:
            end_group(child)


def _roomy(pipe: IO[bytes]) -> int:
    """Let a pipe hold seconds of sound where the system allows it; return the bytes that it holds at least."""
    with contextlib.suppress(AttributeError, OSError):  # Linux alone; a bound of the system's on all pipes
        return fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    return _LEAST_PIPE_BYTES


def end_group(child: "subprocess.Popen[bytes]") -> None:
    """End a command and all that it started."""
    for order in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, PermissionError):  # all gone; on macOS: all gone but for the name
            os.killpg(child.pid, order)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(timeout=_END_S)


class _CallbackFlags(Protocol):
    """What PortAudio says beside each block."""

    input_overflow: bool


class SoundDeviceMic:
    """A microphone through PortAudio, at the card's own rate, found by name."""

    live = True

    def __init__(
        self, device: str | None, timeout_s: float = 10.0, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """Find the card.

        Args:
            device: part of its name, in any case; the default input if None.
            timeout_s: seconds without a block after which it hangs.
            monotonic: seconds, to know how much sound was lost.

        Raises:
            CaptureError: PortAudio is missing, or no such card, or it cannot be opened.
        """
        try:
            self._module: Any = importlib.import_module("sounddevice")
        except (ImportError, OSError) as error:  # OSError: the package is there, the PortAudio library is not
            raise CaptureError(
                f"sounddevice cannot be used: {' '.join(str(error).split())}; install libportaudio2"
            ) from error
        self._timeout_s = timeout_s
        self._monotonic = monotonic
        self._stream: Any = None
        try:
            # PortAudio lists the cards once: without this, one that was plugged in again stays lost for ever
            self._module._terminate()
            self._module._initialize()
            self._idx, self.name, self._sample_rate = self._found(device)
            self._module.check_input_settings(
                device=self._idx, channels=1, dtype="float32", samplerate=self._sample_rate
            )
        except (self._module.PortAudioError, ValueError) as error:
            raise CaptureError(f"PortAudio cannot open the microphone: {' '.join(str(error).split())}") from error

    def _found(self, device: str | None) -> tuple[int, str, int]:
        cards: list[dict[str, Any]] = [dict(card) for card in self._module.query_devices()]
        default = int(self._module.default.device[0])
        inputs = [(idx, card) for idx, card in enumerate(cards) if card["max_input_channels"] > 0]
        for idx, card in inputs:
            if (device is None and idx == default) or (device is not None and device.lower() in card["name"].lower()):
                return idx, str(card["name"]), round(card["default_samplerate"])
        if device is None and inputs:
            idx, card = inputs[0]
            return idx, str(card["name"]), round(card["default_samplerate"])
        names = ", ".join(str(card["name"]) for _, card in inputs) or "none"
        raise CaptureError(f"no microphone {device or 'at all'}; inputs that PortAudio knows: {names}")

    def blocks(self) -> Iterator[Block]:
        """Yield what the card hears; CaptureError when it stops."""
        converter = _Converter(self._sample_rate)
        pieces: queue.Queue[tuple[Float32, float]] = queue.Queue(maxsize=64)
        sounded_s = self._monotonic()  # up to when there is sound
        lost = False

        def heard(samples: Float32, frames: int, _time: object, status: _CallbackFlags) -> None:
            nonlocal sounded_s, lost
            now_s = self._monotonic()
            lost = lost or bool(status.input_overflow)
            lost_s = max(0.0, now_s - sounded_s - frames / self._sample_rate) if lost else -1.0
            try:
                pieces.put_nowait((samples.copy(), lost_s))
            except queue.Full:  # PortAudio's thread must not wait
                lost = True
            else:
                sounded_s, lost = now_s, False

        try:
            self._stream = self._module.InputStream(
                device=self._idx,
                channels=1,
                samplerate=self._sample_rate,
                blocksize=round(_LIVE_BLOCK_S * self._sample_rate),
                dtype="float32",
                callback=heard,
            )
            self._stream.start()
        except self._module.PortAudioError as error:
            raise CaptureError(f"{self.name}: cannot open: {error}") from error
        try:
            while True:
                try:
                    samples, lost_s = pieces.get(timeout=self._timeout_s)
                except queue.Empty as error:
                    raise CaptureError(f"{self.name}: hangs: no sound for {self._timeout_s:g} s") from error
                if lost_s >= 0:
                    converter.skip(lost_s)
                yield converter.block(samples)
        finally:
            self.close()

    def close(self) -> None:
        """Let go of the card."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()


def open_source(config: CaptureConfig) -> AudioSource:
    """Return the configured source.

    Raises:
        CaptureError: there is no microphone that can be used; the text says what to install.
    """
    if config.source == "file":
        assert config.path is not None
        first = AudioFile(config.path, _LIVE_BLOCK_S)
        return Paced(Chained(first, AudioFile(config.then, _LIVE_BLOCK_S)) if config.then else first)
    if config.source == "pipe":
        return CommandMic(config.command, config.sample_rate)
    try:
        return SoundDeviceMic(config.device)
    except CaptureError as error:
        if config.source == "sounddevice":
            raise
        return _command_microphone(config.device, error)


def _command_microphone(device: str | None, problem: CaptureError) -> CommandMic:
    """Return the system's own recorder as a microphone, where PortAudio does not do."""
    if shutil.which("parec"):
        card = [f"--device={device}"] if device else []
        return CommandMic(
            ["parec", "--raw", "--format=s16le", "--rate=48000", "--channels=1", "--latency-msec=200", *card], 48_000
        )
    if shutil.which("arecord"):
        card = ["-D", f"plughw:CARD={device},DEV=0"] if device else []
        argv = ["arecord", "-q", *card, "-f", "S16_LE", "-r", "16000", "-c", "1", "-t", "raw", "--buffer-time=500000"]
        return CommandMic(argv, SAMPLE_RATE)
    raise CaptureError(
        f"no microphone can be used ({problem}), and neither parec nor arecord is installed; "
        "on Debian: apt install libportaudio2, or alsa-utils, or pulseaudio-utils"
    ) from problem


def audio_files(path: Path) -> list[Path]:
    """Return a file as it is given, or every audio file under a folder, sorted.

    Raises:
        AudioError: no such path, a folder that cannot be read, or one without audio.
    """
    try:
        if not path.is_dir():
            path.stat()
            return [path]
        found: list[Path] = []
        _collect(path, found)
    except OSError as error:
        raise AudioError(f"{error.filename or path}: cannot read: {error.strerror}") from error
    if not found:
        raise AudioError(f"{path}: holds no audio file; known are {', '.join(AUDIO_SUFFIXES)}")
    return sorted(found)


def _collect(folder: Path, found: list[Path]) -> None:
    """Gather audio files below a folder; unlike a glob, say which folder cannot be read."""
    for entry in folder.iterdir():
        if entry.is_dir():
            _collect(entry, found)
        elif entry.suffix.lower() in AUDIO_SUFFIXES:
            found.append(entry)


class Reader:
    """Runs a source in a thread of its own, with a bounded ring of blocks between it and the listener."""

    def __init__(
        self,
        open_source: Callable[[], AudioSource],
        *,
        ring_s: float = 12.0,
        drop_oldest: bool = True,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Open nothing yet; `start` does.

        Args:
            open_source: makes the source, also anew when a live one stopped.
            ring_s: seconds of audio kept at most.
            drop_oldest: when the ring is full, drop the oldest audio (live), or make the source wait (files).
            monotonic: seconds, for the sample clock across a reopening.
        """
        self._open_source = open_source
        self._most = round(ring_s * SAMPLE_RATE)
        self._drop_oldest = drop_oldest
        self._monotonic = monotonic
        self._ring: deque[Block] = deque()
        self._held = 0
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._source: AudioSource | None = None
        self._done = False
        self._behind = 0
        self._behind_s = 0.0
        self._until = 0
        self._doubt = ""
        self._paused = False
        self._let_go = False
        self._thread = threading.Thread(target=self._run, name="reader", daemon=True)
        self.dropped_samples = 0
        """Samples lost because the listener was behind."""
        self.reopenings = 0
        """How often a live source had to be opened again."""
        self.last_error: AudioError | None = None
        """Why the source stopped last."""

    @property
    def ended(self) -> bool:
        """Say whether the source is over and every block has been taken."""
        with self._changed:
            return self._done and not self._ring

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def get(self, timeout_s: float, until: int = 0) -> Block | None:
        """Return the next block, or None if none came in time or the source is over.

        Args:
            timeout_s: seconds to wait; blocks that came in them are given even if they end before `until`.
            until: sample clock before which sound is of no use: the blocks up to there are held and given one after
                the other, so that the processor wakes up once for all of them.
        """
        with self._changed:
            self._until = until
            self._changed.wait_for(lambda: self._is_enough() or self._done, timeout_s)
            if not self._ring:
                return None
            block = self._ring.popleft()
            self._held -= len(block.samples)
            self._changed.notify_all()
            return block

    def _is_enough(self) -> bool:
        """Say whether there is what `get` waits for; a ring that fills up is enough in any case."""
        return bool(self._ring) and (self._behind >= self._until or 2 * self._held >= self._most)

    def reopen(self, reason: str) -> None:
        """Let a live source go and open it again: what it delivers is no sound, or it hangs where it cannot tell.

        Args:
            reason: for the log, and for the next attempts' log.
        """
        with self._changed:
            source = self._source
            if source is None or not source.live:
                return
            self._doubt = reason
        # wakes up a reader that waits within the source; one that gets blocks sees the doubt at the next
        source.close()

    def pause(self) -> bool:
        """Let a live source go until `resume`; the sample clock goes on. Return False for a recording, which stays."""
        if not self._drop_oldest:
            return False
        with self._changed:
            self._paused = self._let_go = True
            source = self._source
        if source is not None:
            source.close()
        return True

    def resume(self) -> None:
        """Open the source again."""
        with self._changed:
            self._paused = False
            self._changed.notify_all()

    def close(self) -> None:
        """Stop reading."""
        self._stop.set()
        with self._changed:
            self._changed.notify_all()
            source = self._source
        if source is not None and source.live:
            source.close()
        if self._thread.is_alive():
            self._thread.join(timeout=5.0)

    def _run(self) -> None:
        pause_s = 1.0
        while not self._stop.is_set():
            with self._changed:
                self._changed.wait_for(lambda: not self._paused or self._stop.is_set())
            behind = self._behind
            try:
                if self._read():
                    continue
                break  # a recording ended, or `close` was called
            except CaptureError as error:
                pause_s = 1.0 if self._behind > behind else min(2 * pause_s, LONGEST_PAUSE_S)
                self._note(error, f"opening it again in {pause_s:.0f} s")
                self.reopenings += 1
                self._stop.wait(pause_s)
            except AudioError as error:
                self._note(error, "giving up")
                break
            except Exception as error:  # the supervisor of this thread: without it the device would be deaf in silence
                log.exception("the reader stopped by a fault of its own")
                self.last_error = AudioError(f"{type(error).__name__}: {error}")
                if not self._drop_oldest:
                    break  # a recording would begin anew, and be heard twice
                self.reopenings += 1
                self._stop.wait(LONGEST_PAUSE_S)
        with self._changed:
            self._done = True
            self._changed.notify_all()

    def _read(self) -> bool:
        """Read one opening of the source; the sample clock goes on over the time in which nothing was heard.

        Returns:
            Whether it was let go for a pause, and is to be opened again behind it.
        """
        source = self._open_source()
        missed_s = self._monotonic() - self._behind_s if self._behind else 0.0
        offset = self._behind + round(missed_s * SAMPLE_RATE)
        with self._changed:
            self._source = source
            self._doubt = ""
            self._let_go = self._paused  # told while it was being opened
        told: CaptureError | None = None
        try:
            with contextlib.closing(source):
                for block in () if self._let_go else source.blocks():
                    self._keep(replace(block, start=offset + block.start, arrived_s=self._monotonic()))
                    if self._stop.is_set() or self._doubt or self._let_go:
                        break
        except CaptureError as error:
            if not (self._doubt or self._let_go) or self._stop.is_set():
                raise
            told = error
        if self._let_go and not self._stop.is_set():
            return True
        if self._doubt and not self._stop.is_set():
            # a recorder that was told to end says so: what matters is why it was told
            raise CaptureError(f"{source.name}: {self._doubt}") from told
        return False

    def _keep(self, block: Block) -> None:
        if not len(block.samples):
            return
        with self._changed:
            if not self._drop_oldest:
                self._changed.wait_for(lambda: self._held < self._most or self._stop.is_set())
            self._ring.append(block)
            self._held += len(block.samples)
            while self._held > self._most and self._drop_oldest and len(self._ring) > 1:
                lost = len(self._ring.popleft().samples)
                self._held -= lost
                self.dropped_samples += lost
            self._behind = block.start + len(block.samples)
            self._behind_s = self._monotonic()
            if self._is_enough():
                self._changed.notify_all()

    def _note(self, error: AudioError, then: str) -> None:
        if str(error) != str(self.last_error):
            log.warning("%s; %s", error, then)
        self.last_error = error
