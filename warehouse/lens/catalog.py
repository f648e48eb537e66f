"""Which views there are, and what is written in each view's file: its SQL, its opening comment, its macros.

A view's meaning is the comment that opens its SQL file. After it, `-- Columns:` and one `--   name, name: meaning` a line name
the columns that the view makes; a column that it takes from a fact keeps the fact's own words.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.resources import files

from warehouse.lens.names import NAMED, WRITTEN, made_of, renaming_sql

COLUMNS = "-- Columns:"
_MACRO = re.compile(r"^create macro (\w+\([^)]*\)) as .*?-- (.*)$", re.MULTILINE)

# In the order in which they build on each other; each is views/<name>.sql.
VIEWS = (
    "damaged",
    "runs",
    "audits",
    "layers",
    "admitted",
    "attribute_sums",
    "annotation_sums",
    "outcomes",
    "ways",
    "fr",
    "judge_fr",
    "confidence",
    "bkl",
    "mnac",
    "annotated",
    "property_associations",
    "changed",
    "cd",
    "compared",
    "crossed",
    "fid",
    "sfid",
    "kid",
    "crossover_fid",
    "absent",
    "warnings",
    "word_agreement",
    "fs",
    "fva",
    "s3",
    "cout",
    "im1",
    "im2",
    "insertion",
    "deletion",
    "distances",
    "diversity",
    "scorecard",
    "buckets",
    "resamples",
    "cd_intervals",
    "attribute_tests",
    "attribute_effects",
    "ranked_attributes",
    "edit_effects",
    "interventions",
    "edit_quality",
    "mad",
    "claims",
    "verdicts",
    "explained_share",
    "place_cells",
    "places",
    "segments",
    "unnamed_findings",
    "given_names",
    "findings",
    "graded",
    "cells",
    "benchmark",
    "image_effects",
    "changes",
    "edit_changes",
    "flip_changes",
    "reacting",
    "unedited",
    "subgroups",
    "accuracy",
    "confusion",
    "group_counts",
    "worst_groups",
    "fairness",
    "label_associations",
    "region_shifts",
    "regions",
    "policies",
    "bases",
    "marks",
    "agreement",
    "gate",
    "gate_verdicts",
    "cross_examination",
    "truth_agreement",
    "stage_costs",
    "near_copies",
    "near_duplicates",
    "quality_images",
    "quality",
    "watched",
    "trend",
)

NAMES = tuple(f"lens.{name}" for name in NAMED)  # of the schema `lens`; each reads views and facts of `main` alone
SUMS = {"attributes": "attribute_sums", "images": "annotation_sums"}  # fact -> the fact of its sums, shard by shard


@dataclass(frozen=True)
class Header:
    """The comment that opens a view's SQL: what it is, and what its own columns mean."""

    text: str
    columns: dict[str, str]


LENS = "lens."  # before the name of a view that only people's queries see


def view_sql(name: str) -> str:
    """The SQL that makes a view: views/<name>.sql, or of the schema `lens` views/lens/<name>.sql or a renaming."""
    short = name.removeprefix(LENS)
    if short != name and short not in WRITTEN:
        return renaming_sql(short)
    return files("warehouse").joinpath("views", *f"{name}.sql".split(".", name.count("."))).read_text(encoding="utf-8")


def header(name: str) -> Header:
    """The opening comment of views/<name>.sql, read; of a renaming that of the view it renames."""
    if name.startswith(LENS) and name.removeprefix(LENS) not in WRITTEN:
        name = made_of(name.removeprefix(LENS))
    lines = view_sql(name).splitlines()
    comment = lines[: next(i for i, line in enumerate(lines) if not line.startswith("--"))]
    cut = comment.index(COLUMNS) if COLUMNS in comment else len(comment)
    columns: dict[str, str] = {}
    for line in comment[cut + 1 :]:
        names, _, meaning = line.removeprefix("--").strip().partition(": ")
        columns |= {column.strip(): meaning for column in names.split(",")}
    return Header(" ".join(line.removeprefix("--").strip() for line in comment[:cut]), columns)


def macros(name: str) -> dict[str, str]:
    """The macros of views/<name>.sql, with the comment on the line that opens each."""
    return dict(_MACRO.findall(view_sql(name)))
