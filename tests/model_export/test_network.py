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


@pytest.mark.parametrize(
    "make", [_nested, lambda: _wide(keepdims=False), lambda: _wide(keepdims=True)], ids=["nested", "wide", "kept"]
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
