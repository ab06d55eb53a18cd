"""The instrument itself: a perfect scorer, a deaf one, a late one and a random one get what they deserve."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.__main__ import main as agent
from agent.manifest import load_model
from agent.wav import write_wav
from model_export import evaluation, heard, release, report, summary
from model_export.errors import DataError
from model_export.evaluation import Evaluation, Judged, decided, judge, parse_replay
from model_export.operating import SILENT, Axis, rule_at
from model_export.peers import AXIS, Form, evaluate_scores
from model_export.tracks import TrueEvent, Truth

TINY = Path(__file__).resolve().parents[1] / "golden" / "tiny.tflite"
RULES = {"chainsaw": rule_at(0.8), "engine": rule_at(0.8), "storm": SILENT}


def truth(role: str = "chainsaw", level: str = "10 dB", n_events: int = 6) -> Truth:
    """A track with events of 12 s every 48 s, each of another recording but the last two."""
    label = role if role in ("chainsaw", "engine") else "other"
    events = tuple(
        TrueEvent(
            label=label,
            onset_s=40.5 + 48 * number,
            offset_s=52.5 + 48 * number,
            source=f"{label}/{number}.ogg",
            recording=f"r{min(number, 4)}",
            ground="g",
        )
        for number in range(n_events if role != "background" else 0)
    )
    return Truth(
        name=f"{role}-{level}", role=role, level=level, duration_s=48.0 * n_events + 40.5, events=events, marks={}
    )


def ends_of(one: Truth) -> np.ndarray:
    return 3.0 + 1.5 * np.arange(int((one.duration_s - 3) / 1.5) + 1)


def perfect(one: Truth, late_s: float = 0.0) -> np.ndarray:
    """1 where an event covers the last half of a window, 0 elsewhere."""
    ends = ends_of(one)
    scores = np.full((len(ends), 3), 0.001)
    for event in one.events:
        if event.label != "other":
            sounding = (ends - 1.5 >= event.onset_s + late_s - 1e-6) & (ends <= event.offset_s + late_s + 1e-6)
            scores[sounding, AXIS.labels.index(event.label)] = 0.999
    return scores


def judged(one: Truth, scores: np.ndarray, fold: int = 1) -> Judged:
    said = decided(scores, RULES, AXIS)
    return judge(fold, one, said, said, RULES, AXIS)


def whole(make: "type | object" = perfect) -> Evaluation:
    tracks = [truth("chainsaw"), truth("engine"), truth("confusers"), truth("background", "", 40)]
    return Evaluation(name="x", tracks=tuple(judged(one, make(one)) for one in tracks))  # type: ignore[operator]


def test_a_perfect_scorer_finds_all_and_imagines_nothing() -> None:
    figures = summary.summarise(whole())
    assert [row["recall"]["value"] for row in figures["recall"]] == [1.0, 1.0]
    assert {row["count"] for row in figures["false_alerts"]} == {0}
    # two windows that lie half in the event: 1.5 s after the first of them
    assert {row["median_delay_s"] for row in figures["recall"]} == {3.0}
    assert figures["confusion"]["chainsaw"]["nothing"] == 0
    assert figures["confusion"]["forest"]["chainsaw"] == 0
    assert figures["calibration"]["chainsaw"]["expected_calibration_error"] < 0.01
    assert figures["worst_missed"] == figures["worst_false"] == []


def test_a_late_scorer_has_its_delay() -> None:
    figures = summary.summarise(whole(lambda one: perfect(one, 3.0)))
    assert {row["median_delay_s"] for row in figures["recall"]} == {6.0}


def test_a_deaf_scorer_misses_all_and_the_misses_are_named() -> None:
    figures = summary.summarise(whole(lambda one: np.full((len(ends_of(one)), 3), 0.01)))
    assert {row["recall"]["value"] for row in figures["recall"]} == {0.0}
    assert {row["median_delay_s"] for row in figures["recall"]} == {None}
    # one row a recording, both labels
    assert len(figures["worst_missed"]) == 10
    assert {row["track"] for row in figures["worst_missed"]} == {"chainsaw-10 dB", "engine-10 dB"}


def test_a_random_scorer_raises_as_often_as_chance_says() -> None:
    """Windows that say saw with probability p, independently; a refractory of 30 s bounds the rate."""
    share = 0.04
    one = truth("background", "", 600)
    scores = np.where(np.random.default_rng(5).random((len(ends_of(one)), 3)) < share, 0.99, 0.01)
    scores[:, 1:] = 0.01
    found = len(judged(one, scores).false)
    # a window opens where it or the two before hold two hits, the second being new: 2 p² (1 - p)... to first order
    chance = 2 * share**2
    gap = 1 / chance + 30 / 1.5
    expected = len(scores) / gap
    assert abs(found - expected) < 4 * math.sqrt(expected)


@given(st.integers(0, 2**32 - 1))
def test_the_figures_agree_with_a_slow_reference(seed: int) -> None:
    """Random alerts, gates and events, counted again one by one."""
    rng = np.random.default_rng(seed)
    one = truth("chainsaw")
    scores = rng.choice([0.01, 0.95], (len(ends_of(one)), 3), p=[0.8, 0.2])
    gated = rng.random(len(scores)) < 0.3
    shut = scores.copy()
    shut[gated] = np.nan
    closed, opened = decided(shut, RULES, AXIS), decided(scores, RULES, AXIS)
    found = judge(2, one, closed, opened, RULES, AXIS)
    for event, outcome in zip(one.events, found.events, strict=True):
        own = [
            alert.raised_s - event.onset_s
            for alert in closed.alerts
            if alert.label == "chainsaw" and event.onset_s <= alert.raised_s <= event.offset_s + 4.5
        ]
        assert outcome.delay_s == (min(own) if own else None)
    false = [
        alert
        for alert in closed.alerts
        if not any(event.onset_s <= alert.raised_s <= event.offset_s + 4.5 for event in one.events)
    ]
    assert sorted((alert.label, alert.at_s) for alert in found.false) == sorted(
        (alert.label, alert.raised_s) for alert in false
    )
    inside = [
        number
        for number, end in enumerate(ends_of(one))
        if any(event.onset_s + 3 <= end <= event.offset_s for event in one.events)
    ]
    assert found.inside == len(inside)
    assert found.inside_gated == sum(bool(gated[number]) for number in inside)
    assert found.gated == int(gated.sum())
    says = sum(scores[number, 0] >= 0.8 and scores[number, 0] >= scores[number, 1] for number in inside)
    assert found.confusion["chainsaw"]["chainsaw"] == says


def test_what_the_gate_costs_is_the_difference_of_the_two_runs() -> None:
    one = truth("chainsaw")
    scores = perfect(one)
    shut = scores.copy()
    shut[ends_of(one) < 120] = np.nan
    found = judge(1, one, decided(shut, RULES, AXIS), decided(scores, RULES, AXIS), RULES, AXIS)
    row = summary.recall_rows([found])[0]
    assert row["recall_without_gate"]["value"] == 1.0
    assert row["recall"]["value"] == pytest.approx(4 / 6)


def test_an_engine_alert_in_a_saw_is_neither_true_nor_false() -> None:
    one = truth("chainsaw")
    scores = perfect(one)
    scores[:, 1] = scores[:, 0]
    assert judged(one, scores).false == ()


def test_a_kept_evaluation_comes_back_as_it_was() -> None:
    kept = dataclasses.replace(whole(lambda one: perfect(one, 40.0)), cost={"cpu_s": 1.5}, facts={"a": [1]})
    assert Evaluation.from_json(kept.to_json()) == kept
    with pytest.raises(DataError, match="no kept evaluation"):
        Evaluation.from_json("{}")
    with pytest.raises(DataError, match="schema 1"):
        Evaluation.from_json('{"schema": 1}')


def test_what_the_agent_prints_is_read() -> None:
    lines = [
        '{"kind": "window", "path": "/x/a.wav", "end_s": 3.0, "scores": {}, "gated": true}',
        '{"kind": "window", "path": "/x/b.wav", "end_s": 3.0, "scores": {"chainsaw": 0.2}, "gated": true}',
        '{"kind": "window", "path": "/x/b.wav", "end_s": 4.5, "scores": {"chainsaw": 0.9}, "gated": false}',
        '{"kind": "alert", "path": "/x/b.wav", "label": "chainsaw", "onset_s": 1.0, "raised_s": 5.5, "score": 0.9}',
        '{"kind": "summary", "audio_s": 60.0, "cpu_s": 0.1}',
    ]
    steps: list[int] = []
    found, cost = parse_replay(lines, ["chainsaw"], lambda: steps.append(1))
    assert len(steps) == 3
    said = found["/x/b.wav"]
    assert said.heard.gated.tolist() == [True, False]
    assert said.heard.scores[1].tolist() == [0.9]
    assert said.all_scores.tolist() == [[0.2], [0.9]]
    assert said.heard.alerts[0].raised_s == 5.5
    assert found["/x/a.wav"].heard.alerts == ()
    assert np.isnan(found["/x/a.wav"].all_scores).all()
    assert cost == {"audio_s": 60.0, "cpu_s": 0.1}


class TestThroughTheAgent:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        """Two tracks for the tiny model, to which 1 kHz is a saw; the second has none."""
        pytest.importorskip("ai_edge_litert", reason="the agent has no runtime for this Python")
        for one, hz in ((truth("chainsaw", n_events=3), 1_000.0), (truth("confusers", n_events=3), 400.0)):
            rng = np.random.default_rng(len(one.name))
            samples = rng.standard_normal(round(one.duration_s * 16_000)) * 0.003
            at_s = np.arange(len(samples)) / 16_000
            for event in one.events:
                samples += 0.05 * np.sin(2 * np.pi * hz * at_s) * ((at_s >= event.onset_s) & (at_s < event.offset_s))
            write_wav(tmp_path / f"{one.name}.wav", samples.astype(np.float32), 16_000)
            (tmp_path / f"{one.name}.json").write_text(one.to_json(), encoding="utf-8")
        return tmp_path

    def test_one_run_says_what_two_would(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        rules = dict(load_model(TINY)[0].rules)
        axis = Axis.of(load_model(TINY)[0])

        def run(one: Truth, *options: str) -> evaluation.Heard:
            track = str(folder / f"{one.name}.wav")
            assert agent(["replay", track, "--json", "--scores", "--model", str(TINY), *options]) == 0
            return parse_replay(capsys.readouterr().out.splitlines(), axis.labels)[0][track].heard

        kept = evaluation.evaluate(folder, TINY, fold=3)
        truths = evaluation.read_truths(folder)
        two = [judge(3, one, run(one), run(one, "--no-gate"), rules, axis) for one in truths]
        assert list(kept.tracks) == two
        assert [len(track.events) for track in kept.tracks] == [3, 0]
        assert all(event.delay_s is not None for event in kept.tracks[0].events)
        assert all(0 < track.gated < track.windows for track in kept.tracks)
        assert set(kept.cost) == {"audio_s", "cpu_s", "wall_s"}

    def test_a_track_that_the_agent_cannot_read_is_named(self, folder: Path) -> None:
        (folder / "chainsaw-10 dB.wav").write_bytes(b"no sound")
        with pytest.raises(DataError, match=r"agent replay ended with 1: .*chainsaw-10 dB\.wav"):
            evaluation.evaluate(folder, TINY)


class TestMarks:
    def test_a_model_is_not_judged_by_what_taught_it(self) -> None:
        marks = {heard.group_mark("saw1"): "saw1", heard.mark_of(b"clip"): "saw/2.ogg"}
        known = heard.pack([heard.mark_of(b"clip"), heard.mark_of(b"other")])
        with pytest.raises(DataError, match=r"trained on 1 of 2 recordings in these tracks, saw/2\.ogg for one"):
            heard.refuse_known({"trained_on": known}, marks)
        heard.refuse_known({"trained_on": heard.pack([heard.mark_of(b"other")])}, marks)
        heard.refuse_known({}, marks)

    def test_a_damaged_list_is_named(self) -> None:
        with pytest.raises(DataError, match=r"metrics\.trained_on is damaged"):
            heard.refuse_known({"trained_on": "AAAA"}, {})

    @given(st.sets(st.binary(min_size=1, max_size=9)))
    def test_marks_come_back_from_the_manifest(self, contents: set[bytes]) -> None:
        marks = {heard.mark_of(content) for content in contents}
        assert heard.unpack(heard.pack(marks)) == marks


class TestRelease:
    def test_a_recipe_is_not_worse_than_itself(self) -> None:
        assert not [one.name for one in release.compare(whole(), whole()) if one.is_worse]

    def test_a_deaf_recipe_is_worse_and_named(self) -> None:
        deaf = whole(lambda one: np.full((len(ends_of(one)), 3), 0.01))
        worse = [one.name for one in release.compare(whole(), deaf) if one.is_worse]
        assert worse == ["recall of chainsaw 10 dB", "recall of engine 10 dB"]
        assert not [one for one in release.compare(deaf, whole()) if one.is_worse]
        assert "**worse**" in release.report(release.compare(whole(), deaf))

    def test_a_recipe_that_cries_wolf_is_worse(self) -> None:
        def crying(one: Truth) -> np.ndarray:
            scores = perfect(one)
            if one.role == "background":
                scores[::40, 0] = scores[1::40, 0] = 0.99
            return scores

        worse = [one.name for one in release.compare(whole(), whole(crying)) if one.is_worse]
        assert worse == ["fewer false chainsaw alerts an hour on background"]

    def test_one_recording_alone_cannot_tell(self) -> None:
        """All is lost in one recording of five: a bootstrap over recordings draws it not at all now and then."""

        def half_deaf(one: Truth) -> np.ndarray:
            scores = perfect(one)
            scores[ends_of(one) < 60] = 0.01
            return scores

        assert not [one for one in release.compare(whole(), whole(half_deaf)) if one.is_worse]

    def test_other_events_cannot_be_compared(self) -> None:
        other = dataclasses.replace(
            whole(), tracks=(judged(truth("chainsaw", n_events=3), perfect(truth(n_events=3))),)
        )
        with pytest.raises(DataError, match="not of the same events"):
            release.compare(whole(), other)

    @pytest.mark.parametrize(("candidate", "code"), [("same", 0), ("deaf", 1)])
    def test_the_command_says_no_with_exit_code_1(
        self, candidate: str, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        from model_export.__main__ import main

        (tmp_path / "same.json").write_text(whole().to_json())
        deaf = whole(lambda one: np.full((len(ends_of(one)), 3), 0.01))
        (tmp_path / "deaf.json").write_text(deaf.to_json())
        shipped = str(tmp_path / "same.json")
        said = main(["release-check", "--shipped", shipped, "--candidate", str(tmp_path / f"{candidate}.json")])
        assert said == code
        assert ("worse beyond chance" in capsys.readouterr().out) == bool(code)

    def test_a_missing_file_is_named(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        from model_export.__main__ import main

        missing = str(tmp_path / "none.json")
        assert main(["release-check", "--shipped", missing, "--candidate", missing]) == 2
        assert "none.json: cannot be read" in capsys.readouterr().err


class TestPeers:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        for one in (truth("chainsaw"), truth("engine"), truth("confusers"), truth("background", "", 40)):
            (tmp_path / f"{one.name}.json").write_text(one.to_json())
        return tmp_path

    def test_a_peer_gets_the_lowest_threshold_that_stays_quiet(self, folder: Path) -> None:
        """A peer that says 0.30 to saws and 0.10 to all else needs a threshold between, and finds everything."""
        scores = {}
        for one in evaluation.read_truths(folder):
            found = np.full((len(ends_of(one)), 3), 0.1)
            found[perfect(one)[:, 0] > 0.5, 0] = 0.3
            scores[one.name] = found
        kept = evaluate_scores("peer", [(1, folder, scores)], [Form(2, 3), Form(2, 4), Form(1, 1, mean_of=8)])
        assert 0.1 < kept.facts["rules"]["chainsaw"]["threshold"] <= 0.3
        rows = {row["label"]: row["recall"]["value"] for row in summary.recall_rows(kept.tracks)}
        assert rows == {"chainsaw": 1.0, "engine": 0.0}
        table = summary.side_by_side([("agent", summary.summarise(whole())), ("peer", summary.summarise(kept))])
        assert "| peer | 1.00 | 0.00 |" in table


def test_the_tables_name_level_interval_and_rate() -> None:
    text = summary.table(summary.summarise(whole()))
    assert "| chainsaw | 10 dB | 6 of 6 (from 5 recordings) | 1.00 (1.00–1.00) | 1.00 | 3.0 s |" in text
    assert "| chainsaw | background | 0 | 0.54 | 0.00 (0.00–6.77) | 0 |" in text
    assert "| forest | 0 (0.0 %)" in summary.details(summary.summarise(whole()))


def test_the_page_holds_tables_plots_and_sound_and_nothing_from_elsewhere(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    pytest.importorskip("soundfile")
    from agent.wav import write_wav

    one = truth("chainsaw")
    sound = np.random.default_rng(1).standard_normal(int(one.duration_s * 16_000)).astype(np.float32) * 0.1
    write_wav(tmp_path / f"{one.name}.wav", sound.astype(np.float32), 16_000)
    kept = Evaluation(name="<script>", tracks=(judged(one, perfect(one, 40.0)),))
    figures = summary.summarise(kept)
    curves = {"chainsaw": report.curve(kept, "chainsaw")}
    page = report.page(kept, figures, {1: tmp_path}, curves, [("peer", figures)])
    assert "<script>" not in page
    assert page.count("data:audio/wav;base64,") == len(figures["worst_missed"]) + len(figures["worst_false"]) > 5
    assert page.count("<svg") == 3
    loads = [part.split('"')[0] for part in page.split('src="')[1:]]
    assert all(load.startswith("data:") for load in loads)
    assert "http" not in page.replace("http://www.w3.org", "").replace("http://purl.org", "").replace(
        "http://creativecommons.org", ""
    ).replace("https://matplotlib.org", "")


def test_the_curve_begins_at_no_false_alert() -> None:
    def crying(one: Truth) -> np.ndarray:
        scores = perfect(one)
        if one.role == "confusers":
            scores[20:23, 0] = 0.9
        return scores

    points = report.curve(whole(crying), "chainsaw")
    assert points[0] == (0.0, 1.0)
    assert points[1][0] > 0
    assert len(points) == 2


def test_rules_are_kept_beside_their_recipe(tmp_path: Path, document: dict[str, object]) -> None:
    from model_export import crossval
    from model_export.recipe import parse_recipe

    recipe = parse_recipe(document).with_fold(0)
    path = crossval.rules_path(tmp_path / "tiny.yaml")
    assert crossval.read_rules(path, recipe) is None
    path.write_text(crossval.rules_text(RULES, recipe, "d"))
    assert crossval.read_rules(path, recipe) == RULES
    # another network is another operating point; another decision is not
    assert crossval.read_rules(path, recipe.with_mixtures(4_096)) is None
    path.write_text(json.dumps({"schema": 1}))
    with pytest.raises(DataError, match=r"tiny\.rules\.json: is no operating point: recipe: is missing"):
        crossval.read_rules(path, recipe)
