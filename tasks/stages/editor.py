"""The editor of a run: trained on what the ladder explained first, compared with it on what was held out, and then proposing."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import torch
from scipy.stats import t as student
from torch import Tensor

from cfx.diffusion.ddpm import DDPM
from cfx.diffusion.training import PriorTraining
from cfx.editor import FEWEST, Editor, EditorTraining, Examples, Pair, load_editor, pairs_of, save_editor, train_editor, unet_of
from cfx.errors import UserError
from cfx.images import decode_png, from_uint8, height_and_width
from cfx.random import derived_seed
from cfx.types import Classifier
from tasks.config import AuditConfig
from tasks.fixed_batches import batches, filled, size_of_batches
from tasks.networks import kept, runtime_of, state_of
from tasks.run import Run
from tasks.shard_images import read_chosen
from tasks.stage import Rows, stage
from tasks.stages.learn import Learned
from warehouse.facts.schema import FACTS
from warehouse.facts.shards import Shard, read_shard
from warehouse.facts.storage import cache_of

HELD_OUT = 4  # one example in so many is not learned from
OUT = "or leave `editor` out"
LEVEL = 0.05  # of each of two one-sided tests, so the interval is the 90 % one
COLUMNS = ("image_id", "arm", "source", "target", "p_target_cf", "flipped_8bit", "png")
_log = logging.getLogger("cfx.stages")


def check_editor(config: AuditConfig, classifier: Classifier) -> None:
    """Raises UserError for an editor that could not be trained, with the way out."""
    if config.editor is None:
        return
    if config.prior is None:
        raise UserError(f"it learns to draw from the prior, and there is none; set `prior`, {OUT}")
    if (method := config.ladder[0].method) in ("time", "svce"):
        raise UserError(f"it learns from methods that draw with the prior, and {method!r} does not; change `ladder`, {OUT}")
    if not classifier.differentiable and config.surrogate is None:
        raise UserError(f"it is trained by the classifier's gradient, and a black box has none; set `surrogate: {{}}`, {OUT}")
    if len(config.seeds) > 1:
        raise UserError(f"it draws the same for every seed, and there are {len(config.seeds)}; give one in `seeds`, {OUT}")


def check_drawn(config: AuditConfig, prior: DDPM | PriorTraining) -> None:
    """Raises UserError for an editor of a prior that it cannot start from, or that draws another size than the images have."""
    if config.editor is None:
        return
    if isinstance(prior, DDPM):
        unet_of(prior)
    height, width = height_and_width(config.data.size)
    if (drawn := prior.drawn_size(height, width)) is not None:
        size = drawn[0] if drawn[0] == drawn[1] else list(drawn)
        raise UserError(
            f"it draws images of the prior's own size, {drawn[0]} x {drawn[1]} px, and these are {height} x {width}; set "
            f"`data.size: {size}`, {OUT}"
        )


def few_warnings(config: AuditConfig, images: int) -> tuple[str, ...]:
    """What to say of an editor that all images are examples of."""
    if config.editor is None or images > (first := -(-config.editor.examples // config.shard_size) * config.shard_size):
        return ()
    return (
        f"editor: it has nothing to propose: the ladder explains the first {first:,} images, in whole shards, and there are "
        f"{images:,}; lower `editor.examples` or `shard_size`, or leave `editor` out",
    )


def leading(training: EditorTraining | None, images: Sequence[Shard]) -> int:
    """How many shards of images the ladder explains by itself: as many as the examples take; all without an editor."""
    if training is None:
        return len(images)
    return next(
        (i for i, seen in enumerate(accumulate(shard.rows for shard in images), 1) if seen >= training.examples), len(images)
    )


class Drawn(NamedTuple):
    """What the ladder drew for N images, guided and null."""

    examples: Examples
    flipped: Tensor  # (N,) bool: as PNG
    held_out: Tensor  # (N,) bool: not to be learned from


def read_drawn(run: Run, images: Sequence[Shard], explained: Sequence[Shard]) -> Drawn:
    """The explanations of these shards, in the order of their image ids."""
    rows = [row for shard in explained for row in read_shard(shard, COLUMNS).to_pylist()]
    arms = {(row["image_id"], row["arm"]): row for row in rows}
    ids = sorted({image_id for image_id, _ in arms})
    guided, null = ([arms[image_id, arm] for image_id in ids] for arm in ("guided", "null"))
    if not ids:
        nothing = torch.zeros(0, 3, *height_and_width(run.config.data.size))
        none = torch.zeros(0, dtype=torch.long)
        return Drawn(Examples(nothing, none, none, nothing, nothing, none.float()), none.bool(), none.bool())
    source, target = (torch.tensor([run.classes.index(row[name]) for row in guided]) for name in ("source", "target"))
    pictures = [read_chosen(images, ids).x, *(decode_png([row["png"] for row in arm]) for arm in (guided, null))]
    x, x_cf, x_null = (picture.to(run.device) for picture in pictures)
    p_target = torch.tensor([row["p_target_cf"] for row in guided], dtype=torch.float32, device=run.device)
    examples = Examples(x, source.to(run.device), target.to(run.device), x_cf, x_null, p_target)
    flipped = torch.tensor([row["flipped_8bit"] for row in guided])
    return Drawn(examples, flipped, _held_out(ids, list(zip(source.tolist(), target.tolist(), strict=True))))


def _held_out(ids: Sequence[str], pairs: Sequence[Pair]) -> Tensor:
    """One in HELD_OUT of each pair of classes, by a hash of the image's id."""
    held = torch.zeros(len(ids), dtype=torch.bool)
    for pair in set(pairs):
        mine = sorted((i for i, other in enumerate(pairs) if other == pair), key=lambda i: derived_seed("held out", ids[i]))
        held[mine[::HELD_OUT]] = True
    return held


def learn_editor(run: Run, images: Sequence[Shard], explained: Sequence[Shard], learned: Learned) -> Learned:
    """What was learned, with an editor of what the ladder drew for these shards; without one where they are too few."""
    compare_ways(run, images, explained, learned)
    path = trained_editor(run, images, explained, learned)
    if path is None:
        _log.warning(
            f"editor: no pair of classes has {FEWEST} explanations that flipped to learn from, so the ladder explains all; raise "
            "`editor.examples`"
        )
    return replace(learned, editor=path)


def trained_editor(run: Run, images: Sequence[Shard], explained: Sequence[Shard], learned: Learned) -> Path | None:
    """The editor of this run, trained unless it is there; None where no pair of classes has enough examples."""
    training = run.config.editor
    assert training is not None
    folder = run.root / "editors"
    path = (folder if isinstance(folder, Path) else cache_of(folder)) / f"{run.id}.safetensors"
    if path.is_file():
        return path
    drawn = read_drawn(run, images, explained)
    examples = drawn.examples.of((drawn.flipped & ~drawn.held_out).to(run.device))
    if not pairs_of(examples.source, examples.target):
        return None
    guide = run.classifier() if learned.surrogate is None else run.surrogate(learned.surrogate)
    return save_editor(train_editor(run.denoiser(), guide, examples, training), training, path)


def editor_of(run: Run, path: Path) -> Editor:
    """The editor in this file, computed by what computes the run's prior."""
    assert run.config.prior is not None and run.prior is not None
    size = height_and_width(run.config.data.size)
    compiled = runtime_of(run.config.prior, run.prior, run.device) == "onnxruntime"
    key = "editor", *state_of(path), run.id, run.device, compiled
    return kept(key, lambda: load_editor(path, run.denoiser(), size, compiled))


class Proposals(NamedTuple):
    """What an editor proposes for N images, rounded to 8 bits; the image itself where it has nothing to propose."""

    guided: Tensor  # (N, 3, H, W) in [-1, 1]
    null: Tensor  # where a proposal is accepted
    mask: Tensor  # (N, 1, H, W) of 0 and 1
    known: list[bool]  # by image: the editor knows its pair of classes
    accepted: Tensor  # (N,) bool: the classifier says target, and it is plausible
    seconds: list[float]  # by image: its share of the batch, with the check by the classifier
    null_seconds: list[float]


PASSES, NULL_PASSES = 2, 1  # UNet evaluations of a proposal, the editor's and the prior's, and of its null beside them


@torch.no_grad()
def proposals(editor: Editor, classifier: Classifier, x: Tensor, source: Tensor, target: Tensor, batch_size: int) -> Proposals:
    """Propose for x (N, 3, H, W) in [-1, 1], and query the classifier; source, target: (N,) class ids.

    In batches of one size, so that neither a proposal nor what becomes of it depends on the others.
    """
    guided, null, mask = x.clone(), x.clone(), torch.zeros_like(x[:, :1])
    accepted = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    known, size = editor.knows(source, target), size_of_batches(x, batch_size)
    seconds, null_seconds, places = [0.0] * len(x), [0.0] * len(x), known.nonzero()[:, 0]
    for part in batches(len(places), size):
        started, rows, n = time.perf_counter(), places[part], len(places[part])
        seen, start, goal = (filled(each[rows], size) for each in (x, source, target))
        found = editor.propose(seen, start, goal)
        drawn = _rounded(found.x_cf)
        answer = classifier(drawn if classifier.differentiable else drawn[:n]).softmax(1)[:n]  # a black box's queries count
        fits = (answer.argmax(1) == target[rows]) & editor.plausible(found, seen)[:n]
        fits &= answer.gather(1, target[rows][:, None])[:, 0] >= editor.bounds.sure
        guided[rows], mask[rows], accepted[rows] = drawn[:n], found.mask[:n], fits
        decided = time.perf_counter()
        if fits.any():
            null[rows] = _rounded(editor.null(found, seen))[:n]
        for i in rows.tolist():
            seconds[i], null_seconds[i] = (decided - started) / n, (time.perf_counter() - decided) / n
    return Proposals(guided, null, mask, known.tolist(), accepted.cpu(), seconds, null_seconds)


def _rounded(x: Tensor) -> Tensor:
    """x as its PNG has it."""
    return from_uint8(((x.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8))


@stage("editors")
def compare_ways(run: Run, images: Sequence[Shard], explained: Sequence[Shard], learned: Learned) -> Rows:
    """The editor beside the ladder on the explanations that it did not learn from, a pair of classes at a time."""
    rows: list[dict[str, Any]] = []
    path = trained_editor(run, images, explained, learned)
    if path is not None:
        editor, (examples, flipped, held) = editor_of(run, path), read_drawn(run, images, explained)
        for pair in editor.pairs:
            mine = held & (examples.source == pair[0]).cpu() & (examples.target == pair[1]).cpu()
            rows += _compared(run, editor, pair, examples.of(mine.to(run.device)), flipped[mine])
    return {name: [row[name] for row in rows] for name in FACTS["editors"].schema.names}


def _compared(run: Run, editor: Editor, pair: Pair, drawn: Examples, flipped: Tensor) -> Iterator[dict[str, Any]]:
    found = proposals(editor, run.classifier(), drawn.x, drawn.source, drawn.target, run.config.batch_size)
    row = partial(_row, run.classes[pair[0]], run.classes[pair[1]])
    yield row("flips", None, flipped.double(), found.accepted.double())
    ok = found.accepted
    by_ladder, by_editor = (
        (arm.cpu() - drawn.x.cpu()).abs().flatten(1).mean(1).double()[ok] / 2 for arm in (drawn.guided, found.guided)
    )
    yield row("l1", None, by_ladder, by_editor)
    if run.config.oracle is None:
        return
    oracle, arms = run.oracle(), (drawn.guided, drawn.null, found.guided, found.null)
    if not len(drawn.x):
        seen = [torch.zeros(0, len(oracle.attributes), dtype=torch.float64)] * len(arms)
    else:
        with torch.no_grad():
            seen = [run.batched(oracle, arm).double()[ok] for arm in arms]
    by_ladder, by_editor = seen[0] - seen[1], seen[2] - seen[3]
    for i, attribute in enumerate(oracle.attributes):
        yield row("shift", attribute, by_ladder[:, i], by_editor[:, i], margin=run.config.margin)


def _row(
    source: str,
    target: str,
    measure: str,
    attribute: str | None,
    by_ladder: Tensor,
    by_editor: Tensor,
    margin: float | None = None,
) -> dict[str, Any]:
    """Two one-sided t tests of the mean paired difference (Schuirmann 1987): equivalent where its 90 % interval lies inside the
    margin. Values (N,) float64, by either way."""
    n, difference = len(by_ladder), by_editor - by_ladder
    low = high = None
    if n > 1:
        half = float(student.ppf(1 - LEVEL, n - 1)) * float(difference.std()) / n**0.5
        low, high = float(difference.mean()) - half, float(difference.mean()) + half
    inside = low is not None and high is not None and margin is not None and -margin < low and high < margin
    return {
        "source": source,
        "target": target,
        "measure": measure,
        "attribute": attribute,
        "by_ladder": float(by_ladder.mean()) if n else None,
        "by_editor": float(by_editor.mean()) if n else None,
        "low": low,
        "high": high,
        "equivalent": None if margin is None else inside,
        "n": n,
    }
