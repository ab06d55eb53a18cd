"""The network: MobileNet or MobileNetV2 on one channel of log-mel, with a logit for each label.

Batch normalisation asks for care twice. Pre-trained weights (`pretrained`) come without statistics, and training from
them would start as another function: each layer is first given what it sees on real spectrograms. And the moving
averages of a short training are stale: before export they are measured anew with the final weights.
"""

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import keras
import numpy as np

from agent.features import FeatureConfig, Float32
from model_export.recipe import MOBILENET, MOBILENET_V1, NetworkConfig

Tensor: TypeAlias = Any
KerasModel: TypeAlias = Any
"""Keras brings no types; this says at least what is meant."""

_BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2))
"""Filters and strides of MobileNet's blocks, all but the last."""


def build(network: NetworkConfig, features: FeatureConfig, n_labels: int) -> KerasModel:
    """Return the untrained network, input (n_frames, n_mels, 1), output n_labels logits."""
    if network.kind == MOBILENET_V1:
        return _mobilenet_v1(network, features, n_labels)
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


def _mobilenet_v1(network: NetworkConfig, features: FeatureConfig, n_labels: int) -> KerasModel:
    """Return MobileNet without its last block, which alone would weigh a third of what a device may carry."""
    first = keras.Input((features.n_frames, features.n_mels, 1))
    n_first = round(32 * network.alpha)
    layer: Any = _normed(keras.layers.Conv2D(n_first, 3, strides=2, padding="same", use_bias=False)(first))
    for n_filters, strides in _BLOCKS:
        depthwise = keras.layers.DepthwiseConv2D(3, strides=strides, padding="same", use_bias=False)
        layer = _normed(depthwise(layer))
        layer = _normed(keras.layers.Conv2D(round(n_filters * network.alpha), 1, use_bias=False)(layer))
    pooled = keras.layers.Dropout(network.dropout)(keras.layers.GlobalAveragePooling2D()(layer))
    model = keras.Model(first, keras.layers.Dense(n_labels, name="logits")(pooled), name="curupira")
    for norm in batch_norms(model):
        norm.momentum = network.batch_norm_momentum
    return model


def _normed(layer: Tensor) -> Tensor:
    return keras.layers.ReLU()(keras.layers.BatchNormalization(epsilon=1e-3)(layer))


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
