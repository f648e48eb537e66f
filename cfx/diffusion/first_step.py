"""A first state is evaluated once: a null starts from the guided run's noised image, and a sham from its edit's."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from cfx.diffusion.ddpm import DDPM
from cfx.types import Step

FirstAnswers = dict[tuple[float, str], Tensor]  # (1, C or 2C, H, W) by original timestep and SHA-256 of the state


class FirstStep:
    """A denoiser that takes first steps from `known` where every image's state is there, and puts new ones there.

    known: shared with the runs that start from the same states; without it only this denoiser's own.
    A step is a run's first where it is as deep as the first that was taken. Bit for bit what the denoiser itself returns, where
    that does not depend on an image's companions. Later states of two runs differ, so they are not kept.

    Examples:
        >>> from cfx.diffusion.ddpm import Schedule
        >>> class Unet(torch.nn.Module):
        ...     seen = 0
        ...     def forward(self, z, timesteps):
        ...         Unet.seen += len(z)
        ...         return z / 2
        >>> prior, z = DDPM(Unet(), Schedule(), channels=3), torch.zeros(1, 3, 8, 8)
        >>> denoiser = FirstStep(prior)
        >>> for _ in range(2):
        ...     z_after = denoiser.step(denoiser.step(z, 9).mean, 8)
        >>> Unet.seen
        3
    """

    def __init__(self, denoiser: DDPM, known: FirstAnswers | None = None) -> None:
        self._denoiser, self._known, self._start = denoiser, {} if known is None else known, 0
        self.alphas_cumprod, self.drawn_size = denoiser.alphas_cumprod, denoiser.drawn_size
        self.autoencoder, self.skips_gradient = denoiser.autoencoder, denoiser.skips_gradient
        self.noise_of_classes = getattr(denoiser, "noise_of_classes", None)

    def step(self, z: Tensor, t: int) -> Step:
        """One reverse step of z (B, C, H, W) at respaced index t. What is differentiated through is neither taken nor kept."""
        self._start = max(self._start, t)
        if t < self._start or (z.requires_grad and torch.is_grad_enabled()):
            return self._denoiser.step(z, t)
        keys = [(self._denoiser.timesteps[t], hashlib.sha256(one.cpu().numpy().tobytes()).hexdigest()) for one in z]
        if not all(key in self._known for key in keys):
            self._known.update(zip(keys, self._denoiser.answer(z, t).split(1), strict=True))
        return self._denoiser.step_of(torch.cat([self._known[key] for key in keys]), z, t)
