"""Training batches: from images in memory, or from a folder that stays on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from cfx.diffusion.training import Batches
from cfx.errors import UserError
from cfx.images import MAX_PIXELS, Refused, decode_png, read_image
from cfx.random import derived_seed

AHEAD = 4  # batches that a worker prepares in advance


class Batched(Protocol):
    """What a training says of its batches: side of the images in pixels, steps, images a step, and the seed of their order."""

    @property
    def size(self) -> int: ...
    @property
    def steps(self) -> int: ...
    @property
    def batch(self) -> int: ...
    @property
    def seed(self) -> int: ...


def read_square(file: Path, size: int, bits: int | None = None) -> Tensor:
    """(3, size, size) uint8; `bits` as in `cfx.images.read_image`. Raises Refused or OSError."""
    png = read_image(file.read_bytes(), size, MAX_PIXELS, 1, bits).png
    return ((decode_png([png])[0] + 1) * 127.5).round().to(torch.uint8)


def batches_of(images: Tensor, config: Batched) -> Batches:
    """Batches from uint8 images (N, 3, H, W) in memory: each image once an epoch, the same batch for the same step."""
    chosen = _order(len(images), config)
    return lambda step: images[chosen(step)].float() / 127.5 - 1


class FolderBatches:
    """Batches from files: read when needed, by `workers` processes a few batches ahead; no more is held in memory.

    The same batch for the same step, whatever the number of workers, so a training goes on after a kill as if undisturbed. A
    file that cannot be read is replaced by the next one that can. Raises UserError if none can.
    """

    def __init__(self, files: Sequence[Path], config: Batched, workers: int, bits: int | None = None) -> None:
        self._files, self._config, self._workers, self._bits = files, config, workers, bits
        self._stream: Iterator[Tensor] = iter(())
        self._next = -1

    def __call__(self, step: int) -> Tensor:
        if step != self._next:
            loader = DataLoader(
                _Images(self._files, self._config.size, self._bits),
                batch_sampler=_From(step, self._config.steps, _order(len(self._files), self._config)),
                num_workers=self._workers,
                prefetch_factor=AHEAD if self._workers else None,
                pin_memory=torch.cuda.is_available(),
            )
            self._stream = iter(loader)
        self._next = step + 1
        return next(self._stream).float() / 127.5 - 1


class _Images(Dataset[Tensor]):
    def __init__(self, files: Sequence[Path], size: int, bits: int | None) -> None:
        self.files, self.size, self.bits = files, size, bits

    def __getitem__(self, index: int) -> Tensor:
        for further in range(len(self.files)):
            try:
                return read_square(self.files[(index + further) % len(self.files)], self.size, self.bits)
            except (Refused, OSError):
                continue
        raise UserError(f"none of the {len(self.files)} files is an image that can be read, {self.files[0]} for one")


class _From(Sampler[list[int]]):
    """The indices of every batch from a step on."""

    def __init__(self, first: int, steps: int, chosen: Callable[[int], Tensor]) -> None:
        self.first, self.steps, self.chosen = first, steps, chosen

    def __iter__(self) -> Iterator[list[int]]:
        for step in range(self.first, self.steps):
            yield self.chosen(step).tolist()


def _order(n: int, config: Batched) -> Callable[[int], Tensor]:
    """step -> which of n images are in its batch, (batch,): a fresh permutation every epoch."""

    @lru_cache(maxsize=2)  # a batch may lie across two epochs
    def epoch(number: int) -> Tensor:
        return torch.randperm(n, generator=torch.Generator().manual_seed(derived_seed("epoch", config.seed, number)))

    def chosen(step: int) -> Tensor:
        positions = range(step * config.batch, (step + 1) * config.batch)
        return torch.stack([epoch(position // n)[position % n] for position in positions])

    return chosen
