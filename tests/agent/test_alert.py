"""The alert and the heartbeat on the wire: what is written is read, what is wrong is named, bombs stay small."""

import base64
import contextlib
import copy
import dataclasses
import json
import tracemalloc
import uuid
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.alert import (
    LARGEST_ALERT_BYTES,
    LARGEST_HEARTBEAT_BYTES,
    LARGEST_LOG_MEL_BYTES,
    Alert,
    Battery,
    Clock,
    Heartbeat,
    LogMelImage,
    Position,
    finite,
)
from agent.errors import FieldError
from agent.features import FeatureConfig

REPO = Path(__file__).resolve().parents[2]

Document = dict[str, Any]


def picture(frames: Any = None) -> LogMelImage:
    rng = np.random.default_rng(0)
    made = rng.normal(-6, 3, (94, 64)).astype(np.float32) if frames is None else frames
    return LogMelImage.of(made, hop_s=0.03125, mel_min_hz=50.0, mel_max_hz=7_600.0)


ALERT = Alert(
    alert_id="0b9d8b6e-2a0b-4b43-9c2f-5a8e3c1f9d10",
    revision=0,
    state="open",
    device_id="ipe-07",
    label="chainsaw",
    score=0.97,
    onset_s=12.0,
    raised_s=15.0,
    clock=Clock(boot_id="5d0c-77aa", monotonic_s=8123.4, utc="2026-11-20T11:42:07.250Z", utc_certainty="synced"),
    model_digest="9f2c51d0a7b3e844",
    level_dbfs=-31.5,
    battery=Battery(percent=81.0, temperature_c=31.5, charging=True),
    position=Position(latitude=-3.1, longitude=-60.0),
    log_mel=picture(),
)
HEARTBEAT = Heartbeat(
    device_id="ipe-07",
    version="0.1.0",
    clock=ALERT.clock,
    model_digest="9f2c51d0a7b3e844",
    uptime_s=3600.0,
    audio_s=3599.5,
    audio_per_wall=1.0,
    windows=2400,
    classified=900,
    top_scores={"chainsaw": 0.02, "engine": 0.4},
    level_dbfs=-44.0,
    states=("zeros",),
    queue=0,
    dropped_s=0.0,
    disk_free_mb=1234.5,
    rss_mb=61.0,
    position=ALERT.position,
    battery=ALERT.battery,
)
KINDS: dict[str, tuple[Alert | Heartbeat, Callable[[bytes], Alert | Heartbeat]]] = {
    "alert": (ALERT, Alert.from_json),
    "heartbeat": (HEARTBEAT, Heartbeat.from_json),
}


def document(message: Alert | Heartbeat) -> Document:
    made: Document = json.loads(message.to_json())
    return made


def changed(message: Alert | Heartbeat, path: str, value: object) -> bytes:
    """Return the wire form with one field, named by its dotted path, set to something else."""
    made = document(message)
    *parents, key = path.split(".")
    part = made
    for parent in parents:
        part = part[parent]
    part[key] = value
    return json.dumps(made).encode()


def paths(part: Document, prefix: str = "") -> list[str]:
    """Return the dotted path of every field that the reader asks for."""
    found: list[str] = []
    for key, value in part.items():
        found.append(prefix + key)
        if isinstance(value, dict) and key != "top_scores":
            found += paths(value, f"{prefix}{key}.")
    return found


EVERY_FIELD = [(kind, path) for kind, (message, _) in KINDS.items() for path in paths(document(message))]
MAY_BE_MISSING = ("battery", "position", "log_mel", "battery.percent", "battery.temperature_c", "battery.charging")


# ---- round trips


NUMBERS = st.floats(0, 1e10, allow_nan=False)
CLOCKS = st.builds(
    Clock,
    boot_id=st.text("0123456789abcdef-", min_size=8, max_size=64),
    monotonic_s=NUMBERS,
    utc=st.datetimes().map(lambda moment: moment.isoformat() + "Z"),
    utc_certainty=st.sampled_from(["synced", "guess", "unset"]),
)
BATTERIES = st.builds(
    Battery,
    percent=st.none() | st.floats(0, 100),
    temperature_c=st.none() | st.floats(-100, 200),
    charging=st.none() | st.booleans(),
)
POSITIONS = st.builds(Position, latitude=st.floats(-90, 90), longitude=st.floats(-180, 180))
DEVICES = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,62}", fullmatch=True)
LABELS = st.from_regex(r"[a-z][a-z0-9_]{0,31}", fullmatch=True)
PICTURES = st.builds(
    lambda seed, n_frames, n_mels: picture(
        np.random.default_rng(seed).normal(-6, 3, (n_frames, n_mels)).astype(np.float32)
    ),
    st.integers(0, 1_000),
    st.integers(1, 100),
    st.integers(1, 64),
)
ALERTS = st.builds(
    Alert,
    schema=st.just(1),
    alert_id=st.uuids().map(str),
    revision=st.integers(0, 1_000),
    state=st.sampled_from(["open", "closed"]),
    device_id=DEVICES,
    label=LABELS,
    score=st.floats(0, 1),
    onset_s=NUMBERS,
    raised_s=NUMBERS,
    clock=CLOCKS,
    model_digest=st.text("0123456789abcdef", max_size=64),
    level_dbfs=st.floats(-200, 20),
    drill=st.booleans(),
    battery=st.none() | BATTERIES,
    position=st.none() | POSITIONS,
    log_mel=st.none() | PICTURES,
)
HEARTBEATS = st.builds(
    Heartbeat,
    start_reason=st.sampled_from(["", "killed", "power loss"]),
    lag_s=NUMBERS,
    reopenings=st.integers(0, 2**53),
    parked=st.integers(0, 2**53),
    in_memory=st.integers(0, 2**53),
    lost_alerts=st.integers(0, 2**53),
    power=st.sampled_from(["", "full", "survival"]),
    heartbeat_s=NUMBERS,
    paused_s=NUMBERS,
    written_kb=st.integers(0, 2**53),
    device_id=DEVICES,
    version=st.text("0123456789.dev+", max_size=40),
    clock=CLOCKS,
    model_digest=st.text("0123456789abcdef", max_size=64),
    uptime_s=NUMBERS,
    audio_s=NUMBERS,
    audio_per_wall=st.floats(0, 1e6),
    windows=st.integers(0, 2**53),
    classified=st.integers(0, 2**53),
    top_scores=st.dictionaries(LABELS, st.floats(0, 1), max_size=8),
    level_dbfs=st.floats(-200, 20),
    states=st.lists(LABELS, max_size=8).map(tuple),
    queue=st.integers(0, 2**53),
    dropped_s=NUMBERS,
    disk_free_mb=st.floats(0, 1e12),
    rss_mb=st.floats(0, 1e9),
    position=st.none() | POSITIONS,
    battery=st.none() | BATTERIES,
)


@given(ALERTS)
def test_an_alert_survives_the_wire(alert: Alert) -> None:
    assert Alert.from_json(alert.to_json()) == alert


@given(HEARTBEATS)
def test_a_heartbeat_survives_the_wire(heartbeat: Heartbeat) -> None:
    assert Heartbeat.from_json(heartbeat.to_json()) == heartbeat


def test_a_heartbeat_of_an_older_agent_is_read_and_kept() -> None:
    document = json.loads(HEARTBEAT.to_json())
    since_3 = ("power", "heartbeat_s", "paused_s", "written_kb")
    second = {key: value for key, value in document.items() if key not in since_3}
    assert Heartbeat.from_json(json.dumps({**second, "schema": 2}).encode()).power == ""
    for key in ("start_reason", "lag_s", "reopenings", "parked", "in_memory", "lost_alerts", *since_3):
        del document[key]
    older = Heartbeat.from_json(json.dumps({**document, "schema": 1}).encode())
    assert older == HEARTBEAT
    assert Heartbeat.from_json(older.to_json()) == older, "what the station keeps, it can read again"
    with pytest.raises(FieldError, match="lag_s"):
        Heartbeat.from_json(json.dumps({**document, "schema": 1, "lag_s": 0.0}).encode())
    with pytest.raises(FieldError, match="is missing"):
        Heartbeat.from_json(json.dumps(document).encode())


def test_the_same_alert_has_the_same_bytes() -> None:
    # the station tells a repeated revision from another one by its bytes
    assert ALERT.to_json() == copy.deepcopy(ALERT).to_json()
    assert ALERT.to_json() == Alert.from_json(ALERT.to_json()).to_json()


def test_an_id_in_capitals_is_the_same_id() -> None:
    assert Alert.from_json(changed(ALERT, "alert_id", ALERT.alert_id.upper())).alert_id == ALERT.alert_id


# ---- what is wrong is named


@pytest.mark.parametrize(("kind", "path"), EVERY_FIELD)
def test_a_missing_field_is_named(kind: str, path: str) -> None:
    message, read = KINDS[kind]
    made = document(message)
    *parents, key = path.split(".")
    part = made
    for parent in parents:
        part = part[parent]
    del part[key]
    body = json.dumps(made).encode()
    if path in MAY_BE_MISSING:
        read(body)
        return
    with pytest.raises(FieldError) as caught:
        read(body)
    assert str(caught.value) == f"{path}: is missing"


@pytest.mark.parametrize("wrong", [[], {}, "", -1e99, True], ids=["list", "mapping", "text", "number", "flag"])
@pytest.mark.parametrize(("kind", "path"), EVERY_FIELD)
def test_a_value_of_another_kind_is_named(kind: str, path: str, wrong: object) -> None:
    message, read = KINDS[kind]
    kept = document(message)
    for part in path.split("."):
        kept = kept[part]
    if type(kept) is type(wrong) or (path == "battery" and wrong == {}):
        return  # the same kind: another test
    with pytest.raises(FieldError) as caught:
        read(changed(message, path, wrong))
    assert caught.value.key == path or (wrong == {} and caught.value.key.startswith(f"{path}."))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("where", ["", "clock.", "battery.", "position."])
def test_an_unknown_field_is_named(kind: str, where: str) -> None:
    message, read = KINDS[kind]
    with pytest.raises(FieldError) as caught:
        read(changed(message, f"{where}colour", "green"))
    assert caught.value.key == f"{where}colour"
    assert "is not a known key" in caught.value.problem


BOUNDS: list[tuple[str, str, list[Any]]] = [
    ("alert", "schema", [0, 2]),
    ("alert", "alert_id", ["x" * 36, "0b9d8b6e", ALERT.alert_id + "0", "{" + ALERT.alert_id[:34] + "}"]),
    ("alert", "revision", [-1, 1001]),
    ("alert", "state", ["opening", "Open"]),
    ("alert", "device_id", ["Ipe", "-a", "a b", "é", "a" * 64, "a\n"]),
    ("alert", "label", ["Chainsaw", "two words", "7saws", "a" * 33, "säge"]),
    ("alert", "score", [-0.01, 1.01]),
    ("alert", "onset_s", [-1, 1e11]),
    ("alert", "raised_s", [-1, 1e11]),
    ("alert", "clock.boot_id", ["short", "a" * 65, "5d0c\n77aa"]),
    ("alert", "clock.monotonic_s", [-0.1, 1e11]),
    ("alert", "clock.utc", ["2026-11-20", "2026-11-20T11:42:07+00:00", "٢٠٢٦-11-20T11:42:07Z", "now"]),
    ("alert", "clock.utc_certainty", ["certain"]),
    ("alert", "model_digest", ["a" * 65]),
    ("alert", "level_dbfs", [-201, 21]),
    ("alert", "battery.percent", [-1, 101]),
    ("alert", "battery.temperature_c", [-101, 201]),
    ("alert", "position.latitude", [-90.1, 90.1]),
    ("alert", "position.longitude", [-180.1, 180.1]),
    ("alert", "log_mel.n_frames", [0, 513, 93]),
    ("alert", "log_mel.n_mels", [0, 257, 65]),
    ("alert", "log_mel.hop_s", [0, 1.1]),
    ("alert", "log_mel.mel_min_hz", [-1, 24_001]),
    ("alert", "log_mel.mel_max_hz", [0, 24_001]),
    ("alert", "log_mel.low", [-201, 201]),
    ("alert", "log_mel.step", [0, 11]),
    ("alert", "log_mel.data", ["eJz…", "AAAA", "a", "A" * (LARGEST_LOG_MEL_BYTES + 1)]),
    ("heartbeat", "schema", [0, 4]),
    ("heartbeat", "power", ["k" * 17, 1]),
    ("heartbeat", "heartbeat_s", [-1, 1e11]),
    ("heartbeat", "paused_s", [-1, 1e11]),
    ("heartbeat", "written_kb", [-1, 2**53 + 1]),
    ("heartbeat", "start_reason", ["k" * 33, 1]),
    ("heartbeat", "lag_s", [-1, 1e11]),
    ("heartbeat", "reopenings", [-1, 2**53 + 1]),
    ("heartbeat", "parked", [-1, 2**53 + 1]),
    ("heartbeat", "in_memory", [-1, 2**53 + 1]),
    ("heartbeat", "lost_alerts", [-1, 2**53 + 1]),
    ("heartbeat", "device_id", ["Ipe"]),
    ("heartbeat", "version", ["1" * 41, "1.0\n", "\ud800"]),
    ("heartbeat", "model_digest", ["a" * 65]),
    ("heartbeat", "uptime_s", [-1, 1e11]),
    ("heartbeat", "audio_s", [-1, 1e11]),
    ("heartbeat", "audio_per_wall", [-1, 1e7]),
    ("heartbeat", "windows", [-1, 2**53 + 1]),
    ("heartbeat", "classified", [-1, 2**53 + 1]),
    ("heartbeat", "top_scores.chainsaw", [-0.1, 1.1, None, "1"]),
    ("heartbeat", "top_scores.Chainsaw", [0.5]),
    ("heartbeat", "level_dbfs", [-201, 21]),
    ("heartbeat", "states", [["a"] * 33, [1], ["a\nb"]]),
    ("heartbeat", "queue", [-1, 2**53 + 1]),
    ("heartbeat", "dropped_s", [-1, 1e11]),
    ("heartbeat", "disk_free_mb", [-1, 1e13]),
    ("heartbeat", "rss_mb", [-1, 1e10]),
]


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        pytest.param(kind, path, value, id=f"{kind} {path} {number}")
        for kind, path, values in BOUNDS
        for number, value in enumerate(values)
    ],
)
def test_a_value_out_of_bounds_is_named(kind: str, path: str, value: object) -> None:
    message, read = KINDS[kind]
    with pytest.raises(FieldError) as caught:
        read(changed(message, path, value))
    # a picture of another size than its data is the data's fault
    assert caught.value.key in (path, "log_mel.data")
    assert str(caught.value).splitlines() == [str(caught.value)]
    assert len(str(caught.value)) < 300


def test_numbers_that_are_none_are_refused() -> None:
    for number in ("NaN", "Infinity", "-Infinity", "1e999", "1" * 5_000):
        body = ALERT.to_json().replace(b'"score":0.97', b'"score":' + number.encode())
        with pytest.raises(FieldError):
            Alert.from_json(body)


# ---- whatever comes in


@pytest.mark.parametrize("kind", KINDS)
@given(body=st.binary(max_size=200))
def test_bytes_are_a_message_or_a_field_error(kind: str, body: bytes) -> None:
    with pytest.raises(FieldError):
        KINDS[kind][1](body)


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_a_damaged_message_is_a_message_or_a_field_error(kind: str, data: st.DataObject) -> None:
    message, read = KINDS[kind]
    body = bytearray(message.to_json())
    for place in data.draw(st.lists(st.integers(0, len(body) - 1), min_size=1, max_size=4)):
        body[place] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(0, len(body)) | st.just(len(body)))
    with contextlib.suppress(FieldError):
        read(bytes(body[:end]))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=5,
)


@given(chosen=st.sampled_from(EVERY_FIELD), value=VALUES)
def test_any_value_anywhere_is_taken_and_kept_or_refused(chosen: tuple[str, str], value: object) -> None:
    kind, path = chosen
    message, read = KINDS[kind]
    try:
        taken = read(changed(message, path, value))
    except FieldError:
        return
    assert read(taken.to_json()) == taken


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "body", [b"", b"null", b"[]", b"5", b"\xff\xfe", b"[" * 60_000, b'{"schema": ' * 5_000, b'"' + b"a" * 5_000]
)
def test_what_is_no_document_is_refused(kind: str, body: bytes) -> None:
    with pytest.raises(FieldError, match=r"^document: ") as caught:
        KINDS[kind][1](body)
    assert len(str(caught.value)) < 300


def test_a_deep_value_is_refused() -> None:
    for depth in (100, 500, 900, 940, 960, 980, 990, 2_000):
        body = changed(ALERT, "battery", 7).replace(b'"battery": 7', b'"battery": ' + b"[" * depth + b"]" * depth)
        with pytest.raises(FieldError):
            Alert.from_json(body)


# ---- sizes and bombs


def test_the_largest_alert_fits() -> None:
    # 24 kB that zlib cannot make smaller fill the 32 kB of base64
    largest = np.random.default_rng(0).integers(0, 256, (190, 128)).astype(np.float32)
    image = picture(largest)
    assert 0.98 * LARGEST_LOG_MEL_BYTES < len(image.data) <= LARGEST_LOG_MEL_BYTES
    alert = Alert(
        alert_id=str(uuid.uuid4()),
        revision=1_000,
        state="closed",
        device_id="z" * 63,
        label="z" * 32,
        score=1 / 3,
        onset_s=1e10 / 3,
        raised_s=1e10 / 3,
        clock=Clock(boot_id="é" * 64, monotonic_s=1e10 / 3, utc="2026-11-20T11:42:07.123456Z", utc_certainty="synced"),
        model_digest="🌳" * 64,
        level_dbfs=-1e2 / 3,
        drill=True,
        battery=Battery(percent=100 / 3, temperature_c=100 / 3, charging=False),
        position=Position(latitude=-100 / 3, longitude=-100 / 3),
        log_mel=image,
    )
    body = alert.to_json()
    assert len(body) < LARGEST_ALERT_BYTES
    assert Alert.from_json(body) == alert


def test_the_window_of_the_default_recipe_fits_whatever_it_holds() -> None:
    config = FeatureConfig()
    frames = np.random.default_rng(1).uniform(-18, 12, (config.n_frames, config.n_mels)).astype(np.float32)
    assert len(picture(frames).data) < LARGEST_LOG_MEL_BYTES / 3


@pytest.mark.parametrize(("kind", "largest"), [("alert", LARGEST_ALERT_BYTES), ("heartbeat", LARGEST_HEARTBEAT_BYTES)])
def test_a_message_over_its_size_is_not_even_parsed(kind: str, largest: int) -> None:
    message, read = KINDS[kind]
    body = message.to_json()
    read(body + b" " * (largest - len(body)))
    with pytest.raises(FieldError, match=f"^document: has {largest + 1} bytes, expected at most {largest}$"):
        read(body + b" " * (largest + 1 - len(body)))


def test_a_picture_that_unpacks_huge_takes_little_memory() -> None:
    bomb = base64.b64encode(zlib.compress(bytes(20_000_000), 9)).decode()
    assert len(bomb) < LARGEST_LOG_MEL_BYTES
    body = changed(ALERT, "log_mel.data", bomb)
    tracemalloc.start()
    with pytest.raises(FieldError, match=r"^log_mel\.data: does not unpack to 94 x 64 bytes$"):
        Alert.from_json(body)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000


@given(
    seed=st.integers(0, 1_000),
    n_frames=st.integers(1, 120),
    n_mels=st.integers(1, 80),
    middle=st.floats(-18, 12),
    spread=st.floats(0, 10),
)
def test_a_picture_is_right_within_half_a_step(
    seed: int, n_frames: int, n_mels: int, middle: float, spread: float
) -> None:
    rng = np.random.default_rng(seed)
    frames = (middle + spread * rng.standard_normal((n_frames, n_mels))).astype(np.float32)
    image = LogMelImage.of(frames, hop_s=0.03125, mel_min_hz=50.0, mel_max_hz=7_600.0)
    pixels = image.pixels()
    assert pixels.shape == frames.shape
    assert pixels.dtype == np.uint8
    assert np.abs(image.low + image.step * pixels - frames).max() <= 0.51 * image.step + 1e-5


@pytest.mark.parametrize(
    ("hop_s", "n_columns", "column_s"),
    [(0.03125, 190, 0.03125), (0.025, 190, 0.025), (0.015625, 95, 0.03125), (0.01, 64, 0.03)],
)
def test_no_picture_is_finer_than_speech_may_be_shown(hop_s: float, n_columns: int, column_s: float) -> None:
    frames = np.random.default_rng(0).normal(-6, 3, (190, 64)).astype(np.float32)
    image = LogMelImage.of(frames, hop_s=hop_s, mel_min_hz=50.0, mel_max_hz=7_600.0)
    assert image.pixels().shape == (n_columns, 64)
    assert image.hop_s == pytest.approx(column_s)
    merged = round(column_s / hop_s)
    last = frames[(n_columns - 1) * merged :].mean(axis=0)
    assert np.abs(image.low + image.step * image.pixels()[-1] - last).max() <= 0.51 * image.step + 1e-5


def test_a_picture_of_silence_is_flat() -> None:
    assert not picture(np.full((94, 64), -18.4, np.float32)).pixels().any()


def test_what_has_no_level_is_at_the_floor() -> None:
    assert finite(float("-inf")) == finite(float("nan")) == -120.0
    assert finite(-31.5) == -31.5


def test_a_score_that_is_no_number_never_leaves() -> None:
    with pytest.raises(ValueError, match="JSON"):
        dataclasses.replace(ALERT, score=float("nan")).to_json()


# ---- the page


def test_the_page_shows_an_alert_that_is_read() -> None:
    text = (REPO / "docs" / "protocol.md").read_text(encoding="utf-8")
    example = text.split("## An alert")[1].split("```json\n")[1].split("```")[0]
    shown = json.loads(example)
    assert shown.keys() == document(ALERT).keys()
    shown["clock"]["boot_id"] = ALERT.clock.boot_id  # both are cut short on the page
    shown["log_mel"]["data"] = document(ALERT)["log_mel"]["data"]
    alert = Alert.from_json(json.dumps(shown).encode())
    assert (alert.device_id, alert.label, alert.onset_s) == ("ipe-07", "chainsaw", 12.0)
