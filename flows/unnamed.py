"""The benchmark of what nobody named: classifiers planted with shortcuts that are no attribute, audited and graded.

A cell is an audit of a classifier trained for it. All classifiers of a kind are audited on the same portraits, half of which have
its property, so they share the edits. What is there is kept: a benchmark that was killed goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from cfx.errors import UserError
from tasks.config import AuditConfig
from tasks.training.unnamed import Unnamed, train_unnamed, write_unnamed, write_unnamed_truths

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
