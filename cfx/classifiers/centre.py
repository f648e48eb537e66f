"""The parts of an image that a network is shown: the middle of it, its grey."""

from __future__ import annotations

from torch import Tensor

LUMA = (0.299, 0.587, 0.114)  # Rec. 601, as Pillow makes a grey image of RGB


def centre(x: Tensor, share: float) -> Tensor:
    """The middle of x (B, C, H, W), of this share of its height and width; x itself for a share of 1."""
    if share == 1:
        return x
    height, width = (max(1, round(side * share)) for side in x.shape[-2:])
    top, left = (x.shape[-2] - height) // 2, (x.shape[-1] - width) // 2
    return x[..., top : top + height, left : left + width]
