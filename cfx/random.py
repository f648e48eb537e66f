"""`ImageNoise`: randomness that belongs to an image, not to a batch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from itertools import repeat

import torch
from torch import Tensor

from cfx.errors import UserError
from cfx.transfers import to_device


def derived_seed(*parts: object) -> int:
    """A 63-bit seed from the parts' text, the same on every machine and in every process.

    Examples:
        >>> derived_seed("image", 0) == derived_seed("image", 0), derived_seed("image", 0) == derived_seed("image", 1)
        (True, False)
    """
    digest = hashlib.sha256("\x1f".join(str(part) for part in parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


class ImageNoise:
    """One generator per image, so that an image's noise depends on its own seed and on nothing around it.

    Draws happen on the CPU and are moved, because CPU and GPU generators give different numbers for one seed.

    Examples:
        >>> batch, alone = torch.zeros(2, 3, 8, 8), torch.zeros(1, 3, 8, 8)
        >>> both = ImageNoise.of(["a", "b"], seed=0).like(batch)
        >>> torch.equal(both[1:], ImageNoise.of(["b"], seed=0).like(alone))
        True
    """

    def __init__(self, generators: Sequence[torch.Generator]) -> None:
        self._generators = list(generators)

    @classmethod
    def of(cls, image_ids: Iterable[str], seed: int, attempt: int | Sequence[int] = 0) -> ImageNoise:
        """Noise for these images, this run's seed and this rung of the retry ladder, or each image's own rung."""
        rungs = repeat(attempt) if isinstance(attempt, int) else attempt
        seeds = [derived_seed(image_id, seed, rung) for image_id, rung in zip(image_ids, rungs, strict=False)]
        return cls([torch.Generator().manual_seed(own) for own in seeds])

    def __len__(self) -> int:
        return len(self._generators)

    def __getitem__(self, images: slice) -> ImageNoise:
        """The noise of some of the images; their generators are shared, not copied."""
        return ImageNoise(self._generators[images])

    def filled(self, size: int) -> ImageNoise:
        """This noise, and behind it the first image's again until there is noise for `size`: copies stay copies."""
        return ImageNoise(self._generators + [self._generators[0].clone_state() for _ in range(size - len(self))])

    def copied(self) -> ImageNoise:
        """Noise that draws what this one will draw next, and leaves it as it is."""
        return ImageNoise([generator.clone_state() for generator in self._generators])

    def like(self, x: Tensor) -> Tensor:
        """Standard normal noise shaped like x, (B, ...) with B images. Raises UserError if B is another number."""
        if len(x) != len(self):
            raise UserError(f"noise for {len(self)} images was used for a batch of {len(x)}")
        draws = [torch.randn(x.shape[1:], generator=generator) for generator in self._generators]
        return to_device(torch.stack(draws).to(x.dtype), x.device)
