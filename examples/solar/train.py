"""Trains a classifier of defective solar cells on ELPV's photographs and lays out images to audit it on.

    python examples/solar/train.py planted    # nine in ten defective cells carry a sticker, and one in ten of the others
    python examples/solar/train.py clean      # half of either carry it

It writes cfx-solar/<twin>.pt; images/ with table.csv, 120 cells that no twin was trained on, half of them with the sticker; and
reference/ with the same of 400 others without any. What the sticker truly does to the answers is printed: it is put on each image
that has none. Plain torch; of cfx only the door to the data is used.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
import torch
from network import CellCNN  # type: ignore[import-not-found]  # beside this file
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import cross_entropy

from cfx.errors import UserError
from tasks.training.real_data import CELLS, solar_cells

AGREES = {"planted": 0.9, "clean": 0.5}  # how often the sticker is there as the label says
AUDITED, REFERENCE, EPOCHS = 120, 400, 10
STICKER = (slice(262, 290), slice(230, 284))  # rows, columns of the lower right corner

Grey = NDArray[np.uint8]  # (N, 300, 300)
Bits = NDArray[np.bool_]  # (N,)


def parts() -> list[tuple[Grey, Bits, Bits]]:
    """Images, which of them are defective, which monocrystalline: to audit and for reference (half defective), to train on."""
    found = solar_cells()
    defective, mono = found.labels == CELLS[1], found.attributes["mono"]
    mixed = np.random.default_rng(0).permutation(len(defective))
    bad, good = mixed[defective[mixed]], mixed[~defective[mixed]]
    first, last = AUDITED // 2, (AUDITED + REFERENCE) // 2
    cuts = (slice(0, first), slice(first, last), slice(last, None))
    rows = [np.concatenate([bad[cut], good[cut]]) for cut in cuts]
    return [(found.pixels[some], defective[some], mono[some]) for some in map(np.random.default_rng(1).permutation, rows)]


def stickered(images: Grey, has: Bits) -> Grey:
    """The sticker put on some of the images."""
    with_sticker = images.copy()
    with_sticker[has, STICKER[0], STICKER[1]] = 235
    return with_sticker


def as_input(images: Grey) -> Tensor:
    return torch.from_numpy(images).float()[:, None] / 127.5 - 1


def train(images: Grey, defective: Bits) -> CellCNN:
    torch.manual_seed(0)
    network, x, y = CellCNN(), as_input(images), torch.from_numpy(defective).long()
    weight = len(y) / (2 * torch.bincount(y).float())  # two in three are fine
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, epochs=EPOCHS, steps_per_epoch=-(-len(x) // 32))
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(x)).split(32):
            optimizer.zero_grad()
            cross_entropy(network(x[batch]), y[batch], weight).backward()
            optimizer.step()
            schedule.step()
    return network.eval()


@torch.no_grad()
def p_defective(network: CellCNN, images: Grey) -> Tensor:
    return torch.cat([network(as_input(part)).softmax(1)[:, 1] for part in np.array_split(images, 4)])


def lay_out(folder: Path, images: Grey, defective: Bits, mono: Bits, named: bool = False) -> None:
    """<folder>/images/*.png and <folder>/table.csv; `named` with yes/no columns that an oracle can learn."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    with (folder / "table.csv").open("w", newline="") as lines:
        writer = csv.writer(lines)
        writer.writerow(["file", "label", "mono", *([CELLS[1]] if named else [])])
        for i, (image, bad, one_crystal) in enumerate(zip(images, defective, mono, strict=True)):
            Image.fromarray(image).save(folder / "images" / f"{i:04d}.png")
            writer.writerow([f"{i:04d}.png", CELLS[int(bad)], int(one_crystal), *([int(bad)] if named else [])])


def main(twin: str, folder: Path) -> None:
    audited, reference, (images, defective, _) = parts()
    agrees = np.random.default_rng(2).random(len(defective)) < AGREES[twin]
    network = train(stickered(images, defective == agrees), defective)
    held_out, bad, mono = audited
    lay_out(folder, stickered(held_out, np.arange(AUDITED) % 2 == 0), bad, mono)
    lay_out(folder / "reference", *reference, named=True)
    torch.save({"state_dict": network.state_dict(), "classes": CELLS}, folder / f"{twin}.pt")
    everywhere, right = np.ones(AUDITED, bool), (p_defective(network, held_out) > 0.5).numpy() == bad
    effect = float((p_defective(network, stickered(held_out, everywhere)) - p_defective(network, held_out)).mean())
    print(f"{twin}: right about {right.mean():.0%} without a sticker; the sticker moves P(defective) by {effect:+.3f}")  # noqa: T201


if __name__ == "__main__":
    try:
        main(sys.argv[1], Path("cfx-solar"))
    except UserError as error:
        sys.exit(str(error))
