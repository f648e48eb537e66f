"""Whether a prior can be asked for what an audit wants of it: such depths of noise, images of such a size."""

from __future__ import annotations

from cfx.diffusion.ddpm import DDPM, missing
from cfx.errors import UserError
from cfx.methods.time_edit import TIME
from tasks.config import Ladder


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
