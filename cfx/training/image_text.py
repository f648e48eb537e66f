"""A small image-text model in CLIP's format, trained contrastively on captions whose truth is known. Needs the extra `hf`.

The image's transformer begins by attributes without words, as locked-image tuning does (Zhai et al. 2022, arXiv:2111.07991); from
pairs of texts alone it saw hats and hair after 700 steps, and neither glasses nor smiles. It ends on images with much grain,
against gradients that change what it says without drawing what it names; that alone does not end them (`docs/how-to/words.md`).

CLIP (Radford et al. 2021, arXiv:2103.00020) takes every other caption of a batch for wrong. Here what an image shows is known,
so a caption counts as right for every image that it is true of; and each attribute's presence is set against its absence in
words, the hard negative that CLIP's captions lack and an oracle by words asks for.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, unfold
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from cfx.diffusion.text_to_image import set_apart, word_tokenizer
from cfx.images import from_uint8
from cfx.random import derived_seed
from cfx.training.augment import Augmentation, augment
from cfx.training.loop import cosine, descend, seeded, set_rate
from cfx.types import Config

WHITENED_BY, RIDGE = 1_000, 3e-3  # images; what is added to each variance, that of grain
PLACES = 0.5  # standard deviation that the embeddings of places begin with, beside patches of 1
LAST_RATE = 2 / 3  # of the learning rate, for the steps with grain
WARM_UP = 60  # optimizer steps over which the learning rate rises
CAPTIONS = 0.1  # weight of the captions: of whole ones most of the loss stays, however well the images are seen
HALF = [0.5, 0.5, 0.5]  # mean and std: the network sees [-1, 1]


class ImageTextTraining(Config):
    """Knobs of a small CLIP trained from nothing."""

    first: int = Field(500, ge=0, description="optimizer steps of the image's transformer alone, on attributes, undisturbed")
    steps: int = Field(1_650, ge=1, description="optimizer steps in all; those after `first` are contrastive")
    grain: int = Field(350, ge=0, description="the last of them, on images with much grain")
    batch: int = Field(48, ge=2, description="images an optimizer step, each with a caption")
    learning_rate: float = Field(1.5e-3, gt=0)
    weight_decay: float = Field(0.02, ge=0)
    patch: int = Field(8, ge=1, description="side of a patch, pixels")
    width: int = Field(96, ge=8, description="of a patch's embedding")
    layers: int = Field(4, ge=1, description="of the image's transformer")
    words: int = Field(64, ge=8, description="width of a word's embedding")
    dimensions: int = Field(64, ge=2, description="that image and text share")
    length: int = Field(48, ge=8, description="tokens that a text may have, both ends included")
    augmentation: Augmentation = Augmentation()
    grainy: Augmentation = Augmentation(shift=0.03, zoom=0.03, noise=0.6, erase=0.08)
    seed: int = 5


class Texts(NamedTuple):
    """What a batch of images is told apart by.

    captions: one an image. true: (B, B) bool, whether caption j is true of image i. pairs: for each attribute a text of its
    presence and one of its absence.
    """

    captions: list[str]
    true: Tensor
    pairs: list[tuple[str, str]]


Captioned = Callable[[Tensor, int], Texts]  # attributes (B, A) bool of a batch, and the step


def train_image_text(
    images: Tensor,
    attributes: Tensor,
    captioned: Captioned,
    words: Sequence[str],
    config: ImageTextTraining,
    folder: Path,
    report: Callable[[int, float], None] = lambda step, loss: None,
) -> Path:
    """Train a CLIPModel and write its folder as `save_pretrained` does, in half precision; same seed, same files.

    images: (N, 3, S, S) uint8; attributes: (N, A) bool. words: all that captions are made of. Raises UserError as
    `word_tokenizer`.
    """
    tokenizer = word_tokenizer(folder, words, config.length)
    with seeded(config.seed):
        model = _model(tokenizer, words, images.shape[-1], config)
        whiten(model.vision_model, from_uint8(images[:WHITENED_BY]))
    with seeded(config.seed):
        head = nn.Linear(config.width, attributes.shape[1])
    chance = torch.Generator().manual_seed(derived_seed("image-text", config.seed))

    def batch() -> tuple[Tensor, Tensor]:
        chosen = torch.randint(len(images), (config.batch,), generator=chance)
        return from_uint8(images[chosen]), attributes[chosen]

    first = _optimizer(nn.ModuleList([model.vision_model, head]), config)
    for step in range(config.first):
        set_rate(first, config.learning_rate * min(1.0, (step + 1) / WARM_UP))
        x, has = batch()
        loss = binary_cross_entropy_with_logits(head(model.vision_model(pixel_values=x).pooler_output), has.float())
        report(step + 1, descend(loss, first, clipped=model))
    done = config.first
    for steps, share, flaws in (
        (config.steps - config.first - config.grain, 1.0, config.augmentation),
        (config.grain, LAST_RATE, config.grainy),
    ):
        optimizer = _optimizer(model, config)
        for step in range(steps):
            set_rate(optimizer, share * config.learning_rate * cosine(step, steps, WARM_UP))
            x, has = batch()
            loss = _loss(model, tokenizer, augment(x, flaws, chance), has, captioned(has, done + step))
            report(done + step + 1, descend(loss, optimizer, clipped=model))
        done += steps
    model.half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(_preprocessing(images.shape[-1]), indent=2) + "\n")
    return folder


def _optimizer(network: nn.Module, config: ImageTextTraining) -> torch.optim.AdamW:
    return torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True)


def _model(tokenizer: CLIPTokenizer, words: Sequence[str], side: int, config: ImageTextTraining) -> Any:
    ends = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": config.words,
        "intermediate_size": 2 * config.words,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": config.length,
        **ends,
    }
    vision = {
        "image_size": side,
        "patch_size": config.patch,
        "hidden_size": config.width,
        "intermediate_size": 2 * config.width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": 4,
    }
    shapes = CLIPConfig(text_config=text, vision_config=vision, projection_dim=config.dimensions)
    model = CLIPModel(shapes)
    set_apart(model.text_model, tokenizer, words)
    return model


@torch.no_grad()
def whiten(vision: nn.Module, x: Tensor) -> None:
    """Let an untrained vision transformer begin with patches whose parts vary alike, and with places that it can tell apart.

    Whitened by principal components of the patches of x (B, 3, S, S), turned at random (data-dependent initialisation,
    Krähenbühl et al. 2016). As CLIP begins, the colour of a patch drowns what is drawn in it: after 1,500 steps hats and hair
    were seen, and neither glasses nor smiles.
    """
    weights = {name.rpartition(".")[2]: part.weight for name, part in vision.named_modules() if name.endswith("_embedding")}
    patches, places = weights["patch_embedding"], weights["position_embedding"]
    width, side = patches.shape[0], patches.shape[-1]
    seen = unfold(x, side, stride=side).transpose(1, 2).flatten(0, 1)
    variances, directions = torch.linalg.eigh(torch.cov(seen.T))
    kept = directions[:, -width:] / (variances[-width:] + RIDGE).sqrt()
    turned = nn.init.orthogonal_(torch.empty(width, kept.shape[1])) @ kept.T
    patches.copy_(turned.view_as(patches))
    nn.init.normal_(places, std=PLACES)


def _loss(model: Any, tokenizer: Any, x: Tensor, attributes: Tensor, texts: Texts) -> Tensor:
    """Captions against images, both ways, and presence against absence of each attribute."""
    shown = _unit(model.vision_model(pixel_values=x).pooler_output, model.visual_projection)
    both = [*texts.captions, *(said for pair in texts.pairs for said in pair)]
    tokens = tokenizer(both, padding=True, return_tensors="pt")
    said = _unit(model.text_model(**tokens).pooler_output, model.text_projection)
    scores = model.logit_scale.exp() * shown @ said.T
    captions, pairs = scores[:, : len(x)], scores[:, len(x) :].reshape(len(x), -1, 2)
    right = texts.true.to(scores)
    by_image = cross_entropy(captions, right / right.sum(1, keepdim=True))
    by_caption = cross_entropy(captions.T, right.T / right.T.sum(1, keepdim=True))
    absent = (~attributes).long()
    return cross_entropy(pairs.flatten(0, 1), absent.flatten()) + CAPTIONS * (by_image + by_caption) / 2


def _unit(pooled: Tensor, projection: Any) -> Tensor:
    embedded: Tensor = projection(pooled)
    return embedded / embedded.norm(dim=-1, keepdim=True)


def _preprocessing(side: int) -> dict[str, Any]:
    """As CLIP's image processor is written."""
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": side},
        "resample": 3,
        "do_center_crop": True,
        "crop_size": {"height": side, "width": side},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": HALF,
        "image_std": HALF,
        "do_convert_rgb": True,
    }
