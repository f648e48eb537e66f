"""MaskDiME (arXiv:2602.18792): DiME on the clean estimate, inside a mask that follows the class gradient."""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import max_pool2d

from cfx.diffusion.inversion import Start, started
from cfx.diffusion.schedule import check_depth, q_sample
from cfx.guidance import ClassLoss, Consensus, Implicit, Side, agreed, class_gradient, implicit_gradient, in_range, rescaled
from cfx.paths import FileName
from cfx.perceptual import check_vgg19, perceptual_pull
from cfx.random import ImageNoise
from cfx.types import Classifier, Config, Counterfactual, Denoiser


class MaskDiME(Config):
    """MaskDiME's knobs; defaults are those of the released CelebA script, but for the perceptual term (30 there)."""

    method: Literal["maskdime"] = "maskdime"
    steps: int = Field(200, ge=1, description="respaced steps of the prior")
    tau: int = Field(60, ge=1, description="noise depth, in respaced steps; at most `steps`")
    scale: float = Field(8.0, ge=0, description="weight of the class gradient; 0 is the null run")
    strength: float = Field(8.0, ge=0, description="factor on the whole gradient, the paper's s")
    l1: float = Field(0.05, ge=0, description="pull of the noisy image towards the input")
    perceptual: float = Field(0.0, ge=0, description="pull towards the input's VGG19 features; 30 in the released script")
    vgg19: FileName | None = Field(None, description="file of torchvision's VGG19 weights, for the perceptual term")
    loss: ClassLoss = Field("logit", description="logit (released code), log_prob, margin")
    share: float = Field(0.05, gt=0, le=1, description="share of the pixels that may change before dilation, the paper's k")
    seen_share: float = Field(0.5, gt=0, le=1, description="share of those that the classifier sees changed, the paper's rho")
    dilation: Side = Field(5, description="side of the square that grows both masks, pixels, odd")
    adaptive: bool = Field(
        False, description="give the class gradient the norm of the predicted noise, so that one scale fits any classifier"
    )
    start: Start = "noise"
    consensus: Consensus = None
    sampled: bool = Field(False, description="draw noise inside the mask, as the paper; the released code takes the mean")
    as_released: bool = Field(
        False,
        description="noise to tau, one step further than where denoising starts; outside the mask noise to t, and leave it in "
        "the result; round shares down",
    )

    @model_validator(mode="after")
    def _can_work(self) -> MaskDiME:
        check_depth(self.tau, self.steps, unnoised=1 if self.as_released else 0)
        check_vgg19(self.perceptual, self.vgg19)
        return self


def top_region(saliency: Tensor, share: float, dilation: int) -> Tensor:
    """1 at the `share` of pixels with the highest saliency (B, 1, H, W), grown by a square; (B, 1, H, W) float.

    The number of pixels is rounded. Pixels that tie with the last one in are in; pixels without any saliency never are.

    Examples:
        >>> saliency = torch.tensor([[4.0, 3.0], [2.0, 0.0]]).view(1, 1, 2, 2)
        >>> top_region(saliency, share=0.5, dilation=1).flatten().tolist()
        [1.0, 1.0, 0.0, 0.0]
    """
    return _top_pixels(saliency, round(share * saliency[0].numel()), dilation)


def _top_pixels(saliency: Tensor, count: int, dilation: int) -> Tensor:
    last_in = saliency.flatten(1).topk(max(1, count), dim=1).values[:, -1].view(-1, 1, 1, 1)
    chosen = (saliency >= last_in) & (saliency > 0)
    return max_pool2d(chosen.to(saliency.dtype), dilation, stride=1, padding=dilation // 2)


def masks(saliency: Tensor, config: MaskDiME) -> tuple[Tensor, Tensor]:
    """Where the image may change, and where the classifier sees it changed at the next step; each (B, 1, H, W).

    The released code rounds down: the first count, and the share of it that the second is.

    Examples:
        64 pixels, of which .05 are 3.2 and half of that is 1.6, of 3 pixels 1.5:

        >>> saliency = torch.arange(1.0, 65.0).view(1, 1, 8, 8)
        >>> ours, released = MaskDiME(dilation=1), MaskDiME(dilation=1, as_released=True)
        >>> [[int(mask.sum()) for mask in masks(saliency, config)] for config in (ours, released)]
        [[3, 2], [3, 1]]
    """
    if not config.as_released:
        may_change = top_region(saliency, config.share, config.dilation)
        return may_change, top_region(saliency, config.share * config.seen_share, config.dilation)
    count = int(config.share * saliency[0].numel())
    may_change = _top_pixels(saliency, count, config.dilation)
    return may_change, _top_pixels(saliency, int(config.seen_share * count), config.dilation)


@torch.no_grad()
def maskdime(
    denoiser: Denoiser,
    classifier: Classifier,
    x: Tensor,
    target: Tensor,
    config: MaskDiME,
    noise: ImageNoise,
    perceptual: nn.Module | None = None,
    implicit: Implicit | None = None,
) -> Counterfactual:
    """Guided denoising inside a mask found anew at every step: where the class gradient is largest.

    x: (B, 3, H, W) in [-1, 1]; target: (B,) class ids. tau UNet evaluations an image, 2 tau where `start` inverts or `consensus`
    asks the generator. The mask comes from the gradient before its weight, so the null run (scale 0) denoises inside the mask
    without being steered. Outside it the input is noised to t - 1, the level z is at, and is the input itself at the end
    (`as_released` noises it to t, and leaves that noise in the result).

    Over latents (`cfx.latent_space`) shares are of a latent's positions, chosen by the gradient with respect to the clean latent,
    through the decoder, and the noise's norm is that of the latent's noise.

    Examples:
        One portrait that does not smile, the bundled classifier and prior, the first rung of the default ladder:

        >>> from importlib.resources import files
        >>> from cfx.classifiers import ClassifierConfig, load_classifier
        >>> from cfx.diffusion.ddpm import load_ddpm
        >>> from cfx.portraits import draw, render
        >>> from cfx.presets import DEFAULT_RUNG
        >>> smiles = load_classifier(ClassifierConfig(weights="portraits:planted"))
        >>> prior = load_ddpm(files("cfx") / "weights" / "portraits" / "prior", steps=DEFAULT_RUNG.steps)
        >>> _, portrait = next(draw(1, seed=1))
        >>> x = torch.from_numpy(render(portrait)).permute(2, 0, 1)[None] / 127.5 - 1
        >>> predicted = smiles(x).argmax(1)
        >>> found = maskdime(prior, smiles, x, 1 - predicted, DEFAULT_RUNG, ImageNoise.of(["portrait"], seed=0))
        >>> smiles.classes[predicted.item()], smiles.classes[smiles(found.x_cf).argmax(1).item()]
        ('not_smiling', 'smiling')
        >>> (found.x_cf != x).any(1).float().mean().item() < 0.2  # share of the pixels that changed
        True
    """
    pull = perceptual_pull(perceptual, x, config.perceptual)
    late = int(config.as_released)  # steps that the noise level is ahead of where z is
    z = started(denoiser, x, config.tau - 1 + late, noise, config.start)
    mask = seen = torch.zeros_like(x[:, :1])  # may change; is shown changed to the classifier: at first nothing
    for t in reversed(range(config.tau)):
        mean, std, x0, eps = denoiser.step(z, t)
        x_t = seen * x0 + (1 - seen) * x
        level = math.sqrt(denoiser.alphas_cumprod[t])
        towards_target = class_gradient(classifier, x_t, target, config.loss) / level
        if config.consensus is not None:
            towards_target = agreed(towards_target, implicit_gradient(implicit, z, t, target, eps), config.consensus)
        mask, seen = masks(towards_target.abs().mean(1, keepdim=True), config)  # what is seen: at the next step
        if config.adaptive:
            towards_target = rescaled(towards_target, eps)
        gradient = config.scale * towards_target + pull(x_t) / level + config.l1 * (z - x).sign()
        z = mean - config.strength * std.square() * gradient
        if t and config.sampled:
            z = z + std * noise.like(z)
        level_of_z = t - 1 + late
        z = mask * z + (1 - mask) * (q_sample(denoiser, x, level_of_z, noise) if level_of_z >= 0 else x)
    return Counterfactual(in_range(denoiser, z), mask)
