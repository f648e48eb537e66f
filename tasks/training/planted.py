"""What grading the audit on Portraits takes beside it: planted classifiers, their exact effects, audits of fewer images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from pydantic import Field

from cfx.portraits import ATTRIBUTES, TrueEffect
from cfx.random import derived_seed
from cfx.training.classifier import train_classifier
from cfx.training.portraits import RECIPES, rendered, train_on_portraits
from cfx.types import Config
from tasks.training.portraits import reliance
from warehouse.facts.shards import Shard, find_shard, read_shard, write_shard, written

LABEL_NOISE = 0.08  # as in the demo's twins: without it, no shortcut tells anything that the smile does not
ORACLE_NOISE = 0.1  # share of the annotations that the noisy oracle learns wrong
BY_SHARD = ("images", "explanations", "attributes")


class Planting(Config):
    """A classifier of smiles whose training set has attributes that agree with the label by more than chance."""

    kind: str = Field(
        "shortcut",
        description="what is planted: shortcut, two, cause (agrees with the smile, not the label), mark (no attribute but a mark "
        "in a corner), or noisy: a shortcut or nothing, audited with an oracle that learned from annotations of which one in ten "
        "is wrong",
    )
    attributes: tuple[str, ...] = Field((), description="planted attributes; none for a clean twin")
    rho: float = Field(0.0, ge=0, le=1, description="correlation of each of them with what it agrees with")
    seed: int = 0

    @property
    def classifier(self) -> str:
        """The classifier's name. The noise is the oracle's, so a noisy planting shares its classifier with the one without."""
        kind = "shortcut" if self.kind == "noisy" else self.kind
        what = "-".join((kind, *(name.replace("_", "") for name in self.attributes), f"{round(100 * self.rho):02}"))
        return f"{what if self.rho else 'clean'}-s{self.seed}"

    @property
    def name(self) -> str:
        return f"noisy-{self.classifier}" if self.kind == "noisy" else self.classifier

    def agreement(self) -> dict[str, float]:
        """Of each attribute with the label. One that agrees with the smile alone agrees with the label through it."""
        with_smile = 1 - LABEL_NOISE if self.kind == "cause" else 1.0
        planted = {name: (1 + self.rho * (2 * with_smile - 1)) / 2 for name in self.attributes if self.rho}
        return {"smile": 1 - LABEL_NOISE} | planted


def train_planted(folder: Path, planting: Planting, images: int, steps: int) -> Path:
    """The classifier of a planting, by the demo's recipe with this many portraits and steps; one that is there is kept."""
    recipe = RECIPES["planted"]
    training = recipe.training.model_copy(update={"steps": steps, "seed": derived_seed("planting", planting.seed) % 2**31})
    mark = (1 + planting.rho) / 2 if planting.kind == "mark" else None
    recipe = recipe._replace(agreement=planting.agreement(), images=images, training=training, mark=mark)
    return _kept(folder / f"{planting.classifier}.safetensors", lambda part: train_on_portraits(recipe, part))


def train_noisy_oracle(folder: Path, images: int, steps: int) -> Path:
    """An oracle by the bundled one's recipe with this many portraits and steps, `ORACLE_NOISE` of whose annotations are wrong."""
    recipe = RECIPES["oracle"].training.model_copy(update={"steps": steps})

    def train(part: Path) -> Path:
        portraits, _, attributes = rendered(images, derived_seed("portraits", recipe.seed))
        generator = torch.Generator().manual_seed(derived_seed("noisy oracle", recipe.seed) % 2**31)
        wrong = torch.rand(attributes.shape, generator=generator) < ORACLE_NOISE
        return train_classifier(portraits, attributes ^ wrong, recipe, ATTRIBUTES, part)

    return _kept(folder / "oracle-noisy.safetensors", train)


def _kept(to: Path, train: Callable[[Path], Path]) -> Path:
    """The weights of this file, trained first if it is not there; it appears whole."""
    if not to.exists():
        to.parent.mkdir(parents=True, exist_ok=True)
        train(to.with_suffix(".part.safetensors")).replace(to)
    return to


@cache
def exact_effects(weights: Path, n: int) -> Sequence[TrueEffect]:
    """The exact effect of each attribute on P(smiling), over n portraits; computed once a process."""
    return reliance(str(weights), n)


def write_truths(root: Path, run_id: str, planting: Planting, weights: Path, images: int, portraits: int) -> Shard:
    """What an audit should have found: one row an attribute of Portraits."""
    done = find_shard(root, "truths", run_id, "all")
    if done is not None:
        return done
    known = exact_effects(weights, portraits)
    rows = [
        {
            "kind": planting.kind,
            "planted": list(planting.attributes if planting.rho else ()),
            "rho": planting.rho,
            "seed": planting.seed,
            "images": images,
            "attribute": truth.attribute,
            "effect": truth.effect,
            "portraits": truth.n,
        }
        for truth in known
    ]
    return write_shard(root, "truths", run_id, "all", {name: [row[name] for row in rows] for name in rows[0]})


def first_shards(root: Path, run_id: str, shards: int, name: str) -> str:
    """The run as it would have been on the images of its first shards only, as a run of its own; returns its id.

    An explanation depends on its image and seed alone, so an audit of fewer images is a part of the audit of more.
    """
    smaller = f"{run_id}-first{shards}"
    for fact in (*BY_SHARD, "effects"):
        paths = sorted(written(root, fact).get(run_id, []))
        for path in paths[:shards] if fact in BY_SHARD else paths:
            key = Path(str(path)).stem
            whole = find_shard(root, fact, run_id, key)
            assert whole is not None
            write_shard(root, fact, smaller, key, read_shard(whole))
    finished = find_shard(root, "runs", run_id, "finished")
    assert finished is not None
    (row,) = read_shard(finished).to_pylist()
    counts: dict[str, Any] = dict.fromkeys(("attempted", "explained", "flipped", "rejected"))
    write_shard(root, "runs", smaller, "finished", {column: [value] for column, value in (row | counts | {"name": name}).items()})
    return smaller
