"""Every white-box method on three classes, on wide images, through a real UNet whose parameters are frozen."""

import pytest
import torch
from diffusers import UNet2DModel
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef

from cfx.diffusion.ddpm import DDPM, Schedule
from cfx.methods.ace import ACE, ace, filtered_gradient
from cfx.methods.blended import Blended, blended
from cfx.methods.dime import DiME, FastDiME, dime, fastdime
from cfx.methods.dvce import DVCE, dvce
from cfx.methods.maskdime import MaskDiME, maskdime
from cfx.methods.svce import SVCE, svce
from cfx.random import ImageNoise
from tests.toys import gaussian_prior

METHODS = [
    (dime, DiME(steps=50, tau=8, scale=20, loss="log_prob")),
    (dime, DiME(steps=50, tau=8, scale=20)),
    (dime, DiME(steps=50, tau=8, scale=20, loss="margin")),
    (fastdime, FastDiME(steps=50, tau=8, scale=20, loss="margin")),
    (maskdime, MaskDiME(steps=50, tau=8, share=0.3, loss="margin")),
    (ace, ACE(steps=50, tau=3, iterations=10, step_size=8 / 255, dilation=3)),
    (ace, ACE(steps=50, tau=3, iterations=10, step_size=4.0, attack="cw", dilation=3)),
    (dvce, DVCE(steps=50, tau=8)),
    (blended, Blended(steps=50, tau=8, squared=10, augmentations=2)),
    (svce, SVCE(radii=(3.0,), iterations=10)),
]
IDS = ["a", "b", "c"]


class Thirds:
    """Three classes: how bright the left, the middle and the right third are. Works for any height, and for widths of 3 n."""

    classes = ("left", "middle", "right")
    differentiable = True

    def __call__(self, x: Tensor) -> Tensor:
        return 10 * torch.stack([third.flatten(1).mean(1) for third in x.chunk(3, dim=3)], dim=1)


def images() -> Tensor:
    return (torch.randn(3, 3, 8, 12, generator=torch.Generator().manual_seed(3)) * 0.3).clamp(-1, 1)


@pytest.mark.parametrize(("run", "method"), METHODS, ids=[f"{run.__name__}-{i}" for i, (run, _) in enumerate(METHODS)])
def test_each_image_moves_towards_its_own_target(run, method) -> None:
    x, target, prior = images(), torch.tensor([2, 0, 1]), gaussian_prior()
    guided = run(prior, Thirds(), x, target, method, ImageNoise.of(IDS, 0)).x_cf
    null = run(prior, Thirds(), x, target, method.model_copy(update={"scale": 0.0}), ImageNoise.of(IDS, 0)).x_cf
    gained = (Thirds()(guided).log_softmax(1) - Thirds()(null).log_softmax(1)).gather(1, target[:, None])
    assert (gained > 0.02).all()
    assert guided.shape == x.shape and guided.abs().max() <= 1 and guided.isfinite().all()


def tiny_unet() -> UNet2DModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return UNet2DModel(
            sample_size=None,
            out_channels=6,
            layers_per_block=1,
            block_out_channels=(8, 8),
            norm_num_groups=4,
            down_block_types=("DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        ).eval()


@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize(("run", "method"), METHODS[-5:], ids=[run.__name__ for run, _ in METHODS[-5:]])
def test_a_real_unet_frozen_or_not_is_left_as_it_is(run, method, frozen: bool) -> None:
    network = tiny_unet().requires_grad_(not frozen)
    prior = DDPM(network, Schedule(), channels=3, steps=50)
    with torch.no_grad():
        found = run(prior, Thirds(), images(), torch.tensor([2, 0, 1]), method, ImageNoise.of(IDS, 0))
    assert found.x_cf.isfinite().all()
    assert all(parameter.grad is None for parameter in network.parameters())


class Alive:
    """Bytes of module outputs alive at once, at most, seen whenever a module has run."""

    def __init__(self, network: nn.Module) -> None:
        self.most, self._outputs = 0, dict[StorageWeakRef, int]()
        for module in network.modules():
            module.register_forward_hook(self._ran)

    def _ran(self, module: nn.Module, args: object, output: object) -> None:
        if isinstance(output, Tensor):
            self._outputs[StorageWeakRef(output.untyped_storage())] = output.untyped_storage().nbytes()
        self._outputs = {kept: size for kept, size in self._outputs.items() if not kept.expired()}
        self.most = max(self.most, sum(self._outputs.values()))


def test_checkpointing_a_real_unet_gives_the_same_gradient_in_a_third_of_the_memory() -> None:
    u, target = (images() + 1) / 2, torch.tensor([2, 0, 1])
    drawn = [ImageNoise.of(IDS, i).like(u) for i in range(5)]
    gradients, memory = {}, {}
    for recompute in (False, True):
        network = tiny_unet().requires_grad_(False)
        alive = Alive(network)
        prior = DDPM(network, Schedule(), channels=3, steps=50)
        gradients[recompute], _ = filtered_gradient(prior, Thirds(), u, target, drawn, ACE(checkpoint=recompute))
        memory[recompute] = alive.most
    torch.testing.assert_close(gradients[True], gradients[False], atol=1e-5 * float(gradients[False].abs().max()), rtol=0)
    assert gradients[False].abs().max() > 0
    assert memory[True] <= memory[False] / 3
