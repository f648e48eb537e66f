"""Facts about images: the lossless round trip, and what the door lets in, mends or refuses."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.ImageCms import ImageCmsProfile, createProfile
from PIL.PngImagePlugin import PngInfo

from cfx.images import MANY, Refused, decode_png, encode_png, from_uint8, read_image, to_uint8

GRADIENT = np.arange(16 * 24, dtype=np.uint16).reshape(16, 24) % 256


def file_of(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def pixels_of(content: bytes, size: int = 16) -> np.ndarray:
    image = read_image(content, size, max_pixels=10**6, min_side=8)
    return np.asarray(Image.open(io.BytesIO(image.png)))


def test_many_images_are_decoded_in_order() -> None:
    pixels = torch.randint(0, 256, (12, 3, 192, 192), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    files = encode_png(from_uint8(pixels))
    assert sum(map(len, files)) > MANY and torch.equal(to_uint8(decode_png(files)), pixels)


def test_the_8_bit_grid_survives_the_round_trip_exactly():
    grid = torch.arange(256).float() / 127.5 - 1
    x = grid.repeat(2, 3, 3, 1)
    assert torch.equal(decode_png(encode_png(x)), x)
    assert torch.equal(decode_png(encode_png(decode_png(encode_png(x)))), x)


def test_between_grid_points_the_nearest_wins_and_the_range_is_kept():
    x = torch.tensor([-1.7, 1.7, 99.6 / 127.5 - 1, 99.4 / 127.5 - 1]).view(1, 1, 2, 2).expand(1, 3, 2, 2)
    found = (decode_png(encode_png(x)) + 1) * 127.5
    assert found[0, 0].flatten().tolist() == pytest.approx([0, 255, 100, 99], abs=1e-4)


def test_equal_pixels_give_equal_bytes():
    x = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    assert encode_png(x) == encode_png(x.clone().double())


def test_what_cannot_be_a_batch_is_refused():
    with pytest.raises(ValueError, match="NaN or infinite"):
        encode_png(torch.full((1, 3, 4, 4), torch.nan))
    with pytest.raises(ValueError, match="at least one"):
        decode_png([])
    with pytest.raises(ValueError, match=r"several sizes .* \[\(4, 4\), \(8, 8\)\]"):
        decode_png(encode_png(torch.zeros(1, 3, 4, 4)) + encode_png(torch.zeros(1, 3, 8, 8)))


def test_an_image_of_the_audit_size_keeps_its_pixels():
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    assert np.array_equal(pixels_of(file_of(Image.fromarray(pixels))), pixels)


def test_the_centre_square_is_kept():
    pixels = np.zeros((16, 24, 3), np.uint8)
    pixels[:, 4:20] = 200
    assert (pixels_of(file_of(Image.fromarray(pixels))) == 200).all()


def test_the_centre_of_another_shape_is_kept():
    pixels = np.zeros((20, 48, 3), np.uint8)
    pixels[:, 4:44] = 200  # twice as wide as high
    image = read_image(file_of(Image.fromarray(pixels)), (16, 32), max_pixels=10**6, min_side=8)
    found = np.asarray(Image.open(io.BytesIO(image.png)))
    assert found.shape == (16, 32, 3) and (found == 200).all()
    high = read_image(file_of(Image.fromarray(pixels.transpose(1, 0, 2))), (32, 16), max_pixels=10**6, min_side=8)
    assert (np.asarray(Image.open(io.BytesIO(high.png))) == 200).all() and (high.width, high.height) == (20, 48)


def test_shrinking_is_antialiased():
    checks = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    found = pixels_of(file_of(Image.fromarray(checks)))
    assert np.abs(found.astype(int) - 127).max() <= 3  # grey; picking every fourth pixel would give pure black or white


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "RGB"])
def test_grey_palette_and_opaque_images_keep_their_colours(mode):
    image = Image.fromarray(np.where(GRADIENT[:, :16] > 90, 255, 0).astype(np.uint8)).convert(mode)
    assert np.array_equal(pixels_of(file_of(image)), np.asarray(image.convert("RGB")))


def test_16_bit_grey_is_rounded_to_8_bits():
    coarse = GRADIENT[:, :16].clip(0, 254)
    fine = Image.fromarray((coarse * 257 + 200).astype(np.uint16))
    assert np.array_equal(pixels_of(file_of(fine))[..., 0], coarse + 1)  # v + 200/257; dropping the low byte would give v


def test_transparency_lies_over_white():
    red = Image.new("RGBA", (16, 16), (255, 0, 0, 0))
    red.paste((255, 0, 0, 255), (0, 0, 8, 16))
    found = pixels_of(file_of(red))
    assert found[:, :8].tolist() == [[[255, 0, 0]] * 8] * 16
    assert (found[:, 8:] == 255).all()


def test_exif_orientation_is_applied():
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: the left side of the file is the top
    pixels = np.zeros((16, 24, 3), np.uint8)
    pixels[:, :12] = 255
    image = read_image(file_of(Image.fromarray(pixels), exif=exif), 16, max_pixels=10**6, min_side=8)
    assert (image.width, image.height) == (16, 24)
    found = np.asarray(Image.open(io.BytesIO(image.png)))
    assert (found[:8] == 255).all() and (found[8:] == 0).all()


def test_damaged_metadata_does_not_cost_an_image():
    plain = Image.fromarray(np.full((16, 16, 3), 90, np.uint8))
    assert (pixels_of(file_of(plain, exif=b"Exif\0\0 this is no orientation")) == 90).all()


def test_equal_pixels_give_equal_bytes_whatever_else_the_files_tell():
    plain, comment = Image.fromarray(np.full((16, 16, 3), 90, np.uint8)), PngInfo()
    comment.add_text("Comment", "from the shop")
    profile = ImageCmsProfile(createProfile("sRGB")).tobytes()
    rich = file_of(plain, dpi=(72, 72), pnginfo=comment, icc_profile=profile)
    assert read_image(rich, 16, 10**6, 8).png == read_image(file_of(plain), 16, 10**6, 8).png


def test_the_first_frame_of_an_animation_counts():
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("white", "black")]
    assert (pixels_of(file_of(frames[0], "GIF", save_all=True, append_images=frames[1:])) == 255).all()


JPEG = file_of(Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)), "JPEG")
PNG = file_of(Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)))

REFUSED = {
    "empty": (b"", "unreadable", "not an image"),
    "text": (b"this is a text file", "unreadable", "not an image in any of the formats PNG, JPEG"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n", "unreadable", "not an image"),
    "half a jpeg": (JPEG[: len(JPEG) // 2], "truncated", "truncated"),
    "half a png": (PNG[: len(PNG) // 2], "truncated", "truncated"),
    "a png with a wrong byte": (PNG[:300] + bytes([PNG[300] ^ 255]) + PNG[301:], "unreadable", "Error"),
    "cmyk": (
        file_of(Image.new("CMYK", (64, 64)), "JPEG"),
        "mode",
        "colour mode CMYK, inks of a printer, .*; convert the file to RGB",
    ),
    "float": (file_of(Image.new("F", (64, 64)), "TIFF"), "mode", "colour mode F"),
    "one pixel": (file_of(Image.new("RGB", (1, 1))), "too_small", "1 x 1 pixels; each side needs 8"),
    "a line": (file_of(Image.new("RGB", (900, 4))), "too_small", "900 x 4 pixels"),
    "large": (file_of(Image.new("1", (1001, 1000))), "too_large", "1001 x 1000 pixels, more than 1,000,000"),
    "larger than Pillow warns of": (file_of(Image.new("1", (10_000, 10_000))), "too_large", "10000 x 10000 pixels"),
    "larger than Pillow opens": (file_of(Image.new("1", (20_000, 20_000))), "too_large", "400000000 pixels.*at most 1,000,000"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_an_image_that_cannot_be_used_is_refused_by_reason(what):
    content, reason, message = REFUSED[what]
    with pytest.raises(Refused, match=message) as refused:
        read_image(content, 16, max_pixels=10**6, min_side=8)
    assert refused.value.reason == reason
