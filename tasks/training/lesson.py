"""What a classifier or an oracle is trained on: images that a table labels, read as an audit reads them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import torch
from torch import Tensor

from cfx.errors import UserError
from cfx.images import Refused, decode_png, read_image
from cfx.training.balance import balancing_weights
from tasks.data.annotations import FIXED, columns_of, left_out
from tasks.data.formats.remarks import Remarks, listed
from tasks.data.ingest import DataConfig, content_of, selected

NOTICED = 1.05  # a weight under which the table is balanced as it is
FEWEST = 2  # images of a class, or of an attribute's yes and of its no: one to learn from, one to try
_NO_ATTRIBUTE = re.compile(
    r"(.*[_ ])?(labels?|ids?|uid|index|idx|fold|splits?)|class(es)?|targets?|y|row|partition|unnamed: \d+|"
    r"is[_ ](train|test|val\w*)",
    re.I,
)


def is_no_attribute(name: str) -> bool:
    """Whether a column of this name rather holds a label, a split or a number of the row."""
    return _NO_ATTRIBUTE.fullmatch(name.strip()) is not None


class Lesson(NamedTuple):
    """Images (N, 3, S, S) uint8; class ids (N,), or yes/no (N, A) as 0/1; what the classes or attributes are called; what of the
    table is not in it. weights: (N,), how often to draw each so that no attribute goes with a class; None for all alike."""

    images: Tensor
    labels: Tensor
    names: tuple[str, ...]
    remarks: Remarks
    weights: Tensor | None = None

    def facts(self) -> dict[str, object]:
        """What is kept beside the weights."""
        return {"images": len(self.images), "left_out": dict(self.remarks.counts), "said": list(self.remarks.sentences)}


def classes_of(data: DataConfig, listing: pa.Table | None = None) -> Lesson:
    """The images whose label is known, with the classes sorted. listing: rows to learn from; default: those selected.

    Raises UserError for fewer than two classes, fewer than two images of one, and more refused than `max_rejected` allows.
    """
    rows, remarks = (selected(data) if listing is None else listing).to_pylist(), Remarks()
    labelled = []
    for row in rows:
        if row["label"]:
            labelled.append(row)
        else:
            remarks.leave_out(str(row["file"]), "without a label")
    classes = sorted({row["label"] for row in labelled})
    if len(classes) < 2:
        raise UserError(f"label_column: {data.label_column!r} names {len(classes)} class; a classifier needs two or more")
    images, read = _read(labelled, len(rows), data, remarks)
    labels = torch.tensor([classes.index(row["label"]) for row in read])
    for name, count in zip(classes, labels.bincount(minlength=len(classes)).tolist(), strict=True):
        if count < FEWEST:
            raise UserError(
                f"label_column: class {name!r} has {count} image that can be read; a classifier needs {FEWEST} or more of each, "
                "one to learn from and one to try: add some, or leave its rows out of the table"
            )
    return Lesson(images, labels, tuple(classes), remarks, _balanced(read, remarks))


def attributes_of(data: DataConfig, listing: pa.Table | None = None) -> Lesson:
    """The images whose attributes are all known, with the attributes of the table or those configured. listing: as above.

    Raises UserError where a column found by itself looks like a label or a number of the row, for an attribute that is alike
    everywhere, and for more refused than `max_rejected` allows.
    """
    listing, remarks = selected(data) if listing is None else listing, Remarks()
    names = [name.removeprefix("a_") for name in listing.column_names[FIXED:]]
    if unused := left_out(columns_of(data)):
        remarks.say(unused)
    if not names:
        raise UserError(
            f"{data.table} has no yes/no column, of which an oracle learns one attribute each; {unused or 'no other'}"
        )
    if data.attribute_columns is None and (odd := [name for name in names if is_no_attribute(name)]):
        others = ",".join(name for name in names if name not in odd) or odd[0]
        raise UserError(f"the yes/no column {odd[0]!r} looks like no attribute; say which to learn: --attributes {others}")
    rows = listing.to_pylist()
    known = []
    for row in rows:
        if (gap := _unknown(row, names)) is None:
            known.append(row)
        else:
            remarks.leave_out(str(row["file"]), f"without a value of {gap}")
    images, read = _read(known, len(rows), data, remarks)
    answers = torch.tensor([[int(row[f"a_{name}"]) for name in names] for row in read])
    kept = _learnable(answers, names, data, remarks)
    remarks.say(f"{len(kept)} attributes learned: {', '.join(names[i] for i in kept)}")
    return Lesson(images, answers[:, kept], tuple(names[i] for i in kept), remarks, _balanced(read, remarks))


def _balanced(rows: Sequence[Mapping[str, Any]], remarks: Remarks) -> Tensor | None:
    """Weights by which the table's attributes go with no class; None where there are no classes or they already do not.

    What is taught from a biased table would share the bias of the classifier that it is to be held against.
    """
    known = [name for name in rows[0] if name.startswith("a_") and all(row[name] is not None for row in rows)]
    classes = sorted({row["label"] for row in rows if row["label"]})
    if len(classes) < 2 or not known or not all(row["label"] for row in rows):
        return None
    ids = torch.tensor([classes.index(row["label"]) for row in rows])
    has = torch.tensor([[int(row[name]) for name in known] for row in rows])
    weights, balanced = balancing_weights(ids, has)
    if not balanced or float(weights.max()) < NOTICED:
        return None
    worth = float(weights.sum().square() / weights.square().sum())  # Kish's effective sample size
    names = listed([known[at].removeprefix("a_") for at in balanced])
    remarks.say(
        f"images are drawn so that no class has {names} more often than another; that is worth {worth:.0f} of {len(rows)} images"
    )
    return weights


def _unknown(row: Mapping[str, Any], names: Sequence[str]) -> str | None:
    """The first attribute that a row does not know."""
    return next((name for name in names if row[f"a_{name}"] is None), None)


def _learnable(answers: Tensor, names: Sequence[str], data: DataConfig, remarks: Remarks) -> list[int]:
    """Which attributes have images of both kinds. Raises UserError for one that was configured and has not, or if none has."""
    yes = answers.sum(0).tolist()
    alike = [i for i in range(len(names)) if min(yes[i], len(answers) - yes[i]) < FEWEST]
    counts = listed([f"{names[i]}: {yes[i]} of {len(answers)}" for i in alike])
    if alike and (data.attribute_columns is not None or len(alike) == len(names)):
        raise UserError(f"attributes that hardly any image or nearly every image has cannot be learned: {counts}; add images")
    if alike:
        remarks.say(f"not learned, because hardly any image or nearly every image has it: {counts}")
    return [i for i in range(len(names)) if i not in alike]


def _read(
    rows: list[dict[str, Any]], listed_rows: int, data: DataConfig, remarks: Remarks
) -> tuple[Tensor, list[dict[str, Any]]]:
    """The images of the rows that can be read, and these rows. Raises UserError for too many that cannot."""
    images, read, first = [], [], ""
    for row in rows:
        try:
            png = read_image(content_of(row, data), data.size, data.max_pixels, 1, data.bits).png
        except Refused as error:
            remarks.leave_out(str(row["file"]), error.reason)
            first = first or f"; the first: {row['file']} ({error})"
            continue
        images.append(((decode_png([png])[0] + 1) * 127.5).round().to(torch.uint8))
        read.append(row)
    gone = remarks.counts.total()
    if not images or gone > data.max_rejected * listed_rows:
        counts = "; ".join(map(str, remarks.left_out()))
        raise UserError(
            f"max_rejected: {gone} of {listed_rows} images cannot be learned from ({counts}), more than a share of "
            f"{data.max_rejected:g}{first}; mend the files or the table, or raise --max-rejected"
        )
    return torch.stack(images), read
