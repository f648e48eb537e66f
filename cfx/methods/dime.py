"""DiME (Jeanneret et al. 2022, arXiv:2203.15636) and FastDiME (Weng et al. 2024, arXiv:2312.14223)."""

from __future__ import annotations

import math
from functools import partial
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from cfx.diffusion.inversion import Start, started
from cfx.diffusion.schedule import check_depth, q_sample
from cfx.errors import UserError
from cfx.guidance import ClassLoss, Consensus, Implicit, Side, agreed, changed_region, class_gradient, implicit_gradient, in_range
from cfx.paths import FileName
from cfx.perceptual import check_vgg19, perceptual_pull
from cfx.random import ImageNoise
from cfx.types import Classifier, Config, Counterfactual, Denoiser


class DiME(Config):
    """DiME's knobs; defaults are those of the released CelebA command, but for the perceptual term (30 there).

    The ablations of the paper and the thesis: Direct is guide "noisy", Naive guide "input", Early Stopping `early_stopping` or
    `guided_steps`, Unconditional guide "input" with scale = l1 = perceptual = 0, masked DiME `region`.
    """

    method: Literal["dime"] = "dime"
    steps: int = Field(200, ge=1, description="respaced steps of the prior")
    tau: int = Field(60, ge=1, description="noise depth, in respaced steps; at most `steps` (below it with exact_start off)")
    scale: float = Field(8.0, ge=0, description="weight of the class gradient; 0 is the null run")
    l1: float = Field(0.05, ge=0, description="pull of the noisy image towards the input")
    perceptual: float = Field(0.0, ge=0, description="pull towards the input's VGG19 features; 30 in the released command")
    vgg19: FileName | None = Field(None, description="file of torchvision's VGG19 weights, for the perceptual term")
    loss: ClassLoss = Field("logit", description="logit (released code), log_prob (paper), margin")
    exact_start: bool = Field(
        True, description="noise to step tau - 1, where denoising starts; off: to tau, as the released code"
    )
    start: Start = "noise"
    guide: Literal["denoised", "noisy", "input"] = Field("denoised", description="which image the class gradient is evaluated at")
    early_stopping: bool = Field(False, description="an image is done when its denoised image is predicted as the target")
    guided_steps: int | None = Field(None, ge=1, description="guide this many steps, then denoise freely; none: to the end")
    region: tuple[float, float, float, float] | None = Field(
        None, description="top, bottom, left, right of what may change, as fractions of the image"
    )

    @model_validator(mode="after")
    def _can_work(self) -> DiME:
        check_depth(self.tau, self.steps, unnoised=0 if self.exact_start else 1)
        if self.guide != "denoised" and (self.early_stopping or self.guided_steps):
            raise UserError(f"stopping early returns the denoised image, which guide {self.guide!r} never makes; use 'denoised'")
        if self.region and not (0 <= self.region[0] < self.region[1] <= 1 and 0 <= self.region[2] < self.region[3] <= 1):
            raise UserError(f"region {self.region} is no rectangle; give top < bottom and left < right, between 0 and 1")
        check_vgg19(self.perceptual, self.vgg19)
        return self


class FastDiME(Config):
    """FastDiME's knobs; scale, tau and mask follow the released CelebA command, but for the perceptual term (30 there).

    FastDiME-2 is passes "2": a run without a mask finds it, a second run keeps to it. FastDiME-2+ is passes "2+": the first run
    is masked too.
    """

    method: Literal["fastdime"] = "fastdime"
    steps: int = Field(200, ge=1, description="respaced steps of the prior")
    tau: int = Field(60, ge=1, description="noise depth, in respaced steps; at most `steps`")
    scale: float = Field(8.0, ge=0, description="weight of the class gradient; 0 is the null run")
    l1: float = Field(0.05, ge=0, description="pull of the noisy image towards the input")
    perceptual: float = Field(0.0, ge=0, description="pull towards the input's VGG19 features; 30 in the released command")
    vgg19: FileName | None = Field(None, description="file of torchvision's VGG19 weights, for the perceptual term")
    loss: ClassLoss = Field("logit", description="logit (released code), log_prob (paper), margin")
    threshold: float = Field(0.15, ge=0, le=1, description="share of the largest difference under which the input is kept")
    dilation: Side = Field(5, description="side of the square that grows the mask, pixels, odd")
    warm_up: float = Field(0.5, ge=0, le=1, description="share of the steps before the mask is applied; 1 for no mask")
    start: Start = "noise"
    consensus: Consensus = None
    passes: Literal["1", "2", "2+"] = Field("1", description="runs: one; two, the second with the first's mask; 2+: both masked")
    as_released: bool = Field(
        False,
        description="noise to tau, one step further than where denoising starts, and the input outside the mask to t; a second "
        "run starts from the first one's noise",
    )

    @model_validator(mode="after")
    def _can_work(self) -> FastDiME:
        check_depth(self.tau, self.steps, unnoised=1 if self.as_released else 0)
        check_vgg19(self.perceptual, self.vgg19)
        return self


def denoise(denoiser: Denoiser, z: Tensor, t: int, noise: ImageNoise) -> Tensor:
    """A complete unguided reverse chain from z (B, C, H, W) at step t to a clean image, shaped like z: its last state, not its
    clean estimate."""
    for i in reversed(range(t + 1)):
        mean, std, _, _ = denoiser.step(z, i)
        z = mean + std * noise.like(z) if i else mean
    return z


def rectangle(x: Tensor, region: tuple[float, float, float, float] | None) -> Tensor:
    """(B, 1, H, W), 1 inside top, bottom, left, right (fractions of the image); 1 everywhere without a region."""
    if region is None:
        return torch.ones_like(x[:, :1])
    mask, (height, width) = torch.zeros_like(x[:, :1]), x.shape[-2:]
    top, bottom, left, right = region
    mask[..., round(top * height) : round(bottom * height), round(left * width) : round(right * width)] = 1
    return mask


@torch.no_grad()
def dime(
    denoiser: Denoiser,
    classifier: Classifier,
    x: Tensor,
    target: Tensor,
    config: DiME,
    noise: ImageNoise,
    perceptual: nn.Module | None = None,
) -> Counterfactual:
    """Guided denoising towards `target`; the classifier sees an unguided denoising of each noisy state.

    x: (B, 3, H, W) in [-1, 1]; target: (B,) class ids. tau (tau + 1) / 2 UNet evaluations an image, tau if `guide` is not the
    denoised image or nothing looks at it. A region keeps what lies outside it as the thesis does in its eq. 3.21: the
    classifier sees the input there, and z is the noised input.

    Over latents (`cfx.latent_space`) the class gradient is that of the decoded denoising, back through the decoder, and l1 pulls
    the noised latent towards the input's.

    Examples:
        >>> DiME().tau * (DiME().tau + 1) // 2  # UNet evaluations an image, with the released settings
        1830
    """
    pull = perceptual_pull(perceptual, x, config.perceptual)
    z, x_t = started(denoiser, x, config.tau - config.exact_start, noise, config.start), x
    mask = rectangle(x, config.region)
    unseen = config.guide == "denoised" and not (
        config.scale or config.perceptual or config.early_stopping or config.guided_steps
    )
    x_cf, done = x, torch.zeros(len(x), 1, 1, 1, dtype=torch.bool, device=x.device)
    for t in reversed(range(config.tau)):
        mean, std, _, _ = denoiser.step(z, t)
        seen = {"denoised": x_t, "noisy": z, "input": x}[config.guide]
        level = 1.0 if config.guide == "noisy" else math.sqrt(denoiser.alphas_cumprod[t])  # at z itself there is no chain rule
        towards_target = config.scale * class_gradient(classifier, seen, target, config.loss) / level if config.scale else 0
        away_from_x = config.l1 * (z - x).sign()  # gradient of |z - x|_1; of the noisy z and not scaled, as in the released code
        z = mean - std.square() * (towards_target + pull(seen) / level + away_from_x)
        if t:
            z = z + std * noise.like(z)
        if config.region:
            z = mask * z + (1 - mask) * (q_sample(denoiser, x, t - 1, noise) if t else x)
        if unseen:
            for _ in range(t - 1):
                noise.like(z)  # what the inner chain would have drawn, so that the null run goes on with the same noise
        elif t and config.guide == "denoised":
            x_t = denoise(denoiser, z, t - 1, noise)
            x_t = mask * x_t + (1 - mask) * x
        if t and config.tau - t == config.guided_steps:
            z = x_t  # the free denoising of z, sampled already
            break
        if t and config.early_stopping:
            flipped = (classifier(x_t).argmax(1) == target).view(-1, 1, 1, 1)
            x_cf, done = torch.where(flipped & ~done, x_t, x_cf), done | flipped
            if done.all():
                break
    return Counterfactual(in_range(denoiser, torch.where(done, x_cf, z)), mask if config.region else None)


@torch.no_grad()
def fastdime(
    denoiser: Denoiser,
    classifier: Classifier,
    x: Tensor,
    target: Tensor,
    config: FastDiME,
    noise: ImageNoise,
    perceptual: nn.Module | None = None,
    mask: Tensor | None = None,
    implicit: Implicit | None = None,
) -> Counterfactual:
    """DiME with the one-step clean estimate in place of the inner chain, and a mask that keeps what need not change.

    x: (B, 3, H, W) in [-1, 1]; target: (B,) class ids; mask: (B, 1, H, W), where the image may change, if that is known
    beforehand: then one pass. tau UNet evaluations an image, 2 tau in two passes; tau more where `start` inverts, or `consensus`
    asks the generator.

    Over latents (`cfx.latent_space`) the mask is where the clean latent departs from the input's, summed over its channels.

    Examples:
        >>> FastDiME(tau=300)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        pydantic_core._pydantic_core.ValidationError: 1 validation error for FastDiME
          Value error, tau is 300, but the prior is respaced to 200 steps; lower tau or raise steps ...
    """
    start = partial(started, denoiser, x, config.tau - 1 + config.as_released, noise, config.start)
    run = partial(_fast_pass, denoiser, classifier, x, target, noise=noise, perceptual=perceptual, implicit=implicit)
    z = start()
    if config.passes == "1" or mask is not None:
        return run(config, z, fixed=mask)
    first = config.model_copy(update={"warm_up": 1.0}) if config.passes == "2" else config
    mask = changed_region(x, run(first, z).x_cf, config.threshold, config.dilation)
    return run(config, z if config.as_released else start(), fixed=mask)


def _fast_pass(
    denoiser: Denoiser,
    classifier: Classifier,
    x: Tensor,
    target: Tensor,
    config: FastDiME,
    z: Tensor,
    noise: ImageNoise,
    perceptual: nn.Module | None,
    implicit: Implicit | None = None,
    fixed: Tensor | None = None,
) -> Counterfactual:
    """One guided denoising of x noised, z. A fixed mask (B, 1, H, W) holds from the first step; without one it is found after the
    warm-up.

    Class and perceptual gradients are not divided by sqrt(abar), as in the released code; outside the mask the input is noised to
    t - 1, the level z is at (`as_released` noises it to t), and is the input itself at the end.
    """
    pull = perceptual_pull(perceptual, x, config.perceptual)
    x_t, mask = x, fixed
    for t in reversed(range(config.tau)):
        mean, std, x0, eps = denoiser.step(z, t)
        towards_target = config.scale * class_gradient(classifier, x_t, target, config.loss) if config.scale else 0
        if config.consensus is not None and isinstance(towards_target, Tensor):
            towards_target = agreed(towards_target, implicit_gradient(implicit, z, t, target, eps), config.consensus)
        z = mean - std.square() * (towards_target + pull(x_t) + config.l1 * (z - x).sign())
        if t:
            z = z + std * noise.like(z)
        x_t = x0
        if fixed is None and config.tau - t > config.warm_up * config.tau:
            mask = changed_region(x, x_t, config.threshold, config.dilation)
        if mask is not None:
            background = q_sample(denoiser, x, t - 1 + config.as_released, noise) if t else x
            x_t = mask * x_t + (1 - mask) * x
            z = mask * z + (1 - mask) * background
    return Counterfactual(in_range(denoiser, z), mask)
