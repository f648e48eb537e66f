"""Any bytes for an image: what is let in is what Pillow shows, and nothing else happens."""

from __future__ import annotations

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from cfx.images import FORMATS, Decoded, Refused, is_image, read_image
from tests.fuzz.bounds import answer, examples
from tests.fuzz.mutation import mutated

SIDE = 12
PIXELS = Image.fromarray((np.arange(SIDE * SIDE * 3).reshape(SIDE, SIDE, 3) % 251).astype(np.uint8))
REASONS = {"unreadable", "truncated", "mode", "depth", "transparent", "too_small", "too_large"}
MOST = 10**6  # pixels


def saved(kind: str, image: Image.Image = PIXELS, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


TURNED = Image.Exif()
TURNED[0x0112] = 6  # by a quarter
SEEDS = {kind: saved(kind) for kind in FORMATS} | {
    "progressive JPEG": saved("JPEG", progressive=True, exif=TURNED),
    "CMYK JPEG": saved("JPEG", PIXELS.convert("CMYK")),
    "lossless WebP": saved("WEBP", PIXELS.convert("RGBA"), lossless=True),
    "animated GIF": saved("GIF", save_all=True, append_images=[PIXELS.rotate(90)]),
    "animated PNG": saved("PNG", save_all=True, append_images=[PIXELS.rotate(90)]),
    "palette PNG": saved("PNG", PIXELS.convert("P"), transparency=3),
    "16-bit PNG": saved("PNG", Image.fromarray(np.arange(SIDE * SIDE, dtype=np.uint16).reshape(SIDE, SIDE) * 400)),
    "LZW TIFF": saved("TIFF", compression="tiff_lzw"),
    "JPEG TIFF": saved("TIFF", compression="jpeg"),
    "deflated TIFF": saved("TIFF", compression="tiff_adobe_deflate"),
    "pages TIFF": saved("TIFF", save_all=True, append_images=[PIXELS]),
    "PGM": saved("PPM", PIXELS.convert("L")),
    "RGBA BMP": saved("BMP", PIXELS.convert("RGBA")),
}  # fmt: skip


def read(content: bytes) -> Decoded | None:
    """The image, or None where it was refused for one of the reasons there are."""

    def call() -> Decoded:
        try:
            return read_image(content, 8, MOST, 2)
        except Refused as error:
            assert error.reason in REASONS
            raise

    return answer(call, mib=128)


def bomb(width: int, height: int) -> bytes:
    """A small PNG that says it is large."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(10**6))) + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", SEEDS)
def test_a_mutated_image_is_what_pillow_shows_or_refused(kind: str) -> None:
    assert read(SEEDS[kind]) is not None or kind == "CMYK JPEG"

    @examples(5, 2000)
    @given(mutated(SEEDS[kind], range(min(64, len(SEEDS[kind])))))
    def holds(content: bytes) -> None:
        found = read(content)
        if found is None:
            return
        assert is_image(content[:32])
        again = Image.open(io.BytesIO(found.png))
        assert (again.size, again.mode, again.format) == ((8, 8), "RGB", "PNG")
        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(content), formats=FORMATS) as pillow:
            pillow.load()
        assert (found.width, found.height) in {pillow.size, pillow.size[::-1]}
        assert found.width * found.height <= MOST and min(found.width, found.height) >= 2 and found.pages >= 1

    holds()


@examples(13, 4000)
@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
@example(65535, 65535)
@example(2**31 - 1, 1)
def test_a_header_that_lies_about_the_size_costs_nothing(width: int, height: int) -> None:
    found = read(bomb(width, height))
    assert found is None or (found.width, found.height) == (width, height)


@examples(13, 4000)
@given(st.sampled_from([seed[:16] for seed in SEEDS.values()]), st.binary(max_size=200))
def test_noise_after_a_beginning_is_no_image(head: bytes, noise: bytes) -> None:
    read(head + noise)
