"""What one image costs a network."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


def flops(network: nn.Module, size: int) -> int:
    """Floating-point operations of one forward pass on (1, 3, size, size), two a multiplication with addition.

    Attention is run as plain matrix products, because torch's counter does not know its fused kernel on a CPU and counts it as 0.
    """
    image = torch.zeros(1, 3, size, size)
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        network.eval()(image)
    return counter.get_total_flops()
