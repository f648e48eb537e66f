"""Paste an edit into the image: only what the edit changed beyond its sham, so that nothing else looks redrawn.

An editor redraws. A classifier that looks at compression, grain or colour reacts to that, whatever the attribute. Edit and sham
are redrawn alike, so their difference is the attribute; laid on the image itself, x + m (x_edit - x_sham), it leaves the image
its own grain, compression and light, and the image is the control. Neither reading is safe alone: redrawing may have lost what
the classifier looks at, and what is pasted may differ from what is around it. An effect is what both say (view `edit_effects`).
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import max_pool2d
from torchvision.transforms.v2.functional import gaussian_blur

from cfx.types import Edit

CHANGED = 0.1  # of an edit's largest difference from its sham: less is the redrawing's chatter
SOFTNESS = 1 / 64  # of the shorter side: the standard deviation of the mask's edge, a pixel at 64


def difference_mask(x_edit: Tensor, x_sham: Tensor) -> Tensor:
    """Where an edit differs from its sham, both (B, 3, H, W): (B, 1, H, W) in [0, 1], with soft edges; 0 where they are equal."""
    difference = _blurred((x_edit - x_sham).abs().amax(1, keepdim=True))
    largest = difference.flatten(1).amax(1).view(-1, 1, 1, 1)
    changed = (difference > CHANGED * largest).to(x_edit.dtype)
    return _blurred(max_pool2d(changed, 3, stride=1, padding=1)).clamp(0, 1)


def pasted(x: Tensor, edit: Edit) -> Tensor:
    """The image x (B, 3, H, W) in [-1, 1] with what its edit changed beyond the sham; likewise."""
    difference = edit.x_edit - edit.x_sham
    return (x + difference_mask(edit.x_edit, edit.x_sham) * difference).clamp(-1, 1)


def _blurred(planes: Tensor) -> Tensor:
    deviation = SOFTNESS * min(planes.shape[-2:])
    return gaussian_blur(planes, [2 * round(3 * deviation) + 1] * 2, [deviation] * 2)
