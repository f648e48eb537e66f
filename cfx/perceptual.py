"""Perceptual distances from files of torchvision's weights: DiME's (VGG19 up to relu3_4) and LPIPS (Zhang et al. 2018)."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torchvision.models import AlexNet
from torchvision.models.vgg import cfgs, make_layers

from cfx.checkpoint import fit, read_state_dict
from cfx.errors import UserError

RELU3_4 = 18  # features[:18] of VGG19 end there
Backbone = Literal["vgg", "alex"]
STAGES: dict[Backbone, tuple[int, ...]] = {  # LPIPS compares after these layers
    "vgg": (3, 8, 15, 22, 29),  # VGG16's relu1_2, 2_2, 3_3, 4_3, 5_3
    "alex": (1, 4, 7, 9, 11),  # AlexNet's five
}
DOWNLOADS = "https://download.pytorch.org/models/"


class Perceptual(nn.Module):
    """Images (B, 3, H, W), clamped to [-1, 1], to VGG19's features (B, 256, H/4, W/4)."""

    mean: Tensor
    std: Tensor

    def __init__(self, features: nn.Sequential) -> None:
        super().__init__()
        self.features = features
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1))  # ImageNet's, on [0, 1]
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """x (B, 3, H, W) to features (B, 256, H/4, W/4)."""
        features: Tensor = self.features(((x.clamp(-1, 1) + 1) / 2 - self.mean) / self.std)
        return features


def load_perceptual(weights: Path, device: torch.device | str = "cpu") -> Perceptual:
    """The frozen network, from torchvision's VGG19 weights (the whole network's, or those of its `features`).

    Raises FileNotFoundError, saying where the weights are to be had, or UserError naming keys that do not fit.
    """
    return Perceptual(_vgg("E", RELU3_4, weights, "vgg19-dcbb9e9d.pth")).eval().requires_grad_(False).to(device)


class LPIPS(nn.Module):
    """Learned perceptual distance of images in [-1, 1]: (B, 3, H, W) twice to (B,). Equal images are 0 apart."""

    mean: Tensor
    std: Tensor

    def __init__(self, features: nn.Sequential, stages: tuple[int, ...], weights: list[Tensor]) -> None:
        super().__init__()
        self.features, self.stages = features, stages
        self.register_buffer("mean", torch.tensor([-0.030, -0.088, -0.188]).view(3, 1, 1))  # lpips' own, on [-1, 1]
        self.register_buffer("std", torch.tensor([0.458, 0.448, 0.450]).view(3, 1, 1))
        self.weights = nn.ParameterList(weights)  # (1, C, 1, 1) each

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """x, y: (B, 3, H, W) in [-1, 1]; their distance, (B,), 0 or more."""
        x, y = (x - self.mean) / self.std, (y - self.mean) / self.std
        distance, weights = torch.zeros(len(x), device=x.device), iter(self.weights)
        for position, layer in enumerate(self.features):
            x, y = layer(x), layer(y)
            if position in self.stages:
                apart = (x / (_length(x) + 1e-10) - y / (_length(y) + 1e-10)).square()
                distance = distance + (next(weights) * apart).sum(1).flatten(1).mean(1)
        return distance


def load_lpips(weights: Path, device: torch.device | str = "cpu", backbone: Backbone = "vgg") -> LPIPS:
    """LPIPS (version 0.1), frozen, from torchvision's VGG16 or AlexNet; its own small weights come with the lpips package.

    Raises FileNotFoundError, saying where the weights are to be had, or UserError naming keys that do not fit.
    """
    stages = STAGES[backbone]
    layers = stages[-1] + 1
    if backbone == "vgg":
        features = _vgg("D", layers, weights, "vgg16-397923af.pth")
    else:
        features = _filled(AlexNet().features[:layers], weights, "alexnet-owt-7be5be79.pth")
    learned = read_state_dict(Path(str(files("lpips") / "weights" / "v0.1" / f"{backbone}.pth")))
    own = [learned[f"lin{stage}.model.1.weight"] for stage in range(len(stages))]
    return LPIPS(features, stages, own).eval().requires_grad_(False).to(device)


def _length(features: Tensor) -> Tensor:
    """Length of the feature vector at every place, (B, 1, H, W); its gradient at a zero vector is zero, not NaN."""
    square = features.square().sum(1, keepdim=True)
    return torch.where(square > 0, square, 1).sqrt() * (square > 0)


def _vgg(layout: str, layers: int, weights: Path, name: str) -> nn.Sequential:
    """The first layers of a VGG, from torchvision's weights of the whole network or of its `features`."""
    return _filled(make_layers(cfgs[layout], batch_norm=False)[:layers], weights, name)


def _filled(features: nn.Sequential, weights: Path, name: str) -> nn.Sequential:
    """These first layers, with the weights that the file has for them."""
    if not weights.is_file():
        raise FileNotFoundError(
            f"a perceptual distance needs torchvision's {name}, but there is no file {weights}; fetch {DOWNLOADS}{name} and give "
            "its path, or do without the distance"
        )
    state = {key.removeprefix("features."): value for key, value in read_state_dict(weights).items()}
    for layer in features:
        if isinstance(layer, nn.ReLU):
            layer.inplace = False  # what was computed before it is still needed by a backward pass
    first = {str(position) for position in range(len(features))}
    needed = {key: value for key, value in state.items() if key.split(".")[0] in first}
    fit(features, needed, weights, f"torchvision's {name}")
    return features


def perceptual_pull(network: nn.Module | None, x: Tensor, weight: float) -> Callable[[Tensor], Tensor | float]:
    """The function x_t -> gradient of weight * mean (phi(x_t) - phi(x))^2, an image; phi(x) is computed once.

    x, x_t: (B, 3, H, W) in [-1, 1]. Zero weight needs no network and pulls nowhere. Raises UserError if a needed one is missing.
    """
    if not weight:
        return lambda x_t: 0.0
    if network is None:
        raise UserError(f"the perceptual term has weight {weight} but no network; pass `perceptual`, or set its weight to 0")
    with torch.no_grad():
        wanted = network(x)

    def pull(x_t: Tensor) -> Tensor:
        with torch.enable_grad():
            x_t = x_t.detach().requires_grad_()
            distance = weight * (network(x_t) - wanted).square().flatten(1).mean(1).sum()
            (gradient,) = torch.autograd.grad(distance, x_t)
        return gradient

    return pull


def check_vgg19(weight: float, vgg19: str | None) -> None:
    """Raises UserError, for a configuration, if the perceptual term has a weight but lacks the file it needs."""
    if weight and vgg19 is None:
        raise UserError(
            f"perceptual is {weight}, which needs VGG19: set `vgg19` to a file of torchvision's weights, or set perceptual to 0"
        )
