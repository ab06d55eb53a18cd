"""Sources deliver 16 kHz mono on one sample clock; the reader never loses count, and opens what stops again."""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from agent import capture
from agent.capture import AudioFile, AudioSource, Block, Chained, CommandMic, Paced, Reader, audio_files, open_source
from agent.config import CaptureConfig
from agent.errors import AudioError, CaptureError
from agent.wav import write_wav

RATE = 16_000


def tone(seconds: float, rate: int = RATE) -> np.ndarray:
    return (0.4 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def heard(source: AudioSource) -> np.ndarray:
    """Return all samples of a source, whose blocks must follow each other without a gap."""
    pieces: list[np.ndarray] = []
    behind = 0
    for block in source.blocks():
        assert block.start == behind
        behind += len(block.samples)
        pieces.append(block.samples)
    return np.concatenate(pieces) if pieces else np.empty(0, np.float32)


class Script:
    """A live source that plays blocks, and raises where it is told to."""

    live = True

    def __init__(self, *acts: object) -> None:
        self.name = "script"
        self.acts = acts
        self.closed = False

    def blocks(self) -> Iterator[Block]:
        start = 0
        for act in self.acts:
            if isinstance(act, Exception):
                raise act
            if callable(act):
                act()
                continue
            yield Block(start=start, samples=np.full(int(act), 0.1, np.float32))  # type: ignore[call-overload]
            start += int(act)  # type: ignore[call-overload]

    def close(self) -> None:
        self.closed = True


def taken(reader: Reader) -> list[Block]:
    """Return all blocks up to the end of the source."""
    blocks = []
    while not reader.ended:
        block = reader.get(5.0)
        if block is not None:
            blocks.append(block)
    return blocks


# Files


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 96_000])
def test_a_recording_of_any_rate_is_the_same_sound(tmp_path: Path, rate: int) -> None:
    path = tmp_path / "tone.wav"
    write_wav(path, tone(3.0, rate), rate)
    samples = heard(AudioFile(path, block_s=0.7))
    assert len(samples) == 3 * RATE
    np.testing.assert_allclose(samples[800:-800], tone(3.0)[800:-800], atol=1e-3)


def test_other_formats_need_an_extra_and_the_error_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "night.flac"
    path.write_bytes(b"fLaC")
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(AudioError, match=r"night\.flac.*curupira\[audio\]"):
        heard(AudioFile(path))


def test_other_formats_are_decoded_and_broken_ones_named(tmp_path: Path) -> None:
    soundfile = pytest.importorskip("soundfile")
    path = tmp_path / "night.flac"
    soundfile.write(path, tone(1.0), RATE)
    np.testing.assert_allclose(heard(AudioFile(path)), tone(1.0), atol=1e-4)
    path.write_bytes(b"no sound at all")
    with pytest.raises(AudioError, match=r"night\.flac: cannot be decoded"):
        heard(AudioFile(path))
    with pytest.raises(AudioError, match="cannot open: No such file"):
        heard(AudioFile(tmp_path / "none.ogg"))


def test_a_wav_under_another_name_is_a_wav(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "soundfile", None)
    write_wav(tmp_path / "recording", tone(1.0), RATE)
    assert len(heard(AudioFile(tmp_path / "recording"))) == RATE


@pytest.mark.parametrize("name", ["pipe.wav", "pipe.ogg"])
def test_a_named_pipe_is_refused_and_not_waited_for(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(AudioError, match="cannot open: it is no regular file"):
        heard(AudioFile(tmp_path / name))


@pytest.mark.parametrize("name", ["a\0b.wav", "a\0b.ogg"])
def test_a_name_that_no_file_can_have_is_refused(name: str) -> None:
    with pytest.raises(AudioError, match="cannot open"):
        heard(AudioFile(Path(name)))


def test_full_scale_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "loud.wav"
    write_wav(path, np.sign(tone(1.0)), RATE)
    assert sum(block.clipped for block in AudioFile(path).blocks()) > 15_000


def test_a_truncated_recording_is_heard_and_said_to_be_short(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "cut.wav"
    write_wav(path, tone(1.0), RATE)
    path.write_bytes(path.read_bytes()[:20_000])
    assert len(heard(AudioFile(path))) == 9_978
    assert "is cut short by" in caplog.text


class Hands:
    """A clock whose hands are moved by sleeping."""

    def __init__(self, now_s: float) -> None:
        self.now_s = now_s

    def monotonic(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


def test_a_paced_source_is_as_slow_as_it_sounds() -> None:
    hands = Hands(100.0)
    times = []
    for _ in Paced(Script(8_000, 8_000, 16_000), hands.monotonic, hands.sleep).blocks():
        times.append(hands.now_s)
        hands.sleep(0.2)  # the listener takes its time, and the pace is kept all the same
    assert times == pytest.approx([100.5, 101.0, 102.0])


def test_one_recording_and_then_another_for_ever_on_one_clock(tmp_path: Path) -> None:
    write_wav(tmp_path / "saw.wav", tone(1.0), RATE)
    write_wav(tmp_path / "forest.wav", tone(0.5), RATE)
    chained = Chained(AudioFile(tmp_path / "saw.wav"), AudioFile(tmp_path / "forest.wav")).blocks()
    starts = [next(block for block in chained if len(block.samples)).start for _ in range(4)]
    assert starts == [0, RATE, RATE + 8_000, RATE + 16_000]


def test_an_empty_recording_does_not_spin_for_ever(tmp_path: Path) -> None:
    write_wav(tmp_path / "empty.wav", np.empty(0, np.float32), RATE)
    assert len(heard(Chained(AudioFile(tmp_path / "empty.wav"), AudioFile(tmp_path / "empty.wav")))) == 0


# Folders


def test_a_folder_means_every_audio_file_below_it_sorted(tmp_path: Path) -> None:
    for name in ("b/2.wav", "b/1.OGG", "a.flac", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [str(path.relative_to(tmp_path)) for path in audio_files(tmp_path)] == ["a.flac", "b/1.OGG", "b/2.wav"]
    assert audio_files(tmp_path / "notes.txt") == [tmp_path / "notes.txt"]


def test_a_folder_that_is_missing_empty_or_closed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AudioError, match="none: cannot read: No such file"):
        audio_files(tmp_path / "none")
    with pytest.raises(AudioError, match="holds no audio file"):
        audio_files(tmp_path)
    (tmp_path / "closed").mkdir()

    def refuse(path: Path) -> Iterator[Path]:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(AudioError, match=r"cannot read: Permission denied"):
        audio_files(tmp_path / "closed")


# Commands


def pcm_command(script: str) -> list[str]:
    return [sys.executable, "-c", f"import sys, time; out = sys.stdout.buffer; {script}"]


def failing(source: AudioSource) -> tuple[int, str]:
    """Return how many samples came before the failure, and its text."""
    n_samples = 0
    try:
        for block in source.blocks():
            n_samples += len(block.samples)
    except CaptureError as error:
        return n_samples, str(error)
    return pytest.fail("the source ended without a CaptureError")


def test_a_command_that_dies_leaves_its_sound_half_a_sample_lost_and_its_last_words() -> None:
    script = "out.write(b'\\1\\2' * 16000 + b'x'); out.flush(); sys.exit('the card is gone')"
    n_samples, text = failing(CommandMic(pcm_command(script), RATE))
    assert n_samples == RATE
    assert "exit code 1" in text
    assert "the card is gone" in text


def test_a_command_that_hangs_is_ended() -> None:
    # a shell, not Python: it is there at once, however busy the machine is
    mic = CommandMic(["sh", "-c", "head -c 32000 /dev/zero; exec sleep 60"], RATE, timeout_s=1.0)
    n_samples, text = failing(mic)
    assert n_samples == RATE
    assert "hangs: not a byte for 1 s" in text


def test_a_command_that_is_not_there_is_named() -> None:
    _, text = failing(CommandMic(["no-such-recorder"], RATE))
    assert text == "no-such-recorder: cannot start: No such file or directory"


def test_channels_of_a_command_are_mixed_and_its_rate_is_converted() -> None:
    script = "out.write((b'\\0\\x20' + b'\\0\\0') * 48000)"  # left 0.25, right 0
    samples = [block.samples for block in _collected(CommandMic(pcm_command(script), 48_000, channels=2))]
    middle = np.concatenate(samples)[2_000:-2_000]
    np.testing.assert_allclose(middle, 0.125, atol=1e-3)


def _collected(source: AudioSource) -> Iterator[Block]:
    try:
        yield from source.blocks()
    except CaptureError:
        return


def test_a_command_that_never_stops_talking_fills_no_disk_and_is_still_heard() -> None:
    script = "[(sys.stderr.write('overrun ' * 500 + chr(10)), out.write(bytes(3200))) for _ in range(200)]; sys.exit(3)"
    mic = CommandMic(pcm_command(script), RATE)
    n_samples, text = failing(mic)
    assert n_samples == 200 * 1_600
    assert "exit code 3: " in text
    assert "overrun overrun" in text
    assert len(mic._last_words) <= 2_000


def test_talk_alone_is_no_sound() -> None:
    mic = CommandMic(pcm_command("[(print('.', file=sys.stderr), time.sleep(0.05)) for _ in range(400)]"), RATE, 1, 0.4)
    assert "hangs" in failing(mic)[1]


def is_alive(pid: int) -> bool:
    """Say whether a process runs; one that only waits for init to notice does not."""
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_close_from_another_thread_ends_the_command_and_all_that_it_started(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    sleeper = f"import os, time; open({str(pid_file)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    script = f"import subprocess; subprocess.Popen([sys.executable, '-c', {sleeper!r}]); out.write(bytes(64000)); "
    mic = CommandMic(pcm_command(script + "out.flush(); time.sleep(60)"), RATE)
    blocks = mic.blocks()
    next(blocks)
    while not (pid_file.exists() and pid_file.read_text()):
        time.sleep(0.01)
    closer = threading.Thread(target=mic.close)
    closer.start()
    with pytest.raises(CaptureError, match="ended with exit code -15"):
        list(blocks)
    closer.join()
    end_s = time.monotonic() + 10  # the signal is on its way; the child sleeps for a minute
    while is_alive(int(pid_file.read_text())):
        assert time.monotonic() < end_s
        time.sleep(0.01)


# Microphones


class Flags:
    def __init__(self, overflow: bool) -> None:
        self.input_overflow = overflow


class PortAudio:
    """What `sounddevice` looks like from here."""

    class PortAudioError(Exception):
        pass

    busy = False
    initialised = 1
    calls: tuple[tuple[float, bool], ...] = ()
    """When the card calls back, and whether it lost sound before."""
    now_s = 0.0

    class default:  # noqa: N801  # its name there
        device = (1, 0)

    def __init__(self, *names: str) -> None:
        self.cards = [{"name": "speaker", "max_input_channels": 0, "default_samplerate": 48_000.0}]
        self.cards += [{"name": name, "max_input_channels": 1, "default_samplerate": 44_100.0} for name in names]

    def query_devices(self) -> list[dict[str, object]]:
        assert self.initialised == 1
        return self.cards

    def _terminate(self) -> None:
        self.initialised -= 1

    def _initialize(self) -> None:
        self.initialised += 1

    def check_input_settings(self, **_: object) -> None:
        if self.busy:
            raise self.PortAudioError("Device unavailable")

    def InputStream(self, *, callback: Callable[..., None], blocksize: int, **_: object) -> "PortAudio":
        self.callback, self.frames = callback, blocksize
        return self

    def start(self) -> None:
        for now_s, overflow in self.calls:
            self.now_s = now_s
            self.callback(np.full((self.frames, 1), 0.1, np.float32), self.frames, None, Flags(overflow))

    def close(self) -> None:
        self.calls = ()


def test_a_card_is_found_by_its_name_and_never_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", PortAudio("Built-in", "USB Forest Mic"))
    assert capture.SoundDeviceMic("forest").name == "USB Forest Mic"
    assert capture.SoundDeviceMic(None).name == "Built-in"
    with pytest.raises(CaptureError, match=r"no microphone owl; inputs that PortAudio knows: Built-in, USB Forest Mic"):
        capture.SoundDeviceMic("owl")


def test_sound_that_the_card_lost_is_a_jump_of_the_sample_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    module = PortAudio("Mic")
    module.calls = ((0.5, False), (1.0, False), (2.3, True), (2.8, False))
    monkeypatch.setitem(sys.modules, "sounddevice", module)
    mic = capture.SoundDeviceMic(None, timeout_s=0.05, monotonic=lambda: module.now_s)
    blocks = list(_collected(mic))
    ends = [block.start + len(block.samples) for block in blocks]
    jumps = [later.start - end for end, later in zip(ends, blocks[1:], strict=False)]
    assert jumps[0] == jumps[2] == 0
    assert jumps[1] == pytest.approx(0.8 * RATE, abs=2)


def test_a_queue_that_is_full_is_lost_sound_too(monkeypatch: pytest.MonkeyPatch) -> None:
    module = PortAudio("Mic")
    module.calls = tuple((0.5 * idx, False) for idx in range(1, 81))  # 40 s before anybody takes any
    monkeypatch.setitem(sys.modules, "sounddevice", module)
    mic = capture.SoundDeviceMic(None, timeout_s=0.05, monotonic=lambda: module.now_s)
    blocks = mic.blocks()
    held = [next(blocks) for _ in range(64)]
    module.now_s = 40.5
    module.callback(np.zeros((module.frames, 1), np.float32), module.frames, None, Flags(False))
    after = next(blocks)
    lost = after.start - (held[-1].start + len(held[-1].samples))
    assert lost == pytest.approx(16 * RATE / 2, abs=2)
    blocks.close()  # type: ignore[attr-defined]


def test_a_card_that_is_busy_leaves_the_place_to_the_systems_recorder(monkeypatch: pytest.MonkeyPatch) -> None:
    module = PortAudio("Mic")
    module.busy = True
    monkeypatch.setitem(sys.modules, "sounddevice", module)
    monkeypatch.setattr(capture.shutil, "which", lambda name: name if name == "parec" else None)
    assert open_source(CaptureConfig()).name.startswith("parec")
    with pytest.raises(CaptureError, match="cannot open the microphone: Device unavailable"):
        open_source(CaptureConfig(source="sounddevice"))


def test_without_portaudio_the_systems_recorder_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    monkeypatch.setattr(capture.shutil, "which", lambda name: name if name == "arecord" else None)
    assert open_source(CaptureConfig(device="Forest")).name.startswith("arecord -q -D plughw:CARD=Forest")
    monkeypatch.setattr(capture.shutil, "which", lambda name: name)
    assert open_source(CaptureConfig()).name.startswith("parec --raw --format=s16le")


def test_without_any_recorder_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    monkeypatch.setattr(capture.shutil, "which", lambda _: None)
    with pytest.raises(CaptureError, match="apt install libportaudio2"):
        open_source(CaptureConfig())
    with pytest.raises(CaptureError, match="sounddevice cannot be used"):
        open_source(CaptureConfig(source="sounddevice"))


# The reader


def run(source: Callable[[], AudioSource], **options: object) -> Reader:
    reader = Reader(source, **options)  # type: ignore[arg-type]
    reader.start()
    return reader


def test_a_recording_passes_whole_and_waits_for_the_listener(tmp_path: Path) -> None:
    write_wav(tmp_path / "tone.wav", tone(30.0), RATE)
    reader = run(lambda: AudioFile(tmp_path / "tone.wav", 0.5), ring_s=2.0, drop_oldest=False)
    blocks = taken(reader)
    assert sum(len(block.samples) for block in blocks) == 30 * RATE
    assert reader.dropped_samples == 0
    reader.close()


def test_a_listener_that_is_behind_loses_the_oldest_audio_and_it_is_counted() -> None:
    played = threading.Event()
    reader = run(lambda: Script(*[8_000] * 10, played.set, CaptureError("end")), ring_s=2.0)
    assert played.wait(5)
    first = reader.get(5.0)
    assert first is not None
    assert first.start == 10 * 8_000 - 2 * RATE  # the jump shows what is lost
    assert reader.dropped_samples == 10 * 8_000 - 2 * RATE
    reader.close()


def test_blocks_wait_for_the_one_that_the_listener_wants_and_come_together() -> None:
    held, more, over = threading.Event(), threading.Event(), threading.Event()
    reader = run(lambda: Script(8_000, 8_000, held.set, lambda: more.wait(10), 8_000, lambda: over.wait(10)))
    assert held.wait(5)
    began_s = time.monotonic()
    threading.Timer(0.3, more.set).start()
    given = [reader.get(10.0, 24_000) for _ in range(3)]
    assert time.monotonic() - began_s >= 0.3
    assert [block.start for block in given if block is not None] == [0, 8_000, 16_000]
    over.set()
    reader.close()


def test_a_source_that_falls_silent_gives_what_it_gave() -> None:
    over = threading.Event()
    reader = run(lambda: Script(8_000, lambda: over.wait(10)))
    first = reader.get(0.2, 24_000)
    assert first is not None
    assert reader.get(0.0, 24_000) is None
    over.set()
    reader.close()


def test_a_full_ring_is_enough() -> None:
    over = threading.Event()
    reader = run(lambda: Script(8_000, 8_000, lambda: over.wait(10)), ring_s=2.0)
    assert reader.get(10.0, 10**9) is not None
    over.set()
    reader.close()


def test_a_microphone_that_stops_is_opened_again_and_the_clock_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 50.0
    sources = [Script(8_000, CaptureError("gone")), Script(8_000, CaptureError("gone"))]
    opened: list[Script] = []

    def open_next() -> AudioSource:
        if not sources:
            raise AudioError("no more")  # ends the test's reader
        opened.append(sources.pop(0))
        return opened[-1]

    reader = Reader(open_next, monotonic=lambda: now_s)

    def wait(seconds: float) -> bool:
        nonlocal now_s
        now_s += 3.0
        return False

    monkeypatch.setattr(reader._stop, "wait", wait)
    reader.start()
    blocks = taken(reader)
    assert [block.start for block in blocks] == [0, 8_000 + 3 * RATE]
    assert reader.reopenings == 2
    assert all(source.closed for source in opened)
    reader.close()


def test_back_off_doubles_to_a_minute_and_begins_anew_after_sound(monkeypatch: pytest.MonkeyPatch) -> None:
    acts: list[AudioSource] = [Script(CaptureError("deaf")) for _ in range(8)]
    acts += [Script(8_000, CaptureError("deaf")), Script(CaptureError("deaf"))]
    reader = Reader(lambda: acts.pop(0) if acts else _raise())
    pauses: list[float] = []
    monkeypatch.setattr(reader._stop, "wait", lambda seconds: bool(pauses.append(seconds)))
    reader.start()
    taken(reader)
    assert pauses == [2, 4, 8, 16, 32, 60, 60, 60, 1, 2]
    assert str(reader.last_error) == "over"
    reader.close()


def _raise() -> AudioSource:
    raise AudioError("over")


class Endless(Script):
    """A live source that gives blocks for ever."""

    def blocks(self) -> Iterator[Block]:
        start = 0
        while True:
            yield Block(start=start, samples=np.zeros(800, np.float32))
            start += 800


def test_a_source_in_doubt_is_let_go_and_opened_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    opened: list[AudioSource] = []

    def open_next() -> AudioSource:
        if len(opened) == 2:
            raise AudioError("no more")  # ends the test's reader
        opened.append(Endless(0))
        return opened[-1]

    reader = Reader(open_next, ring_s=1.0)
    monkeypatch.setattr(reader._stop, "wait", lambda _: False)
    reader.start()
    for number in (1, 2):
        while len(opened) < number or reader.get(5.0) is None:
            pass
        reader.reopen("zeros")
    reader._thread.join(5.0)
    assert not reader._thread.is_alive()
    assert reader.reopenings == 2
    assert "zeros; opening it again in 1 s" in caplog.text


def test_a_recorder_that_hangs_is_ended_when_in_doubt() -> None:
    opened: list[AudioSource] = []

    def open_next() -> AudioSource:
        if opened:
            raise AudioError("no more")
        opened.append(CommandMic(["sh", "-c", "head -c 32000 /dev/zero; sleep 60"], RATE))
        return opened[-1]

    reader = run(open_next)
    assert reader.get(10.0) is not None
    reader.reopen("no_audio")
    reader._thread.join(10.0)
    assert not reader._thread.is_alive()
    assert reader.reopenings == 1


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("rate", [16_000, 48_000])
def test_what_is_no_number_is_silence_and_spreads_nowhere(value: float, rate: int) -> None:
    """A NaN in a filter stays there for ever: none may enter."""
    converter = capture._Converter(rate)
    good = np.random.default_rng(1).standard_normal((rate // 2, 2)).astype(np.float32) * np.float32(0.1)
    bad = good.copy()
    bad[100:150, 1] = value
    assert converter.block(good).unreal == 0
    broken = converter.block(bad)
    assert broken.unreal == 50
    assert np.isfinite(broken.samples).all()
    assert np.isfinite(converter.block(good).samples).all()


def test_a_recording_is_not_opened_again(tmp_path: Path) -> None:
    write_wav(tmp_path / "tone.wav", tone(2.0), RATE)
    reader = run(lambda: AudioFile(tmp_path / "tone.wav", 0.5), drop_oldest=False)
    reader.reopen("zeros")
    assert sum(len(block.samples) for block in taken(reader)) == 2 * RATE
    assert reader.reopenings == 0


def test_a_recording_that_cannot_be_read_ends_the_reader_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("hello")
    reader = run(lambda: AudioFile(tmp_path / "text.wav"))
    assert taken(reader) == []
    assert "text.wav: is not a WAV file" in str(reader.last_error)
    reader.close()


class Faulty(Script):
    def blocks(self) -> Iterator[Block]:
        yield from super().blocks()
        raise ZeroDivisionError


def test_a_fault_of_the_reader_itself_is_written_down_and_the_microphone_opened_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    acts: list[AudioSource] = [Faulty(8_000), Script(8_000)]
    reader = Reader(lambda: acts.pop(0))
    monkeypatch.setattr(reader._stop, "wait", lambda _: False)
    reader.start()
    assert len(taken(reader)) == 2
    assert reader.reopenings == 1
    assert "ZeroDivisionError" in str(reader.last_error)
    assert "fault of its own" in caplog.text


def test_a_fault_in_a_recording_ends_it_and_it_is_not_heard_twice() -> None:
    reader = run(lambda: Faulty(8_000), drop_oldest=False)
    assert len(taken(reader)) == 1
    assert reader.reopenings == 0
    assert "ZeroDivisionError" in str(reader.last_error)


def test_close_ends_a_reader_that_waits(tmp_path: Path) -> None:
    write_wav(tmp_path / "tone.wav", tone(30.0), RATE)
    reader = run(lambda: AudioFile(tmp_path / "tone.wav", 0.5), ring_s=1.0, drop_oldest=False)
    assert reader.get(5.0) is not None
    reader.close()
    assert not reader._thread.is_alive()


class Microphones:
    """Opens one endless microphone after the other, each of which `close` ends, as it does a real one."""

    def __init__(self) -> None:
        self.opened: list[Endless] = []
        self.changed = threading.Event()

    def __call__(self) -> AudioSource:
        self.opened.append(Endless(0))
        self.changed.set()
        return self.opened[-1]

    def wait_for(self, number: int) -> None:
        while len(self.opened) < number:
            assert self.changed.wait(10.0)
            self.changed.clear()


def test_a_pause_lets_the_microphone_go_and_the_clock_goes_on() -> None:
    now_s = 50.0
    microphones = Microphones()
    reader = Reader(microphones, ring_s=1.0, monotonic=lambda: now_s)
    reader.start()
    first = reader.get(5.0)
    assert first is not None
    assert reader.pause()
    while (block := reader.get(0.2)) is not None:
        first = block
    assert microphones.opened[0].closed
    assert reader.get(0.1) is None
    assert not reader.ended
    assert len(microphones.opened) == 1, "nothing is opened while it is paused"
    now_s += 240.0
    reader.resume()
    later = reader.get(5.0)
    assert later is not None
    past = later.start - (first.start + len(first.samples) + 240 * RATE)
    assert past >= 0, "the clock went on over the pause"
    assert past % 800 == 0, "this source floods: whole blocks may be lost before the first is taken"
    assert reader.reopenings == 0, "a pause is no failure"
    assert reader.last_error is None
    reader.close()


def test_a_recorder_that_is_paused_is_no_recorder_that_failed(caplog: pytest.LogCaptureFixture) -> None:
    opened: list[CommandMic] = []

    def open_next() -> AudioSource:
        opened.append(CommandMic(["sh", "-c", "cat /dev/zero; sleep 60"], RATE))
        return opened[-1]

    reader = run(open_next)
    for number in (1, 2):
        while reader.get(10.0) is None:
            pass
        assert len(opened) == number
        assert reader.pause()
        while reader.get(0.2) is not None:
            pass
        reader.resume()
    reader.close()
    assert (reader.reopenings, reader.last_error, caplog.text) == (0, None, "")


def test_pauses_that_come_faster_than_the_microphone_opens_break_nothing() -> None:
    microphones = Microphones()
    reader = run(microphones, ring_s=1.0)
    for turn in range(300):
        reader.pause()
        if turn % 3:
            reader.get(0.0)
        reader.resume()
    seen = len(microphones.opened)
    assert reader.get(5.0) is not None
    assert not reader.ended
    assert reader.pause()
    while reader.get(0.2) is not None:
        pass
    assert microphones.opened[-1].closed
    assert len(microphones.opened) >= seen
    reader.close()
    assert not reader._thread.is_alive()


def test_a_reader_that_is_paused_can_be_closed() -> None:
    reader = run(Microphones(), ring_s=1.0)
    assert reader.get(5.0) is not None
    reader.pause()
    reader.close()
    assert not reader._thread.is_alive()


def test_a_recording_is_not_paused(tmp_path: Path) -> None:
    write_wav(tmp_path / "tone.wav", tone(2.0), RATE)
    reader = run(lambda: AudioFile(tmp_path / "tone.wav", 0.5), drop_oldest=False)
    assert not reader.pause()
    assert sum(len(block.samples) for block in taken(reader)) == 2 * RATE
