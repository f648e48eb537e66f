"""Whether a prior can be asked for what an audit wants of it: such depths of noise, images of such a size."""

from __future__ import annotations

from cfx.attributes.interventions import Interventions
from cfx.diffusion.ddpm import DDPM, check_distilled, missing
from cfx.diffusion.training import PriorTraining
from cfx.errors import UserError
from cfx.images import height_and_width
from cfx.methods.time_edit import TIME
from tasks.config import Ladder


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


def check_edits(interventions: Interventions, prior: DDPM) -> None:
    """Raises UserError for edits by gradient in other steps than those that a distilled prior was made for."""
    if interventions.named is None and interventions.images and interventions.attributes != 0:
        check_distilled(prior.schedule, interventions.steps)
        if interventions.tau > (most := deepest(prior, interventions.steps)):
            raise UserError(
                f"tau is {interventions.tau} of {interventions.steps}, but the prior was trained to {most} only; lower tau"
            )
