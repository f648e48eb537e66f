"""Perceptual distances on VGGs with random weights, read from files as torchvision writes them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision.models.vgg import cfgs, make_layers

from cfx.perceptual import STAGES, load_lpips, load_perceptual, perceptual_pull


def vgg_file(folder: Path, layout: str, layers: int, prefix: str = "features.") -> tuple[Path, nn.Sequential]:
    """A file with a VGG's first layers and the start of its classifier, and those layers."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        features = make_layers(cfgs[layout], batch_norm=False)[:layers]
    state = {f"{prefix}{name}": value for name, value in features.state_dict().items()}
    path = folder / f"{layout}{prefix or 'bare'}.pth"
    torch.save(state | ({"classifier.0.weight": torch.zeros(1)} if prefix else {}), path)
    return path, features


def images(n: int = 2) -> torch.Tensor:
    return torch.randn(n, 3, 16, 16, generator=torch.Generator().manual_seed(3)) * 0.3


@pytest.mark.parametrize("prefix", ["features.", ""])
def test_features_are_vgg19s_up_to_relu3_4_on_imagenet_scale(tmp_path: Path, prefix: str) -> None:
    path, features = vgg_file(tmp_path, "E", 18, prefix)
    network, x = load_perceptual(path), images() * 4  # beyond [-1, 1], where it clamps
    mean, std = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    expected = features(((x.clamp(-1, 1) + 1) / 2 - mean) / std)
    found = network(x)
    assert found.shape == (2, 256, 4, 4)
    torch.testing.assert_close(found, expected)
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_the_pull_is_the_gradient_of_the_weighted_mean_square(tmp_path: Path) -> None:
    network, x = load_perceptual(vgg_file(tmp_path, "E", 18)[0]), images()
    x_t = (x + 0.1).requires_grad_()
    distance = 30 * (network(x_t) - network(x)).square().mean((1, 2, 3)).sum()
    (expected,) = torch.autograd.grad(distance, x_t)
    with torch.no_grad():
        pull = perceptual_pull(network, x, 30.0)
        torch.testing.assert_close(pull(x_t), expected)
        torch.testing.assert_close(perceptual_pull(network, x[:1], 30.0)(x_t[:1]), expected[:1], atol=1e-6, rtol=1e-3)
        torch.testing.assert_close(pull(x), torch.zeros_like(x))


def test_without_weight_there_is_no_pull_and_no_network() -> None:
    assert perceptual_pull(None, images(), 0.0)(images()) == 0
    with pytest.raises(ValueError, match="has weight 30.0 but no network"):
        perceptual_pull(None, images(), 30.0)


@pytest.mark.filterwarnings("ignore:.*pretrained.*:UserWarning", "ignore:Arguments other than a weight enum:UserWarning")
def test_lpips_is_the_packages(tmp_path: Path) -> None:
    import lpips

    path, features = vgg_file(tmp_path, "D", STAGES["vgg"][-1] + 1)
    with torch.device("meta"):  # its backbone has 130 million weights, which ours replace
        reference = lpips.LPIPS(net="vgg", pretrained=False, pnet_rand=True, verbose=False)
    own = torch.load(Path(lpips.__file__).parent / "weights" / "v0.1" / "vgg.pth", map_location="cpu")
    backbone = {f"net.slice{part}.{name}": value for part, name, value in sliced(features)}
    scaling = lpips.ScalingLayer().state_dict(prefix="scaling_layer.")
    reference.load_state_dict(own | backbone | scaling, strict=False, assign=True)  # what is left out stays without numbers
    found, x, y = load_lpips(path), images(), images().flip(0)
    torch.testing.assert_close(found(x, y), reference.eval()(x, y).flatten(), atol=1e-6, rtol=1e-4)
    assert (found(x, y) > 0).all() and found(x, x).tolist() == [0, 0]


def sliced(features: nn.Sequential) -> Iterator[tuple[int, str, torch.Tensor]]:
    """Weights of VGG16's layers and the part of lpips' network that has them: a part ends after every stage."""
    for name, value in features.state_dict().items():
        yield 1 + sum(int(name.split(".")[0]) > stage for stage in STAGES["vgg"]), name, value


@pytest.mark.filterwarnings("ignore:.*pretrained.*:UserWarning", "ignore:Arguments other than a weight enum:UserWarning")
def test_lpips_alex_is_the_packages(tmp_path: Path) -> None:
    import lpips
    from torchvision.models import alexnet

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        backbone = alexnet(weights=None)
    torch.save(backbone.state_dict(), tmp_path / "alex.pth")
    reference = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)  # its own linear weights; the backbone is ours
    for number, stage in enumerate((0, 3, 6, 8, 10)):
        getattr(reference.net, f"slice{number + 1}")[0 if number == 0 else -2].load_state_dict(
            backbone.features[stage].state_dict()
        )
    x = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    found = load_lpips(tmp_path / "alex.pth", backbone="alex")(x, x.flip(0))
    torch.testing.assert_close(found, reference(x, x.flip(0)).flatten())
    assert (found > 0).all()


def test_lpips_has_a_gradient_where_features_vanish(tmp_path: Path) -> None:
    network = load_lpips(vgg_file(tmp_path, "D", STAGES["vgg"][-1] + 1)[0])
    for layer in network.features:
        if isinstance(layer, nn.Conv2d):
            assert layer.bias is not None
            layer.bias.fill_(-0.05)  # most features are zero behind it
    x = images().requires_grad_()
    (gradient,) = torch.autograd.grad(network(x, images().flip(0)).sum(), x)
    assert gradient.isfinite().all()


def test_missing_or_foreign_weights_are_reported_plainly(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"torchvision's vgg19-dcbb9e9d.pth, but there is no file .*fetch https://"):
        load_perceptual(tmp_path / "vgg19.pth")
    with pytest.raises(FileNotFoundError, match="vgg16-397923af.pth"):
        load_lpips(tmp_path / "vgg16.pth")
    with pytest.raises(ValueError, match="are not those of torchvision's vgg19"):
        load_perceptual(vgg_file(tmp_path, "D", 18)[0])
