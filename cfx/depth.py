"""Images of more than 8 bits a channel: which value is white, as the file or the user says it.

10, 12 or 14 bits of a camera are often stored in 16 without a word of it. Such an image looks like a dark one, and one image
alone does not tell the two apart: so it is refused until somebody says which it is.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image
from PIL.ImageFile import ImageFile

from cfx.errors import UserError

WHITE = 2**16 - 1
DARK = 2**14  # 16 bits of which none is this bright may as well be 14 or fewer
_BITS, _PHOTOMETRIC, _PLANAR = 258, 262, 284  # tags of TIFF (Adobe, TIFF 6.0, section 8)


class Refused(UserError):
    """An image that is not let in.

    `reason` is one of unreadable, truncated, mode, depth, transparent, too_small, too_large.
    """

    def __init__(self, reason: str, error: str) -> None:
        super().__init__(error)
        self.reason = reason


class Depth(NamedTuple):
    """How an image is stored, which Pillow knows before its pixels are decoded, and only then."""

    unsigned: bool  # a PGM, which Pillow reads as 32-bit integers
    scaled: bool  # to all 16 bits, by Pillow: a PGM says its own maximum
    coloured: bool  # 16-bit colour or grey with transparency, of which Pillow keeps the upper 8 bits
    bits: int | None  # as a TIFF says, if fewer than 16
    significant: int | None  # as a PNG's sBIT says
    inverted: bool  # 0 is white
    planar: bool  # a TIFF of one plane after another


def depth_of(image: ImageFile, content: bytes) -> Depth:
    """Read off an image that is open and not yet loaded, and its file."""
    raw, is_ppm = str(image.tile[0].args) if image.tile else "", image.format == "PPM"
    tags = getattr(image, "tag_v2", {})
    stored = max(tags.get(_BITS, (8,)))
    wide = ";16" in raw or (is_ppm and str(WHITE) in raw) or stored > 8
    return Depth(
        unsigned=is_ppm,
        scaled=is_ppm and not wide,
        coloured=wide and image.mode in ("RGB", "RGBA", "LA"),
        bits=stored if 8 < stored < 16 else None,
        significant=_significant(content) if image.format == "PNG" else None,
        inverted=tags.get(_PHOTOMETRIC) == 0,
        planar=tags.get(_PLANAR) == 2 and stored > 8,
    )


def grey_of(image: Image.Image, depth: Depth, bits: int | None) -> Image.Image:
    """16-bit grey (mode I;16, or I of a PGM) as 8-bit grey: value v becomes 255 v / white, rounded. Raises Refused."""
    values = np.asarray(image, np.float64)
    white = _white(values, depth, bits)
    if depth.inverted:  # Pillow inverts no more than 8 bits
        values = white - values
    grey = np.rint(values * (255 / white)).astype(np.uint8)
    clear = image.info.get("transparency")
    if isinstance(clear, int):  # one value of a PNG stands for "nothing here": white, as all transparency
        grey[np.asarray(image) == clear] = 255
    return Image.fromarray(grey)


def check_colours(image: Image.Image, depth: Depth, bits: int | None) -> None:
    """Raises Refused for 16-bit colours, of which the upper 8 bits were kept, that may not use them."""
    if depth.planar:
        raise Refused("mode", "more than 8 bits in separate planes; convert the file to 8 bits a channel")
    if not depth.coloured or bits == 16:
        return
    brightest = int(np.asarray(image)[..., : 1 if image.mode == "LA" else 3].max())
    if bits is not None or depth.bits is not None:
        raise Refused("depth", f"{bits or depth.bits} bits of 16-bit colour are not read; convert the file to 8 bits a channel")
    if 0 < brightest < DARK >> 8:
        raise Refused(
            "depth",
            f"16-bit colour with no value above {(brightest + 1) * 256 - 1}: fewer bits, or dark? Convert the file to 8 bits a "
            "channel, or, if it is dark, set data.bits (--bits) to 16",
        )


def _white(values: np.ndarray, depth: Depth, bits: int | None) -> int:
    """The value that is white. Raises Refused where nobody says it and the image does not show it."""
    brightest = int(values.max())
    if depth.scaled:
        return WHITE
    if (known := bits or depth.bits) is not None:
        if brightest >= 2**known:
            raise Refused("depth", f"a value of {brightest}, which {known} bits cannot hold; set data.bits (--bits) to its bits")
        return 2**known - 1
    if depth.significant is not None:
        return WHITE if _is_stretched(values, depth.significant) else 2**depth.significant - 1
    if 0 < brightest < DARK:
        raise Refused(
            "depth",
            f"16 bits with no value above {brightest}: {max(8, brightest.bit_length())} bits, or dark? Set data.bits (--bits) to "
            "what they are, such as 12, or to 16 if it is dark",
        )
    return WHITE


def _is_stretched(values: np.ndarray, bits: int) -> bool:
    """Whether values of so many bits fill 16, as PNG wants it (W3C, PNG, 11.3.2.4 sBIT), and not the lowest ones."""
    return bits >= 16 or bool(values.max() >= 2**bits) or not bool((values.astype(np.int64) % 2 ** (16 - bits)).any())


def _significant(content: bytes) -> int | None:
    """The bits of the first channel that a PNG's sBIT chunk, which comes before the pixels, calls significant."""
    place = 8
    while (kind := content[place + 4 : place + 8]) not in (b"", b"IDAT"):
        if kind == b"sBIT" and 8 <= content[place + 8] <= 16:
            return content[place + 8]
        place += 12 + int.from_bytes(content[place : place + 4], "big")
    return None
