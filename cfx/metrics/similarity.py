"""How alike two images are to an encoder: FS, FVA (VGGFace2) and S3 (SimSiam) are means over this."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import cosine_similarity


def cosine(features: Tensor, features_cf: Tensor) -> Tensor:
    """Cosine of the features of images and their counterfactuals, both (B, D): (B,) float64 in [-1, 1]; 0 for a zero vector.

    Examples:
        >>> import torch
        >>> cosine(torch.tensor([[1.0, 0.0]]), torch.tensor([[3.0, 4.0]])).item()
        0.6
    """
    return cosine_similarity(features.double(), features_cf.double(), dim=1)
