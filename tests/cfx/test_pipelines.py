"""Every pipeline class as a prior: what our network answers is what diffusers' own pipeline computes in its loop."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor
from torch.nn.functional import pixel_shuffle

from cfx.diffusion.flow import Flow
from cfx.diffusion.latent_model import Conditioning
from cfx.diffusion.pipelines import load_latent_model
from tests.cfx.tiny_pipelines import MAKERS, write

Folders = Callable[[str], Path]
PROMPTED = {"prompt": "a portrait with smile", "negative_prompt": "serious"}
GUIDED = {**PROMPTED, "guidance": 3.0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    base, made = tmp_path_factory.mktemp("pipelines"), {}

    def of(kind: str) -> Path:
        if kind not in made:
            made[kind] = write(base / kind, kind)
        return made[kind]

    return of


class Reached(Exception):
    """diffusers' loop has come to its scheduler."""


def in_the_loop(pipeline: Any, **call: Any) -> tuple[Tensor, Tensor, Tensor]:
    """A latent that diffusers' pipeline denoises, its timestep, and what the pipeline made of the network's answer."""
    seen: list[Tensor] = []

    def step(answer: Tensor, t: Tensor, z: Tensor, *more: Any, **settings: Any) -> None:
        seen.extend((z, t, answer))
        raise Reached

    pipeline.scheduler.step = step
    pipeline.set_progress_bar_config(disable=True)
    with pytest.raises(Reached):
        pipeline(num_inference_steps=3, generator=torch.manual_seed(1), **call)
    z, t, answer = seen
    return z, t, answer


def unpacked(tokens: Tensor) -> Tensor:
    """FLUX's tokens (B, h w / 4, 4 C) as a latent (B, C, h, w), square."""
    side = int(tokens.shape[1] ** 0.5)
    return pixel_shuffle(tokens.transpose(1, 2).unflatten(2, (side, side)), 2)


SIZE = {"height": 32, "width": 32, "output_type": "latent"}
TEXT = {"prompt": "a portrait with smile", "negative_prompt": "serious", "guidance_scale": 3.0, **SIZE}
CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {  # the folder, our conditioning, diffusers' call
    "stable_diffusion": ("stable_diffusion", GUIDED, TEXT),
    "without guidance": ("stable_diffusion", {"prompt": PROMPTED["prompt"]}, {**TEXT, "guidance_scale": 1.0}),
    "no negative prompt": ("stable_diffusion", {**GUIDED, "negative_prompt": ""}, {**TEXT, "negative_prompt": None}),
    "velocity": ("velocity", GUIDED, TEXT),
    "consistency": (
        "consistency",
        {"prompt": PROMPTED["prompt"], "guidance": 8.5},
        {"prompt": PROMPTED["prompt"], "guidance_scale": 8.5, **SIZE},
    ),
    "stable_diffusion_xl": ("stable_diffusion_xl", GUIDED, TEXT),
    "XL away from nothing": ("stable_diffusion_xl", {**GUIDED, "negative_prompt": ""}, {**TEXT, "negative_prompt": None}),
    "stable_diffusion_3": ("stable_diffusion_3", GUIDED, TEXT),
    "flux": (
        "flux",
        {"prompt": PROMPTED["prompt"], "guidance": 3.5},
        {"prompt": PROMPTED["prompt"], "guidance_scale": 3.5, **SIZE},
    ),
    "schnell": (
        "schnell",
        GUIDED,
        {**PROMPTED, "true_cfg_scale": 3.0, "max_sequence_length": 256, **SIZE},
    ),
    "sana": ("sana", GUIDED, {**TEXT, "use_resolution_binning": False, "clean_caption": False}),
    "pixart": ("pixart", GUIDED, {**TEXT, "use_resolution_binning": False, "clean_caption": False}),
    "dit": ("dit", {"label": "zebra", "guidance": 4.0}, {"class_labels": [3], "guidance_scale": 4.0}),
    "sit": ("sit", {"label": 3}, {"class_labels": [3], "guidance_scale": 1.0}),
    "latent_diffusion": ("latent_diffusion", {}, {}),
    "pixel_flow": ("pixel_flow", {}, {}),
}


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers' and NumPy 2
@torch.no_grad()
@pytest.mark.parametrize("case", CASES)
def test_a_network_answers_as_in_diffusers_own_loop(case: str, folder: Folders) -> None:
    kind, conditioning, call = CASES[case]
    model = load_latent_model(str(folder(kind)), None, Conditioning(**conditioning))
    pipeline = getattr(diffusers, type(MAKERS[kind](folder(kind))).__name__).from_pretrained(folder(kind))
    if kind == "stable_diffusion_xl":  # Euler's z is scaled otherwise; the network's is the same
        pipeline.scheduler = diffusers.DDIMScheduler.from_config(pipeline.scheduler.config)
    if isinstance(model.schedule, Flow) and not hasattr(pipeline.scheduler, "scale_model_input"):
        pipeline.scheduler.scale_model_input = lambda z, t: z  # what a flow's scheduler lacks, and pipelines of classes call
    z, t, answer = in_the_loop(pipeline, **call)
    if kind in ("flux", "schnell"):
        z, answer = unpacked(z), unpacked(answer)
    rows = model.autoencoder.channels
    expected = answer[:1, :rows]
    ours = model.network(z[:1].expand(2, -1, -1, -1), torch.as_tensor(t).expand(2))
    torch.testing.assert_close(ours, expected.expand(2, -1, -1, -1), atol=2e-5, rtol=1e-4)
    assert expected.std() > 0.01 and torch.equal(ours[0], ours[1])
