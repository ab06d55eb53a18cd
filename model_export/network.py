"""The network: MobileNet, MobileNetV2 or both on one channel of log-mel, with a logit for each label.

Batch normalisation asks for care twice. Pre-trained weights (`pretrained`) come without statistics, and training from
them would start as another function: each layer is first given what it sees on real spectrograms. And the moving
averages of a short training are stale: before export they are measured anew with the final weights.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final, TypeAlias

import keras
import numpy as np

from agent.features import FeatureConfig, Float32
from model_export.recipe import MOBILENET, MOBILENET_V1, PAIR, NetworkConfig

Tensor: TypeAlias = Any
KerasModel: TypeAlias = Any
"""Keras brings no types; this says at least what is meant."""

_BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2))
"""Filters and strides of MobileNet's blocks, all but the last."""
_PAIR_BLOCKS = _BLOCKS[:-1]
_PAIR_END = "block_13_expand_relu"
"""Where a pair's MobileNetV2 ends: behind it lie three quarters of its weights."""
BRANCHES: Final = ("audio", "picture")
"""A pair's networks, by what they have learned before."""


def build(network: NetworkConfig, features: FeatureConfig, n_labels: int) -> KerasModel:
    """Return the untrained network, input (n_frames, n_mels, 1), output n_labels logits."""
    first = keras.Input((features.n_frames, features.n_mels, 1))
    if network.kind == MOBILENET:
        pooled = keras.layers.GlobalAveragePooling2D()(_mobilenet_v2(first, network.alpha))
    elif network.kind == MOBILENET_V1:
        pooled = keras.layers.GlobalAveragePooling2D()(_mobilenet_v1(first, network.alpha, _BLOCKS))
    elif network.kind == PAIR:
        pooled = _pair(first, network.alpha)
    else:
        return _small_cnn(network, features, n_labels)
    dropped = keras.layers.Dropout(network.dropout)(pooled)
    plain = keras.Model(first, keras.layers.Dense(n_labels, name="logits")(dropped), name="curupira")
    model = keras.models.clone_model(
        plain, clone_function=lambda layer: _of_ours(layer, two_frames=network.kind == PAIR)
    )
    for norm in batch_norms(model):
        norm.momentum = network.batch_norm_momentum
    return model


def _mobilenet_v2(first: Tensor, alpha: float, end: str = "out_relu") -> Tensor:
    """Return a layer's output of MobileNetV2, the last one's if none is named."""
    whole = keras.applications.MobileNetV2(input_tensor=first, alpha=alpha, include_top=False, weights=None)
    return whole.get_layer(end).output


def _mobilenet_v1(first: Tensor, alpha: float, blocks: Sequence[tuple[int, int]]) -> Tensor:
    """Return the output of MobileNet's first blocks; its last would alone weigh a third of what a device may carry."""
    n_first = round(32 * alpha)
    layer: Any = _normed(keras.layers.Conv2D(n_first, 3, strides=2, padding="same", use_bias=False)(first))
    for n_filters, strides in blocks:
        depthwise = keras.layers.DepthwiseConv2D(3, strides=strides, padding="same", use_bias=False)
        layer = _normed(depthwise(layer))
        layer = _normed(keras.layers.Conv2D(round(n_filters * alpha), 1, use_bias=False)(layer))
    return layer


def _pair(first: Tensor, alpha: float) -> Tensor:
    """Return what two networks say beside each other: MobileNet of every frame, MobileNetV2 of two frames as one."""
    fine = _mobilenet_v1(first, alpha, _PAIR_BLOCKS)
    coarse = _mobilenet_v2(first, alpha, _PAIR_END)
    maps = zip(BRANCHES, (fine, coarse), strict=True)
    return keras.layers.Concatenate(name="pair")(
        [keras.layers.GlobalAveragePooling2D(name=name)(branch) for name, branch in maps]
    )


def branch(model: KerasModel, name: str) -> KerasModel:
    """Return one network of a pair, up to its mean."""
    return keras.Model(model.input, model.get_layer(name).output)


def _normed(layer: Tensor) -> Tensor:
    return keras.layers.ReLU()(keras.layers.BatchNormalization(epsilon=1e-3)(layer))


class QuickNorm(keras.layers.BatchNormalization):  # type: ignore[misc]  # Keras brings no types
    """Batch normalisation that trains in one operation where TensorFlow is the backend: Keras' own takes several.

    They were nearly half of a step (docs/decisions.md).
    """

    def call(self, inputs: Tensor, training: bool | None = None, mask: Tensor = None) -> Tensor:
        """Return the normalised maps; in training by the batch's own statistics, which move the averages."""
        if not training or not self.trainable or keras.backend.backend() != "tensorflow":
            return super().call(inputs, training=training, mask=mask)
        import tensorflow as tf

        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs, scale=self.gamma, offset=self.beta, mean=[], variance=[], epsilon=self.epsilon, is_training=True
        )
        for average, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            average.assign(average * self.momentum + value * (1.0 - self.momentum))
        return outputs


def _of_ours(layer: KerasModel, *, two_frames: bool) -> KerasModel:
    """Return a layer like Keras' own, but quick in training, and in a pair with frames taken two by two."""
    config = layer.get_config()
    if two_frames and layer.name == "Conv1":
        # the same as a mean of two frames before it, with one operation and one rounding to int8 less
        (height, width), (down, across) = config["kernel_size"], config["strides"]
        config |= {"kernel_size": (2 * height, width), "strides": (2 * down, across)}
    kind = QuickNorm if isinstance(layer, keras.layers.BatchNormalization) else type(layer)
    return kind.from_config(config)


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


def for_training(model: KerasModel, n_kinds: int) -> KerasModel:
    """Return a model of the same layers that answers with logits and, behind them, a logit for each class of sound.

    The networks of a pair answer one after the other, each as if it were alone, so that neither leans on the other:
    the pair's own logits are the mean of theirs. The second head lives in training alone: what is exported is the
    model that was given.
    """
    logits = model.get_layer("logits")
    # most classes are absent from most windows: starting there spares the first hundred steps
    rare = keras.initializers.Constant(-3.5)
    kinds = keras.layers.Dense(n_kinds, name="kinds", bias_initializer=rare) if n_kinds else None
    answers: list[Tensor] = []
    for seen in _views(model):
        answers += [logits(seen)] if kinds is None else [logits(seen), kinds(seen)]
    if len(answers) == 1:
        return model
    return keras.Model(model.input, keras.layers.Concatenate()(answers), name="curupira_training")


def _views(model: KerasModel) -> list[Tensor]:
    """Return what the last layer sees of each network: all of it, or of a pair one half, twice as strong."""
    pooled = model.get_layer("logits").input
    names = {layer.name for layer in model.layers}
    if "pair" not in names:
        return [pooled]
    sizes = [model.get_layer(name).output.shape[-1] for name in BRANCHES]
    first = np.arange(sum(sizes)) < sizes[0]
    return [keras.layers.Rescaling((2.0 * half).tolist())(pooled) for half in (first, ~first)]


_MOST_TAPS: Final = 25
"""XNNPACK has kernels for depthwise convolutions up to so many taps; a larger one took as long as a whole network."""


class MapMean(keras.layers.Layer):  # type: ignore[misc]  # Keras brings no types
    """The mean over a whole map as a depthwise convolution, (n, height, width, channels) to (n, channels)."""

    def __init__(self, *, keepdims: bool, name: str) -> None:
        """Make it like the pooling of this name; with keepdims the map stays, one by one."""
        super().__init__(name=name)
        self._keepdims = keepdims

    def call(self, maps: KerasModel) -> KerasModel:
        """Return the mean of each channel."""
        _, height, width, channels = maps.shape
        part = max((n for n in range(1, height + 1) if height % n == 0 and n * width <= _MOST_TAPS), default=height)
        means = _means(_means(maps, part, width), height // part, 1)
        return means if self._keepdims else keras.ops.reshape(means, (-1, channels))


def _means(maps: Tensor, height: int, width: int) -> Tensor:
    """Return the means of pieces of so many rows and columns."""
    if height * width == 1:
        return maps
    kernel = np.full((height, width, maps.shape[-1], 1), 1 / (height * width), np.float32)
    # strides that are not square are not for every backend; as tall as wide is enough where only one column is left
    return keras.ops.depthwise_conv(maps, kernel, strides=(height, height), padding="valid")


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
