"""What an audit leaves to train with: its images, edits and counterfactuals with labels that can be trusted, balanced by what was
confirmed, as folders that torchvision's ImageFolder reads and a table.

    train/<label>/3f9a….png     held_out/<label>/8b01….png     table.csv

An edit of an attribute that should not decide keeps its image's label: that is what is to be learned from it, and of its sham,
which is redrawn without it, that redrawing tells nothing. A counterfactual has the class that it shows only where another network
than the audited one says so. One half of the images is held out, and nothing that was drawn from them is in the set: with it a
repaired classifier can be told how good it is.
"""

from __future__ import annotations

import csv
import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

import duckdb

from cfx.errors import UserError
from warehouse.lens.fetch import Row, fetch
from warehouse.lens.gate import check_run
from warehouse.lens.listed_runs import open_run

TRAIN, HELD_OUT = "train", "held_out"
KINDS = ("original", "edit", "sham", "counterfactual")
COLUMNS = ("file", "label", "source", "kind", "weight", "split")  # of the table, beside one an attribute
MOST = 20.0  # times the mean weight: beyond that a few images would be all that is learned
SURE = 0.8  # probability from which the oracle is believed about an image that was drawn
TELLS = 0.8  # share of a class with the label's attribute, or without it, from which the attribute tells the class
FEWEST = 4  # images of a group, so that one half of them says anything about it

RANKED = "select attribute, verdict from verdicts where run_id = $run order by rank"
IMAGES = "from images where run_id = $run order by image_id"
SEEN = "select distinct on (image_id) * from attributes where run_id = $run and arm = 'guided' order by image_id, seed"
EDITS = """
    select
        e.image_id, e.attribute, e.switched_on, e.counted, d.png, d.pasted_png, d.sham_png,
        list_position(e.judge_after, list_max(e.judge_after)) as judged,
        list_position(e.judge_pasted, list_max(e.judge_pasted)) as judged_pasted,
        list_position(e.judge_sham, list_max(e.judge_sham)) as judged_sham
    from effects e
    join edits d on d.run_id = e.edits and d.image_id = e.image_id and d.attribute = e.attribute
    where e.run_id = $run
    order by e.attribute, e.image_id
"""
COUNTERFACTUALS = """
    select attributes.*, source, target, flipped_8bit, judge_flipped, png
    from explanations join attributes using (run_id, image_id, method, arm, seed)
    where run_id = $run and arm = 'guided'
    order by image_id, seed
"""


@dataclass(frozen=True)
class Sample:
    """One image to train with or to be graded on."""

    name: str  # of its file
    png: bytes
    label: str
    values: tuple[bool, ...]  # of the set's attributes
    source: str  # id of the image that it is, or was drawn from
    kind: str  # one of KINDS
    split: str
    weight: float = 1.0

    @property
    def group(self) -> tuple[object, ...]:
        """Its label with its attributes."""
        return self.label, *self.values

    @property
    def file(self) -> str:
        """Where it lies in the folder; a label may hold what no file name can."""
        return f"{self.split}/{quote(self.label, safe=' ')}/{self.name}.png"


@dataclass(frozen=True)
class TrainingSet:
    """samples: held out ones weigh 1; drawn by their weights, each group of the others comes equally often. left_out: how many
    images, edits and counterfactuals are not in it, by the reason."""

    run_id: str
    classes: tuple[str, ...]
    attributes: tuple[str, ...]  # confirmed, in the order of the run's ranking
    samples: tuple[Sample, ...]
    left_out: Mapping[str, int]

    def split(self, name: str) -> list[Sample]:
        return [sample for sample in self.samples if sample.split == name]

    def sentences(self) -> list[str]:
        """How many of each kind there are, and what was left out and why, for people."""
        kinds = Counter(sample.kind for sample in self.split(TRAIN))
        there = ", ".join(f"{n} {kind}s" for kind, n in kinds.items())
        lines = [f"balanced by {', '.join(self.attributes)}: {there} to train on; {len(self.split(HELD_OUT))} images held out"]
        return [*lines, *(f"left out: {n} {reason}" for reason, n in self.left_out.items())]


def export_training(root: Path, run_id: str, to: Path) -> TrainingSet:
    """Write a run's training set into a new folder. Raises UserError as `training_set`, and for a folder that is not empty."""
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise UserError(f"{to} is there already; remove it, or give another folder with --to")
    found = training_set(root, run_id)
    for sample in found.samples:
        path = to / sample.file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(sample.png)
    write_table(found, to / "table.csv")
    return found


def write_table(found: TrainingSet, path: Path) -> None:
    """One row a sample: COLUMNS, and 0 or 1 for each attribute."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*COLUMNS, *found.attributes])
        for each in found.samples:
            writer.writerow(
                [each.file, each.label, each.source, each.kind, f"{each.weight:.6g}", each.split, *map(int, each.values)]
            )


def training_set(root: Path, run_id: str) -> TrainingSet:
    """A run's images with labels, split in two halves, and what was drawn from the first half, weighted.

    Raises UserError for an unknown run, one that confirms no attribute or has no labels or no copies of its images, and where a
    label has fewer than FEWEST images with an attribute, or without it: then nothing can be held out.
    """
    asked = ";".join(("from runs", RANKED, IMAGES, SEEN, EDITS, COUNTERFACTUALS))
    with closing(open_run(root, asked, run_id)) as lens:
        check_run(lens, root, run_id)
        attributes = _confirmed(lens, run_id)
        (run,) = fetch(lens, "select classes, target_attribute from runs where run_id = $run", run=run_id)
        images, seen, edits, drawn = (fetch(lens, sql, run=run_id) for sql in (IMAGES, SEEN, EDITS, COUNTERFACTUALS))
    by_oracle = {row["image_id"]: row for row in seen}
    left_out: Counter[str] = Counter()
    originals = halved(list(_originals(images, by_oracle, run["classes"], attributes, left_out)))
    _check_groups(originals, attributes, run_id, left_out)
    trained = {sample.source: sample for sample in originals if sample.split == TRAIN}
    more = [
        *_edits(edits, run, attributes, trained, left_out),
        *_counterfactuals(drawn, _Shown.of(run, originals, by_oracle), attributes, trained, left_out),
    ]
    return TrainingSet(run_id, tuple(run["classes"]), attributes, tuple(weighted([*originals, *more])), dict(left_out))


def halved(originals: Sequence[Sample]) -> list[Sample]:
    """Every other image of each group, in the order of a hash of its id, is held out: of an odd number the larger half."""
    lots = {each.source: hashlib.sha256(f"held out {each.source}".encode()).hexdigest() for each in originals}
    in_groups = sorted(originals, key=lambda each: (each.group, lots[each.source]))
    return [replace(each, split=TRAIN if place % 2 else HELD_OUT) for place, each in enumerate(in_groups)]


def weighted(samples: Sequence[Sample]) -> list[Sample]:
    """Weights of mean 1 by which each group is drawn equally often (MOST at most); images that are held out weigh 1."""
    counts = Counter(each.group for each in samples if each.split == TRAIN)
    even = counts.total() / max(1, len(counts))
    weights = {group: min(MOST, even / n) for group, n in counts.items()}
    return [replace(each, weight=weights[each.group]) if each.split == TRAIN else each for each in samples]


def _confirmed(lens: duckdb.DuckDBPyConnection, run_id: str) -> tuple[str, ...]:
    """The confirmed attributes. Raises UserError without any, naming what is suspected."""
    ranked = fetch(lens, RANKED, run=run_id)
    found = tuple(str(row["attribute"]) for row in ranked if row["verdict"] == "confirmed")
    if not found:
        suspected = [row["attribute"] for row in ranked if row["verdict"] == "suspected"]
        way_out = (
            f"{', '.join(suspected)} is suspected: audit more images, until it is confirmed or cleared"
            if suspected
            else "what has no name yet can be named in the explorer (cfx serve) and taught (cfx train oracle --teach RUN)"
        )
        raise UserError(f"run {run_id!r} confirms no attribute, so there is nothing to balance a training set by; {way_out}")
    return found


def _originals(
    images: Iterable[Row],
    by_oracle: Mapping[str, Row],
    classes: Sequence[str],
    attributes: Sequence[str],
    left_out: Counter[str],
) -> Iterator[Sample]:
    """Images with a label; their attributes as annotated, or where they are not as the oracle sees them."""
    for row in images:
        seen = by_oracle.get(row["image_id"], {})
        values = [_first(row.get(f"a_{name}"), _present(seen.get(f"p_{name}"))) for name in attributes]
        if row["label"] not in classes:
            left_out["images without a label that is one of the classes"] += 1
        elif row["png"] is None:
            left_out["images of which no copy is kept (cfx prune, or thumbnails: false)"] += 1
        elif any(value is None for value in values):
            left_out[f"images without an annotation of {', '.join(attributes)} that the oracle saw in no explanation"] += 1
        else:
            yield Sample(
                row["image_id"][:16], row["png"], row["label"], tuple(map(bool, values)), row["image_id"], "original", TRAIN
            )


def _first(*values: bool | None) -> bool | None:
    return next((value for value in values if value is not None), None)


def _present(probability: float | None) -> bool | None:
    return None if probability is None else probability > 0.5


def _check_groups(originals: Sequence[Sample], attributes: Sequence[str], run_id: str, left_out: Mapping[str, int]) -> None:
    if not originals:
        why = "; ".join(f"{n} {reason}" for reason, n in left_out.items()) or "it has none"
        raise UserError(f"run {run_id!r} has no image to train with ({why}); audit with `data.label_column`, and keep its images")
    for place, attribute in enumerate(attributes):
        counts = Counter((each.label, each.values[place]) for each in originals)
        for label in sorted({each.label for each in originals}):
            for value, word in ((True, "with"), (False, "without")):
                if (n := counts[label, value]) < FEWEST:
                    raise UserError(
                        f"run {run_id!r} has {n} images of {label!r} {word} {attribute}, and half of them would be held out; "
                        f"{FEWEST} are needed: audit more such images (`data.limit`, or add some to the table)"
                    )


def _edits(
    rows: Iterable[Row], run: Row, attributes: Sequence[str], trained: Mapping[str, Sample], left_out: Counter[str]
) -> Iterator[Sample]:
    """Three images an edit: redrawn, pasted, and its sham, which is redrawn without the edit and teaches to overlook redrawing.
    They keep the label. Those of what was not confirmed, too, where the judge says so: with them a classifier does not change
    one shortcut for another."""
    for row in rows:
        source, name = trained.get(row["image_id"]), row["attribute"]
        if name == run["target_attribute"]:
            continue
        if source is None:
            left_out["edits of images that are held out or left out"] += 3
            continue
        edited = tuple(row["switched_on"] if each == name else v for each, v in zip(attributes, source.values, strict=True))
        file = f"{source.name}-{quote(name, safe='')}-{'on' if row['switched_on'] else 'off'}"
        for png, judged, suffix, kind, values in (
            ("png", "judged", "", "edit", edited),
            ("pasted_png", "judged_pasted", "-pasted", "edit", edited),
            ("sham_png", "judged_sham", "-sham", "sham", source.values),
        ):
            if not row["counted"]:
                left_out["edits in which the oracle does not see the attribute change, or sees another change"] += 1
            elif row[judged] is None and name not in attributes:
                left_out["edits of what is not confirmed, without a judge that sees the label"] += 1
            elif row[judged] is not None and run["classes"][row[judged] - 1] != source.label:
                left_out["edits in which the judge does not see the label"] += 1
            elif row[png] is None:
                left_out["edits of which no image is kept (cfx prune)"] += 1
            else:
                yield replace(source, name=file + suffix, png=row[png], values=values, kind=kind)


@dataclass(frozen=True)
class _Shown:
    """Which class a counterfactual shows: the judge says so, and the oracle of the label's own attribute does not deny it."""

    classes: tuple[str, ...]
    target: str | None  # the oracle's attribute that is the label
    has: Mapping[str, bool]  # class -> whether it has that attribute, where its images tell

    @classmethod
    def of(cls, run: Row, originals: Sequence[Sample], by_oracle: Mapping[str, Row]) -> _Shown:
        target, has = run["target_attribute"], {}
        for label in run["classes"] if target is not None else ():
            rows = [by_oracle[each.source] for each in originals if each.label == label and each.source in by_oracle]
            share = sum(row[f"p_{target}"] > 0.5 for row in rows) / len(rows) if rows else 0.5
            if max(share, 1 - share) >= TELLS:
                has[label] = share > 0.5
        return cls(tuple(run["classes"]), target, has)

    def doubt(self, row: Row) -> str | None:
        """Why the counterfactual cannot be said to show its target class; None where it can."""
        if not row["flipped_8bit"]:
            return "counterfactuals that did not flip the classifier"
        told = self.target is not None and len(self.has) == len(self.classes) == 2 and len(set(self.has.values())) == 2
        if row["judge_flipped"] is None and not told:
            return "counterfactuals of which neither a judge nor the label's own attribute (target_attribute) tells the class"
        if row["judge_flipped"] is False:
            return "counterfactuals in which the judge does not see the class"
        if row["target"] in self.has and self.has[row["target"]] is not _sure(row[f"q_{self.target}"]):
            return f"counterfactuals in which the oracle does not see the class by {self.target}"
        return None


def _sure(probability: float) -> bool | None:
    """Whether the oracle sees an attribute; None where it is not sure."""
    return True if probability >= SURE else False if probability <= 1 - SURE else None


def _counterfactuals(
    rows: Iterable[Row], shown: _Shown, attributes: Sequence[str], trained: Mapping[str, Sample], left_out: Counter[str]
) -> Iterator[Sample]:
    for row in rows:
        source = trained.get(row["image_id"])
        if source is None:
            left_out["counterfactuals of images that are held out or left out"] += 1
            continue
        values = [_sure(row[f"q_{name}"]) for name in attributes]
        doubt = shown.doubt(row)
        if doubt is None and None in values:
            doubt = f"counterfactuals in which the oracle is not sure of {attributes[values.index(None)]}"
        if doubt is None and row["png"] is None:
            doubt = "counterfactuals of which no image is kept (cfx prune)"
        if doubt is not None:
            left_out[doubt] += 1
            continue
        name, known = f"{source.name}-counterfactual-{row['seed']}", tuple(map(bool, values))
        yield replace(source, name=name, png=row["png"], label=row["target"], values=known, kind="counterfactual")
