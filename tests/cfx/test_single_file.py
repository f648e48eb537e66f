"""Generators in one file: imported by diffusers' conversion, every weight accounted for."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner, Result

from cfx.diffusion.latent_model import Conditioning
from cfx.diffusion.pipelines import load_latent_model
from flows.cli import app
from tests.cfx.one_file import write_one_file, write_sd3, write_unet
from tests.cfx.tiny_pipelines import MAKERS, write

ASKED = Conditioning(prompt="a portrait with smile")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("one-file") / "sd", "stable_diffusion")


@pytest.fixture(scope="module")
def configs(folder: Path) -> Path:
    """The folder without its weights."""
    to = folder.with_name("configs")
    shutil.copytree(folder, to, ignore=shutil.ignore_patterns("*.safetensors"))
    return to


@pytest.fixture(scope="module")
def pipeline(folder: Path) -> Any:
    return diffusers.StableDiffusionPipeline.from_pretrained(folder)


def imported(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["import-prior", *map(str, arguments)])


@torch.no_grad()
def test_a_single_file_is_the_folder_that_it_was_made_of(folder: Path, configs: Path, pipeline: Any, tmp_path: Path) -> None:
    file = write_one_file(pipeline, tmp_path / "sd.safetensors")
    answer = imported(file, "-o", tmp_path / "prior", "--config", configs)
    assert answer.exit_code == 0 and "a StableDiffusionPipeline" in answer.stdout, answer.output
    z, t, x = torch.randn(1, 4, 8, 8), torch.tensor([300]), torch.rand(1, 3, 32, 32)
    found, expected = (load_latent_model(str(place), None, ASKED) for place in (tmp_path / "prior", folder))
    torch.testing.assert_close(found.network(z, t), expected.network(z, t), atol=0, rtol=0)
    torch.testing.assert_close(found.autoencoder.encode(x), expected.autoencoder.encode(x), atol=0, rtol=0)
    torch.testing.assert_close(found.autoencoder.decode(z), expected.autoencoder.decode(z), atol=0, rtol=0)


@pytest.mark.long
@torch.no_grad()
@pytest.mark.parametrize(
    ("kind", "part", "save"), [("stable_diffusion_xl", "unet", write_unet), ("stable_diffusion_3", "transformer", write_sd3)]
)
def test_a_network_alone_takes_the_rest_from_the_folder(kind: str, part: str, save: Callable[..., Path], tmp_path: Path) -> None:
    whole, other = write(tmp_path / "whole", kind), write(tmp_path / "other", kind, seed=1)
    network = getattr(getattr(diffusers, type(MAKERS[kind](whole)).__name__).from_pretrained(whole), part)
    answer = imported(save(network, tmp_path / "network.safetensors"), "-o", tmp_path / "prior", "--config", other)
    assert answer.exit_code == 0, answer.output
    found, expected = (load_latent_model(str(place), None, ASKED) for place in (tmp_path / "prior", other))
    z, t = torch.randn(1, 4, 8, 8), torch.tensor([300])
    torch.testing.assert_close(found.autoencoder.decode(z), expected.autoencoder.decode(z), atol=0, rtol=0)
    assert not torch.allclose(found.network(z, t), expected.network(z, t))
    values = getattr(
        getattr(diffusers, type(MAKERS[kind](whole)).__name__).from_pretrained(tmp_path / "prior"), part
    ).state_dict()
    for name, value in network.state_dict().items():
        torch.testing.assert_close(values[name], value, atol=0, rtol=0, msg=name)


MISSING = "model.diffusion_model.input_blocks.1.0.out_layers.3.bias"


@pytest.mark.parametrize("lost", [MISSING, "first_stage_model.decoder.conv_in.weight"])
def test_a_weight_that_the_file_lacks_is_named(lost: str, configs: Path, pipeline: Any, tmp_path: Path) -> None:
    answer = imported(write_one_file(pipeline, tmp_path / "x.safetensors", lost), "-o", tmp_path / "p", "--config", configs)
    name = "unet.down_blocks.0.resnets.0.conv2.bias" if lost == MISSING else "vae.decoder.conv_in.weight"
    assert answer.exit_code == 2 and f"lacks {name}" in answer.stderr and not (tmp_path / "p").exists()


def test_what_is_no_file_of_the_configs_is_refused(folder: Path, configs: Path, pipeline: Any, tmp_path: Path) -> None:
    file = write_one_file(pipeline, tmp_path / "sd.safetensors")
    weights = load_file(file)
    unet = {name: value for name, value in weights.items() if name.startswith("model.")}
    for name, content in (
        ("larger", weights | {"model.diffusion_model.input_blocks.9.0.in_layers.0.weight": torch.ones(3)}),
        ("quantised", weights | {"scaled_fp8": torch.ones(1)}),
        ("unet", unet),
    ):
        save_file(content, tmp_path / f"{name}.safetensors")
    for name, options, words in (
        ("sd", (), "hf download stable-diffusion-v1-5/stable-diffusion-v1-5 --include"),
        ("sd", ("--config", tmp_path), "there is no pipeline in"),
        ("sd", ("--config", configs, "--like", "celeba"), "is a generator in one file, not guided-diffusion's"),
        ("larger", ("--config", configs), "it is of another model"),
        ("quantised", ("--config", configs), "is quantised (scaled_fp8)"),
        ("unet", ("--config", configs), "has no vae, and neither has the folder of --config"),
    ):
        answer = imported(tmp_path / f"{name}.safetensors", "-o", tmp_path / "p", *options)
        assert answer.exit_code == 2 and words in answer.stderr.replace("\n", " "), (name, answer.output)
    assert not (tmp_path / "p").exists()
    assert imported(tmp_path / "unet.safetensors", "-o", tmp_path / "p", "--config", folder).exit_code == 0  # which has the rest
