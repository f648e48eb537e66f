"""A run as DiME's released code writes its results, and ACE's and TIME's after it: the folders that papers' metric scripts read.

    Original/{Correct,Incorrect}/0000012.png
    Results/<run>/{CC,IC}/{CCF,ICF}/{CF,SM,Info}/0000012.{png,txt}

CC and IC: the classifier is right or wrong about the image; CCF and ICF: its counterfactual flips it or not. CF is the
counterfactual, SM the change, Info text. The number is the image's place among the run's, by path; manifest.csv names its file.
What an audit does not keep, the noised images of `Noise`, is left out.
"""

from __future__ import annotations

import csv
import io
from contextlib import closing
from pathlib import Path

import numpy as np
from PIL import Image

from cfx.errors import UserError
from warehouse.lens.fetch import Row
from warehouse.lens.gate import check_run
from warehouse.lens.listed_runs import open_run

ROWS = 256  # explanations read at a time
EXPLAINED = """
    with numbered as (
        select image_id, path, label, png, row_number() over (order by path, image_id) - 1 as place
        from images
        where run_id = $run
    )
    select
        i.place, i.path, o.image_id, i.label, o.seed, o.source, o.target, o.flipped_8bit as flipped,
        coalesce(o.correct, true) as right_before, o.p_source_cf, o.p_target_cf, o.l1, o.linf, i.png, e.png as png_cf
    from outcomes o
    join numbered i using (image_id)
    join explanations e using (run_id, image_id, method, seed)
    where o.run_id = $run and e.arm = 'guided'
    order by o.seed, i.place
"""
COLUMNS = ("number", "path", "image_id", "label", "pred", "target", "cf_pred", "flipped")


def export_papers(root: Path, run_id: str, to: Path) -> Path:
    """Write the folders below `to`; a run of several seeds gives one result a seed, <run>-<seed>. Returns `to`.

    Whether a counterfactual flips is what the classifier says of the 8-bit image, which is what scripts read. Raises UserError
    for an unknown run, one without explanations or without its images, and where such a result is there already.
    """
    with closing(open_run(root, f"from runs; {EXPLAINED}", run_id)) as lens:
        check_run(lens, root, run_id)
        (classes, seeds), *_ = lens.execute("select classes, seeds from runs where run_id = $run", {"run": run_id}).fetchall()
        names = {seed: run_id if len(seeds) == 1 else f"{run_id}-{seed}" for seed in seeds}
        for name in names.values():
            if (to / "Results" / name).exists():
                raise UserError(f"{to / 'Results' / name} is there already; remove it, or give another folder with --out")
        manifests: dict[str, list[Row]] = {}
        for batch in lens.execute(EXPLAINED, {"run": run_id}).to_arrow_reader(ROWS):
            for row in batch.to_pylist():
                name = names[row["seed"]]
                manifests.setdefault(name, []).append(_write(to, name, row, classes))
    if not manifests:
        raise UserError(f"run {run_id!r} has no explanation, so there is nothing for papers' scripts to read")
    for name, rows in manifests.items():
        with open(to / "Results" / name / "manifest.csv", "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)
    return to


def _write(to: Path, name: str, row: Row, classes: list[str]) -> Row:
    """The files of one explanation; returns its line of the manifest."""
    if row["png"] is None or row["png_cf"] is None:
        raise UserError(f"the image {row['path']} is no longer kept (`cfx prune`); audit again to have it")
    right, number = row["right_before"], f"{row['place']:07d}"
    place = to / "Results" / name / ("CC" if right else "IC") / ("CCF" if row["flipped"] else "ICF")
    info = {
        "label": _index(classes, row["label"]),
        "pred": _index(classes, row["source"]),
        "target": _index(classes, row["target"]),
        "cf pred": _index(classes, _class_after(row, classes)),
    }
    files = {
        to / "Original" / ("Correct" if right else "Incorrect") / f"{number}.png": row["png"],
        place / "CF" / f"{number}.png": row["png_cf"],
        place / "SM" / f"{number}.png": _change(row["png"], row["png_cf"]),
        place / "Info" / f"{number}.txt": _text(info | {"l_1": row["l1"], "l_inf": row["linf"], "bkl": 1 - row["p_target_cf"]}),
    }
    for path, content in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    line = (number, row["path"], row["image_id"], *info.values(), int(row["flipped"]))
    return dict(zip(COLUMNS, line, strict=True))


def _class_after(row: Row, classes: list[str]) -> str | None:
    """The class of the counterfactual, or None where a run of many classes does not keep it."""
    if row["flipped"]:
        return str(row["target"])
    return str(row["source"]) if len(classes) == 2 or row["p_source_cf"] > 0.5 else None


def _index(classes: list[str], name: str | None) -> int:
    """The number of a class, as papers' scripts name it; -1 for none."""
    return classes.index(name) if name in classes else -1


def _text(lines: Row) -> bytes:
    return "".join(f"{name}: {value}\n" for name, value in lines.items()).encode()


def _change(png: bytes, png_cf: bytes) -> bytes:
    """The difference summed over channels, on its own largest value; black where nothing changed."""
    before, after = (np.asarray(Image.open(io.BytesIO(file)).convert("RGB"), np.int64) for file in (png, png_cf))
    change = np.abs(after - before).sum(2)
    buffer = io.BytesIO()
    Image.fromarray((change * 255 // max(1, change.max())).astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()
