"""Images between files and tensors: what is let in, how it is brought to size, and the lossless 8-bit round trip."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from cfx.errors import UserError

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "PPM")  # none of them runs a program to decode itself
MAX_PIXELS = 50_000_000  # an image with more is refused, unless a setting says otherwise
BYTES_PER_PIXEL = 8  # the most an uncompressed image of these formats takes: four channels of 16 bits
Size = int | tuple[int, int]  # the side of a square, or height and width, pixels
Image.init()  # registers every decoder now, so that no later `open` changes what Pillow knows


class Refused(UserError):
    """An image that is not let in. `reason` is one of unreadable, truncated, mode, too_small, too_large."""

    def __init__(self, reason: str, error: str) -> None:
        super().__init__(error)
        self.reason = reason


@dataclass(frozen=True)
class Decoded:
    """A decoded file: its upright width and height in pixels, and the PNG of its centre at the requested size."""

    width: int
    height: int
    png: bytes


def read_image(content: bytes, size: Size, max_pixels: int, min_side: int) -> Decoded:
    """Decode an image file and bring it to `size` (a square's side, or height and width) RGB, as an 8-bit PNG.

    The size is read from the header and refused before any pixel is decoded. EXIF orientation is applied; of an animation the
    first frame counts; the largest centred part of the wanted shape is kept and resampled by Lanczos with antialiasing (an image
    of the wanted size already keeps its exact pixels). Colour profiles are ignored. Modes: see `_rgb`. Raises Refused.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of sizes refused below, and of odd metadata that harms no pixel
        try:
            image = Image.open(io.BytesIO(content), formats=FORMATS)
        except Image.DecompressionBombError as error:
            raise Refused("too_large", f"{error} (at most {max_pixels:,} pixels are read)") from error
        except UnidentifiedImageError as error:
            raise Refused("unreadable", f"not an image in any of the formats {', '.join(FORMATS)}") from error
        except Exception as error:  # a broken header makes Pillow raise whatever its decoder stumbles on
            raise Refused("unreadable", f"{type(error).__name__}: {error}") from error
        width, height = image.size
        if width * height > max_pixels:
            raise Refused("too_large", f"{width} x {height} pixels, more than {max_pixels:,}")
        if min(width, height) < min_side:
            raise Refused("too_small", f"{width} x {height} pixels; each side needs {min_side}")
        try:
            image.load()
        except Exception as error:  # as above, for the body of the file
            reason = "truncated" if "truncated" in str(error).lower() else "unreadable"
            raise Refused(reason, f"{type(error).__name__}: {error}") from error
        upright = _upright(image)
        return Decoded(*upright.size, png_of(_centre(_rgb(upright), size)))


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # damaged EXIF says nothing of the orientation; viewers show such an image as it is stored, so do we
        return image


def _rgb(image: Image.Image) -> Image.Image:
    """The image as 8-bit RGB. Raises Refused for a mode whose colours need a profile or a scale that the file does not give.

    Let in: RGB, palette, grey and black-and-white; grey of 16 bits, rounded to 8; transparency, laid over white.
    Refused: CMYK and other ink or luminance spaces, 32-bit integers and floats.
    """
    if image.mode.startswith("I;16"):
        return Image.fromarray(np.rint(np.asarray(image, np.float64) / 257).astype(np.uint8)).convert("RGB")
    if image.mode not in ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX"):
        raise Refused("mode", f"colour mode {image.mode}; convert the file to RGB or grey")
    if image.has_transparency_data:
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


def height_and_width(size: Size) -> tuple[int, int]:
    """Pixels; a number is the side of a square."""
    return (size, size) if isinstance(size, int) else size


def _centre(image: Image.Image, size: Size) -> Image.Image:
    height, width = height_and_width(size)
    wide = max(1, min(image.width, image.height * width // height))
    high = max(1, min(image.height, image.width * height // width))
    left, top = (image.width - wide) // 2, (image.height - high) // 2
    centre = image.crop((left, top, left + wide, top + high))
    return centre if (wide, high) == (width, height) else centre.resize((width, height), Image.Resampling.LANCZOS)


def png_of(image: Image.Image) -> bytes:
    """The bytes of a PNG file, without any metadata, so that equal pixels give equal bytes."""
    buffer, bare = io.BytesIO(), image.copy()
    bare.info.clear()
    bare.save(buffer, "PNG")
    return buffer.getvalue()


def decode_png(png: Sequence[bytes]) -> Tensor:
    """PNG files of one size as a batch (B, 3, H, W), float32 in [-1, 1]: value v of 0 .. 255 becomes v / 127.5 - 1.

    Raises UserError for no file, or files of several sizes.
    """
    pixels = [np.array(Image.open(io.BytesIO(file), formats=("PNG",)).convert("RGB")) for file in png]
    if not pixels:
        raise UserError("no PNG to decode; a batch needs at least one image")
    sizes = sorted({p.shape[:2] for p in pixels})
    if len(sizes) > 1:
        raise UserError(f"images of several sizes (height, width) in one batch: {sizes}; bring them to one size first")
    return from_uint8(torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2))


def from_uint8(images: Tensor) -> Tensor:
    """(B, 3, H, W) uint8 as float32 in [-1, 1]: value v of 0 .. 255 becomes v / 127.5 - 1."""
    return images.float() / 127.5 - 1


def encode_png(x: Tensor) -> list[bytes]:
    """The inverse of `decode_png` for x (B, 3, H, W): clamped to [-1, 1] and rounded to the nearest of 256 values.

    A batch that lies on the 8-bit grid comes back exactly. Raises UserError for non-finite values.

    Examples:
        >>> x = torch.tensor([-1.0, 0.0, 1.0]).view(1, 3, 1, 1)
        >>> decode_png(encode_png(x)).flatten().tolist()  # 0 lies between two of the 256 values
        [-1.0, 0.003921627998352051, 1.0]
    """
    if not x.isfinite().all():
        raise UserError("an image with NaN or infinite values cannot be written as PNG")
    values = ((x.detach().float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return [png_of(Image.fromarray(pixels)) for pixels in values.permute(0, 2, 3, 1).cpu().numpy()]
