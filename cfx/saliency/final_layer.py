"""Where Grad-CAM looks: the last layer with places through which the image reaches the logits, and how places lie in it.

Found by running the network, not by its class. A layer covers the final features if cutting it leaves the image without any
influence, and if nothing with weights works on places after it. Where a class token goes past by the skips, as in a ViT, no late
layer covers all; there it is the last norm from whose places something still reaches the logits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torchvision.ops import Permute

from cfx.classifiers.torch_module import TorchClassifier
from cfx.errors import UserError
from cfx.networks.hit import HiT

POOLING = (nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)
FEATURELESS = (nn.Identity, nn.Flatten, nn.Linear, Permute, nn.modules.dropout._DropoutNd, *POOLING)  # they end none
MOST_PREFIX = 16  # tokens before those of places: class, distillation, registers
INSTEAD = "name one by `layer`, or use integrated_gradients"


class Grid(NamedTuple):
    """How places lie in a layer's output."""

    layout: Literal["channels first", "channels last", "tokens"]  # (B, D, h, w), (B, h, w, D), (B, prefix + h w, D)
    height: int
    width: int
    prefix: int = 0

    def maps(self, output: Tensor) -> Tensor:
        """The output's places as feature maps (B, D, h, w)."""
        if self.layout == "tokens":
            return output[:, self.prefix :].transpose(1, 2).unflatten(2, (self.height, self.width))
        return output if self.layout == "channels first" else output.movedim(-1, 1)

    def put(self, maps: Tensor, output: Tensor) -> Tensor:
        """The output with these maps for its places."""
        if self.layout == "tokens":
            return torch.cat([output[:, : self.prefix], maps.flatten(2).transpose(1, 2)], dim=1)
        return maps if self.layout == "channels first" else maps.movedim(1, -1)


class Watched(NamedTuple):
    """A layer that Grad-CAM can look at."""

    name: str
    grid: Grid


class _Step(NamedTuple):
    """A module that has run."""

    name: str
    module: nn.Module
    output: Tensor
    cuts: bool  # whether the image reaches the logits through this output alone
    grid: Grid | None
    gradient: Tensor | None  # of a mixture of the logits; None if the output does not reach them


def watched(classifier: TorchClassifier, layer: str | None, size: tuple[int, int]) -> Watched:
    """The layer of this name, or the final one, for images of (height, width).

    Raises UserError for a name that is not there or does not lead from places to the logits, or if there is no final layer.
    """
    steps = _steps(classifier, torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0)))
    network = classifier.network.module
    return _final(network, steps) if layer is None else _named(network, layer, steps)


def grid_of(shape: torch.Size, batch: int, image: tuple[int, int], prefix: int | None = None) -> Grid | None:
    """The places in an output of this shape, on an image of (height, width); None if it has at most one or none is beyond doubt.

    `prefix`: how many tokens come before those of places, if that is known.
    """
    if len(shape) not in (3, 4) or shape[0] != batch:
        return None
    if len(shape) == 3:
        return next(_token_grids(shape[1], image, prefix), None)
    found = [Grid("channels first", *shape[2:]), Grid("channels last", *shape[1:3])]
    fitting = [grid for grid in found if grid.height * grid.width > 1 and _distortion(grid, image) < 2]
    return min(fitting, key=lambda grid: _distortion(grid, image), default=None)


def _token_grids(tokens: int, image: tuple[int, int], prefix: int | None) -> Iterator[Grid]:
    for before in range(MOST_PREFIX + 1) if prefix is None else (prefix,):
        places = tokens - before
        height = round(max(0, places * image[0] / image[1]) ** 0.5)
        width = places // height if height else 0
        if height * width == places > 1 and height * image[1] == width * image[0]:
            yield Grid("tokens", height, width, before)


def _distortion(grid: Grid, image: tuple[int, int]) -> float:
    """By which factor the places' cells are longer one way than the other; infinite for more places than pixels."""
    if grid.height > image[0] or grid.width > image[1]:
        return float("inf")
    ratio = grid.height * image[1] / (grid.width * image[0])
    return max(ratio, 1 / ratio)


def _final(network: nn.Module, steps: list[_Step]) -> Watched:
    for at, step in reversed(list(enumerate(steps))):
        if step.grid is None or isinstance(step.module, FEATURELESS) or not _reaches(step):
            continue
        if isinstance(network, HiT) and step.module is network.layers()[-1].ln_1:  # the sum of its class token goes past all
            return Watched(step.name, step.grid)
        if sum(other.name == step.name for other in steps) > 1:
            continue
        if step.grid.prefix and "norm" in type(step.module).__name__.lower() and _all_pass(steps[:at], step.grid):
            return Watched(step.name, step.grid)
        if step.cuts:
            if late := next((later.name for later in steps[at + 1 :] if _works_on_places(later)), None):
                reason = f"all pass {step.name!r}, but {late!r} and others still work on places after it"
                raise UserError(f"{type(network).__name__} has no layer that covers the final features: {reason}; {INSTEAD}")
            return Watched(step.name, step.grid)
    raise UserError(f"{type(network).__name__} has no layer with places that all of the image passes; {INSTEAD}")


def _all_pass(before: list[_Step], grid: Grid) -> bool:
    """Whether all of the image passed the same places before: there is no other branch of the network."""
    same = (step for step in before if step.grid is not None and step.grid[1:3] == grid[1:3])
    return any(step.cuts for step in same)


def _named(network: nn.Module, layer: str, steps: list[_Step]) -> Watched:
    kind = type(network).__name__
    try:
        network.get_submodule(layer)
    except AttributeError as error:
        raise UserError(f"layer {layer!r} is not in the {kind}: {error}; give a name of named_modules()") from None
    runs = [step for step in steps if step.name == layer]
    if not runs:
        raise UserError(f"layer {layer!r} does not run when the {kind} answers; give another")
    found = [step for step in runs if step.grid is not None]
    if len(found) != 1 or found[0].grid is None:
        shapes = ", ".join(str(tuple(step.output.shape)) for step in runs)
        raise UserError(f"layer {layer!r} of the {kind} has no places to look at, or more than once: it gives {shapes}")
    if not _reaches(found[0]):
        raise UserError(f"nothing that layer {layer!r} of the {kind} says of places reaches its logits; give an earlier one")
    return Watched(layer, found[0].grid)


def _steps(classifier: TorchClassifier, x: Tensor) -> list[_Step]:
    """Every module of the network that gives a tensor with a gradient, in the order in which they finish."""
    network = classifier.network.module
    x = x.to(classifier.network.gain.device).requires_grad_()
    ran: list[tuple[str, nn.Module, Tensor, object]] = []
    shown: list[Tensor] = []

    def keep(name: str, module: nn.Module, output: object) -> None:
        if isinstance(output, Tensor) and output.requires_grad:
            ran.append((name, module, output, output.grad_fn))  # what works in place later gives the tensor another one

    handle = network.register_forward_pre_hook(lambda module, args: shown.append(args[0]))
    try:
        with _hooked(network, keep), torch.enable_grad():
            logits = classifier(x)
            mixture = (logits * torch.randn(logits.shape[1], generator=torch.Generator().manual_seed(1)).to(logits)).sum()
    finally:
        handle.remove()
    if not mixture.requires_grad:
        return []
    outputs = [output for *_, output, _ in ran]
    gradients = torch.autograd.grad(mixture, outputs, allow_unused=True, retain_graph=True) if outputs else ()
    image, prefix = (shown[0].shape[-2], shown[0].shape[-1]), getattr(network, "num_prefix_tokens", None)
    return [
        _Step(name, module, out, _cuts(node, mixture.grad_fn, x), grid_of(out.shape, len(x), image, prefix), gradient)
        for (name, module, out, node), gradient in zip(ran, gradients, strict=True)
    ]


def _cuts(node: object, root: Any, x: Tensor) -> bool:
    """Whether every way from `root` to the image x, back along autograd's graph, goes through `node`."""
    left, seen = [root], {node}
    while left:
        at = left.pop()
        if getattr(at, "variable", None) is x:
            return False
        ahead = [parent for parent, _ in at.next_functions if parent is not None and parent not in seen]
        seen.update(ahead)
        left += ahead
    return True


@contextmanager
def _hooked(network: nn.Module, keep: Callable[[str, nn.Module, object], None]) -> Iterator[None]:
    handles = [
        module.register_forward_hook(lambda module, args, output, name=name: keep(name, module, output))
        for name, module in network.named_modules()
        if name and not isinstance(module, torch.jit.ScriptModule)  # which takes no hook
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _reaches(step: _Step) -> bool:
    """Whether what a module says of places reaches the logits; of a class token's layers only that of the token may."""
    if step.gradient is None or step.grid is None:
        return False
    return step.grid.prefix == 0 or bool(step.grid.maps(step.gradient).any())


def _works_on_places(step: _Step) -> bool:
    """Whether a layer with weights that has more than one place reaches the logits from them. A linear layer leaves each place
    to itself: attention that pools has those."""
    if step.gradient is None or next(step.module.children(), None) is not None:
        return False
    if isinstance(step.module, nn.Linear) and step.grid is not None:
        return False
    weighs = any(weight.ndim > 1 for weight in step.module.parameters(recurse=False))
    several = sum(side > 1 for side in step.output.shape[1:]) > 1
    return weighs and several and (_reaches(step) if step.grid is not None else bool(step.gradient.any()))
