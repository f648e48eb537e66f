"""What steers a counterfactual: the class gradient, and the mask of what may change."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import log_softmax, max_pool2d

from cfx.types import Classifier

ClassLoss = Literal["logit", "log_prob"]


def class_loss(logits: Tensor, target: Tensor, loss: ClassLoss) -> Tensor:
    """Per-image loss, (B,), from logits (B, K) and class ids (B,); smaller is closer to `target`.

    `logit` is what DiME's released scripts descend: for two classes minus the log-odds, whose gradient keeps its norm when the
    classifier is sure; for more, minus the target's logit. `log_prob` is the paper's -log p(target | x).
    """
    wanted = logits.gather(1, target[:, None])[:, 0]
    if loss == "log_prob":
        return -log_softmax(logits, dim=1).gather(1, target[:, None])[:, 0]
    if logits.shape[1] == 2:
        return logits.gather(1, 1 - target[:, None])[:, 0] - wanted
    return -wanted


def class_gradient(classifier: Classifier, x: Tensor, target: Tensor, loss: ClassLoss = "logit") -> Tensor:
    """Gradient of the class loss with respect to x, shaped like x.

    Losses are summed over the batch, so an image's gradient does not depend on its neighbours.
    """
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        total = class_loss(classifier(x).float(), target, loss).sum()
        (gradient,) = torch.autograd.grad(total, x)
    return gradient


def changed_region(x: Tensor, x_cf: Tensor, threshold: float, dilation: int) -> Tensor:
    """1 where x_cf departs from x, 0 where x should be kept; (B, 1, H, W) float.

    Channel-summed difference over its largest value in the image, dilated by a `dilation` x `dilation` square, kept at or above
    `threshold`. Identical images have an empty region (the released code divides 0 by 0 there).
    """
    difference = (x_cf - x).abs().sum(1, keepdim=True)
    largest = difference.amax((1, 2, 3), keepdim=True)
    share = difference / largest.clamp(min=torch.finfo(difference.dtype).tiny)
    return (max_pool2d(share, dilation, stride=1, padding=dilation // 2) >= threshold).to(x.dtype)
