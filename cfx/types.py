"""The contracts everything else is written against: `Config`, `Denoiser`, `Step`, `Classifier`.

Images are float tensors (B, 3, H, W) in [-1, 1] everywhere inside cfx; adapters own every other convention.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict, model_validator
from torch import Tensor

from cfx.credentials import refuse_credentials


class Config(BaseModel):
    """A frozen, typo-proof group of settings, declared beside the code that reads it.

    Examples:
        >>> class Blur(Config):
        ...     radius: float = 1.5
        >>> Blur().radius
        1.5
        >>> Blur(radus=2.0)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        pydantic_core._pydantic_core.ValidationError: 1 validation error for Blur
        radus
          Extra inputs are not permitted ...
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True)  # may hold a secret

    @model_validator(mode="before")
    @classmethod
    def _no_credentials(cls, settings: object) -> object:
        refuse_credentials(settings)
        return settings


class Step(NamedTuple):
    """One reverse step p(z_{t-1} | z_t), each (B, C, H, W)."""

    mean: Tensor
    std: Tensor
    x0: Tensor  # the clean estimate, clamped to [-1, 1] if the denoiser clips
    eps: Tensor  # the predicted noise


class Denoiser(Protocol):
    """A diffusion model with its (respaced) schedule. `t` counts respaced steps: 0 .. len(alphas_cumprod) - 1.

    One that draws latents has an `autoencoder` (`cfx.diffusion.latent_model`), and its z are latents: `cfx.latent_space` leads
    methods to them.
    """

    alphas_cumprod: Tensor  # (K,), float64

    def step(self, z: Tensor, t: int) -> Step:
        """One reverse step of z (B, C, H, W) from respaced step t to t - 1, or to a clean image from 0."""
        ...


@runtime_checkable
class Classifier(Protocol):
    """Maps (B, 3, H, W) in [-1, 1] to logits (B, K); softmax over K gives the probabilities.

    Examples:
        Any callable with names and a flag is one; here of the mean brightness:

        >>> import torch
        >>> class Bright:
        ...     classes, differentiable = ("dark", "bright"), True
        ...     def __call__(self, x):
        ...         mean = x.mean((1, 2, 3))
        ...         return torch.stack([-mean, mean], dim=1)
        >>> isinstance(Bright(), Classifier)
        True
        >>> Bright()(torch.full((1, 3, 8, 8), 0.5)).softmax(1)[0, 1].item()  # 1 / (1 + exp(-1))
        0.7310585975646973
    """

    @property
    def classes(self) -> tuple[str, ...]: ...

    @property
    def differentiable(self) -> bool: ...

    def __call__(self, x: Tensor) -> Tensor:
        """x (B, 3, H, W) in [-1, 1] to logits (B, K)."""
        ...


class Counterfactual(NamedTuple):
    """What a method returns."""

    x_cf: Tensor  # (B, 3, H, W) in [-1, 1]
    mask: Tensor | None  # (B, 1, H, W) in [0, 1], 1 where the image was allowed to change; None if the method has no mask


class Edit(NamedTuple):
    """One attribute edited alone, the same redrawing without the edit, and the region that was redrawn."""

    x_edit: Tensor  # (B, 3, H, W) in [-1, 1]
    x_sham: Tensor  # likewise
    mask: Tensor  # (B, 1, H, W)
