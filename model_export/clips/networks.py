"""The networks of the clip recipes: a body, a head, and where the body's weights come from.

All take one channel, as the agent has it: for a picture of three equal colours, summed kernels are the same function.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from agent.features import Float32
from model_export import network, pretrained
from model_export.clips.pictures import columns
from model_export.clips.recipe import CALL_CNN, INCEPTION, MOBILENET, SMALL_CNN, ClipRecipe
from model_export.network import KerasModel
from model_export.recipe import NetworkConfig as MixtureNetwork

log = logging.getLogger(__name__)

IMAGENET, RANDOM, SCRATCH = "ImageNet", "random: InceptionV3's ImageNet weights could not be downloaded", "none"


@dataclass(frozen=True, slots=True)
class Net:
    """A network in its two halves, which share their layers with the whole."""

    whole: KerasModel
    """Pictures (n, n_frames, n_columns, 1) to logits (n, n_labels)."""
    body: KerasModel
    """Pictures to what the head sees, (n, n_features)."""
    head: KerasModel
    """What the body gives to logits."""


def build(recipe: ClipRecipe) -> Net:
    """Return the untrained network of a recipe."""
    config = recipe.network
    inputs = keras.Input((recipe.features.n_frames, columns(recipe), 1))
    layer: Any = keras.layers.Resizing(*config.size)(inputs) if config.size[0] else inputs
    layer = _body(recipe, layer)
    layer = keras.layers.Flatten()(layer) if config.flatten else keras.layers.GlobalAveragePooling2D()(layer)
    body = keras.Model(inputs, layer, name="body")
    parts: list[Any] = []
    for units in config.dense:
        parts += [keras.layers.Dropout(config.dropout), keras.layers.Dense(units, activation="relu")]
    parts += [keras.layers.Dropout(config.dropout), keras.layers.Dense(len(recipe.labels), name="logits")]
    between = keras.Input(body.output.shape[1:])
    head = keras.Model(between, _through(parts, between), name="head")
    return Net(keras.Model(inputs, _through(parts, body.output), name="clips"), body, head)


def _through(parts: list[Any], layer: Any) -> Any:  # noqa: ANN401  # Keras has no types
    for part in parts:
        layer = part(layer)
    return layer


def _body(recipe: ClipRecipe, layer: Any) -> Any:  # noqa: ANN401
    config = recipe.network
    if config.kind == MOBILENET:
        body = keras.applications.MobileNetV2(input_tensor=layer, include_top=False, weights=None)
        for norm in network.batch_norms(body):
            norm.momentum = 0.95
        return body.output
    if config.kind == INCEPTION:
        return keras.applications.InceptionV3(input_tensor=layer, include_top=False, weights=None).output
    blocks = {SMALL_CNN: (16, 32, 64, 96), CALL_CNN: (16, 32)}[config.kind]
    for n_filters in blocks:
        layer = keras.layers.Conv2D(n_filters, 3, padding="same", use_bias=False)(layer)
        layer = keras.layers.BatchNormalization(momentum=0.9)(layer)
        layer = keras.layers.MaxPooling2D()(keras.layers.ReLU()(layer))
        if config.kind == SMALL_CNN and config.dropout:
            layer = keras.layers.Dropout(config.dropout / 2)(layer)
    return layer


def begin(net: Net, recipe: ClipRecipe, weights: Sequence[Path], pictures: Float32) -> str:
    """Give the body its weights and return where they are from.

    Args:
        net: as built.
        recipe: of it.
        weights: folded ImageNet weights of MobileNetV2, or nothing for Keras' own download.
        pictures: some that teach, shape (n, n_frames, n_columns).

    Raises:
        ConfigError: the weights are not those of this network, or could not be downloaded.
    """
    kind = recipe.network.kind
    if kind == MOBILENET:
        pretrained.load(net.body, MixtureNetwork(), weights)
        if not recipe.network.frozen:
            network.start_from(net.body, pictures[:256, ..., None])
        return IMAGENET
    if kind != INCEPTION:
        return SCRATCH
    try:
        _load_inception(net.body)
    except Exception as error:  # noqa: BLE001  # Keras raises this very class where a download fails
        log.warning("InceptionV3 keeps random weights: %s", " ".join(str(error).split())[:200])
        # of random kernels nothing but noise comes out unless each layer is brought to scale by what it sees
        network.measure_norms(net.body, [pictures[start : start + 32, ..., None] for start in range(0, 128, 32)])
        return RANDOM
    return IMAGENET


def _load_inception(body: KerasModel) -> None:
    source = keras.applications.InceptionV3(include_top=False, weights="imagenet", input_shape=(299, 299, 3))
    pairs = zip(network.convolutions(source), network.convolutions(body), strict=True)
    for number, (given, own) in enumerate(pairs):
        kernel = given.get_weights()[0]
        own.kernel.assign(kernel.sum(axis=2, keepdims=True) * pretrained.FEATURE_SCALE if number == 0 else kernel)
    for given, own in zip(network.batch_norms(source), network.batch_norms(body), strict=True):
        own.set_weights(given.get_weights())


def through(model: KerasModel, inputs: Float32, batch: int = 32, label: str = "") -> Float32:
    """Return a model's outputs for many inputs, shape (n, ...); with a label there is a progress bar."""
    from tqdm import tqdm

    firsts = range(0, len(inputs), batch)
    chunks = [
        np.asarray(model.predict_on_batch(inputs[first : first + batch]), np.float32)
        for first in tqdm(firsts, desc=label or None, unit="batch", disable=not label, mininterval=2)
    ]
    return np.concatenate(chunks)
