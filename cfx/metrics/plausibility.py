"""IM1 and IM2 (Van Looveren and Klaise 2019, arXiv:1907.02584): does a counterfactual look like its class to autoencoders?"""

from __future__ import annotations

from torch import Tensor

EPSILON = 1e-8


def im1(x_cf: Tensor, by_target: Tensor, by_source: Tensor) -> Tensor:
    """Squared error of the target class's autoencoder over that of the source class's, (B,) float64, [0, inf).

    All (B, ...) on [0, 1]: the counterfactual and what either autoencoder makes of it. Below 1: closer to the target class.

    Examples:
        >>> import torch
        >>> x_cf = torch.ones(1, 4)
        >>> round(im1(x_cf, x_cf - 0.1, x_cf - 0.2).item(), 4)  # the target's autoencoder is off by half as much
        0.25
    """
    x_cf, by_target, by_source = (part.double().flatten(1) for part in (x_cf, by_target, by_source))
    return (x_cf - by_target).square().sum(1) / ((x_cf - by_source).square().sum(1) + EPSILON)


def im2(x_cf: Tensor, by_target: Tensor, by_all: Tensor) -> Tensor:
    """Squared distance of what the autoencoders of the target class and of all classes make of it, over its L1 norm, (B,)."""
    x_cf, by_target, by_all = (part.double().flatten(1) for part in (x_cf, by_target, by_all))
    return (by_target - by_all).square().sum(1) / (x_cf.abs().sum(1) + EPSILON)
