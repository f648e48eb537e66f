"""Progressive distillation of a prior: a student whose one step is two of its teacher's   (Salimans & Ho 2022, arXiv:2202.00512).

Why not consistency distillation (Song et al. 2023, arXiv:2303.01469), which maps a noisy image to the end of its path at once?
Methods guide between steps, so they need a step to the next level of noise, whose clean estimate and noise agree with it.
Progressive distillation gives just that, by plain regression on known targets. A consistency model knows the jump to the end
alone, after which new noise must be drawn, and is taught by its own moving average, which takes more images than a few minutes
of a CPU see.
"""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import UNet2DModel
from pydantic import Field
from torch import Tensor, nn

from cfx.diffusion.ddpm import DDPM, Schedule, load_ddpm, save_ddpm
from cfx.diffusion.flow import Flow
from cfx.diffusion.pretrained import prior_files
from cfx.diffusion.training import Batches
from cfx.errors import UserError
from cfx.random import derived_seed
from cfx.training.loop import set_rate
from cfx.training.resume import Checkpoint
from cfx.types import Config

WARM_UP = 15  # optimizer steps over which the learning rate rises: else Adam's first steps undo what the teacher knew
AT_THE_END = 8  # one image in so many practises the last step, where the teacher's own answer is the target


class Distillation(Config):
    """Knobs of `cfx train prior --distil`; the defaults take a few minutes of one CPU core at 64 px."""

    steps: int = Field(7, ge=2, description="respaced steps that the student is made for: what a ladder then says as `steps`")
    halvings: int = Field(
        2, ge=1, le=10, description="how often steps are halved; the teacher begins with (steps - 1) 2^halvings + 1, here 25"
    )
    deepest: float = Field(
        0.5,
        gt=0,
        le=1,
        description="share of the teacher's training steps that the student learns; no counterfactual starts deeper",
    )
    updates: int = Field(200, ge=1, description="optimizer steps a halving")
    batch: int = Field(32, ge=1, description="images an optimizer step")
    learning_rate: float = Field(2e-4, gt=0, description="of a halving; rises for 15 steps, then falls to 0 in a straight line")
    max_weight: float = Field(20.0, gt=1, description="cap on the weight SNR + 1 of a clean estimate's error")
    checkpoint_every: int = Field(50, ge=1, description="optimizer steps between checkpoints")
    seed: int = 0

    def grid(self, halving: int) -> int:
        """Steps of the student of one halving, from 0; of halving -1: of the teacher."""
        return (self.steps - 1) * 2 ** (self.halvings - 1 - halving) + 1


class Of(Config):
    """What a checkpoint belongs to."""

    distillation: Distillation
    teacher: str  # SHA-256 of its weights


def ddim_step(denoiser: DDPM, z: Tensor, t: int, to: int) -> Tensor:
    """z (B, C, H, W) at respaced index t taken to index `to`, without noise; to -1: the clean estimate.

    (Song et al. 2021, arXiv:2010.02502, eq. 12 with sigma 0.)
    """
    x0 = denoiser.step(z, t).x0
    if to < 0:
        return x0
    (signal, sigma), (next_signal, next_sigma) = levels(denoiser, t), levels(denoiser, to)
    return next_signal * x0 + next_sigma * (z - signal * x0) / sigma


def levels(denoiser: DDPM, t: int) -> tuple[float, float]:
    """sqrt(abar) and sqrt(1 - abar) at respaced index t."""
    level = float(denoiser.alphas_cumprod[t])
    return math.sqrt(level), math.sqrt(1 - level)


@torch.no_grad()
def two_steps(teacher: DDPM, z: Tensor, t: int) -> Tensor:
    """The clean estimate by which one step from the teacher's index t to t - 2 ends where two of its own do; shaped like z.

    (Salimans & Ho 2022, algorithm 2.) z: (B, C, H, W); t: even. At 0 there is one step left, whose clean estimate it is.
    """
    if t == 0:
        return ddim_step(teacher, z, 0, -1)
    after = ddim_step(teacher, ddim_step(teacher, z, t, t - 1), t - 1, t - 2)
    (signal, sigma), (next_signal, next_sigma) = levels(teacher, t), levels(teacher, t - 2)
    return (after - next_sigma / sigma * z) / (next_signal - next_sigma / sigma * signal)


def distillation_loss(student: DDPM, teacher: DDPM, x: Tensor, t: int, noise: Tensor, max_weight: float) -> Tensor:
    """Squared error of the student's clean estimate at its index t, the teacher's 2 t; weighted as in `denoising_loss`.

    x, noise: (B, 3, H, W). Variances, where they are predicted, are to stay the teacher's: they are shares of a range.
    """
    signal, sigma = levels(student, t)
    z = signal * x + sigma * noise
    out = student.answer(z, t)
    error = (two_steps(teacher, z, 2 * t) - student.step_of(out, z, t).x0).square().mean()
    loss = min(1 / sigma**2, max_weight) * error
    if out.shape[1] != z.shape[1]:
        with torch.no_grad():
            said = teacher.answer(z, 2 * t).chunk(2, dim=1)[1]
        loss = loss + (out.chunk(2, dim=1)[1] - said).square().mean()
    return loss


def practised(step: int, batch: int, count: int) -> list[int]:
    """Which of the student's `count` levels each image of a batch is noised to: the last now and then, the others in turn.

    Examples:
        >>> practised(step=0, batch=9, count=3)
        [0, 2, 1, 2, 1, 2, 1, 2, 0]
    """
    return [1 + (i + step) % (count - 1) if count > 1 and (i + step) % AT_THE_END else 0 for i in range(batch)]


def distil(
    batches: Batches,
    teacher: Path,
    config: Distillation,
    folder: Path,
    report: Callable[[int, float], None] = lambda step, loss: None,
    device: str = "cpu",
) -> Path:
    """Distil the teacher's folder into `folder` and return it; called again after a kill, it goes on from the last checkpoint.

    Halving by halving, each student begins with its teacher's weights and is the teacher of the next. What is written is a
    prior's folder like any other, in half precision, but for two fields of its schedule: `distilled_steps`, the only number of
    steps it walks in, and `trained_timesteps`. Raises UserError for a teacher and settings that do not fit each other, for
    `folder` being the teacher's own or holding a checkpoint of other settings or another teacher, and as `load_ddpm` does.
    """
    taught = load_ddpm(teacher)
    schedule, trained = practised_on(taught.schedule, config, teacher)
    if folder.resolve() == teacher.resolve():
        raise UserError(f"{folder} is the teacher's own folder; write the student to another")
    folder.mkdir(parents=True, exist_ok=True)
    old = taught.network.to(device)
    new = copy.deepcopy(old).requires_grad_(True)
    optimizer = torch.optim.Adam(new.parameters(), lr=config.learning_rate)
    checkpoint = Checkpoint(folder / "checkpoint.pt", Of(distillation=config, teacher=_fingerprint(teacher)))
    first = checkpoint.restore(device, student=new, teacher=old, optimizer=optimizer)
    for step in range(first, config.halvings * config.updates):
        halving, update = divmod(step, config.updates)
        if update == 0 and halving > 0:
            old.load_state_dict(new.state_dict())
            optimizer = torch.optim.Adam(new.parameters(), lr=config.learning_rate)
        set_rate(optimizer, config.learning_rate * min(1, (update + 1) / WARM_UP) * (1 - update / config.updates))
        before = DDPM(old, schedule, taught.channels, config.grid(halving - 1))
        after = DDPM(new, schedule, taught.channels, config.grid(halving), clip=False)
        count = sum(timestep < trained for timestep in after.timesteps)
        x, at = batches(step), torch.tensor(practised(step, config.batch, count))
        noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(derived_seed("distil", config.seed, step)))
        optimizer.zero_grad(set_to_none=True)
        mean_loss = 0.0
        for t in range(count):
            part = (at == t).nonzero()[:, 0]
            if len(part):
                seen = (x[part].to(device), t, noise[part].to(device))
                loss = distillation_loss(after, before, *seen, config.max_weight) * (len(part) / len(x))
                loss.backward()
                mean_loss += loss.item()
        nn.utils.clip_grad_norm_(new.parameters(), 1.0)
        optimizer.step()
        report(step + 1, mean_loss)
        if (step + 1) % config.checkpoint_every == 0 or step + 1 == config.halvings * config.updates:
            checkpoint.keep(step + 1, student=new, teacher=old, optimizer=optimizer)
    assert isinstance(new, UNet2DModel)
    save_ddpm(folder, new.half(), schedule.model_copy(update={"distilled_steps": config.steps, "trained_timesteps": trained}))
    checkpoint.path.unlink(missing_ok=True)
    return folder


def practised_on(schedule: Schedule | Flow, config: Distillation, source: Path) -> tuple[Schedule, int]:
    """The teacher's schedule, in which any steps may be walked, and how many of its training steps the student learns.

    Raises UserError for a teacher that does not fit.
    """
    if isinstance(schedule, Flow) or schedule.timestep_spacing is not None:
        kind = "a flow" if isinstance(schedule, Flow) else "a model of few steps already"
        raise UserError(f"{source} is {kind}; distil a prior such as `cfx train prior` makes")
    known, begins = schedule.num_train_timesteps, config.grid(-1)
    if begins > known:
        raise UserError(
            f"steps {config.steps} halved {config.halvings} times begin at {begins}, but {source} has {known} steps; lower "
            "`halvings`"
        )
    if schedule.distilled_steps not in (None, begins):
        raise UserError(
            f"{source} was distilled to {schedule.distilled_steps} steps, but steps {config.steps} halved {config.halvings} "
            f"times begin at {begins}; choose both so that (steps - 1) 2^halvings + 1 is {schedule.distilled_steps}, or distil "
            "its teacher"
        )
    trained = min(int(config.deepest * known), schedule.trained_timesteps or known)
    second = (known - 1) / (config.steps - 1)
    if trained <= second:
        raise UserError(
            f"deepest {config.deepest:g}: the student would learn the first {trained} of {known} steps, and its second step lies "
            f"at {second:.0f}; raise `deepest`, or `steps`"
        )
    return schedule.model_copy(update={"distilled_steps": None}), trained


def _fingerprint(teacher: Path) -> str:
    return hashlib.sha256(prior_files(teacher).weights.read_bytes()).hexdigest()
