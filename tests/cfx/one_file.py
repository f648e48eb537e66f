"""Generators in one file, under the names of their makers: the tiny pipelines of `tests.cfx.tiny_pipelines`, renamed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

RESIDUAL = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
UNET = {  # of two levels with one layer each, the first with attention
    "conv_in": "input_blocks.0.0",
    "down_blocks.0.resnets.0": "input_blocks.1.0",
    "down_blocks.0.attentions.0": "input_blocks.1.1",
    "down_blocks.0.downsamplers.0.conv": "input_blocks.2.0.op",
    "down_blocks.1.resnets.0": "input_blocks.3.0",
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
    "up_blocks.0.resnets.0": "output_blocks.0.0",
    "up_blocks.0.resnets.1": "output_blocks.1.0",
    "up_blocks.0.upsamplers.0.conv": "output_blocks.1.1.conv",
    "up_blocks.1.resnets.0": "output_blocks.2.0",
    "up_blocks.1.attentions.0": "output_blocks.2.1",
    "up_blocks.1.resnets.1": "output_blocks.3.0",
    "up_blocks.1.attentions.1": "output_blocks.3.1",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
VAE = {
    "mid_block.resnets.0": "mid.block_1",
    "mid_block.resnets.1": "mid.block_2",
    "mid_block.attentions.0": "mid.attn_1",
    "conv_norm_out": "norm_out",
    "conv_shortcut": "nin_shortcut",
    "downsamplers.0.conv": "downsample.conv",
    "upsamplers.0.conv": "upsample.conv",
}
SD3 = {
    "pos_embed.pos_embed": "pos_embed",
    "pos_embed.proj": "x_embedder.proj",
    "time_text_embed.timestep_embedder.linear_1": "t_embedder.mlp.0",
    "time_text_embed.timestep_embedder.linear_2": "t_embedder.mlp.2",
    "time_text_embed.text_embedder.linear_1": "y_embedder.mlp.0",
    "time_text_embed.text_embedder.linear_2": "y_embedder.mlp.2",
    "norm_out.linear": "final_layer.adaLN_modulation.1",
    "proj_out": "final_layer.linear",
    "transformer_blocks.": "joint_blocks.",
    "norm1.linear": "x_block.adaLN_modulation.1",
    "norm1_context.linear": "context_block.adaLN_modulation.1",
    "ff.net.0.proj": "x_block.mlp.fc1",
    "ff.net.2": "x_block.mlp.fc2",
    "ff_context.net.0.proj": "context_block.mlp.fc1",
    "ff_context.net.2": "context_block.mlp.fc2",
    "attn.to_add_out": "context_block.attn.proj",
    "attn.to_out.0": "x_block.attn.proj",
    "attn2.to_out.0": "x_block.attn2.proj",
    "attn.norm_added_": "context_block.attn.ln_",
    "attn.norm_": "x_block.attn.ln_",
    "attn2.norm_": "x_block.attn2.ln_",
}
TOGETHER = {  # three layers that SD3 has as one
    ("attn.to_q", "attn.to_k", "attn.to_v"): "x_block.attn.qkv",
    ("attn2.to_q", "attn2.to_k", "attn2.to_v"): "x_block.attn2.qkv",
    ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"): "context_block.attn.qkv",
}
ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


def write_one_file(pipeline: Any, path: Path, leave_out: str | None = None) -> Path:
    """Save the weights of a Stable Diffusion pipeline under their original names; leave_out: one of those."""
    text = {f"cond_stage_model.transformer.text_model.{name}": value for name, value in state(pipeline.text_encoder)}
    unet = {f"model.diffusion_model.{unet_name(name)}": value for name, value in state(pipeline.unet)}
    vae = {f"first_stage_model.{name}": value for name, value in map(vae_weight, *zip(*state(pipeline.vae), strict=True))}
    weights = {name: value.contiguous() for name, value in (text | unet | vae).items() if name != leave_out}
    save_file(weights, path)
    return path


def write_unet(unet: nn.Module, path: Path) -> Path:
    """Save the UNet of a Stable Diffusion (XL) alone."""
    save_file({f"model.diffusion_model.{unet_name(name)}": value.contiguous() for name, value in state(unet)}, path)
    return path


def write_sd3(transformer: nn.Module, path: Path) -> Path:
    """Save the transformer of a Stable Diffusion 3 alone."""
    weights, last = (
        dict(transformer.state_dict()),
        max(int(name.split(".")[1]) for name, _ in state(transformer) if "_blocks." in name),
    )
    for name in list(weights):
        for (first, *others), together in TOGETHER.items():
            if f".{first}." in name:
                parts = [weights.pop(name.replace(first, part)) for part in (first, *others)]
                weights[name.replace(first, together)] = torch.cat(parts)
    for name in weights:
        if "norm_out" in name or f"blocks.{last}.norm1_context" in name:  # scale and shift stand the other way round
            weights[name] = torch.cat(weights[name].chunk(2)[::-1])
    save_file({f"model.diffusion_model.{renamed(name, SD3)}": value.contiguous() for name, value in weights.items()}, path)
    return path


def state(network: nn.Module) -> list[tuple[str, Tensor]]:
    return [(name.removeprefix("text_model."), value) for name, value in network.state_dict().items()]


def unet_name(name: str) -> str:
    block = next(block for block in UNET if name.startswith(f"{block}."))
    layer, kind = name.removeprefix(f"{block}.").rpartition(".")[::2]
    return ".".join(filter(None, (UNET[block], RESIDUAL.get(layer, layer) if ".resnets." in block else layer, kind)))


def vae_weight(name: str, value: Tensor) -> tuple[str, Tensor]:
    name = re.sub(r"encoder\.down_blocks\.(\d)\.resnets\.", r"encoder.down.\1.block.", name)
    name = re.sub(r"encoder\.down_blocks\.", "encoder.down.", name)
    name = re.sub(r"decoder\.up_blocks\.(\d)", lambda found: f"decoder.up.{2 - int(found[1])}", name)  # counted from below
    name = name.replace(".resnets.", ".block.") if "decoder.up." in name else name
    name = renamed(name, VAE)
    if ".attn_1." in name:
        name = renamed(name, ATTENTION)
        if value.ndim == 2:
            value = value[..., None, None]  # a convolution of 1 x 1
    return name, value


def renamed(name: str, names: Mapping[str, str]) -> str:
    for ours, theirs in names.items():
        name = name.replace(ours, theirs)
    return name
