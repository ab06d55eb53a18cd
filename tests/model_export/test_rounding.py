"""Rounding to int8: weights on the grid, and layers that say on average what they said before."""

import numpy as np
import pytest

pytest.importorskip("tensorflow")

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def _network() -> tuple[object, np.ndarray]:
    import keras

    from agent.features import FeatureConfig
    from model_export import network
    from model_export.recipe import NetworkConfig

    keras.utils.set_random_seed(3)
    model = network.build(NetworkConfig(alpha=0.35, dropout=0.0), FeatureConfig(), 3)
    rng = np.random.default_rng(4)
    windows = rng.standard_normal((24, 94, 64)).astype(np.float32) * 2
    network.start_from(model, windows[..., None])
    for norm in network.batch_norms(model):
        gamma, beta, mean, variance = norm.get_weights()
        norm.set_weights([gamma, beta + rng.normal(0, 0.5, beta.shape), mean, variance])
    return model, windows


def test_weights_lie_on_the_grid_and_means_where_they_were() -> None:
    import keras

    from model_export import network, rounding

    model, windows = _network()
    before = [np.copy(one) for one in model.get_weights()]  # type: ignore[attr-defined]
    found = rounding.rounded(model, windows)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))  # type: ignore[attr-defined]
    for convolution in network.convolutions(found):
        kernel = convolution.get_weights()[0]
        axes = (0, 1, 3) if isinstance(convolution, keras.layers.DepthwiseConv2D) else (0, 1, 2)
        steps = kernel / np.maximum(np.abs(kernel).max(axis=axes, keepdims=True) / 127, 1e-30)
        np.testing.assert_allclose(steps, np.rint(steps), atol=2e-3)
    wanted = rounding._statistics(model, network.batch_norms(model), windows[..., None])
    said = rounding._statistics(found, network.batch_norms(found), windows[..., None])
    for (mean, spread), (new_mean, new_spread) in zip(wanted, said, strict=True):
        scale = max(float(spread.max()), 1e-3)
        np.testing.assert_allclose(new_mean, mean, atol=2e-3 * scale)
        np.testing.assert_allclose(new_spread, spread, atol=5e-3 * scale)


def test_a_coarse_grid_is_nearer_the_network_with_its_means_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """With 15 steps instead of 127 the error is large enough to see: putting the means back takes most of it."""
    import keras

    from model_export import network, rounding

    monkeypatch.setattr(rounding, "_STEPS", 15)
    model, windows = _network()
    wanted = network.logits_of(model, windows)
    corrected = network.logits_of(rounding.rounded(model, windows), windows)
    plain = keras.models.clone_model(model)
    plain.set_weights(model.get_weights())  # type: ignore[attr-defined]
    for convolution in network.convolutions(plain):
        convolution.set_weights([rounding._on_grid(convolution.get_weights()[0], convolution)])
    rough = network.logits_of(plain, windows)
    assert np.abs(corrected - wanted).mean() < 0.6 * np.abs(rough - wanted).mean()


def test_a_network_without_norms_is_left_alone() -> None:
    from agent.features import FeatureConfig
    from model_export import network, rounding
    from model_export.recipe import NetworkConfig

    model = network.build(NetworkConfig(kind="small_cnn"), FeatureConfig(), 3)
    assert rounding.rounded(model, np.zeros((1, 94, 64), np.float32)) is model
