"""Last month at another operating point: the same alerts as the device's own code gives with those rules."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent import fieldlog, redecide, synth
from agent.__main__ import main
from agent.alert import Clock
from agent.capture import AudioFile
from agent.decide import Decider, LabelRule
from agent.errors import ConfigError, FieldError
from agent.fieldlog import Redecision, journal_folders, rules_of
from agent.gate import Gate, webrtc_vad
from agent.journal import Line, Segment, Setting, WindowRecord, read
from agent.listen import Listener
from agent.manifest import BUNDLED_MODEL, Manifest, load_model
from agent.service import setting_of
from agent.wav import write_wav
from tests.agent.field import Field

QUIET, SAW = (-60, -60, -60), (60, -60, -60)
outputs = st.one_of(st.none(), st.tuples(*[st.integers(-128, 127)] * 3))


def redecided(field, changes) -> list[tuple[str, float, float]]:
    field.journal.close()
    again = Redecision(changes)
    for line in read(field.folder / "journal"):
        again.push(line, redecide.WallClock().utc(line))
    again.finish()
    return [(event.label, event.onset_s, event.raised_s) for event in again.events]


@given(
    st.lists(outputs, max_size=60),
    st.fixed_dictionaries({"threshold": st.floats(0.3, 0.95), "hits": st.integers(1, 3), "steady": st.floats(0.7, 1)}),
)
@settings(max_examples=40)
def test_other_rules_give_what_the_decider_gives_with_them(tmp_path_factory, make_manifest, heard, values):
    field = Field(tmp_path_factory.mktemp("phone"), make_manifest())
    field.hear(*heard)
    rules = rules_of(setting_of(field.manifest), {"chainsaw": {**values, "release": 0.3}})
    decider = Decider(
        labels=field.manifest.labels,
        rules=rules,
        scores=field.manifest.score_table(),
        stride=24_000,
        sample_rate=16_000,
    )
    ends = range(field.manifest.features.window_samples, 10**9, 24_000)
    found = [
        (detection.label, detection.onset / 16_000, detection.raised / 16_000)
        for end, output in zip(ends, heard, strict=False)
        for detection in decider.push(end, None if output is None else np.array(output, np.int8))
        if detection.opens and detection.alert
    ]
    assert sorted(redecided(field, {"chainsaw": {**values, "release": 0.3}})) == sorted(found)


def test_each_run_of_the_agent_is_decided_anew(field):
    field.hear(QUIET, SAW)
    field.stop()
    field.start("killed")
    field.hear(SAW, QUIET)
    assert redecided(field, {}) == []
    assert len(redecided(field, {"chainsaw": {"hits": 1}})) == 2


def hear(manifest: Manifest, classifier, sound: Path, *, gate: bool):
    listener = Listener.of(manifest, classifier, Gate(manifest.gate, webrtc_vad(2)) if gate else None)
    for block in AudioFile(sound, 0.5).blocks():
        yield from listener.push(block)


def alerts(lines: Iterable[str]) -> list[tuple[str, float, float, float]]:
    found = [json.loads(line) for line in lines]
    return [
        (alert["label"], alert["onset_s"], alert["raised_s"], alert["score"])
        for alert in found
        if alert["kind"] == "alert" and alert.get("change") != "lost"
    ]


def agrees_with_replay(tmp_path: Path, capsys, samples, changes: dict[str, float], *, gate: bool) -> int:
    """Hear samples as the agent does, redecide its journal, and replay the sound at the new rules; return how many."""
    classify = pytest.importorskip("agent.classify")
    manifest, content = load_model(BUNDLED_MODEL)
    field = Field(tmp_path / "phone", manifest)
    sound = tmp_path / "sound.wav"
    write_wav(sound, samples, 16_000)
    try:
        classifier = classify.load_classifier(manifest, content)
    except classify.ModelError:
        pytest.skip("no TFLite runtime")
    field.hear(
        *[
            None if window.outputs is None else window.outputs.tolist()
            for window in hear(manifest, classifier, sound, gate=gate)
        ]
    )
    field.stop()
    sets = [word for key, value in changes.items() for word in ("--set", f"{key}={value}")]
    capsys.readouterr()
    assert main(["redecide", str(field.folder), *sets, "--json"]) == 0
    again = alerts(capsys.readouterr().out.splitlines())
    model = tmp_path / "other.tflite"
    model.write_bytes(content)
    by_label: dict[str, dict[str, object]] = {}
    for key, value in changes.items():
        by_label.setdefault(key.split(".")[0], {})[key.split(".")[1]] = value
    model.with_suffix(".json").write_text(manifest.with_rules(rules_of(setting_of(manifest), by_label)).to_json())
    arguments = ["replay", str(sound), "--json", "--model", str(model)]
    assert main(arguments if gate else [*arguments, "--no-gate"]) == 0
    assert sorted(again) == sorted(alerts(capsys.readouterr().out.splitlines()))
    return len(again)


@pytest.mark.parametrize("threshold", [0.5, 0.9999])
def test_it_agrees_with_replay_on_the_demos_saw(tmp_path, capsys, threshold):
    scene, _ = synth.demo_scene()
    changes = {"chainsaw.threshold": threshold, "chainsaw.steady": 1}
    agrees_with_replay(tmp_path, capsys, scene, changes, gate=True)


@pytest.mark.data
@pytest.mark.parametrize(("gate", "threshold"), [(False, 0.8), (True, 0.8), (True, 0.6), (True, 0.95)])
def test_it_agrees_with_replay_on_real_recordings(tmp_path, capsys, data_dir, gate, threshold):
    pytest.importorskip("soundfile")
    saws = sorted((data_dir / "audio").rglob("*chainsaw*/*"))[:10]
    forest = sorted((data_dir / "audio" / "capuchin-forest").rglob("*.ogg"))[:2]
    pieces = []
    for idx, path in enumerate(saws):
        calm = np.concatenate([block.samples for block in AudioFile(forest[idx % 2]).blocks()])[: 40 * 16_000]
        pieces += [calm, *(block.samples for block in AudioFile(path).blocks())]
    samples = np.concatenate(pieces)
    assert agrees_with_replay(tmp_path, capsys, samples, {"chainsaw.threshold": threshold}, gate=gate) > 0


def test_alerts_gained_and_lost_are_told_by_day(field, capsys):
    field.hear(QUIET, SAW, *[QUIET] * 80)  # one hit: an alert only where one is enough
    field.pass_s(86_400)
    field.end += 86_400 * 16_000
    field.hear(SAW, SAW, *[QUIET] * 80)
    field.stop()
    assert main(["redecide", str(field.folder), "--set", "chainsaw.hits=1", "--utc", "--json"]) == 0
    days = [found for line in capsys.readouterr().out.splitlines() if (found := json.loads(line))["kind"] == "day"]
    assert days == [
        {"kind": "day", "day": "2026-11-23", "kept": 0, "gained": 1, "lost": 0},
        {"kind": "day", "day": "2026-11-24", "kept": 1, "gained": 0, "lost": 0},
    ]
    assert main(["redecide", str(field.folder), "--set", "chainsaw.alert=false", "--utc"]) == 0
    screen = capsys.readouterr().out
    assert "in all             1       0       0       1" in screen
    assert "- 2026-11-24" in screen


def test_many_phones_are_counted_together(field, tmp_path, capsys):
    other = Field(tmp_path / "jatoba-02", field.manifest, "jatoba-02")
    for phone in (field, other):
        phone.hear(SAW, SAW, QUIET)
        phone.stop()
    assert journal_folders(tmp_path) == [tmp_path / "ipe-07" / "journal", tmp_path / "jatoba-02" / "journal"]
    assert main(["redecide", str(tmp_path), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (summary["before"], summary["after"], summary["journals"]) == (2, 2, 2)


def test_a_lowered_threshold_takes_the_release_down_with_it(make_manifest):
    setting = setting_of(make_manifest(rules={"chainsaw": LabelRule(threshold=0.97, release=0.81)}))
    rule = rules_of(setting, {"chainsaw": {"threshold": 0.8}})["chainsaw"]
    assert (rule.threshold, rule.release) == (0.8, 0.8)
    with pytest.raises(FieldError, match="release"):
        rules_of(setting, {"chainsaw": {"threshold": 0.8, "release": 0.9}})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("chainsaw", "expected LABEL.FIELD=VALUE"),
        ("threshold=0.8", "expected LABEL.FIELD=VALUE"),
        ("chainsaw.threshold=high", "expected a number"),
        ("chainsaw.treshold=0.8", "did you mean threshold?"),
        ("chainsaw.threshold=8", "chainsaw.threshold: is 8"),
        ("chainsaw.hits=9", "expected 1 to of = 3"),
        ("saw.threshold=0.8", "expected one of chainsaw, engine, storm"),
    ],
)
def test_a_wrong_setting_is_named(field, capsys, text, said):
    field.hear(SAW)
    field.stop()
    assert main(["redecide", str(field.folder), "--set", text]) == 2
    assert said in capsys.readouterr().err


def test_windows_of_a_damaged_header_are_counted_and_not_guessed(field, capsys):
    field.hear(SAW, SAW)
    field.stop()
    (segment,) = (field.folder / "journal").glob("journal-*")
    segment.write_bytes(b"{" + segment.read_bytes()[2:])
    assert main(["redecide", str(field.folder)]) == 0
    assert "2 windows left out" in capsys.readouterr().out


def test_settings_of_one_label_come_together():
    assert redecide.parse_changes(["a.hits=2", "a.of=3", "b.alert=false"]) == {
        "a": {"hits": 2, "of": 3},
        "b": {"alert": False},
    }
    with pytest.raises(ConfigError):
        redecide.parse_changes(["a.b"])
    assert replace(LabelRule(), hits=1).hits == 1


def a_night(seed: int, setting: Setting) -> Iterator[tuple[datetime, Line]]:
    """Yield lines of a journal: hours of next to nothing, some saws, gated and lost sound."""
    rng, end, at = np.random.default_rng(seed), 0, datetime(2026, 11, 20, tzinfo=UTC)
    segment = Segment(
        number=1, run="one", device_id="ipe-07", version="0", boot_id="5d0c9e0a-0000-4000-8000-000000000001",
        setting=setting,
    )  # fmt: skip
    for _ in range(120):
        records = []
        loud = rng.choice([-120, -110, 20, 90], p=[0.5, 0.35, 0.05, 0.1])
        for _ in range(25):
            end += 24_000 * (1 if rng.random() < 0.98 else int(rng.integers(2, 15)))
            output = rng.normal(loud, 25, len(setting.labels)).clip(-128, 127).astype(np.int8).tobytes()
            records.append(WindowRecord(end, bool(rng.random() < 0.3), b"" if rng.random() < 0.3 else output))
        at += timedelta(minutes=1)
        clock = Clock(boot_id=segment.boot_id, monotonic_s=end / 16_000, utc=None, utc_certainty="unset")
        yield at, Line(segment=segment, kind="minute", event="", clock=clock, fields={}, windows=tuple(records))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"hits": 1, "refractory_s": 0.0},
        {"steady": 0.7},
        {"steady": 0.55, "release": 0.4, "longest_s": 20.0, "steady_of": 30},
        {"threshold": 0.95, "hits": 5, "of": 9, "close_after_s": 60.0},
    ],
)
def test_passing_over_quiet_hours_changes_no_event(field, monkeypatch, seed, changed):
    monkeypatch.setattr(fieldlog, "_AT_ONCE", 300)
    setting = setting_of(field.manifest)
    changes = {label: changed for label, rule in rules_of(setting).items() if rule.alert}
    again, decider = Redecision(changes), fieldlog.decider_of(setting, rules_of(setting, changes))
    pushed, push = 0, Decider.push
    found, n_windows, last = [], 0, 0
    for _, line in a_night(seed, setting):
        for record in line.windows:
            n_windows, last = n_windows + 1, record.end_sample
            found += decider.push(record.end_sample, fieldlog.outputs_of(record, setting))

    def counted(self, end, outputs):
        nonlocal pushed
        pushed += 1
        return push(self, end, outputs)

    monkeypatch.setattr(Decider, "push", counted)
    for at, line in a_night(seed, setting):
        again.push(line, at)
    again.finish()
    found += decider.finish(last)
    reported = [one for one in found if one.alert]
    opened = [(one.label, one.onset / 16_000, one.raised / 16_000, one.score) for one in reported if one.opens]
    closed = [(one.label, one.raised / 16_000) for one in reported if not one.opens]
    assert sorted((one.label, one.onset_s, one.raised_s, one.score) for one in again.events) == sorted(opened)
    assert sorted((one.label, one.ended_s) for one in again.events) == sorted(closed)
    assert opened
    assert pushed < 0.9 * n_windows  # it is passed over
