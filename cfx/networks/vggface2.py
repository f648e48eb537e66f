"""VGGFace2's ResNet50, fine-tuned on faces (Cao et al. 2018): the features of FVA and FS.

The network and its loader; `cfx.features` measures with it. Weights: resnet50_ft_weight.pkl of VGGFace2-pytorch, a pickled dict
of NumPy arrays, which is read without running any code of it.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torchvision.models import resnet50
from torchvision.models.resnet import Bottleneck

from cfx.checkpoint import load_weights

IDENTITIES = 8631
SIDE = 224  # pixels


class VGGFace2(nn.Module):
    """(B, 3, H, W) in [-1, 1] to pooled features (B, 2048). Resizes, and prepares images as Caffe did: BGR, 0 to 255, less a
    mean."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.network = resnet50(weights=None, num_classes=IDENTITIES)
        self.network.maxpool = nn.MaxPool2d(3, 2, ceil_mode=True)
        for stage in (self.network.layer2, self.network.layer3, self.network.layer4):
            first = stage[0]
            assert isinstance(first, Bottleneck)
            first.conv1.stride, first.conv2.stride = (2, 2), (1, 1)  # Caffe strides in the 1 x 1, torchvision in the 3 x 3
        self.register_buffer("mean", torch.tensor([91.4953, 103.8827, 131.0912]).view(3, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, 3, H, W) in [-1, 1] to features (B, 2048)."""
        if x.shape[-2:] != (SIDE, SIDE):
            x = interpolate(x, size=(SIDE, SIDE), mode="bilinear", antialias=True)
        x = (x.flip(1) + 1) * 127.5 - self.mean
        net = self.network
        x = net.maxpool(net.relu(net.bn1(net.conv1(x))))
        x = net.layer4(net.layer3(net.layer2(net.layer1(x))))
        return net.avgpool(x).flatten(1)


def load_vggface2(weights: Path, device: torch.device | str = "cpu") -> VGGFace2:
    """The frozen network. Raises FileNotFoundError if there is no file, or UserError naming every key that does not fit."""
    if not weights.is_file():
        raise FileNotFoundError(f"no VGGFace2 weights at {weights}; get resnet50_ft_weight.pkl of VGGFace2-pytorch")
    found = VGGFace2()
    load_weights(found.network, weights, "VGGFace2's ResNet50")
    return found.eval().requires_grad_(False).to(device)
