"""The linear layer that a network ends in, and what it is given: the features of an image."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cfx.classifiers.network import Network
from cfx.errors import UserError

Floats = NDArray[np.float64]


def last_linear(network: Network) -> tuple[nn.Linear, str]:
    """The layer that gives the logits, and its name in the network's module. Raises UserError where it ends in another."""
    linear = [(name, module) for name, module in network.module.named_modules() if isinstance(module, nn.Linear)]
    if not linear or linear[-1][1].out_features != network.outputs():
        raise UserError(f"{network.name} does not end in a linear layer, so its features cannot be taken")
    name, last = linear[-1]
    return last, name


@torch.no_grad()
def features(network: Network, last: nn.Linear, x: Tensor) -> Floats:
    """What the last layer is given for images x (N, 3, H, W) in [-1, 1]: (N, F)."""
    seen: list[Tensor] = []
    handle = last.register_forward_hook(lambda _, given, __: seen.append(given[0]))
    try:
        network(x)
    finally:
        handle.remove()
    found: Floats = torch.cat(seen).double().cpu().numpy()
    return found
