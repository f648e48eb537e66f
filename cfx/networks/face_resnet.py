"""The oracles of CelebA (DiVE, "Beyond Trivial Explanations") and CelebA-HQ (STEEX): VGGFace2's ResNet50 under Caffe's names.

Both give 40 logits in the order of CelebA's annotations. They were trained on images prepared differently, and each prepares
its own here, from [-1, 1]: an image prepared the other's way loads, runs and is misjudged.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, max_pool2d, relu

STAGES = ((2, 3, 64), (3, 4, 128), (4, 6, 256), (5, 3, 512))  # number, blocks, width
SIDE = 224  # pixels
FEATURES = 2048


class FaceResNet50(nn.Module):
    """(B, 3, 224, 224) to pooled features (B, 2048). A stage strides in its first 1 x 1 convolution, as Caffe's ResNets do."""

    def __init__(self) -> None:
        super().__init__()
        self._add("conv1_7x7_s2", 3, 64, 7, 2)
        inputs = 64
        for stage, blocks, width in STAGES:
            for block in range(1, blocks + 1):
                stride = 2 if block == 1 and stage > 2 else 1
                name = f"conv{stage}_{block}"
                self._add(f"{name}_1x1_reduce", inputs, width, 1, stride)
                self._add(f"{name}_3x3", width, width, 3, 1)
                self._add(f"{name}_1x1_increase", width, 4 * width, 1, 1)
                if block == 1:
                    self._add(f"{name}_1x1_proj", inputs, 4 * width, 1, stride)
                inputs = 4 * width

    def _add(self, name: str, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        self.add_module(name, nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False))
        self.add_module(f"{name}_bn", nn.BatchNorm2d(outputs))

    def _convolve(self, name: str, x: Tensor) -> Tensor:
        normed: Tensor = getattr(self, f"{name}_bn")(getattr(self, name)(x))
        return normed

    def forward(self, x: Tensor) -> Tensor:
        """x (B, 3, H, W), prepared, to pooled features (B, FEATURES)."""
        x = max_pool2d(relu(self._convolve("conv1_7x7_s2", x)), 3, 2, ceil_mode=True)
        for stage, blocks, _ in STAGES:
            for block in range(1, blocks + 1):
                name = f"conv{stage}_{block}"
                inner = relu(self._convolve(f"{name}_1x1_reduce", x))
                inner = relu(self._convolve(f"{name}_3x3", inner))
                inner = self._convolve(f"{name}_1x1_increase", inner)
                x = relu((self._convolve(f"{name}_1x1_proj", x) if block == 1 else x) + inner)
        return avg_pool2d(x, x.shape[-1]).flatten(1)


class _Reduced(FaceResNet50):
    """The same with a further layer: features (B, 128)."""

    def __init__(self) -> None:
        super().__init__()
        self.feat_extract = nn.Conv2d(FEATURES, 128, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.feat_extract(super().forward(x)[:, :, None, None])
        return features.flatten(1)


class CelebAOracle(nn.Module):
    """`oracle.pth`, with the parts `feat_extract` and `classifier`: (B, 3, H, W) in [-1, 1] to logits (B, 40).

    Trained on BGR images in [0, 1] less a mean that was given in the order RGB, so the red mean meets the blue channel: kept.
    """

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.feat_extract, self.classifier = _Reduced(), nn.Linear(128, 40)
        mean = torch.tensor([131.0912, 103.8827, 91.4953]).view(3, 1, 1) / 255
        self.register_buffer("mean", mean, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, 3, H, W) in [-1, 1] to logits (B, 40)."""
        blue_first = (x.flip(1) + 1) / 2 - self.mean
        logits: Tensor = self.classifier(self.feat_extract(_resized(blue_first)))
        return logits


class CelebAHQOracle(nn.Module):
    """`checkpoint.tar`, with `model_state_dict`: (B, 3, H, W) in [-1, 1], RGB and used as it is, to logits (B, 40)."""

    def __init__(self) -> None:
        super().__init__()
        self.feat_extract, self.classifier = FaceResNet50(), nn.Linear(FEATURES, 40)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, 3, H, W) in [-1, 1] to logits (B, 40)."""
        logits: Tensor = self.classifier(self.feat_extract(_resized(x)))
        return logits


def _resized(x: Tensor) -> Tensor:
    return interpolate(x, size=(SIDE, SIDE), mode="bicubic", align_corners=False)
