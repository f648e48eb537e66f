"""Do two accounts of where the evidence lies agree: saliency, what a counterfactual changed, and the truth where it is known."""

from __future__ import annotations

import torch
from scipy.stats import rankdata
from torch import Tensor
from torch.nn.functional import interpolate

from cfx.guidance import changed_region


def change_map(x: Tensor, x_cf: Tensor) -> Tensor:
    """How much each pixel was changed, (B, H, W): absolute difference summed over channels."""
    return (x_cf - x).abs().sum(1)


def enlarged(saliency: Tensor, size: tuple[int, int]) -> Tensor:
    """A map (B, h, w) on pixels (B, H, W), every cell repeated, so that no value is made up between two patches."""
    return interpolate(saliency[:, None], size=size, mode="nearest")[:, 0]


def pointing(saliency: Tensor, region: Tensor) -> Tensor:
    """Pointing game (Zhang et al. 2016, arXiv:1608.00507), (B,): 1 if the map's largest pixel lies in the region, else 0.

    saliency: (B, H, W); region: (B, H, W) bool. Of several equally large pixels, the share that lies inside.

    Examples:
        >>> saliency = torch.tensor([[[0.0, 2.0], [1.0, 2.0]]])
        >>> pointing(saliency, saliency > 1.5).item(), pointing(saliency, saliency < 1.5).item()
        (1.0, 0.0)
    """
    largest = (saliency == saliency.amax((1, 2), keepdim=True)).double()
    return (largest * region).sum((1, 2)) / largest.sum((1, 2))


def iou_at_equal_area(saliency: Tensor, region: Tensor) -> Tensor:
    """Intersection over union of the region with the map's largest pixels, as many as the region has, (B,).

    saliency: (B, H, W); region: (B, H, W) bool. Pixels that tie for the last places share them, so a constant map of N pixels
    scores what chance scores: k (k / N) of k pixels in common. An empty region scores 0.

    Examples:
        >>> region = torch.tensor([[[True, True], [False, False]]])
        >>> iou_at_equal_area(torch.tensor([[[3.0, 0.0], [2.0, 1.0]]]), region).item()  # one of three pixels in common
        0.3333333333333333
    """
    values, inside = saliency.flatten(1).double(), region.flatten(1).double()
    area = inside.sum(1, keepdim=True)
    last = values.sort(dim=1, descending=True).values.gather(1, (area.long() - 1).clamp(min=0))
    above, level = (values > last).double(), (values == last).double()
    left = (area - above.sum(1, keepdim=True)).clamp(min=0)
    common = ((above + level * left / level.sum(1, keepdim=True)) * inside).sum(1)
    area = area[:, 0]
    return torch.where(area > 0, common / (2 * area - common).clamp(min=1), 0.0)


def rank_correlation(a: Tensor, b: Tensor) -> Tensor:
    """Spearman's correlation of two maps (B, ...), (B,); ties take their mean rank, and a constant map correlates 0."""
    ranks = (torch.from_numpy(rankdata(each.flatten(1).cpu().numpy(), axis=1)) for each in (a, b))
    return pearson_correlation(*ranks)


def pearson_correlation(a: Tensor, b: Tensor) -> Tensor:
    """Pearson's correlation of two maps (B, ...), (B,), float64; 0 for a constant map."""
    a, b = (each.flatten(1).double() - each.flatten(1).double().mean(1, keepdim=True) for each in (a, b))
    norms = a.norm(dim=1) * b.norm(dim=1)
    return torch.where(norms > 0, (a * b).sum(1) / norms.clamp(min=torch.finfo(torch.float64).tiny), 0.0)


def iou_by_chance(region: Tensor) -> Tensor:
    """What `iou_at_equal_area` is on average for a map that knows nothing of the region (B, H, W), (B,): k / (2 N - k)."""
    area, pixels = region.flatten(1).double().sum(1), region[0].numel()
    return area / (2 * pixels - area)


def cross_examined(saliency: Tensor, x: Tensor, x_cf: Tensor, threshold: float = 0.15) -> dict[str, Tensor]:
    """Does what a counterfactual changed lie where a map says the evidence is? Measures by name, (B,) each.

    saliency: (B, h, w). The changed region is where x_cf departs from x by `threshold` or more of its largest departure.
    """
    size = (x.shape[-2], x.shape[-1])
    pixels, changed = enlarged(saliency, size), changed_region(x, x_cf, threshold, dilation=1)[:, 0] > 0
    return {
        "pointing": pointing(pixels, changed),
        "iou_at_equal_area": iou_at_equal_area(pixels, changed),
        "iou_by_chance": iou_by_chance(changed),
        "rank_correlation": rank_correlation(pixels, change_map(x, x_cf)),
    }


def against_truth(evidence: Tensor, region: Tensor) -> dict[str, Tensor]:
    """Does a map, what a counterfactual changed, or its mask lie where an attribute shows? Measures by name, (B,) each.

    evidence: (B, h, w), larger for more; region: (B, H, W) bool.
    """
    pixels = enlarged(evidence, (region.shape[-2], region.shape[-1]))
    return {
        "truth_pointing": pointing(pixels, region),
        "truth_iou": iou_at_equal_area(pixels, region),
        "truth_iou_by_chance": iou_by_chance(region),
    }
