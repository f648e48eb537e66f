"""Whether prior and classifier get along: is the noise a depth that the prior was trained for, and do predictions survive it?"""

from __future__ import annotations

from cfx.diffusion.ddpm import DDPM
from tasks.explain import Ladder


def check_depth(ladder: Ladder, prior: DDPM) -> None:
    """Raises ValueError if a method of the ladder asks the prior for steps, or for noise, that it was not trained on."""
    trained = prior.schedule.trained_timesteps or len(prior.betas)
    for method in ladder:
        if method.steps > len(prior.betas):
            raise ValueError(f"the ladder respaces to {method.steps} steps, but the prior was trained on {len(prior.betas)}")
        timesteps = prior.respaced(method.steps).timesteps
        tau = getattr(method, "tau", 1)  # SVCE has no noise
        if timesteps[tau - 1] >= trained:
            deepest = sum(step < trained for step in timesteps)
            raise ValueError(
                f"tau {tau} of {method.steps} starts at step {timesteps[tau - 1]} of {len(prior.betas)}, but the prior was "
                f"trained on the first {trained} only; use tau {deepest} or less"
            )
