"""The benchmark of what nobody named: classifiers planted with shortcuts that are no attribute, audited and graded.

A cell is an audit of a classifier trained for it. All classifiers of a kind are audited on the same portraits, half of which have
its property, so they share the edits. What is there is kept: a benchmark that was killed goes on where it stopped.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cfx.errors import UserError
from flows.slices import precision_at_k
from tasks.config import AuditConfig
from tasks.training.unnamed import Shares, Unnamed, kind_named, train_unnamed, where, write_unnamed, write_unnamed_truths
from warehouse.lens.connect import query

SHOWS = 0.25  # of where a kind shows: a zone with as much of it is its place
FALSE = 0.05  # an attribute whose exact effect is under this, or of the other sign, must not be confirmed
CLOSE = 0.1  # of an edit's effect to the exact one
CELLS = """
    select run_id, any_value(kind) as kind, any_value(rho) as rho, any_value(seed) as seed, any_value(images) as images,
        max(effect) filter (attribute = kind) as exact
    from truths group by run_id order by kind, rho desc, seed
"""
CLAIMS = "select run_id, kind, name, intervention, verdict from findings"
SHARES = "select run_id, min(share) as share, bool_and(cleared) as cleared from explained_share group by run_id"
EXACT = "select run_id, attribute, effect as exact from truths where attribute <> kind"
AUDITED = 2027  # seed of the audited portraits; no classifier was trained on it
STRENGTHS = (0.9, 0.6)  # correlation with the label: the property agrees with it in 95 and in 80 of 100 portraits


class UnnamedGrid(NamedTuple):
    """Which classifiers to plant, and how to audit them."""

    plantings: tuple[Unnamed, ...]
    images: int = 96
    edits: int = 24  # images that each attribute is edited on
    edited: int = 3  # attributes to edit, suspected ones first
    trained_on: int = 6_000  # portraits
    steps: int = 1_200  # optimizer steps of a classifier
    portraits: int = 200  # that exact effects are means over


def plantings(kinds: Sequence[str], rhos: Sequence[float], seeds: Sequence[int]) -> tuple[Unnamed, ...]:
    """Every kind with every strength and seed, and its clean twin; those of the first strength and seed come first."""
    clean = [Unnamed(kind=kind, rho=0.0, seed=seeds[0]) for kind in kinds]
    strongest = [Unnamed(kind=kind, rho=rhos[0], seed=seeds[0]) for kind in kinds]
    every = [Unnamed(kind=kind, rho=rho, seed=seed) for rho in rhos for seed in seeds for kind in kinds]
    return tuple(dict.fromkeys((*[one for pair in zip(clean, strongest, strict=True) for one in pair], *every)))


GRADED_KINDS = (
    "cast",
    "jpeg",
    "blur",
    "frame",
    "clothes",
    "light",
    "gain",
    "contrast",
    "faded",
    "vignette",
    "tag",
    "band",
)
QUICK = UnnamedGrid(
    (*plantings(("tag",), (0.9,), (0,)), Unnamed(kind="cast", rho=0.9)),
    images=48,
    edits=12,
    edited=2,
    trained_on=3_000,
    steps=500,
)
FULL = UnnamedGrid(plantings(GRADED_KINDS, STRENGTHS, (0, 1)))
UNNAMED_GRIDS = {"quick": QUICK, "full": FULL}


def run_unnamed(folder: Path, grid: UnnamedGrid, run: Callable[[AuditConfig], str], part: slice = slice(None)) -> None:
    """Train, audit and grade the cells of a grid, or a part of them; `run` audits. Raises UserError where there is none."""
    chosen = grid.plantings[part]
    if not chosen:
        raise UserError(f"no cell is left of a grid of {len(grid.plantings)}: skip {part.start or 0}, up to {part.stop}")
    for kind in dict.fromkeys(planting.kind for planting in chosen):
        write_unnamed(portraits_with(folder, kind), kind, grid.images, AUDITED)
    for planting in chosen:
        weights = train_unnamed(folder / "classifiers", planting, grid.trained_on, grid.steps)
        run_id = run(unnamed_config(folder, grid, planting, weights))
        write_unnamed_truths(folder / "warehouse", run_id, planting, weights, (grid.images, grid.portraits))


def portraits_with(folder: Path, kind: str) -> Path:
    """Where the audited portraits of a kind are."""
    return folder / f"portraits-{kind}"


def unnamed_config(folder: Path, grid: UnnamedGrid, planting: Unnamed, weights: Path) -> AuditConfig:
    """The audit of one cell."""
    portraits = portraits_with(folder, planting.kind)
    return AuditConfig.model_validate(
        {
            "name": planting.name,
            "warehouse": folder / "warehouse",
            "data": {"images": portraits / "images", "table": portraits / "attributes.csv", "label_column": "label"},
            "classifier": {"weights": weights},
            "judge": {"weights": "portraits:judge"},
            "oracle": {"weights": "portraits:oracle"},
            "prior": {"path": "portraits:prior"},
            "target_attribute": "smile",
            "ladder": "default",
            "interventions": {"images": grid.edits, "attributes": grid.edited},
            "shard_size": grid.images,
        }
    )


def unnamed_marks(root: Path) -> dict[str, Any]:
    """What the benchmark found, for machines: its cells, and over them the shares that the project promises."""
    cells = query(root, CELLS).to_pylist()
    claims, shares, exact = (by_run(query(root, sql).to_pylist()) for sql in (CLAIMS, SHARES, EXACT))
    graded = [
        _graded(cell, claims.get(cell["run_id"], []), shares.get(cell["run_id"], []), exact.get(cell["run_id"], []))
        for cell in cells
    ]
    for cell in graded:
        cell["precision"] = precision_at_k(root, cell["run_id"], cell["right"], _carriers(root, cell)) if cell["right"] else None
    planted, clean = [cell for cell in graded if cell["rho"]], [cell for cell in graded if not cell["rho"]]
    strong, weak = ([cell for cell in planted if (cell["rho"] > 0.75) is side] for side in (True, False))
    errors = [error for cell in graded for error in cell["edit_errors"]]
    attributes = sum(len(exact.get(cell["run_id"], [])) for cell in graded)
    return {
        "cells": graded,
        "found": share_of([cell["found"] for cell in planted]),
        "named": share_of([cell["named"] for cell in planted]),
        "named_strong": share_of([cell["named"] for cell in strong]),
        "named_weak": share_of([cell["named"] for cell in weak]),
        "clean_silent": share_of([not cell["found"] and not cell["false_attributes"] for cell in clean]),
        "false_confirmed": sum(len(cell["false_attributes"]) for cell in graded) / attributes if attributes else None,
        "edit_error_p95": float(np.quantile(errors, 0.95)) if errors else None,
        "precision": mean_of(cell["precision"] for cell in graded),
    }


def _carriers(root: Path, cell: dict[str, Any]) -> Callable[[str], bool]:
    """Which of the audited files have a cell's kind."""
    with (portraits_with(root.parent, cell["kind"]) / "carried.csv").open(newline="") as lines:
        has = {row["file"]: row[cell["kind"]] == "1" for row in csv.DictReader(lines)}
    return has.__getitem__


def mean_of(values: Iterable[float | None]) -> float | None:
    """Of the values that there are."""
    there = [value for value in values if value is not None]
    return sum(there) / len(there) if there else None


def by_run(rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """The rows of each run."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(row["run_id"], []).append(row)
    return found


def share_of(values: list[bool]) -> float | None:
    """How many are true, as a share; None of none."""
    return sum(values) / len(values) if values else None


def _graded(
    cell: dict[str, Any], claims: list[dict[str, Any]], shares: list[dict[str, Any]], exact: list[dict[str, Any]]
) -> dict[str, Any]:
    """One cell: what was found, whether by its name, what was confirmed falsely, and how far edits are from the truth."""
    confirmed = [claim for claim in claims if claim["verdict"] == "confirmed"]
    unnamed = [claim for claim in confirmed if claim["kind"] != "attribute"]
    truth = {row["attribute"]: row["exact"] for row in exact}
    edited = {claim["name"]: claim["intervention"] for claim in claims if claim["kind"] == "attribute"}
    false = [
        claim["name"]
        for claim in confirmed
        if claim["kind"] == "attribute"
        and (abs(truth[claim["name"]]) < FALSE or truth[claim["name"]] * claim["intervention"] < 0)
    ]
    return cell | {
        "found": bool(unnamed),
        "named": any(_is(cell["kind"], claim) for claim in unnamed),
        "called": [claim["name"] for claim in unnamed],
        "right": [claim["name"] for claim in unnamed if _is(cell["kind"], claim)] if cell["rho"] else [],
        "explained_share": shares[0]["share"] if shares else None,
        "cleared": shares[0]["cleared"] if shares else None,
        "false_attributes": false,
        "edit_errors": [abs(value - truth[name]) for name, value in edited.items() if value is not None and name in truth],
    }


def _is(kind: str, claim: dict[str, Any]) -> bool:
    """Whether a claim calls a kind by its property, or by a place that it shows in."""
    if claim["kind"] == "property":
        return claim["name"] in kind_named(kind).properties
    return shows_in(where(kind), claim["name"])


def shows_in(shares: Shares, zone: str) -> bool:
    """Whether enough of what shares (S, S) of the pixels add up to lies in a zone of the view `places`."""
    return float((shares * _zone(zone, len(shares))).sum()) >= SHOWS


def _zone(name: str, side: int = 64) -> Shares:
    """A zone of the view `places` as pixels, (side, side) of 0 and 1."""
    if name == "frame":
        frame = np.ones((side, side))
        frame[side // 8 : -(side // 8), side // 8 : -(side // 8)] = 0
        return frame
    rows, columns = ("middle", "centre") if name == "centre" else name.split()
    thirds = 3 * (np.arange(side) + 0.5) // side
    row, column = ("top", "middle", "bottom").index(rows), ("left", "centre", "right").index(columns)
    return ((thirds == row)[:, None] & (thirds == column)[None, :]).astype(np.float64)
