"""Textual inversion: a few new words learn what a set of images has in common (Gal et al. 2023, arXiv:2208.01618), for TIME.

Context words learn the look of the data, class words what images of one *predicted* class share. Everything else is frozen.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import torch
from pydantic import Field
from torch import Tensor

from cfx.diffusion.latent import LatentDiffusion
from cfx.errors import UserError
from cfx.images import from_uint8
from cfx.random import derived_seed
from cfx.types import Config

_log = logging.getLogger(__name__)

MAX_SNR = 20.0  # min-SNR weighting (Hang et al. 2023), for models that predict the clean latent


class TokenTraining(Config):
    """Knobs of learning words; defaults are the thesis's. The released code: learning_rate 1e-4, steps 3000."""

    learning_rate: float = Field(0.01, gt=0)
    steps: int = Field(800, ge=1, description="optimizer steps")
    batch: int = Field(64, ge=1, description="images an optimizer step")
    at_once: int = Field(4, ge=1, description="of these, images in memory; does not change the result but for rounding")
    weight_decay: float = Field(
        1e-4, ge=0, description="added to the gradient, of the new rows only; the loss is a sum over 16,384 numbers beside it"
    )
    flip: bool = Field(True, description="mirror half of the images")
    seed: int = 0


@dataclass(frozen=True)
class Tokens:
    """Learned words and their embeddings (n, D)."""

    words: tuple[str, ...]
    embeddings: Tensor

    @property
    def phrase(self) -> str:
        """The words in a row, as a prompt has them."""
        return " ".join(self.words)


def add_tokens(model: LatentDiffusion, tokens: Tokens) -> list[int]:
    """Make the words single tokens of the model with these embeddings, and return their ids.

    Words that the model has already get the new embeddings. Raises UserError if the model's embeddings have another width.
    """
    table = model.text_encoder.get_input_embeddings().weight
    if tokens.embeddings.shape != (len(tokens.words), table.shape[1]):
        raise UserError(
            f"{len(tokens.words)} words with embeddings {tuple(tokens.embeddings.shape)}, but this model's words are "
            f"{table.shape[1]} wide; the tokens were learned with another model"
        )
    model.tokenizer.add_tokens([word for word in tokens.words if word not in model.tokenizer.get_vocab()])
    if len(model.tokenizer) > len(table):
        model.text_encoder.resize_token_embeddings(len(model.tokenizer), mean_resizing=False)
    ids = [int(model.tokenizer.convert_tokens_to_ids(word)) for word in tokens.words]
    with torch.no_grad():
        model.text_encoder.get_input_embeddings().weight[ids] = tokens.embeddings.to(model.device)
    return ids


def start_from(model: LatentDiffusion, words: Sequence[str], initial: Sequence[str]) -> Tokens:
    """New words that begin as existing ones. Raises UserError for an initial word that is not one token of the model."""
    if len(words) != len(initial):
        raise UserError(f"{len(words)} new words ({', '.join(words)}) with {len(initial)} words to start from")
    pieces = [model.tokenizer.encode(word, add_special_tokens=False) for word in initial]
    for word, ids in zip(initial, pieces, strict=True):
        if len(ids) != 1:
            raise UserError(f"{word!r} is {len(ids)} tokens of this model; start from a word that is one, such as 'photo'")
    table = model.text_encoder.get_input_embeddings().weight
    return Tokens(tuple(words), table[[ids[0] for ids in pieces]].detach().clone().cpu())


def check_prompt(model: LatentDiffusion, prompt: str, tokens: Tokens) -> None:
    """Raises UserError unless every learned word is exactly one token of the prompt: split, it would mean nothing."""
    ids = model.token_ids([prompt])[0].tolist()
    for word in tokens.words:
        if ids.count(model.tokenizer.convert_tokens_to_ids(word)) != 1:
            raise UserError(f"the learned word {word!r} is not one token of the prompt {prompt!r}; write it once, by itself")


def learn_tokens(
    model: LatentDiffusion,
    images: Tensor,
    tokens: Tokens,
    prompts: Sequence[str],
    config: TokenTraining,
    report: Callable[[int, float], None] = lambda step, loss: None,
) -> Tokens:
    """Train the words of `tokens` on images (N, 3, S, S) uint8; each image goes with one of the prompts, drawn anew.

    Loss: mean over the batch of the *summed* squared error of the predicted noise (as released). The gradient of every other
    row is zeroed, weight decay included, so that only the new rows move.
    """
    ids = add_tokens(model, tokens)
    for prompt in prompts:
        check_prompt(model, prompt, tokens)
    embedding = model.text_encoder.get_input_embeddings()
    table = embedding.weight.requires_grad_()
    new = torch.zeros(len(table), 1, device=table.device)
    new[ids] = 1
    optimizer = torch.optim.AdamW([table], lr=config.learning_rate, betas=(0.9, 0.999), eps=1e-9, weight_decay=0)
    chance = torch.Generator().manual_seed(derived_seed("tokens", config.seed))
    for step in range(config.steps):
        x, spread, noise, t, drawn = _draw(model, images, prompts, config, chance)
        total = 0.0
        for start in range(0, config.batch, config.at_once):
            part = slice(start, start + config.at_once)
            loss = _loss(model, x[part], spread[part], noise[part], t[part], drawn[part]) / config.batch
            loss.backward()
            total += loss.item()
        assert table.grad is not None
        table.grad = new * (table.grad + config.weight_decay * table.detach())
        optimizer.step()
        optimizer.zero_grad()
        report(step + 1, total)
    table.requires_grad_(False)
    return Tokens(tokens.words, table[ids].detach().clone().cpu())


def _draw(
    model: LatentDiffusion, images: Tensor, prompts: Sequence[str], config: TokenTraining, chance: torch.Generator
) -> tuple[Tensor, Tensor, Tensor, Tensor, list[str]]:
    """A whole batch's chance: images on [-1, 1], some mirrored; the spread of their latents; noise; its depth t; prompts."""
    n = config.batch
    x = from_uint8(images[torch.randint(len(images), (n,), generator=chance)])
    if config.flip:
        x = torch.where(torch.rand(n, 1, 1, 1, generator=chance) < 0.5, x.flip(3), x)
    latent = (n, model.vae.config.latent_channels, model.unet.config.sample_size, model.unet.config.sample_size)
    spread, noise = torch.randn(latent, generator=chance), torch.randn(latent, generator=chance)
    t = torch.randint(len(model.alphas_cumprod), (n,), generator=chance)
    return x, spread, noise, t, [prompts[i] for i in torch.randint(len(prompts), (n,), generator=chance).tolist()]


def _loss(model: LatentDiffusion, x: Tensor, spread: Tensor, noise: Tensor, t: Tensor, drawn: list[str]) -> Tensor:
    """Summed squared error of the noise in the latents of these images, each at its depth t under its prompt."""
    device = model.device
    with torch.no_grad():
        latent = model.distribution(x.to(device))
        z0 = (latent.mean + latent.std * spread.to(device)) * model.vae.config.scaling_factor
    level = model.alphas_cumprod[t].float().to(device).view(-1, 1, 1, 1)
    z = level.sqrt() * z0 + (1 - level).sqrt() * noise.to(device)
    predicted = model.noise(z, t.to(device), model.embed(drawn))
    error = (predicted - noise.to(device)).square()
    if model.prediction == "sample":  # what is nearly clean tells such a model little about the noise, and would drown all else
        error = error * (MAX_SNR * (1 - level) / level).clamp(max=1)
    return error.sum()


def save_tokens(path: Path, tokens: Tokens) -> Path:
    """Write words and embeddings in the format of TIME's released token files, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{uuid4().hex}.tmp")
    torch.save({"words": list(tokens.words), "embs": tokens.embeddings}, part)
    return part.replace(path)


def load_tokens(path: Path) -> Tokens:
    """Read a token file: {'words': n strings, 'embs': (n, D)}. Runs no code of the file.

    A command line of the released code leaves literal quotes at the ends of words, and prompts then miss the words: they are
    removed, with a warning. Raises FileNotFoundError, or UserError for another content.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no token file {path}")
    content = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(content, dict) or not {"words", "embs"} <= set(content) or len(content["words"]) != len(content["embs"]):
        raise UserError(f"{path} is no token file; it holds 'words', a list of n strings, and 'embs', a tensor (n, D)")
    words = tuple(word.strip("'\"") for word in content["words"])
    if words != tuple(content["words"]):
        quoted = ", ".join(repr(word) for word in content["words"])
        _log.warning("%s: quote characters removed from the words %s, as prompts are written without them", path, quoted)
    return Tokens(words, content["embs"].float())
