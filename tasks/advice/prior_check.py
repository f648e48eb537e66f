"""Whether a prior fits the images and the classifier: is it trained for such noise and sizes, and what survives it?

It does not fit if it gives the images back worse than a plain blur of the noised image would, which knows nothing of images, or
in other colours. Measured on 8 images each, at tau 1 to 30 of 50 steps, mean |F(x) - x| as a share of what the best blur leaves:

- the bundled prior on Portraits .42 to .66 (1.4 at tau 1, where both leave .01: hence FLOOR); at tau 46 still .72
- on scikit-image's photographs 1.8 to 5.0, on colour gradients 1.9 to 22, on uniform noise 1.1 to 2.3

The limit 1 was fixed by these. Kept apart, and tried afterwards: scikit-learn's digits, textures, a page of text, Portraits in
wrong colours, a prior of digits, an untrained one (`tests/cases/test_prior_fit.py`).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.transforms.v2.functional import gaussian_blur

from cfx.diffusion.ddpm import DDPM, missing
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
FLOOR = 0.03  # of the range: what nobody sees is no misfit
LOST = 0.25  # a share of predictions kept, at most, that is nothing if chance keeps as many
WIDTHS = (1 / 128, 1 / 64, 1 / 32, 1 / 16, 1 / 8)  # standard deviations of plain blurs, shares of the image's shorter side


class Change(NamedTuple):
    """How far images moved, on [0, 1]."""

    distance: float  # mean |difference| of a pixel
    colours: float  # of a channel's histogram in an image: the first Wasserstein distance


class Filtered(NamedTuple):
    """What noising and denoising alone, F, does to some images."""

    kept: float | None  # share of the predictions that are the same afterwards; none without a classifier
    chance: float  # the share that would be, if F(x) were of any image: from how often each class is predicted before and after
    change: Change  # of F(x) from x
    blurred: Change  # of the best plain blur of the noised x from x
    n: int  # images


@torch.no_grad()
def filtered(prior: DDPM, classifier: Classifier | None, images: Images, steps: int, tau: int) -> Filtered:
    """F noises images to step tau - 1 of `steps` and denoises them without guidance. tau UNet evaluations an image."""
    x, noise, denoiser = images.x, ImageNoise.of(images.ids, SEED), prior.respaced(steps)
    z = q_sample(denoiser, x, tau - 1, noise)
    back = denoise(denoiser, z, tau - 1, noise).clamp(-1, 1)
    plain = [change(x, guess.clamp(-1, 1)) for guess in blurs(z / max(1e-6, float(denoiser.alphas_cumprod[tau - 1])) ** 0.5)]
    kept, chance = (None, 0.0) if classifier is None else agreement(classifier(x), classifier(back))
    return Filtered(kept, chance, change(x, back), min(plain), len(x))


def change(x: Tensor, other: Tensor) -> Change:
    """Between two batches (B, C, H, W) in [-1, 1]."""
    sorted_x, sorted_other = (batch.flatten(2).sort(2).values for batch in (x, other))
    return Change(float((other - x).abs().mean() / 2), float((sorted_other - sorted_x).abs().mean() / 2))


def blurs(z: Tensor) -> list[Tensor]:
    """Gaussian blurs of z (B, C, H, W) from none to the mean colour: all that can be said of an image without knowing images."""
    found, side = [z, z.mean((2, 3), keepdim=True).expand_as(z)], min(z.shape[2:])
    for width in WIDTHS:
        kernel = 2 * int(3 * width * side) + 1
        found.append(gaussian_blur(z, [kernel, kernel], [width * side, width * side]))
    return found


def agreement(before: Tensor, after: Tensor) -> tuple[float, float]:
    """From two sets of logits (N, K): the share of equal predictions, and what it would be if they had nothing to do with each
    other, from how often each class is predicted."""
    first, second = before.argmax(1), after.argmax(1)
    often = [torch.bincount(found, minlength=before.shape[1]) / len(found) for found in (first, second)]
    return float((first == second).float().mean()), float(often[0] @ often[1])


def survival(
    prior: DDPM, classifier: Classifier | None, data: DataConfig, ladder: Ladder, device: str = "cpu"
) -> Filtered | None:
    """F at the depth of the ladder's first rung, on a few of the audit's images; none for a method that adds no noise.

    Without a classifier, what becomes of the images only.
    """
    tau = getattr(ladder[0], "tau", None)
    if tau is None or isinstance(ladder[0], TIME):
        return None
    images = sample(data, TRIED)
    return filtered(prior, classifier, Images(images.ids, images.x.to(device)), ladder[0].steps, tau)


def check_fit(found: Filtered | None, ladder: Ladder) -> tuple[str, ...]:
    """A warning when most predictions are lost: explanations then start from something else than the image.

    Raises UserError, with the numbers and the way out, for a prior that does not fit these images, and where no more predictions
    survive than by chance.
    """
    if found is None:
        return ()
    misfit = [a > FLOOR and a > b for a, b in zip(found.change, found.blurred, strict=True)]
    kept, most = found.kept, max(1 / found.n, min(found.chance, LOST))
    if any(misfit):
        raise UserError(
            f"it does not fit these images: {_described(found, ladder)}. Train one on these images (`prior: {{train: {{}}}}`) "
            "or import it with the arguments that it was trained with; without one (`prior: null`) there is evidence, but no "
            "counterfactual"
        )
    if kept is not None and kept <= most:
        raise UserError(
            f"no more predictions survive it than by chance ({found.chance:.0%}): {_described(found, ladder)}. Lower tau "
            "(`cfx calibrate` finds one), or train a prior on these images (`prior: {train: {}}`); without one (`prior: null`) "
            "there is evidence, but no counterfactual"
        )
    if kept is None or kept >= 0.5:
        return ()
    return (
        f"most predictions are lost: {_described(found, ladder)}. Either tau is too deep (`cfx calibrate` finds one), or the "
        "prior does not fit: trained on other images, or imported with other arguments than it was trained with",
    )


def _described(found: Filtered, ladder: Ladder) -> str:
    kept = "" if found.kept is None else f"{found.kept:.0%} of {found.n} images keep their prediction, and "
    (distance, colours), (plain, plain_colours) = found.change, found.blurred
    return (
        f"noising to tau {getattr(ladder[0], 'tau', None)} of {ladder[0].steps} and denoising, without guidance, {kept}pixels "
        f"change by {distance:.3f} on [0, 1], colours by {colours:.3f} (by a plain blur of the noised images: {plain:.3f} and "
        f"{plain_colours:.3f})"
    )


def check_size(size: int | tuple[int, int], multiple: int) -> None:
    """Raises UserError for images that cannot be padded to a multiple of what the UNet halves."""
    for side in (size, size) if isinstance(size, int) else size:
        missing(side, multiple)


def size_warnings(prior: DDPM, size: int | tuple[int, int]) -> tuple[str, ...]:
    """What to say of a prior that was trained on images of another size."""
    height, width = (size, size) if isinstance(size, int) else size
    padded = (height + missing(height, prior.patch), width + missing(width, prior.patch))
    if prior.size is None or prior.size == padded:
        return ()
    trained = " x ".join(map(str, prior.size))
    return (
        f"prior: it was trained on images of {trained} px, but data.size is {height} x {width} px; what it draws is of the wrong "
        f"scale: set data.size to what it was trained on, or train one on these images (`prior: {{train: {{}}}}`)",
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
