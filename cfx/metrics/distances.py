"""How far a counterfactual is from its image, by every convention that papers use, under a name of its own."""

from __future__ import annotations

from torch import Tensor


def distances(x: Tensor, x_cf: Tensor) -> dict[str, Tensor]:
    """Measures by name, (B,) float64 each; x, x_cf: (B, C, H, W) in [-1, 1], compared on [0, 1].

    l1_mean: over C H W, as DiME, ACE and TIME print it. l1_sum, l1_5 and l2: norms of the whole difference, as DVCE prints them.
    linf: the largest. sparsity: share of pixels that are the same in every channel.

    Examples:
        >>> import torch
        >>> x = torch.zeros(1, 3, 2, 2)
        >>> x_cf = x.clone()
        >>> x_cf[0, :, 0, 0] = 1.0  # half of the range, in one of four pixels
        >>> {name: round(value.item(), 3) for name, value in distances(x, x_cf).items()}
        {'l1_mean': 0.125, 'l1_sum': 1.5, 'l1_5': 1.04, 'l2': 0.866, 'linf': 0.5, 'sparsity': 0.75}
    """
    difference = (x_cf.double() - x.double()).flatten(1).abs() / 2
    return {
        "l1_mean": difference.mean(1),
        "l1_sum": difference.sum(1),
        "l1_5": difference.pow(1.5).sum(1).pow(2 / 3),
        "l2": difference.norm(dim=1),
        "linf": difference.amax(1),
        "sparsity": (x_cf == x).all(dim=1).flatten(1).double().mean(1),
    }
