"""From this machine's memory to a device's."""

from __future__ import annotations

import torch
from torch import Tensor


def to_device(x: Tensor, device: torch.device | str) -> Tensor:
    """x on a device. To a GPU it goes by page-locked memory, so that the caller goes on while it, and what was asked of the GPU
    before, is under way."""
    if torch.device(device).type == "cuda" and x.device.type == "cpu":
        return x.pin_memory().to(device, non_blocking=True)
    return x.to(device)
