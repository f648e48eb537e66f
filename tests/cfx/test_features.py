"""Encoders: Inception is pytorch-fid's, the oracle's features are what its last layer reads, also with threads side by side."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torchvision.models import Inception3

from cfx.attributes.oracle import Oracle, OracleConfig, load_oracle
from cfx.classifiers.network import Network, NetworkConfig
from cfx.features import LOADERS, OracleFeatures
from cfx.networks.inception import load_inception


def images(n: int, side: int = 64) -> torch.Tensor:
    return torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights in a file as pytorch-fid publishes it."""
    network = Inception3(num_classes=1008, aux_logits=False, transform_input=False, init_weights=False)
    generator = torch.Generator().manual_seed(1)
    state = {
        name: torch.randn(value.shape, generator=generator) * 0.05 if value.ndim == 4 else value
        for name, value in network.state_dict().items()
    }
    path = tmp_path_factory.mktemp("inception") / "pt_inception.pth"
    torch.save(state, path)
    return path


def test_inception_is_pytorch_fids(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pytorch_fid import inception

    monkeypatch.setattr(inception, "load_state_dict_from_url", lambda *_, **__: torch.load(weights))  # there is no network
    reference, found, x = inception.InceptionV3().eval(), load_inception(weights), images(2)
    with torch.no_grad():
        torch.testing.assert_close(found(x), reference((x + 1) / 2)[0].flatten(1), rtol=1e-5, atol=1e-6)
    assert not any(parameter.requires_grad for parameter in found.parameters())


@pytest.mark.parametrize("name", LOADERS)
def test_an_encoder_without_its_file_says_which(tmp_path: Path, name: str) -> None:
    published = {"inception": "pt_inception", "vggface2": "resnet50_ft_weight.pkl", "simsiam": "checkpoint_0099.pth.tar"}
    with pytest.raises(FileNotFoundError, match=rf"no .* weights at .*gone.*{published[name]}"):
        LOADERS[name](tmp_path / "gone", "cpu")


def test_the_oracles_features_give_its_logits_by_its_last_layer() -> None:
    oracle = load_oracle(OracleConfig(weights=Path("portraits:oracle")))
    x = images(3)
    features = OracleFeatures(oracle)(x)
    assert features.shape == (3, 1536)
    last: Any = oracle.network.module.head
    torch.testing.assert_close(last(features), oracle.logits(x))


def test_threads_that_share_an_oracle_do_not_see_each_others_images() -> None:
    encode = OracleFeatures(load_oracle(OracleConfig(weights=Path("portraits:oracle"))))
    batches = images(8).split(1)
    alone = [encode(x) for x in batches]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(encode, batches * 4))
    for i, found in enumerate(together):
        torch.testing.assert_close(found, alone[i % 8], rtol=0, atol=1e-6)


def test_an_oracle_without_a_linear_layer_has_no_features() -> None:
    module = nn.Sequential(nn.Conv2d(3, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    network = Network(module, "conv", NetworkConfig(module="torch.nn:Identity"), {})
    with pytest.raises(ValueError, match="conv has no linear layer"):
        OracleFeatures(Oracle(network, ("a", "b")))
