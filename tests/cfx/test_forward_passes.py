"""Passes without a gradient in bfloat16 or compiled: what autocast gives, whatever is in the batch; the others are exact."""

from pathlib import Path

import pytest
import torch
from diffusers import UNet2DModel
from pydantic import ValidationError
from torch import Tensor
from torch._dynamo.utils import counters

from cfx.diffusion.ddpm import DDPM, Schedule
from cfx.diffusion.forward_passes import ForwardPasses, Precision
from cfx.diffusion.runtimes import check_computes, computed
from cfx.errors import UserError
from tasks.config import PriorConfig

TIMESTEPS = torch.full((3,), 10)


@pytest.fixture(scope="module")
def unet() -> UNet2DModel:
    torch.manual_seed(0)
    blocks = {"down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",), "layers_per_block": 1}
    network = UNet2DModel(sample_size=8, block_out_channels=(16,), norm_num_groups=8, add_attention=False, **blocks)
    return network.eval().requires_grad_(False)


@pytest.fixture
def z() -> Tensor:
    return torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def test_bfloat16_is_autocast_bit_for_bit_and_what_is_differentiated_through_is_exact(unet: UNet2DModel, z: Tensor) -> None:
    halved = ForwardPasses(unet, "bfloat16")
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        wanted = unet(z, TIMESTEPS).sample.float()
    with torch.no_grad():
        found, exact = halved(z, TIMESTEPS), unet(z, TIMESTEPS).sample
    assert found.dtype == torch.float32 and torch.equal(found, wanted)
    assert 0 < (found - exact).abs().max() < 0.05
    gradients = list[Tensor]()
    for network in (halved, unet):
        at = z.clone().requires_grad_()
        gradients += torch.autograd.grad(network(at, TIMESTEPS).sample.square().sum(), at)
    assert torch.equal(*gradients)
    assert {p.dtype for p in unet.parameters()} == {torch.float32}


def test_a_prior_in_bfloat16_keeps_its_states_in_float32_and_knows_its_size(unet: UNet2DModel, z: Tensor) -> None:
    exact = DDPM(unet, Schedule(), 3)
    halved = DDPM(computed(unet, "torch", "bfloat16"), Schedule(), 3)
    with torch.no_grad():
        step, wanted = halved.step(z, 500), exact.step(z, 500)
    assert {part.dtype for part in step} == {torch.float32} and not torch.equal(step.x0, wanted.x0)
    assert halved.size == exact.size == (8, 8) and halved.multiple == exact.multiple
    assert computed(unet, "torch", "float32") is unet


def test_what_cannot_work_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="onnxruntime computes in float32, but precision is bfloat16; leave"):
        PriorConfig(path="portraits:prior", runtime="onnxruntime", precision="bfloat16")
    assert check_computes("torch", "float32", "cpu") == {}
    assert check_computes("torch.compile", "bfloat16", "cpu").keys() == {"runtime", "precision"}
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
    with pytest.raises(UserError, match=r"torch.compile needs Python's headers"):
        check_computes("torch.compile", "float32", "cpu")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"torch.compile needs a compiler .*; or leave `runtime` out"):
        check_computes("torch.compile", "float32", "cpu")


@pytest.mark.long
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_compiled_unet_is_torchs_whatever_is_in_the_batch(unet: UNet2DModel, z: Tensor, precision: Precision) -> None:
    plain, compiled = (computed(unet, runtime, precision) for runtime in ("torch", "torch.compile"))
    with torch.no_grad():
        wanted, found = plain(z, TIMESTEPS), compiled(z, TIMESTEPS)
        wanted = wanted if isinstance(wanted, Tensor) else wanted.sample
        before = counters["stats"]["unique_graphs"]
        among, more = compiled(z[[1, 2, 0]], TIMESTEPS), compiled(z[[1, 2, 0, 1]], torch.full((4,), 10))
    within = 1e-5 if precision == "float32" else 0.05
    torch.testing.assert_close(found, wanted, atol=within, rtol=0)
    assert torch.equal(among, found[[1, 2, 0]])
    torch.testing.assert_close(more[:3], among, atol=within, rtol=0)
    assert counters["stats"]["unique_graphs"] == before  # a larger batch is not compiled anew
    at = z.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(compiled(at, TIMESTEPS).sample.square().sum(), at)
    (exact,) = torch.autograd.grad(unet(at, TIMESTEPS).sample.square().sum(), at)
    assert torch.equal(gradient, exact)


@pytest.mark.long
def test_a_network_that_cannot_be_compiled_is_said_with_the_way_out() -> None:
    class Branching(torch.nn.Module):
        def forward(self, z: Tensor, timesteps: Tensor) -> Tensor:
            return z * 2 if float(z.sum()) > 0 else z

    with (
        torch.no_grad(),
        pytest.raises(UserError, match=r"(?s)torch.compile cannot compile this UNet \(.+\); leave `runtime`"),
    ):
        ForwardPasses(Branching(), compiled=True)(torch.ones(1, 3, 4, 4), torch.zeros(1, dtype=torch.long))
