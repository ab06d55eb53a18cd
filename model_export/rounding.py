"""Weights put on the grid of int8 before the converter does it, so that what rounding shifts can be put back.

Rounding a depthwise kernel of nine weights moves its output a little, always to the same side; the next layer is then
fed what it never saw, and after fifty layers a logit is off by a quarter. Here each layer is rounded in its turn, and
the mean and the spread of its output are brought back to what they were (bias correction of Nagel et al. 2019, with
real windows instead of statistics). The converter then finds weights that lie on its grid already.
"""

from collections.abc import Sequence
from typing import Any, Final

import keras
import numpy as np
from numpy.typing import NDArray

from agent.features import Float32
from model_export import network

Float64 = NDArray[np.float64]

_STEPS: Final = 127
_LEAST_SPREAD: Final = 1e-3
"""Below this a channel says nothing, and its spread is not brought back."""


def rounded(model: network.KerasModel, windows: Float32) -> network.KerasModel:
    """Return the same network with the kernels of its convolutions on the int8 grid, one step a channel.

    Args:
        model: convolutions that are each followed by a batch norm; one without is returned as it is.
        windows: representative ones, shape (n, n_frames, n_mels); a hundred are enough.
    """
    if not network.batch_norms(model):
        return model
    # without what it was compiled with: a loss of our own cannot be copied, and need not be
    copy = keras.models.clone_model(keras.Model(model.input, model.output, name=model.name))
    copy.set_weights(model.get_weights())
    inputs = windows[..., None]
    wanted = _statistics(model, network.batch_norms(model), inputs)
    pairs = zip(network.convolutions(copy), network.batch_norms(copy), strict=True)
    for (convolution, norm), (mean, spread) in zip(pairs, wanted, strict=True):
        kernel, *rest = convolution.get_weights()
        convolution.set_weights([_on_grid(kernel, convolution), *rest])
        ((found_mean, found_spread),) = _statistics(copy, [norm], inputs)
        gamma, beta, moving_mean, moving_variance = norm.get_weights()
        speaks = (found_spread > _LEAST_SPREAD) & (spread > _LEAST_SPREAD)
        factor = np.where(speaks, spread / np.maximum(found_spread, _LEAST_SPREAD), 1.0)
        # the norm's output is beta plus something: that something is scaled, and the mean put where it was
        new_beta = mean - (found_mean - beta) * factor
        norm.set_weights([gamma * factor.astype(np.float32), new_beta.astype(np.float32), moving_mean, moving_variance])
    return copy


def _on_grid(kernel: Float32, convolution: object) -> Float32:
    """Return a kernel rounded as the converter rounds it: symmetric, 127 steps up to each channel's largest weight."""
    # channels come last; a depthwise kernel has them in the third place
    axes = (0, 1, 3) if isinstance(convolution, keras.layers.DepthwiseConv2D) else (0, 1, 2)
    step = np.abs(kernel).max(axis=axes, keepdims=True) / _STEPS
    step = np.where(step > 0, step, 1.0).astype(np.float32)
    on_grid: Float32 = (np.rint(kernel / step) * step).astype(np.float32)
    return on_grid


def _statistics(model: network.KerasModel, layers: Sequence[Any], inputs: Float32) -> list[tuple[Float64, Float64]]:
    """Return mean and spread of each layer's output by channel."""
    outputs = keras.Model(model.input, {layer.name: layer.output for layer in layers})(inputs, training=False)
    arrays = [keras.ops.convert_to_numpy(outputs[layer.name]).astype(np.float64) for layer in layers]
    return [(array.mean(axis=(0, 1, 2)), array.std(axis=(0, 1, 2))) for array in arrays]
