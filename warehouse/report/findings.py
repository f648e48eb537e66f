"""One page of the report per finding: what was found in plain language, its share of the images, examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import duckdb

from warehouse.lens.fetch import Row
from warehouse.lens.scans import identifier
from warehouse.report.formatting import percent
from warehouse.report.gallery import Example, frames
from warehouse.report.names import Names
from warehouse.report.queries import Evidence, answered
from warehouse.report.verdict import edit_sentence, effect_sentence

MOST = 6  # findings with a page of their own; the table of attributes has all
EXAMPLES = 4

SHARE = """
select count(*) as n, coalesce(count_if({c} > 0), 0) as appeared, coalesce(count_if({c} < 0), 0) as vanished
from attributes
join (select run_id, image_id, method, arm, seed, flipped from admitted) using (run_id, image_id, method, arm, seed)
where run_id = $run and arm = 'guided' and flipped
"""
PICKS = """
select image_id, seed, path, source, target, way, {p} as p, {q} as q
from attributes
join (select run_id, image_id, method, arm, seed, flipped, source, target, way from admitted)
    using (run_id, image_id, method, arm, seed)
left join (select run_id, image_id, path from images) using (run_id, image_id)
where run_id = $run and arm = 'guided' and flipped and {c} <> 0
order by md5(image_id || ':' || seed)
limit $examples
"""


@dataclass(frozen=True)
class Question:
    """The queries about one finding, answered."""

    row: Row
    shares: Evidence
    picks: Evidence


@dataclass(frozen=True)
class Finding:
    """A confirmed or suspected attribute: its row of `verdicts`, what to say of it, what to show."""

    row: Row
    sentences: tuple[str, ...]
    examples: tuple[Example, ...]
    shares: Evidence
    picks: Evidence


def ask_findings(lens: duckdb.DuckDBPyConnection, run_id: str, ranked: Sequence[Row]) -> list[Question]:
    """The questions about each confirmed, then each suspected attribute, with their answers."""
    found = [row for verdict in ("confirmed", "suspected") for row in ranked if row["verdict"] == verdict][:MOST]
    return [_question(lens, run_id, row) for row in found]


def findings(run: Row, questions: Sequence[Question], shown: Sequence[Row], names: Names) -> list[Finding]:
    """The pages, with names for people. shown: the images of the examples (see `queries.image_rows`)."""
    seen = {(row["image_id"], row["seed"]): row for row in shown}

    def example(row: Row) -> Example:
        found = seen[row["image_id"], row["seed"]]
        images = frames(found["png"], found["png_cf"], found["mask_png"], found["map_png"])
        return Example(names.row(row), row["path"] or row["image_id"][:12], images, ())

    return [
        Finding(
            names.row(each.row),
            _sentences(run, names.row(each.row), each.shares.rows[0]),
            tuple(example(row) for row in each.picks.rows),
            each.shares,
            each.picks,
        )
        for each in questions
    ]


def _sentences(run: Row, row: Row, share: Row) -> tuple[str, ...]:
    changed = share["appeared"] + share["vanished"]
    crossed = (
        f"“{row['attribute']}” was added in {share['appeared']:,} images and removed in {share['vanished']:,}: in "
        f"{percent(changed / share['n'])} of the {share['n']:,} in which the answer changed."
        if share["n"]
        else "No image was changed until the answer changed."
    )
    return edit_sentence(row), effect_sentence(run, row), crossed


def _question(lens: duckdb.DuckDBPyConnection, run_id: str, row: Row) -> Question:
    columns = {letter: identifier(f"{letter}_{row['attribute']}") for letter in ("c", "p", "q")}
    shares = answered(lens, SHARE.format(**columns), run=run_id)
    return Question(row, shares, answered(lens, PICKS.format(**columns), run=run_id, examples=EXAMPLES))
