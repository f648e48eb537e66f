"""Whether prior and classifier get along: is the noise a depth that the prior was trained for, and do predictions survive it?"""

from __future__ import annotations

from typing import NamedTuple

import torch

from cfx.diffusion.ddpm import DDPM
from cfx.diffusion.schedule import q_sample
from cfx.errors import UserError
from cfx.methods.dime import denoise
from cfx.methods.time_edit import TIME
from cfx.random import ImageNoise
from cfx.types import Classifier
from tasks.config import Ladder
from tasks.data.ingest import DataConfig, sample
from tasks.shard_images import Images

TRIED = 8  # images of the audit's own, for `survival`
SEED = 0


class Filtered(NamedTuple):
    """What noising and denoising alone, F, does to some images."""

    kept: float  # share of the predictions that are the same afterwards
    distance: float  # mean |F(x) - x|, pixels on [0, 1]


@torch.no_grad()
def filtered(prior: DDPM, classifier: Classifier, images: Images, steps: int, tau: int) -> Filtered:
    """F noises images to step tau - 1 of `steps` and denoises them without guidance. tau UNet evaluations an image."""
    x, noise, denoiser = images.x, ImageNoise.of(images.ids, SEED), prior.respaced(steps)
    back = denoise(denoiser, q_sample(denoiser, x, tau - 1, noise), tau - 1, noise).clamp(-1, 1)
    same = classifier(back).argmax(1) == classifier(x).argmax(1)
    return Filtered(float(same.float().mean()), float((back - x).abs().mean() / 2))


def survival(prior: DDPM, classifier: Classifier, data: DataConfig, ladder: Ladder) -> Filtered | None:
    """F at the depth of the ladder's first rung, on a few of the audit's images; none for a method that adds no noise."""
    tau = getattr(ladder[0], "tau", None)
    if tau is None or isinstance(ladder[0], TIME):
        return None
    images = sample(data, TRIED)
    return filtered(prior, classifier, Images(images.ids, images.x.to(prior.betas.device)), ladder[0].steps, tau)


def warnings_of(found: Filtered | None, ladder: Ladder) -> tuple[str, ...]:
    """What to say when most predictions are lost: explanations then start from something else than the image."""
    if found is None or found.kept >= 0.5:
        return ()
    return (
        f"noising and denoising alone, to tau {getattr(ladder[0], 'tau', None)} of {ladder[0].steps}, changes most predictions: "
        f"{found.kept:.0%} of {TRIED} images keep theirs (mean change {found.distance:.3f} on [0, 1]). Either tau is too deep "
        "(`cfx calibrate` finds one), or the prior does not fit: trained on other images, or imported with other arguments "
        "than it was trained with",
    )


def check_depth(ladder: Ladder, prior: DDPM) -> None:
    """Raises UserError if a method of the ladder asks the prior for steps, or for noise, that it was not trained on."""
    trained = prior.schedule.trained_timesteps or len(prior.betas)
    for method in ladder:
        if isinstance(method, TIME):  # has a model of its own
            continue
        if method.steps > len(prior.betas):
            raise UserError(f"the ladder respaces to {method.steps} steps, but the prior was trained on {len(prior.betas)}")
        timesteps = prior.respaced(method.steps).timesteps
        tau = getattr(method, "tau", 1)  # SVCE has no noise
        if timesteps[tau - 1] >= trained:
            raise UserError(
                f"tau {tau} of {method.steps} starts at step {timesteps[tau - 1]} of {len(prior.betas)}, but the prior was "
                f"trained on the first {trained} only; use tau {deepest(prior, method.steps)} or less"
            )


def deepest(prior: DDPM, steps: int) -> int:
    """The largest tau of `steps` that the prior was trained for."""
    trained = prior.schedule.trained_timesteps or len(prior.betas)
    return sum(step < trained for step in prior.respaced(steps).timesteps)
