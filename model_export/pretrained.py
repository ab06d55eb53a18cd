"""What networks begin with: ImageNet's weights for MobileNetV2, AudioSet's (those of YAMNet) for MobileNet.

Either file holds convolutions with their batch norms folded in. The first kernel is adapted to log-mel as
`agent.features` has it; all others are taken as they are.
"""

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from agent.errors import ConfigError
from agent.features import Float32
from model_export.network import BRANCHES, KerasModel, batch_norms, branch, convolutions
from model_export.recipe import MOBILENET, MOBILENET_V1, PAIR, NetworkConfig

log = logging.getLogger(__name__)

FEATURE_SCALE = 0.25
"""Folded into MobileNetV2's first kernel: log-mel of about ±8 onto the ±2 for which the kernels were made."""
YAMNET_SCALE, YAMNET_MEAN = 0.5, -2.5
"""YAMNet saw the logarithm of magnitudes, half of that of power, with its mean left in: about this much in speech and
music at the usual levels."""

YAMNET_FILE = Path("var/data/yamnet/1.tflite")
"""Where `data get yamnet` puts YAMNet, from where it is called."""

_LAYER = re.compile(r"/layer(\d+)/(conv|depthwise_conv|pointwise_conv)/")
SOURCES = {MOBILENET: (MOBILENET,), MOBILENET_V1: (MOBILENET_V1,), PAIR: (MOBILENET_V1, MOBILENET)}
"""What each kind of network begins as, branch by branch."""
_CALLED = {MOBILENET: "MobileNetV2 with alpha 1.0", MOBILENET_V1: "YAMNet"}

Layers = Sequence[tuple[Float32, Float32]]
"""(kernel, bias) of each convolution in order, in Keras' order of axes."""


def starts_from_weights(network: NetworkConfig) -> bool:
    """Say whether a network begins with the weights of another; others begin at random."""
    return network.kind in SOURCES and network.alpha == 1.0


def load(model: KerasModel, network: NetworkConfig, weights: Sequence[Path]) -> tuple[str, ...]:
    """Give a network the weights that it begins with, and return whose they are.

    Args:
        model: as `network.build` made it.
        network: its description.
        weights: folded ImageNet weights (.npz), YAMNet's .tflite, or for a pair both; without the former, Keras' own
            download, and without the latter, what `data get yamnet` fetched.

    Raises:
        ConfigError: a file is not what is expected, or there are two for one; or none was given and none can be had.
    """
    sources = SOURCES[network.kind]
    files = _sorted_out(weights, sources)
    branches = [model] if len(sources) == 1 else [branch(model, name) for name in BRANCHES]
    for source, part in zip(sources, branches, strict=True):
        path = files.get(source)
        if source == MOBILENET_V1:
            path = path or YAMNET_FILE
            layers = _with_first(_yamnet(path), lambda kernel: kernel * YAMNET_SCALE, YAMNET_MEAN)
        else:
            layers = _on_log_mel(_folded(path) if path else _downloaded(network), part)
        _assign(part, layers, f"{path}: ", _CALLED[source])
    return sources


def _sorted_out(weights: Sequence[Path], sources: Sequence[str]) -> dict[str, Path]:
    """Return the file of each source: one alone is whose it must be, several are told apart by their suffix."""
    if len(sources) == 1 and len(weights) == 1:
        return {sources[0]: weights[0]}
    files: dict[str, Path] = {}
    for path in weights:
        source = MOBILENET_V1 if path.suffix == ".tflite" else MOBILENET
        if source in files:
            raise ConfigError(f"{path}: is a second file of weights of {_CALLED[source]}, beside {files[source]}")
        files[source] = path
        if source not in sources:
            log.info("%s: is not needed: this network does not begin as %s", path, _CALLED[source])
    return files


def _with_first(layers: Layers, adapt: Callable[[Float32], Float32], mean: float) -> Layers:
    """Return the layers with the first one's kernel adapted; `mean` was in its input and is not any more."""
    (kernel, bias), *rest = layers
    return [(adapt(kernel), bias + mean * kernel.sum(axis=(0, 1, 2))), *rest]


def _on_log_mel(layers: Layers, model: KerasModel) -> Layers:
    """Return ImageNet's layers for pictures of one colour, whose frames may be taken two by two."""
    frames = int(convolutions(model)[0].kernel.shape[0]) // layers[0][0].shape[0]

    def adapt(kernel: Float32) -> Float32:
        # the three colours of a grey picture are equal: one channel with their sum is the same function, and so is a
        # kernel over twice as many frames that sees the mean of each two
        grey = np.repeat(kernel.sum(axis=2, keepdims=True), frames, axis=0)
        return np.asarray(grey * (FEATURE_SCALE / frames), np.float32)

    return _with_first(layers, adapt, 0.0)


def _assign(model: KerasModel, layers: Layers, where: str, expected: str) -> None:
    own = list(zip(convolutions(model), batch_norms(model), strict=True))
    if len(layers) < len(own):
        raise ConfigError(f"{where}holds {len(layers)} layers, expected {len(own)} of {expected}")
    # what is left over is a last block that this network does without
    for number, ((convolution, norm), (kernel, bias)) in enumerate(zip(own, layers, strict=False)):
        if kernel.shape != convolution.kernel.shape:
            raise ConfigError(
                f"{where}layer {number} has shape {kernel.shape}, expected {tuple(convolution.kernel.shape)} of "
                f"{expected}"
            )
        convolution.kernel.assign(kernel)
        ones = np.ones(bias.shape, np.float32)
        norm.set_weights([ones, bias, 0 * ones, ones - norm.epsilon])


def _folded(path: Path) -> Layers:
    try:
        with np.load(path) as file:
            kernels = sorted(name for name in file.files if name.endswith("_kernel"))
            return [(file[name], file[f"{name[:2]}_bias"]) for name in kernels]
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(f"{path}: is no file of folded MobileNetV2 weights: {error}") from error


def _downloaded(network: NetworkConfig) -> Layers:
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


def _yamnet(path: Path) -> Layers:
    from ai_edge_litert.interpreter import Interpreter

    if not path.is_file():
        raise ConfigError(
            f"this network begins with YAMNet's weights, and they were not given, nor are they at {path}; fetch them "
            "by `python -m model_export data get yamnet`, give YAMNet's .tflite by --weights, or take a recipe that "
            "begins with ImageNet's alone (docs/recipes.md)"
        )
    try:
        interpreter = Interpreter(model_path=str(path))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: is no TFLite file, expected YAMNet's: {error}") from error
    kernels: dict[str, Float32] = {}
    biases: dict[str, Float32] = {}
    for tensor in interpreter.get_tensor_details():
        layer = _LAYER.search(tensor["name"])
        shape = tuple(tensor["shape"])
        # weights of a layer; what flows between layers has the shape of a map
        if layer is None or len(shape) not in (1, 4) or (len(shape) == 4 and shape[1] not in (1, 3)):
            continue
        target = biases if len(shape) == 1 else kernels
        name = f"{int(layer[1]):02d} {layer[2]}"
        if name not in target:
            target[name] = _real(interpreter.get_tensor(tensor["index"]), tensor["quantization_parameters"])
    if not kernels or kernels.keys() != biases.keys():
        raise ConfigError(f"{path}: has no layers with YAMNet's names, expected YAMNet's .tflite")
    names = sorted(kernels)  # "depthwise" comes before "pointwise"
    return [(kernels[name].transpose(1, 2, 3, 0), biases[name]) for name in names]


def _real(values: NDArray[np.generic], quantisation: Mapping[str, Any]) -> Float32:
    """Return a tensor's real values."""
    scales = quantisation["scales"]
    if not len(scales):
        return np.asarray(values, np.float32)
    shape = [1] * values.ndim
    shape[quantisation["quantized_dimension"]] = len(scales)
    centred = values.astype(np.float32) - quantisation["zero_points"].reshape(shape).astype(np.float32)
    return np.asarray(centred * scales.reshape(shape), np.float32)
