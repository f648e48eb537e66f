"""guided-diffusion checkpoints as priors: the imported UNet is the same function, also read back from its folder."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cfx.diffusion.ddpm import load_ddpm
from cfx.diffusion.guided import PUBLISHED, GuidedDiffusion, convert, import_prior
from tests.cfx.adm import ADM, random_adm

# (arguments, narrow; the same network in the tests' own words; H, W)
CASES: dict[str, tuple[GuidedDiffusion, dict[str, Any], tuple[int, int]]] = {
    "celeba": (
        PUBLISHED["celeba"].model_copy(update={"num_channels": 32}),
        {"base": 32, "multipliers": (1, 1, 2, 3, 4), "attention_factors": (4, 8, 16), "heads": 4},
        (32, 48),
    ),
    "celebahq": (
        PUBLISHED["celebahq"].model_copy(update={"num_channels": 32}),
        {"base": 32, "multipliers": (1, 1, 2, 2, 4, 4), "attention_factors": (8, 16, 32), "head_channels": 64},
        (64, 32),
    ),
    "bdd": (
        PUBLISHED["bdd"].model_copy(update={"num_channels": 32}),
        {"base": 32, "multipliers": (1, 2, 3, 4), "attention_factors": (), "head_channels": 64},
        (32, 64),
    ),
    "imagenet": (
        PUBLISHED["imagenet"].model_copy(update={"num_channels": 64}),
        {"base": 64, "multipliers": (1, 1, 2, 2, 4, 4), "attention_factors": (8, 16, 32), "head_channels": 64},
        (32, 64),
    ),
}


def inputs(size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    z = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(3))
    return z, torch.tensor([3, 221])


@pytest.mark.parametrize("case", CASES)
def test_an_imported_prior_is_the_same_function(case: str, tmp_path: Path) -> None:
    arguments, own, size = CASES[case]
    network = random_adm(**own)
    state = {f"module.{name}": value for name, value in network.state_dict().items()}
    torch.save(state, tmp_path / "ema.pt")
    imported = import_prior(tmp_path / "ema.pt", arguments, tmp_path / "prior")
    (tmp_path / "ema.pt").unlink()
    prior = load_ddpm(tmp_path / "prior")
    z, timesteps = inputs(size)
    with torch.no_grad():
        expected = network(z, timesteps)
        assert 0.3 < expected.std() < 3
        torch.testing.assert_close(imported(z, timesteps).sample, expected, atol=1e-5, rtol=0)
        torch.testing.assert_close(prior.predict(z, timesteps), expected, atol=1e-5, rtol=0)
    assert prior.schedule.num_train_timesteps == arguments.diffusion_steps
    assert prior.schedule.trained_timesteps == (250 if case == "bdd" else None)


@pytest.mark.parametrize(
    "wrong", [{"num_heads": 8}, {"num_heads": None, "num_head_channels": 32}], ids=["8 heads", "32 channels a head"]
)
def test_another_head_layout_loads_and_is_another_function(wrong: dict[str, Any]) -> None:
    arguments, own, size = CASES["celeba"]
    network = random_adm(**own)
    z, timesteps = inputs(size)
    with torch.no_grad():
        other = convert(network.state_dict(), arguments.model_copy(update=wrong), "ema.pt")(z, timesteps).sample
        assert (other - network(z, timesteps)).abs().max() > 1e-2


def test_gradients_reach_the_image_alike() -> None:
    arguments, own, size = CASES["celeba"]
    network, (z, timesteps) = random_adm(**own).requires_grad_(False), inputs(size)
    imported = convert(network.state_dict(), arguments, "ema.pt")
    z.requires_grad_()
    (expected,) = torch.autograd.grad(network(z, timesteps)[:, :3].square().sum(), z)
    (gradient,) = torch.autograd.grad(imported(z, timesteps).sample[:, :3].square().sum(), z)
    torch.testing.assert_close(gradient, expected, atol=1e-5 * float(expected.abs().max()), rtol=0)


def test_missing_unexpected_and_misshapen_keys_are_each_named_as_in_the_file() -> None:
    arguments, own, _ = CASES["bdd"]
    state = dict(ADM(**own).state_dict())
    state["label_emb.weight"] = torch.zeros(1000, 128)
    state["middle_block.1.qkv.weight"] = torch.zeros(384, 128)
    del state["input_blocks.3.0.in_layers.2.bias"]
    with pytest.raises(ValueError) as error:
        convert(state, arguments, "ema.pt")
    for part in (
        "ema.pt is not a checkpoint of these arguments",
        "missing input_blocks.3.0.in_layers.2.bias",
        "unexpected label_emb.weight",
        "middle_block.1.qkv.weight is (384, 128) instead of (384, 128, 1)",
    ):
        assert part in str(error.value)


def test_arguments_of_another_checkpoint_are_refused() -> None:
    with pytest.raises(ValueError, match=r"missing input_blocks\.\d+\.1\.norm\.bias"):  # attention that BDD's file has not
        wrong = CASES["bdd"][0].model_copy(update={"attention_resolutions": (64, 32)})
        convert(ADM(**CASES["bdd"][1]).state_dict(), wrong, "ema.pt")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"image_size": 128}, "give num_heads or num_head_channels, one of them"),
        ({"image_size": 128, "num_heads": 4, "num_head_channels": 64}, "give num_heads or num_head_channels, one of them"),
        ({"image_size": 96, "num_heads": 4}, "image_size 96 has no channel_mult of its own"),
    ],
)
def test_nothing_is_guessed(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GuidedDiffusion(**settings)
