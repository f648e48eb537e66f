"""The perceptual distance of DiME: VGG19 up to relu3_4, from a file of torchvision's weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models.vgg import cfgs, make_layers

from cfx.checkpoint import fit, read_state_dict

LAYERS = 18  # features[:18] of VGG19 end at relu3_4


class Perceptual(nn.Module):
    """Pictures (B, 3, H, W), clamped to [-1, 1], to VGG19's features (B, 256, H/4, W/4)."""

    mean: Tensor
    std: Tensor

    def __init__(self, features: nn.Sequential) -> None:
        super().__init__()
        self.features = features
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1))  # ImageNet's, on [0, 1]
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.features(((x.clamp(-1, 1) + 1) / 2 - self.mean) / self.std)
        return features


def load_perceptual(weights: Path, device: torch.device | str = "cpu") -> Perceptual:
    """The frozen network, from torchvision's VGG19 weights (the whole network's, or those of its `features`).

    Raises FileNotFoundError, saying where the weights are to be had, or ValueError naming keys that do not fit.
    """
    if not weights.is_file():
        raise FileNotFoundError(
            f"the perceptual distance needs VGG19, but there is no file {weights}; torchvision's weights are at "
            "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth, or set `perceptual: 0`"
        )
    state = {name.removeprefix("features."): value for name, value in read_state_dict(weights).items()}
    features = make_layers(cfgs["E"], batch_norm=False)[:LAYERS]
    needed = {name: value for name, value in state.items() if name.split(".")[0].isdigit() and int(name.split(".")[0]) < LAYERS}
    fit(features, needed, weights, "torchvision's VGG19")
    return Perceptual(features).eval().requires_grad_(False).to(device)


def perceptual_pull(network: nn.Module | None, x: Tensor, weight: float) -> Callable[[Tensor], Tensor | float]:
    """The function x_t -> gradient of weight * mean (phi(x_t) - phi(x))^2, an image; phi(x) is computed once.

    x, x_t: (B, 3, H, W) in [-1, 1]. Zero weight needs no network and pulls nowhere. Raises ValueError if one is needed and missing.
    """
    if not weight:
        return lambda x_t: 0.0
    if network is None:
        raise ValueError(f"the perceptual term has weight {weight} but no network; pass `perceptual`, or set its weight to 0")
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
    """Raises ValueError, for a configuration, if the perceptual term is asked for without the file it needs."""
    if weight and vgg19 is None:
        raise ValueError(
            f"perceptual is {weight}, which needs VGG19: set `vgg19` to a file of torchvision's weights, or set perceptual to 0"
        )
