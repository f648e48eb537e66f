"""Refuse what cannot work before any work is done."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch

from cfx.classifiers import ClassifierConfig
from cfx.errors import UserError
from cfx.targets import check_target
from flows.config import AuditConfig, ConfigError
from tasks.advice.prior_check import Filtered, check_depth, survival, warnings_of
from tasks.data import ingest as data
from tasks.stages.attributes import oracle_for
from tasks.stages.encoders import perceptual_for, published_for
from tasks.stages.explain import check_ladder
from tasks.stages.predict import classifier_for, fingerprint
from tasks.stages.prior import denoiser_for, prior_fingerprint, prior_folder
from tasks.stages.prompts import check_named, check_words
from tasks.stages.run_record import code_version
from tasks.stages.saliency import check_saliency
from tasks.stages.surrogate import check_surrogate


@dataclass(frozen=True)
class Checked:
    """What is known of an audit before it starts."""

    run_id: str
    device: str
    classes: tuple[str, ...]
    fingerprints: str  # JSON: SHA-256 of classifier, judge, oracle, prior, data, networks that measure
    warnings: tuple[str, ...] = ()


def device_of(config: AuditConfig) -> str:
    """The torch device to use. Raises ConfigError if a GPU is asked for and there is none."""
    available = torch.cuda.is_available()
    if config.device == "cuda" and not available:
        raise ConfigError("device: 'cuda' was asked for, but torch sees no GPU; use 'cpu' or 'auto'")
    return "cuda" if available and config.device != "cpu" else "cpu"


def prior_of(config: AuditConfig) -> Path:
    """The folder where the audit's prior is, or will be once it is trained."""
    trained_on = data.fingerprint(config.data) if config.prior.train is not None else ""
    return prior_folder(config.warehouse, config.prior, trained_on)


def check(config: AuditConfig) -> Checked:
    """Load and compare everything the audit will use. Raises ConfigError naming the setting, the value and the way out."""
    device = device_of(config)
    place = "data"
    survived: Filtered | None = None
    try:
        listed = data.check(config.data)
        place = "classifier"
        classifier = classifier_for(config.classifier, device)
        place = "target"
        check_target(config.target, classifier.classes, config.hierarchy, listed.labels)
        place = "oracle"
        oracle = oracle_for(config.oracle, device)
        place = "judge"
        judge = classifier_for(config.judge, device) if config.judge is not None else None
        place = "ladder"
        check_ladder(config.ladder, classifier, config.surrogate is not None)
        place = "surrogate"
        check_surrogate(config.surrogate, classifier)
        place = "words"
        model = check_words(config.words, config.ladder, device)
        place = "interventions"
        named = check_named(config.interventions.named, oracle.attributes, config.target_attribute, device)
        place = "saliency"
        if config.saliency is not None:
            check_saliency(config.saliency, classifier)
        place = "measures"
        measures: dict[str, torch.nn.Module] = dict(published_for(config.measures, device))
        measures |= {f"lpips.{name}": net for name, net in perceptual_for(config.measures, device).items()}
        place = "prior"
        data_hash = data.fingerprint(config.data)
        if config.prior.train is None:
            prior = denoiser_for(prior_of(config), device)
            check_depth(config.ladder, prior)
            if isinstance(config.classifier, ClassifierConfig):  # a black box is asked nothing before the audit starts to count
                survived = survival(prior_of(config), config.classifier, config.data, config.ladder, device)
        prior_hash = prior_fingerprint(config.warehouse, config.prior, data_hash)
    except (UserError, OSError, ImportError) as error:
        raise ConfigError(f"{place}: {error}") from error
    if judge is not None and set(judge.classes) != set(classifier.classes):
        raise ConfigError(
            f"judge: its classes ({', '.join(judge.classes)}) are not the classifier's ({', '.join(classifier.classes)})"
        )
    check_canary(config, classifier.classes, oracle.attributes, device)
    if config.target_attribute is not None and config.target_attribute not in oracle.attributes:
        raise ConfigError(
            f"target_attribute: the oracle does not know {config.target_attribute!r}; it knows {', '.join(oracle.attributes)}"
        )
    prints = {
        "classifier": fingerprint(classifier),
        "judge": fingerprint(judge) if judge is not None else None,
        "oracle": fingerprint(oracle.network),
        "prior": prior_hash,
        "data": data_hash,
        **({"words": fingerprint(model.unet)} if model is not None else {}),
        **({"named": fingerprint(named.unet)} if named is not None else {}),
        **{f"measures.{name}": fingerprint(network) for name, network in measures.items()},
    }
    fingerprints = json.dumps(prints)
    run_id = f"{config.name}-{config.result_hash(fingerprints, code_version())[:10]}"
    return Checked(run_id, device, classifier.classes, fingerprints, warnings_of(survived, config.ladder))


def check_canary(config: AuditConfig, classes: tuple[str, ...], attributes: tuple[str, ...], device: str) -> None:
    """Raises ConfigError if a twin cannot be loaded or has other classes, or if the oracle cannot see what was planted."""
    if config.canary is None:
        return
    for twin in ("planted", "clean"):
        try:
            known = classifier_for(getattr(config.canary, twin), device).classes
        except (UserError, OSError, ImportError) as error:
            raise ConfigError(f"canary.{twin}: {error}") from error
        if known != classes:
            raise ConfigError(f"canary.{twin}: its classes ({', '.join(known)}) are not the classifier's ({', '.join(classes)})")
    if config.canary.attribute not in attributes or config.canary.attribute == config.target_attribute:
        told = ", ".join(name for name in attributes if name != config.target_attribute)
        raise ConfigError(f"canary.attribute: {config.canary.attribute!r} cannot be ranked; the oracle ranks {told}")
