"""What networks begin with: is it the function that the file holds?"""

from pathlib import Path

import numpy as np
import pytest

from agent.errors import ConfigError
from agent.features import FeatureConfig
from model_export.recipe import MOBILENET_V1, NetworkConfig

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
    pretrained.load(model, YAMNET, yamnet)
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


def test_without_a_file_it_says_which_one_is_wanted() -> None:
    from model_export import network, pretrained

    with pytest.raises(ConfigError, match=r"begins with YAMNet's weights.*--weights FILE"):
        pretrained.load(network.build(YAMNET, PATCH, 3), YAMNET, None)


def test_another_tflite_file_is_refused_by_name() -> None:
    from model_export import network, pretrained

    shipped = Path(__file__).parents[2] / "agent" / "models" / "default.tflite"
    with pytest.raises(ConfigError, match=r"default\.tflite: .* expected YAMNet"):
        pretrained.load(network.build(YAMNET, PATCH, 3), YAMNET, shipped)
    with pytest.raises(ConfigError, match=r"test_pretrained\.py: is no TFLite file"):
        pretrained.load(network.build(YAMNET, PATCH, 3), YAMNET, Path(__file__))
