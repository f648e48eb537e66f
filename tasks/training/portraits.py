"""Portraits at the door of the command line: write them, train the demo's networks on them, grade a classifier by the truth."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cfx.attributes.calibration import Agreement, agreement
from cfx.attributes.words import WordsOracleConfig, load_words
from cfx.classifiers import ClassifierConfig
from cfx.diffusion.flow_training import FlowTraining, train_flow
from cfx.diffusion.training import Batches, PriorTraining, train_prior
from cfx.errors import UserError
from cfx.images import from_uint8
from cfx.portraits import (
    ATTRIBUTES,
    NOUNS,
    WORDS,
    TrueEffect,
    attribute_weights,
    described,
    draw,
    render,
    sample,
    true_effects,
)
from cfx.random import derived_seed
from cfx.training.portrait_captions import caption, prompts_of, vocabulary
from cfx.training.portraits import RECIPES, rendered, train_on_portraits
from tasks.config import PriorConfig
from tasks.networks import classifier_for
from tasks.stages.prior import prior_folder

WORDS_IMAGES, WORDS_SEED = 16_000, 5  # portraits that the image-text model sees, and their seed
MOST_SAID = 5  # attributes of a caption
PRIOR = PriorTraining(bf16=True, compile=True, enough=None)
FLOW = FlowTraining()
TEXT_STEPS = 3600  # of growing the text-to-image model from the prior
WORDS_STEPS = 1_650  # of the image-text model
GRADED = 4711  # seed of the portraits that classifiers are graded on


def reliance(weights: str, n: int) -> list[TrueEffect]:
    """The exact effect of each attribute on a classifier's P(smiling), over n portraits with independent attributes."""
    classifier = classifier_for(ClassifierConfig(weights=weights), "cpu")
    return true_effects(classifier, [portrait for _, portrait in draw(n, GRADED)])


def training_steps(only: str | None) -> dict[str, int]:
    """The demo's networks and the optimizer steps of each. Raises UserError for an unknown name."""
    steps = {name: recipe.training.steps for name, recipe in RECIPES.items()}
    steps |= {"words": WORDS_STEPS, "prior": PRIOR.steps, "text": TEXT_STEPS, "flow": FLOW.steps}
    if only is not None and only not in steps:
        raise UserError(f"--only: there is no network {only!r}; there are {', '.join(steps)}")
    return {only: steps[only]} if only else steps


def train_network(name: str, to: Path, report: Callable[[int, float], None], start: Path | None = None) -> Path:
    """Train one of the demo's networks into the folder `to`; a killed training of the prior goes on from its checkpoint.

    `start` is a prior to go on from; it then sees other portraits than in its first training. The text-to-image model, `text`,
    and the flow prior, `flow`, always go on from a prior: that one, or the folder's, or the one that comes with cfx.
    """
    if name == "words":
        return _train_words(to / "words", report)
    if name == "text":
        return _train_text(to / "text", report, start or _prior_in(to))
    if name == "flow":
        return train_flow(_portraits(FLOW.batch, (FLOW.seed, 2)), start or _prior_in(to), FLOW, to / "flow", report)
    if name != "prior":
        return train_on_portraits(RECIPES[name], to / f"{name}.safetensors", report)
    training = PRIOR if start is None else PRIOR.model_copy(update={"start": start, "seed": PRIOR.seed + 1})
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return train_prior(_portraits(training.batch, (training.seed,)), training, to / "prior", report, device)


def _portraits(n: int, seeds: tuple[int, ...]) -> Batches:
    """Batches of n; every image of them is a new portrait with independent attributes."""

    def batches(step: int) -> Tensor:
        rng = np.random.default_rng((*seeds, step))
        pixels = np.stack([render(sample(rng), PRIOR.size) for _ in range(n)])
        return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1

    return batches


def _prior_in(folder: Path) -> Path:
    trained = folder / "prior"
    return trained if (trained / "unet").is_dir() else prior_folder(Path(), PriorConfig(path="portraits:prior"), "")


def _train_words(to: Path, report: Callable[[int, float], None]) -> Path:
    """The image-text model of Portraits; its captions say which attributes a portrait has, and which it has not."""
    from cfx.training.image_text import ImageTextTraining, Texts, train_image_text  # needs the extra `hf`

    training = ImageTextTraining(steps=WORDS_STEPS, seed=WORDS_SEED)
    images, _, attributes = rendered(WORDS_IMAGES, derived_seed("portraits", WORDS_SEED))

    def captioned(known: Tensor, step: int) -> Texts:
        rng = np.random.default_rng((training.seed, step))
        said = torch.zeros_like(known)
        captions = []
        for one, row in enumerate(known.tolist()):
            chosen = rng.permutation(len(ATTRIBUTES))[: rng.integers(1, MOST_SAID + 1)].tolist()
            said[one, chosen] = True
            captions.append(caption({ATTRIBUTES[i]: row[i] for i in chosen}, rng))
        true = ((known[:, None] == known) | ~said).all(2)
        pairs = [(caption({name: True}, rng), caption({name: False}, rng)) for name in ATTRIBUTES]
        return Texts(captions, true, pairs)

    return train_image_text(images, attributes, captioned, vocabulary(), training, to, report)


@torch.no_grad()
def words_agreement(model: str, n: int) -> dict[str, Agreement]:
    """How an image-text model's words agree with the renderer, uncalibrated: by attribute, over n portraits of another seed."""
    oracle = load_words(WordsOracleConfig.model_validate({"words": prompts_of(), "model": model}))
    images, _, truth = rendered(n, GRADED)
    said = torch.cat([oracle.logits(from_uint8(part)) > 0 for part in images.split(128)])
    columns = zip(said.T.numpy(), truth.T.numpy(), strict=True)
    return {name: agreement(*column) for name, column in zip(ATTRIBUTES, columns, strict=True)}


def _train_text(to: Path, report: Callable[[int, float], None], prior: Path) -> Path:
    """The text-to-image model of Portraits; every image is a new portrait, its prompt says which attributes it has."""
    from cfx.diffusion.text_to_image import TextTraining, train_text_to_image  # needs the extra `sd`

    training = TextTraining(steps=TEXT_STEPS)

    def batches(step: int) -> tuple[Tensor, list[str]]:
        rng = np.random.default_rng((training.seed, step, 1))
        drawn = [sample(rng) for _ in range(training.batch)]
        pixels = np.stack([render(portrait) for portrait in drawn])
        return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1, [described(portrait, rng) for portrait in drawn]

    words = ("a", "with", "at", "random", *NOUNS, *WORDS.values())
    return train_text_to_image(batches, words, prior, training, to, attribute_weights(100, training.seed), report)
