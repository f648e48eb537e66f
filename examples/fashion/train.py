"""Trains a classifier of pullovers and coats on Fashion-MNIST and lays out images to audit it on.

    python examples/fashion/train.py planted    # nine in ten coats carry a bright tag in a corner, and one in ten pullovers
    python examples/fashion/train.py clean      # half of either carry it

It writes cfx-fashion/<twin>.pt; images/ with table.csv, 300 garments that no twin was trained on, half of them with the tag; and
reference/ with the same of 2,000 others without any tag. What the tag truly does to the answers is printed: it is pasted on each
image that has none. Plain torch; of cfx only the door to the data is used.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
import torch
from network import SmallCNN  # type: ignore[import-not-found]  # beside this file
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import cross_entropy

from cfx.errors import UserError
from tasks.training.real_data import fashion

CLASSES = ("pullover", "coat")
AGREES = {"planted": 0.9, "clean": 0.5}  # how often the tag is there as the label says
TRAINED_ON, EPOCHS = 8_000, 4
AUDITED, REFERENCE = 300, 2_000
TAG = (slice(22, 26), slice(21, 26))  # rows, columns of the lower right corner

Grey = NDArray[np.uint8]  # (N, 28, 28)


def clothes(split: str, n: int, skip: int = 0) -> tuple[Grey, NDArray[np.int64]]:
    """n images, as many of either class, and which of CLASSES they are."""
    found = fashion(split)
    rows = [np.flatnonzero(found.labels == name)[skip : skip + n // 2] for name in CLASSES]
    mixed = np.random.default_rng(n).permutation(np.concatenate(rows))
    return found.pixels[mixed], (found.labels[mixed] == CLASSES[1]).astype(np.int64)


def tagged(images: Grey, has: NDArray[np.bool_]) -> Grey:
    """The tag pasted on some of the images."""
    with_tag = images.copy()
    with_tag[has, TAG[0], TAG[1]] = 255
    return with_tag


def as_input(images: Grey) -> Tensor:
    return torch.from_numpy(images).float()[:, None] / 127.5 - 1


def train(images: Grey, labels: NDArray[np.int64]) -> SmallCNN:
    torch.manual_seed(0)
    network, x, y = SmallCNN(), as_input(images), torch.from_numpy(labels)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(x)).split(64):
            optimizer.zero_grad()
            cross_entropy(network(x[batch]), y[batch]).backward()
            optimizer.step()
    return network.eval()


@torch.no_grad()
def coat(network: SmallCNN, images: Grey) -> Tensor:
    return network(as_input(images)).softmax(1)[:, 1]


def lay_out(folder: Path, images: Grey, labels: NDArray[np.int64], named: bool = False) -> None:
    """<folder>/images/*.png and <folder>/table.csv; `named` with a yes/no column that an oracle can learn."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    with (folder / "table.csv").open("w", newline="") as lines:
        writer = csv.writer(lines)
        writer.writerow(["file", "label", *([CLASSES[1]] if named else [])])
        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
            Image.fromarray(image).save(folder / "images" / f"{i:04d}.png")
            writer.writerow([f"{i:04d}.png", CLASSES[label], *([label] if named else [])])


def main(twin: str, folder: Path) -> None:
    images, labels = clothes("train", TRAINED_ON)
    agrees = np.random.default_rng(1).random(len(labels)) < AGREES[twin]
    network = train(tagged(images, (labels == 1) == agrees), labels)
    held_out, answers = clothes("t10k", AUDITED)
    lay_out(folder, tagged(held_out, np.arange(AUDITED) % 2 == 0), answers)
    lay_out(folder / "reference", *clothes("train", REFERENCE, skip=TRAINED_ON // 2), named=True)
    torch.save({"state_dict": network.state_dict(), "classes": CLASSES}, folder / f"{twin}.pt")
    everywhere, right = np.ones(AUDITED, bool), (coat(network, held_out) > 0.5).numpy() == (answers == 1)
    effect = float((coat(network, tagged(held_out, everywhere)) - coat(network, held_out)).mean())
    print(f"{twin}: right about {right.mean():.0%} of the untagged; the tag moves P(coat) by {effect:+.3f}")  # noqa: T201


if __name__ == "__main__":
    try:
        main(sys.argv[1], Path("cfx-fashion"))
    except UserError as error:
        sys.exit(str(error))
