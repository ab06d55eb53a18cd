"""The sound of an alert, where the configuration wants it: kept in memory until then, and never with speech in it.

The last seconds lie in a ring in memory and touch no disk. When an alert is raised they become a clip, unless
WebRTC's detector in its strict mode hears speech in them that also stands out by its level: then the clip is dropped,
never the alert. A saw that revs sounds like speech to that detector more often than not, and then its clip goes too:
of the two errors this is the one that wrongs nobody.
"""

import io
import wave
from collections import deque
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from agent.capture import SAMPLE_RATE, Block
from agent.clipbox import ClipBox
from agent.errors import FieldError, StorageError
from agent.gate import Vad, webrtc_vad

Int16 = NDArray[np.int16]

LONGEST_S = 10.0
LARGEST_CLIP_BYTES = 44 + 2 * round(LONGEST_S * SAMPLE_RATE)
STRICT_MODE = 3
_FRAME = 480  # 30 ms, the longest that WebRTC's detector takes
_RUN = 5
"""Frames on end, 150 ms, that are voiced and loud: shorter is a bird, or a twig."""
_RISE_DB = 6.0
"""By how much speech stands above the quiet fifth of its clip."""
_QUIET_SHARE = 20


class ClipRing:
    """The last seconds of sound, in memory alone."""

    def __init__(self, length_s: float) -> None:
        """Keep `length_s` seconds."""
        self._most = round(length_s * SAMPLE_RATE)
        self._pieces: deque[Int16] = deque()
        self._held = 0
        self._expected = -1

    def push(self, block: Block) -> None:
        """Take a block; behind lost audio the ring begins anew."""
        if block.start != self._expected:
            self._pieces.clear()
            self._held = 0
        self._expected = block.start + len(block.samples)
        pcm = (block.samples[-self._most :] * np.float32(32_767.0)).clip(-32_768, 32_767).astype(np.int16)
        self._pieces.append(pcm)
        self._held += len(pcm)
        while self._held - len(self._pieces[0]) >= self._most:
            self._held -= len(self._pieces.popleft())

    def cut(self) -> Int16:
        """Return what is there, shape (n_samples,): the last seconds, or fewer behind a gap."""
        if not self._pieces:
            return np.empty(0, np.int16)
        return np.concatenate(self._pieces)[-self._most :]


def has_speech(samples: Int16, vad: Vad) -> bool:
    """Say whether somebody may be speaking: the detector says so, and the level agrees.

    Args:
        samples: shape (n_samples,), 16 kHz.
        vad: in its strict mode.
    """
    frames = samples[: len(samples) // _FRAME * _FRAME].reshape(-1, _FRAME)
    if len(frames) == 0:
        return False
    power = np.square(frames.astype(np.float64)).mean(axis=1)  # (n_frames,)
    level_db = 10.0 * np.log10(power + 1.0)
    loud = level_db >= np.percentile(level_db, _QUIET_SHARE) + _RISE_DB
    run = 0
    for frame, is_loud in zip(frames, loud.tolist(), strict=True):
        speaks = vad.is_speech(frame.astype("<i2").tobytes(), SAMPLE_RATE)  # asked of each: it has a memory
        run = run + 1 if speaks and is_loud else 0
        if run >= _RUN:
            return True
    return False


def wav_bytes(samples: Int16) -> bytes:
    """Return samples as a WAV file: 16 bits, 16 kHz, one channel."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(samples.astype("<i2").tobytes())
    return out.getvalue()


def check_wav(body: bytes) -> float:
    """Return the seconds of a clip as it came over the wire; FieldError if it is none."""
    if len(body) > LARGEST_CLIP_BYTES:
        raise FieldError("clip", f"has {len(body)} bytes, expected at most {LARGEST_CLIP_BYTES}")
    try:
        with wave.open(io.BytesIO(body), "rb") as file:
            kind = (file.getnchannels(), file.getsampwidth(), file.getframerate())
            n_samples = file.getnframes()
            whole = len(file.readframes(n_samples)) == 2 * n_samples
    except (wave.Error, EOFError) as error:
        raise FieldError("clip", f"is no WAV file: {error}") from error
    if kind != (1, 2, SAMPLE_RATE) or not n_samples or not whole:
        raise FieldError("clip", f"is not a whole WAV of one channel, 16 bits, {SAMPLE_RATE} Hz")
    return n_samples / SAMPLE_RATE


@dataclass(slots=True)
class ClipKeeper:
    """Hears all the time, and keeps something only with an alert."""

    box: ClipBox
    length_s: float
    vad: Vad | None = field(default_factory=lambda: webrtc_vad(STRICT_MODE))
    """None where the package is missing: nobody can say then whether somebody speaks, and no clip is kept."""
    _ring: ClipRing = field(init=False)

    def __post_init__(self) -> None:
        """Begin with nothing heard."""
        self._ring = ClipRing(self.length_s)

    def hear(self, block: Block) -> None:
        """Take a block."""
        self._ring.push(block)

    def keep(self, alert_id: str) -> str:
        """Keep the last seconds with an alert; return why they were dropped, or nothing if they are kept."""
        if self.vad is None:
            return "webrtcvad is missing: nobody can say whether there is speech in it"
        samples = self._ring.cut()
        if len(samples) == 0:
            return "no sound was there"
        if has_speech(samples, self.vad):
            return "speech in it"
        try:
            self.box.put(alert_id, wav_bytes(samples))
        except StorageError as error:
            return str(error)
        return ""
