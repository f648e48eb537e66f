"""Saliency: where in the image the evidence for a class lies, by the classifier's own account or by attribution methods.

A map is (B, h, w), on the method's own grid, larger where more speaks for the class: a grid of patches for transformers, of
features for Grad-CAM, of pixels for integrated gradients. Every method explains one number, the one that guides counterfactuals:
the log-odds of two classes, else the target's logit.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad

from cfx.classifiers.network import Network
from cfx.classifiers.torch_module import TorchClassifier
from cfx.errors import UserError
from cfx.guidance import class_loss
from cfx.networks.hit import HiT
from cfx.saliency.final_layer import watched
from cfx.types import Config

MapName = Literal["hit", "rollout", "grad_cam", "grad_cam++", "integrated_gradients"]


class Saliency(Config):
    """Which map, and its settings."""

    map: MapName = Field(description="hit and rollout need a transformer; the others take any torch classifier")
    layer: str | None = Field(
        None, description="for Grad-CAM: dotted name of the layer; default: the last that covers the final features"
    )
    steps: int = Field(32, ge=1, description="for integrated gradients: points along the way from grey to the image")


def saliency(classifier: TorchClassifier, x: Tensor, target: Tensor, config: Saliency) -> Tensor:
    """A map (B, h, w) of what speaks for class `target` (B,) in x (B, 3, H, W) in [-1, 1].

    Raises UserError if the classifier's network cannot have that map, or has no such layer.
    """
    match config.map:
        case "integrated_gradients":
            return integrated_gradients(classifier, x, target, config.steps)
        case "hit":
            found = hit_map(classifier, x, target)
        case "rollout":
            found = rollout(classifier, x)
        case "grad_cam":
            found = grad_cam(classifier, x, target, config.layer)
        case "grad_cam++":
            found = grad_cam_plus_plus(classifier, x, target, config.layer)
    return found if classifier.network.crop == 1 else _on_the_image(found, classifier.network, x)


def _on_the_image(found: Tensor, network: Network, x: Tensor) -> Tensor:
    """A map (B, h, w) of the part of x that the network sees, as one of x (B, H, W): 0 where it does not look."""
    seen = network.centre(torch.ones_like(x[:1, :1]))
    height, width = seen.shape[-2:]
    inside = interpolate(found[:, None], size=(height, width), mode="bilinear")[:, 0]
    top, left = (x.shape[-2] - height) // 2, (x.shape[-1] - width) // 2
    return pad(inside, (left, x.shape[-1] - width - left, top, x.shape[-2] - height - top))


def maps_for(classifier: TorchClassifier) -> tuple[MapName, ...]:
    """The maps this classifier can have, its own account first."""
    own: dict[type[nn.Module], tuple[MapName, ...]] = {HiT: ("hit", "rollout"), **dict.fromkeys(_vit(), ("rollout",))}
    return (*own.get(type(classifier.network.module), ()), "grad_cam", "grad_cam++", "integrated_gradients")


def _vit() -> tuple[type[nn.Module], ...]:
    """timm's VisionTransformer; none where nobody has imported timm, which takes a second: then no network is one."""
    module = sys.modules.get("timm.models.vision_transformer")
    return () if module is None else (module.VisionTransformer,)


def default_map(classifier: TorchClassifier, size: tuple[int, int]) -> Saliency:
    """A HiT's own account; Grad-CAM for another network whose final layer has places in images of (height, width); integrated
    gradients for one that has none."""
    if isinstance(classifier.network.module, HiT):
        return Saliency(map="hit")
    try:
        watched(classifier, None, size)
    except UserError:
        return Saliency(map="integrated_gradients")
    return Saliency(map="grad_cam")


def check_map(classifier: TorchClassifier, config: Saliency, size: tuple[int, int]) -> None:
    """Raises UserError if Grad-CAM has no layer to look at in images of (height, width), or not of that name."""
    if config.map.startswith("grad_cam"):
        watched(classifier, config.layer, size)


@torch.no_grad()
def hit_map(classifier: TorchClassifier, x: Tensor, target: Tensor, empty: Tensor | None = None) -> Tensor:
    """HiT's own contributions (B, h, w), exact: they add up to the explained number, less the bias of the head.

    x: (B, 3, H, W) in [-1, 1]; target: (B,) class ids. Raises UserError for another network.

    With `empty`, shaped like x, what each place contributes above what it does in that image: the sum is then the difference
    between the explained numbers of the two.
    """
    if empty is not None:
        return hit_map(classifier, x, target) - hit_map(classifier, empty, target)
    network = classifier.network.module
    if not isinstance(network, HiT):
        raise UserError(f"map 'hit' needs a HiT, but the network is a {type(network).__name__}; use {_or(maps_for(classifier))}")
    patches = network.contributions(_input_of(classifier, network, x)).patches
    if classifier.head == "sigmoid":
        log_odds = patches[:, [classifier.output or 0]]
        patches = torch.cat([torch.zeros_like(log_odds), log_odds], dim=1)
    batch, _, height, width = patches.shape
    places = patches.permute(0, 2, 3, 1).flatten(0, 2)  # one row of K logits a place
    return -class_loss(places, target.repeat_interleave(height * width), "logit").view(batch, height, width)


@torch.no_grad()
def rollout(classifier: TorchClassifier, x: Tensor) -> Tensor:
    """Where attention flows to from the class token (Abnar and Zuidema 2020, arXiv:2005.00928); the same for every class.

    In a HiT tokens do not mix, so it is the mean attention over heads and layers, as in the thesis. Raises UserError for a
    network that is neither a HiT nor timm's VisionTransformer.
    """
    network = classifier.network.module
    if isinstance(network, HiT):
        walked = list(network.walk(_input_of(classifier, network, x)))
        looked = torch.stack([network.spread(attended.weights.mean(1)[..., None])[..., 0] for attended in walked]).mean(0)
        return looked.unflatten(1, (network.shape.side, network.shape.side))
    if not isinstance(network, _vit()):
        usable = _or(maps_for(classifier))
        raise UserError(f"map 'rollout' needs a HiT or timm's VisionTransformer, not a {type(network).__name__}; use {usable}")
    with _attention(network) as seen:
        classifier(x)
    flow = torch.eye(seen[0].shape[-1], device=x.device)
    for attention in seen:
        flow = 0.5 * (attention.mean(1) + torch.eye(attention.shape[-1], device=x.device)) @ flow  # half goes by the skip
    vit: Any = network
    return flow[:, 0, vit.num_prefix_tokens :].unflatten(1, vit.patch_embed.grid_size)


def integrated_gradients(classifier: TorchClassifier, x: Tensor, target: Tensor, steps: int = 32) -> Tensor:
    """Integrated gradients from mid-grey (Sundararajan et al. 2017, arXiv:1703.01365), by captum, summed over channels."""
    from captum.attr import IntegratedGradients  # imports matplotlib: seconds that only its users should pay

    method = IntegratedGradients(_explained(classifier))
    given = x.detach().requires_grad_()
    parts = method.attribute(given, 0.0, additional_forward_args=(target,), n_steps=steps, internal_batch_size=max(64, len(x)))
    return parts.sum(1).detach().to(x.dtype)


def grad_cam(classifier: TorchClassifier, x: Tensor, target: Tensor, layer: str | None = None) -> Tensor:
    """Grad-CAM (Selvaraju et al. 2017, arXiv:1610.02391), by captum."""
    from captum.attr import LayerGradCam

    with _as_features(classifier, layer, (x.shape[-2], x.shape[-1])) as features:
        method = LayerGradCam(_explained(classifier), features)
        cam = method.attribute(x.detach().requires_grad_(), additional_forward_args=target, relu_attributions=True)
    return cam[:, 0].detach()


def grad_cam_plus_plus(classifier: TorchClassifier, x: Tensor, target: Tensor, layer: str | None = None) -> Tensor:
    """Grad-CAM++ (Chattopadhay et al. 2018, arXiv:1710.11063), on captum's activations and gradients.

    Of exp(s), s the explained number, all derivatives are powers of the gradient g, so the paper's alpha is 1 / (2 + g sum A).
    Only g > 0 counts. The sum of the features A is taken as 0 where it is negative, which after the paper's ReLU it never is.
    """
    from captum.attr import LayerActivation, LayerGradientXActivation

    explained, given = _explained(classifier), x.detach().requires_grad_()
    with _as_features(classifier, layer, (x.shape[-2], x.shape[-1])) as features:
        activation = LayerActivation(explained, features).attribute(given, additional_forward_args=target)
        gradients = LayerGradientXActivation(explained, features, multiply_by_inputs=False)
        gradient = gradients.attribute(given, additional_forward_args=target).relu()
    alpha = 1 / (2 + gradient * activation.sum((2, 3), keepdim=True).relu())
    weights = (alpha * gradient).sum((2, 3), keepdim=True)
    return (weights * activation).sum(1).relu().detach()


@contextmanager
def _as_features(classifier: TorchClassifier, layer: str | None, size: tuple[int, int]) -> Iterator[nn.Module]:
    """A module through which the layer's places pass as feature maps (B, D, h, w), for captum to watch."""
    name, grid = watched(classifier, layer, size)
    features = nn.Identity()

    def pass_through(module: nn.Module, args: object, output: Tensor) -> Tensor:
        if output.ndim != (3 if grid.layout == "tokens" else 4):
            return output  # HiT's norm also sees its class token
        return grid.put(features(grid.maps(output)), output).clone()  # what follows may work in place

    handle = classifier.network.module.get_submodule(name).register_forward_hook(pass_through)
    try:
        yield features
    finally:
        handle.remove()


@contextmanager
def _attention(network: nn.Module) -> Iterator[list[Tensor]]:
    """The attention (B, H, n, n) of every layer, in a list that fills while the network runs.

    It is worked out from queries and keys on their way, since timm's fused kernel never writes it down.
    """
    from timm.layers.attention import Attention

    seen: list[Tensor] = []
    handles = []
    for layer in (module for module in network.modules() if isinstance(module, Attention)):
        queries: list[Tensor] = []

        def keep(module: nn.Module, args: object, query: Tensor, queries: list[Tensor] = queries) -> None:
            queries.append(query)

        def attend(
            module: nn.Module, args: object, key: Tensor, layer: Attention = layer, queries: list[Tensor] = queries
        ) -> None:
            seen.append((queries.pop() * layer.scale @ key.transpose(-2, -1)).softmax(-1))

        handles += [layer.q_norm.register_forward_hook(keep), layer.k_norm.register_forward_hook(attend)]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _input_of(classifier: TorchClassifier, network: nn.Module, x: Tensor) -> Tensor:
    """What the network itself gets to see when the classifier is shown x."""
    seen: list[Tensor] = []
    handle = network.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    try:
        classifier(x)
    finally:
        handle.remove()
    return seen[0]


def _explained(classifier: TorchClassifier) -> Callable[[Tensor, Tensor], Tensor]:
    """The number that every map explains, (B,), larger for more of the target."""

    def explained(x: Tensor, target: Tensor) -> Tensor:
        return -class_loss(classifier(x), target, "logit")

    return explained


def _or(names: tuple[str, ...]) -> str:
    return ", ".join(names[:-1]) + " or " + names[-1]
