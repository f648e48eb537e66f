"""Latent text-to-image diffusion: any folder or hub id in Stable Diffusion's format, through diffusers. Needs the extra `sd`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from threading import Lock
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

from cfx.diffusion.pipeline_parts import quietly
from cfx.diffusion.pretrained import check_weights
from cfx.errors import UserError
from cfx.images import Size, height_and_width

if TYPE_CHECKING:  # diffusers and transformers are the extra `sd`
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

    from cfx.diffusion.folded import Folded

_TOKENIZING = Lock()  # a fast tokenizer keeps how it pads, for whatever thread calls it next


@dataclass
class LatentDiffusion:
    """A frozen Stable Diffusion: images (B, 3, H, W) in [-1, 1] to latents and back, the noise in a latent given a prompt."""

    tokenizer: Any  # CLIPTokenizer and CLIPTextModel, whose types say less than they can
    text_encoder: Any
    unet: UNet2DConditionModel
    vae: AutoencoderKL | Folded
    alphas_cumprod: Tensor  # (N,) float64
    prediction: str  # epsilon, v_prediction or sample

    @property
    def side(self) -> int:
        """Of the images that it draws, pixels."""
        return int(self.unet.config.sample_size) * 2 ** (len(self.vae.config.block_out_channels) - 1)

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return self.vae.device

    @torch.no_grad()
    def encode(self, x: Tensor) -> Tensor:
        """The mean of the latent of x (B, 3, H, W) in [-1, 1], scaled: (B, C, h, w). See `distribution`."""
        return self.distribution(x).mean * self.vae.config.scaling_factor

    def distribution(self, x: Tensor) -> DiagonalGaussianDistribution:
        """The Gaussian of the latent (B, C, h, w) of x (B, 3, H, W) in [-1, 1], before scaling.

        The model draws squares: x is padded with black to one, centred, and resampled to the model's side.
        """
        return self.vae.encode(in_a_square(x, self.side)).latent_dist

    @torch.no_grad()
    def decode(self, z: Tensor, size: Size) -> Tensor:
        """The image of a scaled latent (B, C, h, w): resampled to a square, of which the centre of this size is cut out.

        (B, 3, H, W) in [-1, 1]; size: the side of a square, or height and width, pixels.
        """
        return out_of_the_square(self.vae.decode(z.float() / self.vae.config.scaling_factor).sample, size)

    def token_ids(self, prompts: Sequence[str]) -> Tensor:
        """(B, L) token ids, padded to the text encoder's length. Raises UserError for a prompt that does not fit."""
        length = self.tokenizer.model_max_length
        with _TOKENIZING:
            longest = max(len(ids) for ids in self.tokenizer(list(prompts)).input_ids)
            if longest > length:
                raise UserError(f"a prompt takes {longest} tokens, but the text encoder reads {length}; use fewer words")
            tokens = self.tokenizer(list(prompts), padding="max_length", max_length=length, return_tensors="pt")
        return tokens.input_ids.to(self.device)

    def embed(self, prompts: Sequence[str]) -> Tensor:
        """The prompts as the UNet reads them, (B, L, D)."""
        return self.text_encoder(self.token_ids(prompts))[0]

    def noise(self, z: Tensor, t: int | Tensor, embedding: Tensor) -> Tensor:
        """The noise in latents z (B, C, h, w) at training step t, given embeddings (B, L, D); in z's precision, which the UNet
        does not see.
        """
        predicted = self.unet(z.to(embedding.dtype), t, encoder_hidden_states=embedding).sample.to(z.dtype)
        if self.prediction == "epsilon":
            return predicted
        level = self.alphas_cumprod[torch.as_tensor(t).cpu()].to(z).view(-1, 1, 1, 1)
        if self.prediction == "sample":
            return (z - level.sqrt() * predicted) / (1 - level).sqrt()
        return level.sqrt() * predicted + (1 - level).sqrt() * z  # of a velocity   (Salimans & Ho 2022, app. D)

    def guided(self, z: Tensor, t: int, towards: Tensor, away: Tensor, scale: float) -> Tensor:
        """eps(away) + scale (eps(towards) - eps(away)), both in one call of the UNet."""
        there, here = self.noise(torch.cat([z, z]), t, torch.cat([towards, away])).chunk(2)
        return here + scale * (there - here)


def in_a_square(x: Tensor, side: int) -> Tensor:
    """x (B, 3, H, W) in [-1, 1], padded with black to a square, centred, and resampled: (B, 3, side, side)."""
    top, left, longer = _margins(x.shape[-2], x.shape[-1])
    x = pad(x, (left, longer - x.shape[-1] - left, top, longer - x.shape[-2] - top), value=-1.0)
    return x if longer == side else interpolate(x, size=(side, side), mode="bilinear", antialias=True)


def out_of_the_square(x: Tensor, size: Size) -> Tensor:
    """What `in_a_square` made a square of: x (B, 3, S, S) resampled, and its centre of this size (a side, or height and width,
    pixels) cut out, clamped to [-1, 1]."""
    height, width = height_and_width(size)
    top, left, longer = _margins(height, width)
    if x.shape[-1] != longer:
        x = interpolate(x, size=(longer, longer), mode="bilinear", antialias=True)
    return x[..., top : top + height, left : left + width].clamp(-1, 1)


def _margins(height: int, width: int) -> tuple[int, int, int]:
    """Of an image in the middle of a square: rows above it, columns to its left, and the square's side."""
    longer = max(height, width)
    return (longer - height) // 2, (longer - width) // 2, longer


def load_latent(source: str, device: torch.device | str = "cpu") -> LatentDiffusion:
    """A pipeline in Stable Diffusion's format, float32, frozen: a local folder, a hub id such as CompVis/stable-diffusion-v1-4,
    or `portraits:text`, the small one that comes with cfx.

    Raises ImportError without the extra `sd`, FileNotFoundError where there is no such model and none can be downloaded,
    UserError for a model that predicts something else than noise, velocity or the clean latent, and for weights of the UNet that
    are missing, unexpected or not finite.
    """
    try:
        from diffusers import StableDiffusionPipeline, UNet2DConditionModel

        import cfx.diffusion.folded  # noqa: F401  (the bundled model's autoencoder; diffusers loads no module of ours by itself)
    except (ImportError, RuntimeError) as error:  # diffusers needs transformers for it
        raise ImportError(
            f"text-to-image models need transformers; install it with: pip install 'cfx-audit[sd]' ({error})"
        ) from error
    if source.startswith("portraits:"):
        source = str(files("cfx") / "weights" / "portraits" / source.removeprefix("portraits:"))
    try:
        with quietly():
            unet, found = UNet2DConditionModel.from_pretrained(
                source, subfolder="unet", low_cpu_mem_usage=False, output_loading_info=True
            )
            pipeline = StableDiffusionPipeline.from_pretrained(
                source, unet=unet, safety_checker=None, requires_safety_checker=False, low_cpu_mem_usage=False
            )
    except (OSError, ValueError) as error:
        way_out = "give a folder with model_index.json, or a hub id that this machine can download or has in its cache"
        raise FileNotFoundError(f"there is no text-to-image model {source!r}; {way_out} ({error})") from error
    check_weights(unet, found, f"{source}/unet")
    if not hasattr(pipeline.scheduler, "alphas_cumprod"):
        raise UserError(f"{source}: {type(pipeline.scheduler).__name__} is no scheduler of a DDPM, whose noise is needed")
    prediction = pipeline.scheduler.config.prediction_type
    if prediction not in ("epsilon", "v_prediction", "sample"):
        raise UserError(f"{source} predicts {prediction!r}; noise (epsilon), velocity (v_prediction) or `sample` is needed")
    for part in (pipeline.text_encoder, pipeline.unet, pipeline.vae):
        part.requires_grad_(False).eval().float().to(device)
    levels = pipeline.scheduler.alphas_cumprod.double()
    return LatentDiffusion(pipeline.tokenizer, pipeline.text_encoder, pipeline.unet, pipeline.vae, levels, prediction)
