"""Which encoders an audit measures with, and which metrics it has to do without."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import NamedTuple

from torch import nn

from cfx.classifiers import AnyClassifier
from cfx.errors import UserError
from cfx.features import LOADERS, Encoder, OracleFeatures
from cfx.perceptual import LPIPS, Backbone, load_lpips
from tasks.config import MeasureConfig
from tasks.networks import kept, state_of
from tasks.run import Run

SET_METRICS = ("fid", "sfid", "kid", "crossover_fid")


class Absent(NamedTuple):
    """A metric that this configuration cannot have, and how it could."""

    metric: str
    encoder: str | None
    reason: str


def published_for(config: MeasureConfig, device: str) -> dict[str, nn.Module]:
    """The published encoders whose weights are given, by name."""
    files: dict[str, Path | None] = {name: getattr(config, name) for name in LOADERS}
    return {
        name: kept((name, *state_of(weights), device), partial(LOADERS[name], weights, device))
        for name, weights in files.items()
        if weights is not None
    }


def perceptual_for(config: MeasureConfig, device: str) -> dict[Backbone, LPIPS]:
    """LPIPS by backbone, for the backbones whose weights are given."""
    files: dict[Backbone, Path | None] = {"vgg": config.vgg16, "alex": config.alexnet}
    return {
        name: kept(("lpips", name, *state_of(weights), device), partial(load_lpips, weights, device, name))
        for name, weights in files.items()
        if weights is not None
    }


def encoders_for(run: Run) -> dict[str, Encoder]:
    """All encoders of an audit by name: the oracle's own features, where it has some, and the published ones."""
    own: dict[str, Encoder] = {}
    if no_features(run) is None:
        own["oracle"] = OracleFeatures(run.oracle())
    return own | published_for(run.config.measures, run.device)


def no_features(run: Run) -> str | None:
    """Why there are no features of an oracle, or None if there are."""
    if run.config.oracle is None:
        return "no oracle: set `oracle`"
    try:
        OracleFeatures(run.oracle())
    except UserError as error:
        return str(error)
    return None


def measures_cout(config: MeasureConfig, classifier: AnyClassifier) -> bool:
    """Whether COUT is measured: as configured, or else unless a black box would have to be queried so often."""
    return classifier.access == "torch" if config.cout is None else config.cout


def absences(run: Run) -> list[Absent]:
    """Every metric that this configuration cannot have."""
    config, seeds = run.config.measures, len(run.config.seeds)
    needs = {
        "inception": [(metric, "inception") for metric in SET_METRICS],
        "vggface2": [("fva", "vggface2"), ("fs", "vggface2")],
        "simsiam": [("s3", "simsiam")],
        "vgg16": [("lpips", "vgg"), ("diversity", "vgg")],
        "alexnet": [("lpips", "alex"), ("diversity", "alex")],
    }
    missing = [
        Absent(metric, encoder, f"no weights: set measures.{setting} to a file of them")
        for setting, metrics in needs.items()
        if getattr(config, setting) is None
        for metric, encoder in metrics
    ]
    if seeds < 2:
        missing = [absent for absent in missing if absent.metric != "diversity"]
        missing += [Absent("diversity", encoder, "one seed: give two or more in `seeds`") for encoder in ("vgg", "alex")]
    if not measures_cout(config, run.config.classifier):
        missing.append(Absent("cout", None, "52 queries of the classifier per explanation: set measures.cout to true"))
    if config.autoencoders is None:
        missing += [Absent(metric, None, "not requested: set measures.autoencoders to {}") for metric in ("im1", "im2")]
    if not config.insertion_deletion:
        turned_off = "not requested: set measures.insertion_deletion to true"
        missing += [Absent(game, "change", turned_off) for game in ("insertion", "deletion")]
    reason = no_features(run)
    return missing + [Absent(metric, "oracle", reason) for metric in (*SET_METRICS, "s3") if reason is not None]
