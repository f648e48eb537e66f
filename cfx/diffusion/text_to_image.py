"""A small text-to-image model in Stable Diffusion's format, grown from a trained prior: its UNet learns to read a prompt.

The prior's weights are kept where they fit; cross-attention is new, and adds nothing at first. Pictures are folded as the prior
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

from cfx.diffusion.folded import Folded
from cfx.random import derived_seed
from cfx.types import Config

Told = Callable[[int], tuple[Tensor, list[str]]]  # step -> pictures (B, 3, H, W) in [-1, 1] and a prompt for each


class TextTraining(Config):
    """Knobs of growing a text-to-image model from a prior."""

    steps: int = Field(600, ge=1, description="optimizer steps")
    batch: int = Field(16, ge=1, description="pictures an optimizer step")
    learning_rate: float = Field(5e-4, gt=0)
    ema: float = Field(0.99, ge=0, lt=1, description="decay of the moving average that is kept")
    width: int = Field(64, ge=8, description="of a word's embedding")
    length: int = Field(24, ge=8, description="tokens that a prompt may have, both ends included")
    silent: float = Field(0.15, ge=0, lt=1, description="share of prompts that are left out: the empty prompt is any picture")
    max_weight: float = Field(20.0, gt=1, description="cap on the weight SNR + 1 of a clean estimate's error")
    seed: int = 0


class Prompted(nn.Module):
    """What is trained: the UNet and the text encoder."""

    def __init__(self, unet: UNet2DConditionModel, text: CLIPTextModel) -> None:
        super().__init__()
        self.unet, self.text = unet, text

    def forward(self, z: Tensor, t: Tensor, ids: Tensor) -> Tensor:
        answer: Tensor = self.unet(z, t, encoder_hidden_states=self.text(ids)[0]).sample
        return answer


def train_text_to_image(
    batches: Told,
    words: Sequence[str],
    prior: Path,
    config: TextTraining,
    folder: Path,
    report: Callable[[int, float], None] = lambda step, loss: None,
) -> Path:
    """Train into `folder`, in half precision, and return it. The prior (a folder) must predict the clean, folded picture.

    Loss and schedule are the prior's (`cfx.diffusion.training`). Raises ValueError for a prior that predicts something else.
    """
    told = json.loads((prior / "scheduler" / "scheduler_config.json").read_text())
    if told["prediction_type"] != "sample" or told["beta_schedule"] != "linear":
        raise ValueError(
            f"{prior} predicts {told['prediction_type']}; a text-to-image model grows from one that predicts `sample`"
        )
    torch.manual_seed(config.seed)
    tokenizer = word_tokenizer(folder / "tokenizer", words, config.length)
    network = Prompted(prompted_unet(prior, config.width), text_encoder(tokenizer, config.width))
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(config.ema))
    optimizer = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=0.01, fused=True)
    scheduler = DDIMScheduler(
        len(_levels()), 1e-4, 0.02, clip_sample=False, set_alpha_to_one=False, steps_offset=1, prediction_type="sample"
    )
    vae = Folded(patch=int((network.unet.config.in_channels // 3) ** 0.5))
    for step in range(config.steps):
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * min(1.0, (step + 1) / 50, 2 * (1 - step / config.steps))
        chance = torch.Generator().manual_seed(derived_seed("text-to-image", config.seed, step))
        x, prompts = batches(step)
        left_out = (torch.rand(len(x), generator=chance) < config.silent).tolist()
        said = ["" if silent else prompt for silent, prompt in zip(left_out, prompts, strict=True)]
        ids = tokenizer(said, padding="max_length", max_length=config.length, return_tensors="pt").input_ids
        t = (torch.rand(len(x), generator=chance) ** 1.5 * len(_levels())).long()
        z0 = vae.encode(x).latent_dist.mean
        loss = clean_loss(network, z0, t, torch.randn(z0.shape, generator=chance), ids, config.max_weight)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        average.update_parameters(network)
        report(step + 1, loss.item())
    final: Any = average.module.half()
    parts = (vae.half(), final.text, tokenizer, final.unet, scheduler, None, None)
    return save(folder, StableDiffusionPipeline(*parts, requires_safety_checker=False))


def _levels() -> Tensor:
    """alphas_cumprod of the linear schedule, (1000,) float64."""
    return (1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)).cumprod(0)


def clean_loss(network: nn.Module, z0: Tensor, t: Tensor, noise: Tensor, ids: Tensor, max_weight: float) -> Tensor:
    """Squared error of the clean estimate, weighted by SNR + 1 up to `max_weight`, as in `denoising_loss`."""
    level = _levels()[t].to(z0).view(-1, 1, 1, 1)
    out = network(level.sqrt() * z0 + (1 - level).sqrt() * noise, t, ids).float()
    return ((z0 - out).square() * (1 / (1 - level)).clamp(max=max_weight)).mean()


def prompted_unet(prior: Path, width: int) -> UNet2DConditionModel:
    """The prior's UNet with cross-attention to embeddings (B, L, width) on its middle levels, which adds nothing yet."""
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
    )
    shapes = {name: value.shape for name, value in unet.state_dict().items()}
    kept = {name: value for name, value in old.state_dict().items() if shapes.get(name) == value.shape}
    unet.load_state_dict(kept, strict=False)
    for module in unet.modules():
        if isinstance(module, Transformer2DModel):
            nn.init.zeros_(module.proj_out.weight)
            nn.init.zeros_(module.proj_out.bias)
    return unet


def text_encoder(tokenizer: CLIPTokenizer, width: int) -> CLIPTextModel:
    """One untrained layer of CLIP's text encoder."""
    return CLIPTextModel(
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


def word_tokenizer(folder: Path, words: Sequence[str], length: int) -> CLIPTokenizer:
    """CLIP's tokenizer with its 256 byte symbols, each also as the end of a word, and these words as one token each."""
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
        raise ValueError(f"{', '.join(split)} cannot be one token each beside the others; choose other words")
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
    told = json.loads(index.read_text()) | {"vae": [Folded.__module__, Folded.__name__]}
    index.write_text(json.dumps(told, indent=2) + "\n")
    return folder
