"""Batches of one size on a CPU, the last filled up: an image's result is the same bit for bit beside any others.

Kernels round differently for other batch shapes, and the hard edges of a mask turn a last digit into a visible pixel. Batches of
eight were 1.8 times as fast as one image at a time (64 pixels; benchmarks/fixed_batches.py).
"""

from __future__ import annotations

import torch
from torch import Tensor

IMAGES = 8
PIXELS = IMAGES * 64 * 64  # of all images of a batch together: larger ones need no more memory than these


def size_of_batches(x: Tensor, batch_size: int) -> int:
    """How many images (N, C, H, W) a method sees at once: on a CPU that depends on H and W alone, elsewhere it is `batch_size`.

    Examples:
        >>> [size_of_batches(torch.zeros(3, 3, side, side), 32) for side in (16, 64, 128, 256)]
        [8, 8, 2, 1]
    """
    return batch_size if x.device.type != "cpu" else max(1, min(IMAGES, PIXELS // (x.shape[2] * x.shape[3])))


def batches(n: int, size: int) -> list[slice]:
    """n images in batches of `size`; the last may be smaller.

    Examples:
        >>> batches(5, 3)
        [slice(0, 3, None), slice(3, 5, None)]
    """
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]


def filled(x: Tensor, size: int) -> Tensor:
    """A batch (B, ...) on a CPU with its first entry again behind it until there are `size`; what is found for those is dropped.

    Elsewhere a batch stays as small as it is: to fill up a large one for one image would cost more than it gives.

    Examples:
        >>> filled(torch.tensor([3, 4]), 4).tolist()
        [3, 4, 3, 3]
        >>> len(filled(torch.zeros(2, device="meta"), 4))
        2
    """
    return x if x.device.type != "cpu" else torch.cat([x, x[:1].expand(size - len(x), *x.shape[1:])])
