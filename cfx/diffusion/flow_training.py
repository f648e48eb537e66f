"""Training a flow prior: straight paths from images to noise, learned by flow matching, begun from a trained DDPM prior.

A path is x_s = (1 - s) x0 + s eps, and the UNet learns its velocity v = eps - x0   (Lipman et al. 2023, arXiv:2210.02747; Liu et
al. 2023, arXiv:2209.03003). The folder is diffusers': a UNet2DModel, told 1000 s, and a FlowMatchEulerDiscreteScheduler.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, UNet2DModel
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import pixel_unshuffle, unfold
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from cfx.diffusion.ddpm import load_ddpm
from cfx.diffusion.flow import Flow
from cfx.diffusion.training import Batches
from cfx.errors import UserError
from cfx.random import derived_seed
from cfx.training.loop import cosine, descend, set_rate
from cfx.training.resume import Checkpoint
from cfx.types import Config

N = 1000  # what the UNet is told runs from 0 to this, as diffusers' flow models have it
SHIFT = 3.0  # so that tau of some steps is about as much noise as of a DDPM; of sampling alone, training sees all of the path
WARM_UP = 30  # optimizer steps over which the learning rate rises
TIME_STEPS = 300  # of teaching the new time embedding, which takes seconds
FITTED = 8  # batches that the last layers are fitted on before the first step
RIDGE = 1e-3  # of least squares, as a share of the mean square
ITSELF = 2.0  # how strongly a position's own values are added to the first layer, whose own weights are .04
LINEAR = 2.0  # what is added before the last SiLU, so that it passes on what it gets nearly as it is


class FlowTraining(Config):
    """Knobs of growing a flow prior from a DDPM; the defaults take about three minutes of one CPU core at 64 px."""

    steps: int = Field(700, ge=1, description="optimizer steps")
    batch: int = Field(16, ge=1, description="images an optimizer step")
    learning_rate: float = Field(1e-3, gt=0)
    ema: float = Field(0.99, ge=0, lt=1, description="decay of the moving average that is kept")
    checkpoint_every: int = Field(50, ge=1, description="optimizer steps between checkpoints")
    seed: int = 0


def flow_loss(network: nn.Module, x0: Tensor, s: Tensor, eps: Tensor) -> Tensor:
    """Squared error of the velocity, averaged over everything   (Lipman et al. 2023, eq. 9; Liu et al. 2023, eq. 1).

    x0, eps: (B, C, h, w); s: (B,) in [0, 1], the share of noise. The network maps x_s and 1000 s, (B,), to something shaped like
    x0, or with it as `.sample`.
    """
    share = s.view(-1, 1, 1, 1)
    out = network((1 - share) * x0 + share * eps, N * s)
    out = out if isinstance(out, Tensor) else out.sample
    return (eps - x0 - out).square().mean()


def noise_shares(n: int, chance: torch.Generator) -> Tensor:
    """How much noise is practised, (n,) in (0, 1): logit-normal, most in the middle of the path.

    (Esser et al. 2024, arXiv:2403.03206, section 3.1.)
    """
    return torch.randn(n, generator=chance).sigmoid()


def train_flow(
    batches: Batches,
    prior: Path,
    config: FlowTraining,
    folder: Path,
    report: Callable[[int, float], None] = lambda step, loss: None,
) -> Path:
    """Train a flow prior into `folder`, in half precision, and return it; called again after a kill, it goes on from its
    checkpoint.

    prior: a DDPM's folder, whose UNet it begins with. `report(step, loss)` is called after every optimizer step. Raises UserError
    for a flow, for a prior that predicts variances, too, and as `load_ddpm` and `Checkpoint.restore` do.
    """
    folder.mkdir(parents=True, exist_ok=True)
    network, patch = begun_from(prior)
    let_noise_through(
        network, [_drawn(batches(step), patch, config, step) for step in range(config.steps, config.steps + FITTED)]
    )
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(config.ema))
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.01, fused=True)
    checkpoint = Checkpoint(folder / "checkpoint.pt", config)
    first = checkpoint.restore(network=network, average=average, optimizer=optimizer)
    for step in range(first, config.steps):
        set_rate(optimizer, config.learning_rate * cosine(step, config.steps, WARM_UP))
        loss = descend(flow_loss(network, *_drawn(batches(step), patch, config, step)), optimizer, clipped=network)
        average.update_parameters(network)
        report(step + 1, loss)
        if (step + 1) % config.checkpoint_every == 0 or step + 1 == config.steps:
            checkpoint.keep(step + 1, network=network, average=average, optimizer=optimizer)
    save_flow(folder, average.module)
    checkpoint.path.unlink(missing_ok=True)
    return folder


def _drawn(x: Tensor, patch: int, config: FlowTraining, step: int) -> tuple[Tensor, Tensor, Tensor]:
    """x0 (B, C, h, w), folded; its shares of noise (B,); the noise, shaped like x0. The same step always draws the same."""
    chance = torch.Generator().manual_seed(derived_seed("flow", config.seed, step))
    x0 = pixel_unshuffle(x, patch)
    return x0, noise_shares(len(x0), chance), torch.randn(x0.shape, generator=chance)


@torch.no_grad()
def let_noise_through(network: UNet2DModel, drawn: Sequence[tuple[Tensor, Tensor, Tensor]]) -> None:
    """Add each position itself to what the first convolution says of its surroundings, then fit the last block's shortcut and the
    last convolution to the velocity, by least squares.

    drawn: x0, s and eps of `flow_loss`, batch by batch. A UNet that predicts images has learned to drop noise, which a velocity
    is made of. Without this beginning much of the training goes into letting it through again, and a grain is left.
    """
    first, block, norm, last = network.conv_in, network.up_blocks[-1].resnets[-1], network.conv_norm_out, network.conv_out
    middle, itself = first.kernel_size[0] // 2, torch.empty(first.out_channels, first.in_channels)
    nn.init.orthogonal_(itself, ITSELF, torch.Generator().manual_seed(0))
    first.weight[:, :, middle, middle] += itself
    carried = min(last.out_channels, norm.num_channels)
    way = _least_squares(network, block, drawn, side=1)[:-1, :carried]
    block.conv_shortcut.weight[-carried:] = way.T[:, :, None, None]
    for old in (block.conv_shortcut.bias, block.conv2.weight, block.conv2.bias):
        old[-carried:] = 0
    norm.weight[-carried:], norm.bias[-carried:] = 1, LINEAR
    side = last.kernel_size[0]
    found = _least_squares(network, last, drawn, side)
    last.weight.copy_(found[:-1].T.view_as(last.weight))
    last.bias.copy_(found[-1])


def _least_squares(network: nn.Module, layer: nn.Module, drawn: Sequence[tuple[Tensor, Tensor, Tensor]], side: int) -> Tensor:
    """The convolution, side x side, from what the layer is given to the velocity: (channels side^2 + 1, C), the bias last."""
    given: list[Tensor] = []
    watched = layer.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    for x0, s, eps in drawn:
        share = s.view(-1, 1, 1, 1)
        network((1 - share) * x0 + share * eps, N * s)
    watched.remove()
    seen = torch.cat([unfold(one, side, padding=side // 2).mT.flatten(0, 1) for one in given]).double()
    velocity = torch.cat([(eps - x0).flatten(2).mT.flatten(0, 1) for x0, _, eps in drawn]).double()
    seen = torch.cat([seen, torch.ones_like(seen[:, :1])], 1)
    ridge = RIDGE * seen.square().sum() / seen.shape[1] * torch.eye(seen.shape[1], dtype=torch.float64)
    return torch.linalg.solve(seen.T @ seen + ridge, seen.T @ velocity).float()


def save_flow(folder: Path, network: nn.Module) -> None:
    """Write the UNet, in half precision, and the schedule of straight paths, as diffusers reads them."""
    assert isinstance(network, UNet2DModel)
    network.half().save_pretrained(folder / "unet")
    FlowMatchEulerDiscreteScheduler(num_train_timesteps=N, shift=SHIFT).save_pretrained(folder / "scheduler")


def begun_from(prior: Path) -> tuple[UNet2DModel, int]:
    """The prior's UNet with a time embedding that says of 1000 s what the prior's said of its own step with as much noise, and
    the pixels that it folds into one position.

    Raises UserError for a flow, for a prior that predicts variances, too, and as `load_ddpm` does.
    """
    ddpm = load_ddpm(prior)
    network = ddpm.network
    assert isinstance(network, UNet2DModel)
    if isinstance(ddpm.schedule, Flow):
        raise UserError(f"{prior} is a flow already; begin from a prior such as `cfx train prior` makes")
    if network.config["out_channels"] != network.config["in_channels"]:
        raise UserError(f"{prior} predicts variances, too, which a flow has not; begin from one that predicts the image alone")
    network = copy.deepcopy(network).requires_grad_(True).train()
    s = torch.linspace(0, 1, N + 1, dtype=torch.float64)
    with torch.no_grad():
        said = network.time_embedding(network.time_proj(step_of_share(s, ddpm.alphas_cumprod)))
    told = network.time_proj(N * s.float())
    optimizer = torch.optim.Adam(network.time_embedding.parameters())
    for step in range(TIME_STEPS):
        set_rate(optimizer, 3e-3 * cosine(step, TIME_STEPS, 10))
        descend((network.time_embedding(told) - said).square().mean(), optimizer)
    return network.to(memory_format=torch.channels_last), ddpm.patch


def step_of_share(s: Tensor, alphas_cumprod: Tensor) -> Tensor:
    """The step of a DDPM, between whole ones, too, at which the share of noise is that of a straight path at s.

    There sqrt(abar / (1 - abar)) = (1 - s) / s. s: (K,) float64, rising; alphas_cumprod: (N,) float64. Returns (K,) float32,
    within 0 .. N - 1.
    """
    share = (1 - alphas_cumprod).sqrt() / (alphas_cumprod.sqrt() + (1 - alphas_cumprod).sqrt())  # s of every whole step, rising
    after = torch.searchsorted(share, s).clamp(1, len(share) - 1)
    between = ((s - share[after - 1]) / (share[after] - share[after - 1])).clamp(0, 1)
    return (after - 1 + between).float()
