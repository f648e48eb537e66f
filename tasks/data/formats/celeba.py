"""CelebA (Liu et al. 2015) and CelebA-HQ (Lee et al. 2020), as their authors and Kaggle hand them out."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from cfx.errors import UserError
from warehouse.facts.storage import Root

PARTS = {"0": "train", "1": "validation", "2": "test"}  # of list_eval_partition
_PLACES = ("", "Anno", "Eval", "CelebAMask-HQ")


def celeba(folder: Root) -> Iterator[pa.Table]:
    """`list_attr_celeba` and, if it is there, `list_eval_partition`, both .txt or .csv, beside `img_align_celeba`."""
    names, rows = _attributes(_needed(folder, "list_attr_celeba.txt", "list_attr_celeba.csv"))
    images = _images(folder, "img_align_celeba/img_align_celeba", "img_align_celeba")
    parts = _partition(folder)
    yield _table(names, rows, images, [parts.get(file) for file, *_ in rows])


def celeba_hq(folder: Root) -> Iterator[pa.Table]:
    """`CelebAMask-HQ-attribute-anno.txt` beside `CelebA-HQ-img`.

    The mapping file says which image of CelebA each one is (`celeba_file`), and so its split where CelebA's partition is there.
    """
    names, rows = _attributes(_needed(folder, "CelebAMask-HQ-attribute-anno.txt"))
    images = _images(folder, "CelebAMask-HQ/CelebA-HQ-img", "CelebA-HQ-img")
    mapping = _found(folder, "CelebA-HQ-to-CelebA-mapping.txt")
    lines = mapping.read_text().splitlines()[1:] if mapping else []
    before = {f"{number}.jpg": file for number, _, file in (line.split() for line in lines if line.strip())}
    parts = _partition(folder)
    table = _table(names, rows, images, [parts.get(before.get(file, "")) for file, *_ in rows])
    yield table.append_column("celeba_file", pa.array([before.get(file) for file, *_ in rows], pa.string()))


def _table(names: list[str], rows: list[list[str]], images: str, split: list[str | None]) -> pa.Table:
    columns = list(zip(*rows, strict=True)) or [()] * (len(names) + 1)
    fixed = {"file": pa.array([f"{images}/{file}" for file in columns[0]]), "split": pa.array(split, pa.string())}
    return pa.table(fixed | {name: pa.array([x == "1" for x in column]) for name, column in zip(names, columns[1:], strict=True)})


def _attributes(path: Root) -> tuple[list[str], list[list[str]]]:
    """The attributes and, image by image, its file and answers 1 or -1. Raises UserError for a line that is none."""
    lines = path.read_text().splitlines()
    if path.suffix == ".csv":
        names, rows = lines[0].split(",")[1:], [line.split(",") for line in lines[1:] if line.strip()]
    else:  # a count, the names, and a line an image, parted by blanks
        names, rows = lines[1].split(), [line.split() for line in lines[2:] if line.strip()]
    for number, row in enumerate(rows, 1):
        if len(row) != len(names) + 1 or not {"1", "-1"}.issuperset(row[1:]):
            raise UserError(f"{path}: image {number} needs a file and {len(names)} answers, each 1 or -1; it has {row}")
    return names, rows


def _partition(folder: Root) -> dict[str, str]:
    path = _found(folder, "list_eval_partition.txt", "list_eval_partition.csv")
    if path is None:
        return {}
    pairs = (line.replace(",", " ").split() for line in path.read_text().splitlines() if line.strip())
    return {file: PARTS[part] for file, part in pairs if part in PARTS}


def _found(folder: Root, *names: str) -> Root | None:
    places = (folder / place / name if place else folder / name for name in names for place in _PLACES)
    return next((path for path in places if path.is_file()), None)


def _needed(folder: Root, *names: str) -> Root:
    path = _found(folder, *names)
    if path is None:
        raise UserError(f"{folder} has no {' or '.join(names)}; unpack the data set's lists into it")
    return path


def _images(folder: Root, *places: str) -> str:
    """Where the images are; Kaggle's archive has the folder twice."""
    return next((place for place in places if (folder / place).is_dir()), places[-1])
