"""Methods in the latent space of a prior: the image is encoded, its latent moved, and the result decoded and laid on the image.

A method stays the same loop. Its x, z and clean estimate are latents (B, C, h, w), its noise and its pull towards the input are
of latents, its masks choose positions of a latent; whatever looks at images (the classifier, a perceptual distance) is shown what
the decoder makes of the latent it is given, and is differentiated through the decoder   (LDCE, Farid et al. 2023,
arXiv:2310.06668, sec. 3).

An autoencoder gives no image back exactly. So that its loss is not taken for the explanation:

- where a latent is the input's own, the classifier is shown the input, and not its reconstruction;
- outside a method's mask the result is the input, pixel by pixel, pasted as by RCSB (arXiv:2410.12591);
- the null run is encoded and decoded as well, and how far that alone moves the image is measured (`drift`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d
from torch.utils.checkpoint import checkpoint

from cfx.diffusion.latent_model import Autoencoder
from cfx.guidance import seen
from cfx.types import Classifier, Config, Counterfactual, Denoiser

LARGE = 256 * 256  # pixels of an image from which on a batch is decoded one by one where a gradient is taken
LOOKS = ("robust", "perceptual")  # a method's extras that are shown images


class Decoded:
    """A network of images that is shown latents z (B, C, h, w): of the image x (B, 3, H, W) where z is the latent of x, elsewhere
    of what the decoder draws. Its gradient goes through the decoder everywhere.
    """

    def __init__(self, network: Any, autoencoder: Autoencoder, x: Tensor, latent: Tensor) -> None:
        self.network, self.autoencoder, self.x, self.latent = network, autoencoder, x, latent

    @property
    def classes(self) -> tuple[str, ...]:
        return cast(Classifier, self.network).classes

    @property
    def differentiable(self) -> bool:
        return cast(Classifier, self.network).differentiable

    def __call__(self, z: Tensor) -> Tensor:
        """What the network says of the images that latents z stand for."""
        answer: Tensor = self.network(self.image(z))
        return answer

    def seen(self, z: Tensor) -> tuple[Classifier, Tensor]:
        """The network itself, and the images that it sees for latents z."""
        return seen(self.network, self.image(z))

    def image(self, z: Tensor) -> Tensor:
        """The images (B, 3, H, W) that latents z stand for; not clamped."""
        drawn = decoded(self.autoencoder, z)
        moved = enlarged((z != self.latent).any(1, keepdim=True), self.x)
        return torch.where(moved, drawn, self.x + (drawn - drawn.detach()))


def decoded(autoencoder: Autoencoder, z: Tensor) -> Tensor:
    """The images of latents z (B, C, h, w). Of large ones that are differentiated through, the decoder's activations are kept for
    one at a time, and computed again for the backward pass."""
    pixels = z.shape[-2] * z.shape[-1] * autoencoder.factor**2
    if len(z) == 1 or pixels < LARGE or not (z.requires_grad and torch.is_grad_enabled()):
        return autoencoder.decode(z)
    parts = [checkpoint(autoencoder.decode, one, use_reentrant=False, preserve_rng_state=False) for one in z.split(1)]
    return torch.cat(cast(list[Tensor], parts))


def in_latent_space(
    method: Callable[..., Counterfactual], denoiser: Denoiser, classifier: Classifier, *, x: Tensor, config: Config, **others: Any
) -> Counterfactual:
    """What a method finds for x (B, 3, H, W) in [-1, 1] in the latent space of a prior over latents; sides that are multiples of
    its autoencoder's factor.

    A length in pixels among the method's settings (dilation) becomes one in positions of a latent. Its mask comes back in
    pixels, each position as the pixels it stands for; a given `mask` (B, 1, H, W) may change a position where it touches one.
    Where the mask is 0, x_cf is x, bit by bit.
    """
    autoencoder: Autoencoder = denoiser.autoencoder  # type: ignore[attr-defined]
    latent = autoencoder.encode(x)
    for name in LOOKS:
        if others.get(name) is not None:
            others[name] = Decoded(others[name], autoencoder, x, latent)
    if others.get("mask") is not None:
        others["mask"] = max_pool2d(others["mask"], autoencoder.factor)
    shown = Decoded(classifier, autoencoder, x, latent)
    found = method(denoiser, shown, x=latent, config=in_positions(config, autoencoder.factor), **others)
    drawn = decoded(autoencoder, found.x_cf).clamp(-1, 1)
    if found.mask is None:
        return Counterfactual(drawn, None)
    mask = enlarged(found.mask, x)
    return Counterfactual(torch.where(mask > 0, mask * drawn + (1 - mask) * x, x), mask)


def in_positions(config: Config, factor: int) -> Config:
    """A method's settings with its lengths in pixels as those in positions of a latent: a mask that grows by a square grows by
    all positions that the square touches.

    Examples:
        >>> from cfx.methods.maskdime import MaskDiME
        >>> [in_positions(MaskDiME(dilation=side), 4).dilation for side in (1, 5, 9, 15)]
        [1, 3, 3, 5]
    """
    dilation = getattr(config, "dilation", None)
    return config if dilation is None else config.model_copy(update={"dilation": 2 * math.ceil((dilation - 1) / 2 / factor) + 1})


def enlarged(mask: Tensor, x: Tensor) -> Tensor:
    """A mask (B, 1, h, w) of a latent's positions as one of the pixels of x (B, 3, H, W), (B, 1, H, W)."""
    down, across = x.shape[-2] // mask.shape[-2], x.shape[-1] // mask.shape[-1]
    return mask.repeat_interleave(down, dim=-2).repeat_interleave(across, dim=-1)


def drift(autoencoder: Autoencoder, x: Tensor) -> Tensor:
    """How far encoding and decoding alone moves x (B, 3, H, W) in [-1, 1]: mean |difference| an image, on [0, 1]; (B,)."""
    with torch.no_grad():
        back = autoencoder.decode(autoencoder.encode(x)).clamp(-1, 1)
    return (back - x).abs().flatten(1).mean(1) / 2
