"""One seam over three TFLite runtimes, and the proof that the one found computes this model.

A runtime that imports is not a runtime that works: tflite-runtime with NumPy 2 imports and dies on use, and other
kernels round differently. So a runtime is accepted only after the model gave its golden answers on it.
"""

import contextlib
import importlib
import importlib.metadata
import io
import logging
import os
import sys
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from agent.errors import ModelError
from agent.features import window_features
from agent.manifest import Manifest

log = logging.getLogger(__name__)

Int8 = NDArray[np.int8]
Float32 = NDArray[np.float32]

RUNTIMES = ("ai_edge_litert.interpreter", "tflite_runtime.interpreter", "tensorflow.lite.python.interpreter")
CLEAR_MARGIN = 0.3
"""Another kernel family must give the same best label where the golden scores are at least this far apart..."""
MEAN_DIFFERENCE = 0.02
"""...and scores that differ by no more than this on average."""
SUSPICIOUS_REPEATS = 40
"""As many equal answers to different windows make the model prove itself again."""
PROOF_EVERY = 2_400
"""Windows after which it proves itself whatever it says, about once an hour: memory may rot."""


class Classifier(Protocol):
    """Something that answers windows."""

    def outputs(self, frames: Float32) -> Int8:
        """Return the output bytes, shape (n_labels,), for log-mel of shape (n_frames, n_mels).

        Raises:
            ModelError: it failed, or answers what the model never answers.
        """
        ...


@dataclass(slots=True)
class TfliteClassifier:
    """A model on the first runtime that computes it rightly."""

    manifest: Manifest
    runtime: str
    """Module and version: `ai_edge_litert 2.3.0`."""
    xnnpack: bool
    """Whether XNNPACK took the graph; without it int8 is about ten times slower."""
    _interpreter: Any
    _input_idx: int
    _output_idx: int
    _last: bytes = field(init=False, default=b"")
    _repeats: int = field(init=False, default=0)
    _unproven: int = field(init=False, default=0)

    def outputs(self, frames: Float32) -> Int8:
        """Return the output bytes of one window; see `Classifier`."""
        answer = self._answer(self.manifest.input.to_bytes(window_features(frames)))
        self._watch(answer)
        return answer

    def prove(self) -> None:
        """Raise ModelError unless the golden windows get their golden answers."""
        manifest = self.manifest
        answers = np.stack([self._answer(window) for window in manifest.golden_inputs])
        if np.array_equal(answers, manifest.golden_outputs):
            return
        if self.xnnpack:
            n_wrong = int((answers != manifest.golden_outputs).any(axis=1).sum())
            raise ModelError(f"{self.runtime}: {n_wrong} of {len(answers)} golden answers differ, expected none")
        table = manifest.score_table()
        problem = disagreement(
            table[answers.astype(np.intp) + 128], table[manifest.golden_outputs.astype(np.intp) + 128]
        )
        if problem:
            raise ModelError(f"{self.runtime}: {problem}")

    def _answer(self, window: Int8) -> Int8:
        try:
            # other kinds of failure come out of the runtime's C++ as these two
            self._interpreter.set_tensor(self._input_idx, window[None, :, :, None])
            self._interpreter.invoke()
            answer = self._interpreter.get_tensor(self._output_idx)[0]
        except (RuntimeError, ValueError) as error:
            raise ModelError(f"{self.runtime}: the model failed: {_one_line(error)}") from error
        return np.array(answer, np.int8)

    def _watch(self, answer: Int8) -> None:
        """Silence may well be answered alike forty times; a stuck model cannot answer its golden windows."""
        self._unproven += 1
        if self._unproven >= PROOF_EVERY:
            self.prove()
            self._unproven = 0
        content = answer.tobytes()
        self._repeats = self._repeats + 1 if content == self._last else 0
        self._last = content
        if self._repeats >= SUSPICIOUS_REPEATS:
            self.prove()  # until it succeeds, every further repeat asks again: stuck stays an alarm
            self._repeats = 0


def disagreement(scores: NDArray[np.float64], golden: NDArray[np.float64]) -> str:
    """Return why scores of another kernel family are not the golden ones, or nothing if they are.

    Args:
        scores: shape (n_golden, n_labels), 0 to 1.
        golden: the same from the manifest.
    """
    ranked = np.sort(golden, axis=1)
    clear = ranked[:, -1] - (ranked[:, -2] if golden.shape[1] > 1 else 0.0) > CLEAR_MARGIN
    n_other = int((scores.argmax(axis=1) != golden.argmax(axis=1))[clear].sum())
    if n_other:
        return f"{n_other} of {int(clear.sum())} clear golden windows get another label"
    difference = float(np.abs(scores - golden).mean())
    if difference > MEAN_DIFFERENCE:
        return f"golden scores differ by {difference:.3f} on average, expected at most {MEAN_DIFFERENCE:g}"
    return ""


def load_classifier(manifest: Manifest, content: bytes, runtimes: Sequence[str] = RUNTIMES) -> TfliteClassifier:
    """Return the model on the first runtime that gives its golden answers.

    Args:
        manifest: what the model must be.
        content: the .tflite file's bytes.
        runtimes: module names, in the order in which to try them.

    Raises:
        ModelError: none does; the text says what each of them said.
    """
    problems: list[str] = []
    for name in runtimes:
        try:
            classifier = _on_runtime(name, manifest, content)
            classifier.prove()
        except ModelError as error:
            problems.append(str(error))
            continue
        log.info(
            "model %s %s on %s, XNNPACK %s, %d golden answers right",
            manifest.name,
            manifest.digest,
            classifier.runtime,
            "yes" if classifier.xnnpack else "no (int8 is slow)",
            len(manifest.golden_inputs),
        )
        return classifier
    raise ModelError("no runtime computes the model: " + "; ".join(problems))


def _on_runtime(name: str, manifest: Manifest, content: bytes) -> TfliteClassifier:
    package = name.partition(".")[0]
    with _quiet_stderr():
        interpreter, version = _interpreter(name, package, content)
    input_idx = _tensor(interpreter.get_input_details(), (1, manifest.features.n_frames, manifest.features.n_mels, 1))
    output_idx = _tensor(interpreter.get_output_details(), (1, len(manifest.labels)))
    return TfliteClassifier(
        manifest=manifest,
        runtime=f"{package} {version}",
        xnnpack=_has_delegate(interpreter),
        _interpreter=interpreter,
        _input_idx=input_idx,
        _output_idx=output_idx,
    )


def _interpreter(name: str, package: str, content: bytes) -> tuple[Any, str]:
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        raise ModelError(f"{package}: not installed ({_one_line(error)})") from error
    try:
        interpreter_class: Callable[..., Any] = module.Interpreter
        interpreter = interpreter_class(model_content=content, num_threads=1)
        interpreter.allocate_tensors()
    except (AttributeError, RuntimeError, SystemError, ValueError) as error:
        raise ModelError(f"{package}: cannot load the model: {_one_line(error)}") from error
    try:
        version = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        version = str(getattr(module, "__version__", "of the system"))
    return interpreter, version


def _tensor(details: Sequence[dict[str, Any]], shape: tuple[int, ...]) -> int:
    if len(details) != 1 or tuple(details[0]["shape"]) != shape or details[0]["dtype"] != np.int8:
        found = ", ".join(f"{tuple(map(int, detail['shape']))} {np.dtype(detail['dtype'])}" for detail in details)
        raise ModelError(f"the model's tensor is {found}, expected {shape} int8; manifest and model disagree")
    return int(details[0]["index"])


def _has_delegate(interpreter: Any) -> bool:  # noqa: ANN401  # three classes that share no type
    # a private call, but the only one that tells; where it is missing, say no
    operators: list[dict[str, Any]] = getattr(interpreter, "_get_ops_details", list)()
    return any("DELEGATE" in str(operator.get("op_name", "")).upper() for operator in operators)


@contextlib.contextmanager
def _quiet_stderr() -> Generator[None]:
    """Keep the runtime's chatter out of the log: it writes past Python, to the descriptor itself."""
    try:
        saved = os.dup(sys.stderr.fileno())
    except (AttributeError, OSError, io.UnsupportedOperation):
        yield  # standard error is not a file: nothing to keep quiet
        return
    try:
        with open(os.devnull, "wb") as nowhere:  # noqa: PTH123  # a device, not a path
            os.dup2(nowhere.fileno(), sys.stderr.fileno())
        yield
    finally:
        os.dup2(saved, sys.stderr.fileno())
        os.close(saved)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
