"""The runtime seam: proven before it is used, proven again when it looks stuck, and every failure a ModelError."""

import importlib.metadata
import importlib.util
import os
import subprocess
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from agent import classify
from agent.classify import RUNTIMES, SUSPICIOUS_REPEATS, TfliteClassifier, disagreement, load_classifier
from agent.errors import ModelError
from agent.features import FeatureConfig, log_mel
from agent.manifest import Manifest, load_model

REPO = Path(__file__).resolve().parents[2]
TINY = REPO / "tests" / "golden" / "tiny.tflite"
LITERT = RUNTIMES[0]

Int8 = NDArray[np.int8]


@pytest.fixture(scope="module")
def tiny() -> tuple[Manifest, bytes]:
    return load_model(TINY)


@pytest.fixture(scope="module")
def real(tiny: tuple[Manifest, bytes]) -> TfliteClassifier:
    """Return the tiny model on the first real runtime that is installed."""
    if not any(is_installed(name) for name in RUNTIMES):
        pytest.skip("no TFLite runtime is installed for this Python")
    return load_classifier(*tiny)


def is_installed(runtime: str) -> bool:
    return importlib.util.find_spec(runtime.partition(".")[0]) is not None


def tone(hz: float, seconds: float = 3.0, at_s: float = 0.0) -> NDArray[np.float32]:
    """Return three seconds of faint noise with a tone from `at_s` on."""
    rng = np.random.default_rng(0)
    samples = rng.standard_normal(48_000) * 0.003
    place_s = np.arange(48_000) / 16_000
    samples += 0.05 * np.sin(2.0 * np.pi * hz * place_s) * ((place_s >= at_s) & (place_s < at_s + seconds))
    return samples.astype(np.float32)


# A runtime of our own


@dataclass
class Behaviour:
    """What a fake runtime does."""

    answer: Callable[[Int8], Int8]
    """Output bytes of a window of input bytes."""
    xnnpack: bool = True
    wrong_at_load: BaseException | None = None
    wrong_at_invoke: BaseException | None = None
    input_shape: tuple[int, ...] = (1, 94, 64, 1)
    output_shape: tuple[int, ...] = (1, 3)
    dtype: type = np.int8
    asked: int = 0
    threads: list[int] = field(default_factory=list)


def install(monkeypatch: pytest.MonkeyPatch, behaviour: Behaviour, name: str = "fake_runtime") -> str:
    """Make a runtime importable; return its module name."""

    class Interpreter:
        def __init__(self, model_content: bytes, num_threads: int) -> None:
            behaviour.threads.append(num_threads)
            if behaviour.wrong_at_load is not None:
                raise behaviour.wrong_at_load

        def allocate_tensors(self) -> None:
            pass

        def get_input_details(self) -> list[dict[str, Any]]:
            return [{"index": 7, "shape": np.array(behaviour.input_shape), "dtype": behaviour.dtype}]

        def get_output_details(self) -> list[dict[str, Any]]:
            return [{"index": 9, "shape": np.array(behaviour.output_shape), "dtype": np.int8}]

        def set_tensor(self, index: int, window: Int8) -> None:
            assert index == 7
            assert window.dtype == np.int8
            self.window = window

        def invoke(self) -> None:
            behaviour.asked += 1
            if behaviour.wrong_at_invoke is not None:
                raise behaviour.wrong_at_invoke
            self.outputs = behaviour.answer(self.window[0, :, :, 0])

        def get_tensor(self, index: int) -> Int8:
            assert index == 9
            return self.outputs[None]

        def _get_ops_details(self) -> list[dict[str, Any]]:
            return [{"op_name": "DELEGATE" if behaviour.xnnpack else "CONV_2D"}]

    module = types.ModuleType(f"{name}.interpreter")
    module.Interpreter = Interpreter  # type: ignore[attr-defined]  # a module made here
    monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, f"{name}.interpreter", module)
    return f"{name}.interpreter"


def golden_of(manifest: Manifest) -> Callable[[Int8], Int8]:
    """Return a model that knows its golden windows, and says the same to all others."""
    known = {
        window.tobytes(): answer for window, answer in zip(manifest.golden_inputs, manifest.golden_outputs, strict=True)
    }
    return lambda window: known.get(window.tobytes(), np.full(len(manifest.labels), -100, np.int8))


# The proof


def test_the_tiny_model_is_accepted_and_hears_its_tones(real: TfliteClassifier) -> None:
    manifest = real.manifest
    table = manifest.score_table()
    heard = {
        hz: table[real.outputs(log_mel(tone(hz), manifest.features)).astype(int) + 128] for hz in (1_000, 3_000, 500)
    }
    assert heard[1_000][0] > 0.95 > 0.1 > heard[1_000][1:].max()
    assert heard[3_000][1] > 0.95 > 0.1 > heard[3_000][[0, 2]].max()
    assert heard[500].max() < 0.1


@pytest.mark.parametrize(
    "runtime",
    [pytest.param(name, marks=[pytest.mark.slow] if name.startswith("tensorflow") else []) for name in RUNTIMES],
)
def test_every_runtime_that_is_installed_gives_the_golden_answers(tiny: tuple[Manifest, bytes], runtime: str) -> None:
    if not is_installed(runtime):
        pytest.skip(f"{runtime} is not installed")
    if not runtime.startswith("tensorflow"):
        assert load_classifier(*tiny, [runtime]).runtime.startswith(runtime.partition(".")[0] + " ")
        return
    # a process of its own: it loads for seconds, and warns of its own future
    said = in_a_process(f"print(load_classifier(manifest, content, ['{runtime}']).runtime)")
    assert said.stdout.startswith("tensorflow "), said.stderr


def test_under_xnnpack_one_wrong_golden_answer_is_one_too_many(
    tiny: tuple[Manifest, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    manifest, content = tiny
    outputs = manifest.golden_outputs.copy()
    outputs[5, 1] += 1
    runtime = install(monkeypatch, Behaviour(golden_of(manifest)))
    with pytest.raises(
        ModelError, match=r"^no runtime computes the model: fake_runtime .*: 1 of 16 golden answers diff"
    ):
        load_classifier(replace(manifest, golden_outputs=outputs), content, [runtime])
    assert load_classifier(manifest, content, [runtime]).xnnpack


def test_a_real_runtime_is_refused_for_a_wrong_golden_answer(real: TfliteClassifier) -> None:
    outputs = real.manifest.golden_outputs.copy()
    outputs[0] = np.roll(outputs[0], 1)
    other = replace(real, manifest=replace(real.manifest, golden_outputs=outputs))
    if real.xnnpack:
        with pytest.raises(ModelError, match="1 of 16 golden answers differ, expected none"):
            other.prove()
    else:
        with pytest.raises(ModelError, match="clear golden windows get another label"):
            other.prove()


def test_other_kernels_may_round_otherwise_and_no_more(
    tiny: tuple[Manifest, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest, content = tiny
    right = golden_of(manifest)

    def off_by_one(window: Int8) -> Int8:
        return np.asarray(right(window).astype(int).clip(-127) - 1, np.int8)

    def shuffled(window: Int8) -> Int8:
        return np.roll(right(window), 1)

    near = install(monkeypatch, Behaviour(off_by_one, xnnpack=False), "near_runtime")
    assert not load_classifier(manifest, content, [near]).xnnpack
    far = install(monkeypatch, Behaviour(shuffled, xnnpack=False), "far_runtime")
    with pytest.raises(ModelError, match=r"far_runtime .*clear golden windows get another label"):
        load_classifier(manifest, content, [far])


def test_the_second_runtime_is_taken_where_the_first_fails(
    tiny: tuple[Manifest, bytes], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    manifest, content = tiny
    bad = install(monkeypatch, Behaviour(lambda _: np.zeros(3, np.int8)), "bad_runtime")
    good = install(monkeypatch, Behaviour(golden_of(manifest)), "good_runtime")
    with caplog.at_level("INFO", "agent.classify"):
        classifier = load_classifier(manifest, content, ["no_such_runtime.interpreter", bad, good])
    assert classifier.runtime == "good_runtime of the system"
    assert caplog.messages == [
        f"model tiny {manifest.digest} on good_runtime of the system, XNNPACK yes, 16 golden answers right"
    ]


def test_the_error_says_what_each_runtime_said(tiny: tuple[Manifest, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    manifest, content = tiny
    names = [
        "no_such_runtime.interpreter",
        install(monkeypatch, Behaviour(golden_of(manifest), wrong_at_load=ValueError("not a\nflatbuffer")), "load_rt"),
        install(monkeypatch, Behaviour(golden_of(manifest), wrong_at_invoke=RuntimeError("no kernel")), "invoke_rt"),
    ]
    with pytest.raises(ModelError) as caught:
        load_classifier(manifest, content, names)
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith("no runtime computes the model: no_such_runtime: not installed (No module named")
    assert "load_rt: cannot load the model: not a flatbuffer" in text
    assert "invoke_rt of the system: the model failed: no kernel" in text


def test_a_runtime_without_an_interpreter_is_named(
    tiny: tuple[Manifest, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "hollow", types.ModuleType("hollow"))
    with pytest.raises(ModelError, match="hollow: cannot load the model: module 'hollow' has no attribute"):
        load_classifier(*tiny, ["hollow"])


def test_one_thread_is_asked_for(tiny: tuple[Manifest, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    behaviour = Behaviour(golden_of(tiny[0]))
    load_classifier(*tiny, [install(monkeypatch, behaviour)])
    assert behaviour.threads == [1]


def test_the_version_is_named_where_the_package_tells_it(
    tiny: tuple[Manifest, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = install(monkeypatch, Behaviour(golden_of(tiny[0])))
    sys.modules[runtime].__version__ = "9.8"  # type: ignore[attr-defined]  # a module made here
    assert load_classifier(*tiny, [runtime]).runtime == "fake_runtime 9.8"
    monkeypatch.setattr(importlib.metadata, "version", lambda name: f"1.2 of {name}")
    assert load_classifier(*tiny, [runtime]).runtime == "fake_runtime 1.2 of fake_runtime"


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (
            {"input_shape": (1, 94, 32, 1)},
            r"the model's tensor is \(1, 94, 32, 1\) int8, expected \(1, 94, 64, 1\) int8",
        ),
        ({"output_shape": (1, 4)}, r"the model's tensor is \(1, 4\) int8, expected \(1, 3\) int8"),
        ({"dtype": np.float32}, r"the model's tensor is \(1, 94, 64, 1\) float32, expected \(1, 94, 64, 1\) int8"),
    ],
)
def test_a_model_of_another_shape_is_refused(
    tiny: tuple[Manifest, bytes], monkeypatch: pytest.MonkeyPatch, wrong: dict[str, Any], text: str
) -> None:
    runtime = install(monkeypatch, Behaviour(golden_of(tiny[0]), **wrong))
    with pytest.raises(ModelError, match=text):
        load_classifier(*tiny, [runtime])


@pytest.mark.skipif(not is_installed(LITERT), reason="ai_edge_litert is not installed for this Python")
def test_a_real_model_of_another_shape_is_refused(tiny: tuple[Manifest, bytes]) -> None:
    manifest, content = tiny
    longer = replace(manifest, features=FeatureConfig(n_frames=95))
    with pytest.raises(ModelError, match=r"expected \(1, 95, 64, 1\) int8; manifest and model disagree"):
        load_classifier(longer, content, [LITERT])


# What the runtime makes of broken files: in a process of its own, for it may crash


def in_a_process(body: str, path: Path = TINY) -> subprocess.CompletedProcess[str]:
    """Run a few lines with `manifest` and `content` at hand."""
    program = "\n".join(
        [
            "import sys, warnings",
            "warnings.simplefilter('ignore')",
            "from pathlib import Path",
            "from agent.classify import RUNTIMES, load_classifier",
            "from agent.errors import ModelError",
            "from agent.manifest import load_model",
            f"manifest, content = load_model(Path({str(path)!r}))",
            body,
        ]
    )
    environment = dict(os.environ, PYTHONPATH=str(REPO), OPENBLAS_NUM_THREADS="1", TF_CPP_MIN_LOG_LEVEL="3")
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=False, timeout=120
    )


DAMAGES = """
import random
def damages():
    yield 'cut in half', content[:len(content) // 2]
    yield 'empty', b''
    yield 'text', b'this is no model' * 100
    yield 'zeros', bytes(len(content))
    yield 'header alone', content[:8] + bytes(len(content) - 8)
for name, damaged in damages():
    try:
        load_classifier(manifest, damaged, RUNTIMES[:1])
        print(name, 'accepted')
    except ModelError as error:
        assert '\\n' not in str(error)
        print(name, 'refused')
"""


@pytest.mark.skipif(not is_installed(LITERT), reason="ai_edge_litert is not installed for this Python")
def test_bytes_that_are_no_model_are_a_model_error_and_no_crash() -> None:
    """The sha256 keeps damaged files out; this is for a wrong file with a right sum."""
    said = in_a_process(DAMAGES)
    assert said.returncode == 0, said.stderr
    names = ["cut in half", "empty", "text", "zeros", "header alone"]
    assert said.stdout.splitlines() == [f"{name} refused" for name in names]


@pytest.mark.skipif(not is_installed(LITERT), reason="ai_edge_litert is not installed for this Python")
def test_the_runtime_is_quiet_and_standard_error_works_afterwards() -> None:
    said = in_a_process("load_classifier(manifest, content); print('after', file=sys.stderr)")
    assert said.returncode == 0, said.stderr
    assert said.stderr == "after\n"


def test_standard_error_that_is_no_file_is_no_obstacle(
    tiny: tuple[Manifest, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = install(monkeypatch, Behaviour(golden_of(tiny[0])))
    monkeypatch.setattr(sys, "stderr", None)
    load_classifier(*tiny, [runtime])


# Stuck and failing models


def windows(count: int, manifest: Manifest) -> list[NDArray[np.float32]]:
    rng = np.random.default_rng(3)
    shape = (manifest.features.n_frames, manifest.features.n_mels)
    return [rng.standard_normal(shape).astype(np.float32) for _ in range(count)]


def test_equal_answers_make_the_model_prove_itself_and_a_sound_one_goes_on(
    tiny: tuple[Manifest, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest, content = tiny
    behaviour = Behaviour(golden_of(manifest))  # the same answer to all windows but the golden ones: silence, say
    classifier = load_classifier(manifest, content, [install(monkeypatch, behaviour)])
    assert behaviour.asked == 16
    for window in windows(1 + SUSPICIOUS_REPEATS, manifest):
        classifier.outputs(window)
    assert behaviour.asked == 16 + 1 + SUSPICIOUS_REPEATS + 16
    for window in windows(SUSPICIOUS_REPEATS - 1, manifest):
        classifier.outputs(window)
    assert behaviour.asked == 16 + 2 * SUSPICIOUS_REPEATS + 16, "after a good proof the count begins anew"


def test_a_stuck_model_is_an_error_until_it_moves_again(
    tiny: tuple[Manifest, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest, content = tiny
    behaviour = Behaviour(golden_of(manifest))
    classifier = load_classifier(manifest, content, [install(monkeypatch, behaviour)])
    behaviour.answer = lambda _: np.array([-90, -90, -90], np.int8)
    heard = windows(SUSPICIOUS_REPEATS + 5, manifest)
    for window in heard[:SUSPICIOUS_REPEATS]:
        classifier.outputs(window)
    for window in heard[SUSPICIOUS_REPEATS:]:
        with pytest.raises(ModelError, match="golden answers differ"):
            classifier.outputs(window)
    behaviour.answer = golden_of(manifest)
    assert classifier.outputs(heard[0]).tolist() == [-100, -100, -100]


def test_a_model_proves_itself_once_an_hour_whatever_it_says(
    tiny: tuple[Manifest, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(classify, "PROOF_EVERY", 50)
    manifest, content = tiny
    behaviour = Behaviour(golden_of(manifest))
    classifier = load_classifier(manifest, content, [install(monkeypatch, behaviour)])
    turn = iter(range(1_000))
    behaviour.answer = lambda _: np.array([next(turn) % 100, 0, 0], np.int8)
    heard = windows(60, manifest)
    for window in heard[:49]:
        classifier.outputs(window)
    with pytest.raises(ModelError, match="golden answers differ"):
        classifier.outputs(heard[49])
    behaviour.answer = golden_of(manifest)
    classifier.outputs(heard[50])


def test_a_model_whose_answers_change_is_not_asked_for_proof(
    tiny: tuple[Manifest, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest, content = tiny
    behaviour = Behaviour(golden_of(manifest))
    classifier = load_classifier(manifest, content, [install(monkeypatch, behaviour)])
    behaviour.answer = lambda _: np.full(3, behaviour.asked // 30, np.int8)
    for window in windows(300, manifest):
        classifier.outputs(window)
    assert behaviour.asked == 16 + 300


@pytest.mark.parametrize("error", [RuntimeError("Node 3 failed\nto invoke"), ValueError("Cannot set tensor")])
def test_a_model_that_fails_is_a_model_error_of_one_line(
    tiny: tuple[Manifest, bytes], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    manifest, content = tiny
    behaviour = Behaviour(golden_of(manifest))
    classifier = load_classifier(manifest, content, [install(monkeypatch, behaviour)])
    behaviour.wrong_at_invoke = error
    with pytest.raises(ModelError, match=r"fake_runtime of the system: the model failed: [NC]") as caught:
        classifier.outputs(windows(1, manifest)[0])
    assert "\n" not in str(caught.value)


def test_the_model_gets_the_window_less_its_mean_in_its_own_bytes(
    tiny: tuple[Manifest, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest, content = tiny
    behaviour = Behaviour(golden_of(manifest))
    classifier = load_classifier(manifest, content, [install(monkeypatch, behaviour)])
    seen: list[Int8] = []
    behaviour.answer = lambda window: seen.append(window.copy()) or np.zeros(3, np.int8)  # type: ignore[func-returns-value]  # notes and answers
    frames = windows(1, manifest)[0]
    classifier.outputs(frames)
    classifier.outputs(frames + np.float32(7.0))  # louder by some decibels: the same to the model, but for rounding
    assert np.array_equal(seen[0], manifest.input.to_bytes(frames - frames.mean(dtype=np.float64).astype(np.float32)))
    assert np.abs(seen[0].astype(int) - seen[1].astype(int)).max() <= 1


# Agreement of other kernels


def test_equal_scores_agree() -> None:
    scores = np.array([[0.9, 0.1], [0.2, 0.3]])
    assert disagreement(scores, scores) == ""


def test_a_clear_window_with_another_label_is_a_disagreement() -> None:
    golden = np.array([[0.9, 0.1], [0.45, 0.4]])
    assert disagreement(np.array([[0.1, 0.9], [0.45, 0.4]]), golden) == "1 of 1 clear golden windows get another label"


def test_a_close_window_may_get_another_label() -> None:
    golden = np.array([[0.9, 0.1], [0.41, 0.40]])
    assert disagreement(np.array([[0.9, 0.1], [0.40, 0.41]]), golden) == ""


def test_the_margin_itself_is_not_clear() -> None:
    golden = np.array([[0.5, 0.25], [0.9, 0.0]])
    assert classify.CLEAR_MARGIN == 0.3
    assert disagreement(np.array([[0.49, 0.5], [0.9, 0.0]]), golden).startswith("golden scores differ by 0.065")


@pytest.mark.parametrize(("shift", "agrees"), [(0.019, True), (0.021, False)])
def test_scores_may_differ_by_two_hundredths_on_average(shift: float, agrees: bool) -> None:
    golden = np.array([[0.9, 0.1], [0.2, 0.6]])
    assert (disagreement(golden + shift, golden) == "") == agrees


def test_a_model_of_one_label_has_no_other_label_to_get() -> None:
    golden = np.array([[0.9], [0.2]])
    assert disagreement(golden, golden) == ""
    assert disagreement(golden - 0.1, golden) == "golden scores differ by 0.100 on average, expected at most 0.02"


@given(st.lists(st.lists(st.floats(0, 1), min_size=3, max_size=3), min_size=1, max_size=20), st.floats(0, 0.02))
def test_small_differences_never_disagree(rows: list[list[float]], shift: float) -> None:
    golden = np.array(rows)
    assert disagreement(golden + 0.99 * shift, golden) == ""
