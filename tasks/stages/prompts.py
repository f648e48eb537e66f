"""The words stage: what a text-to-image model says of each *predicted* class, learned from a black box's answers, for TIME.

Association, not reliance: see docs/how-to/black-box.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from cfx.attributes.named_edits import NamedEdits
from cfx.diffusion.latent import LatentDiffusion, load_latent
from cfx.errors import UserError, did_you_mean
from cfx.methods.textual_inversion import Tokens, TokenTraining, add_tokens, learn_tokens, load_tokens, save_tokens, start_from
from cfx.methods.time_edit import TIME, Inversions, check_levels, time_edit
from cfx.random import ImageNoise
from cfx.types import Classifier, Counterfactual
from tasks.config import PriorConfig, WordsConfig
from tasks.networks import fingerprint_named, kept, text_model_for
from tasks.run import Run
from tasks.shard_images import pixels
from warehouse.facts.shards import Shard, read_shard
from warehouse.facts.storage import cache_of

CONTEXT = tuple(f"A {{context}} {noun}" for noun in ("portrait", "picture", "image", "photo", "photograph", "snapshot at random"))


@dataclass
class Prompted:
    """A text-to-image model with one prompt a class, the UNet evaluations it has done (in images), inversions so far."""

    model: LatentDiffusion
    prompts: tuple[str, ...]
    inversions: Inversions = field(default_factory=dict)

    @property
    def evaluated(self) -> int:
        return int(self.model.unet.evaluated)


class Counting:
    """A UNet that counts the images it sees."""

    def __init__(self, unet: Any) -> None:
        self._unet, self.config, self.evaluated = unet, unet.config, 0

    def __call__(self, z: Tensor, *inputs: Any, **more: Any) -> Any:
        self.evaluated += len(z)
        return self._unet(z, *inputs, **more)


def check_words(config: WordsConfig | None, methods: Sequence[object], device: str) -> LatentDiffusion | None:
    """The model, if the ladder is TIME's. Raises UserError for TIME without words or words without it, and as `check_levels`."""
    if (config is not None) != any(isinstance(method, TIME) for method in methods):
        raise UserError(
            "method 'time' edits with words learned from predictions, and nothing else does: give both or neither, such as "
            "`words: {model: portraits:text}` and `ladder: [{method: time}]`"
        )
    if config is None:
        return None
    model = load_latent(config.model, device)
    for method in methods:
        if isinstance(method, TIME):
            check_levels(model.alphas_cumprod, method)
    return model


def check_named(
    named: NamedEdits | None,
    attributes: Sequence[str],
    target: str | None,
    device: str,
    prior: PriorConfig | None = None,
    folder: Path | None = None,
) -> str | None:
    """The fingerprint of the model that edits by words; None without one, or where it is the audit's prior (in this folder).

    Raises UserError for words of attributes that the oracle does not know, or an attribute without a word (the target attribute
    needs none), as `text_model_for`, and as `check_levels`.
    """
    if named is None:
        return None
    if unknown := sorted(set(named.words) - set(attributes)):
        meant = did_you_mean(unknown[0], attributes)
        raise UserError(f"named.words: the oracle does not know {', '.join(unknown)}{meant}; it knows {', '.join(attributes)}")
    if silent := [name for name in attributes if name not in named.words and name != target]:
        raise UserError(f"named.words: no word for {', '.join(silent)}; every attribute that may be edited needs one")
    model = text_model_for(named, device, prior, folder)
    for rung in named.rungs:
        check_levels(model.alphas_cumprod, rung)
    return fingerprint_named(named, model)


def learned_prompts(run: Run, images: Sequence[Shard], predicted: Sequence[Shard]) -> Path | None:
    """The folder of this run's words, learned from the predictions of all its images unless they are there. Costs no query."""
    config = run.config.words
    if config is None:
        return None
    folder = run.root / "words"
    path = (folder if isinstance(folder, Path) else cache_of(folder)) / run.id
    classes = [name for shard in predicted for name in read_shard(shard, ["class"])["class"].to_pylist()]
    labels = torch.tensor([run.classes.index(name) for name in classes])
    learn_words(load_latent(config.model, run.device), Labelled(pixels(images), labels, run.classes), config, path)
    return path


class Labelled(NamedTuple):
    """Images and what a classifier says of them."""

    x: Tensor  # (N, 3, S, S) uint8
    predicted: Tensor  # (N,) class ids
    classes: Sequence[str]


def learn_words(model: LatentDiffusion, answers: Labelled, config: WordsConfig, folder: Path) -> tuple[str, ...]:
    """One prompt a class: context words learned on all images, three words of its own on those predicted as it.

    Words that are in the folder are kept. Raises UserError for a class that
    no image is predicted as.
    """
    begun = start_from(model, ["<c1>", "<c2>", "<c3>"], [config.begin] * 3)
    prompts = [prompt.format(context=begun.phrase) for prompt in CONTEXT]
    (x, predicted, classes), learned = answers, Lesson(model, config.training)
    context = learned.tokens(folder / "context.pth", x, begun, prompts)
    found = []
    for index, name in enumerate(classes):
        if not bool((predicted == index).any()):
            raise UserError(f"no image is predicted as {name!r}, so there is nothing to learn its words from; add images")
        begun = start_from(model, [f"<k{index}-{i}>" for i in range(3)], [config.begin] * 3)
        prompt = _prompt(context, begun)
        learned.tokens(folder / f"class-{index}.pth", x[predicted == index], begun, [prompt])
        found.append(prompt)
    return tuple(found)


class Lesson(NamedTuple):
    """A text-to-image model, and how it learns words."""

    model: LatentDiffusion
    training: TokenTraining

    def tokens(self, path: Path, x: Tensor, begun: Tokens, prompts: list[str]) -> Tokens:
        """The words in this file, learned on x first unless it is there; the model knows them then."""
        if not path.is_file():
            save_tokens(path, learn_tokens(self.model, x, begun, prompts, self.training))
        tokens = load_tokens(path)
        add_tokens(self.model, tokens)
        return tokens


def _prompt(context: Tokens, words: Tokens) -> str:
    return f"A {context.phrase} photo with a {words.phrase}"


def prompted_by(config: WordsConfig, folder: Path, device: str) -> Prompted:
    """The model with the words of a folder, counting from nothing. The model itself is loaded once a folder."""
    model, prompts = kept(("prompts", config.model, str(folder), device), lambda: _with_words(config.model, folder, device))
    return Prompted(replace(model, unet=Counting(model.unet)), prompts)


def _with_words(source: str, folder: Path, device: str) -> tuple[LatentDiffusion, tuple[str, ...]]:
    model = load_latent(source, device)
    context = load_tokens(folder / "context.pth")
    words = [load_tokens(folder / f"class-{index}.pth") for index in range(len(list(folder.glob("class-*.pth"))))]
    for tokens in (context, *words):
        add_tokens(model, tokens)
    return model, tuple(_prompt(context, tokens) for tokens in words)


@torch.no_grad()
def time_towards(
    prompted: Prompted, classifier: Classifier, x: Tensor, target: Tensor, config: TIME, noise: ImageNoise
) -> Counterfactual:
    """TIME from the predicted class's prompt to the target's. It draws no noise: the inversion is exact.

    Guidance 0 is its null: the source's prompt both ways.
    """
    predicted = classifier(x).argmax(1).tolist()
    source = [prompted.prompts[i] for i in predicted]
    there = [prompted.prompts[i] for i in target.tolist()] if config.scale else source
    names = [hashlib.sha256(image.cpu().contiguous().numpy().tobytes()).hexdigest() for image in x]
    return time_edit(prompted.model, x, source, there, config, names, prompted.inversions)
