"""Repair the classifier of a finished audit: it is trained on, on what the audit left (`warehouse.evidence.training_set`), and
graded on the half of its images that the repair does not see."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import binomtest
from torch import Tensor

from cfx.checkpoint import Facts, read_facts, save_network
from cfx.classifiers import ClassifierConfig, TorchClassifier, load_classifier
from cfx.classifiers.network import weights_path
from cfx.classifiers.pretrained_folder import is_pretrained
from cfx.classifiers.program import Program
from cfx.errors import UserError
from cfx.images import decode_png
from cfx.random import derived_seed
from cfx.training.augment import Augmentation
from cfx.training.repair import Repair, repaired
from tasks.config import AuditConfig
from tasks.networks import fingerprint
from warehouse.evidence.training_set import HELD_OUT, KINDS, TRAIN, Sample, TrainingSet, training_set, weighted
from warehouse.lens.connect import open_warehouse
from warehouse.lens.fetch import Row, fetch
from warehouse.lens.gate import check_run
from warehouse.lens.wholeness import refuse_damaged

RESAMPLES = 2_000  # of a bootstrap interval
FEWEST = 5  # edits, so that one is given
SHOWN = 8  # edits whose scores are kept for the page
EDITS = """
    select e.image_id, e.attribute, e.switched_on, i.png, d.png as edit_png, d.sham_png, d.pasted_png
    from effects e
    join edits d on d.run_id = e.edits and d.image_id = e.image_id and d.attribute = e.attribute
    join images i on i.run_id = e.run_id and i.image_id = e.image_id
    where e.run_id = $run and e.counted
    order by e.attribute, e.image_id
"""

Floats = NDArray[np.float64]


class Share(NamedTuple):
    """A share of n images, with its 95 % score interval (Wilson 1927)."""

    value: float
    low: float
    high: float
    n: int


class Effect(NamedTuple):
    """How far an attribute's edits move P(target), with a 95 % bootstrap interval, None below FEWEST edits."""

    target: str
    value: float
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class Grades:
    """A classifier on the held-out images: all, by group of label and attributes, worst first, and the edits made of them."""

    accuracy: Share
    groups: Mapping[str, Share]
    edited: Mapping[str, Effect]

    @property
    def worst_group(self) -> str:
        return next(iter(self.groups))


@dataclass(frozen=True)
class Repaired:
    """What a repair did. `pairs`: scores of held-out images and their edits, before and after, for people to look at."""

    run_id: str
    weights: Path
    attributes: tuple[str, ...]
    settings: Repair
    trained_on: Mapping[str, int]  # images by kind
    held_out: int
    left_out: Mapping[str, int]
    before: Grades
    after: Grades
    pairs: tuple[Mapping[str, Any], ...]


class Subject(NamedTuple):
    """What is to be repaired, checked before any work."""

    run: Row
    config: AuditConfig
    classifier: TorchClassifier
    data: TrainingSet


def subject_of(root: Path, run_id: str) -> Subject:
    """A run's classifier, on the CPU or the GPU that the audit may use, and its training set.

    Raises UserError for a run that did not finish, confirms nothing or has too few images (`training_set`), and for a classifier
    that cannot be trained here: a black box, a program, a folder of transformers, one that has changed since.
    """
    with closing(open_warehouse(root, sql="from runs")) as lens:
        check_run(lens, root, run_id)
        (run,) = fetch(lens, "from runs where run_id = $run", run=run_id)
    if run["status"] != "finished":
        raise UserError(f"run {run_id!r} has not finished; run its audit again, it goes on where it stopped")
    settings = json.loads(run["config"])
    access = settings["classifier"].get("access", "torch")
    images_instead = f"its images, to train with elsewhere, are written by: cfx export training {run_id}"
    if access != "torch":
        raise UserError(
            f"run {run_id!r} audited a black box (access: {access}), which has no weights to train here; audit the torch network "
            f"behind it, or repair it where it was made: {images_instead}"
        )
    config = AuditConfig.model_validate(settings)
    source = cast(ClassifierConfig, config.classifier)
    if (source.module or "").startswith("cfx.live:"):
        raise UserError(
            f"run {run_id!r} audited a model of a program that has ended; save its weights and audit them with `module`, or: "
            f"{images_instead}"
        )
    if source.weights is not None and is_pretrained(weights_path(source.weights)):
        raise UserError(
            f"{source.weights} is a folder of transformers, which says itself what it holds and is not written here: "
            f"train it with transformers' own Trainer; {images_instead}"
        )
    data = training_set(root, run_id)
    device = "cuda" if torch.cuda.is_available() and config.device != "cpu" else "cpu"
    classifier = load_classifier(source, device)
    if isinstance(classifier.network.module, Program):
        raise UserError(
            f"{source.weights} is a program without the source of its network: give its weights with `module`, audit that, and "
            f"repair it; or: {images_instead}"
        )
    if fingerprint(classifier) != json.loads(run["fingerprints"])["classifier"]:
        raise UserError(f"the classifier of run {run_id!r} is no longer the one that was audited; audit it again, then repair it")
    return Subject(run, config, classifier, data)


def repair(
    root: Path, subject: Subject, settings: Repair, to: Path, report: Callable[[int, float], None] = lambda step, loss: None
) -> Repaired:
    """Train the classifier on and write its weights to `to` (.safetensors); a file that is there is never written over.

    Raises UserError for a file that is there and is no repair of this run with these settings; one that is, is taken as it is.
    """
    run, config, classifier, data = subject
    made: dict[str, Any] = {"run": run["run_id"], **settings.model_dump(mode="json")}
    with closing(open_warehouse(root, sql=EDITS)) as lens:
        refuse_damaged(lens, run["run_id"])
        edits = fetch(lens, EDITS, run=run["run_id"])
    held_out = data.split(HELD_OUT)
    ids = {each.source for each in held_out}
    edits = [row for row in edits if row["image_id"] in ids and row["attribute"] in data.attributes and _whole(row)]
    goals = _goals(root, run)
    before, said = _graded(classifier, data, held_out, edits, goals)
    trained = data.split(TRAIN)
    if settings.method == "reweight":
        trained = weighted([each for each in trained if each.kind == "original"])
    source = cast(ClassifierConfig, config.classifier)
    facts: Facts = read_facts(weights_path(source.weights)) if source.weights is not None else {}
    own: Any = facts.get("training", {}).get("augmentation")
    if settings.augmentation is None and own is not None:
        settings = settings.model_copy(update={"augmentation": Augmentation.model_validate(own)})
    if to.exists():
        if read_facts(to).get("repair") != made:
            raise UserError(f"{to} is there already, and is no such repair of run {run['run_id']!r}; give another file with --to")
        classifier = load_classifier(repaired_config(source, classifier, to), classifier.network.gain.device)
    else:
        x, labels, weights = _tensors(trained, classifier)
        repaired(classifier, x, labels, weights, settings, report)
        save_network(to, classifier.network.module, cast(Facts, {**facts, "repair": made}))
    after, says = _graded(classifier, data, held_out, edits, goals)
    counts = {kind: sum(each.kind == kind for each in trained) for kind in KINDS}
    pairs = _pairs(edits, said, says, goals[0], data.classes)
    return Repaired(
        run["run_id"], to, data.attributes, settings, counts, len(held_out), data.left_out, before, after, tuple(pairs)
    )


def repaired_config(source: ClassifierConfig, classifier: TorchClassifier, weights: Path) -> ClassifierConfig:
    """The audited classifier's settings with the new weights, which are safetensors and nothing else."""
    new: dict[str, Any] = {"weights": weights.resolve(), "key": None, "allow_pickle": False}
    named_by_file = source.weights is not None and bool({"classes", "attributes"} & set(read_facts(weights_path(source.weights))))
    if source.classes is None and source.output is None and not named_by_file:
        new["classes"] = classifier.classes  # they stood beside the old weights, or are a hub's
    return source.model_copy(update=new)


def record(found: Repaired) -> Row:
    """A repair as JSON values."""
    return {
        "run": found.run_id,
        "weights": str(found.weights),
        "attributes": list(found.attributes),
        "settings": found.settings.model_dump(mode="json"),
        "trained_on": dict(found.trained_on),
        "held_out": found.held_out,
        "left_out": dict(found.left_out),
        "before": _as_json(found.before),
        "after": _as_json(found.after),
        "pairs": list(found.pairs),
    }


def _as_json(grades: Grades) -> Row:
    return {
        "accuracy": grades.accuracy._asdict(),
        "worst_group": {"group": grades.worst_group} | grades.groups[grades.worst_group]._asdict(),
        "groups": [{"group": name} | share._asdict() for name, share in grades.groups.items()],
        "edited": {name: effect._asdict() for name, effect in grades.edited.items()},
    }


def _whole(row: Row) -> bool:
    """Whether all its images are kept (`cfx prune` removes some)."""
    return all(row[name] is not None for name in ("png", "edit_png", "sham_png", "pasted_png"))


def _goals(root: Path, run: Row) -> list[int]:
    """Places of the classes that edits are held to: as in the view edit_effects the second of two, or else each asked for."""
    if len(run["classes"]) == 2:
        return [1]
    targets = "select distinct target from explanations where run_id = $run order by target"
    with closing(open_warehouse(root, sql=targets)) as lens:
        refuse_damaged(lens, run["run_id"])
        return [run["classes"].index(row["target"]) for row in fetch(lens, targets, run=run["run_id"])] or [0]


def _tensors(samples: Sequence[Sample], classifier: TorchClassifier) -> tuple[Tensor, Tensor, Tensor]:
    """Images (N, 3, H, W) uint8, labels (N,), weights (N,)."""
    x = ((decode_png([each.png for each in samples]) + 1) * 127.5).round().to(torch.uint8)
    labels = torch.tensor([classifier.classes.index(each.label) for each in samples])
    return x, labels, torch.tensor([each.weight for each in samples], dtype=torch.float64)


def _graded(
    classifier: TorchClassifier, data: TrainingSet, held_out: Sequence[Sample], edits: Sequence[Row], goals: Sequence[int]
) -> tuple[Grades, dict[str, Floats]]:
    """The grades, and what the classifier says of the held-out edits: of the image, edit, sham and pasted edit (N, K) each."""
    answers = _answers(classifier, [each.png for each in held_out]).argmax(1)
    right = np.array([classifier.classes[at] == each.label for at, each in zip(answers, held_out, strict=True)])
    groups: dict[str, list[bool]] = {}
    for ok, each in zip(right, held_out, strict=True):
        groups.setdefault(group_name(each, data.attributes), []).append(bool(ok))
    shares = {name: _share(sum(cell), len(cell)) for name, cell in groups.items()}
    worst_first = dict(sorted(shares.items(), key=lambda item: (item[1].value, item[0])))
    said = {name: _answers(classifier, [row[name] for row in edits]) for name in ("png", "edit_png", "sham_png", "pasted_png")}
    return Grades(_share(int(right.sum()), len(right)), worst_first, _effects(data, edits, said, goals)), said


def group_name(sample: Sample, attributes: Sequence[str]) -> str:
    """smiling, with glasses, without hat"""
    values = (f"{'with' if value else 'without'} {name}" for name, value in zip(attributes, sample.values, strict=True))
    return ", ".join((sample.label, *values))


def _share(k: int, n: int) -> Share:
    interval = binomtest(k, n).proportion_ci(method="wilson")
    return Share(k / n, float(interval.low), float(interval.high), n)


def _effects(data: TrainingSet, edits: Sequence[Row], said: Mapping[str, Floats], goals: Sequence[int]) -> dict[str, Effect]:
    """By attribute, of the class that moves furthest. As in the view edit_effects a change is what both readings say."""
    found = {}
    for name in data.attributes:
        chosen = np.array([row["attribute"] == name for row in edits], dtype=bool)
        if not chosen.any():
            continue
        sign = np.array([1.0 if row["switched_on"] else -1.0 for row in edits])[chosen, None]
        redrawn = sign * (said["edit_png"] - said["sham_png"])[chosen]
        pasted = sign * (said["pasted_png"] - said["png"])[chosen]
        both = np.where(redrawn * pasted > 0, np.sign(redrawn) * np.minimum(abs(redrawn), abs(pasted)), 0.0)[:, list(goals)]
        at = int(abs(both.mean(0)).argmax())
        found[name] = _effect(data.classes[goals[at]], both[:, at])
    return found


def _effect(target: str, changes: Floats) -> Effect:
    n = len(changes)
    if n < FEWEST:
        return Effect(target, float(changes.mean()), None, None, n)
    drawn = np.random.default_rng(derived_seed("repair", n) % 2**32).integers(0, n, (RESAMPLES, n))
    low, high = np.quantile(changes[drawn].mean(1), (0.025, 0.975))
    return Effect(target, float(changes.mean()), float(low), float(high), n)


@torch.no_grad()
def _answers(classifier: TorchClassifier, pngs: Sequence[bytes]) -> Floats:
    """Probabilities (N, K)."""
    device = classifier.network.gain.device
    parts = [pngs[start : start + 64] for start in range(0, len(pngs), 64)]
    empty: Floats = np.zeros((0, len(classifier.classes)))
    found = [classifier(decode_png(part).to(device)).softmax(1).double().cpu().numpy() for part in parts]
    return np.concatenate([empty, *found])


def _pairs(
    edits: Sequence[Row], said: Mapping[str, Floats], says: Mapping[str, Floats], goal: int, classes: Sequence[str]
) -> list[Row]:
    """The held-out edits that moved the classifier most: P(target) of the image and of its pasted edit, before and after."""
    moved = abs(said["pasted_png"][:, goal] - said["png"][:, goal])
    return [
        {
            "image_id": edits[i]["image_id"],
            "attribute": edits[i]["attribute"],
            "switched_on": edits[i]["switched_on"],
            "target": classes[goal],
            "before": [float(said["png"][i, goal]), float(said["pasted_png"][i, goal])],
            "after": [float(says["png"][i, goal]), float(says["pasted_png"][i, goal])],
        }
        for i in np.argsort(-moved, kind="stable")[:SHOWN]
    ]
