"""Makes tiny.tflite and tiny.json: a model of a few kilobytes that tests can reason about.

Its weights are set by hand: *chainsaw* is a tone of 1 kHz, *engine* one of 3 kHz, *storm* a rumble below 200 Hz, each
over noise. Run it once (`python tests/golden/make_tiny.py`, needs TensorFlow); tests read what it wrote.
"""

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

from agent.classify import load_classifier  # noqa: E402  # the line above finds it
from agent.decide import LabelRule  # noqa: E402  # as above
from agent.features import FeatureConfig, mel_centres_hz, window_features  # noqa: E402  # as above
from agent.gate import GateConfig  # noqa: E402  # as above
from agent.manifest import Manifest, Quantisation  # noqa: E402  # as above

LABELS = ("chainsaw", "engine", "storm")
TONES_HZ = (1_000.0, 3_000.0, 120.0)
FEATURES = FeatureConfig()

Float32 = NDArray[np.float32]


def band_weights(tone_hz: float) -> Float32:
    """Return a bump over the mel bands around a tone, shape (n_mels,), of sum 1."""
    nearest = int(np.abs(mel_centres_hz(FEATURES) - tone_hz).argmin())
    bump = np.exp(-np.square((np.arange(FEATURES.n_mels) - nearest) / 1.2))
    weights: Float32 = (bump / bump.sum()).astype(np.float32)
    return weights


def network() -> keras.Model:
    """Return the network: how far each tone stands out, frame by frame, averaged over the window."""
    window = keras.Input((FEATURES.n_frames, FEATURES.n_mels, 1), batch_size=1)
    bands = keras.layers.Conv2D(3, (1, FEATURES.n_mels), activation="relu")
    share = keras.layers.GlobalAveragePooling2D()
    logits = keras.layers.Dense(3)
    model = keras.Model(window, logits(share(bands(window))))
    kernel = np.stack([band_weights(tone_hz) for tone_hz in TONES_HZ], axis=1)  # (n_mels, 3)
    bands.set_weights([kernel[None, :, None, :], np.full(3, -2.5, np.float32)])
    logits.set_weights([3.0 * np.eye(3, dtype=np.float32), np.full(3, -3.4, np.float32)])
    return model


def patterns(count: int, rng: np.random.Generator) -> Iterator[Float32]:
    """Yield windows of log-mel: coarse noise, and in most of them tones for a part of the time."""
    for number in range(count):
        coarse = rng.integers(-1, 2, (FEATURES.n_frames // 2, FEATURES.n_mels // 8))
        frames: Float32 = np.kron(coarse, np.ones((2, 8))).astype(np.float32) - np.float32(11.0)
        for kind, tone_hz in enumerate(TONES_HZ):
            if number % 4 == kind:
                long = int(rng.integers(20, FEATURES.n_frames))
                frames[:long] += np.float32(rng.integers(3, 12)) * (band_weights(tone_hz) > 0.1)
        yield window_features(frames)


def main() -> None:
    """Write both files and prove them."""
    model = network()
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    converter.representative_dataset = lambda: (
        [frames[None, :, :, None]] for frames in patterns(64, np.random.default_rng(1))
    )
    content: bytes = converter.convert()
    interpreter = tf.lite.Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    (given,), (answered,) = interpreter.get_input_details(), interpreter.get_output_details()
    scale, zero_point = given["quantization"]
    input_bytes = Quantisation(scale=float(scale), zero_point=int(zero_point))
    scale, zero_point = answered["quantization"]
    inputs = np.stack([input_bytes.to_bytes(frames) for frames in patterns(16, np.random.default_rng(2))])
    outputs = []
    for window in inputs:
        interpreter.set_tensor(given["index"], window[None, :, :, None])
        interpreter.invoke()
        outputs.append(interpreter.get_tensor(answered["index"])[0].copy())
    manifest = Manifest(
        name="tiny",
        labels=LABELS,
        activation="sigmoid",
        features=FEATURES,
        input=input_bytes,
        output=Quantisation(scale=float(scale), zero_point=int(zero_point)),
        model_sha256=hashlib.sha256(content).hexdigest(),
        stride_s=1.5,
        rules={label: LabelRule(alert=label != "storm") for label in LABELS},
        gate=GateConfig(),
        golden_inputs=inputs,
        golden_outputs=np.stack(outputs),
        metrics={},
        data_digest="",
        recipe={},
        versions={"tensorflow": tf.__version__},
        licence="Apache-2.0",
    )
    load_classifier(manifest, content)
    (HERE / "tiny.tflite").write_bytes(content)
    (HERE / "tiny.json").write_text(manifest.to_json(), encoding="utf-8")


if __name__ == "__main__":
    main()
