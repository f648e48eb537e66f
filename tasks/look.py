"""What is queried beyond names: the classifier, of a sample's images with one property moved (probes) and with a place exchanged
(transplants); the oracle, of the latter too. What may be claimed from the answers: `tasks.stages.unnamed`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cfx.classifiers import ClassifierConfig
from cfx.evidence import probes, transplant
from cfx.evidence.explained import FEW
from cfx.evidence.paired import Answer, Floats, Images
from cfx.evidence.properties import property_table
from tasks.progress import advance, expect
from tasks.regions import regions_in
from tasks.run import Run
from tasks.sample import Sample, as_tensor

SUBJECTS = 4  # classes at most that are looked at, where there are more than two
SIDE = 12  # images at least that are predicted a class, and that are not
COARSE = 4  # the grid of a black box, whose queries are counted
SMALLEST = 16  # pixels of a side: on smaller images nothing is measured
SHARE = 0.4  # of a black box's budget
REST, TRACE = "rest", 0.01  # what no mask covers, where it is that share of the pixels or more

Columns = NDArray[np.int64]  # (N,), a class id of each image


@dataclass(frozen=True)
class Effort:
    """How much is looked at: images that are probed, the side of the grid, images that places are pasted into."""

    probed: int
    grid: int
    receivers: int


@dataclass(frozen=True)
class Exchanged:
    """Answers to transplants: `after` (places, R, D, K) of the classifier, `named` (places, R, D, A) of the oracle.

    places: cells of a grid x grid map, (M, H, W) weights; or, with `parts`, their names, segments of the images, (M, n, H, W).
    rows: the images of the sample that take part, (n,); `who` counts among them.
    """

    places: Floats
    grid: int | None
    parts: tuple[str, ...]
    rows: NDArray[np.int64]
    who: transplant.Plan
    after: Floats
    named: Floats | None


@dataclass(frozen=True)
class Look:
    """All that was queried: the sample, its measured properties (N, P), what the oracle sees (N, A), probes, transplants."""

    sample: Sample
    table: Floats
    attributes: tuple[str, ...]
    seen: Floats
    tried: list[probes.Probed]
    exchanged: dict[int, Exchanged]  # by class: donors are of the other predicted class
    segmented: dict[int, Exchanged]  # the same of the user's masks, on the images that have all of them
    ask: Answer | None  # more questions about places; None of a black box, whose answers are counted

    def of(self, columns: Columns) -> tuple[Floats, list[probes.Probed]]:
        """P (N,) of one class of each image, and the probes' answers about it."""
        rows = np.arange(len(columns))
        tried = [one._replace(down=_picked(one.down, columns), up=_picked(one.up, columns)) for one in self.tried]
        return self.sample.p[rows, columns], tried


def _picked(answers: Floats, columns: Columns) -> Floats:
    """Of the answers (n, K) to the first n images, the one class of each."""
    return answers[np.arange(len(answers)), columns[: len(answers)]]


def subjects_of(p: Floats) -> list[int]:
    """The classes that are looked at: the second of two; else those most often predicted. None with too few images on a side."""
    if not len(p):
        return []
    counts = np.bincount(p.argmax(1), minlength=p.shape[1])
    candidates = [1] if p.shape[1] == 2 else np.argsort(-counts, kind="stable")[:SUBJECTS].tolist()
    return [k for k in candidates if SIDE <= counts[k] <= len(p) - SIDE]


def effort_of(run: Run, n: int, subjects: int) -> Effort:
    """All of the sample of n for a classifier in this process; for a black box as much as a share of its budget allows."""
    config = run.config.classifier
    if isinstance(config, ClassifierConfig):
        return Effort(n, transplant.GRID, transplant.RECEIVERS)
    queries = SHARE * config.limits.budget / 2 if config.limits.budget is not None else np.inf
    probed = int(min(n, queries // probes.queries(1)))
    receivers = int(min(transplant.RECEIVERS, queries // (max(subjects, 1) * transplant.queries(1, COARSE**2))))
    return Effort(probed if probed >= FEW else 0, COARSE, receivers if receivers >= 2 * SIDE else 0)


def queries_of(run: Run, n: int, subjects: int) -> int:
    """How many images classifier and oracle are shown for a sample of n and so many classes, without the user's masks."""
    effort = effort_of(run, n, subjects)
    probed = probes.queries(effort.probed) if effort.probed else 0
    pasted = subjects * transplant.queries(n, effort.grid**2, most=effort.receivers)
    return probed + pasted * (1 if run.config.oracle is None else 2)


def look_at(run: Run, sample: Sample, subjects: list[int]) -> Look:
    effort = effort_of(run, len(sample.ids), len(subjects))
    table = property_table(sample.images)
    oracle = run.oracle() if run.config.oracle is not None else None
    seen = np.zeros((len(sample.ids), 0)) if oracle is None else run.batched(oracle, as_tensor(sample.images)).double().numpy()

    expect(queries_of(run, len(sample.ids), len(subjects)))

    def answer(images: Images) -> Floats:
        advance(len(images))
        return run.probabilities(as_tensor(images)).double().numpy()

    n = effort.probed
    tried = probes.probe_all(answer, sample.images[:n], sample.p[:n], table[:n]) if n else []

    def names(images: Images) -> Floats:
        assert oracle is not None
        advance(len(images))
        return run.batched(oracle, as_tensor(images)).double().numpy()

    def exchange(k: int, places: Floats, grid: int | None, parts: tuple[str, ...], rows: NDArray[np.int64]) -> Exchanged:
        who = transplant.plan([sample.ids[i] for i in rows], sample.p[rows, k] > 0.5, most=effort.receivers)
        after = transplant.responses(answer, sample.images[rows], who, places)
        named = None if oracle is None else transplant.responses(names, sample.images[rows], who, places)
        return Exchanged(places, grid, parts, rows, who, after, named)

    everyone, ask = np.arange(len(sample.ids)), answer if isinstance(run.config.classifier, ClassifierConfig) else None
    asked = subjects if effort.receivers else []
    cells = transplant.cells((sample.images.shape[1], sample.images.shape[2]), effort.grid)
    exchanged = {k: exchange(k, cells, effort.grid, (), everyone) for k in asked}
    segmented: dict[int, Exchanged] = {}
    if ask is not None and (segments := segments_of(run, sample)) is not None:
        parts, places, known = segments
        enough = [k for k in asked if SIDE <= (sample.p[known, k] > 0.5).sum() <= len(known) - SIDE]
        segmented = {k: exchange(k, places, None, parts, known) for k in enough}
    return Look(sample, table, oracle.attributes if oracle is not None else (), seen, tried, exchanged, segmented, ask)


def segments_of(run: Run, sample: Sample) -> tuple[tuple[str, ...], Floats, NDArray[np.int64]] | None:
    """The user's masks of the sample: names of the parts, their (M, n, H, W) of 0 and 1, which images have all of them, (n,).

    What no part covers is one more, the rest, where it is more than a trace and no part is called so. None without masks.
    """
    found = regions_in(run.config.masks, sample.paths, (sample.images.shape[1], sample.images.shape[2]))
    if not found:
        return None
    known = np.flatnonzero(np.all([has for has, _ in found.values()], axis=0))
    masks = np.stack([shown.numpy()[known] for _, shown in found.values()])
    rest = ~np.any(masks, axis=0)
    if len(known) and REST not in found and np.mean(rest) > TRACE:
        return (*found, REST), np.stack([*masks, rest]).astype(np.float64), known
    return tuple(found), masks.astype(np.float64), known
