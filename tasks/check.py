"""Refuse what cannot work before any work is done; what was found out on the way is the `Run`."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch

from cfx.attributes.oracle import Oracle
from cfx.attributes.words import WordsOracleConfig
from cfx.beside import look_beside
from cfx.classifiers import ClassifierConfig, TorchClassifier
from cfx.classifiers.network import Network
from cfx.diffusion.ddpm import DDPM
from cfx.diffusion.runtimes import check_computes
from cfx.diffusion.training import PriorTraining
from cfx.errors import ConfigError, UserError, did_you_mean
from cfx.images import height_and_width
from cfx.targets import check_target
from cfx.types import Classifier
from tasks.advice.accuracy_check import Accuracy, accuracy_warnings
from tasks.advice.associations import associations_of, label_warnings
from tasks.advice.classifier_check import TRIED, check_answers, check_gradient, factory_warnings, one_class_warnings
from tasks.advice.prior_check import check_consensus, check_depth, check_edits, check_methods, check_size, size_warnings
from tasks.advice.prior_fit import check_fit, survival
from tasks.advice.size_check import blur_warnings
from tasks.advice.understanding import understood
from tasks.advice.words_check import Worded, calibrate_words, words_warnings
from tasks.config import AuditConfig
from tasks.data import ingest as data
from tasks.data import nightly, region_masks
from tasks.data.ingest import labelled_sample
from tasks.data.labels import Labels, match_labels
from tasks.data.near_names import unmatched_warnings
from tasks.data.people_names import check_people_names
from tasks.data.region_masks import check_masks
from tasks.explainer import check_ladder
from tasks.networks import (
    classifier_for,
    denoiser_for,
    fingerprint,
    fingerprint_files,
    fingerprint_latent,
    lpips_for,
    oracle_for,
    perceptual_for,
    prior_for,
    robust_for,
    runtime_of,
)
from tasks.regions import mask_warnings
from tasks.run import Run
from tasks.stages.editor import check_drawn, check_editor, few_warnings
from tasks.stages.encoders import perceptual_for as lpips_of
from tasks.stages.encoders import published_for
from tasks.stages.prior import prior_fingerprint, prior_folder
from tasks.stages.prompts import check_named, check_words
from tasks.stages.regions import check_regions
from tasks.stages.run_record import code_version
from tasks.stages.saliency import check_saliency
from tasks.stages.surrogate import check_enough, check_surrogate
from tasks.training.auto import ROLES, Prepared, expected_attributes, is_auto, train_networks
from warehouse.lens.connect import open_warehouse
from warehouse.lens.gate import check_run

Prints = dict[str, str | None]
Warnings = tuple[str, ...]
Prepare = Callable[[AuditConfig, Sequence[str], Labels, str], Prepared]  # see tasks.training.auto


@contextmanager
def setting(place: str) -> Iterator[None]:
    """What goes wrong in the body is the fault of this setting."""
    try:
        yield
    except ConfigError:
        raise
    except (UserError, OSError, ImportError) as error:
        raise ConfigError(f"{place}: {error}") from error


@dataclass(frozen=True)
class Networks:
    """What an audit names, loaded."""

    classifier: Classifier
    judge: Classifier | None
    oracle: Oracle | None
    attributes: tuple[str, ...]  # the oracle's, also of one that is yet to be trained


def check(config: AuditConfig, prepare: Prepare = train_networks) -> Run:
    """Load and compare everything the audit will use. Raises ConfigError naming the setting, the value and the way out.

    prepare: what becomes of networks that are `auto`: trained, or only expected.
    """
    device = device_of(config)
    look_beside(config.folder)
    with setting("data"):
        config = config.model_copy(update={"data": nightly.settled(config.warehouse, config.data)})
        listed = data.check(config.data)
        data_print = data.fingerprint(config.data)
        check_names_differ(listed.attributes)
    with setting("surrogate"):
        check_enough(config.surrogate, listed.n)
    with setting("warehouse"):
        check_writable(config.warehouse)
    with setting("base"):
        check_base(config)
    with setting("classifier"):
        classifier = classifier_for(config.classifier, device)
    classes = classifier.classes
    with setting("data"):
        labels = match_labels(listed.labels, classes, config.data.label_column, config.data.labels)
    with setting("target"):
        check_target(config.target, classes, config.hierarchy, sorted({name for name in labels.values() if name is not None}))
    if any(is_auto(config, role) for role in ROLES):  # before minutes of training
        _check_known(config, _attributes_to_come(config, device), listed.attributes)
    given, prepared = config, prepare(config, classes, labels, device)
    config = prepared.config
    networks = _networks(config, classifier, prepared.attributes, device)
    config, words = _calibrated(config, networks.oracle, device)
    _check_known(config, networks.attributes, listed.attributes)
    check_people_names(config.labels, (*classes, *networks.attributes, *listed.attributes))
    twins = _check_canary(config, classes, networks.attributes)
    examined = _examined(config, networks, labels, device)
    prints: Prints = {
        "classifier": fingerprint(networks.classifier),
        "judge": fingerprint(networks.judge) if networks.judge is not None else None,
        "oracle": fingerprint(networks.oracle.network) if networks.oracle is not None else None,
    }
    prints |= twins | _prior_print(config, data_print, device) | {"data": data_print}
    prints |= _method_prints(config, networks, data_print, device)
    about_prior, kept = _check_prior(config, networks.classifier, data_print, prints["prior"], device)
    with setting("data"):
        about_size = tuple(f"classifier: {warning}" for warning in blur_warnings(networks.classifier, config.data))
    about_masks: tuple[str, ...] = ()
    if config.masks is not None:
        with setting("masks"):
            about_masks = mask_warnings(config.masks, data.selected(config.data)["file"].to_pylist())
    with setting("regions"):
        about_masks += check_masks(config)
    about_label: tuple[str, ...] = ()
    if config.target_attribute is None and networks.oracle is not None:
        about_label = label_warnings(associations_of(data.selected(config.data)), networks.oracle.attributes)
    about_editor = few_warnings(config, listed.n)
    about_answers = (warning for one in examined.values() for warning in one.warnings)
    about_names = unmatched_warnings(networks.attributes, listed.attributes)
    about_data = (*listed.warnings, *about_names, *about_label)
    warnings = (
        *about_data,
        *words_warnings(words),
        *prepared.warnings,
        *_notes(networks),
        *about_size,
        *about_masks,
        *about_answers,
        *about_prior,
        *about_editor,
    )
    run_id = f"{config.name}-{given.result_hash(_json(prints), code_version())[:10]}"
    run = Run(config, run_id, device, classes, prints, _prior(config, data_print), warnings, listed.sample, labels, words)
    run.keep(networks.classifier, networks.judge, networks.oracle)
    accuracy = {role: one.accuracy for role, one in examined.items() if one.accuracy is not None}
    found = understood(run, listed, networks.classifier, accuracy, kept)
    coming = {f"no {role}: set `{role}`" for role in prepared.pending}
    missing = {reason: names for reason, names in found.missing.items() if reason not in coming}
    return replace(run, understood=replace(found, missing=missing, trained=prepared.lines, pending=prepared.pending))


def with_trained(config: AuditConfig) -> AuditConfig:
    """The configuration with files for its networks that are `auto`, trained now unless they are there."""
    if not any(is_auto(config, role) for role in ROLES):
        return config
    device = device_of(config)
    look_beside(config.folder)
    with setting("classifier"):
        classes = classifier_for(config.classifier, device).classes
    with setting("data"):
        labels = match_labels(data.check(config.data).labels, classes, config.data.label_column, config.data.labels)
    return train_networks(config, classes, labels, device).config


def device_of(config: AuditConfig) -> str:
    """The torch device to use. Raises ConfigError if a GPU is requested and there is none."""
    available = torch.cuda.is_available()
    if config.device == "cuda" and not available:
        raise ConfigError("device: 'cuda' is requested, but torch sees no GPU; use 'cpu' or 'auto'")
    return "cuda" if available and config.device != "cpu" else "cpu"


def loaded_prior(config: AuditConfig, device: str) -> DDPM:
    """The audit's prior, computed by what the audit computes it with. Raises as `prior_of` and `check_computes` do."""
    folder = prior_of(config)
    assert config.prior is not None
    with setting("prior"):
        check_computes(runtime_of(config.prior, folder, device), config.prior.precision, device)
        return denoiser_for(folder, device, config.prior)


def prior_of(config: AuditConfig) -> Path:
    """The folder where the audit's prior is, or will be once it is trained. Raises ConfigError for an audit without one."""
    if config.prior is None:
        raise ConfigError("prior: is needed to draw images; give `path` (a trained prior) or `train`")
    return prior_folder(config.warehouse, config.prior, data.fingerprint(config.data) if config.prior.train is not None else "")


def _networks(config: AuditConfig, classifier: Classifier, expected: tuple[str, ...], device: str) -> Networks:
    """Oracle and judge beside the classifier. expected: attributes of an oracle that is yet to be trained."""
    with setting("oracle"):
        oracle = oracle_for(config.oracle, device) if config.oracle is not None else None
        attributes = oracle.attributes if oracle is not None else expected
        check_names_differ(attributes)
    with setting("judge"):
        judge = classifier_for(config.judge, device) if config.judge is not None else None
    if judge is not None and set(judge.classes) != set(classifier.classes):
        raise ConfigError(
            f"judge: its classes ({', '.join(judge.classes)}) are not the classifier's ({', '.join(classifier.classes)})"
        )
    return Networks(classifier, judge, oracle, attributes)


def _calibrated(config: AuditConfig, oracle: Oracle | None, device: str) -> tuple[AuditConfig, tuple[Worded, ...]]:
    """The configuration with the calibration of an oracle by words, which the oracle has from now on; and how it was found."""
    if oracle is None or not isinstance(config.oracle, WordsOracleConfig):
        return config, ()
    with setting("data"):
        by_words, found = calibrate_words(config.oracle, oracle, config.data, device)
    return config.model_copy(update={"oracle": by_words}), found


def _notes(networks: Networks) -> tuple[str, ...]:
    """What a user should know about how the networks were loaded."""
    loaded = {"classifier": networks.classifier, "judge": networks.judge, "oracle": networks.oracle}
    named = {role: getattr(network, "network", None) for role, network in loaded.items()}
    return tuple(f"{role}: {note}" for role, network in named.items() if isinstance(network, Network) for note in network.notes)


def check_names_differ(attributes: tuple[str, ...]) -> None:
    """Raises UserError for names that SQL, where an attribute is a column, takes for one, and for such as no column can have."""
    seen: dict[str, str] = {}
    for name in attributes:
        if not name.strip() or not name.isprintable():
            raise UserError(f"the attribute {name!r} holds a line break or another sign that is not shown; rename it")
        if (other := seen.setdefault(name.casefold(), name)) is not name:
            raise UserError(f"the attributes {other!r} and {name!r} differ by case alone, and in SQL not at all; rename one")


def check_writable(root: Path) -> None:
    """Raises UserError for a warehouse where nothing can be written; one in an object store is not tried."""
    if not isinstance(root, Path):
        return
    there = next(place for place in (root, *root.absolute().parents) if place.exists())
    if not there.is_dir():
        raise UserError(f"{there} is a file; the warehouse is a folder: give another one")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"{there} cannot be written to; give another folder, or allow writing")


def check_base(config: AuditConfig) -> None:
    """Raises UserError for a base that is no run of the warehouse, with the runs there are."""
    if config.base is None:
        return
    with closing(open_warehouse(config.warehouse, sql="from runs")) as lens:
        check_run(lens, config.warehouse, config.base)


def _attributes_to_come(config: AuditConfig, device: str) -> tuple[str, ...]:
    """What the oracle knows, or will once it is trained."""
    if is_auto(config, "oracle"):
        return expected_attributes(config)
    with setting("oracle"):
        return oracle_for(config.oracle, device).attributes if config.oracle is not None else ()


def _check_known(config: AuditConfig, seen: tuple[str, ...], annotated: tuple[str, ...]) -> None:
    """Raises ConfigError for an attribute that nobody knows, wherever one is named. seen: by the oracle."""
    _check_names(config, seen)
    _check_protected(config, seen, annotated)


def _check_names(config: AuditConfig, known: tuple[str, ...]) -> None:
    """Raises ConfigError for an attribute that the oracle does not know, wherever one is named."""
    no_oracle = "there is no oracle to see this attribute; leave the setting out, or set `oracle`"
    named: dict[str, tuple[str, ...]] = {
        "target_attribute": (config.target_attribute,) if config.target_attribute is not None else (),
        "gate.forbidden": (config.gate.forbidden or ()) if config.gate is not None else (),
    }
    for place, names in named.items():
        for name in names:
            if name not in known:
                there = (
                    f"the oracle does not know {name!r}{did_you_mean(name, known)}; it knows {', '.join(known)}"
                    if known
                    else no_oracle
                )
                raise ConfigError(f"{place}: {there}")


def _check_protected(config: AuditConfig, seen: tuple[str, ...], annotated: tuple[str, ...]) -> None:
    """Raises ConfigError for a protected attribute that nobody annotated and no oracle sees, or that is the label itself."""
    for name in config.gate.protected if config.gate is not None else ():
        if name == config.target_attribute:
            raise ConfigError(f"gate.protected: {name!r} is the label itself (`target_attribute`): an answer must go with it")
        known = tuple(dict.fromkeys((*annotated, *seen)))
        if name not in known:
            meant = did_you_mean(name, known)
            there = f"known are {', '.join(known)}" if known else "nothing is: annotate it in `data.table`, or set `oracle`"
            raise ConfigError(f"gate.protected: {name!r} is neither annotated nor an attribute of the oracle{meant}; {there}")


def _check_canary(config: AuditConfig, classes: tuple[str, ...], attributes: tuple[str, ...]) -> Prints:
    """The twins' fingerprints. Raises ConfigError if one cannot be loaded or has other classes, or if the oracle cannot see what
    was planted."""
    if config.canary is None:
        return {}
    prints: Prints = {}
    for twin in ("planted", "clean"):
        with setting(f"canary.{twin}"):
            network = classifier_for(getattr(config.canary, twin), device_of(config))
        if network.classes != classes:
            known = ", ".join(network.classes)
            raise ConfigError(f"canary.{twin}: its classes ({known}) are not the classifier's ({', '.join(classes)})")
        prints[f"canary.{twin}"] = fingerprint(network)
    if config.canary.attribute not in attributes or config.canary.attribute == config.target_attribute:
        ranked = ", ".join(name for name in attributes if name != config.target_attribute)
        meant = did_you_mean(config.canary.attribute, [name for name in attributes if name != config.target_attribute])
        raise ConfigError(f"canary.attribute: {config.canary.attribute!r} cannot be ranked{meant}; the oracle ranks {ranked}")
    return prints


def _method_prints(config: AuditConfig, networks: Networks, data_print: str, device: str) -> Prints:
    """Everything that explains and measures fits; the fingerprints of its networks."""
    classifier, prints = networks.classifier, Prints()
    with setting("ladder"):
        if config.prior is not None:
            check_ladder(config.ladder, classifier, config.surrogate is not None)
            prints |= _ladder_prints(config, classifier, device)
    with setting("surrogate"):
        check_surrogate(config.surrogate, classifier)
    with setting("editor"):
        check_editor(config, classifier)
    with setting("words"):
        model = check_words(config.words, config.ladder, device)
        prints |= {"words": fingerprint_latent(model)} if model is not None else {}
    with setting("interventions"):
        target, folder = config.target_attribute, _prior(config, data_print)
        named = check_named(config.interventions.named, networks.attributes, target, device, config.prior, folder)
        prints |= {"named": named} if named is not None else {}
    with setting("saliency"):
        if config.saliency is not None:
            check_saliency(config.saliency, classifier, height_and_width(config.data.size))
            regions = config.saliency.regions
            prints |= {"saliency.regions": fingerprint_files(regions)} if regions is not None else {}
    with setting("masks"):
        if config.masks is not None:
            prints |= {"masks": fingerprint_files(config.masks)}
    with setting("regions"):
        check_regions(config, classifier)
        prints |= {"regions": masked} if (masked := region_masks.fingerprint(config)) is not None else {}
    with setting("measures"):
        measures = published_for(config.measures, device)
        prints |= {f"measures.{name}": fingerprint(network) for name, network in measures.items()}
        lpips = lpips_of(config.measures, device)
        prints |= {f"measures.lpips.{name}": fingerprint(network) for name, network in lpips.items()}
    return prints


def _ladder_prints(config: AuditConfig, classifier: Classifier, device: str) -> Prints:
    """What the ladder's own networks are. Raises FileNotFoundError or UserError for one that cannot be loaded or has other
    classes."""
    prints: Prints = {}
    for rung, method in enumerate(config.ladder):
        if (robust := getattr(method, "robust", None)) is not None:
            network = robust_for(robust, device)
            if network.classes != classifier.classes:
                known, wanted = ", ".join(network.classes), ", ".join(classifier.classes)
                raise UserError(f"robust: its classes ({known}) are not the classifier's ({wanted})")
            prints[f"ladder.{rung}.robust"] = fingerprint(network)
        if (vgg19 := getattr(method, "vgg19", None)) is not None:
            perceptual_for(vgg19, device)
            prints[f"ladder.{rung}.vgg19"] = fingerprint_files(Path(vgg19))
        if (vgg16 := getattr(method, "vgg16", None)) is not None:
            lpips_for(vgg16, device)
            prints[f"ladder.{rung}.vgg16"] = fingerprint_files(Path(vgg16))
    return prints


def _prior(config: AuditConfig, data_print: str) -> Path | None:
    return None if config.prior is None else prior_folder(config.warehouse, config.prior, data_print)


def _prior_print(config: AuditConfig, data_print: str, device: str) -> Prints:
    """The prior's fingerprint, and what computes it where that is not torch, in float32."""
    if config.prior is None:
        return {"prior": None}
    with setting("prior"):
        runtime = runtime_of(config.prior, prior_folder(config.warehouse, config.prior, data_print), device)
        computes = check_computes(runtime, config.prior.precision, device)
        return {"prior": prior_fingerprint(config.warehouse, config.prior, data_print)} | computes


def _check_prior(
    config: AuditConfig, classifier: Classifier, data_print: str, prior_print: str | None, device: str
) -> tuple[Warnings, float | None]:
    """Warnings about a prior that was trained before, and the share of predictions that it keeps. The audit takes it over.

    A black box is queried nothing before the audit starts to count.
    """
    folder = _prior(config, data_print)
    if folder is None or config.prior is None:
        return (), None
    with setting("prior"):
        prior = config.prior.train or prior_for(folder, prior_print, device, config.prior)
        if isinstance(prior, DDPM):
            check_methods(config.ladder, prior)
            check_consensus(config.ladder, prior, classifier.classes)
        check_size(config.data.size, prior)
    with setting("editor"):
        check_drawn(config, prior)
    if isinstance(prior, PriorTraining):
        return size_warnings(prior, config.data.size), None
    with setting("prior"):
        check_depth(config.ladder, prior)
        if config.oracle is not None:
            with setting("interventions"):
                check_edits(config.interventions, prior)
        asked = classifier if isinstance(config.classifier, ClassifierConfig) else None
        found = survival(prior, asked, config.data, config.ladder, device)
        warnings = (*size_warnings(prior, config.data.size), *check_fit(found, config.ladder))
        return warnings, None if found is None else found.kept


class Examined(NamedTuple):
    """What some of the audit's images say of a classifier."""

    accuracy: Accuracy | None
    warnings: Warnings


def _examined(config: AuditConfig, networks: Networks, labels: Labels, device: str) -> dict[str, Examined]:
    """Classifier, judge and twins, queried about some of the audit's images. Black boxes are not: it would count before the
    audit."""
    roles = [("classifier", config.classifier, networks.classifier), ("judge", config.judge, networks.judge)]
    if config.canary is not None:
        twins = {"planted": config.canary.planted, "clean": config.canary.clean}
        roles += [(f"canary.{twin}", settings, classifier_for(settings, device)) for twin, settings in twins.items()]
    torch_ones = [
        (role, settings, network)
        for role, settings, network in roles
        if isinstance(settings, ClassifierConfig) and isinstance(network, TorchClassifier)
    ]
    if not torch_ones:
        return {}
    with setting("data"):
        (_, x), found = labelled_sample(config.data, TRIED)
    known = [None if label is None else labels[label] for label in found]
    examined = {}
    for role, settings, network in torch_ones:
        with setting(role):
            made, answered = factory_warnings(settings, network, device), check_answers(network, x.to(device))
            about_answers = (*made, *answered, *one_class_warnings(network, x.to(device)))
            if role != "judge" and _follows_gradients(config):
                check_gradient(network, x.to(device))
            accuracy, about_accuracy = accuracy_warnings(network, x.to(device), known)
        examined[role] = Examined(accuracy, tuple(f"{role}: {warning}" for warning in (*about_answers, *about_accuracy)))
    return examined


def _follows_gradients(config: AuditConfig) -> bool:
    """Whether a method that explains, or saliency, differentiates the classifier."""
    return config.prior is not None and (config.saliency is not None or any(rung.method != "time" for rung in config.ladder))


def _json(prints: Prints) -> str:
    return json.dumps(prints)
