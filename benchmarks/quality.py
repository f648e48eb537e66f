"""What the checks of data quality find of what was planted:  python benchmarks/quality.py [--json]

600 Portraits a seed, three seeds, 64 x 64 as audited. Planted in each, never two in one image: 20 exact copies, 20 saved again as
JPEG at quality 90, 20 resized, 20 blurred (a Gaussian of 1.5 to 3 pixels as audited) and 20 slightly (0.5 to 1.25), 20 darkened
to 15 to 40 % and 20 slightly (40 to 60 %), 20 brightened, 20 of nearly one tone, 20 files of another size, 20 of another shape,
and 5 % of the labels flipped. Thresholds were chosen on the seeds 11 and 12; graded are 1, 2 and 3.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.pop(0)  # benchmarks/, whose names would hide Python's own and ours
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from cfx.portraits import render, sample
from flows.engine import one_thread
from tasks.check import check
from tasks.config import AuditConfig
from tasks.stages.ingest import ingest
from tasks.stages.predict import predict
from tasks.stages.properties import measure_properties
from tasks.stages.quality import find_label_issues
from tasks.stages.run_record import finish_run, start_run
from warehouse.lens.connect import query

SEEDS, IMAGES, EACH, FLIPPED = (1, 2, 3), 600, 20, 0.05
SIDE = 128  # of the files, pixels; audited at 64
Pixels = NDArray[np.uint8]
Change = Callable[[Pixels, np.random.Generator], Image.Image]


def _blurred(low: float, high: float) -> Change:
    return lambda image, rng: Image.fromarray(image).filter(ImageFilter.GaussianBlur(rng.uniform(low, high)))


def _darkened(low: float, high: float) -> Change:
    return lambda image, rng: Image.fromarray((image * rng.uniform(low, high)).astype(np.uint8))


def _brightened(image: Pixels, rng: np.random.Generator) -> Image.Image:
    return Image.fromarray((255 - (255 - image.astype(float)) * rng.uniform(0.1, 0.3)).astype(np.uint8))


def _one_tone(image: Pixels, rng: np.random.Generator) -> Image.Image:
    return Image.fromarray((rng.uniform(60, 200, 3) + rng.normal(0, 1, image.shape)).astype(np.uint8))


def _resized(image: Pixels, rng: np.random.Generator) -> Image.Image:
    side = int(rng.choice([40, 48, 300, 512]))
    return Image.fromarray(image).resize((side, side), Image.Resampling.LANCZOS)


def _widened(image: Pixels, rng: np.random.Generator) -> Image.Image:
    wide = Image.fromarray(
        np.tile(np.median(image[:8], axis=(0, 1)).astype(np.uint8), (SIDE, int(SIDE * rng.uniform(1.7, 4)), 1))
    )
    wide.paste(Image.fromarray(image), ((wide.width - SIDE) // 2, 0))
    return wide if rng.random() < 0.5 else wide.rotate(90, expand=True)


CHANGED: dict[str, Change] = {
    "blurred": _blurred(3, 6),
    "slightly blurred": _blurred(1, 2.5),
    "dark": _darkened(0.15, 0.4),
    "slightly dark": _darkened(0.4, 0.6),
    "bright": _brightened,
    "low information": _one_tone,
    "odd size": _resized,
    "odd shape": _widened,
}
COPIES = ("exact duplicate", "JPEG 90", "resized")
CHECK = {  # that should find it, where it is not called as the kind
    "JPEG 90": "near duplicate",
    "resized": "near duplicate",
    "slightly blurred": "blurred",
    "slightly dark": "dark",
}


def write_data(folder: Path, seed: int) -> dict[str, set[str]]:
    """Images, table and what was planted: kind -> files. Of a near copy both it and its original count."""
    rng = np.random.default_rng([seed, 0])
    (folder / "images").mkdir(parents=True)
    free = iter(rng.permutation(IMAGES).tolist())
    kinds = {next(free): kind for kind in (*CHANGED, *COPIES) for _ in range(EACH)}
    kinds |= {next(free): "label issue" for _ in range(round(FLIPPED * IMAGES))}
    planted: dict[str, set[str]] = {kind: set() for kind in dict.fromkeys(kinds.values())}
    rows = [("file", "label")]
    for i in range(IMAGES):
        face, kind, name = sample(np.random.default_rng([seed, 1, i])), kinds.get(i, "as it was"), f"{i:04d}.png"
        image = render(face, SIDE)
        shown = CHANGED[kind](image, rng) if kind in CHANGED else Image.fromarray(image)
        shown.save(folder / "images" / name)
        files = [name]
        if kind in COPIES:
            files.append(_copy(shown, folder / "images" / f"{i:04d}_copy", kind, rng))
        label = "smiling" if face.has("smile") is not (kind == "label issue") else "not_smiling"
        rows += [(file, label) for file in files]
        if kind in planted:
            planted[kind] |= set(files[1:] if kind == "exact duplicate" else files)
    with (folder / "table.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return planted


def _copy(image: Image.Image, stem: Path, kind: str, rng: np.random.Generator) -> str:
    """A copy of that kind beside the image; its name."""
    path = stem.with_suffix(".jpg" if kind == "JPEG 90" else ".png")
    side = int(rng.choice([72, 96, 160])) if kind == "resized" else SIDE
    image.resize((side, side), Image.Resampling.BICUBIC).save(path, quality=90)
    return path.name


def flagged(folder: Path) -> dict[str, set[str]]:
    """What the checks flag: check -> files."""
    config = AuditConfig.model_validate(
        {
            "name": "quality", "warehouse": folder / "warehouse", "classifier": {"weights": "portraits:clean"}, "device": "cpu",
            "data": {"images": folder / "images", "table": folder / "table.csv", "label_column": "label"},
        }
    )  # fmt: skip
    with one_thread():
        run = check(config)
        start_run(run)
        images = ingest(run)
        predicted = [predict(run, shard) for shard in images]
        for shard in images:
            measure_properties(run, shard)
        find_label_issues(run, images, predicted)
        finish_run(run)
    found: dict[str, set[str]] = {}
    for row in query(run.root, "select issue, path from quality_images where run_id = $run", {"run": run.id}).to_pylist():
        found.setdefault(row["issue"], set()).add(row["path"])
    return found


def graded(planted: dict[str, set[str]], found: dict[str, set[str]]) -> Iterator[tuple[str, int, int, int]]:
    """Of each kind: planted, of these found, flagged. What is planted as another kind of the same check is no false alarm."""
    for kind, files in planted.items():
        check = CHECK.get(kind, kind)
        by_check = found.get(check, set())
        others = [known for other, known in planted.items() if other != kind and CHECK.get(other, other) == check]
        yield kind, len(files), len(files & by_check), len(by_check.difference(*others))


def measure(seeds: tuple[int, ...] = SEEDS) -> dict[str, dict[str, float]]:
    """kind -> planted, found, flagged, recall and precision over the seeds."""
    counts: dict[str, list[int]] = {}
    for seed in seeds:
        with tempfile.TemporaryDirectory() as folder:
            planted = write_data(Path(folder), seed)
            for kind, *numbers in graded(planted, flagged(Path(folder))):
                counts[kind] = [a + b for a, b in zip(counts.get(kind, [0, 0, 0]), numbers, strict=True)]
    return {
        kind: {"planted": n, "found": hit, "flagged": marked, "recall": hit / n, "precision": hit / max(1, marked)}
        for kind, (n, hit, marked) in counts.items()
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--json", action="store_true", help="print JSON alone")
    options.add_argument("--seeds", type=int, nargs="+", default=SEEDS, help="seeds to plant with")
    chosen = options.parse_args()
    found = measure(tuple(chosen.seeds))
    if chosen.json:
        print(json.dumps(found, indent=2))  # noqa: T201
        return
    print(f"{'kind':16} {'planted':>7} {'recall':>6} {'precision':>9}")  # noqa: T201
    for kind, row in found.items():
        print(f"{kind:16} {row['planted']:7} {row['recall']:6.2f} {row['precision']:9.2f}")  # noqa: T201


if __name__ == "__main__":
    main()
