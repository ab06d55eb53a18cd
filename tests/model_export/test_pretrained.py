"""What networks begin with: is it the function that the file holds?"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from agent.errors import ConfigError
from agent.features import FeatureConfig
from model_export.recipe import MOBILENET, MOBILENET_V1, PAIR, NetworkConfig

PATCH = FeatureConfig(
    version=1,
    sample_rate=16000,
    n_fft=512,
    hop=160,
    n_mels=64,
    mel_min_hz=125,
    mel_max_hz=7500,
    floor=1e-8,
    n_frames=96,
)
YAMNET = NetworkConfig(kind=MOBILENET_V1, dropout=0.0)
BOTH = NetworkConfig(kind=PAIR, dropout=0.0)


@pytest.fixture(scope="module")
def yamnet(peers_dir: Path) -> Path:
    return peers_dir / "yamnet.tflite"


@pytest.mark.parametrize("mean", [0.0, -2.5])
def test_a_network_from_yamnets_weights_computes_what_yamnet_computes(
    yamnet: Path, mean: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oracle is YAMNet itself, out of the runtime that runs it: its log-mel, its first map and its last but one."""
    import keras

    from model_export import network, pretrained

    monkeypatch.setattr(pretrained, "YAMNET_MEAN", mean)
    log_mel, *expected = _inside(yamnet)
    model = network.build(YAMNET, PATCH, 3)
    pretrained.load(model, YAMNET, [yamnet])
    norms = network.batch_norms(model)
    ours = keras.Model(model.input, [norms[0].output, norms[-1].output])
    # as agent.features has it: of power, and the mean taken away
    found = ours(2 * (log_mel.reshape(1, 96, 64, 1) - mean), training=False)

    first, last = (np.maximum(keras.ops.convert_to_numpy(one), 0) for one in found)
    assert [first.shape, last.shape] == [one.shape for one in expected]
    # what lies beyond the edge is 0 for either, which is not the same level
    assert np.abs(first - expected[0])[:, :-1, :-1].max() < 1e-3
    # YAMNet's runtime rounds what flows into its deeper layers to 8 bits
    assert np.corrcoef(last.ravel(), expected[1].ravel())[0, 1] > (0.99 if mean == 0 else 0.8)


def _inside(yamnet: Path) -> list[np.ndarray]:
    """Return what YAMNet has between its layers for a noise that swells: log-mel, map of layer 1, map of layer 13."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    oracle = Interpreter(
        model_path=str(yamnet),
        experimental_preserve_all_tensors=True,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    oracle.allocate_tensors()
    rng = np.random.default_rng(4)
    sound = rng.normal(0, 0.1, 15_600) * (1 + 0.9 * np.sin(np.arange(15_600) / 700))
    oracle.set_tensor(oracle.get_input_details()[0]["index"], sound.astype(np.float32))
    oracle.invoke()
    names = {one["name"].split(";")[0]: one["index"] for one in oracle.get_tensor_details()}
    wanted = ("tf_op_layer_Log/Log", "layer1/relu/Relu", "layer13/pointwise_conv/relu/Relu")
    return [
        oracle.get_tensor(next(index for name, index in names.items() if name.endswith(f"yamnet_frames/{end}")))
        for end in wanted
    ]


@pytest.mark.parametrize("config", [YAMNET, BOTH], ids=["alone", "pair"])
def test_without_yamnets_file_it_says_how_to_get_it(
    config: NetworkConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from model_export import network, pretrained

    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"data get yamnet`, give YAMNet's \.tflite by --weights"):
        pretrained.load(network.build(config, PATCH, 3), config, [])


def test_what_was_fetched_is_found(
    yamnet: Path, weights_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from model_export import network, pretrained

    monkeypatch.chdir(tmp_path)
    pretrained.YAMNET_FILE.parent.mkdir(parents=True)
    pretrained.YAMNET_FILE.symlink_to(yamnet.resolve())
    pair = network.build(BOTH, PATCH, 3)
    assert pretrained.load(pair, BOTH, [weights_file]) == (MOBILENET_V1, MOBILENET)


def test_another_tflite_file_is_refused_by_name() -> None:
    from model_export import network, pretrained

    shipped = Path(__file__).parents[2] / "agent" / "models" / "default.tflite"
    with pytest.raises(ConfigError, match=r"default\.tflite: .* expected YAMNet"):
        pretrained.load(network.build(YAMNET, PATCH, 3), YAMNET, [shipped])
    with pytest.raises(ConfigError, match=r"test_pretrained\.py: is no TFLite file"):
        pretrained.load(network.build(YAMNET, PATCH, 3), YAMNET, [Path(__file__)])


def test_a_pair_begins_as_both_each_as_if_it_were_alone(yamnet: Path, weights_file: Path) -> None:
    """The oracles are the networks alone, and for MobileNetV2 the mean of two frames taken beforehand."""
    import keras

    from model_export import network, pretrained

    sound = replace(PATCH, n_frames=190)
    pair = network.build(BOTH, sound, 3)
    assert pretrained.load(pair, BOTH, [weights_file, yamnet]) == (MOBILENET_V1, MOBILENET)
    frames = np.random.default_rng(2).standard_normal((3, 190, 64, 1)).astype(np.float32)

    alone = network.build(YAMNET, sound, 3)
    pretrained.load(alone, YAMNET, [yamnet])
    twelfth = keras.Model(alone.input, keras.layers.ReLU()(network.batch_norms(alone)[-3].output))
    wanted = keras.ops.convert_to_numpy(twelfth(frames)).mean(axis=(1, 2))
    np.testing.assert_allclose(network.branch(pair, "audio")(frames), wanted, rtol=1e-3, atol=1e-4)

    picture = network.build(NetworkConfig(dropout=0.0), FeatureConfig(n_frames=95), 3)
    pretrained.load(picture, NetworkConfig(), [weights_file])
    # up to the first stride: behind it Keras pads by what it was built for
    ends = [keras.Model(one.input, one.get_layer("block_1_expand_relu").output) for one in (pair, picture)]
    found, wanted = ends[0](frames), ends[1](frames.reshape(3, 95, 2, 64, 1).mean(axis=2))
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4)
    assert np.std(wanted) > 0.01
    layers = [network.convolutions(one) for one in (network.branch(pair, "picture"), picture)]
    for ours, alone in list(zip(*layers, strict=False))[1:]:
        np.testing.assert_array_equal(ours.kernel, alone.kernel)


def test_a_second_file_for_one_network_is_named_and_one_for_another_is_left(yamnet: Path, weights_file: Path) -> None:
    from model_export import network, pretrained

    pair = network.build(BOTH, PATCH, 3)
    with pytest.raises(ConfigError, match=r"yamnet\.tflite: is a second file of weights of YAMNet"):
        pretrained.load(pair, BOTH, [weights_file, yamnet, yamnet])
    plain = NetworkConfig()
    assert pretrained.load(network.build(plain, PATCH, 3), plain, [yamnet, weights_file]) == (MOBILENET,)
