"""Which words would explain more of a finished run's answers: hypotheses for its next audit, ranked, and nothing is edited."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from cfx.attributes.calibration import TWO_GROUPS, split_in_two
from cfx.attributes.words import WordsOracleConfig, load_words
from cfx.errors import UserError
from cfx.evidence.explained import FEW, log_odds, out_of_fold
from cfx.evidence.paired import Floats, Images
from cfx.evidence.proposals import Proposals
from cfx.evidence.proposals import propose as ranked
from tasks.check import device_of
from tasks.config import AuditConfig
from tasks.look import subjects_of
from tasks.networks import oracle_for
from tasks.sample import Sample, as_tensor, drawn
from tasks.stages.unnamed import named_sets
from warehouse.facts.shards import find_shard, written
from warehouse.lens.connect import open_warehouse, query
from warehouse.lens.gate import check_run

BATCH = 32
RUN = "select config, classes from runs where run_id = $run"


@dataclass(frozen=True)
class Subject:
    """What a finished run left unexplained: its sample, and what is named already."""

    config: AuditConfig
    classes: tuple[str, ...]
    sample: Sample
    seen: Floats  # (N, A) of the run's oracle
    known: tuple[str, ...]  # names that the oracle or the table has
    device: str


@dataclass(frozen=True)
class Proposed:
    """Words for one class, the one that the names explain least. shapeless: words whose scores do not part in two."""

    name: str
    n: int
    found: Proposals
    shapeless: tuple[str, ...]


def subject_of(root: Path, run_id: str) -> Subject:
    """Of a run in this warehouse. Raises UserError for an unknown run, and for one that has not looked at enough images."""
    with closing(open_warehouse(root, sql="from runs")) as lens:
        check_run(lens, root, run_id)
    (row,) = query(root, RUN, {"run": run_id}).to_pylist()
    config = AuditConfig.model_validate_json(row["config"])
    device = device_of(config)
    kept = {
        fact: [shard for path in written(root, fact).get(run_id, []) if (shard := find_shard(root, fact, run_id, path.stem))]
        for fact in ("images", "predictions")
    }
    if not all(kept.values()):
        raise UserError(f"run {run_id!r} kept no images or no predictions; audit again")
    sample = drawn(kept["images"], kept["predictions"])
    if len(sample.ids) < FEW or not subjects_of(sample.p):
        raise UserError(
            f"run {run_id!r} has too few images of each predicted class to explain its answers with ({len(sample.ids)})"
        )
    oracle = oracle_for(config.oracle, device) if config.oracle is not None else None
    seen = _answers(oracle, sample.images, device) if oracle is not None else np.zeros((len(sample.ids), 0))
    known = (*(oracle.attributes if oracle is not None else ()), *sample.annotations)
    return Subject(config, tuple(row["classes"]), sample, seen, known, device)


def propose_words(subject: Subject, words: WordsOracleConfig) -> Proposed:
    """The words ranked. Their scores are cut in two, as an oracle by words without annotations cuts them (`split_in_two`).

    Words whose name the run has already are left out. Raises UserError where none is left.
    """
    new = {name: sides for name, sides in words.words.items() if name not in subject.known}
    if not new:
        raise UserError(f"the run names all of these words already: {', '.join(words.words)}; give others with --words")
    oracle = load_words(words.model_copy(update={"words": new, "calibration": None}), subject.device)
    with torch.no_grad():
        scores = _answers(oracle.logits, subject.sample.images, subject.device)
    splits = {name: split_in_two(scores[:, column]) for column, name in enumerate(oracle.attributes)}
    candidates = {
        name: (split.line.slope * scores[:, column] + split.line.offset > 0).astype(float)
        for column, (name, split) in enumerate(splits.items())
        if split is not None
    }
    shapeless = tuple(name for name, split in splits.items() if split is None or split.between < TWO_GROUPS)
    name, named = min(_named(subject), key=lambda found: _share_of(subject, *found))
    k = subject.classes.index(name)
    return Proposed(name, len(subject.sample.ids), ranked(subject.sample.p[:, k], named, candidates), shapeless)


def worst_explained(subject: Subject, n: int) -> Images:
    """The n images (n, H, W, 3) uint8 whose answers the names explain worst, of the class that they explain least."""
    name, named = min(_named(subject), key=lambda found: _share_of(subject, *found))
    y = log_odds(subject.sample.p[:, subject.classes.index(name)])
    explained = out_of_fold(named, y)[0] if named.shape[1] else np.full(len(y), y.mean())
    images: Images = subject.sample.images[np.argsort(-np.abs(y - explained), kind="stable")[:n]]
    return images


def yaml_lines(subject: Subject, words: WordsOracleConfig, chosen: Sequence[str]) -> str:
    """The `oracle` of the next audit as YAML: these words, with those of the run where its oracle is one by words."""
    before: Mapping[str, Any] = subject.config.oracle.words if isinstance(subject.config.oracle, WordsOracleConfig) else {}
    both = {**before, **{name: words.words[name] for name in chosen}}
    said = {name: [side[0] if len(side) == 1 else list(side) for side in sides] for name, sides in both.items()}
    text = yaml.safe_dump({"oracle": {"model": words.model, "words": {}}}, sort_keys=False).replace(" {}", "")
    lines = [f"    {name}: {json.dumps(sides, ensure_ascii=False)}" for name, sides in said.items()]
    return text + "\n".join(lines)


def _named(subject: Subject) -> list[tuple[str, Floats]]:
    """By class: the columns of all that is named already."""
    empty = np.zeros((len(subject.sample.ids), 0))
    names = [subject.classes[k] for k in subjects_of(subject.sample.p)]
    return [
        (name, list(sets.values())[-1] if (sets := named_sets(subject.sample, subject.seen, name)) else empty) for name in names
    ]


def _share_of(subject: Subject, name: str, named: Floats) -> float:
    return ranked(subject.sample.p[:, subject.classes.index(name)], named, {}).before


@torch.no_grad()
def _answers(network: Any, images: Images, device: str) -> Floats:
    """What a network answers to images (N, H, W, 3) uint8: (N, A)."""
    answers: Floats = torch.cat([network(part.to(device)).cpu() for part in as_tensor(images).split(BATCH)]).double().numpy()
    return answers
