"""What each measure of the scorecard is called, says, and which way is better. `fid[oracle]` is `fid` as the oracle sees it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from warehouse.lens.fetch import Row


@dataclass(frozen=True)
class Measure:
    """`share` measures are shown in percent."""

    label: str
    meaning: str
    better: Literal["higher", "lower", "–"] = "–"
    share: bool = False


MEASURES = {  # in the order of the scorecard
    "fr": Measure("Flip rate", "Explanations after which the classifier gives the target class.", "higher", True),
    "fr_8bit": Measure("Flip rate of the files", "The same after the image was rounded to an 8-bit PNG.", "higher", True),
    "judge_fr": Measure(
        "Judge's flip rate",
        "A second classifier, never used for guidance, agrees with the flip. Far below the flip rate, suspect adversarial noise.",
        "higher",
        True,
    ),
    "fr_null": Measure("Flip rate without guidance", "What noise and drawing do alone: the control.", "lower", True),
    "confidence": Measure("Confidence in the target", "Mean probability of the target class, after.", "higher", True),
    "bkl": Measure(
        "Average shortfall from full confidence (BKL)", "One minus the probability of the target class, averaged.", "lower", True
    ),
    "cout": Measure(
        "Counterfactual transition (COUT)",
        "How soon the most changed pixels alone move the classifier to the target class; from −1 to 1. Right inputs only.",
        "higher",
    ),
    "mnac": Measure("Attributes changed (MNAC)", "Mean number of attributes that cross one half, label included.", "lower"),
    "cd": Measure(
        "Correlation difference (CD)",
        "How far the changes' correlations with the label are from the data's own, summed over attributes. "
        "It has a noise floor that falls with n: compare runs of equal n only.",
        "lower",
    ),
    "fid": Measure(
        "Fréchet distance (FID)",
        "How far flipped counterfactuals are from the originals as two sets. Falls with n: compare runs of equal n only.",
        "lower",
    ),
    "sfid": Measure(
        "Split Fréchet distance (sFID)",
        "The same between different images, so that an unchanged image does not win. Falls with n as well.",
        "lower",
    ),
    "kid": Measure("Kernel distance (KID)", "Between different images too; does not depend on n.", "lower"),
    "crossover_fid": Measure(
        "Crossover Fréchet distance",
        "Counterfactuals against real images of where they go; an unchanged image scores as the classes differ.",
        "lower",
    ),
    "fva": Measure("Same face (FVA)", "Flipped counterfactuals that still show the same person.", "higher", True),
    "fs": Measure("Face similarity (FS)", "Mean cosine to the original, flipped counterfactuals.", "higher"),
    "s3": Measure("Similarity (S3)", "Mean cosine to the original. Right inputs only.", "higher"),
    "im1": Measure("Like its class (IM1)", "Below 1, autoencoders find it closer to the target class.", "lower"),
    "im2": Measure("Like any image (IM2)", "Disagreement of autoencoders of the target class and of all.", "lower"),
    "insertion": Measure(
        "Insertion", "The class's probability while what changed most is put back first: its area from 0 to 1.", "higher"
    ),
    "deletion": Measure(
        "Deletion", "The class's probability while what changed most is removed first: its area from 0 to 1.", "lower"
    ),
    "diversity": Measure("Diversity over seeds", "Perceptual distance between one image's counterfactuals.", "higher"),
    "lpips": Measure("Perceptual distance (LPIPS)", "Of a counterfactual to its original.", "lower"),
    "l1": Measure("Size of the change (L1)", "Mean absolute change of a pixel, on a scale from 0 to 1.", "lower"),
    "l1_null": Measure(
        "Change without guidance (L1)", "The same for the null run, of a prior over latents: encoded, redrawn, decoded.", "lower"
    ),
    "autoencoder_l1": Measure(
        "The autoencoder's own change (L1)", "Of encoding and decoding alone, of a prior over latents; explains nothing.", "lower"
    ),
    "l2": Measure("Size of the change (L2)", "Euclidean length of the change, on a scale from 0 to 1 per pixel.", "lower"),
    "linf": Measure("Largest change of a pixel", "On a scale from 0 to 1.", "lower"),
    "l1_sum": Measure("Sum of the change (L1, DVCE)", "Over all pixels and channels, each from 0 to 1.", "lower"),
    "l1_5": Measure("Size of the change (L1.5, DVCE)", "The 1.5-norm over all pixels and channels.", "lower"),
    "sparsity": Measure("Pixels left as they were", "In every channel, in the 8-bit files.", "higher", True),
    "mask_fraction": Measure("Share of pixels allowed to change", "Size of the mask.", "lower", True),
    "seconds": Measure("Seconds per explanation", "Its share of the batch, retries included.", "lower"),
    "nfe_forward": Measure("Denoiser evaluations", "Passes through the generative model per explanation.", "lower"),
    "nfe_backward": Measure("Denoiser gradients", "Passes per explanation that were also differentiated through.", "lower"),
}


ENCODERS = {
    "oracle": "seen by the audit's own attribute model",
    "inception": "seen by Inception, as published",
    "vggface2": "seen by VGGFace2's ResNet50, as published",
    "simsiam": "seen by SimSiam's ResNet50, as published",
    "vgg": "on VGG16",
    "alex": "on AlexNet",
    "change": "by the map of what the counterfactual changed",
}


def measure(metric: str) -> Measure:
    """The entry for a metric, `name` or `name[encoder]`; one that the glossary does not know is shown by its own name."""
    name, _, encoder = metric.removesuffix("]").partition("[")
    known = MEASURES.get(name)
    if known is None:
        return Measure(metric, "")
    return replace(known, label=f"{known.label}, {ENCODERS.get(encoder, encoder)}") if encoder else known


def in_order(rows: Sequence[Row]) -> list[tuple[Row, Measure]]:
    """The scorecard's rows with their entries, in the glossary's order; metrics that it does not know come last."""
    places = {name: place for place, name in enumerate(MEASURES)}
    return sorted(
        ((row, measure(row["metric"])) for row in rows),
        key=lambda pair: places.get(pair[0]["metric"].partition("[")[0], len(places)),
    )
