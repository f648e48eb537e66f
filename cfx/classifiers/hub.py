"""Networks by name from torchvision and timm: `torchvision:resnet50`, `timm:convnext_tiny.fb_in1k`, with what their makers say.

Nothing is downloaded: weights come from a file, and without one the network is untrained.
"""

from __future__ import annotations

from typing import Any

import timm
from timm.data import infer_imagenet_subset
from torch import nn
from torchvision import models
from torchvision.models import ResNet50_Weights, get_model, get_model_weights, list_models

from cfx.checkpoint import Facts
from cfx.errors import UserError

HUBS = ("torchvision", "timm")
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # all of torchvision's classifiers


def from_hub(hub: str, name: str, kwargs: dict[str, Any]) -> tuple[nn.Module, Facts]:
    """The network, and facts: mean, std, input_size (if it takes one size only) and, of ImageNet's 1000, classes.

    Raises UserError if the hub has no such network, or for arguments that it does not take.
    """
    try:
        if hub == "timm":
            return _from_timm(timm.create_model(name, pretrained=False, **kwargs), "num_classes" in kwargs)
        return _from_torchvision(get_model(name, weights=None, **kwargs), "num_classes" in kwargs)
    except (ValueError, RuntimeError, TypeError) as error:
        raise UserError(f"{hub} makes no {name!r} of {kwargs}: {error}; see its documentation for the names") from error


def least_side(module: str) -> int | None:
    """The side, pixels, of the smallest images that `torchvision:NAME` takes, as far as torchvision says so."""
    hub, _, name = module.partition(":")
    if hub != "torchvision" or name not in list_models(module=models):
        return None
    height, width = get_model_weights(name)["DEFAULT"].meta["min_size"]
    return int(max(height, width))


def _from_torchvision(network: nn.Module, renamed: bool) -> tuple[nn.Module, Facts]:
    facts: Facts = {"mean": IMAGENET_MEAN, "std": IMAGENET_STD, "input_size": getattr(network, "image_size", None)}
    return network, facts | ({} if renamed else {"classes": _imagenet_classes()})


def _from_timm(network: nn.Module, renamed: bool) -> tuple[nn.Module, Facts]:
    pretrained: Any = network.pretrained_cfg
    facts: Facts = {"mean": pretrained["mean"], "std": pretrained["std"]}
    if pretrained.get("fixed_input_size"):
        facts["input_size"] = pretrained["input_size"][-1]
    named = not renamed and infer_imagenet_subset(network) == "imagenet-1k"
    return network, facts | ({"classes": _imagenet_classes()} if named else {})


def _imagenet_classes() -> list[str]:
    return list(ResNet50_Weights.DEFAULT.meta["categories"])
