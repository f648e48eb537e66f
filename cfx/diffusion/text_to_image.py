"""A small text-to-image model in Stable Diffusion's format, grown from a trained prior: its UNet learns to read a prompt.

The prior's weights are kept where they fit; cross-attention is new, and adds nothing at first. Images are folded as the prior
has them (`cfx.diffusion.folded`), so there is no autoencoder to train. Each word of its vocabulary is one token.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel, UNet2DModel
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from pydantic import Field
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from cfx.diffusion.ddpm import load_schedule
from cfx.diffusion.flow import Flow
from cfx.diffusion.folded import Folded
from cfx.errors import UserError
from cfx.random import derived_seed
from cfx.training.loop import cosine, descend, seeded
from cfx.training.resume import Checkpoint
from cfx.types import Config

WARM_UP = 50  # optimizer steps over which the learning rate rises
PromptedBatches = Callable[[int], tuple[Tensor, list[str]]]  # step -> images (B, 3, H, W) in [-1, 1] and a prompt for each


class TextTraining(Config):
    """Knobs of growing a text-to-image model from a prior; the defaults take about an hour of one CPU core."""

    steps: int = Field(3600, ge=1, description="optimizer steps")
    batch: int = Field(16, ge=1, description="images an optimizer step")
    learning_rate: float = Field(2e-3, gt=0, description="of what reads the prompt, which is new")
    kept_rate: float = Field(2e-4, gt=0, description="learning rate of the prior's own weights")
    ema: float = Field(0.995, ge=0, lt=1, description="decay of the moving average that is kept")
    width: int = Field(64, ge=8, description="of a word's embedding")
    length: int = Field(16, ge=8, description="tokens that a prompt may have, both ends included")
    silent: float = Field(0.12, ge=0, lt=1, description="share of prompts that are left out: the empty prompt is any image")
    max_weight: float = Field(5.0, gt=1, description="cap on the weight SNR + 1 of a clean estimate's error")
    checkpoint_every: int = Field(250, ge=1, description="optimizer steps between checkpoints")
    seed: int = 0


class Prompted(nn.Module):
    """What is trained: the UNet and the text encoder."""

    def __init__(self, unet: UNet2DConditionModel, text: CLIPTextModel) -> None:
        super().__init__()
        self.unet, self.text = unet, text

    def forward(self, z: Tensor, t: Tensor, ids: Tensor) -> Tensor:
        """What the UNet predicts of z (B, C, h, w) at steps t (B,), given the tokens (B, L) of prompts; shaped like z."""
        answer: Tensor = self.unet(z, t, encoder_hidden_states=self.text(ids)[0]).sample
        return answer


def train_text_to_image(
    batches: PromptedBatches,
    words: Sequence[str],
    prior: Path,
    config: TextTraining,
    folder: Path,
    weights: Tensor | None = None,
    report: Callable[[int, float], None] = lambda step, loss: None,
) -> Path:
    """Train into `folder`, in half precision, and return it; called again after a kill, it goes on from the last checkpoint.

    words: all that prompts are made of. prior: a folder; it must predict the clean, folded image. weights: (H, W), of mean 1,
    how much each pixel's error counts; default: all the same. Loss and schedule are the prior's (`cfx.diffusion.training`).
    Raises UserError for a prior that predicts something else, and as `word_tokenizer` and `Checkpoint.restore` do.
    """
    schedule = load_schedule(prior)
    if isinstance(schedule, Flow):
        raise UserError(f"{prior} is a flow; a text-to-image model grows from a prior that predicts `sample`")
    if schedule.prediction_type != "sample" or not torch.equal((1 - schedule.original_betas()).cumprod(0), _levels()):
        raise UserError(
            f"{prior} predicts {schedule.prediction_type}; a text-to-image model grows from one that predicts `sample`, and of "
            "1000 steps of linear noise"
        )
    tokenizer = word_tokenizer(folder / "tokenizer", words, config.length)
    with seeded(config.seed):
        unet, kept = prompted_unet(prior, config.width)
        network = Prompted(unet, text_encoder(tokenizer, words, config.width))
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(config.ema))
    of_prior = [(name in kept, weight) for name, weight in unet.named_parameters()]
    new = [*network.text.parameters(), *(weight for is_kept, weight in of_prior if not is_kept)]
    groups = [{"params": new}, {"params": [weight for is_kept, weight in of_prior if is_kept]}]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.01, fused=True)
    scheduler = DDIMScheduler(
        len(_levels()), 1e-4, 0.02, clip_sample=False, set_alpha_to_one=False, steps_offset=1, prediction_type="sample"
    )
    vae = Folded(patch=int((unet.config.in_channels // 3) ** 0.5))
    counted = 1.0 if weights is None else vae.encode(weights.expand(1, 3, *weights.shape)).latent_dist.mean
    checkpoint = Checkpoint(folder / "checkpoint.pt", config)
    first = checkpoint.restore(network=network, average=average, optimizer=optimizer)
    for step in range(first, config.steps):
        share = cosine(step, config.steps, WARM_UP)
        for group, rate in zip(optimizer.param_groups, (config.learning_rate, config.kept_rate), strict=True):
            group["lr"] = rate * share
        chance = torch.Generator().manual_seed(derived_seed("text-to-image", config.seed, step))
        x, prompts = batches(step)
        left_out = (torch.rand(len(x), generator=chance) < config.silent).tolist()
        texts = ["" if silent else prompt for silent, prompt in zip(left_out, prompts, strict=True)]
        ids = tokenizer(texts, padding="max_length", max_length=config.length, return_tensors="pt").input_ids
        t = torch.randint(len(_levels()), (len(x),), generator=chance)
        z0 = vae.encode(x).latent_dist.mean
        loss = (counted * clean_error(network, z0, t, torch.randn(z0.shape, generator=chance), ids, config.max_weight)).mean()
        mean_loss = descend(loss, optimizer, clipped=network)
        average.update_parameters(network)
        report(step + 1, mean_loss)
        if (step + 1) % config.checkpoint_every == 0 or step + 1 == config.steps:
            checkpoint.keep(step + 1, network=network, average=average, optimizer=optimizer)
    final: Any = average.module.half()
    parts = (vae.half(), final.text, tokenizer, final.unet, scheduler, None, None)
    save(folder, StableDiffusionPipeline(*parts, requires_safety_checker=False))
    checkpoint.path.unlink()
    return folder


def _levels() -> Tensor:
    """alphas_cumprod of the linear schedule, (1000,) float64."""
    return (1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)).cumprod(0)


def clean_error(network: nn.Module, z0: Tensor, t: Tensor, noise: Tensor, ids: Tensor, max_weight: float) -> Tensor:
    """Squared error of the clean estimate, shaped like z0, weighted by SNR + 1 up to `max_weight`, as in `denoising_loss`.

    z0, noise: (B, C, h, w); t: (B,) training steps; ids: (B, L) of the prompts' tokens.
    """
    level = _levels()[t].to(z0).view(-1, 1, 1, 1)
    out = network(level.sqrt() * z0 + (1 - level).sqrt() * noise, t, ids).float()
    return (z0 - out).square() * (1 / (1 - level)).clamp(max=max_weight)


def prompted_unet(prior: Path, width: int) -> tuple[UNet2DConditionModel, set[str]]:
    """The prior's UNet that also reads embeddings (B, L, width), and the names of the weights that are the prior's.

    The prompt is read twice: by cross-attention on the middle levels, and as a whole, beside the noise depth, where it sets scale
    and shift of every block. Both add nothing yet. Without the second, the prompt was still ignored after 600 steps.
    """
    old = UNet2DModel.from_pretrained(prior / "unet", torch_dtype=torch.float32, low_cpu_mem_usage=False)
    channels = tuple(old.config.block_out_channels)
    plain = len(channels) - 2
    unet = UNet2DConditionModel(
        sample_size=old.config.sample_size,
        in_channels=old.config.in_channels,
        out_channels=old.config.out_channels,
        block_out_channels=channels,
        layers_per_block=old.config.layers_per_block,
        down_block_types=("DownBlock2D",) * plain + ("CrossAttnDownBlock2D", "AttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DCrossAttn",
        up_block_types=("AttnUpBlock2D", "CrossAttnUpBlock2D") + ("UpBlock2D",) * plain,
        norm_num_groups=old.config.norm_num_groups,
        attention_head_dim=(4,) * (len(channels) - 1) + (old.config.attention_head_dim,),
        resnet_time_scale_shift=old.config.resnet_time_scale_shift,
        cross_attention_dim=width,
        addition_embed_type="text",
        addition_embed_type_num_heads=4,
    )
    shapes = {name: value.shape for name, value in unet.state_dict().items()}
    kept = {name: value for name, value in old.state_dict().items() if shapes.get(name) == value.shape}
    unet.load_state_dict(kept, strict=False)
    nn.init.zeros_(unet.add_embedding.norm2.weight)
    for module in unet.modules():
        if isinstance(module, Transformer2DModel):
            nn.init.zeros_(module.proj_out.weight)
            nn.init.zeros_(module.proj_out.bias)
    return unet.to(memory_format=torch.channels_last), set(kept)


def text_encoder(tokenizer: CLIPTokenizer, words: Sequence[str], width: int) -> CLIPTextModel:
    """One untrained layer of CLIP's text encoder, in which these words, at most `width`, are set apart."""
    encoder: Any = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=2 * width,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=tokenizer.model_max_length,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    set_apart(encoder, tokenizer, words)
    assert isinstance(encoder, CLIPTextModel)
    return encoder


@torch.no_grad()
def set_apart(encoder: nn.Module, tokenizer: CLIPTokenizer, words: Sequence[str]) -> None:
    """Let these words, at most as many as embeddings are wide, begin at right angles to each other in an untrained CLIP encoder.

    CLIP's own beginning gives all words nearly one direction. What reads them then learns to tell apart only those that colour
    most of the image.
    """
    embeddings = {name.rpartition(".")[2]: part.weight for name, part in encoder.named_modules() if name.endswith("_embedding")}
    ids, weight = [tokenizer.vocab[tokenizer.tokenize(word)[0]] for word in words], embeddings["token_embedding"]
    weight[ids] = 2 * weight.shape[1] ** 0.5 * nn.init.orthogonal_(torch.empty(len(ids), weight.shape[1]))
    nn.init.normal_(embeddings["position_embedding"], std=0.3)


def word_tokenizer(folder: Path, words: Sequence[str], length: int) -> CLIPTokenizer:
    """CLIP's tokenizer with its 256 byte symbols, each also as the end of a word, and these words as one token each.

    Written into `folder`; a prompt has `length` tokens at most. Raises UserError for words that cannot be one token side by side.
    """
    symbols = byte_symbols()
    vocabulary, merges = [*symbols, *(f"{symbol}</w>" for symbol in symbols)], []
    for word in sorted(words, key=len, reverse=True):  # a pair that begins a short word must not come first inside a longer one
        pieces = [*word[:-1], f"{word[-1]}</w>"]
        while len(pieces) > 1:
            merges.append(f"{pieces[0]} {pieces[1]}")
            pieces[:2] = ["".join(pieces[:2])]
            vocabulary.append(pieces[0])
    vocabulary = list(dict.fromkeys([*vocabulary, "<|startoftext|>", "<|endoftext|>"]))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(vocabulary)}))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *dict.fromkeys(merges)]))
    tokenizer = CLIPTokenizer.from_pretrained(folder, model_max_length=length)
    if split := [word for word in words if len(tokenizer.tokenize(word)) != 1]:
        raise UserError(f"{', '.join(split)} cannot be one token each beside the others; choose other words")
    return tokenizer


def byte_symbols() -> list[str]:
    """The printable stand-in of every byte, as byte-level BPE has them."""
    kept = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    moved = [byte for byte in range(256) if byte not in kept]
    return [chr(byte) for byte in kept] + [chr(256 + i) for i in range(len(moved))]


def save(folder: Path, pipeline: StableDiffusionPipeline) -> Path:
    """Write the pipeline's folder, in half precision; its autoencoder is ours, and the index says where to find it."""
    pipeline.save_pretrained(folder)
    index = folder / "model_index.json"
    contents = json.loads(index.read_text()) | {"vae": [Folded.__module__, Folded.__name__]}
    index.write_text(json.dumps(contents, indent=2) + "\n")
    return folder
