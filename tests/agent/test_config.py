"""The configuration file: a whole one, every bad one in one line that names what is wrong, and any bytes at all."""

import dataclasses
import time
import tracemalloc
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent.alert import Position
from agent.config import (
    LARGEST_CONFIG_BYTES,
    AgentConfig,
    CaptureConfig,
    ClipsConfig,
    DeviceConfig,
    ListenConfig,
    StationConfig,
    StorageConfig,
    read_config,
)
from agent.errors import ConfigError
from agent.manifest import BUNDLED_MODEL
from agent.power import LevelConfig, PowerConfig

REPO = Path(__file__).resolve().parents[2]

WHOLE = """\
schema: 1
device:
  id: ipe-07
  position: {latitude: -3.1, longitude: -60}
capture:
  source: pipe
  device: USB
  command: [parec, --raw, --format=s16le]
  path: sounds/night.wav
  then: ../forest.wav
  sample_rate: 44100
  ring_s: 30
listen:
  model: models/other.tflite
  gate: false
  vad: no
station:
  urls: ["https://station.example:8443", "https://10.0.0.2", "http://127.0.0.1:8765", "http://localhost", "http://[::1]:80"]
  key_file: ipe-07.key
  ca_file: /etc/curupira/ca.pem
  heartbeat_s: 60
storage:
  folder: state
  outbox_mb: 10
  journal_mb: 20.5
power:
  source: sysfs
  read_every_s: 120
  margin_percent: 5
  margin_c: 3
  saving: {below_percent: 60, hotter_than_c: 40, every: 3, listen_s: 120, pause_s: 30, heartbeat_s: 600, clips: true}
  survival:
    {below_percent: 30, hotter_than_c: 50, every: 4, listen_s: 30, pause_s: 600, heartbeat_s: 7200, clips: false}
clips:
  keep: true
  length_s: 9.5
  most_mb: 3
"""


def write(folder: Path, content: str | bytes) -> Path:
    path = folder / "agent.yaml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def refusal(folder: Path, content: str | bytes) -> str:
    """Return what is said about a bad file, without the file's name in front of it."""
    path = write(folder, content)
    with pytest.raises(ConfigError) as caught:
        read_config(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert text.splitlines() == [text]
    return text.removeprefix(f"{path}: ")


# ---- good ones


def test_a_whole_configuration(tmp_path: Path) -> None:
    folder = tmp_path.resolve()
    assert read_config(write(tmp_path, WHOLE)) == AgentConfig(
        device=DeviceConfig(id="ipe-07", position=Position(latitude=-3.1, longitude=-60.0)),
        capture=CaptureConfig(
            source="pipe",
            device="USB",
            command=("parec", "--raw", "--format=s16le"),
            path=folder / "sounds" / "night.wav",
            then=folder / ".." / "forest.wav",
            sample_rate=44_100,
            ring_s=30.0,
        ),
        listen=ListenConfig(model=folder / "models" / "other.tflite", gate=False, vad=False),
        station=StationConfig(
            urls=(
                "https://station.example:8443",
                "https://10.0.0.2",
                "http://127.0.0.1:8765",
                "http://localhost",
                "http://[::1]:80",
            ),
            key_file=folder / "ipe-07.key",
            ca_file=Path("/etc/curupira/ca.pem"),
            heartbeat_s=60.0,
        ),
        storage=StorageConfig(folder=folder / "state", outbox_mb=10.0, journal_mb=20.5),
        power=PowerConfig(
            source="sysfs",
            read_every_s=120.0,
            margin_percent=5.0,
            margin_c=3.0,
            saving=LevelConfig(
                below_percent=60.0, hotter_than_c=40.0, every=3, listen_s=120.0, pause_s=30.0, heartbeat_s=600.0
            ),
            survival=LevelConfig(
                below_percent=30.0,
                hotter_than_c=50.0,
                every=4,
                listen_s=30.0,
                pause_s=600.0,
                heartbeat_s=7_200.0,
                clips=False,
            ),
        ),
        clips=ClipsConfig(keep=True, length_s=9.5, most_mb=3.0),
    )


def test_the_whole_one_is_whole() -> None:
    # a new key must come into the example above, and so into the tests
    document = yaml.safe_load(WHOLE)
    parts = {field.name: field.default_factory for field in dataclasses.fields(AgentConfig)}
    assert document.keys() == {"schema", *parts}
    for name, part in parts.items():
        assert document[name].keys() == {field.name for field in dataclasses.fields(part)}  # type: ignore[arg-type]  # each is a dataclass


@pytest.mark.parametrize(
    "content",
    ["", "# nothing\n", "{}", "schema: 1", "device:\ncapture: null\n", "station: {}", b"\xef\xbb\xbfschema: 1"],
)
def test_what_is_left_out_has_its_default(tmp_path: Path, content: str | bytes) -> None:
    config = read_config(write(tmp_path, content))
    default = AgentConfig()
    assert config == dataclasses.replace(
        default, storage=dataclasses.replace(default.storage, folder=tmp_path.resolve() / "var" / "agent")
    )
    assert config.listen.model == BUNDLED_MODEL


def test_relative_paths_count_from_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "etc").mkdir()
    write(tmp_path / "etc", WHOLE)
    monkeypatch.chdir(tmp_path)
    config = read_config(Path("etc/agent.yaml"))
    assert config.station.key_file == tmp_path.resolve() / "etc" / "ipe-07.key"
    assert config.storage.folder.is_absolute()


def test_the_home_folder_has_its_short_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ranger")
    config = read_config(write(tmp_path, "storage: {folder: ~/var}"))
    assert config.storage.folder == Path("/home/ranger/var")


def test_the_example_in_the_readme_is_one(tmp_path: Path) -> None:
    readme = (REPO / "README.md").read_text(encoding="utf-8")
    example = readme.split("```yaml\n")[1].split("```", maxsplit=1)[0]
    config = read_config(write(tmp_path, example))
    assert config.device.id == "ipe-07"
    assert config.station.key_file == tmp_path.resolve() / "ipe-07.key"


# ---- bad ones

BAD = [
    (
        "colour: green",
        "colour: is not a known key; known: capture, clips, device, listen, power, schema, station, storage",
    ),
    ("devices: {id: a}", "devices: is not a known key; did you mean device?"),
    ("device: {id: a, name: b}", "device.name: is not a known key; known: id, position"),
    ("capture: {sources: auto}", "capture.sources: is not a known key; did you mean source?"),
    ("listen: {threshold: 0.5}", "listen.threshold: is not a known key; known: gate, model, vad"),
    ("station: {key: 00ff}", "station.key: is not a known key; known: ca_file, heartbeat_s, key_file, urls"),
    ("storage: {outbox: 5}", "storage.outbox: is not a known key; did you mean outbox_mb?"),
    ("device: {id: a, position: {latitude: 1, longitude: 2, height: 3}}", "device.position.height: is not a known key"),
    ('"two\\nlines": 1', "'two\\nlines': is not a known key"),
    ("schema: 2", "schema: is 2, expected a whole number from 1 to 1"),
    ("schema: one", "schema: is 'one', expected a whole number from 1 to 1"),
    ("schema: true", "schema: is True, expected a whole number from 1 to 1"),
    ("schema: 0x" + "f" * 5_000, "schema: is int of great size, expected a whole number from 1 to 1"),
    ("5: 6", "document: has the key 5, expected text"),
    ("[1]", "document: is [1], expected a mapping"),
    ("just words", "document: is 'just words', expected a mapping"),
    ("device: ipe-07", "device: is 'ipe-07', expected a mapping"),
    ("device: {position: {latitude: 1, longitude: 2}}", "device.id: is missing"),
    ("device: {id: 7}", "device.id: is 7, expected text of 1 to 63 characters"),
    ("device: {id: ''}", "device.id: is '', expected text of 1 to 63 characters"),
    ("device: {id: Ipé 7}", "device.id: is 'Ipé 7', expected small letters, digits, '.', '_' and '-'"),
    ("device: {id: a, position: {latitude: 91, longitude: 0}}", "device.position.latitude: is 91, expected a number"),
    ("device: {id: a, position: {latitude: 1}}", "device.position.longitude: is missing"),
    ("device: {id: a, position: here}", "device.position: is 'here', expected a mapping"),
    ("capture: {source: mic}", "capture.source: is 'mic', expected one of auto, sounddevice, pipe, file"),
    ("capture: {source: pipe}", "capture.command: is missing, expected the words of a command, for source: pipe"),
    ("capture: {source: pipe, command: []}", "capture.command: is missing, expected the words of a command"),
    ("capture: {source: pipe, command: parec --raw}", "capture.command: is 'parec --raw', expected a list"),
    ("capture: {command: [parec, 5]}", "capture.command: holds 5, expected text"),
    ("capture: {source: file}", "capture.path: is missing, expected a recording, for source: file"),
    ("capture: {path: ''}", "capture.path: is '', expected text of 1 to 4096 characters"),
    ('capture: {path: "a\\0b"}', "capture.path: is 'a\\x00b', expected text without control characters"),
    ("capture: {device: 2}", "capture.device: is 2, expected text"),
    ("capture: {sample_rate: 4000}", "capture.sample_rate: is 4000, expected a whole number from 8000 to 384000"),
    ("capture: {sample_rate: 48000.0}", "capture.sample_rate: is 48000.0, expected a whole number"),
    ("capture: {ring_s: 5}", "capture.ring_s: is 5, expected a number from 10 to 600"),
    ("capture: {ring_s: .nan}", "capture.ring_s: is nan, expected a number from 10 to 600"),
    ("listen: {gate: 1}", "listen.gate: is 1, expected true or false"),
    ("listen: {vad: maybe}", "listen.vad: is 'maybe', expected true or false"),
    ("listen: {model: [a]}", "listen.model: is ['a'], expected text"),
    ("listen: {model: ~nobody-of-this-name/x}", "listen.model: is '~nobody-of-this-name/x', expected a path: "),
    ("station: {urls: https://a}", "station.urls: is 'https://a', expected a list of at most 8"),
    ("station: {urls: [1], key_file: k}", "station.urls: holds 1, expected text"),
    (f"station: {{urls: [{'a, ' * 9}], key_file: k}}", "station.urls: is ["),
    ("station: {urls: ['https://a']}", "station.key_file: is missing, expected the device's key file"),
    ("station: {heartbeat_s: 0}", "station.heartbeat_s: is 0, expected a number from 1 to 86400"),
    ("clips: {keep: 1}", "clips.keep: is 1, expected true or false"),
    ("clips: {length_s: 11}", "clips.length_s: is 11, expected a number from 1 to 10"),
    ("clips: {kept: true}", "clips.kept: is not a known key; did you mean keep?"),
    ("storage: {folder: 5}", "storage.folder: is 5, expected text"),
    ("storage: {outbox_mb: 0.5}", "storage.outbox_mb: is 0.5, expected a number from 1 to 10000"),
    ("storage: {journal_mb: lots}", "storage.journal_mb: is 'lots', expected a number from 1 to 100000"),
    ("storage: {journal_mb: 2026-11-20}", "storage.journal_mb: is datetime.date(2026, 11, 20), expected a number"),
    ("power: {level: full}", "power.level: is not a known key; known: "),
    ("power: {source: solar}", "power.source: is 'solar', expected one of auto, sysfs, termux, none"),
    ("power: {read_every_s: 10}", "power.read_every_s: is 10, expected a number from 60 to 3600"),
    ("power: {saving: {every: 0}}", "power.saving.every: is 0, expected a whole number from 1 to 4"),
    ("power: {saving: {below: 4}}", "power.saving.below: is not a known key; "),
    ("power: {survival: {listen_s: 5}}", "power.survival.listen_s: is 5, expected a number from 20 to 3600"),
    ("power: {survival: {below_percent: 60}}", "power.survival.below_percent: is 60, expected at most saving.below_"),
    ("power: {survival: {hotter_than_c: 40}}", "power.survival.hotter_than_c: is 40, expected at least saving.hotter"),
    ("power: {saving: {below_percent: 95}}", "power.margin_percent: is 10, too much above saving.below_percent = 95"),
    ("a: [", "is not YAML for a configuration: while parsing a flow node"),
    ("a: b: c", "is not YAML for a configuration: mapping values are not allowed here"),
    ("\ta: 1", "is not YAML for a configuration: while scanning for the next token"),
    ("schema: 1\n---\nschema: 1", "is not YAML for a configuration: expected a single document"),
    ("[" * 5_000 + "]" * 5_000, "is not YAML for a configuration: it nests more than 10 deep"),
    ("a: &a [*a]", "is not YAML for a configuration: it holds an alias (*name); write the value out"),
    ("a: !!python/object:os.system {}", "is not YAML for a configuration: could not determine a constructor"),
    ("schema: 2026-99-99", "holds a number, date or tagged value that is none: month must be in 1..12"),
    ("schema: !!int ''", "holds a number, date or tagged value that is none: "),
    ("schema: !!timestamp soon", "holds a number, date or tagged value that is none: "),
    ("schema: !!bool perhaps", "holds a number, date or tagged value that is none: "),
    ("schema: !!float ''", "holds a number, date or tagged value that is none: "),
    ("{[a]: b}", "is not YAML for a configuration: while constructing a mapping"),
]


@pytest.mark.parametrize(("content", "expected"), BAD, ids=[content[:50] for content, _ in BAD])
def test_what_is_wrong_is_named_in_one_line(tmp_path: Path, content: str, expected: str) -> None:
    said = refusal(tmp_path, content)
    assert said.startswith(expected)
    assert len(said) < 400


@pytest.mark.parametrize(
    "url",
    [
        "http://station.example",
        "http://10.0.0.2:8765",
        "http://127.0.0.1.station.example",
        "http://localhost.station.example:80",
        "http://localhost@station.example",
        "http://127.0.0.1:80@station.example",
        "http://[::1",
        "ftp://localhost",
        "https://",
        "https:station.example",
        "//localhost",
        "localhost:8765",
        "",
    ],
)
def test_alerts_go_nowhere_in_the_clear(tmp_path: Path, url: str) -> None:
    said = refusal(tmp_path, f"station: {{urls: ['{url}'], key_file: k}}")
    assert said.startswith(f"station.urls: holds {url!r}, expected https:// (http:// on loopback only)")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"device: {id: \xff}", "is not YAML for a configuration: unacceptable character #x00ff"),
        (b"\x00", "is not YAML for a configuration: "),
        (b"RIFF\x24\x00\x00\x00WAVE", "is not YAML for a configuration: "),
        (b"#" * (LARGEST_CONFIG_BYTES + 1), "has more than 100000 bytes, expected a configuration written by hand"),
    ],
    ids=["latin-1", "NUL", "a WAV", "large"],
)
def test_what_is_no_text_is_refused(tmp_path: Path, content: bytes, expected: str) -> None:
    assert refusal(tmp_path, content).startswith(expected)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for path, reason in ((tmp_path / "none.yaml", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(ConfigError) as caught:
            read_config(path)
        assert str(caught.value).startswith(f"{path}: cannot read the configuration: {reason}")


def test_a_file_without_an_end_takes_little_memory() -> None:
    zeros = Path("/dev/zero")
    if not zeros.is_char_device():
        pytest.skip("no /dev/zero here")
    tracemalloc.start()
    with pytest.raises(ConfigError, match="has more than 100000 bytes"):
        read_config(zeros)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2_000_000


def test_aliases_cannot_make_a_small_file_huge(tmp_path: Path) -> None:
    lines = ["a0: &a0 {k: v}"]
    lines += [f"a{level}: &a{level} {{<<: [{', '.join([f'*a{level - 1}'] * 9)}]}}" for level in range(1, 30)]
    started_s = time.process_time()
    assert "alias" in refusal(tmp_path, "\n".join(lines))
    assert time.process_time() - started_s < 2.0


# ---- anything

WORDS = [line.split(":")[0].strip() for line in WHOLE.splitlines()]
SCALARS = ["1", "-1", ".nan", "0x1f", "1:30", "yes", "~", "2026-11-20", "'x'", '"\\0"', "!!int", "!!binary", "&a", "*a"]
PIECES = st.sampled_from(
    [*WORDS, *SCALARS, ": ", "\n", "  ", "- ", "{", "}", "[", "]", ", ", "? ", "| ", "<<", "---", "%"]
)


def only_config_errors(folder: Path, content: bytes) -> None:
    path = write(folder, content)
    try:
        read_config(path)
    except ConfigError as error:
        text = str(error)
    else:
        return
    assert text.startswith(f"{path}: ")
    assert text.splitlines() == [text]
    assert len(text) < len(str(path)) + 500


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@given(st.binary(max_size=200) | st.text(max_size=100).map(lambda text: text.encode("utf-8", "surrogatepass")))
@example(b"\xff\xfe")
@example(b"!!set {a, b}")
def test_bytes_are_a_configuration_or_a_config_error(folder: Path, content: bytes) -> None:
    only_config_errors(folder, content)


@settings(max_examples=300)
@given(st.lists(PIECES, max_size=30).map("".join))
def test_yaml_is_a_configuration_or_a_config_error(folder: Path, content: str) -> None:
    only_config_errors(folder, content.encode())


@given(place=st.integers(0, len(WHOLE) - 1), piece=PIECES | st.characters().map(str), length=st.integers(0, 20))
def test_a_damaged_configuration_is_one_or_a_config_error(folder: Path, place: int, piece: str, length: int) -> None:
    damaged = WHOLE[:place] + piece + WHOLE[place + length :]
    only_config_errors(folder, damaged.encode("utf-8", "surrogatepass"))
