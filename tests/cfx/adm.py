"""The UNet of guided-diffusion in plain torch, written from its description, with its names: what an imported prior must equal.

Dhariwal & Nichol 2021, appendix: BigGAN residual blocks that change the resolution, adaptive group normalisation from the time
embedding (scale and shift), attention with several heads. Any H and W that the levels divide.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, silu, softmax


class Residual(nn.Module):
    def __init__(self, inputs: int, outputs: int, embedded: int, change: str = "") -> None:
        super().__init__()
        self.change = change
        self.in_layers = nn.ModuleList([nn.GroupNorm(32, inputs), nn.SiLU(), nn.Conv2d(inputs, outputs, 3, padding=1)])
        self.emb_layers = nn.ModuleList([nn.SiLU(), nn.Linear(embedded, 2 * outputs)])
        layers = [nn.GroupNorm(32, outputs), nn.SiLU(), nn.Dropout(0), nn.Conv2d(outputs, outputs, 3, padding=1)]
        self.out_layers = nn.ModuleList(layers)
        self.skip_connection = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def resized(self, x: Tensor) -> Tensor:
        if self.change == "down":
            return avg_pool2d(x, 2)
        return interpolate(x, scale_factor=2, mode="nearest") if self.change == "up" else x

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        inner = self.in_layers[2](self.resized(silu(self.in_layers[0](x))))
        scale, shift = self.emb_layers[1](silu(embedding))[:, :, None, None].chunk(2, dim=1)
        inner = self.out_layers[0](inner) * (1 + scale) + shift
        return self.skip_connection(self.resized(x)) + self.out_layers[3](silu(inner))


class Attention(nn.Module):
    """Legacy order: the channels of `qkv` are split into heads, and each head's into query, key and value."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(32, channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = nn.Conv1d(channels, channels, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        flat = x.flatten(2)
        answers = []
        for head in self.qkv(self.norm(flat)).chunk(self.heads, dim=1):
            query, key, value = head.chunk(3, dim=1)  # (B, c, HW) each
            weights = softmax(query.transpose(1, 2) @ key / math.sqrt(query.shape[1]), dim=-1)  # (B, HW, HW)
            answers.append(value @ weights.transpose(1, 2))
        return (flat + self.proj_out(torch.cat(answers, dim=1))).view_as(x)


class ADM(nn.Module):
    """(B, 3, H, W) and timesteps (B,) to (B, 6, H, W)."""

    def __init__(self, base: int, multipliers, attention_factors, heads=None, head_channels=None, blocks: int = 2) -> None:
        super().__init__()
        self.base, embedded = base, 4 * base
        widths = [base * mult for mult in multipliers]

        def stage(inputs: int, outputs: int, level: int) -> list[nn.Module]:
            parts: list[nn.Module] = [Residual(inputs, outputs, embedded)]
            if 2**level in attention_factors:
                parts.append(Attention(outputs, heads or outputs // head_channels))
            return parts

        self.time_embed = nn.ModuleList([nn.Linear(base, embedded), nn.SiLU(), nn.Linear(embedded, embedded)])
        self.input_blocks: Any = nn.ModuleList([nn.ModuleList([nn.Conv2d(3, widths[0], 3, padding=1)])])
        channels, kept = widths[0], [widths[0]]
        for level, width in enumerate(widths):
            for _ in range(blocks):
                self.input_blocks.append(nn.ModuleList(stage(channels, width, level)))
                channels = width
                kept.append(channels)
            if level < len(widths) - 1:
                self.input_blocks.append(nn.ModuleList([Residual(channels, channels, embedded, "down")]))
                kept.append(channels)
        middle = [Residual(channels, channels, embedded), Attention(channels, heads or channels // head_channels)]
        self.middle_block: Any = nn.ModuleList([*middle, Residual(channels, channels, embedded)])
        self.output_blocks: Any = nn.ModuleList()
        for level, width in reversed(list(enumerate(widths))):
            for block in range(blocks + 1):
                parts = stage(channels + kept.pop(), width, level)
                channels = width
                if level and block == blocks:
                    parts.append(Residual(channels, channels, embedded, "up"))
                self.output_blocks.append(nn.ModuleList(parts))
        self.out = nn.ModuleList([nn.GroupNorm(32, channels), nn.SiLU(), nn.Conv2d(channels, 6, 3, padding=1)])

    def forward(self, x: Tensor, timesteps: Tensor) -> Tensor:
        half = self.base // 2
        angles = timesteps[:, None].float() * torch.exp(-math.log(10_000) * torch.arange(half) / half)
        embedding = self.time_embed[2](silu(self.time_embed[0](torch.cat([angles.cos(), angles.sin()], dim=1))))
        h, kept = self.input_blocks[0][0](x), []
        kept.append(h)
        for block in self.input_blocks[1:]:
            for part in block:
                h = part(h, embedding)
            kept.append(h)
        for part in self.middle_block:
            h = part(h, embedding)
        for block in self.output_blocks:
            h = torch.cat([h, kept.pop()], dim=1)
            for part in block:
                h = part(h, embedding)
        return self.out[2](silu(self.out[0](h)))


def random_adm(*args, **kwargs) -> ADM:
    """Every weight random, those that training starts from zero included, at a size at which answers are about 1."""
    network, chance = ADM(*args, **kwargs), torch.Generator().manual_seed(5)
    for name, weight in network.named_parameters():
        with torch.no_grad():
            if weight.ndim > 1:
                weight.normal_(0, weight[0].numel() ** -0.5, generator=chance)
            else:
                normed = name.endswith("weight")  # a normalisation's gain
                weight.normal_(0, 0.2, generator=chance).add_(1 if normed else 0)
    return network.eval()
