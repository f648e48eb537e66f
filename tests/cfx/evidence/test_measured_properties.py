"""Properties: each moves with what it names, stays finite, and is measured on grey as on colour."""

import io

import numpy as np
import pytest
from PIL import Image, ImageFilter

from cfx.errors import UserError
from cfx.evidence.properties import FILE_FACTS, PROPERTIES, file_facts, properties, property_table
from cfx.portraits import draw, render

ROWS, COLUMNS = np.meshgrid(np.linspace(-1, 1, 64), np.linspace(-1, 1, 64), indexing="ij")


@pytest.fixture(scope="module")
def portraits():
    return np.stack([render(portrait) for _, portrait in draw(12, seed=5)])


def scaled(image, gain):
    return np.clip(image * gain, 0, 255).astype(np.uint8)


def jpeg(image):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=12)
    return np.asarray(Image.open(buffer))


def framed(image):
    image = image.copy()
    image[:2] = image[-2:] = image[:, :2] = image[:, -2:] = 20
    return image


def dotted(image):
    image = image.copy()
    image[3:8, 55:60] = (240, 220, 40)
    return image


def lettered(image):
    image = image.copy()
    image[3:8, 44:60:2] = 255
    return image


CHANGES = {  # what is done -> the property it must move, and which way
    "brightness": (lambda x: scaled(x, 0.8), -1),
    "contrast": (lambda x: scaled(0.5 * x + 64, 1), -1),
    "gamma": (lambda x: scaled(255 * (x / 255) ** 2, 1), +1),
    "saturation": (lambda x: scaled(0.5 * x + 0.5 * x.mean(2, keepdims=True), 1), -1),
    "warmth": (lambda x: scaled(x, [1.12, 1, 0.86]), +1),
    "greenness": (lambda x: scaled(x, [0.9, 1.1, 0.9]), +1),
    "sharpness": (lambda x: np.asarray(Image.fromarray(x).filter(ImageFilter.GaussianBlur(1.1))), -1),
    "noise": (lambda x: scaled(x + np.random.default_rng(0).normal(0, 8, x.shape), 1), +1),
    "compression": (jpeg, +1),
    "border": (framed, -1),
    "vignette": (lambda x: scaled(x, 1 - 0.25 * (ROWS**2 + COLUMNS**2)[..., None]), +1),
    "light_x": (lambda x: scaled(x, 1 + 0.2 * COLUMNS[..., None]), +1),
    "light_y": (lambda x: scaled(x, 1 + 0.2 * ROWS[..., None]), +1),
    "corner": (dotted, +1),
    "stamp": (lettered, +1),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_property_moves_with_what_it_names(name, portraits):
    change, sign = CHANGES[name]
    column = list(PROPERTIES).index(name)
    moved = property_table([change(x) for x in portraits])[:, column] - property_table(portraits)[:, column]
    assert (np.sign(moved) == sign).mean() >= 0.9


def test_the_subject_is_where_it_is_drawn():
    def drawn(left, top, height, width):
        image = np.full((64, 64, 3), 200, np.uint8)
        image[top : top + height, left : left + width] = (90, 40, 30)
        return properties(image)

    assert drawn(36, 22, 20, 20)["subject_x"] == pytest.approx(0.46, abs=0.1)
    assert drawn(8, 22, 20, 20)["subject_x"] == pytest.approx(-0.43, abs=0.1)
    assert drawn(22, 8, 20, 20)["subject_y"] < -0.3 < 0.3 < drawn(22, 36, 20, 20)["subject_y"]
    assert drawn(24, 24, 16, 16)["subject_scale"] < drawn(14, 14, 36, 36)["subject_scale"]
    assert drawn(24, 14, 36, 16)["subject_tilt"] == pytest.approx(0, abs=2)


def test_tilt_has_the_sign_of_the_clock():
    upright = Image.new("RGB", (64, 64), (200, 200, 200))
    upright.paste((60, 30, 20), (26, 10, 38, 54))
    tilts = [properties(np.asarray(upright.rotate(angle, fillcolor=(200, 200, 200))))["subject_tilt"] for angle in (10, 0, -10)]
    assert tilts[0] < -5 < 5 < tilts[2]


def test_a_mirror_turns_left_and_right_round(portraits):
    for image in portraits:
        there, back = properties(image), properties(image[:, ::-1])
        assert back["light_x"] == pytest.approx(-there["light_x"], abs=1e-6)
        assert back["subject_x"] == pytest.approx(-there["subject_x"], abs=1e-6)
        assert back["subject_tilt"] == pytest.approx(-there["subject_tilt"], abs=1e-6)
        assert back["asymmetry"] == pytest.approx(there["asymmetry"])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("value", [0, 128, 255])
def test_a_constant_image_has_finite_properties(channels, value):
    values = properties(np.full((20, 33, channels), value, np.uint8))
    assert list(values) == list(PROPERTIES)
    assert np.isfinite(list(values.values())).all()
    assert [values[name] for name in ("contrast", "noise", "border", "warmth", "corner")] == pytest.approx([0] * 5)


def test_grey_is_measured_as_the_same_image_in_three_channels(portraits):
    grey = portraits[0].mean(2).astype(np.uint8)[..., None]
    assert properties(grey) == pytest.approx(properties(np.repeat(grey, 3, axis=2)))


def test_a_file_has_facts_of_its_own():
    assert file_facts(200, 100, 5_000) == pytest.approx(dict(zip(FILE_FACTS, [1.0, np.log2(20_000), 1.0], strict=True)))
    with pytest.raises(UserError, match="0 bytes"):
        file_facts(200, 100, 0)


@pytest.mark.parametrize("image", [np.zeros((64, 64), np.uint8), np.zeros((64, 64, 3)), np.zeros((8, 64, 3), np.uint8)])
def test_what_is_no_image_is_refused(image):
    with pytest.raises(UserError, match="properties are measured on"):
        properties(image)
