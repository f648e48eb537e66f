"""The data door: a folder of images and a table become shards of `images`, and of `rejected` for what was refused."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BeforeValidator, Field, PlainSerializer, PlainValidator, WithJsonSchema, model_validator

from cfx.errors import UserError
from cfx.images import BYTES_PER_PIXEL, LARGEST_SIDE, MAX_PIXELS, Refused, Resample, decode_png, read_image
from cfx.paths import PATH
from tasks.data.annotations import FIXED, MOST_LABELS, Annotations, First, Nightly, annotations_of, listing, sample_of
from tasks.data.drawing import by_lot, drawn
from tasks.data.files import is_inside, names_below, read, stamps
from tasks.data.formats.folders import image_names
from tasks.data.formats.remarks import Remarks
from tasks.data.formats.samples import images_alone
from tasks.data.formats.source import Choices, Source
from tasks.data.seen_files import SeenFiles
from tasks.shard_images import Images
from warehouse.facts.storage import warehouse_at

FEWEST = 5  # images of a label: with fewer, no interval is given for what was found on them
HASHED_WHOLE = 2**30  # bytes of images up to which `fingerprint` reads their contents


# Never with credentials, because a configuration is kept among the facts.
ImagesPath = Annotated[
    Path, PlainValidator(warehouse_at), PlainSerializer(str), WithJsonSchema({"type": "string", "format": PATH})
]

Side = Annotated[int, Field(ge=8, le=LARGEST_SIDE)]


def _as_text(labels: object) -> object:
    """Labels as a table holds them: YAML reads 0 and true as other things than text."""
    if not isinstance(labels, dict):
        return labels
    return {str(label).lower() if isinstance(label, bool) else str(label): name for label, name in labels.items()}


LabelNames = Annotated[dict[str, str | None], BeforeValidator(_as_text)]


class DataConfig(Annotations):
    """Which images are audited, and what is known about them.

    The table is the list of images: a file of the folder that it does not name is not part of the data. Without a table, every
    image below the folder is.
    """

    images: ImagesPath = Field(
        description="folder of the images, or a URL such as s3://bucket/prefix: PNG, JPEG, WebP, BMP, TIFF, GIF, PGM, "
        "HEIC or AVIF, and tar, Parquet and Arrow files that hold such; links are followed"
    )
    size: Side | tuple[Side, Side] = Field(
        64,
        description="of the images audited, pixels: the side of a square, or [height, width]: what the classifier sees in "
        "production, whatever the prior draws; the largest centred part of that shape is kept, resampled with antialiasing",
    )
    resample: Resample = Field("lanczos", description="how images are brought to size; most papers: bilinear")
    annotations: Path | None = Field(
        None,
        description="table of yes/no columns that CD is held against instead of the audited images' own: most papers take the "
        "training partition; of a table with `split_column` the rows of split train count, or all without any",
    )
    labels: LabelNames = Field(
        {},
        description="class by label, `{0: cat, 1: dog}`, where the table calls them otherwise; null: counts as no label. Need "
        "not be said: case, spaces, and the yes and no of a column called like a class whose negation is the other, as `Smiling`",
    )
    min_side: int = Field(8, ge=1, description="refuse images with a shorter side, pixels")
    max_pixels: int = Field(MAX_PIXELS, ge=1, le=89_478_485, description="refuse larger images; the most is Pillow's own limit")
    bits: int | None = Field(
        None,
        ge=9,
        le=16,
        description="of 16-bit grey, how many are used, where files do not say it: 12 for many cameras; null refuses images that "
        "may be dark or may use fewer",
    )
    max_rejected: float = Field(0.5, ge=0, le=1, description="share of refused files above which the audit stops")

    @model_validator(mode="after")
    def _columns_of_a_table(self) -> DataConfig:
        for name in ("label_column", "split_column", "split", "attribute_columns"):
            if self.table is None and (value := getattr(self, name)):
                raise UserError(f"{name}: {value!r} is looked for in the table, and there is none; set `table`, or leave it out")
        return self

    def image_files(self) -> list[str]:
        """Every image below the folder, in order of name. Raises UserError for none, and for images beside their masks."""
        remarks = Remarks()
        names = image_names(self.images, names_below(self.images, remarks.leave_out), remarks)
        if not names:
            left = f" (left out: {'; '.join(map(str, remarks.left_out()))})" if remarks.counts else ""
            raise UserError(
                f"images: there is no image below {self.images}{left}; give a folder of images, or `table`, which names those in "
                "tar, Parquet and Arrow files: `cfx import-data` writes one"
            )
        return images_alone(names, Source(self.images, Choices(), remarks))


class TooManyRejected(UserError):
    """More files were refused than `max_rejected` allows."""

    def __init__(self, most: float, reasons: Counter[str], n: int, run_id: str, first: str = "") -> None:
        counts = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
        super().__init__(
            f"max_rejected: {reasons.total()} of {n} files were refused ({counts}), more than a share of {most:g}; "
            f"`rejected` of run {run_id!r} names each{f', first {first}' if first else ''}: mend the files or raise max_rejected"
        )


@dataclass(frozen=True)
class Listed:
    """What a configuration selects: how many rows, their labels (sorted) and the attributes known (in the table's order)."""

    n: int
    labels: tuple[str, ...]
    attributes: tuple[str, ...]
    images: Mapping[str, int]  # rows a label
    sample: str | None = None  # how they were chosen, where they are not all
    warnings: tuple[str, ...] = ()


def check(config: DataConfig) -> Listed:
    """What this configuration selects, without opening an image. Raises UserError for what cannot work, with the way out."""
    rows = selected(config)
    if config.annotations is not None:
        annotations_of(config.annotations, config)
    counts = Counter(label for label in rows["label"].to_pylist() if label)
    attributes = tuple(name.removeprefix("a_") for name in rows.column_names[FIXED:])
    images = dict(sorted(counts.items()))
    warnings = (*_too_few(counts, config), *_repeated(rows, config))
    return Listed(len(rows), tuple(images), attributes, images, sample_of(config), warnings)


def _repeated(rows: pa.Table, config: DataConfig) -> tuple[str, ...]:
    """What to say of files that the table names twice, or in another split, too. The audit itself compares bytes."""
    said = []
    if (again := pc.sum(rows["again"]).as_py() or 0) > 0:
        said.append(f"rows that name a file that an earlier row names: {again:,}; only the first counts")
    if config.split is not None:
        here = {file for file in rows["file"].to_pylist() if file}
        elsewhere = other_splits(config)
        elsewhere = elsewhere.filter(pc.is_in(elsewhere["file"], pa.array(sorted(here), pa.string())))
        if len(elsewhere):
            shared, named = set(elsewhere["file"].to_pylist()), ", ".join(sorted(set(elsewhere["split"].to_pylist())))
            said.append(
                f"files of split {config.split!r} that another ({named}) lists, too: {len(shared):,}, such as {min(shared)}; "
                "accuracy may be better than on images that nobody has seen"
            )
    return tuple(said)


def other_splits(config: DataConfig) -> pa.Table:
    """The listing of the rows of a table that are in another split than the audited one."""
    every = listing(config.model_copy(update={"split": None, "limit": None}))
    return every.filter(pc.fill_null(pc.not_equal(every["split"], config.split), False))


def _too_few(counts: Counter[str], config: DataConfig) -> tuple[str, ...]:
    """What to say of labels that nothing can be told about, before any work: one alone, or too few images of some."""
    if len(counts) == 1:
        ((label, n),) = counts.items()
        sorted_by_class = "; `limit: {first: …}` takes them in order of their names" if isinstance(config.limit, First) else ""
        return (
            f"all {n:,} labelled images are labelled {label!r}: what tells this class from another cannot show; add images of "
            f"another{sorted_by_class}",
        )
    few = sorted((n, label) for label, n in counts.items() if n < FEWEST)
    if not few:
        return ()
    named = ", ".join(f"{label} ({n})" for n, label in few[:MOST_LABELS])
    more = f" and {len(few) - MOST_LABELS} more labels" if len(few) > MOST_LABELS else ""
    return (f"fewer than {FEWEST} images are labelled {named}{more}: too few to tell anything of; add images or raise `limit`",)


def fingerprint(config: DataConfig) -> str:
    """SHA-256 over the table's bytes, the annotations', the images selected and how they are resampled; where they lie and when
    they were written does not matter. Of a nightly sample the rows drawn count instead of the table, which grows.

    Up to 1 GiB of images their contents are hashed; beyond that, and in an object store, their names, sizes and the store's own
    checksums, to keep this a matter of seconds (every image's own SHA-256 is its image_id anyway).
    """
    rows = selected(config)
    names = [name for name in rows["file"].to_pylist() if name]
    files = stamps(config.images, names)
    whole = isinstance(config.images, Path) and sum(max(0, size) for size, _ in files.values()) <= HASHED_WHOLE
    known = _sha256(config.table) if config.table is not None else b""
    if isinstance(config.limit, Nightly):
        known = json.dumps(rows.drop_columns("row").to_pylist()).encode()
    digest = hashlib.sha256(known + config.resample.encode())
    if config.annotations is not None:
        digest.update(_sha256(config.annotations))
    for name in names:
        digest.update(f"\0{name}".encode())
    for file, (size, mark) in files.items():
        digest.update(f"\0{file}\0{size}\0{mark}\0".encode())
        if whole and size >= 0:
            digest.update(_sha256(os.path.join(config.images, file)))
    return digest.hexdigest()


def sample(config: DataConfig, n: int) -> Images:
    """Up to n images that can be used, drawn by chance, alike in every label, the same every time. Raises UserError for none."""
    return _images(_usable(config, selected(config), n))


def labelled_sample(config: DataConfig, n: int) -> tuple[Images, list[str | None]]:
    """Likewise of the images that have a label, if any has; and their labels, or None for each."""
    rows = selected(config)
    known = rows.filter(pc.fill_null(pc.not_equal(rows["label"], ""), False))
    admitted = _usable(config, known if len(known) else rows, n)
    return _images(admitted), [row["label"] for row in admitted]


def annotated_sample(config: DataConfig, n: int) -> tuple[Images, dict[str, list[bool | None]]]:
    """As `sample`; and what the table's yes/no columns say of each image, by column."""
    admitted = _usable(config, selected(config), n)
    names = [name for name in admitted[0] if name.startswith("a_")]
    return _images(admitted), {name.removeprefix("a_"): [row[name] for row in admitted] for name in names}


def sides(config: DataConfig, n: int) -> list[int]:
    """The shorter side, pixels, of up to n of the files that can be used. Raises UserError if there are none."""
    return [min(row["width"], row["height"]) for row in _usable(config, selected(config), n)]


def _images(admitted: list[dict[str, Any]]) -> Images:
    return Images([row["image_id"] for row in admitted], decode_png([row["png"] for row in admitted]))


def _usable(config: DataConfig, rows: pa.Table, n: int) -> list[dict[str, Any]]:
    """Up to n rows drawn whose files can be used. Raises UserError if there are none."""
    files = [file or "" for file in rows["file"].to_pylist()]
    chosen = drawn(files, rows["label"].to_pylist(), n)
    order = list(dict.fromkeys([*chosen, *by_lot(files)]))  # more, in place of what is refused
    admitted: list[dict[str, Any]] = []
    reasons, first = Counter[str](), SeenFiles()
    while order and len(admitted) < n:
        batch, order = order[: n - len(admitted)], order[n - len(admitted) :]
        more, refused = admit(rows.take(batch).to_pylist(), config, first)
        first.update((row["image_id"], row["path"]) for row in more)
        reasons.update(row["reason"] for row in refused)
        admitted += more
    if not admitted:
        why = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
        first_of = f"{refused[0]['path']}: {refused[0]['error']}"
        raise UserError(f"none of the {len(rows)} images in {config.images} can be used ({why}), such as {first_of}")
    return admitted


def selected(config: DataConfig) -> pa.Table:
    """The listing of the rows to audit, once folder and labels are known to be there."""
    if not config.images.is_dir():
        raise UserError(f"images: there is no folder {config.images}; give the folder that a table's files are relative to")
    rows = listing(config)
    if config.label_column is not None and not any(pc.unique(rows["label"]).to_pylist()):
        raise UserError(
            f"label_column: {config.label_column!r} is empty in all {len(rows)} rows selected from {config.table}; "
            "fill it in, or set label_column to null"
        )
    return rows


def admit(rows: list[dict[str, Any]], config: DataConfig, first: SeenFiles) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of `images` for the files that can be used, rows of `rejected` for the others; `first` holds the files seen before."""
    admitted: list[dict[str, Any]] = []
    refused: list[dict[str, Any]] = []
    here: dict[str, str] = {}  # seen in these rows: a dictionary, for a transaction an image takes longer than decoding it
    for row in rows:
        try:
            content = content_of(row, config)
            image_id = hashlib.sha256(content).hexdigest()
            if twin := here.get(image_id) or first.file_of(image_id):
                raise Refused("duplicate", f"the same bytes as {twin}")
            image = read_image(content, config.size, config.max_pixels, config.min_side, config.bits, config.resample)
        except Refused as error:
            known = {"label": row["label"] or None, "split": row["split"] or None}
            refused.append({"path": row["file"] or "", "stage": "ingest", "reason": error.reason, "error": str(error)} | known)
        else:
            here[image_id] = row["file"]
            size = {"width": image.width, "height": image.height, "png": image.png, "pages": image.pages}
            admitted.append(row | size | {"image_id": image_id, "path": row["file"], "label": row["label"] or None})
    return admitted, refused


def paged(admitted: list[dict[str, Any]]) -> str | None:
    """Which of the images are the first of several pages, in a line; None where none is."""
    several = [row["path"] for row in admitted if row["pages"] > 1]
    if not several:
        return None
    more = ", …" if len(several) > 3 else ""
    return f"{len(several)} TIFF files have several pages, of which the first counts: {', '.join(several[:3])}{more}"


def content_of(row: dict[str, Any], config: DataConfig) -> bytes:
    """The bytes of the image that a row names. Raises Refused if there is none to be read, or if it lies outside the folder."""
    name, number = row["file"], row["row"]
    if not name:
        raise Refused("missing", f"row {number} of the table names no file")
    if row["again"]:
        raise Refused("listed_twice", f"row {number} of the table names a file that an earlier row names; the earlier one counts")
    if not is_inside(name):
        raise Refused(
            "outside", f"row {number} of the table names a file outside the folder of images; use a path relative to it"
        )
    try:
        return read(config.images, name, config.max_pixels * BYTES_PER_PIXEL + 2**20)  # metadata may add a little
    except Refused as error:
        if error.reason != "missing":
            raise
        raise Refused("missing", f"row {number} of the table names {error}") from error
    except OSError as error:
        raise Refused("unreadable", str(error.strerror or error)) from error


def _sha256(path: str | Path) -> bytes:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
