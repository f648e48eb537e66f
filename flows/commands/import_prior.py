"""`cfx import-prior`: a checkpoint in one file, guided-diffusion's or a generator's, becomes a prior's folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cfx.errors import UserError
from flows.terminal import escaped, out, user_errors


def import_prior(
    weights: Annotated[Path, typer.Argument(help="a guided-diffusion checkpoint, or a generator in one .safetensors file")],
    to: Annotated[Path, typer.Option("--out", "-o", help="folder of the prior")],
    like: Annotated[str | None, typer.Option(help="celeba, celebahq, bdd or imagenet: the published checkpoints")] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            "-c",
            help="YAML with guided-diffusion's arguments, over those of --like; of a generator: a folder of configs",
        ),
    ] = None,
    num_heads: Annotated[int | None, typer.Option(min=1, help="heads of every attention")] = None,
    num_head_channels: Annotated[int | None, typer.Option(min=1, help="or: channels a head")] = None,
) -> None:
    """Turn a checkpoint in one file into a prior that audits can use (and diffusers can open).

    Of guided-diffusion, or a generator in one .safetensors file (Stable Diffusion, SDXL, SD3, FLUX), whose configs and tokenizers
    come from the folder `--config`.
    """
    with user_errors():
        from cfx.diffusion.single_file import import_single_file, is_single_file

        if is_single_file(weights):
            if like is not None or num_heads is not None or num_head_channels is not None:
                raise UserError(
                    f"{weights} is a generator in one file, not guided-diffusion's; of the options it has --config alone"
                )
            kind = import_single_file(weights, config, to)
            out.print(f"a {kind}")
            out.print(f"prior: {escaped(to)}", soft_wrap=True)
            return
        from cfx.diffusion.guided import import_prior as imported
        from flows.config import guided_arguments

        arguments = guided_arguments(like, config, num_heads, num_head_channels)
        unet = imported(weights, arguments, to)
    parameters = sum(weight.numel() for weight in unet.parameters())
    heads = f"{arguments.num_heads} heads" if arguments.num_heads else f"heads of {arguments.num_head_channels} channels"
    out.print(f"{parameters / 1e6:.1f} million parameters, {heads}, {arguments.diffusion_steps} steps")
    out.print(f"prior: {escaped(to)}", soft_wrap=True)
