"""Networks by name from torchvision and timm: `torchvision:resnet50`, `timm:convnext_tiny.fb_in1k`, with what their makers say.

Nothing is downloaded: weights come from a file, and without one the network is untrained. A network with ImageNet's own head has
published weights, so it sees what its maker showed it, size included; one with a head of the user's own was trained by the user,
at a size that only the user knows.
"""

from __future__ import annotations

from typing import Any

from torch import nn
from torchvision import models
from torchvision.models import get_model, get_model_weights, list_models

from cfx.checkpoint import Facts
from cfx.classifiers.class_names import imagenet_classes
from cfx.errors import UserError

HUBS = ("torchvision", "timm")
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
TRANSFORMS_INPUT = ("inception_v3", "googlenet")  # their published weights see [-1, 1], which they make of the usual input


def from_hub(hub: str, name: str, kwargs: dict[str, Any]) -> tuple[nn.Module, Facts]:
    """The network, and facts: mean, std, input_size (if it takes one size only, or has ImageNet's head), and that head's classes.

    Raises UserError if the hub has no such network, or for arguments that it does not take.
    """
    try:
        if "checkpoint_path" in kwargs:  # which timm reads itself
            raise ValueError("a file is given as `weights`")
        if hub == "timm":
            import timm  # a second, and few need it

            return _from_timm(timm.create_model(name, pretrained=False, **kwargs), kwargs)
        return _from_torchvision(name, kwargs)
    except (ValueError, RuntimeError, TypeError) as error:
        raise UserError(f"{hub} makes no {name!r} of {kwargs}: {error}; see its documentation for the names") from error


def least_side(module: str) -> int | None:
    """The side, pixels, of the smallest images that `torchvision:NAME` takes, as far as torchvision says so."""
    hub, _, name = module.partition(":")
    if hub != "torchvision" or name not in list_models(module=models):
        return None
    height, width = get_model_weights(name)["DEFAULT"].meta["min_size"]
    return int(max(height, width))


def _from_torchvision(name: str, kwargs: dict[str, Any]) -> tuple[nn.Module, Facts]:
    if name not in list_models(module=models):
        raise ValueError("torchvision has no classifier of that name")
    published = "num_classes" not in kwargs
    made = {"init_weights": False, "transform_input": published} if name in TRANSFORMS_INPUT else {}
    network = get_model(name, weights=None, **made | kwargs)
    facts, one_size = _shown(name), getattr(network, "image_size", None)
    if not published:
        return network, facts | Facts(input_size=one_size)
    return network, facts | Facts(input_size=one_size or facts["published_size"], classes=list(imagenet_classes()))


def _shown(name: str) -> Facts:
    """What the published weights of a torchvision network see."""
    preset = get_model_weights(name)["DEFAULT"].transforms()
    (side,), (whole,) = preset.crop_size, preset.resize_size
    crop = min(1.0, side / whole)
    return {"mean": tuple(preset.mean), "std": tuple(preset.std), "published_size": side, "published_crop": crop}


def _from_timm(network: nn.Module, kwargs: dict[str, Any]) -> tuple[nn.Module, Facts]:
    from timm.data import infer_imagenet_subset

    pretrained: Any = network.pretrained_cfg
    side = pretrained["input_size"][-1]
    facts: Facts = {"mean": pretrained["mean"], "std": pretrained["std"], "published_size": side}
    facts["published_crop"] = float(pretrained.get("crop_pct") or 1.0)
    named = "num_classes" not in kwargs and infer_imagenet_subset(network) == "imagenet-1k"
    if pretrained.get("fixed_input_size") or named:
        facts["input_size"] = kwargs.get("img_size", side)
    return network, facts | ({"classes": list(imagenet_classes())} if named else {})
