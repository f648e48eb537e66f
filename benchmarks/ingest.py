"""How fast a million images pass the data door, and how much memory they take.

    .venv/bin/python benchmarks/ingest.py --json                     # a million of 8 x 8, 1 % of them cut short
    .venv/bin/python benchmarks/ingest.py --json --images 100000

Tars of WebDataset, listed by `cfx import-data` and ingested by the audit's own stage, each in a process of its own whose peak
memory is given; a tenth as many are ingested first, to see whether it grows. Every image must be in `images` or in `rejected`.
"""

from __future__ import annotations

import argparse
import io
import json
import resource
import subprocess
import sys
import tarfile
import tempfile
import time
import zlib
from pathlib import Path
from struct import pack
from typing import Any

sys.path.pop(0)  # benchmarks/, whose names would hide Python's own and ours
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

import flows  # noqa: F401  # as in cfx's own commands, Arrow's memory is the system's

SIDE, A_TAR, SHARD = 8, 10_000, 4_096


def png(pixels: bytes) -> bytes:
    """An 8 x 8 RGB image as PNG, by hand: faster than a library for a million of them."""
    rows = b"".join(b"\0" + pixels[i : i + 3 * SIDE] for i in range(0, len(pixels), 3 * SIDE))
    header = pack(">IIBBBBB", SIDE, SIDE, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 1)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        pack(">I", len(data)) + name + data + pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


def write_tars(folder: Path, images: int) -> int:
    """Images that all differ, and their classes; every hundredth is cut short. Returns how many are."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for start in range(0, images, A_TAR):
        pixels = rng.integers(0, 256, (A_TAR, 3 * SIDE * SIDE), np.uint8)
        with tarfile.open(folder / f"train-{start // A_TAR:05}.tar", "w") as tar:
            for i in range(start, min(start + A_TAR, images)):
                content = png(pixels[i - start].tobytes())
                files = {"png": content[:90] if i % 100 == 7 else content, "cls": str(i % 2).encode()}
                for ending, data in files.items():
                    info = tarfile.TarInfo(f"{i:08}.{ending}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
    return len(range(7, images, 100))


def listed(folder: Path, table: Path) -> dict[str, Any]:
    from tasks.data.formats import table_of

    began = time.perf_counter()
    table_of("webdataset", folder, table)
    return {"list_seconds": round(time.perf_counter() - began, 1), "list_peak_gib": _peak()}


def ingested(folder: Path, table: Path, root: Path, limit: int) -> dict[str, Any]:
    from tasks.data.ingest import DataConfig
    from tests.runs import ingested as ingest
    from warehouse.lens.connect import query

    config = DataConfig(images=folder, table=table, label_column="label", split_column="split", size=SIDE, limit=limit)
    before, began = _peak(), time.perf_counter()
    shards = ingest(root, config, SHARD)
    seconds, peak = time.perf_counter() - began, _peak()
    (rejected,) = query(root, "select count(*) as n, count(distinct path) as paths from rejected").to_pylist()
    (seen,) = query(root, "select count(distinct image_id) as ids, count(distinct path) as paths from images").to_pylist()
    assert sum(shard.rows for shard in shards) == seen["ids"] == seen["paths"]
    found = {"images": seen["ids"], "rejected": rejected["paths"], "lost": limit - seen["paths"] - rejected["paths"]}
    return found | {"per_second": round(limit / seconds), "seconds": round(seconds, 1), "peak_gib": peak, "idle_gib": before}


def _peak() -> float:
    """Peak memory of this process so far, GiB."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 3)


def _apart(*arguments: object) -> dict[str, Any]:
    """A step in a process of its own."""
    ran = subprocess.run(
        [sys.executable, __file__, "--step", *map(str, arguments)], check=True, stdout=subprocess.PIPE, text=True
    )
    answer: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return answer


def measured(folder: Path, images: int) -> dict[str, Any]:
    corrupt = write_tars(folder / "tars", images)
    tars, table = folder / "tars", folder / "table.parquet"
    listed = _apart("list", tars, table)
    fewer = _apart("ingest", tars, table, folder / "fewer", images // 10)
    all_of_them = _apart("ingest", tars, table, folder / "all", images)
    row = {"files": images, "corrupt": corrupt, **all_of_them, "peak_gib_of_a_tenth": fewer["peak_gib"], **listed}
    assert row["rejected"] == corrupt and row["lost"] == 0, row
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--step", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    match options.step:
        case ["list", tars, table]:
            row = listed(Path(tars), Path(table))
        case ["ingest", tars, table, root, limit]:
            row = ingested(Path(tars), Path(table), Path(root), int(limit))
        case _:
            with tempfile.TemporaryDirectory() as folder:
                row = measured(Path(folder), options.images)
    print(json.dumps(row) if options.json or options.step else "\n".join(f"{name:22} {value}" for name, value in row.items()))  # noqa: T201


if __name__ == "__main__":
    main()
