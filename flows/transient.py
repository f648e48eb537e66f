"""Failures that may pass by themselves: worth another try."""

from __future__ import annotations

import torch

MAY_PASS = (OSError, torch.OutOfMemoryError)  # TransientError is one: stores, endpoints, disks, a GPU that another process fills
WILL_NOT_PASS = (FileNotFoundError, PermissionError)
TRIES = 3
PAUSE = 2  # seconds between two


def may_pass(error: BaseException) -> bool:
    """Whether a failure may pass by itself; a defect, or what a UserError says, will be there again."""
    return isinstance(error, MAY_PASS) and not isinstance(error, WILL_NOT_PASS)
