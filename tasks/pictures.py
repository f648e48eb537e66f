"""The PNG files of counterfactuals and their masks, in the making on other threads while the device draws the next ones."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor, Future

import torch
from torch import Tensor

from cfx.images import png_of_pixels, to_uint8
from cfx.types import Counterfactual


class Pictures:
    """What people see of counterfactuals (B, 3, H, W) and of their masks, whose NaN is no mask.

    `pool` makes the files, the caller where there is none. Until a file is made a byte a value of its image is held. Raises
    UserError for non-finite images, at once.
    """

    def __init__(self, found: Counterfactual, pool: Executor | None = None) -> None:
        assert found.mask is not None
        masked = torch.nonzero(~found.mask.isnan().flatten(1).any(1))[:, 0]
        grey = (found.mask[masked] * 2 - 1).expand(-1, 3, -1, -1)
        self._masked = masked.tolist()
        self._png, self._mask_png = (_files(images, pool) for images in (found.x_cf, grey))

    def columns(self) -> dict[str, list[bytes | None]]:
        """`png` and `mask_png`, in the order of the images, once all are made."""
        masks = dict(zip(self._masked, (file.result() for file in self._mask_png), strict=True))
        return {"png": [file.result() for file in self._png], "mask_png": [masks.get(i) for i in range(len(self._png))]}


def _files(images: Tensor, pool: Executor | None) -> Sequence[Future[bytes]]:
    pixels = to_uint8(images).cpu()
    return [pool.submit(png_of_pixels, one) if pool is not None else _made(one) for one in pixels]


def _made(pixels: Tensor) -> Future[bytes]:
    file: Future[bytes] = Future()
    file.set_result(png_of_pixels(pixels))
    return file
