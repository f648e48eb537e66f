"""ACE (Jeanneret et al. 2023, arXiv:2303.09962): an adversarial attack through a denoiser, then a refinement where it changed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from cfx.diffusion.schedule import check_depth
from cfx.guidance import ClassLoss, Side, changed_region, class_loss
from cfx.own_size import of_rows
from cfx.random import ImageNoise
from cfx.types import Classifier, Config, Counterfactual, Denoiser

WIDEST = 3.0  # C&W: the tanh variable stays within +-3, where its gradient has not vanished


class ACE(Config):
    """ACE's knobs; defaults are those of the released CelebA l1 command, but for what happens when refinement loses the flip.

    There the released code does nothing (refinements 1, fallback off). By default the images that lost it are refined twice more
    with fresh noise; what is still lost is the pre-explanation inside the mask, the input outside.
    """

    method: Literal["ace"] = "ace"
    steps: int = Field(50, ge=1, description="respaced steps of the prior")
    tau: int = Field(5, ge=1, description="noise depth of the filter, in respaced steps; at most `steps`")
    scale: float = Field(1.0, ge=0, description="weight of the class loss; 0 is the null run, which leaves the image as it is")
    loss: ClassLoss = Field("log_prob", description="log_prob (released code), logit, margin; C&W has its own")
    attack: Literal["pgd", "gd", "cw"] = Field("pgd", description="sign steps, gradient steps, or Carlini & Wagner")
    iterations: int = Field(50, ge=1, description="steps of the attack")
    step_size: float = Field(1 / 255, gt=0, description="length of a step, on [0, 1]")
    epsilon: float = Field(1.0, ge=0, le=1, description="largest change of a pixel, on [0, 1]")
    distance: Literal["l1", "l2"] = Field("l1", description="sum |x - u|, or the norm of x - u, an image, on [0, 1]")
    distance_weight: float = Field(0.001, ge=0, description="0.001 for l1, 0.1 for l2 in the released commands")
    distance_schedule: Literal["constant", "step", "linear"] = Field(
        "constant", description="weight of the distance over the attack: always, from half on, growing"
    )
    stop_after: int | None = Field(
        None, ge=1, description="stop an image whose filtered image was the target this often in a row; none: never"
    )
    threshold: float = Field(
        0.15, ge=0, le=1, description="share of the largest change under which the input is kept; 0: no mask"
    )
    dilation: Side = Field(15, description="side of the square that grows the mask, pixels, odd")
    refinements: int = Field(
        3, ge=1, description="refinements, each of the images whose flip the one before lost; 1: as released"
    )
    fallback: bool = Field(True, description="where every refinement loses the flip, return the masked pre-explanation")
    checkpoint: bool = Field(
        False, description="recompute UNet calls in the backward pass: 1/tau of the memory, tau more forwards"
    )
    as_released: bool = Field(
        False,
        description="the class loss is a mean over `batch` images beside a sum of distances, which therefore weigh `batch` times "
        "as much; its schedules count iterations from 1",
    )
    batch: int = Field(3, ge=1, description="images a batch of the released command, for as_released: 3 for CelebA, 1 elsewhere")

    @model_validator(mode="after")
    def _can_work(self) -> ACE:
        check_depth(self.tau, self.steps)
        return self


@torch.no_grad()
def ace(denoiser: Denoiser, classifier: Classifier, x: Tensor, target: Tensor, config: ACE, noise: ImageNoise) -> Counterfactual:
    """The pre-explanation, kept where it changed the image and refined there.

    x: (B, 3, H, W) in [-1, 1]; target: (B,) class ids. iterations tau + tau UNet evaluations an image and iterations tau backward
    (checkpointing evaluates iterations tau more); each further refinement costs tau for the images that need it.
    """
    pre_explanation = attack(denoiser, classifier, x, target, config, noise)
    mask = changed_region(x, pre_explanation, config.threshold, config.dilation)
    x_cf = mask * pre_explanation + (1 - mask) * x
    fallen_back = x_cf.clone()
    lost = torch.arange(len(x), device=x.device)
    for _ in range(config.refinements):
        drawn = [noise.like(x) for _ in range(2 * config.tau)]  # for all images, so that none depends on who else lost
        refined = refine(
            of_rows(denoiser, lost), x[lost], pre_explanation[lost], mask[lost], config.tau, [one[lost] for one in drawn]
        )
        x_cf[lost] = refined.clamp(-1, 1)
        lost = lost[of_rows(classifier, lost)(x_cf[lost]).argmax(1) != target[lost]]
        if not len(lost):
            break
    if config.fallback:
        x_cf[lost] = fallen_back[lost]
    return Counterfactual(x_cf, mask)


def attack(denoiser: Denoiser, classifier: Classifier, x: Tensor, target: Tensor, config: ACE, noise: ImageNoise) -> Tensor:
    """The pre-explanation: x moved until its filtered image is the target. Not filtered itself, as in the released code.

    x: (B, 3, H, W) in [-1, 1], so is the result. Works on [0, 1], whose units epsilon, step size and distance have.
    """
    start = (x + 1) / 2
    start_w = x.clamp(-1, 1).atanh().clamp(-WIDEST, WIDEST)  # Carlini & Wagner's variable; its change is added to x
    u, w = start, start_w
    in_a_row = torch.zeros(len(x), dtype=torch.long, device=x.device)
    moving = torch.ones_like(in_a_row, dtype=torch.bool)
    for iteration in range(config.iterations):
        drawn = [noise.like(x) for _ in range(config.tau)]  # for stopped images too: what follows must not depend on the batch
        gradient = distance_gradient(start, u, config.distance) * distance_weight(config, iteration)
        if config.scale and moving.any():
            each = [one[moving] for one in drawn]
            towards_target, flipped = filtered_gradient(
                of_rows(denoiser, moving), of_rows(classifier, moving), u[moving], target[moving], each, config
            )
            gradient[moving] += config.scale * towards_target
            in_a_row[moving] = torch.where(flipped, in_a_row[moving] + 1, 0)
        if config.stop_after is not None:
            moving = moving & (in_a_row < config.stop_after)
        if config.attack == "pgd":
            moved = u - config.step_size * gradient.sign()
        elif config.attack == "gd":
            moved = u - config.step_size * gradient
        else:
            by_w = gradient * (1 - w.tanh().square()) / 2
            w = (w - config.step_size * by_w).clamp(-WIDEST, WIDEST)
            moved = start + (w.tanh() - start_w.tanh()) / 2
        moved = torch.minimum(torch.maximum(moved, start - config.epsilon), start + config.epsilon).clamp(0, 1)
        u = torch.where(moving.view(-1, 1, 1, 1), moved, u)
    return torch.where(u == start, x, 2 * u - 1)  # a pixel that never moved comes back exactly


def filtered_gradient(
    denoiser: Denoiser, classifier: Classifier, u: Tensor, target: Tensor, drawn: Sequence[Tensor], config: ACE
) -> tuple[Tensor, Tensor]:
    """Gradient of the filtered image's class loss with respect to u, back through every UNet call; and (B,) flipped or not.

    u: (B, 3, H, W) in [0, 1]; drawn: the filter's noise, one tensor like u a step. Losses are summed over the batch.
    """
    with torch.enable_grad():
        u = u.detach().requires_grad_()
        logits = classifier(filtered(denoiser, 2 * u - 1, drawn, config.checkpoint)).float()
        if config.attack == "cw":
            margin = class_loss(logits, target, "margin")
            loss = (2 * margin if logits.shape[1] == 2 else margin).relu()  # 2 for two classes, as in the released code
        else:
            loss = class_loss(logits, target, config.loss)
        (gradient,) = torch.autograd.grad(loss.sum(), u)
    return gradient, logits.detach().argmax(1) == target


def filtered(denoiser: Denoiser, x: Tensor, drawn: Sequence[Tensor], recompute: bool = False) -> Tensor:
    """F_tau(x): x noised to step tau - 1 and denoised, tau = len(drawn); differentiable. No noise is drawn inside.

    With `recompute` only z is kept of each UNet call, and everything else is computed again for the backward pass.
    """

    def reverse_step(z: Tensor, t: int, n: Tensor | None) -> Tensor:
        mean, std, _, _ = denoiser.step(z, t)
        return mean if n is None else mean + std * n

    tau = len(drawn)
    level = float(denoiser.alphas_cumprod[tau - 1])
    z = math.sqrt(level) * x + math.sqrt(1 - level) * drawn[0]
    for t in reversed(range(tau)):
        n = drawn[tau - t] if t else None  # the last step is its mean
        if recompute:
            z = checkpoint(reverse_step, z, t, n, use_reentrant=False, preserve_rng_state=False)
        else:
            z = reverse_step(z, t, n)
    return z


def refine(denoiser: Denoiser, x: Tensor, pre_explanation: Tensor, mask: Tensor, tau: int, drawn: Sequence[Tensor]) -> Tensor:
    """The pre-explanation inpainted: denoised inside the mask (B, 1, H, W), around it the noised input, at the end the input.

    Images in [-1, 1]; drawn: 2 tau noise tensors like x.
    """
    ahead = iter(drawn)

    def noised(image: Tensor, t: int) -> Tensor:
        level = float(denoiser.alphas_cumprod[t])
        return math.sqrt(level) * image + math.sqrt(1 - level) * next(ahead)

    z = noised(pre_explanation, tau - 1)
    for t in reversed(range(tau)):
        z = mask * z + (1 - mask) * noised(x, t)
        mean, std, _, _ = denoiser.step(z, t)
        z = mean + std * next(ahead) if t else mean
    return mask * z + (1 - mask) * x


def distance_gradient(x: Tensor, u: Tensor, distance: Literal["l1", "l2"]) -> Tensor:
    """Gradient with respect to u of sum |x - u|, or of the norm of x - u, an image; zero where u is x.

    Examples:
        >>> distance_gradient(torch.tensor([[0.2, 0.5]]), torch.tensor([[0.7, 0.1]]), "l1").tolist()
        [[1.0, -1.0]]
    """
    if distance == "l1":
        return (u - x).sign()
    norm = (u - x).flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    return (u - x) / norm.clamp(min=torch.finfo(x.dtype).tiny)


def distance_weight(config: ACE, iteration: int) -> float:
    """The weight of an image's distance beside its class loss, at one iteration of the attack, from 0.

    Examples:
        The released CelebA command lists .001 and runs with batches of three:

        >>> distance_weight(ACE(), 0), distance_weight(ACE(as_released=True), 0)
        (0.001, 0.003)
    """
    progress = (iteration + config.as_released) / config.iterations
    share = {"constant": 1.0, "step": float(progress >= 0.5), "linear": progress}[config.distance_schedule]
    return config.distance_weight * share * (config.batch if config.as_released else 1)
