"""The benchmark: the audit graded on Portraits, where what a classifier truly relies on is known exactly.

A cell is an audit of a classifier trained for it, with or without a planted shortcut. All cells see the same portraits, so they
share the edits, which depend on no classifier. What is there is kept: a benchmark that was killed goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from cfx.errors import UserError
from cfx.portraits import ATTRIBUTES, WORDS, write_portraits
from tasks.config import AuditConfig
from tasks.training.planted import Planting, first_shards, train_noisy_oracle, train_planted, write_truths
from warehouse.lens.connect import query
from warehouse.lens.kept import keep_all

IMAGES = 2026  # seed of the audited portraits; no classifier was trained on it
FASTDIME = [{"method": "fastdime", "steps": 50, "tau": 24, "scale": scale, "threshold": 0.3} for scale in (40, 100)]  # draws hats
METHODS: dict[str, Any] = {"maskdime": "default", "fastdime": FASTDIME}
GRADED = ATTRIBUTES[1:]  # all but the smile, which is the label
EDITS: dict[str, Any] = {"named": {"model": "portraits:text", "words": dict(WORDS)}}  # by word: closest to the exact effects


class Grid(NamedTuple):
    """Which classifiers to plant, and how to audit them; every planting is audited with every method."""

    plantings: tuple[Planting, ...]
    methods: tuple[str, ...] = ("maskdime",)
    sizes: tuple[int, ...] = (256,)  # images, ascending, multiples of the first: a smaller set is part of a larger
    edits: int = 32  # images that each attribute is edited on
    edited: int = len(GRADED)  # attributes to edit, suspected ones first
    training_images: int = 10_000  # portraits that a classifier is trained on
    steps: int = 1_200  # optimizer steps of a classifier
    portraits: int = 300  # that exact effects are means over


class Cell(NamedTuple):
    """One audit of the grid."""

    planting: Planting
    method: str


def planted(attributes: tuple[str, ...], rhos: tuple[float, ...], seeds: tuple[int, ...]) -> tuple[Planting, ...]:
    """Every attribute at every correlation, the strongest first, with every seed; one clean twin a seed."""
    clean = [Planting(seed=seed) for seed in seeds if 0.0 in rhos]
    strong = sorted((rho for rho in rhos if rho), reverse=True)
    return (
        *clean,
        *(Planting(attributes=(name,), rho=rho, seed=seed) for rho in strong for seed in seeds for name in attributes),
    )


QUICK = Grid(plantings=planted(("glasses",), (0.0, 0.9), (0,)), sizes=(48,), edits=16, edited=3, training_images=3_000, steps=400)
FULL = Grid(
    plantings=planted(("glasses", "beard", "hat"), (0.0, 0.3, 0.5, 0.7, 0.9), (0, 1)),
    methods=("maskdime", "fastdime"),
    sizes=(64, 128, 256),
)
HARDER = Grid(
    plantings=(
        Planting(kind="mark", rho=0.9),
        Planting(kind="two", attributes=("glasses", "beard"), rho=0.8),
        Planting(kind="cause", attributes=("glasses",), rho=0.9),
        Planting(kind="noisy"),
        Planting(kind="noisy", attributes=("glasses",), rho=0.9),
    ),
    sizes=(128,),
)
GRIDS = {"quick": QUICK, "full": FULL, "harder": HARDER}


def run_benchmark(folder: Path, grid: Grid, run: Callable[[AuditConfig], str], part: slice = slice(None)) -> None:
    """Train, audit and grade the cells of a grid, or a part of them; `run` audits. Raises UserError where there is none."""
    every = list(cells(grid))
    chosen = every[part]
    if not chosen:
        raise UserError(f"no cell is left of a grid of {len(every)}: skip {part.start or 0}, up to {part.stop or len(every)}")
    for kind in {cell.planting.kind for cell in chosen}:
        write_portraits(portraits_of(folder, kind), grid.sizes[-1], IMAGES, marks=0.5 if kind == "mark" else None)
    for cell in chosen:
        networks = folder / "classifiers"
        weights = train_planted(networks, cell.planting, grid.training_images, grid.steps)
        oracle: Path | str = "portraits:oracle"
        if cell.planting.kind == "noisy":
            oracle = train_noisy_oracle(networks, grid.training_images, 2 * grid.steps)
        audited = run(audit_config(folder, grid, cell, weights, oracle))
        for size in grid.sizes:
            name = f"{cell.planting.name}-{cell.method}-n{size}"
            graded = audited
            if size < grid.sizes[-1]:
                graded = first_shards(folder / "warehouse", audited, size // grid.sizes[0], name)
                keep_all(folder / "warehouse", [graded])  # it has no report
            write_truths(folder / "warehouse", graded, cell.planting, weights, size, grid.portraits)


def cells(grid: Grid) -> Iterator[Cell]:
    """Every method before the next classifier, so that the first cells are a grid of the first classifiers."""
    return (Cell(planting, method) for planting in grid.plantings for method in grid.methods)


def portraits_of(folder: Path, kind: str) -> Path:
    """Where the audited portraits are: the same for every planting, but for a mark, which half of them carry then."""
    return folder / ("portraits-marked" if kind == "mark" else "portraits")


def audit_config(folder: Path, grid: Grid, cell: Cell, weights: Path, oracle: Path | str) -> AuditConfig:
    """The audit of one cell."""
    portraits = portraits_of(folder, cell.planting.kind)
    return AuditConfig.model_validate(
        {
            "name": f"{cell.planting.name}-{cell.method}",
            "warehouse": folder / "warehouse",
            "data": {
                "images": portraits / "images",
                "table": portraits / "attributes.csv",
                "label_column": "label",
                "limit": grid.sizes[-1],
            },
            "classifier": {"weights": weights},
            "judge": {"weights": "portraits:judge"},
            "oracle": {"weights": oracle},
            "prior": {"path": "portraits:prior"},
            "target_attribute": "smile",
            "ladder": METHODS[cell.method],
            "interventions": {"images": grid.edits, "attributes": grid.edited, **EDITS},
            "shard_size": grid.sizes[0],
        }
    )


def marks(root: Path) -> dict[str, Any]:
    """What the benchmark found, for machines: cells and, over the most images, the marks that the project promises."""
    found = query(root, "from cells order by kind, method, images, rho, seed, run_id").to_pylist()
    most = max((cell["images"] for cell in found), default=0)
    over = [cell for cell in found if cell["images"] == most]
    strong = [cell for cell in over if cell["rho"] >= 0.7]
    clean = [cell for cell in over if not cell["shortcuts"]]
    (row,) = query(
        root, f"select avg(realised_fdr) as fdr, avg(spearman) as spearman from benchmark where rho is null and images = {most}"
    ).to_pylist()
    return {
        "cells": found,
        "images": most,
        "top1": _mean([cell["top1"] for cell in strong]),
        "confirmed": _mean([cell["confirmed"] for cell in strong]),
        "clean_silent": _mean([cell["silent"] for cell in clean]),
        "realised_fdr": row["fdr"],
        "spearman": row["spearman"],
        "coverage": _mean([cell["coverage"] for cell in over]),
    }


def _mean(values: list[Any]) -> float | None:
    known = [float(value) for value in values if value is not None]
    return sum(known) / len(known) if known else None
