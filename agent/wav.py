"""WAV files of any PCM or float kind, read in pieces; the standard library's reader knows neither float nor extensible.

What is there is read: a recorder that lost power leaves a header that promises more than the file holds, or sizes of
zero, and the sound before that is good.
"""

import stat
import struct
import wave
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from agent.errors import AudioError

Float32 = NDArray[np.float32]

_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_STREAMED_BYTES = 0x7FFF_0000
"""Recorders that write to a pipe promise this much or more (sox, arecord, ffmpeg), or nothing at all."""
_MOST_CHUNKS = 1_000
"""Chunks before the sound; a damaged file must not be searched for minutes."""
_LOWEST_HZ, _HIGHEST_HZ = 1_000, 384_000
_MOST_CHANNELS = 32
_KINDS = {(_PCM, 8): 1, (_PCM, 16): 2, (_PCM, 24): 3, (_PCM, 32): 4, (_FLOAT, 32): 4, (_FLOAT, 64): 8}


@dataclass(frozen=True, slots=True)
class _Format:
    kind: int
    bits: int
    channels: int
    sample_rate: int

    @property
    def frame_bytes(self) -> int:
        return self.channels * _KINDS[self.kind, self.bits]


class WavFile:
    """An open WAV file; a context manager."""

    def __init__(self, path: Path) -> None:
        """Open a file and read its header.

        Raises:
            AudioError: it cannot be opened, or is not a WAV file that can be read; the text names file and reason.
        """
        self._path = path
        self.bad_samples = 0
        """Float samples so far that were no numbers; they are read as 0."""
        try:
            mode = path.stat().st_mode
            if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # to open a named pipe may take for ever
                raise AudioError(f"{path}: cannot open: it is no regular file")
            self._file = path.open("rb")
        except (OSError, ValueError) as error:  # ValueError: a path with a NUL in it
            raise AudioError(f"{path!s}: cannot open: {getattr(error, 'strerror', error)}") from error
        try:
            self._size = self._file.seek(0, 2)
            self._file.seek(0)
            self._format, data_start, promised = _header(self._file, self._size)
        except AudioError as error:
            self._file.close()
            raise AudioError(f"{path}: {error}") from error
        except OSError as error:
            self._file.close()
            raise AudioError(f"{path}: cannot read: {error.strerror}") from error
        here = max(0, self._size - data_start)
        self.truncated = max(0, promised - here)
        """Bytes of sound that the header promises and the file does not hold."""
        self.n_frames = min(promised, here) // self._format.frame_bytes
        """Samples per channel that can be read."""
        self._left = self.n_frames

    @property
    def sample_rate(self) -> int:
        """Return samples per second."""
        return self._format.sample_rate

    @property
    def channels(self) -> int:
        """Return the number of channels."""
        return self._format.channels

    def __enter__(self) -> "WavFile":
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def read(self, n_frames: int) -> Float32:
        """Return the next samples, shape (n, channels), n at most n_frames, in [-1, 1]; n is 0 at the end."""
        wanted = min(n_frames, self._left)
        try:
            raw = self._file.read(wanted * self._format.frame_bytes)
        except OSError as error:
            raise AudioError(f"{self._path}: cannot read: {error.strerror}") from error
        whole = len(raw) // self._format.frame_bytes
        self._left = self._left - whole if whole == wanted else 0
        samples = self._decoded(raw[: whole * self._format.frame_bytes])
        return samples.reshape(whole, self._format.channels)

    def _decoded(self, raw: bytes) -> Float32:
        """Return all channels' samples in one row."""
        kind, bits = self._format.kind, self._format.bits
        if kind == _FLOAT:
            numbers = np.frombuffer(raw, f"<f{bits // 8}")
            bad = ~np.isfinite(numbers)
            self.bad_samples += int(bad.sum())
            return np.where(bad, 0.0, numbers).clip(-1.0, 1.0).astype(np.float32)
        if bits == 8:
            return (np.frombuffer(raw, np.uint8).astype(np.float32) - 128.0) * np.float32(2**-7)
        if bits == 24:
            padded = np.zeros((len(raw) // 3, 4), np.uint8)
            padded[:, 1:] = np.frombuffer(raw, np.uint8).reshape(-1, 3)  # the low byte stays 0
            return padded.reshape(-1).view("<i4").astype(np.float32) * np.float32(2**-31)
        return np.frombuffer(raw, f"<i{bits // 8}").astype(np.float32) * np.float32(2.0 ** (1 - bits))


def _header(file: BinaryIO, size: int) -> tuple[_Format, int, int]:
    """Return the format, where the sound begins, and how many bytes of it the header promises."""
    if size == 0:
        raise AudioError("is empty, expected a WAV file")
    magic = file.read(12)
    if len(magic) < 12 or magic[:4] not in (b"RIFF", b"RF64") or magic[8:] != b"WAVE":
        raise AudioError(f"is not a WAV file: it begins with {magic[:12]!r}, expected RIFF....WAVE")
    is_complete = struct.unpack("<I", magic[4:8])[0] + 8 == size
    found: _Format | None = None
    long_size: int | None = None
    for _ in range(_MOST_CHUNKS):
        head = file.read(8)
        if len(head) < 8:
            missing = "data chunk" if found else "fmt chunk"
            raise AudioError(f"is a WAV file cut short: it ends before its {missing}")
        name, length = head[:4], struct.unpack("<I", head[4:])[0]
        start = file.tell()
        if not all(0x20 <= letter < 0x7F for letter in name):
            raise AudioError(f"is a damaged WAV file: at byte {start - 8} is {name!r}, expected the name of a chunk")
        if name == b"data":
            if found is None:
                raise AudioError("is a WAV file whose sound stands before its fmt chunk; it cannot be read")
            if length == 0 and is_complete:
                return found, start, 0
            return found, start, _promised(length, long_size, size - start)
        if name == b"fmt ":
            found = _format(file.read(min(length, 64)))
        elif name == b"ds64" and length >= 16:
            long_size = struct.unpack("<Q", file.read(16)[8:].ljust(8, b"\0"))[0]
        file.seek(start + length)
        if length % 2 and file.read(1) != b"\0":  # chunks begin at even places, but not every writer knows
            file.seek(start + length)
    raise AudioError(f"is a damaged WAV file: no sound in its first {_MOST_CHUNKS} chunks")


def _promised(length: int, long_size: int | None, here: int) -> int:
    """Return the bytes of sound; a recorder that streamed does not know them, and the file's end tells."""
    if length == 0xFFFF_FFFF and long_size:
        return long_size
    is_unknown = length == 0 or (length >= _STREAMED_BYTES and length > here)
    return here if is_unknown else length


def _format(raw: bytes) -> _Format:
    if len(raw) < 16:
        raise AudioError(f"is a WAV file with a fmt chunk of {len(raw)} bytes, expected at least 16")
    kind, channels, sample_rate, _, _, bits = struct.unpack("<HHIIHH", raw[:16])
    if kind == _EXTENSIBLE and len(raw) >= 26:
        kind = struct.unpack("<H", raw[24:26])[0]
    if (kind, bits) not in _KINDS:
        raise AudioError(
            f"is a WAV file of kind {kind} with {bits} bits, expected PCM of 8, 16, 24, 32 or float of 32, 64"
        )
    if not 1 <= channels <= _MOST_CHANNELS or not _LOWEST_HZ <= sample_rate <= _HIGHEST_HZ:
        raise AudioError(
            f"is a WAV file of {channels} channels at {sample_rate} Hz, expected 1 to {_MOST_CHANNELS} channels "
            f"at {_LOWEST_HZ} to {_HIGHEST_HZ} Hz"
        )
    return _Format(kind, bits, channels, sample_rate)


def write_wav(path: Path, samples: Float32, sample_rate: int) -> None:
    """Write mono samples in [-1, 1], shape (n,), as 16-bit PCM."""
    pcm = np.rint(samples * np.float32(32_767.0)).clip(-32_768, 32_767).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sample_rate)
        file.writeframes(pcm.tobytes())
