"""From the trained network to one int8 file that a phone runs, and the proof that it still is the same network.

Only here is TensorFlow needed. `model.export` and `from_saved_model`: the converter's other ways lose the calibration.
"""

import hashlib
import importlib.metadata
import logging
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent import synth
from agent.acoustics import rms_dbfs
from agent.features import FeatureConfig, Float32, log_mel, window_features
from agent.manifest import Quantisation
from model_export import network, rounding
from model_export.errors import ExportError

log = logging.getLogger(__name__)

Int8 = NDArray[np.int8]

_ROUNDING_WINDOWS = 96
LARGEST_MODEL_BYTES = 3_000_000
LOWEST_AGREEMENT = 0.98


@dataclass(frozen=True, slots=True)
class Int8Model:
    """A converted model on the runtime that phones use."""

    content: bytes
    input: Quantisation
    output: Quantisation
    _interpreter: Any
    _input_idx: int
    _output_idx: int

    @classmethod
    def load(cls, content: bytes) -> "Int8Model":
        """Load a converted model; ExportError unless it is int8 at both ends."""
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter(model_content=content, num_threads=1)
        interpreter.allocate_tensors()
        (ins,), (outs,) = interpreter.get_input_details(), interpreter.get_output_details()
        for end, detail in (("input", ins), ("output", outs)):
            if detail["dtype"] != np.int8:
                raise ExportError(f"the model's {end} is {np.dtype(detail['dtype'])}, expected int8")
        return cls(
            content,
            Quantisation(scale=float(ins["quantization"][0]), zero_point=int(ins["quantization"][1])),
            Quantisation(scale=float(outs["quantization"][0]), zero_point=int(outs["quantization"][1])),
            interpreter,
            ins["index"],
            outs["index"],
        )

    @property
    def sha256(self) -> str:
        """Return the hash of the file."""
        return hashlib.sha256(self.content).hexdigest()

    def outputs(self, windows: Int8) -> Int8:
        """Return output bytes, shape (n, n_labels), for input bytes of shape (n, n_frames, n_mels)."""
        answers: list[Int8] = []
        for window in windows:
            self._interpreter.set_tensor(self._input_idx, window[None, :, :, None])
            self._interpreter.invoke()
            answers.append(np.array(self._interpreter.get_tensor(self._output_idx)[0], np.int8))
        return np.stack(answers)

    def logits(self, windows: Float32) -> NDArray[np.float64]:
        """Return logits of real windows, shape (n, n_labels)."""
        return self.output.to_real(self.outputs(self.input.to_bytes(windows)))


@dataclass(frozen=True, kw_only=True, slots=True)
class Parity:
    """How far the converted models agree with the trained one on held-out windows."""

    windows: int
    int8_agreement: float
    """Share of windows whose set of labels over 0.5 is the same."""
    float_agreement: float
    """The same of the float32 conversion."""
    int8_mean_difference: float
    """Mean absolute difference of scores."""
    int8_largest_difference: float
    """Largest difference of scores."""


def convert(model: network.KerasModel, representative: Float32 | None) -> bytes:
    """Return the model as TFLite: full int8 with a representative set of shape (n, n_frames, n_mels), else float32."""
    import keras
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as folder:
        signature = [keras.InputSpec(shape=(1, *model.input.shape[1:]), dtype="float32")]
        network.mean_by_convolution(model).export(
            folder, format="tf_saved_model", input_signature=signature, verbose=False
        )
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        if representative is not None:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = lambda: ([window[None, ..., None]] for window in representative)
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.inference_input_type = tf.int8
            converter.inference_output_type = tf.int8
        return bytes(converter.convert())


def convert_int8(model: network.KerasModel, representative: Float32) -> Int8Model:
    """Return the model as full int8, with the mean error of its layers and of its logits taken out.

    Rounding moves what each layer says a little to one side; the biases can take that back at no cost.

    Args:
        model: the Keras network; it is as before when this returns.
        representative: training windows, shape (n, n_frames, n_mels): they fix the ranges, and show the error.
    """
    on_grid = rounding.rounded(model, representative[:_ROUNDING_WINDOWS])
    first = Int8Model.load(convert(on_grid, representative))
    error = (first.logits(representative) - network.logits_of(model, representative)).mean(axis=0)
    bias = on_grid.get_layer("logits").bias
    kept = np.array(bias)
    bias.assign(kept - error.astype(np.float32))
    try:
        return Int8Model.load(convert(on_grid, representative))
    finally:
        bias.assign(kept)


def float_logits(content: bytes, windows: Float32) -> NDArray[np.float64]:
    """Return the logits of a float32 conversion, shape (n, n_labels)."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    input_idx = interpreter.get_input_details()[0]["index"]
    output_idx = interpreter.get_output_details()[0]["index"]
    answers: list[NDArray[np.float64]] = []
    for window in windows:
        interpreter.set_tensor(input_idx, window[None, ..., None])
        interpreter.invoke()
        answers.append(np.array(interpreter.get_tensor(output_idx)[0], np.float64))
    return np.stack(answers)


def parity(model: network.KerasModel, floating: bytes, small: Int8Model, windows: Float32) -> Parity:
    """Compare the trained network with both conversions.

    Args:
        model: the Keras network.
        floating: its float32 conversion.
        small: its int8 conversion.
        windows: held-out windows, shape (n, n_frames, n_mels).
    """
    wanted = _scores(network.logits_of(model, windows).astype(np.float64))
    floats = _scores(float_logits(floating, windows))
    ints = _scores(small.logits(windows))
    return Parity(
        windows=len(windows),
        int8_agreement=agreement(ints, wanted),
        float_agreement=agreement(floats, wanted),
        int8_mean_difference=float(np.abs(ints - wanted).mean()),
        int8_largest_difference=float(np.abs(ints - wanted).max()),
    )


def agreement(scores: NDArray[np.float64], wanted: NDArray[np.float64]) -> float:
    """Return the share of windows whose set of labels over 0.5 is the same in both, shapes (n, n_labels)."""
    return float(((scores > 0.5) == (wanted > 0.5)).all(axis=1).mean())


def check(n_bytes: int, agreement: float, n_windows: int) -> None:
    """Raise ExportError if the model must not be shipped.

    Args:
        n_bytes: size of the file.
        agreement: share of windows on which int8 and Keras say the same labels.
        n_windows: of how many.
    """
    if n_bytes > LARGEST_MODEL_BYTES:
        raise ExportError(f"the model has {n_bytes} bytes, expected at most {LARGEST_MODEL_BYTES}")
    if agreement < LOWEST_AGREEMENT:
        raise ExportError(
            f"int8 agrees with Keras on {100 * agreement:.1f} % of {n_windows} windows, expected at least "
            f"{100 * LOWEST_AGREEMENT:.0f} %; use a larger or more varied representative set"
        )


def golden_windows(features: FeatureConfig, seed: int = 11) -> Float32:
    """Return windows of synthetic sound that prove a runtime: saws, engines, rain, forest, silence; (32, …).

    Synthetic, so that nothing of the recordings travels with the model.
    """
    rng = np.random.default_rng(seed)
    seconds = features.window_samples / features.sample_rate
    sounds: list[Float32] = []
    for snr_db in (20.0, 12.0, 6.0, 0.0):
        for make in (
            lambda: synth.chainsaw(seconds, rng, synth.random_saw(rng)),
            lambda: synth.chainsaw(seconds, rng),
            lambda: synth.engine(seconds, rng, synth.random_engine(rng)),
            lambda: synth.engine(seconds, rng),
            lambda: synth.rain(seconds, rng),
        ):
            forest, event = synth.forest(seconds, rng), make()
            gain_db = rms_dbfs(forest) + snr_db - rms_dbfs(event)
            sounds.append((forest + event * np.float32(10 ** (gain_db / 20))).clip(-1, 1))
    sounds += [synth.forest(seconds, rng) for _ in range(6)]
    sounds += [synth.insects(seconds, rng), synth.birds(seconds, rng), synth.wind(seconds, rng)]
    sounds.append(np.zeros(features.window_samples, np.float32))
    sounds.append((rng.standard_normal(features.window_samples) * 1e-3).astype(np.float32))
    sounds.append(np.where(np.arange(features.window_samples) < 24_000, sounds[0], 0).astype(np.float32))
    return np.stack([window_features(log_mel(sound, features)) for sound in sounds])


def versions() -> dict[str, str]:
    """Return the versions of what made the model."""
    names: Sequence[str] = ("keras", "tensorflow-cpu", "tensorflow", "numpy", "ai-edge-litert")
    found: dict[str, str] = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _scores(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1 / (1 + np.exp(-logits))
