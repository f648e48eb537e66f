"""Image files of the kinds that people have: which grey they become, or why they are refused."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from cfx.errors import UserError
from cfx.images import FORMATS, SUFFIXES, Decoded, Refused, is_image, read_image
from tasks.data.ingest import DataConfig, admit, paged, sample, selected
from tasks.data.seen_files import SeenFiles

SIDE = 8
RAMP = np.arange(SIDE * SIDE, dtype=np.int64).reshape(SIDE, SIDE)  # 0 .. 63


def decoded(content: bytes, bits: int | None = None) -> Decoded:
    return read_image(content, SIDE, 10**6, 1, bits)


def pixels(content: bytes, bits: int | None = None) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(decoded(content, bits).png)))


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png(values: np.ndarray, colour: int = 0, **chunks: bytes) -> bytes:
    """16 bits a channel: grey 0, RGB 2, grey and alpha 4, RGBA 6 (W3C, PNG)."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    height, width = values.shape[:2]
    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in values)
    parts = [chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0))]
    parts += [chunk(kind.encode(), content) for kind, content in chunks.items()]
    return b"\x89PNG\r\n\x1a\n" + b"".join([*parts, chunk(b"IDAT", zlib.compress(lines)), chunk(b"IEND", b"")])


def tif(values: np.ndarray, **options: Any) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, **options)
    return buffer.getvalue()


def packed_tif(values: np.ndarray, bits: int) -> bytes:
    """Grey of so many bits a pixel, without gaps (TIFF 6.0)."""
    height, width = values.shape
    text = "".join(f"{value:0{bits}b}" for value in values.ravel())
    content = int(text, 2).to_bytes(len(text) // 8, "big")
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: 1, 273: 14 + 9 * 12, 277: 1, 278: height, 279: len(content)}
    entries = b"".join(struct.pack("<HHII", tag, 3, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + b"\0\0\0\0" + content


def bmp(header: int, alpha: int) -> bytes:
    """32 bits, blue 10, green 100, red 200, with a mask that calls the fourth byte alpha."""
    pixel = np.tile(np.array([10, 100, 200, alpha], np.uint8), (SIDE * SIDE, 1)).tobytes()
    info = struct.pack("<IiiHHIIiiII", header, SIDE, SIDE, 1, 32, 3, len(pixel), 0, 0, 0, 0)
    info = (info + struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)).ljust(header, b"\0")
    return b"BM" + struct.pack("<IHHI", 14 + len(info) + len(pixel), 0, 0, 14 + len(info)) + info + pixel


def pgm(maximum: int, values: np.ndarray) -> bytes:
    head = f"P5 {values.shape[1]} {values.shape[0]} {maximum}\n".encode()
    return head + values.astype(">u2" if maximum > 255 else np.uint8).tobytes()


def grey(values: np.ndarray, white: int) -> list[list[int]]:
    return np.rint(values * 255 / white).astype(int).tolist()


TWELVE = RAMP * 65  # 0 .. 4095
FULL = RAMP * 1040  # 0 .. 65520
GREY = {
    "16 bits": (png(FULL), FULL, 65535),
    "8-bit PGM of maximum 100": (pgm(100, RAMP), RAMP, 100),
    "8-bit PGM of maximum 255": (pgm(255, RAMP), RAMP, 255),
    "16-bit PGM": (pgm(65535, FULL), FULL, 65535),
    "16-bit PGM of maximum 4095": (pgm(4095, TWELVE), TWELVE, 4095),
    "dark 16-bit PGM of maximum 4095": (pgm(4095, RAMP), RAMP, 4095),
    "16-bit PGM of maximum 1000": (pgm(1000, RAMP * 10), RAMP * 10, 1000),
    "plain PGM": (b"P2 8 8 1023\n" + " ".join(map(str, (RAMP * 16).ravel())).encode(), RAMP * 16, 1023),
    "12 bits as the PNG says, lowest": (png(TWELVE, sBIT=b"\x0c"), TWELVE, 4095),
    "10 bits as the PNG says, lowest": (png(RAMP * 13, sBIT=b"\x0a"), RAMP * 13, 1023),
    "12 bits as the PNG says, stretched": (png(TWELVE * 16, sBIT=b"\x0c"), TWELVE * 16, 65535),
    "12 bits as the PNG says, stretched and dark": (png(RAMP * 16, sBIT=b"\x0c"), RAMP * 16, 65535),
    "16 bits as the PNG says, dark": (png(RAMP, sBIT=b"\x10"), RAMP, 65535),
    "12 bits as the TIFF says": (packed_tif(TWELVE, 12), TWELVE, 4095),
    "16-bit TIFF": (tif(FULL.astype(np.uint16)), FULL, 65535),
    "16-bit TIFF, big-endian": (tif(FULL.astype(np.uint16), byteorder=">"), FULL, 65535),
    "16-bit TIFF in which 0 is white": (tif(FULL.astype(np.uint16), photometric="miniswhite"), 65535 - FULL, 65535),
    "8-bit TIFF in which 0 is white": (tif(RAMP.astype(np.uint8), photometric="miniswhite"), 255 - RAMP, 255),
    "black in 16 bits": (png(RAMP * 0), RAMP * 0, 65535),
    "gamma is ignored": (png(FULL, gAMA=struct.pack(">I", 100_000)), FULL, 65535),
}


@pytest.mark.parametrize("what", GREY)
def test_grey_comes_out_between_its_own_black_and_white(what: str) -> None:
    content, values, white = GREY[what]
    found = pixels(content)
    assert np.abs(found[..., 0] - np.array(grey(values, white))).max() <= 1, what  # Pillow scales a PGM by whole numbers
    assert (found == found[..., :1]).all()


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_a_setting_says_how_many_bits_count(bits: int) -> None:
    values = RAMP * ((2**bits - 1) // 63)
    assert pixels(png(values), bits)[..., 0].tolist() == grey(values, 2**bits - 1)
    assert pixels(tif(values.astype(np.uint16)), bits)[..., 0].tolist() == grey(values, 2**bits - 1)


def test_a_setting_of_bits_is_nothing_to_8_bits_or_to_what_a_file_says_itself() -> None:
    assert pixels(saved(Image.fromarray(RAMP.astype(np.uint8)), "PNG"), 12)[..., 0].tolist() == RAMP.tolist()
    assert pixels(pgm(1023, RAMP * 16), 12).tolist() == pixels(pgm(1023, RAMP * 16)).tolist()


def test_one_value_of_16_bits_may_stand_for_transparency() -> None:
    found = pixels(png(FULL, tRNS=struct.pack(">H", 1040)))[..., 0]
    assert found[0, 1] == 255 and found[0, 2] == round(2080 / 257)


COLOURS = np.stack([FULL, FULL[::-1], FULL.T], 2)
OPAQUE = np.full((SIDE, SIDE, 1), 65535)
KEPT: dict[str, tuple[bytes, Any]] = {
    "16-bit RGB": (png(COLOURS, 2), COLOURS >> 8),
    "16-bit RGBA": (png(np.concatenate([COLOURS, OPAQUE], 2), 6), COLOURS >> 8),
    "16-bit grey with alpha": (png(np.concatenate([FULL[..., None], OPAQUE], 2), 4), np.repeat(FULL[..., None] >> 8, 3, 2)),
    "16-bit RGB TIFF": (tif(COLOURS.astype(np.uint16), photometric="rgb"), COLOURS >> 8),
    "dark 8-bit RGB": (saved(Image.fromarray((COLOURS >> 12).astype(np.uint8)), "PNG"), COLOURS >> 12),
    "BMP V3 without alpha": (bmp(56, 0), [200, 100, 10]),
    "BMP V4 without alpha": (bmp(108, 0), [200, 100, 10]),
    "BMP V5 without alpha": (bmp(124, 0), [200, 100, 10]),
    "BMP V4, opaque": (bmp(108, 255), [200, 100, 10]),
    "BMP V4, half transparent": (bmp(108, 51), [244, 224, 206]),  # .2 of it over .8 of white
    "1-bit": (saved(Image.fromarray(RAMP % 2 == 0), "PNG"), np.repeat((RAMP % 2 == 0)[..., None] * 255, 3, 2)),
    "pages of a TIFF": (tif(np.stack([RAMP, RAMP * 0]).astype(np.uint8), photometric="minisblack"), RAMP[..., None]),
    "MPO": (
        saved(Image.new("RGB", (8, 8), "white"), "MPO", save_all=True, append_images=[Image.new("RGB", (8, 8))]),
        [255, 255, 255],
    ),
    "animated PNG": (
        saved(Image.new("RGB", (8, 8), "red"), "PNG", save_all=True, append_images=[Image.new("RGB", (8, 8))]),
        [255, 0, 0],
    ),
}


@pytest.mark.parametrize("what", KEPT)
def test_colours_are_kept(what: str) -> None:
    content, expected = KEPT[what]
    assert np.array_equal(pixels(content), np.broadcast_to(expected, (SIDE, SIDE, 3))), what


FLAT = Image.new("RGB", (16, 16), (200, 100, 40))


@pytest.mark.parametrize("kind", ["HEIF", "AVIF", "WEBP", "JPEG", "PNG", "BMP", "TIFF", "GIF", "PPM"])
def test_every_format_is_read_by_its_content(kind: str) -> None:
    content = saved(FLAT, kind)
    assert is_image(content[:32]) and np.abs(pixels(content).astype(int) - [200, 100, 40]).max() <= 3


def test_orientation_is_read_from_exif_and_in_heic_from_the_image_itself() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the left side of the file is the top
    wide = Image.new("RGB", (32, 16), "white")
    wide.paste("black", (0, 0, 16, 16))
    turned, kept = (read_image(saved(wide, kind, exif=exif), SIDE, 10**6, 1) for kind in ("AVIF", "HEIF"))
    found = np.asarray(Image.open(io.BytesIO(turned.png)))
    assert (turned.width, turned.height) == (16, 32) and (found[:3] < 8).all() and (found[5:] > 247).all()
    assert (kept.width, kept.height) == (32, 16)  # ISO 23008-12: EXIF is for information only, or it would be turned twice


def test_pages_are_counted() -> None:
    assert decoded(tif(np.zeros((3, 8, 8), np.uint8), photometric="minisblack")).pages == 3
    assert decoded(tif(np.zeros((8, 8), np.uint8))).pages == 1


@pytest.mark.parametrize("text", [b"", b"hello", b"<svg xmlns=", b"%PDF-1.7", b"PK\x03\x04", b"{}", b"\0" * 32, b"II", b"P"])
def test_other_files_are_no_images(text: bytes) -> None:
    assert not is_image(text)


def test_the_endings_of_the_formats_are_known() -> None:
    assert {".pgm", ".pnm", ".pbm", ".jfif", ".jpe", ".heic", ".heif", ".avif", ".apng", ".mpo", ".tif"} <= SUFFIXES
    assert not SUFFIXES & {".txt", ".pdf", ".psd", ".ico", ".eps", ".dcm", ""} and "EPS" not in FORMATS


THUMBNAIL = tif(np.zeros((8, 8), np.uint8), subfiletype=1)
CLEAR = np.zeros((SIDE, SIDE, 4), np.uint8)
NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
CUT = ("HEIF", "AVIF", "WEBP", "JPEG", "TIFF", "PPM")
REFUSED: dict[str, tuple[bytes, int | None, str | None, str | None]] = {
    "12 bits in a PNG of 16": (png(TWELVE), None, "depth", r"no value above 4095: 12 bits, or dark\? Set data.bits"),
    "10 bits in a PNG of 16": (png(RAMP * 16), None, "depth", "no value above 1008: 10 bits, or dark"),
    "14 bits in a PNG of 16": (png(RAMP * 260), None, "depth", "no value above 16380: 14 bits, or dark"),
    "12 bits in a TIFF of 16": (tif(TWELVE.astype(np.uint16)), None, "depth", "12 bits, or dark"),
    "12 bits in a PGM of 65535": (pgm(65535, TWELVE), None, "depth", "12 bits, or dark"),
    "12 bits in 16-bit RGB": (png(COLOURS >> 4, 2), None, "depth", "fewer bits, or dark"),
    "12 bits in 16-bit RGB, known": (png(COLOURS >> 4, 2), 12, "depth", "12 bits of 16-bit colour are not read"),
    "12 bits in 16-bit RGBA": (png(np.concatenate([COLOURS >> 4, OPAQUE], 2), 6), None, "depth", "fewer bits, or dark"),
    "12 bits in a PPM of 65535": (
        b"P6 8 8 65535\n" + (COLOURS >> 4).astype(">u2").tobytes(),
        None,
        "depth",
        "fewer bits, or dark",
    ),
    "14 bits where the setting says 12": (png(RAMP * 260), 12, "depth", "a value of 16380, which 12 bits cannot hold"),
    "16-bit RGB TIFF in planes": (
        tif(COLOURS.transpose(2, 0, 1).astype(np.uint16), photometric="rgb", planarconfig="separate"),
        None,
        "mode",
        "separate planes",
    ),
    "signed TIFF": (tif(RAMP.astype(np.int16)), None, "mode", "colour mode I, signed or 32-bit integers"),
    "32-bit TIFF": (tif(RAMP.astype(np.int32)), None, "mode", "colour mode I, signed or 32-bit integers"),
    "float TIFF": (tif(RAMP.astype(np.float32)), None, "mode", "colour mode F, 32-bit floats"),
    "double TIFF": (tif(RAMP.astype(np.float64)), None, "unreadable", "begins as TIFF, but is broken or of a kind that is not"),
    "TIFF of five bands": (
        tif(np.zeros((5, 8, 8), np.uint8), photometric="minisblack", planarconfig="separate"),
        None,
        "unreadable",
        "begins as TIFF, but is broken or of a kind",
    ),
    "PFM": (b"Pf\n8 8\n-1.0\n" + RAMP.astype("<f4").tobytes(), None, "mode", "32-bit floats"),
    "CMYK JPEG": (saved(Image.new("CMYK", (8, 8)), "JPEG"), None, "mode", "colour mode CMYK, inks of a printer"),
    "transparent PNG": (saved(Image.fromarray(CLEAR, "RGBA"), "PNG"), None, "transparent", "shows nothing"),
    "transparent grey": (saved(Image.new("LA", (8, 8)), "PNG"), None, "transparent", "shows nothing"),
    "the thumbnail of a raw file": (THUMBNAIL, None, "mode", "raw files of cameras"),
    **{
        f"half a {kind}": (saved(NOISE, kind)[:-200], None, None, None)
        for kind in ("HEIF", "AVIF", "WEBP", "JPEG", "TIFF", "PPM")
    },
}


@pytest.mark.parametrize("what", REFUSED)
@pytest.mark.filterwarnings("ignore:'mode' parameter is deprecated")
def test_what_has_no_certain_colours_is_refused_in_words(what: str) -> None:
    content, bits, reason, words = REFUSED[what]
    with pytest.raises(Refused, match=words) as refused:
        decoded(content, bits)
    assert refused.value.reason == reason if reason else refused.value.reason in ("truncated", "unreadable")


def test_dark_colours_pass_once_somebody_says_so() -> None:
    assert np.array_equal(pixels(png(COLOURS >> 4, 2), 16), COLOURS >> 12)
    assert pixels(png(RAMP * 257), 16)[..., 0].tolist() == RAMP.tolist()


# At the door of an audit ------------------------------------------------------------------------------------------------------


def data(folder: Path, files: dict[str, bytes], **settings: Any) -> DataConfig:
    for name, content in files.items():
        (folder / name).write_bytes(content)
    (folder / "t.csv").write_text("\n".join(["file", *files, ""]))
    return DataConfig(images=folder, table=folder / "t.csv", size=SIDE, **settings)


def test_an_audit_of_12_bits_stops_with_the_way_out_and_goes_on_with_it(tmp_path: Path) -> None:
    files = {f"{i}.png": png(TWELVE - i * (TWELVE > 9)) for i in range(4)}
    with pytest.raises(UserError, match=r"none of the 4 images .*, such as \d.png: 16 bits with .*Set data.bits"):
        sample(data(tmp_path, files), 4)
    assert len(sample(data(tmp_path, files, bits=12), 4).ids) == 4
    admitted, refused = admit(selected(data(tmp_path, files, bits=12)).to_pylist(), data(tmp_path, files, bits=12), SeenFiles())
    assert not refused
    found = np.asarray(Image.open(io.BytesIO(admitted[0]["png"])))[..., 0]
    assert found.tolist() == grey(TWELVE, 4095)


def test_pages_that_do_not_count_are_told(tmp_path: Path) -> None:
    config = data(tmp_path, {"a.tif": tif(np.zeros((2, 8, 8), np.uint8), photometric="minisblack"), "b.png": saved(FLAT, "PNG")})
    admitted, _ = admit(selected(config).to_pylist(), config, SeenFiles())
    assert len(admitted) == 2 and paged(admitted[1:]) is None
    assert paged(admitted) == "1 TIFF files have several pages, of which the first counts: a.tif"


@pytest.mark.parametrize("bits", [8, 17, 0])
def test_no_more_and_no_fewer_bits_than_16_can_hold(bits: int, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="bits"):
        data(tmp_path, {}, bits=bits)
