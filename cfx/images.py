"""Images between files and tensors: what is let in, how it is brought to size, and the lossless 8-bit round trip."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.ImageFile import ImageFile
from pillow_heif import register_heif_opener
from torch import Tensor

from cfx.depth import Depth, Refused, check_colours, depth_of, grey_of
from cfx.errors import UserError

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "HEIF", "AVIF")  # none runs a program to decode itself
MAX_PIXELS = 50_000_000  # an image with more is refused, unless a setting says otherwise
MANY = 2**20  # bytes of PNG that are decoded on several threads
LARGEST_SIDE = 2**14  # pixels that a network or an audit may ask for
BYTES_PER_PIXEL = 8  # the most an uncompressed image of these formats takes: four channels of 16 bits
Size = int | tuple[int, int]  # the side of a square, or height and width, pixels
Resample = Literal["lanczos", "bilinear", "bicubic", "area"]
_FILTERS: dict[Resample, Image.Resampling] = {
    "lanczos": Image.Resampling.LANCZOS,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "area": Image.Resampling.BOX,
}
Image.init()  # registers every decoder now, so that no later `open` changes what Pillow knows
register_heif_opener()
SUFFIXES = frozenset(end for end, name in Image.registered_extensions().items() if name in (*FORMATS, "MPO"))
HEAD = 32  # bytes of a file by which `is_image` knows it
_SUBFILE = 254  # tag of TIFF: what kind of page (Adobe, TIFF 6.0, section 8)
_WHY = {  # colour modes that are refused
    "CMYK": "inks of a printer, whose colours need a profile",
    "F": "32-bit floats, whose black and white the file does not give",
    "I": "signed or 32-bit integers, whose black and white the file does not give",
}


@dataclass(frozen=True)
class Decoded:
    """A decoded file: its upright width and height in pixels, and the PNG of its centre at the requested size."""

    width: int
    height: int
    png: bytes
    pages: int = 1  # of a TIFF, of which the first counts


def is_image(head: bytes) -> bool:
    """Whether a file that begins with these bytes (HEAD of them) is in one of FORMATS, whatever it is called."""
    return _format_of(head) is not None


def _format_of(head: bytes) -> str | None:
    accepts = ((name, Image.OPEN[name][1]) for name in FORMATS)
    return next((name for name, accept in accepts if accept is not None and accept(head) is True), None)


def read_image(
    content: bytes, size: Size, max_pixels: int, min_side: int, bits: int | None = None, resample: Resample = "lanczos"
) -> Decoded:
    """Decode an image file and bring it to `size` (a square's side, or height and width) RGB, as an 8-bit PNG.

    The size is read from the header and refused before any pixel is decoded. EXIF orientation is applied; of an animation the
    first frame counts, of a TIFF the first page; the largest centred part of the wanted shape is kept and resampled with
    antialiasing (an image of the wanted size already keeps its exact pixels). Colour profiles and gamma are ignored. Modes:
    see `_rgb`. `bits`: how many of 16 bits are used, where files do not say it (cfx/depth.py). Raises Refused.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of sizes refused below, and of odd metadata that harms no pixel
        try:
            file = Image.open(io.BytesIO(content), formats=FORMATS)
        except Image.DecompressionBombError as error:
            raise Refused("too_large", f"{error} (at most {max_pixels:,} pixels are read)") from error
        except UnidentifiedImageError as error:
            raise Refused("unreadable", _unidentified(_format_of(content[:HEAD]))) from error
        except Exception as error:  # a broken header makes Pillow raise whatever its decoder stumbles on
            raise Refused("unreadable", f"{type(error).__name__}: {error}") from error
        _check_size(file, max_pixels, min_side)
        pages = _pages(file)
        depth = depth_of(file, content)
        try:
            file.load()
        except Exception as error:  # as above, for the body of the file
            reason = "truncated" if "truncated" in str(error).lower() else "unreadable"
            raise Refused(reason, f"{type(error).__name__}: {error}") from error
        _check_size(file, max_pixels, min_side)  # a HEIF or TIFF can hold another size than its header says
        upright = _upright(file)
        if file.format == "BMP" and file.mode == "RGBA" and not upright.getchannel("A").getextrema()[1]:
            upright = upright.convert("RGB")  # a fourth byte that nobody filled in is no transparency
        return Decoded(*upright.size, png_of(_centre(_rgb(upright, depth, bits), size, resample)), pages)


def _unidentified(kind: str | None) -> str:
    if kind is None:
        return f"not an image in any of the formats {', '.join(FORMATS)}"
    return f"begins as {kind}, but is broken or of a kind that is not read; save it as RGB or grey of 8 bits"


def _check_size(image: Image.Image, max_pixels: int, min_side: int) -> None:
    width, height = image.size
    if width * height > max_pixels:
        raise Refused("too_large", f"{width} x {height} pixels, more than {max_pixels:,}")
    if min(width, height) < min_side:
        raise Refused("too_small", f"{width} x {height} pixels; each side needs {min_side}")


def _pages(image: ImageFile) -> int:
    """Pages of a TIFF. Raises Refused where the first is a small copy of another, as in the raw files of cameras."""
    if image.format != "TIFF":
        return 1
    if int(image.tag_v2.get(_SUBFILE, 0)) & 1:  # type: ignore[attr-defined]
        raise Refused("mode", "a TIFF whose first page is a small copy of another, as in raw files of cameras; export it as JPEG")
    try:
        return int(getattr(image, "n_frames", 1))
    except Exception:  # a later page is damaged, which is no matter to the first
        return 1


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # damaged EXIF says nothing of the orientation; viewers show such an image as it is stored, so do we
        return image


def _rgb(image: Image.Image, depth: Depth, bits: int | None) -> Image.Image:
    """The image as 8-bit RGB. Raises Refused for a mode whose colours need a profile or a scale that the file does not give.

    Let in: RGB, palette, grey and black-and-white; grey of 16 bits, rounded to 8; transparency, laid over white.
    Refused: CMYK and other ink or luminance spaces, 32-bit integers and floats; what is transparent all over.
    """
    if image.mode.startswith("I;16") or (image.mode == "I" and depth.unsigned):
        return grey_of(image, depth, bits).convert("RGB")
    if image.mode not in ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX"):
        why = _WHY.get(image.mode)
        raise Refused(
            "mode", f"colour mode {image.mode}{f', {why}' if why else ''}; convert the file to RGB or grey, 8 bits each"
        )
    check_colours(image, depth, bits)
    if image.has_transparency_data:
        return _over_white(image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


def _over_white(image: Image.Image) -> Image.Image:
    if not image.getchannel("A").getextrema()[1]:
        raise Refused("transparent", "transparent all over, so it shows nothing; save it without transparency")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)


def height_and_width(size: Size) -> tuple[int, int]:
    """Pixels; a number is the side of a square."""
    return (size, size) if isinstance(size, int) else size


def _centre(image: Image.Image, size: Size, resample: Resample) -> Image.Image:
    height, width = height_and_width(size)
    wide = max(1, min(image.width, image.height * width // height))
    high = max(1, min(image.height, image.width * height // width))
    left, top = (image.width - wide) // 2, (image.height - high) // 2
    centre = image.crop((left, top, left + wide, top + high))
    return centre if (wide, high) == (width, height) else centre.resize((width, height), _FILTERS[resample])


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
    if sum(map(len, png)) < MANY:
        pixels = [_pixels(file) for file in png]
    else:
        with ThreadPoolExecutor() as pool:
            pixels = list(pool.map(_pixels, png))
    if not pixels:
        raise UserError("no PNG to decode; a batch needs at least one image")
    sizes = sorted({p.shape[:2] for p in pixels})
    if len(sizes) > 1:
        raise UserError(f"images of several sizes (height, width) in one batch: {sizes}; bring them to one size first")
    return from_uint8(torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2))


def _pixels(png: bytes) -> NDArray[np.uint8]:
    return np.array(Image.open(io.BytesIO(png), formats=("PNG",)).convert("RGB"))


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
    return [png_of_pixels(pixels) for pixels in to_uint8(x).cpu()]


def to_uint8(x: Tensor) -> Tensor:
    """The inverse of `from_uint8`, where x is: x (B, 3, H, W) clamped to [-1, 1] and rounded to the nearest of 256 values.

    Raises UserError for non-finite values.
    """
    if not x.isfinite().all():
        raise UserError("an image with NaN or infinite values cannot be written as PNG")
    return ((x.detach().float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def png_of_pixels(pixels: Tensor) -> bytes:
    """The PNG file of one image (3, H, W) uint8, on a CPU."""
    return png_of(Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy()))
