"""guided-diffusion's UNet (Dhariwal & Nichol 2021, "ADM") as a diffusers UNet2DModel: renames and reshapes, nothing else.

Several of the settings below have no trace in the weights: a wrong one loads and gives wrong images. So nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from diffusers import UNet2DModel
from pydantic import Field, model_validator
from torch import Tensor

from cfx.checkpoint import read_state_dict
from cfx.diffusion.ddpm import Schedule, save_ddpm, set_heads
from cfx.errors import UserError
from cfx.types import Config

MULTIPLIERS = {512: (0.5, 1, 1, 2, 2, 4, 4), 256: (1, 1, 2, 2, 4, 4), 128: (1, 1, 2, 3, 4), 64: (1, 2, 3, 4)}  # by image_size

TIME = {"time_embed.0": "time_embedding.linear_1", "time_embed.2": "time_embedding.linear_2"}
ENDS = {"input_blocks.0.0": "conv_in", "out.0": "conv_norm_out", "out.2": "conv_out"}
RESIDUAL = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
ATTENTION = {"norm": "group_norm", "qkv": "to_q to_k to_v", "proj_out": "to_out.0"}


class GuidedDiffusion(Config):
    """The arguments that a guided-diffusion checkpoint was trained with, under its own names; all others are as in its commands:
    unconditional, learn_sigma, resblock_updown, use_scale_shift_norm, linear noise, legacy attention order."""

    image_size: int = Field(ge=1, description="the argument of that name; what attention_resolutions refer to")
    num_channels: int = Field(128, ge=1)
    num_res_blocks: int = Field(2, ge=1)
    channel_mult: tuple[float, ...] | None = Field(None, min_length=1, description="default: by image_size")
    attention_resolutions: tuple[int, ...] = Field((32, 16, 8), description="as given: sides of the feature maps at image_size")
    num_heads: int | None = Field(None, ge=1, description="heads of every attention; or give num_head_channels")
    num_head_channels: int | None = Field(None, ge=1, description="channels a head; or give num_heads")
    diffusion_steps: int = Field(1000, ge=1)
    trained_steps: int | None = Field(None, ge=1, description="the first so many steps only were trained; default: all")

    @model_validator(mode="after")
    def _can_work(self) -> GuidedDiffusion:
        if (self.num_heads is None) == (self.num_head_channels is None):
            raise UserError(
                "give num_heads or num_head_channels, one of them: the weights fit either, and the wrong one spoils the images"
            )
        if self.channel_mult is None and self.image_size not in MULTIPLIERS:
            raise UserError(f"image_size {self.image_size} has no channel_mult of its own; give it")
        return self

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each level."""
        return tuple(int(mult * self.num_channels) for mult in self.channel_mult or MULTIPLIERS[self.image_size])

    @property
    def attends(self) -> tuple[bool, ...]:
        """Whether each level has attention: where its downsampling factor is that of an attention resolution."""
        factors = {self.image_size // resolution for resolution in self.attention_resolutions}
        return tuple(2**level in factors for level in range(len(self.widths)))


# The published checkpoints (methods of DiME, ACE and OpenAI). CelebA has 4 heads, whatever DiME's README says of head channels.
PUBLISHED: Mapping[str, GuidedDiffusion] = {
    "celeba": GuidedDiffusion(image_size=128, num_heads=4, diffusion_steps=500),
    "celebahq": GuidedDiffusion(image_size=256, num_head_channels=64, diffusion_steps=500),
    "bdd": GuidedDiffusion(  # no level reaches these resolutions: attention in the middle only
        image_size=256, channel_mult=(1, 2, 3, 4), attention_resolutions=(16, 8), num_head_channels=64, trained_steps=250
    ),
    "imagenet": GuidedDiffusion(image_size=256, num_channels=256, num_head_channels=64),
}


def import_prior(weights: Path, arguments: GuidedDiffusion, folder: Path) -> UNet2DModel:
    """Read a guided-diffusion checkpoint, write it as a prior's folder for `load_ddpm`, and return its UNet.

    Raises FileNotFoundError if there is no file, UserError naming every key that is missing, unexpected or misshapen.
    """
    state = read_state_dict(weights)
    if any(name.startswith("model.diffusion_model.") for name in state):
        raise UserError(f"{weights} is a generator in one file (Stable Diffusion or the like); have it converted to .safetensors")
    unet = convert(state, arguments, str(weights))
    steps, trained = arguments.diffusion_steps, arguments.trained_steps
    schedule = Schedule(num_train_timesteps=steps, trained_timesteps=trained, variance_type="learned_range")
    save_ddpm(folder, unet, schedule)
    return unet


def convert(state: Mapping[str, Tensor], arguments: GuidedDiffusion, source: str) -> UNet2DModel:
    """A UNet2DModel with these weights, float32, in eval mode. Raises UserError naming what does not fit."""
    with torch.device("meta"):  # shapes only: the weights are put in place, not copied
        unet = unet_of(arguments)
    wanted = unet.state_dict()
    origin = {name: _theirs(name, _blocks(arguments)) for name in wanted}
    expected = set(origin.values())
    problems = [f"missing {name}" for name in sorted(expected - state.keys())]
    problems += [f"unexpected {name}" for name in sorted(state.keys() - expected)]
    for name, theirs in origin.items():
        shape = _their_shape(theirs, wanted[name].shape)
        if theirs in state and state[theirs].shape != shape:
            problems.append(f"{theirs} is {tuple(state[theirs].shape)} instead of {shape}")
    if problems:
        raise UserError(f"{source} is not a checkpoint of these arguments: {'; '.join(dict.fromkeys(problems))}")
    values = {name: _value(name, state[theirs], arguments) for name, theirs in origin.items()}
    unet.load_state_dict(values, strict=True, assign=True)
    if arguments.num_heads is not None:
        unet.register_to_config(_num_heads=arguments.num_heads)  # a private name, at which diffusers does not take offence
        set_heads(unet, arguments.num_heads)
    return unet.eval()


def unet_of(arguments: GuidedDiffusion) -> UNet2DModel:
    """The network of these arguments, with random weights and heads by channels: `num_heads` is set by `convert`."""
    down = ["AttnDownBlock2D" if attends else "ResnetDownsampleBlock2D" for attends in arguments.attends]
    up = ["AttnUpBlock2D" if attends else "ResnetUpsampleBlock2D" for attends in reversed(arguments.attends)]
    return UNet2DModel(
        sample_size=arguments.image_size,
        out_channels=6,  # noise, and where the variance lies in its range
        down_block_types=tuple(down),
        up_block_types=tuple(up),
        block_out_channels=arguments.widths,
        layers_per_block=arguments.num_res_blocks,
        attention_head_dim=arguments.num_head_channels or arguments.widths[0],  # `num_heads` is set afterwards
        resnet_time_scale_shift="scale_shift",
        downsample_type="resnet",
        upsample_type="resnet",
        norm_eps=1e-5,
        norm_num_groups=32,
        attn_norm_num_groups=32,
        act_fn="silu",
        add_attention=True,
        flip_sin_to_cos=True,
        freq_shift=0,
    )


def _blocks(arguments: GuidedDiffusion) -> dict[str, str]:
    """diffusers' name of every block -> guided-diffusion's."""
    return dict(_down(arguments)) | _MIDDLE | dict(_up(arguments))


_MIDDLE = {f"mid_block.{part}": f"middle_block.{i}" for i, part in enumerate(("resnets.0", "attentions.0", "resnets.1"))}


def _down(arguments: GuidedDiffusion) -> Iterator[tuple[str, str]]:
    number = 1  # input_blocks.0 is the first convolution
    for level, attends in enumerate(arguments.attends):
        for layer in range(arguments.num_res_blocks):
            yield f"down_blocks.{level}.resnets.{layer}", f"input_blocks.{number}.0"
            if attends:
                yield f"down_blocks.{level}.attentions.{layer}", f"input_blocks.{number}.1"
            number += 1
        if level < len(arguments.widths) - 1:
            yield f"down_blocks.{level}.downsamplers.0", f"input_blocks.{number}.0"
            number += 1


def _up(arguments: GuidedDiffusion) -> Iterator[tuple[str, str]]:
    number = 0
    for level, attends in enumerate(reversed(arguments.attends)):
        for layer in range(arguments.num_res_blocks + 1):
            yield f"up_blocks.{level}.resnets.{layer}", f"output_blocks.{number}.0"
            if attends:
                yield f"up_blocks.{level}.attentions.{layer}", f"output_blocks.{number}.1"
            if layer == arguments.num_res_blocks and level < len(arguments.widths) - 1:
                yield f"up_blocks.{level}.upsamplers.0", f"output_blocks.{number}.{2 if attends else 1}"
            number += 1


_PARTS = {  # diffusers' name of a layer inside a block -> guided-diffusion's
    name: theirs for layers in (RESIDUAL, ATTENTION) for theirs, ours in layers.items() for name in ours.split()
}
_OUTER = {ours: theirs for layers in (TIME, ENDS) for theirs, ours in layers.items()}


def _theirs(name: str, blocks: Mapping[str, str]) -> str:
    """guided-diffusion's name of a weight of the UNet2DModel."""
    layer, kind = name.rsplit(".", 1)  # kind: weight or bias
    if layer in _OUTER:
        return f"{_OUTER[layer]}.{kind}"
    block = next(block for block in blocks if layer.startswith(f"{block}."))
    return f"{blocks[block]}.{_PARTS[layer.removeprefix(f'{block}.')]}.{kind}"


def _their_shape(theirs: str, shape: torch.Size) -> tuple[int, ...]:
    """Shape of guided-diffusion's weight for one of this shape: q, k and v are together, and layers are 1-d convolutions."""
    rows = 3 * shape[0] if ".qkv." in theirs else shape[0]
    is_convolution = theirs.endswith((".qkv.weight", ".proj_out.weight"))
    return (rows, *shape[1:], *((1,) if is_convolution else ()))


def _value(name: str, value: Tensor, arguments: GuidedDiffusion) -> Tensor:
    """The weight as diffusers keeps it. Legacy attention is split into heads first, then each head into q, k and v."""
    value = value.float()
    for position, part in enumerate(("to_q", "to_k", "to_v")):
        if f".{part}." in name:
            channels = value.shape[0] // 3
            heads = arguments.num_heads or channels // (arguments.num_head_channels or channels)
            split = value.reshape(heads, 3, channels // heads, -1)[:, position]
            return split.reshape(channels, -1) if name.endswith("weight") else split.reshape(channels)
    return value.squeeze(-1) if ".to_out." in name and name.endswith("weight") else value
