"""Teach an oracle what people named: one more output on the features that a network has already.

A person has ticked the images that have the thing, and left those that have not. An oracle that knows a hundred features of these
images needs no more than that for one more linear output. Where an audit has no oracle, the features are those of the audited
classifier: it looks at the thing, or there would have been no card.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import LeaveOneOut, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from cfx.attributes.oracle import OracleConfig
from cfx.checkpoint import Facts, save_network
from cfx.classifiers.last_layer import Floats, features, last_linear
from cfx.classifiers.network import Network, NetworkConfig, load_network
from cfx.errors import UserError
from cfx.images import decode_png
from warehouse.lens.connect import open_warehouse, query
from warehouse.lens.gate import check_run

LEAST = 4  # images on either side
OUTPUTS = ("outputs", "num_classes")  # arguments by which factories are told how many logits to give
WORTH = 0.7  # share of held-out marks that an output must get right to be worth having
NAMED = "select name, has, lacks from given_names where run_id = $run and name is not null order by name, written"
KEPT = "select image_id, png from images where run_id = $run and png is not null"


class Taught(NamedTuple):
    """What one name was learned from: images on either side, and the share that each got right when it was held out."""

    name: str
    has: int
    lacks: int
    accuracy: float


def teach_oracle(root: Path, run_id: str, to: Path) -> list[Taught]:
    """Write an oracle with the run's attributes and one more for each name that was given in the explorer.

    Raises UserError for an unknown run, where nothing was named, too few images were marked, an audit kept no images, or the
    network's factory cannot give more outputs.
    """
    with closing(open_warehouse(root, sql="from runs")) as lens:
        check_run(lens, root, run_id)
    lessons = _lessons(root, run_id)
    (run,) = query(root, "select config from runs where run_id = $run", {"run": run_id}).to_pylist()
    config = json.loads(run["config"])
    source = _features_from(config, run_id)
    network, facts = load_network(NetworkConfig.model_validate(source.model_dump(exclude={"attributes", "classes", "access"})))
    known = list(source.attributes or facts.get("attributes", ())) if isinstance(source, OracleConfig) else []
    if again := set(known) & {name for name, *_ in lessons}:
        raise UserError(f"{min(again)!r} is an attribute of the oracle already; nothing was learned anew")
    last, path = last_linear(network)
    pngs = {row["image_id"]: row["png"] for row in query(root, KEPT, {"run": run_id}).to_pylist()}
    learned = [_learned(network, last, pngs, *lesson) for lesson in lessons]
    rows = [(weight, bias) for _, weight, bias in learned]
    kept = range(last.out_features) if known else range(0)
    wider = nn.Linear(last.in_features, len(kept) + len(rows))
    with torch.no_grad():
        wider.weight.copy_(torch.cat([last.weight[: len(kept)], *(torch.from_numpy(weight).float()[None] for weight, _ in rows)]))
        before = last.bias[: len(kept)] if last.bias is not None else torch.zeros(len(kept))
        wider.bias.copy_(torch.cat([before, torch.tensor([bias for _, bias in rows]).float()]))
    _put(network.module, path, wider)
    made = _made_by(source, facts, wider.out_features)
    attributes = [*known, *(taught.name for taught, *_ in learned)]
    mean, std = (values.flatten().tolist() for values in _normalisation(network))
    seen = {"input_size": network.input_size, "channels": network.channels, "mean": tuple(mean), "std": tuple(std)}
    save_network(to, network.module, cast(Facts, {**made, "attributes": attributes, **seen}))
    return [taught for taught, *_ in learned]


def _lessons(root: Path, run_id: str) -> list[tuple[str, list[str], list[str]]]:
    """Each name with the images that have it and those that have not; a name given to two claims is one."""
    found: dict[str, tuple[set[str], set[str]]] = {}
    for row in query(root, NAMED, {"run": run_id}).to_pylist():
        has, lacks = found.setdefault(row["name"], (set(), set()))
        has |= set(row["has"])
        lacks |= set(row["lacks"])
    if not found:
        raise UserError(f"--teach: nothing was named in run {run_id!r}; name a card in the explorer first: cfx serve")
    lessons = [(name, sorted(has - lacks), sorted(lacks - has)) for name, (has, lacks) in found.items()]
    for name, having, lacking in lessons:
        if min(len(having), len(lacking)) < LEAST:
            counts = f"{len(having)} images that have it and {len(lacking)} that have not"
            raise UserError(f"--teach: {name!r} has {counts}; {LEAST} of each are needed")
    return lessons


def _features_from(config: Mapping[str, Any], run_id: str) -> NetworkConfig:
    """The run's oracle, or where there is none its classifier. Raises UserError where that is a black box."""
    if "words" in (config.get("oracle") or {}):
        raise UserError(
            f"--teach: the oracle of run {run_id!r} is one by words, and learns nothing: add the name to its `words` instead"
        )
    if config.get("oracle"):
        return OracleConfig.model_validate(config["oracle"])
    classifier = {key: value for key, value in config.get("classifier", {}).items() if key in NetworkConfig.model_fields}
    if config.get("classifier", {}).get("access", "torch") != "torch" or not classifier:
        raise UserError(f"--teach: run {run_id!r} has no oracle, and a black box gives no features; audit it with an `oracle`")
    return NetworkConfig.model_validate(classifier)


def _learned(
    network: Network, last: nn.Linear, pngs: Mapping[str, bytes], name: str, has: Sequence[str], lacks: Sequence[str]
) -> tuple[Taught, Floats, float]:
    """One output's weights and bias. Raises UserError if it cannot tell held-out images."""
    lost = [image_id for image_id in (*has, *lacks) if image_id not in pngs]
    if lost:
        raise UserError(f"--teach: the audit kept no copy of image {lost[0]}; audit again with `thumbnails: true`")
    seen = features(network, last, decode_png([pngs[image_id] for image_id in (*has, *lacks)]))
    answers = np.array([1] * len(has) + [0] * len(lacks))
    scale, model = StandardScaler(), LogisticRegression(C=0.1, class_weight="balanced", max_iter=2_000)
    held_out = cross_val_predict(make_pipeline(scale, model), seen, answers, cv=LeaveOneOut())
    accuracy = float((held_out == answers).mean())
    if accuracy < WORTH:
        raise UserError(
            f"--teach: {name!r} is told right on {accuracy:.0%} of the marked images that were held out; mark more of them, or "
            "check that those that have it have one thing in common"
        )
    model.fit(scale.fit_transform(seen), answers)
    weight: Floats = model.coef_[0] / scale.scale_
    bias = float(model.intercept_[0] - weight @ scale.mean_)
    return Taught(name, len(has), len(lacks), accuracy), weight, bias


def _put(module: nn.Module, path: str, layer: nn.Linear) -> None:
    parent, _, name = path.rpartition(".")
    setattr(module.get_submodule(parent), name, layer)


def _made_by(source: NetworkConfig, facts: Mapping[str, Any], outputs: int) -> dict[str, Any]:
    """Factory and arguments of the wider network. Raises UserError for a factory that takes no number of outputs."""
    module = source.module or facts["module"]
    kwargs = {**(facts.get("kwargs", {}) if source.module is None else {}), **source.kwargs}
    if module.split(":")[0] in ("timm", "torchvision"):
        return {"module": module, "kwargs": kwargs | {"num_classes": outputs}}
    told = [name for name in OUTPUTS if name in kwargs]
    if not told:
        raise UserError(f"--teach: {module} is not told how many outputs to give; its `kwargs` need one of {', '.join(OUTPUTS)}")
    return {"module": module, "kwargs": kwargs | {told[0]: outputs}}


def _normalisation(network: Network) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation that the network's images are normalised by, on [0, 1]."""
    std = 0.5 / network.gain
    return 0.5 - network.offset * std, std
