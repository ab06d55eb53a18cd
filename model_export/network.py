"""The network: MobileNetV2 on one channel of log-mel, from ImageNet weights, with a logit for each label.

Batch normalisation asks for care twice. Folded weights come without statistics, and training from them would start
as another function: each layer is first given what it sees on real spectrograms. And the moving averages of a short
training are stale: before export they are measured anew with the final weights.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import keras
import numpy as np

from agent.errors import ConfigError
from agent.features import FeatureConfig, Float32
from model_export.recipe import MOBILENET, NetworkConfig

KerasModel: TypeAlias = Any
"""Keras brings no types; this says at least what is meant."""

FEATURE_SCALE = 0.25
"""Folded into the first kernel: log-mel of about ±8 onto the ±2 for which the pre-trained kernels were made."""


def build(network: NetworkConfig, features: FeatureConfig, n_labels: int) -> KerasModel:
    """Return the untrained network, input (n_frames, n_mels, 1), output n_labels logits."""
    if network.kind != MOBILENET:
        return _small_cnn(network, features, n_labels)
    base = keras.applications.MobileNetV2(
        input_shape=(features.n_frames, features.n_mels, 1),
        alpha=network.alpha,
        include_top=False,
        weights=None,
        pooling="avg",
    )
    pooled = keras.layers.Dropout(network.dropout)(base.output)
    model = keras.Model(base.input, keras.layers.Dense(n_labels, name="logits")(pooled), name="curupira")
    for layer in batch_norms(model):
        layer.momentum = network.batch_norm_momentum
    return model


def _small_cnn(network: NetworkConfig, features: FeatureConfig, n_labels: int) -> KerasModel:
    """Return the network that tutorials build: convolution and pooling three times, then two dense layers."""
    layer: Any = keras.Input((features.n_frames, features.n_mels, 1))
    first = layer
    for n_filters in (16, 32, 64):
        layer = keras.layers.Conv2D(n_filters, 3, padding="same", activation="relu")(layer)
        layer = keras.layers.MaxPooling2D()(layer)
    layer = keras.layers.Dense(64, activation="relu")(keras.layers.Flatten()(layer))
    layer = keras.layers.Dropout(network.dropout)(layer)
    return keras.Model(first, keras.layers.Dense(n_labels, name="logits")(layer), name="curupira")


def with_kinds(model: KerasModel, n_kinds: int) -> KerasModel:
    """Return a model of the same layers that answers with logits and, behind them, a logit for each class of sound.

    The second head lives in training alone: what is exported is the model that was given.
    """
    if n_kinds == 0:
        return model
    pooled = model.get_layer("logits").input
    # most classes are absent from most windows: starting there spares the first hundred steps
    rare = keras.initializers.Constant(-3.5)
    kinds = keras.layers.Dense(n_kinds, name="kinds", bias_initializer=rare)(pooled)
    return keras.Model(model.input, keras.layers.Concatenate()([model.output, kinds]), name="curupira_training")


class MapMean(keras.layers.Layer):  # type: ignore[misc]  # Keras brings no types
    """The mean over a whole map as a depthwise convolution, (n, height, width, channels) to (n, channels)."""

    def __init__(self, *, keepdims: bool, name: str) -> None:
        """Make it like the pooling of this name; with keepdims the map stays, one by one."""
        super().__init__(name=name)
        self._keepdims = keepdims

    def call(self, maps: KerasModel) -> KerasModel:
        """Return the mean of each channel."""
        _, height, width, channels = maps.shape
        kernel = np.full((height, width, channels, 1), 1 / (height * width), np.float32)
        means = keras.ops.depthwise_conv(maps, kernel, padding="valid")
        return means if self._keepdims else keras.ops.reshape(means, (-1, channels))


def mean_by_convolution(model: KerasModel) -> KerasModel:
    """Return the same function without TFLite's MEAN, for export: same weights, but none of them shared.

    XNNPACK rounds an int8 MEAN one way on x86-64 and another on arm64; its convolutions are alike to the bit.
    """
    copy = keras.models.clone_model(
        keras.Model(model.input, model.output, name=model.name), clone_function=_without_mean, recursive=True
    )
    copy.set_weights(model.get_weights())
    return copy


def _without_mean(layer: KerasModel) -> KerasModel:
    if isinstance(layer, keras.layers.GlobalAveragePooling2D):
        return MapMean(keepdims=layer.keepdims, name=layer.name)
    return type(layer).from_config(layer.get_config())


def batch_norms(model: KerasModel) -> list[Any]:
    """Return the batch-norm layers in order."""
    return [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]


def convolutions(model: KerasModel) -> list[Any]:
    """Return the convolutions in order, depthwise ones included."""
    kinds = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)
    return [layer for layer in model.layers if isinstance(layer, kinds)]


def load_imagenet(model: KerasModel, weights: Path | None, network: NetworkConfig) -> None:
    """Give the network ImageNet weights: from a file of folded layers, else Keras' own download.

    Raises:
        ConfigError: the file is not what is expected, or the download failed.
    """
    pairs = _folded(weights) if weights else _downloaded(network)
    layers = list(zip(convolutions(model), batch_norms(model), strict=True))
    if len(pairs) != len(layers):
        raise ConfigError(f"{weights}: holds {len(pairs)} layers, expected {len(layers)} of MobileNetV2")
    for number, ((convolution, norm), (kernel, bias)) in enumerate(zip(layers, pairs, strict=True)):
        if number == 0:
            # the three colours of a grey picture are equal: one channel with their sum is the same function
            kernel = kernel.sum(axis=2, keepdims=True) * FEATURE_SCALE  # noqa: PLW2901  # the same thing, adapted
        if kernel.shape != convolution.kernel.shape:
            raise ConfigError(
                f"{weights}: layer {number} has shape {kernel.shape}, expected {tuple(convolution.kernel.shape)}; "
                "the weights are of MobileNetV2 with alpha 1.0"
            )
        convolution.kernel.assign(kernel)
        ones = np.ones(bias.shape, np.float32)
        norm.set_weights([ones, bias, 0 * ones, ones - norm.epsilon])


def _folded(path: Path) -> list[tuple[Float32, Float32]]:
    try:
        with np.load(path) as file:
            kernels = sorted(name for name in file.files if name.endswith("_kernel"))
            return [(file[name], file[f"{name[:2]}_bias"]) for name in kernels]
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(f"{path}: is no file of folded MobileNetV2 weights: {error}") from error


def _downloaded(network: NetworkConfig) -> list[tuple[Float32, Float32]]:
    try:
        source = keras.applications.MobileNetV2(
            input_shape=(224, 224, 3), alpha=network.alpha, include_top=False, weights="imagenet"
        )
    except Exception as error:  # Keras raises this very class where a download fails
        raise ConfigError(
            f"ImageNet weights for alpha {network.alpha:g} cannot be downloaded ({error}); give --weights FILE"
        ) from error
    pairs: list[tuple[Float32, Float32]] = []
    for convolution, norm in zip(convolutions(source), batch_norms(source), strict=True):
        gamma, beta, mean, variance = norm.get_weights()
        factor = gamma / np.sqrt(variance + norm.epsilon)
        kernel = convolution.get_weights()[0]
        # a depthwise kernel has its channels in the third place
        shaped = factor[:, None] if isinstance(convolution, keras.layers.DepthwiseConv2D) else factor
        pairs.append((kernel * shaped, beta - mean * factor))
    return pairs


def start_from(model: KerasModel, batch: Float32) -> None:
    """Set each batch norm to what it sees, so that training starts as the function that the weights are.

    Args:
        model: with folded weights: gamma 1, beta bias, mean 0, variance 1 - epsilon.
        batch: real spectrograms, shape (n, n_frames, n_mels, 1).
    """
    values: Any = {}
    current = batch
    # one pass, layer by layer: what a later norm sees does not depend on how an earlier one is written
    norms = batch_norms(model)
    seen = keras.Model(model.input, [norm.input for norm in norms])(current, training=False)
    for norm, value in zip(norms, seen, strict=True):
        array = keras.ops.convert_to_numpy(value).astype(np.float64)
        mean, variance = array.mean(axis=(0, 1, 2)), array.var(axis=(0, 1, 2))
        bias = norm.get_weights()[1]
        # a channel that never moves keeps a variance it can divide by
        spread = np.sqrt(variance + norm.epsilon)
        values[norm.name] = [spread, bias + mean, mean, variance]
    for norm in norms:
        norm.set_weights([np.asarray(value, np.float32) for value in values[norm.name]])


def measure_norms(model: KerasModel, batches: Iterable[Float32]) -> None:
    """Measure every batch norm's statistics anew, as the plain mean over batches."""
    norms = batch_norms(model)
    kept = [norm.momentum for norm in norms]
    for number, batch in enumerate(batches):
        for norm in norms:
            norm.momentum = number / (number + 1)
        model(batch, training=True)
    for norm, momentum in zip(norms, kept, strict=True):
        norm.momentum = momentum


def logits_of(model: KerasModel, windows: Float32, batch: int = 256) -> Float32:
    """Return the logits of windows, shape (n, n_labels)."""
    chunks: Sequence[Float32] = [
        keras.ops.convert_to_numpy(model(windows[start : start + batch, ..., None], training=False))
        for start in range(0, len(windows), batch)
    ]
    return np.concatenate(chunks)
