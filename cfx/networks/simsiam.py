"""SimSiam's ResNet50 (Chen & He 2021): the features of S3.

The network and its loader; `cfx.features` measures with it. Weights: checkpoint_0099.pth.tar of facebookresearch/simsiam
(100 epochs, batch 256), a torch file with `state_dict`.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models import resnet50

from cfx.checkpoint import load_weights

DIM = 2048


class SimSiam(nn.Module):
    """(B, 3, H, W) in [-1, 1], any size, to the projector's outputs (B, 2048). The predictor is loaded, not used."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.encoder = resnet50(weights=None, num_classes=DIM)
        self.encoder.fc = nn.Sequential(
            *(nn.Linear(DIM, DIM, bias=False), nn.BatchNorm1d(DIM), nn.ReLU()),
            *(nn.Linear(DIM, DIM, bias=False), nn.BatchNorm1d(DIM), nn.ReLU()),
            *(nn.Linear(DIM, DIM), nn.BatchNorm1d(DIM, affine=False)),
        )
        self.predictor = nn.Sequential(nn.Linear(DIM, 512, bias=False), nn.BatchNorm1d(512), nn.ReLU(), nn.Linear(512, DIM))
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), persistent=False)  # ImageNet's
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, 3, H, W) in [-1, 1] to features (B, 2048)."""
        features: Tensor = self.encoder(((x + 1) / 2 - self.mean) / self.std)
        return features


def load_simsiam(weights: Path, device: torch.device | str = "cpu") -> SimSiam:
    """The frozen network. Raises FileNotFoundError if there is no file, or UserError naming every key that does not fit."""
    if not weights.is_file():
        raise FileNotFoundError(f"no SimSiam weights at {weights}; get checkpoint_0099.pth.tar (ResNet50) of SimSiam")
    network = SimSiam()
    load_weights(network, weights, "SimSiam's ResNet50")
    return network.eval().requires_grad_(False).to(device)
