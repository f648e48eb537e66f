"""The benchmark on real images: classifiers of clothes and of solar cells, planted and clean, audited untuned and graded.

Each audit has the evidence that needs no diffusion model: the explained share, probes, transplants. An oracle names the label
itself and, of solar cells, the type. Only where that is what was planted, a small diffusion model is trained, which edits it.
What is there is kept: a benchmark that was killed goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cfx.errors import UserError
from flows.slices import precision_at_k
from flows.unnamed import CLAIMS, SHARES, by_run, mean_of, share_of, shows_in
from tasks.config import AuditConfig
from tasks.training.real import (
    REAL_KINDS,
    SOLAR_SIDE,
    TYPE,
    Parts,
    Real,
    parts,
    read_whole,
    real_effect,
    train_real,
    train_real_oracle,
    train_real_prior,
    where_laid,
    write_real,
    write_real_truth,
)
from warehouse.lens.connect import query

GRADED_FROM = 200  # seeds below were used while this was made; the grid's are new
SIDES = {"fashion": 28, "solar": SOLAR_SIDE}
CELLS = "select run_id, kind, rho, seed, images, effect as exact from truths order by run_id"


class RealGrid(NamedTuple):
    """Which classifiers to plant, and how they are trained."""

    plantings: tuple[Real, ...]
    images: int = 96  # audited
    trained_on: int = 4_000  # images at most
    steps: int = 600  # optimizer steps of a classifier
    oracle_steps: int = 900


def plantings(clothes: Sequence[int], cells: Sequence[int]) -> tuple[Real, ...]:
    """Every kind with these seeds on either data, the clean twins of the first seeds; data, twins and kinds take turns."""
    laid = [kind for kind in REAL_KINDS if kind != TYPE]
    every = {"fashion": (laid, clothes), "solar": ([*laid, TYPE], cells)}
    clean = [Real(data=data, kind=kind, rho=0, seed=seeds[0]) for data, (kinds, seeds) in every.items() for kind in kinds]
    clean.append(Real(data="fashion", kind="tag", rho=0, seed=clothes[-1]))
    planted = [
        Real(data=data, kind=kind, seed=seed) for data, (kinds, seeds) in every.items() for seed in seeds for kind in kinds
    ]
    first = [one for pair in zip(planted, clean, strict=False) for one in pair]
    return tuple(dict.fromkeys((*first, *planted)))


QUICK = RealGrid((Real(data="fashion", kind="tag", seed=200), Real(data="solar", kind="tint", rho=0, seed=200)), steps=400)
FULL = RealGrid(plantings((200, 201, 202), (200, 201)))
REAL_GRIDS = {"quick": QUICK, "full": FULL}


def run_real(folder: Path, grid: RealGrid, run: Callable[[AuditConfig], str], part: slice = slice(None)) -> None:
    """Train, audit and grade the cells of a grid, or a part of them; `run` audits. Raises UserError where there is none, and
    where the data are not installed."""
    chosen = grid.plantings[part]
    if not chosen:
        raise UserError(f"no cell is left of a grid of {len(grid.plantings)}: skip {part.start or 0}, up to {part.stop}")
    for data in sorted({one.data for one in chosen}):
        read_whole(data)  # what is not installed is said before any work
    for planting in chosen:
        split = split_of(planting, grid)
        weights = train_real(folder / "classifiers", planting, split, grid.steps)
        oracle = train_real_oracle(folder / "classifiers", planting, split, grid.oracle_steps)
        table = write_real(folder / "images" / planting.name, planting, split.audited)
        prior = train_real_prior(folder / "classifiers", planting, split) if REAL_KINDS[planting.kind].attribute else None
        run_id = run(real_config(folder, planting, table, (weights, oracle), prior))
        counts = (len(split.audited.second), len(split.held_out.second))
        write_real_truth(folder / "warehouse", run_id, planting, real_effect(weights, planting, split.held_out), counts)


def split_of(planting: Real, grid: RealGrid) -> Parts:
    """The images of a planting: of a seed's clothes or cells the same for every kind."""
    return parts(planting.data, planting.classes, planting.seed, (grid.images, grid.trained_on))


def real_config(folder: Path, planting: Real, table: Path, networks: tuple[Path, Path], prior: Path | None) -> AuditConfig:
    """The audit of one cell. networks: the classifier, the oracle. prior: draws an attribute; None where all is laid on."""
    drawn = {} if prior is None else {"prior": {"path": str(prior)}}
    return AuditConfig.model_validate(
        drawn
        | {
            "name": planting.name,
            "warehouse": folder / "warehouse",
            "data": {"images": table.parent / "images", "table": table, "label_column": "label", "size": SIDES[planting.data]},
            "classifier": {"weights": networks[0]},
            "oracle": {"weights": networks[1]},
            "target_attribute": planting.classes[1].replace("-", "_"),
        }
    )


def real_marks(root: Path) -> dict[str, Any]:
    """What the benchmark found, for machines: its cells, and over them the shares that the project promises."""
    cells = query(root, CELLS).to_pylist()
    claims, shares = (by_run(query(root, sql).to_pylist()) for sql in (CLAIMS, SHARES))
    graded = [grade(cell, claims.get(cell["run_id"], []), shares.get(cell["run_id"], [])) for cell in cells]
    for cell in graded:
        cell["precision"] = precision_at_k(root, cell["run_id"], cell["right"], _carries) if cell["right"] else None
    planted, clean = [cell for cell in graded if cell["rho"]], [cell for cell in graded if not cell["rho"]]
    errors = [cell["measured"] for cell in graded if cell["measured"] is not None]
    return {
        "cells": graded,
        "planted": len(planted),
        "clean": len(clean),
        "found": share_of([cell["found"] and cell["named"] for cell in planted]),
        "clean_silent": share_of([not cell["found"] for cell in clean]),
        "error_p90": float(np.quantile(errors, 0.9)) if errors else None,
        "precision": mean_of(cell["precision"] for cell in graded),
    }


def _carries(file: str) -> bool:
    """Whether an audited image has what its cell is about: see `write_real`."""
    return int(Path(file).stem) // 2 % 2 == 0


def grade(cell: dict[str, Any], claims: list[dict[str, Any]], shares: list[dict[str, Any]]) -> dict[str, Any]:
    """One cell: found, anything confirmed; named, what was planted among it; measured, how far its measure is from the exact
    effect, where a measure of the same thing exists: the probe of a property, the edit of an attribute, the exchange of the place
    that was confirmed for it."""
    confirmed = [claim for claim in claims if claim["verdict"] == "confirmed"]
    kind = REAL_KINDS[cell["kind"]]
    same = [claim["intervention"] for claim in claims if claim["name"] == kind.attribute]
    same += [kind.rises * claim["intervention"] for claim in claims if kind.rises and claim["name"] == kind.properties[0]]
    if not (kind.rises or kind.attribute):
        same = [claim["intervention"] for claim in confirmed if claim["kind"] == "place" and _is(cell, claim)]
    measured = [abs(value - cell["exact"]) for value in same if value is not None]
    return cell | {
        "data": cell["run_id"].split("-")[0],
        "found": bool(confirmed),
        "named": any(_is(cell, claim) for claim in confirmed),
        "called": [claim["name"] for claim in confirmed],
        "right": [claim["name"] for claim in confirmed if _is(cell, claim)] if cell["rho"] and kind.change else [],
        "suspected": [claim["name"] for claim in claims if claim["verdict"] in ("suspected", "fragile")],
        "measured": measured[0] if measured else None,
        "explained_share": shares[0]["share"] if shares else None,
        "cleared": shares[0]["cleared"] if shares else None,
    }


def _is(cell: dict[str, Any], claim: dict[str, Any]) -> bool:
    """Whether a claim calls what was planted by its property or attribute, or by a place that it shows in."""
    kind = REAL_KINDS[cell["kind"]]
    if claim["kind"] == "place":
        return shows_in(where_shown(cell["run_id"].split("-")[0], cell["kind"]), claim["name"])
    return claim["name"] in kind.properties or claim["name"] == kind.attribute


@cache
def where_shown(data: str, kind: str) -> Any:
    """Where a kind shows on images of either data, (S, S), as shares."""
    planting = Real(data=data, kind=kind, seed=GRADED_FROM)
    return where_laid(kind, split_of(planting, FULL).audited)
