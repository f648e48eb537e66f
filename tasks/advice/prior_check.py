"""Whether a prior can be asked for what an audit wants of it: such depths of noise, images of such a size."""

from __future__ import annotations

from cfx.diffusion.ddpm import DDPM, missing
from cfx.diffusion.latent_prior import LatentPrior
from cfx.diffusion.training import PriorTraining
from cfx.errors import UserError
from cfx.images import height_and_width
from cfx.methods.ace import ACE
from cfx.methods.blended import Blended
from cfx.methods.time_edit import TIME
from tasks.config import Ladder

OF_PIXELS = {"ace": "attacks pixels", "blended": "holds the clean estimate's pixels in their range"}


def check_size(size: int | tuple[int, int], prior: DDPM | PriorTraining) -> None:
    """Raises UserError for images that, at the size the prior draws, cannot be padded to a multiple of what the UNet halves."""
    shape = height_and_width(size)
    for side in prior.drawn_size(*shape) or shape:
        missing(side, prior.multiple)


def size_warnings(prior: DDPM | PriorTraining, size: int | tuple[int, int]) -> tuple[str, ...]:
    """What to say of a prior that draws smaller than the images are."""
    height, width = height_and_width(size)
    drawn = prior.drawn_size(height, width)
    if drawn is None or drawn[0] >= height:
        return ()
    return (
        f"prior: it draws {drawn[0]} x {drawn[1]} px, and its changes are laid on the images of {height} x {width} px: "
        f"explanations and edits change nothing finer than {height / drawn[0]:.1f} px",
    )


def check_methods(ladder: Ladder, prior: DDPM) -> None:
    """Raises UserError for a method that moves or weighs pixels themselves, of which a prior over latents has none."""
    for method in ladder:
        if prior.autoencoder is not None and isinstance(method, ACE | Blended):
            raise UserError(
                f"method {method.method!r} {OF_PIXELS[method.method]}, and this prior draws latents; use maskdime, fastdime, "
                "dime or dvce (`ladder: default`), or a prior of images"
            )


def check_consensus(ladder: Ladder, prior: DDPM, classes: tuple[str, ...]) -> None:
    """Raises UserError for a consensus with a prior that reads no prompts, or that was not given one for each class."""
    asked = [method for method in ladder if getattr(method, "consensus", None) is not None]
    if not asked:
        return
    if not isinstance(prior, LatentPrior) or prior.model.text is None:
        raise UserError(
            f"consensus of method {asked[0].method!r} asks a generator that reads prompts, and this prior reads none; leave it "
            "out, or use such a prior (`portraits:text`, Stable Diffusion)"
        )
    missing = [name for name in classes if name not in prior.class_prompts]
    if missing:
        raise UserError(f"consensus needs a prompt for every class; add {', '.join(missing)} to `prior.class_prompts`")


def check_depth(ladder: Ladder, prior: DDPM) -> None:
    """Raises UserError if a method of the ladder asks the prior for steps, or for noise, that it was not trained on."""
    trained = prior.schedule.trained_timesteps or len(prior.betas)
    for method in ladder:
        if isinstance(method, TIME):  # has a model of its own
            continue
        if method.steps > len(prior.betas):
            raise UserError(f"the ladder respaces to {method.steps} steps, but the prior was trained on {len(prior.betas)}")
        denoiser, tau = prior.respaced(method.steps), getattr(method, "tau", 1)  # SVCE has no noise
        timesteps = denoiser.timesteps
        if not denoiser.alphas_cumprod[tau - 1] > 0:
            raise UserError(
                f"tau {tau} of {method.steps} starts at noise alone, where nothing is left of the image; use tau "
                f"{deepest(prior, method.steps)} or less"
            )
        if timesteps[tau - 1] >= trained:
            raise UserError(
                f"tau {tau} of {method.steps} starts at step {timesteps[tau - 1]} of {len(prior.betas)}, but the prior was "
                f"trained on the first {trained} only; use tau {deepest(prior, method.steps)} or less"
            )


def deepest(prior: DDPM, steps: int) -> int:
    """The largest tau of `steps` that the prior was trained for."""
    trained = prior.schedule.trained_timesteps or len(prior.betas)
    denoiser = prior.respaced(steps)
    return sum(
        step < trained and bool(level > 0) for step, level in zip(denoiser.timesteps, denoiser.alphas_cumprod, strict=True)
    )
