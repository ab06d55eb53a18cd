"""The sound of an alert, where the configuration wants it: kept in memory until then, and never with speech in it.

The last seconds lie in a ring in memory and touch no disk. When an alert is raised they become a clip, unless
WebRTC's detector in its strict mode hears speech in them and the level agrees: then the clip is dropped, never the
alert. The detector alone calls most saws voiced. What a saw does not have is syllables: a level that rises and falls
again within half a second. One such voiced syllable drops the clip: of the two errors, to lose the clip of a saw that
revs is the one that wrongs nobody.
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
Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

LONGEST_S = 10.0
LARGEST_CLIP_BYTES = 44 + 2 * round(LONGEST_S * SAMPLE_RATE)
STRICT_MODE = 3
_FRAME = 480  # 30 ms, the longest that WebRTC's detector takes
_SYLLABLE = 15
"""Frames, 0.45 s, that a syllable takes at most, to either side of its peak as well..."""
_RISE_DB = 6.0
"""...within which the level rises by so much, and falls again..."""
_VOICE = slice(4, 31)
"""Bins of a frame's spectrum in which the level is measured, 130 to 1000 Hz: birds are above."""
_TAPER = np.hanning(_FRAME)
_VOICED_SHARE = 0.6
"""...and that the detector calls speech, as a share."""


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
    if len(frames) < 3:
        return False
    voiced = np.array([vad.is_speech(frame.astype("<i2").tobytes(), SAMPLE_RATE) for frame in frames])  # (n_frames,)
    spectrum = np.fft.rfft(frames * _TAPER)[:, _VOICE]  # (n_frames, n_bins)
    level_db = 10.0 * np.log10(np.square(np.abs(spectrum)).mean(axis=1) + 1.0)
    level_db = np.convolve(level_db, np.ones(3) / 3, "same")  # over 90 ms
    peaks = 1 + np.flatnonzero((level_db[1:-1] >= level_db[:-2]) & (level_db[1:-1] > level_db[2:]))
    return any(_is_syllable(level_db, voiced, peak) for peak in peaks.tolist())


def _is_syllable(level_db: Float64, voiced: Bool, peak: int) -> bool:
    """Say whether the level rises to this frame and falls behind it as in a syllable, and is voiced there."""
    foot_db = level_db[peak] - _RISE_DB
    before = np.flatnonzero(level_db[max(0, peak - _SYLLABLE) : peak] <= foot_db)
    behind = np.flatnonzero(level_db[peak + 1 : peak + 1 + _SYLLABLE] <= foot_db)
    if len(before) == 0 or len(behind) == 0:
        return False
    start = max(0, peak - _SYLLABLE) + int(before[-1]) + 1
    end = peak + 1 + int(behind[0])
    is_one = 2 <= end - start <= _SYLLABLE and level_db[start:end].max() <= level_db[peak]
    return bool(is_one and voiced[start:end].mean() >= _VOICED_SHARE)


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
