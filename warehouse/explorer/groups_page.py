"""Groups of images: how often the classifier is right in each, where it is wrong, and how differently it treats them."""

from __future__ import annotations

from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from warehouse.explorer.site import Site
from warehouse.lens.fetch import Row, fetch

ACCURACY = "select label, value, low, high, n from accuracy where run_id = $run order by label nulls first"
CONFUSION = "select label, class, n, value from confusion where run_id = $run order by label, class"
CELLS = """
select attribute, label, present, known_by, n, reported, value, low, high, rank
from worst_groups where run_id = $run order by attribute, label, present desc
"""
FAIRNESS = """
select attribute, measure, class, rate_with, rate_without, value, low, high, n_with, n_without, reported, withheld
from fairness where run_id = $run order by attribute, measure, class
"""
SMALLEST = "select smallest_group() as n"


class Attribute(NamedTuple):
    """The cells of an attribute, (label, has it) -> row of `worst_groups`, and the widest gap between two of one label."""

    name: str
    known_by: str
    cells: dict[tuple[str, bool], Row]
    gap: float


def routes(site: Site) -> list[Route]:
    def page(request: Request) -> Response:
        run_id = request.path_params["run"]
        run, lens = site.run(run_id), site.lens.of(run_id)
        accuracy, confusion, cells, fairness = (fetch(lens, sql, run=run_id) for sql in (ACCURACY, CONFUSION, CELLS, FAIRNESS))
        labels = [row["label"] for row in accuracy if row["label"] is not None]
        predicted = [name for name in run["classes"] if name in {row["class"] for row in confusion} | set(labels)]
        return site.page(
            "explorer_groups.html.j2",
            run=run,
            overall=next((row for row in accuracy if row["label"] is None), None),
            accuracy={row["label"]: row for row in accuracy},
            labels=labels,
            predicted=predicted,
            confusion={(row["label"], row["class"]): row for row in confusion},
            worst=sorted((row for row in cells if row["rank"]), key=lambda row: row["rank"])[:5],
            attributes=attributes_of(cells),
            fairness=sorted((row for row in fairness if row["reported"]), key=_surest),
            withheld=sum(not row["reported"] for row in fairness),
            smallest=fetch(lens, SMALLEST)[0]["n"],
        )

    return [Route("/runs/{run}/groups", page)]


def _surest(row: Row) -> tuple[bool, float]:
    """Gaps whose interval holds no zero first, the widest of them first."""
    return row["low"] <= 0 <= row["high"], -abs(row["value"])


def attributes_of(cells: list[Row]) -> list[Attribute]:
    """Every attribute with its cells, the widest gap first."""
    found: dict[str, dict[tuple[str, bool], Row]] = {}
    for row in cells:
        found.setdefault(row["attribute"], {})[row["label"], row["present"]] = row

    def gap(own: dict[tuple[str, bool], Row]) -> float:
        rates = {key: row["value"] for key, row in own.items() if row["reported"]}
        both = [label for label, present in rates if present and (label, False) in rates]
        return max((abs(rates[label, True] - rates[label, False]) for label in both), default=0.0)

    every = [Attribute(name, next(iter(own.values()))["known_by"], own, gap(own)) for name, own in found.items()]
    return sorted(every, key=lambda attribute: (-attribute.gap, attribute.name))
