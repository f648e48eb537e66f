"""The intervention stages: each suspected attribute edited alone, and the classifier under audit queried again."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any, NamedTuple

import torch
from torch import Tensor

from cfx.attributes.interventions import Interventions, edit_alone
from cfx.attributes.named_edits import NamedEdits, edit_by_word
from cfx.attributes.oracle import Oracle
from cfx.attributes.pasting import pasted
from cfx.classifiers import ClassifierConfig
from cfx.diffusion.between_prompts import TextModel
from cfx.diffusion.first_step import FirstStep
from cfx.images import decode_png, encode_png
from cfx.types import Edit
from tasks.cost import Counted
from tasks.data.drawing import drawn
from tasks.fixed_batches import batches, filled, size_of_batches
from tasks.networks import text_model_for
from tasks.progress import advance, expect
from tasks.run import Run
from tasks.shard_images import read_chosen
from tasks.stage import Rows, stage
from tasks.stages.run_record import code_version
from warehouse.facts.damage import DamagedRun
from warehouse.facts.shards import Shard, read_shard
from warehouse.lens.connect import open_warehouse, query

_log = logging.getLogger("cfx.stages")

MOST = 12  # attributes that are edited where nobody said how many
SHARE, QUERIES = 0.2, 4  # of a black box's budget; queries an edit
EDITING = ("steps", "tau", "scale", "share")  # the settings that an edit by gradient depends on


class Wanted(NamedTuple):
    """One attribute to be edited on some images, as many as make a shard."""

    position: int  # of the attribute, among the oracle's
    images: tuple[Shard, ...]  # the shards that hold them
    ids: tuple[str, ...]

    @property
    def key(self) -> str:
        return f"{self.position:04d}-{hashlib.sha256(chr(0).join(self.ids).encode()).hexdigest()[:16]}"


def wanted_edits(run: Run, images: Sequence[Shard]) -> list[Wanted]:
    """What to edit, in this order: what moved the answer in the base, attributes above the null, then those with the largest
    effects; each on the same sample."""
    settings = run.config.interventions
    drawable = run.config.oracle is not None and (run.prior is not None or settings.named is not None)
    if not settings.images or not drawable:
        return []
    sql = "select attribute from ranked_attributes where run_id = $run order by status <> 'above null', rank"
    ranked: list[str] = query(run.root, sql, {"run": run.id})["attribute"].to_pylist()
    known, parts = run.oracle().attributes, sampled(images, settings.images, run.config.shard_size)
    chosen = _chosen(ranked, reacting_in_base(run), attributes_to_edit(run), isinstance(run.config.classifier, ClassifierConfig))
    return [Wanted(known.index(attribute), *part) for attribute in chosen for part in parts]


def _chosen(ranked: Sequence[str], before: Sequence[str], most: int, free: bool) -> list[str]:
    """The attributes to edit: those of the base first, beyond `most` where queries cost nothing; none where `most` is 0."""
    if not most:
        return []
    again = [attribute for attribute in ranked if attribute in before]
    chosen = [*again, *(attribute for attribute in ranked[:most] if attribute not in again)]
    return chosen if free else chosen[:most]


def reacting_in_base(run: Run) -> list[str]:
    """Attributes whose edits moved the answer in the audit that this one is compared with: the configured base, or that of the
    view `bases`. Without an edit here, nothing could be said of whether the reliance on them grew."""
    base, sql = run.config.base, "select attribute from reacting where run_id = $base order by 1"
    if base is not None:
        return [str(attribute) for attribute in query(run.root, sql, {"base": base})["attribute"].to_pylist()]
    with closing(open_warehouse(run.root, sql="from bases", in_part=True)) as lens:  # its own policy comes at its end
        known = lens.execute("select base_id from bases where run_id = $run", {"run": run.id}).fetchone()
    try:
        found: list[str] = query(run.root, sql, {"base": known[0] if known else ""})["attribute"].to_pylist()
    except DamagedRun as error:  # it is none of this audit's business
        _log.warning("run=%s edits nothing for the sake of the audit before it: %s", run.id, error)
        return []
    return found


def attributes_to_edit(run: Run) -> int:
    """How many attributes are edited: as configured, else MOST, or what fits into SHARE of a black box's budget."""
    settings, classifier = run.config.interventions, run.config.classifier
    if settings.attributes is not None:
        return settings.attributes
    budget = None if isinstance(classifier, ClassifierConfig) else classifier.limits.budget
    return MOST if budget is None else min(MOST, int(SHARE * budget / (QUERIES * max(1, settings.images))))


def sampled(images: Sequence[Shard], n: int, size: int) -> list[tuple[tuple[Shard, ...], tuple[str, ...]]]:
    """n images drawn by a hash of their ids, alike in every label, in parts of at most `size`: the shards they lie in, their ids.

    By the label and not by what a classifier predicts, because edits are drawn once for all classifiers of the same images.
    """
    read = [(shard, read_shard(shard, ["image_id", "label"])) for shard in images]
    ids = [image_id for _, table in read for image_id in table["image_id"].to_pylist()]
    labels = [label for _, table in read for label in table["label"].to_pylist()]
    homes = [shard for shard, table in read for _ in range(len(table))]
    chosen = drawn(ids, labels, n)
    parts = [chosen[start : start + size] for start in range(0, len(chosen), size)]
    return [(tuple({homes[i].key: homes[i] for i in part}.values()), tuple(ids[i] for i in part)) for part in parts]


def edits_id(run: Run) -> str:
    """The run id of a run's edits in the fact `edits`: a hash of all that they depend on, which the classifier is no part of."""
    config, known = run.config, run.fingerprints
    settings = config.interventions
    by_word = settings.named and [settings.named.model_dump_json(), known.get("named")]
    drawn_by = by_word or [getattr(settings, k) for k in EDITING]
    oracle = config.oracle.model_dump_json() if config.oracle is not None else ""
    shards = config.data.model_dump_json(), config.shard_size
    computed_by = known.get("runtime"), known.get("precision")
    parts = [known["data"], *shards, known["oracle"], oracle, known["prior"], *computed_by, *drawn_by, code_version()]
    return f"edits-{hashlib.sha256(chr(0).join(map(str, parts)).encode()).hexdigest()[:10]}"


@stage("edits", within=edits_id)
def draw_edits(run: Run, wanted: Wanted) -> Rows:
    """Edit one attribute alone on some images; what another audit drew is not drawn twice."""
    oracle = run.oracle()
    ids, x = read_chosen(wanted.images, wanted.ids)
    x = x.to(run.device)
    size, editor = editor_of(run, x)
    rows: dict[str, list[Any]] = {}
    expect(len(ids))
    for part in batches(len(ids), size):
        started, n = time.perf_counter(), len(x[part])
        seen = filled(x[part], size)
        edits, evaluated = editor(oracle, seen, wanted.position, [*ids[part], *[ids[part.start]] * (len(seen) - n)])
        seconds = (time.perf_counter() - started) / n
        advance(n, evaluated)
        for image_id, one, *edit in zip(ids[part], x[part].split(1), *(field.split(1) for field in edits), strict=False):
            spent = {"image_id": image_id, "nfe_forward": evaluated // len(seen), "seconds": seconds}
            for name, value in (_row(oracle, one, wanted.position, Edit(*edit)) | spent).items():
                rows.setdefault(name, []).append(value)
    return rows


Editor = Callable[[Oracle, Tensor, int, list[str]], tuple[Edit, int]]  # ... -> the edit, and UNet evaluations in images


def editor_of(run: Run, x: Tensor) -> tuple[int, Editor]:
    """How many images are edited at once, and what edits them."""
    if (named := run.config.interventions.named) is not None:
        return 1, _by_word(named, text_model_for(named, run.device, run.config.prior, run.prior))
    return size_of_batches(x, run.config.batch_size), _by_gradient(run)


def _by_gradient(run: Run) -> Editor:
    settings: Interventions = run.config.interventions
    denoiser = run.denoiser().respaced(settings.steps)

    def edit(oracle: Oracle, x: Tensor, attribute: int, image_ids: list[str]) -> tuple[Edit, int]:
        counted = Counted(FirstStep(denoiser))  # the sham's is the edit's
        return edit_alone(counted, oracle, x, attribute, settings, image_ids), counted.forward

    return edit


class Evaluations:
    """A text-to-image model that counts the images that its network sees."""

    def __init__(self, model: TextModel) -> None:
        self.model, self.evaluated = model, 0
        self.alphas_cumprod, self.encode, self.decode, self.embed = model.alphas_cumprod, model.encode, model.decode, model.embed

    def guided(self, z: Tensor, t: int, towards: Any, away: Any, scale: float) -> Tensor:
        """As the model's; under two prompts, so that its network sees every latent twice."""
        self.evaluated += 2 * len(z)
        return self.model.guided(z, t, towards, away, scale)


def _by_word(named: NamedEdits, model: TextModel) -> Editor:
    def edit(oracle: Oracle, x: Tensor, attribute: int, image_ids: list[str]) -> tuple[Edit, int]:
        counting = Evaluations(model)
        return edit_by_word(counting, oracle, x, attribute, named, image_ids), counting.evaluated

    return edit


def _row(oracle: Oracle, x: Tensor, position: int, edit: Edit) -> dict[str, Any]:
    """What the oracle says of one edit, of the 8-bit images that people see: redrawn beside its sham, and pasted beside x."""
    pngs = {"png": edit.x_edit, "sham_png": edit.x_sham, "pasted_png": pasted(x, edit)}
    shown = {name: encode_png(image)[0] for name, image in pngs.items()}
    x_edit, x_sham, x_pasted = (decode_png([png]).to(x) for png in shown.values())
    before, after, sham, laid_on = (oracle(image)[0].cpu() for image in (x, x_edit, x_sham, x_pasted))
    switched_on = bool(before[position] <= 0.5)
    sides = torch.maximum((after - sham).abs(), (laid_on - before).abs())
    sides[position] = -1.0
    widest = int(sides.argmax())
    return {
        "attribute": oracle.attributes[position],
        "switched_on": switched_on,
        "confirmed": all(bool(seen[position] > 0.5) is switched_on for seen in (after, laid_on))
        and bool(sham[position] > 0.5) is not switched_on,
        "side": max(0.0, float(sides[widest])),
        "side_attribute": oracle.attributes[widest] if len(sides) > 1 else None,
        "mask_fraction": float(edit.mask.mean()),
        "l1": float((x_edit - x).abs().mean() / 2),
        "sham_l1": float((x_sham - x).abs().mean() / 2),
        **shown,
    } | {f"d_{name}": float(change) for name, change in zip(oracle.attributes, after - sham, strict=True)}


@stage("effects")
def query_edits(run: Run, edited: Shard, images: Sequence[Shard]) -> Rows:
    """What the audited classifier says of one shard of edits, of images in these shards; by answers alone, as of a black box. A
    judge in this process is asked, too."""
    columns = ["image_id", "attribute", "switched_on", "confirmed", "side", "png", "sham_png", "pasted_png"]
    table = read_shard(edited, columns).to_pydict()
    x = read_chosen(images, table["image_id"]).x
    shown = x, *(decode_png(table[name]) for name in columns[-3:])
    before, after, sham, laid_on = (run.probabilities(arm).tolist() for arm in shown)
    judged = dict(zip(("before", "after", "sham", "pasted"), (_judged(run, arm) for arm in shown), strict=True))
    most = run.config.interventions.side
    return {name: table[name] for name in ("image_id", "attribute", "switched_on", "side")} | {
        "edits": [edited.run_id] * len(table["image_id"]),
        "counted": [ok and side <= most for ok, side in zip(table["confirmed"], table["side"], strict=True)],
        "probabilities_before": before,
        "probabilities_sham": sham,
        "probabilities_after": after,
        "probabilities_pasted": laid_on,
        **{f"judge_{arm}": answers for arm, answers in judged.items()},
    }


def _judged(run: Run, x: torch.Tensor) -> list[list[float] | None]:
    """The judge's probabilities in the order of the run's classes; None of a judge whose answers are counted, or without one."""
    judge = run.judge() if isinstance(run.config.judge, ClassifierConfig) else None
    if judge is None:
        return [None] * len(x)
    order = [judge.classes.index(name) for name in run.classes]
    answers: list[list[float] | None] = run.batched(lambda part: judge(part).softmax(1)[:, order], x).tolist() if len(x) else []
    return answers
