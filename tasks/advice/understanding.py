"""Collects what was understood of an audit's settings, once they are checked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from cfx.classifiers import BlackBox, TorchClassifier
from cfx.classifiers.network import Network
from cfx.types import Classifier
from tasks.advice.accuracy_check import Accuracy
from tasks.advice.associations import associations_of, striking
from tasks.config import AuditConfig
from tasks.data.annotations import columns_of
from tasks.data.ingest import Listed, selected
from tasks.run import Run
from tasks.stages.encoders import absences
from tasks.understood import Understood


def understood(run: Run, listed: Listed, classifier: Classifier, found: Mapping[str, Accuracy], kept: float | None) -> Understood:
    """What was understood of a run that was checked."""
    counts = Counter[str]()
    for label, n in listed.images.items():
        if (name := run.labels.get(label, label)) is not None:
            counts[name] += n
    of_labels = striking(associations_of(selected(run.config.data)), run.config.target_attribute)
    return Understood(
        images=listed.n,
        per_class=dict(sorted(counts.items())),
        unlabelled=listed.n - counts.total(),
        labels={label: name for label, name in run.labels.items() if name is not None and name != label},
        goes_with=tuple(one.sentence() for one in of_labels if one.attribute != run.config.data.label_column),
        sample=run.sample,
        columns=tuple((use.column, use.role, use.reason) for use in columns_of(run.config.data)),
        target=run.config.target,
        shown=shown_to(classifier, run.config),
        accuracy=found,
        words=run.words,
        kept=kept,
        missing=missing_of(run),
    )


def shown_to(classifier: Classifier, config: AuditConfig) -> dict[str, str]:
    """What a classifier is shown, in words."""
    if isinstance(classifier, BlackBox):
        image, settings = classifier.config.image, getattr(config.classifier, "image", None)
        by_model = {name for name, value in image if value != getattr(settings, name, value)}
        shown = {name: f"{value}" + (" (by the model's shape)" if name in by_model else "") for name, value in image}
        return {name: value for name, value in shown.items() if value != "None"}
    assert isinstance(classifier, TorchClassifier)
    network = classifier.network
    side, std = network.input_size, 0.5 / network.gain.flatten().cpu()
    height, width = (config.data.size,) * 2 if isinstance(config.data.size, int) else config.data.size
    said = {
        "input_size": f"{side} x {side}" if side is not None else f"{height} x {width}, the images' own",
        "mean": ", ".join(f"{value:.3g}" for value in (0.5 - network.offset.flatten().cpu() * std).tolist()),
        "std": ", ".join(f"{value:.3g}" for value in std.tolist()),
    }
    if side is None and network.published_size is not None:
        said["input_size"] += f"; its hub's own weights see {network.published_size} x {network.published_size}"
    if network.origins["crop"] != "the default":
        said["crop"] = f"the central {network.crop:.1%} of the side"
    found = {name: f"{value} (by {network.origins[name]})" for name, value in said.items()}
    if differences := _unlike_published(network):
        found["crop"] = found.get("crop", "none (by the default)") + differences
    return found


def _unlike_published(network: Network) -> str:
    """What production may do to images that an audit does not."""
    published = network.published_crop
    if network.crop == 1 and published is not None and published < 1:
        return f"; its hub's own transform leaves {published:.1%} of the side: set `crop: {published:.4g}` if yours does"
    if network.squeezes:
        return "; its preprocessor squeezes images that are not square, an audit cuts out their central square"
    return ""


def missing_of(run: Run) -> dict[str, tuple[str, ...]]:
    """By reason, the metrics of counterfactuals that an audit of these settings will not have."""
    found = dict[str, list[str]]()
    for absent in absences(run) if run.config.prior is not None else ():
        found.setdefault(absent.reason, []).append(absent.metric + (f"[{absent.encoder}]" if absent.encoder else ""))
    return {reason: tuple(names) for reason, names in found.items()}
