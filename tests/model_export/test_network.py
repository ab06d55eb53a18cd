"""The network as it is exported: the same function, without what rounds one way here and another there."""

from typing import Any

import numpy as np
import pytest

pytest.importorskip("tensorflow")

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def _lively(model: Any) -> Any:
    """Fresh norms let so little through that every window would get one answer."""
    from model_export import network

    rng = np.random.default_rng(4)
    network.start_from(model, rng.standard_normal((16, *model.input.shape[1:])).astype(np.float32))
    for norm in network.batch_norms(model):
        gamma, beta, mean, variance = norm.get_weights()
        norm.set_weights([gamma, beta + rng.normal(0, 0.5, beta.shape), mean, variance])
    return model


def _wide(*, keepdims: bool) -> Any:
    """The end of MobileNetV1 as it hears six seconds: a map of 6 x 2 x 1024."""
    import keras

    keras.utils.set_random_seed(5)
    sound = keras.Input((190, 64, 1))
    layer = sound
    for n_filters, kernel, stride in ((8, 33, 32), (1024, 1, 1)):
        layer = keras.layers.Conv2D(n_filters, kernel, stride, padding="same", use_bias=False)(layer)
        layer = keras.layers.ReLU(6.0)(keras.layers.BatchNormalization()(layer))
    assert layer.shape[1:] == (6, 2, 1024)
    pooled = keras.layers.GlobalAveragePooling2D(keepdims=keepdims)(layer)
    return _lively(keras.Model(sound, keras.layers.Dense(3)(keras.layers.Flatten()(pooled))))


def _v2() -> Any:
    import keras

    from agent.features import FeatureConfig
    from model_export import network
    from model_export.recipe import NetworkConfig

    keras.utils.set_random_seed(5)
    return _lively(network.build(NetworkConfig(alpha=0.35, dropout=0.0), FeatureConfig(), 3))


def _nested() -> Any:
    """A network inside a network, as the clip classifiers are exported."""
    import keras

    inner = _v2()
    return keras.Model(inner.input, keras.layers.Softmax()(inner(inner.input, training=False)))


def _pair(n_frames: int = 190) -> Any:
    """Two networks side by side; the map of the finer one has 48 places, more than a kernel of XNNPACK takes."""
    import keras

    from agent.features import FeatureConfig
    from model_export import network
    from model_export.recipe import PAIR, NetworkConfig

    keras.utils.set_random_seed(5)
    config = NetworkConfig(kind=PAIR, alpha=0.35, dropout=0.0)
    return _lively(network.build(config, FeatureConfig(hop=250, n_frames=n_frames), 3))


@pytest.mark.parametrize(
    "make",
    [_nested, lambda: _wide(keepdims=False), lambda: _wide(keepdims=True), _pair],
    ids=["nested", "wide", "kept", "pair"],
)
def test_the_mean_is_a_convolution_on_the_phone_and_the_function_is_the_same(make: Any) -> None:
    from model_export import export, network

    model = make()
    windows = np.random.default_rng(6).standard_normal((8, *model.input.shape[1:3])).astype(np.float32)
    wanted = network.logits_of(model, windows)
    np.testing.assert_allclose(network.logits_of(network.mean_by_convolution(model), windows), wanted, atol=1e-4)
    small = export.Int8Model.load(export.convert(model, windows))
    operators = [detail["op_name"] for detail in small._interpreter._get_ops_details()]
    assert "MEAN" not in operators
    assert operators.count("DELEGATE") == 1  # XNNPACK runs all of it, the mean too
    assert np.ptp(wanted) > 0
    assert np.abs(small.logits(windows) - wanted).max() < 0.35 * max(1.0, np.abs(wanted).max())


def test_a_mean_of_many_places_is_taken_in_two_steps() -> None:
    """One depthwise kernel of 48 taps takes as long as all the rest of the network: XNNPACK has none so large."""
    from model_export import export

    model = _pair()
    windows = np.random.default_rng(6).standard_normal((4, *model.input.shape[1:3])).astype(np.float32)
    interpreter = export.Int8Model.load(export.convert(model, windows))._interpreter
    shapes = {detail["index"]: tuple(detail["shape"]) for detail in interpreter.get_tensor_details()}
    taps = [
        shapes[operator["inputs"][1]][1] * shapes[operator["inputs"][1]][2]
        for operator in interpreter._get_ops_details()
        if operator["op_name"] == "DEPTHWISE_CONV_2D"
    ]
    assert max(taps) == 24
    assert 2 in taps


def test_each_network_of_a_pair_is_trained_as_if_it_were_alone_and_the_pair_says_their_mean() -> None:
    import keras

    from model_export import network

    model = _pair(94)
    trained = network.for_training(model, 5)
    windows = np.random.default_rng(8).standard_normal((6, 94, 64, 1)).astype(np.float32)
    answers = keras.ops.convert_to_numpy(trained(windows)).reshape(6, 2, 8)
    np.testing.assert_allclose(answers[:, :, :3].mean(axis=1), model(windows), atol=1e-5)

    last = network.batch_norms(network.branch(model, "audio"))[-1]
    last.beta.assign(last.beta + 1.0)
    other = keras.ops.convert_to_numpy(trained(windows)).reshape(6, 2, 8)
    np.testing.assert_allclose(other[:, 1], answers[:, 1], atol=1e-6)
    assert np.abs(other[:, 0] - answers[:, 0]).max() > 1e-2


def test_the_quick_norm_trains_as_keras_own() -> None:
    import keras
    import tensorflow as tf

    from model_export.network import QuickNorm

    rng = np.random.default_rng(3)
    maps, pull = (rng.normal(2, 3, (16, 12, 5, 7)).astype(np.float32) for _ in range(2))
    found = []
    for kind in (QuickNorm, keras.layers.BatchNormalization):
        norm = kind(momentum=0.9, epsilon=1e-3)
        norm.build(maps.shape)
        norm.set_weights([np.arange(1, 8), np.arange(7), np.ones(7), np.full(7, 2.0)])
        inputs = tf.Variable(maps)
        with tf.GradientTape() as tape:
            outputs = norm(inputs, training=True)
            loss = tf.reduce_sum(outputs * pull)
        found.append([outputs, *tape.gradient(loss, [inputs, norm.gamma, norm.beta]), *norm.get_weights()])
        found[-1].append(norm(maps, training=False))
    for ours, keras_own in zip(*found, strict=True):
        # the average of the variance is of n - 1
        np.testing.assert_allclose(ours, keras_own, rtol=2e-3, atol=2e-3)
