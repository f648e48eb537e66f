"""Which encoders an audit measures with, and which metrics it has to do without."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import NamedTuple

from pydantic import Field
from torch import nn

from cfx.attributes.oracle import OracleConfig
from cfx.autoencoder import AutoencoderTraining
from cfx.classifiers import AnyClassifier
from cfx.features import LOADERS, Encoder, OracleFeatures
from cfx.perceptual import LPIPS, Backbone, load_lpips
from cfx.types import Config
from tasks.stages.attributes import oracle_for

SET_METRICS = ("fid", "sfid", "kid", "crossover_fid")
FILES = ("inception", "vggface2", "simsiam", "vgg16", "alexnet")  # the settings that are paths


class MeasureConfig(Config):
    """What counterfactuals are measured with. Files are published weights, none of which comes with cfx; without one, the metrics
    that need it are absent, and said to be."""

    cout: bool | None = Field(
        None, description="COUT: 52 questions to the classifier per explanation; default: only of a classifier in this process"
    )
    insertion_deletion: bool = Field(False, description="insertion and deletion by the change map: 36 questions per explanation")
    autoencoders: AutoencoderTraining | None = Field(
        None, description="IM1 and IM2: trained on the audited images, one autoencoder a class; `{}` for the defaults"
    )
    inception: Path | None = Field(None, description="pytorch-fid's pt_inception-2015-12-05-6726825d.pth: FID, sFID, KID")
    vggface2: Path | None = Field(None, description="VGGFace2-pytorch's resnet50_ft_weight.pkl: FVA, FS")
    simsiam: Path | None = Field(None, description="SimSiam's checkpoint_0099.pth.tar: S3")
    vgg16: Path | None = Field(None, description="torchvision's vgg16-397923af.pth: LPIPS and diversity")
    alexnet: Path | None = Field(None, description="torchvision's alexnet-owt-7be5be79.pth: LPIPS as DVCE reports it")


class Absent(NamedTuple):
    """A metric that this configuration cannot have, and how it could."""

    metric: str
    encoder: str | None
    reason: str


@cache
def _published(name: str, weights: Path, device: str) -> nn.Module:
    return LOADERS[name](weights, device)


@cache
def _lpips(backbone: Backbone, weights: Path, device: str) -> LPIPS:
    return load_lpips(weights, device, backbone)


@cache
def _oracle_features(oracle: str, device: str) -> OracleFeatures:
    return OracleFeatures(oracle_for(OracleConfig.model_validate_json(oracle), device))


def published_for(config: MeasureConfig, device: str) -> dict[str, nn.Module]:
    """The published encoders whose weights are given, by name, each loaded once a process."""
    files: dict[str, Path | None] = {name: getattr(config, name) for name in LOADERS}
    return {name: _published(name, weights, device) for name, weights in files.items() if weights is not None}


def encoders_for(config: MeasureConfig, oracle: OracleConfig, device: str) -> dict[str, Encoder]:
    """All encoders of an audit by name: the oracle's own features, where it has some, and the published ones."""
    own: dict[str, Encoder] = {}
    if no_features(oracle, device) is None:
        own["oracle"] = _oracle_features(oracle.model_dump_json(), device)
    return own | published_for(config, device)


def no_features(oracle: OracleConfig, device: str) -> str | None:
    """Why the oracle has no features, or None if it has."""
    try:
        _oracle_features(oracle.model_dump_json(), device)
    except ValueError as error:
        return str(error)
    return None


def perceptual_for(config: MeasureConfig, device: str) -> dict[Backbone, LPIPS]:
    """LPIPS by backbone, for the backbones whose weights are given, each loaded once a process."""
    files: dict[Backbone, Path | None] = {"vgg": config.vgg16, "alex": config.alexnet}
    return {backbone: _lpips(backbone, weights, device) for backbone, weights in files.items() if weights is not None}


def measures_cout(config: MeasureConfig, classifier: AnyClassifier) -> bool:
    """Whether COUT is measured: as told, or else unless a black box would have to be asked so often."""
    return classifier.access == "torch" if config.cout is None else config.cout


def absences(config: MeasureConfig, classifier: AnyClassifier, oracle: OracleConfig, seeds: int, device: str) -> list[Absent]:
    """Every metric that this configuration cannot have."""
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
    if not measures_cout(config, classifier):
        missing.append(Absent("cout", None, "52 questions to the classifier per explanation: set measures.cout to true"))
    if config.autoencoders is None:
        missing += [Absent(metric, None, "not asked for: set measures.autoencoders to {}") for metric in ("im1", "im2")]
    if not config.insertion_deletion:
        turned_off = "not asked for: set measures.insertion_deletion to true"
        missing += [Absent(game, "change", turned_off) for game in ("insertion", "deletion")]
    reason = no_features(oracle, device)
    return missing + [Absent(metric, "oracle", reason) for metric in (*SET_METRICS, "s3") if reason is not None]
