"""Every pipeline class as a prior: what our network answers is what diffusers' own pipeline computes in its loop."""

from __future__ import annotations

import json
import shutil
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
from cfx.diffusion.latent_prior import is_generator
from cfx.diffusion.pipelines import load_latent_model
from cfx.methods.maskdime import MaskDiME, maskdime
from cfx.own_size import at_priors_size
from cfx.random import ImageNoise
from tasks.config import PriorConfig
from tasks.networks import denoiser_for
from tests.cfx.tiny_pipelines import MAKERS, write
from tests.toys import Linear

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
    "without_t5": ("without_t5", GUIDED, TEXT),
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
    "pixart_sigma": ("pixart_sigma", GUIDED, {**TEXT, "use_resolution_binning": False, "clean_caption": False}),
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
    left_out = {"text_encoder_3": None, "tokenizer_3": None} if kind == "without_t5" else {}
    model = load_latent_model(str(folder(kind)), None, Conditioning(**conditioning))
    pipeline = getattr(diffusers, type(MAKERS[kind](folder(kind))).__name__).from_pretrained(folder(kind), **left_out)
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


@torch.no_grad()
def test_a_unet_of_classes_is_told_its_class(folder: Folders) -> None:
    unet = diffusers.DDPMPipeline.from_pretrained(folder("pixels_of_classes")).unet
    x, t = torch.randn(2, 3, 16, 16), torch.tensor([300, 300])
    found = load_latent_model(str(folder("pixels_of_classes")), None, Conditioning(label="4")).network(x, t)
    torch.testing.assert_close(found, unet(x, t, class_labels=torch.tensor([4, 4])).sample)
    assert not torch.allclose(found, unet(x, t, class_labels=torch.tensor([3, 3])).sample)


@torch.no_grad()
def test_transformers_under_their_old_name_and_folders_without_index(folder: Folders, tmp_path: Path) -> None:
    old = Path(shutil.copytree(folder("dit"), tmp_path / "dit"))
    config, index = old / "transformer" / "config.json", old / "model_index.json"
    fields = {
        "_class_name": "Transformer2DModel",
        "num_vector_embeds": None,
        "cross_attention_dim": None,
        "attention_type": "default",
    }
    config.write_text(json.dumps(json.loads(config.read_text()) | fields))
    index.write_text(json.dumps(json.loads(index.read_text()) | {"transformer": ["diffusers", "Transformer2DModel"]}))
    z, t, zebra = torch.randn(1, 4, 8, 8), torch.tensor([300]), Conditioning(label=3)
    expected = load_latent_model(str(folder("dit")), None, zebra).network(z, t)
    torch.testing.assert_close(load_latent_model(str(old), None, zebra).network(z, t), expected, atol=0, rtol=0)
    index.unlink()  # a folder of parts, as training leaves it
    assert is_generator(old)
    torch.testing.assert_close(load_latent_model(str(old), None, zebra).network(z, t), expected, atol=0, rtol=0)
    pixels = Path(shutil.copytree(folder("pixels_of_classes"), tmp_path / "pixels"))
    (pixels / "model_index.json").unlink()
    assert is_generator(pixels) and load_latent_model(str(pixels), None, Conditioning(label=4)).side == 16


@torch.no_grad()
def test_prompts_of_single_images_and_other_precisions_and_sizes(folder: Folders) -> None:
    model = load_latent_model(str(folder("stable_diffusion_3")), None, Conditioning(prompt="a photo"))
    assert model.text is not None
    z, t = torch.randn(3, 4, 8, 8), torch.full((3,), 400.0)
    prompts, away = ("a photo", "a star", "a portrait with smile"), ("plain",)
    together = model.text.conditioned(prompts, away, 2.0)(z, t)
    alone = [model.text.conditioned((prompt,), away, 2.0)(z[i : i + 1], t[:1]) for i, prompt in enumerate(prompts)]
    torch.testing.assert_close(together, torch.cat(alone), atol=2e-6, rtol=0)
    torch.testing.assert_close(model.text.conditioned(prompts[:1])(z, t), model.network(z, t))
    whole = model.network(z, t)
    odd = model.network(z[..., :7, :5], t)  # mirrored to even sides
    assert odd.shape == (3, 4, 7, 5) and odd.isfinite().all()
    half = model.network.to(torch.bfloat16)(z, t)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, whole, atol=0.05, rtol=0.05)


ALIKE = ("velocity", "schnell", "without_t5", "pixart_sigma")  # of a class that explains already
KINDS = [pytest.param(kind, marks=pytest.mark.long) if kind in ALIKE else kind for kind in MAKERS]


@pytest.mark.parametrize("kind", KINDS)
def test_every_pipeline_explains_an_image_as_audits_load_it(kind: str, folder: Folders) -> None:
    said = {"label": 3} if kind == "pixels_of_classes" else {}
    config = PriorConfig.model_validate({"path": str(folder(kind)), **said})
    assert is_generator(folder(kind)) or kind == "pixel_flow"
    prior = denoiser_for(folder(kind), "cpu", config=config)
    assert prior.size is not None
    side = prior.size[0]
    x = (torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(2)) * 255).round() / 127.5 - 1
    method, classifier = MaskDiME(steps=8, tau=3, scale=20.0, l1=0.0, share=0.5, dilation=1), Linear(side)
    found = at_priors_size(
        maskdime,
        prior.respaced(8),
        classifier,
        x=x,
        target=torch.ones(1, dtype=torch.long),
        config=method,
        noise=ImageNoise.of(["image"], 0),
    )
    assert found.x_cf.isfinite().all() and found.x_cf.shape == x.shape
    assert found.mask is not None
    outside = (found.mask == 0).expand_as(x)
    assert 0.2 < outside.float().mean() < 0.8 and torch.equal(found.x_cf[outside], x[outside])
    assert (found.x_cf - x)[~outside].abs().mean() > 0.01
