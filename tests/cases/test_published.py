"""Published means the published command: what `as_released` changes, and what papers' numbers rest on, by worked numbers."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from facts import effect_rows, explanation_rows, image_ids, image_rows, prediction_rows, run_rows
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.nn.functional import interpolate
from typer.testing import CliRunner

from cfx.classifiers import ClassifierConfig
from cfx.diffusion.ddpm import DDPM, Schedule
from cfx.diffusion.latent import LatentDiffusion, load_latent
from cfx.diffusion.schedule import q_sample, respaced_timesteps
from cfx.errors import UserError
from cfx.images import decode_png, read_image
from cfx.methods.ace import ACE, attack, distance_weight, filtered_gradient
from cfx.methods.blended import Blended, blended
from cfx.methods.dime import FastDiME, fastdime
from cfx.methods.dvce import DVCE, dvce
from cfx.methods.edict import Edict, Pair
from cfx.methods.maskdime import MaskDiME, maskdime, masks
from cfx.methods.textual_inversion import TokenTraining
from cfx.methods.time_edit import TIME, Inversions, time_edit
from cfx.metrics.insertion_deletion import blur_kernel, filled
from cfx.portraits import draw, render
from cfx.presets import PAPER, named, paper
from cfx.random import ImageNoise
from cfx.random_views import Rendering, draw_views, render_views
from cfx.types import Step
from flows.cli import app
from flows.config import load_config
from tasks.check import check
from tasks.config import AuditConfig, WordsConfig
from tasks.data.annotations import Annotations, annotations_of
from tasks.data.formats import table_of
from tasks.data.ingest import fingerprint
from tasks.explainer import respaced
from tasks.run import Run
from tasks.stages.attributes import attributes
from tasks.stages.explain import explain
from tasks.stages.ingest import ingest
from tasks.stages.learn import Learned
from tasks.stages.measure import measure
from tasks.stages.predict import predict
from tasks.stages.prompts import Labelled, learn_words, prompted_by, time_towards
from tasks.stages.run_record import start_run
from tasks.stages.set_metrics import compare_sets
from tasks.stages.unmeasured import COUNTS, unmeasured
from tests.cfx.tiny_sd import write_pipeline
from tests.toys import Linear, Says, gaussian_prior
from warehouse.evidence.papers import export_papers
from warehouse.facts.shards import write_shard
from warehouse.lens.connect import open_warehouse, query

IDS = ["one", "other"]
CLASSIFIER, PRIOR = Linear(), gaussian_prior()
UP = torch.ones(2, dtype=torch.long)
LEVELS = (1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2).cumprod(0)


def noise(seed: int = 0) -> ImageNoise:
    return ImageNoise.of(IDS, seed)


def images(height: int = 8, width: int = 8) -> Tensor:
    """Two images on the 8-bit grid."""
    values = torch.randint(60, 196, (2, 3, height, width), generator=torch.Generator().manual_seed(3))
    return values / 127.5 - 1


def unchanged(x: Tensor, x_cf: Tensor) -> float:
    """Share of the pixels that are the same in 8 bits."""
    levels = [((image + 1) * 127.5).round() for image in (x, x_cf)]
    return float((levels[0] == levels[1]).all(1).float().mean())


class Resized(Linear):
    """The linear classifier of 8 x 8, of any image."""

    def __call__(self, x: Tensor) -> Tensor:
        return super().__call__(interpolate(x, size=(8, 8)))


class Watched:
    """A denoiser that keeps what it is given, by step."""

    def __init__(self, prior: DDPM) -> None:
        self.prior, self.alphas_cumprod = prior, prior.alphas_cumprod
        self.seen: list[tuple[int, Tensor]] = []

    def step(self, z: Tensor, t: int) -> Step:
        self.seen.append((t, z.detach().clone()))
        return self.prior.step(z, t)


# --- respacing


@pytest.mark.parametrize(
    ("steps", "kept", "index", "ours", "released"),
    [
        (500, 25, 12, 250, 249),
        (500, 25, 4, 83, 83),
        (500, 200, 60, 150, 150),
        (1000, 25, 12, 500, 500),
        (1000, 100, 74, 747, 747),
    ],
)
def test_released_code_sums_strides(steps: int, kept: int, index: int, ours: int, released: int) -> None:
    found = [respaced_timesteps(steps, kept, summed)[index] for summed in (False, True)]
    assert found == [ours, released]


@pytest.mark.parametrize(("as_released", "step"), [(False, 250), (True, 249)])
@pytest.mark.parametrize("kind", [MaskDiME, FastDiME, ACE, DVCE, Blended])
def test_an_audit_respaces_as_its_method_says(kind: Any, as_released: bool, step: int) -> None:
    prior = DDPM(Says(0.1), Schedule(num_train_timesteps=500), 3)
    assert respaced(prior, kind(steps=25, tau=5, as_released=as_released)).timesteps[12] == step


# --- MaskDiME


@pytest.mark.parametrize(
    ("as_released", "least", "most"), [(False, 0.5, 1.0), (True, 0.0, 0.1)], ids=["ours-keeps", "released-leaves-noise"]
)
def test_pixels_outside_the_mask(as_released: bool, least: float, most: float) -> None:
    x, method = images(), MaskDiME(share=0.4, dilation=1, l1=0, as_released=as_released)
    found = maskdime(gaussian_prior(200), CLASSIFIER, x, UP, method, noise())
    assert found.mask is not None and float(found.mask.mean()) <= 0.5
    assert least <= unchanged(x, found.x_cf) <= most
    outside = (found.mask == 0).expand_as(x)
    left = (found.x_cf - x)[outside].std()
    sigma = math.sqrt(1 - float(gaussian_prior(200).alphas_cumprod[0]))  # .0100 for this prior, .0141 for CelebA's
    assert float(left) == pytest.approx(sigma if as_released else 0, rel=0.3)


def test_released_maskdime_starts_a_step_deeper_and_noises_the_background_to_t() -> None:
    x, method, drawn = images(), MaskDiME(steps=50, tau=3, share=0.1, dilation=1, as_released=True), noise()
    watched = Watched(PRIOR)
    found = maskdime(watched, CLASSIFIER, x, UP, method, noise())
    backgrounds = [q_sample(PRIOR, x, level, drawn) for level in (3, 2, 1, 0)]
    assert [t for t, _ in watched.seen] == [2, 1, 0]
    torch.testing.assert_close(watched.seen[0][1], backgrounds[0])
    low = (slice(None), slice(None), slice(4, None))  # the half that the classifier does not look at
    for (_, z), background in zip(watched.seen[1:], backgrounds[1:], strict=False):
        torch.testing.assert_close(z[low], background[low])
    torch.testing.assert_close(found.x_cf[low], backgrounds[-1][low])


@pytest.mark.parametrize(
    ("share", "seen", "ours", "released"),
    [(0.05, 0.5, (3, 2), (3, 1)), (0.06, 0.5, (4, 2), (3, 1)), (0.1, 0.25, (6, 2), (6, 1)), (0.5, 0.5, (32, 16), (32, 16))],
)
def test_released_shares_round_down(share: float, seen: float, ours: tuple[int, int], released: tuple[int, int]) -> None:
    saliency = torch.arange(1.0, 65.0).view(1, 1, 8, 8)
    for as_released, counts in ((False, ours), (True, released)):
        method = MaskDiME(share=share, seen_share=seen, dilation=1, as_released=as_released)
        assert tuple(int(mask.sum()) for mask in masks(saliency, method)) == counts


# --- FastDiME


@pytest.mark.parametrize(("as_released", "index"), [(False, 2), (True, 3)])
def test_where_fastdime_starts(as_released: bool, index: int) -> None:
    watched = Watched(PRIOR)
    fastdime(watched, CLASSIFIER, images(), UP, FastDiME(steps=50, tau=3, as_released=as_released), noise())
    t, z = watched.seen[0]
    assert t == 2
    torch.testing.assert_close(z, q_sample(PRIOR, images(), index, noise()))


@pytest.mark.parametrize("passes", ["2", "2+"])
@pytest.mark.parametrize("as_released", [False, True])
def test_a_second_run_starts_from_the_first_ones_noise_as_released(passes: Any, as_released: bool) -> None:
    watched = Watched(PRIOR)
    method = FastDiME(steps=50, tau=4, passes=passes, as_released=as_released)
    found = fastdime(watched, CLASSIFIER, images(), UP, method, noise())
    first, second = (z for t, z in watched.seen if t == 3)
    assert torch.equal(first, second) is as_released
    assert found.mask is not None
    kept = (found.mask == 0).expand_as(found.x_cf)
    assert torch.equal(found.x_cf[kept], images()[kept])  # the composite at the end is both codes'


@pytest.mark.parametrize(("as_released", "level"), [(False, 0), (True, 1)])
def test_fastdimes_background_is_noised_to(as_released: bool, level: int) -> None:
    watched, method = Watched(PRIOR), FastDiME(steps=50, tau=2, as_released=as_released)
    nothing = torch.zeros(2, 1, 8, 8)
    fastdime(watched, CLASSIFIER, images(), UP, method, noise(), mask=nothing)
    drawn = noise()
    for _ in range(2):  # where it starts, and the noise of its first step
        drawn.like(images())
    torch.testing.assert_close(watched.seen[1][1], q_sample(PRIOR, images(), level, drawn))


@pytest.mark.parametrize("kind", [MaskDiME, FastDiME])
def test_a_step_deeper_needs_one_more(kind: Any) -> None:
    assert kind(steps=60, tau=60).tau == 60
    with pytest.raises(ValueError, match="tau is 60, but the prior is respaced to 60 steps, of which 1 cannot be noised"):
        kind(steps=60, tau=60, as_released=True)


# --- ACE


@pytest.mark.parametrize(
    ("method", "data", "ours", "released"),
    [
        ("ace-l1", "celeba", 0.001, 0.003),
        ("ace-l2", "celeba", 0.1, 0.3),
        ("ace-l1", "celebahq-smile", 0.001, 0.001),
        ("ace-l2", "celebahq-age", 0.1, 0.1),
        ("ace-l1", "bdd", 0.001, 0.001),
        ("ace-l2", "imagenet", 0.1, 0.1),
    ],
)
def test_aces_distance_weighs_a_batch(method: str, data: str, ours: float, released: float) -> None:
    for as_released, weight in ((False, ours), (True, released)):
        (rung,) = paper(method, data, as_released=as_released)
        assert isinstance(rung, ACE) and distance_weight(rung, 0) == pytest.approx(weight)


@pytest.mark.parametrize(
    ("schedule", "iteration", "ours", "released"),
    [
        ("constant", 0, 1.0, 1.0),
        ("linear", 0, 0.0, 0.1),
        ("linear", 9, 0.9, 1.0),
        ("step", 3, 0.0, 0.0),
        ("step", 4, 0.0, 1.0),
        ("step", 5, 1.0, 1.0),
    ],
)
def test_aces_schedules_are_one_iteration_apart(schedule: Any, iteration: int, ours: float, released: float) -> None:
    for as_released, weight in ((False, ours), (True, released)):
        method = ACE(iterations=10, distance_weight=1, distance_schedule=schedule, batch=1, as_released=as_released)
        assert distance_weight(method, iteration) == pytest.approx(weight)


@pytest.mark.parametrize(("as_released", "steps"), [(False, 2), (True, 0)], ids=["ours-goes-on", "released-is-pulled-back"])
def test_a_weak_class_gradient_holds_against_one_distance_but_not_three(as_released: bool, steps: int) -> None:
    x, method = images(), ACE(steps=50, tau=3, iterations=2, as_released=as_released)
    drawn = [torch.zeros_like(x)] * 3
    gradient, _ = filtered_gradient(PRIOR, CLASSIFIER, (x + 1) / 2, UP, drawn, method)
    weak = method.model_copy(update={"scale": 0.002 / float(gradient.abs().max())})  # between .001 and .003
    moved = attack(PRIOR, CLASSIFIER, x, UP, weak, noise()) - x
    torch.testing.assert_close(moved, steps * 2 / 255 * CLASSIFIER.weight.expand(2, -1, -1, -1), atol=1e-6, rtol=0)


# --- DVCE and Blended Diffusion


@pytest.mark.parametrize("width", [16, 32])
def test_one_released_view_is_the_whole_image_resized_and_ours_is_pooled(width: int) -> None:
    x, views = images(16, width), draw_views(images(16, width), 1, noise())
    pooled, resized = (render_views(x, views, Rendering(8, as_released)) for as_released in (False, True))
    assert pooled.shape == (2, 3, 8, 8) and resized.shape == (2, 3, 8, width // 2)
    torch.testing.assert_close(pooled[0, 0, 0, 0], x[0, 0, :2, : width // 8].mean())
    torch.testing.assert_close(resized, interpolate(x, size=(8, width // 2), mode="bicubic", align_corners=False))


@pytest.mark.parametrize("as_released", [False, True])
def test_what_a_tilted_view_shows_beyond_the_image(as_released: bool) -> None:
    x = torch.full((2, 3, 16, 16), 0.25)
    views = draw_views(x, 24, noise())
    rendered = render_views(x, views, Rendering(16, as_released)).view(24, 2, 3, 16, 16)
    still = (views.tilted == torch.eye(3)).flatten(2).all(2)
    assert 0 < int(still.sum()) < still.numel()
    torch.testing.assert_close(rendered[still], torch.full_like(rendered[still], 0.25))  # a moved view repeats the border
    grey = (rendered[~still] == 0).float().mean()
    assert (0.2 < float(grey) < 0.9) if as_released else float(grey) == 0
    assert set(rendered.unique().round(decimals=4).tolist()) <= {0.0, 0.25}


@pytest.mark.parametrize("kind", ["dvce", "blended"])
def test_one_step_with_one_view_shows_the_classifier_the_whole_image(kind: str) -> None:
    sizes = set[tuple[int, ...]]()

    class Sees(Resized):
        def __call__(self, x: Tensor) -> Tensor:
            sizes.add(tuple(x.shape))
            return super().__call__(x)

    x = images(16, 16)
    if kind == "dvce":
        dvce(PRIOR, Sees(), x, UP, DVCE(steps=50, tau=2, side=12, as_released=True), noise())
    else:
        blended(PRIOR, Sees(), x, UP, Blended(steps=50, tau=2, side=12, augmentations=16, as_released=True), noise())
    assert sizes == {(2, 3, 12, 12)}


def test_blendeds_squared_difference_is_a_mean_over_a_batch_of_six() -> None:
    ours = Blended(steps=50, tau=6, scale=0, squared=10, augmentations=1)
    released = ours.model_copy(update={"squared": 60.0, "as_released": True})
    found = [blended(PRIOR, CLASSIFIER, images(), UP, method, noise()).x_cf for method in (ours, released)]
    torch.testing.assert_close(found[0], found[1])
    assert not torch.equal(
        found[0], blended(PRIOR, CLASSIFIER, images(), UP, ours.model_copy(update={"squared": 60.0}), noise()).x_cf
    )


# --- presets


def _files(method: str) -> dict[str, Any]:
    robust = {"robust": ClassifierConfig(weights="robust.safetensors")} if method.startswith("dvce-") else {}
    return robust | ({"vgg19": "vgg19.pth"} if "dime" in method else {"vgg16": "vgg16.pth"} if method == "blended" else {})


@pytest.mark.parametrize(("method", "data"), list(PAPER), ids="/".join)
def test_a_preset_takes_as_released_where_its_code_differs(method: str, data: str) -> None:
    more = {"preset": f"{method}/{data}", **_files(method)}
    ours = paper(method, data, **_files(method))
    if method in ("dime", "svce", "svce-apgd"):
        with pytest.raises(UserError, match=f"as_released: {method}/{data} does what the released code does already"):
            named(more | {"as_released": True})
        return
    released = named(more | {"as_released": True})
    assert isinstance(released, tuple) and all(rung.as_released for rung in released)
    assert not any(getattr(rung, "as_released") for rung in ours) and named(more | {"as_released": False}) == ours  # noqa: B009


# --- TIME


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LatentDiffusion:
    return load_latent(str(write_pipeline(tmp_path_factory.mktemp("sd") / "model")))


@pytest.mark.parametrize(("height", "width"), [(48, 96), (96, 48), (32, 64), (33, 64), (32, 32)])
def test_a_text_to_image_model_sees_a_black_square_around_what_is_not_one(
    model: LatentDiffusion, height: int, width: int
) -> None:
    x, side = images(height, width), max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    square = torch.full((2, 3, side, side), -1.0)
    square[..., top : top + height, left : left + width] = x
    assert torch.equal(model.encode(x), model.encode(square))
    z = model.encode(x)
    assert torch.equal(model.decode(z, (height, width)), model.decode(z, side)[..., top : top + height, left : left + width])


@pytest.mark.parametrize(("height", "width"), [(48, 96), (96, 48)])
def test_time_learns_words_from_and_edits_images_that_are_not_square(tmp_path: Path, height: int, width: int) -> None:
    source, x = str(write_pipeline(tmp_path / "model")), images(height, width)
    config = WordsConfig(model=source, training=TokenTraining(steps=1, batch=2))
    answers = Labelled(((x + 1) * 127.5).round().to(torch.uint8), torch.tensor([0, 1]), Resized.classes)
    learn_words(load_latent(source), answers, config, tmp_path / "words")
    prompted = prompted_by(config, tmp_path / "words", "cpu")
    found = time_towards(prompted, Resized(), x, UP, TIME(steps=4, tau=2), noise())
    assert found.x_cf.shape == x.shape and bool(found.x_cf.isfinite().all())


@pytest.mark.parametrize("steps", [1, 25, 50])
def test_the_legacy_inverse_ends_a_step_deeper(steps: int) -> None:
    """Without noise a latent is scaled alone: by the root of the level it ends at over the one it starts from."""
    z = torch.ones(1, 1, 2, 2, dtype=torch.float64)

    def silent(z: Tensor, t: int) -> Tensor:
        return torch.zeros_like(z)

    for legacy, first, last in ((False, 0, 20 * (steps - 1) + 1), (True, 1, min(20 * steps + 1, 999))):
        deepest = Edict(LEVELS, 50, 0.93, legacy).invert(silent, Pair(z, z), steps)[-1]
        expected = math.sqrt(float(LEVELS[last] / LEVELS[first]))
        if legacy and steps == 50:
            expected = math.sqrt(float(LEVELS[981] / LEVELS[1])) * math.sqrt(float(LEVELS[999] / LEVELS[981]))
        torch.testing.assert_close(deepest.a, expected * z)


@pytest.mark.parametrize(("legacy", "least", "most"), [(False, 0, 1e-11), (True, 1e-2, 1)])
@pytest.mark.parametrize("steps", [25, 35])
def test_the_legacy_inverse_is_not_undone(steps: int, legacy: bool, least: float, most: float) -> None:
    z = torch.randn(2, 4, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def curved(z: Tensor, t: int) -> Tensor:
        return (z * (1 + t / 1000)).sin() + z.mean()

    edict = Edict(LEVELS, 50, 0.93, legacy)
    back = edict.denoise(curved, edict.invert(curved, Pair(z, z), steps)[-1], steps)
    assert least <= float((back.a - z).abs().max()) <= most


def test_the_two_inverses_share_no_latents(model: LatentDiffusion) -> None:
    x, prompts = images(32, 32), (["a photo"] * 2, ["a star"] * 2)
    kept: Inversions = {}
    ours, legacy = TIME(steps=4, tau=2), TIME(steps=4, tau=2, legacy_inverse=True)
    first = time_edit(model, x, *prompts, ours, IDS, kept).x_cf
    second = time_edit(model, x, *prompts, legacy, IDS, kept).x_cf
    assert torch.equal(first, time_edit(model, x, *prompts, ours, IDS, {}).x_cf)
    assert torch.equal(second, time_edit(model, x, *prompts, legacy, IDS, {}).x_cf)
    assert not torch.equal(first, second)


# --- images and games


def _file(side: int = 97) -> bytes:
    buffer = io.BytesIO()
    pixels = torch.randint(0, 256, (side, side, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    Image.fromarray(pixels.numpy()).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("resample", "kernel"),
    [
        ("lanczos", Image.Resampling.LANCZOS),
        ("bilinear", Image.Resampling.BILINEAR),
        ("bicubic", Image.Resampling.BICUBIC),
        ("area", Image.Resampling.BOX),
    ],
)
def test_images_are_resampled_as_the_configuration_says(resample: Any, kernel: Image.Resampling) -> None:
    content = _file()
    found = decode_png([read_image(content, 32, 10**6, 8, resample=resample).png])
    with Image.open(io.BytesIO(content)) as image:
        expected = torch.tensor(list(image.resize((32, 32), kernel).tobytes())).view(32, 32, 3).permute(2, 0, 1) / 127.5 - 1
    torch.testing.assert_close(found[0], expected)
    assert (read_image(content, 32, 10**6, 8).png == read_image(content, 32, 10**6, 8, resample=resample).png) is (
        resample == "lanczos"
    )


@pytest.mark.parametrize(("filling", "centre"), [("blur", 0.0120), ("blur_as_released", 0.0088)])
def test_what_a_blurred_pixel_keeps(filling: Any, centre: float) -> None:
    x = torch.zeros(1, 3, 31, 31)
    x[..., 15, 15] = 1
    blurred = filled(x, filling)
    assert float(blurred[0, 0, 15, 15]) == pytest.approx(centre, abs=5e-5)
    assert float(blurred[0, 0].sum()) == pytest.approx(1, abs=1e-5)
    assert int((blurred[0, 0] > 0).sum()) == 11 * 11


def test_the_released_kernel_is_scipys_blur_of_one_pixel() -> None:
    pixel = torch.zeros(11, 11, dtype=torch.float64)
    pixel[5, 5] = 1
    kernel = blur_kernel(as_released=True)
    torch.testing.assert_close(torch.outer(kernel, kernel), torch.from_numpy(gaussian_filter(pixel.numpy(), 5)))


# --- the documented recipe for CelebA

NAMES = {"smile": "Smiling", "glasses": "Eyeglasses", "hat": "Wearing_Hat", "rosy_cheeks": "Rosy_Cheeks"}
ORACLE = ("Smiling", "Eyeglasses", "Wearing_Hat", "beard", "dark_hair", "long_hair", "Rosy_Cheeks", "earrings", "brows", "warm")
LADDER = [{"method": "maskdime", "steps": 25, "tau": 4, "strength": 1, "adaptive": True, "scale": 3.6, "share": 0.1}]


@pytest.fixture(scope="module")
def celeba(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 portraits as CelebA hands its images out, and the table that `cfx import-data celeba` makes of them."""
    root = tmp_path_factory.mktemp("celeba")
    (root / "celeba/img_align_celeba").mkdir(parents=True)
    rows: list[list[object]] = []
    parts = ["image_id,partition"]
    for i, (_, portrait) in enumerate(draw(48, seed=5)):
        name = f"{i + 1:06d}.jpg"
        Image.fromarray(render(portrait)).save(root / "celeba/img_align_celeba" / name, quality=95)
        rows.append([name, *(1 if portrait.has(attribute) else -1 for attribute in NAMES)])
        parts.append(f"{name},{(0, 0, 0, 2)[i % 4]}")
    rows.insert(0, ["image_id", *NAMES.values()])
    lines = [",".join(str(cell) for cell in row) for row in rows]
    (root / "celeba/list_attr_celeba.csv").write_text("\n".join(lines) + "\n")
    (root / "celeba/list_eval_partition.csv").write_text("\n".join(parts) + "\n")
    table_of("celeba", root / "celeba", root / "celeba.parquet")
    return root


def recipe(root: Path, data: dict[str, Any] | None = None, **settings: Any) -> AuditConfig:
    """The lines of docs/how-to/data.md, with networks that come with cfx."""
    written = {"images": root / "celeba", "table": root / "celeba.parquet", "split_column": "split", "split": "test"}
    written |= {"label_column": "Smiling", "annotations": root / "celeba.parquet"}
    known = {
        "name": "celeba",
        "warehouse": root / "warehouse",
        "data": written | (data or {}),
        "classifier": {"weights": "portraits:planted", "classes": ["not_smiling", "smiling"]},
        "oracle": {"weights": "portraits:oracle", "attributes": ORACLE},
        "target_attribute": "Smiling",
        "prior": {"path": "portraits:prior"},
        "ladder": LADDER,
        "device": "cpu",
    }
    return AuditConfig.model_validate(known | settings)


@pytest.fixture(scope="module")
def audited(celeba: Path) -> Run:
    """The recipe, explained and measured."""
    run = check(recipe(celeba))
    start_run(run)
    for shard in ingest(run):
        explained = explain(run, shard, predict(run, shard), Learned())
        attributes(run, shard, explained)
        measure(run, shard, explained, Learned())
    compare_sets(run)
    return run


def test_the_recipe_gives_accuracy_s3_cout_and_cd(audited: Run) -> None:
    right = query(audited.root, "select avg(correct::int) as accuracy, count(correct) as n from outcomes").to_pylist()
    assert right == [{"accuracy": pytest.approx(1, abs=0.4), "n": 12}]
    scores = {row["metric"]: row["value"] for row in query(audited.root, "from scorecard").to_pylist()}
    assert {"s3[oracle]", "cout", "cd", "mnac", "fr"} <= set(scores)
    absent = set(query(audited.root, "select metric from absent")["metric"].to_pylist())
    assert not {"s3[oracle]", "cout", "cd", "mnac"} & absent
    assert "s3[simsiam]" in absent
    assert query(audited.root, "select count(*) as n from images where a_Smiling is not null").to_pylist() == [{"n": 12}]


def test_cd_is_held_against_the_training_partition(audited: Run, celeba: Path) -> None:
    table = pq.read_table(celeba / "celeba.parquet").to_pandas()
    train, names = table[table["split"] == "train"], list(NAMES.values())
    wanted = np.nan_to_num(np.corrcoef(train[names].to_numpy(float).T)[0])
    flips = query(audited.root, "from changed").to_pandas()
    with np.errstate(invalid="ignore"):
        found = np.nan_to_num(np.corrcoef(flips[[f"v_{name}" for name in names]].to_numpy(float).T)[0])
    (cd,) = query(audited.root, "from cd").to_pylist()
    assert cd["value"] == pytest.approx(np.abs(wanted - found).sum(), abs=1e-8)
    (also,) = query(audited.root, "from cd_intervals").to_pylist()
    assert also["value"] == cd["value"] and also["low"] <= cd["value"] <= also["high"] and also["floor"] > 0
    assert query(audited.root, "select count(*) as n from annotated").to_pylist() == [{"n": len(train)}] and len(train) == 36


@pytest.mark.parametrize(
    ("case", "settings", "reasons"),
    [
        ("no-target", {"target_attribute": None}, {"cd": "no target attribute: set `target_attribute`"}),
        ("no-oracle", {"oracle": None, "target_attribute": None}, {"cd": "no oracle: set `oracle`", "mnac": "no oracle"}),
        ("not-annotated", {"target_attribute": "beard"}, {"cd": "no annotation of 'beard'"}),
        ("none-explained", {}, dict.fromkeys(("cd", "mnac", "s3", "cout"), "no image was explained")),
        ("none-right", {}, dict.fromkeys(("s3", "cout"), "no explained image was classified correctly")),
        ("none-flipped", {}, dict.fromkeys(("cd", "mnac"), "no explanation flipped")),
        ("as-it-is", {}, {}),
    ],
)
def test_what_there_is_no_value_of_has_a_reason(
    audited: Run, tmp_path: Path, case: str, settings: dict[str, Any], reasons: dict[str, str]
) -> None:
    config = audited.config.model_copy(update=settings | {"warehouse": tmp_path})
    run = replace(audited, config=config)
    if case != "none-explained":
        explained = query(audited.root, "from facts.explanations")
        if case == "none-flipped":
            off = pa.array([False] * len(explained))
            explained = explained.set_column(explained.column_names.index("flipped"), "flipped", off)
        write_shard(tmp_path, "explanations", run.id, "0", explained.drop_columns(["run_id"]).to_pydict())
    known = {row["image_id"]: row["class"] for row in query(audited.root, "from predictions").to_pylist()}
    rows = query(audited.root, "from facts.images").drop_columns(["run_id"]).to_pydict()
    labels = ["other" if case == "none-right" else known[image_id] for image_id in rows["image_id"]]
    write_shard(tmp_path, "images", run.id, "0", rows | {"label": labels})
    write_shard(tmp_path, "runs", run.id, "started", run_rows(target_attribute=config.target_attribute, method="maskdime"))
    for fact in ("predictions", "annotations", "attributes", "measurements"):
        write_shard(tmp_path, fact, run.id, "0", query(audited.root, f"from facts.{fact}").drop_columns(["run_id"]).to_pydict())
    with open_warehouse(tmp_path, sql=COUNTS) as lens:
        found = {absent.metric: absent.reason for absent in unmeasured(run, lens)}
    assert set(found) == set(reasons)
    assert all(found[metric].startswith(reason) for metric, reason in reasons.items())


@pytest.mark.parametrize(
    ("content", "settings", "refusal"),
    [
        (None, {}, "there is no file"),
        ("a,b\nred,blue\n", {}, "has no yes/no column; it has a, b"),
        ("Smiling\n1\n-1\n", {"attribute_columns": ["Smiling", "Male"]}, "has no column 'Male' of attribute_columns"),
        ("split,Smiling\ntrain,1\ntest,-1\ntrain,-1\n", {}, [1, 3]),
        ("split,Smiling\nval,1\ntest,-1\n", {}, [1, 2]),
        ("Smiling\n1\n-1\n", {}, [1, 2]),
    ],
    ids=["no-file", "no-answers", "no-such-column", "train-rows", "no-train-rows", "no-split-column"],
)
def test_tables_of_annotations(tmp_path: Path, content: str | None, settings: dict[str, Any], refusal: str | list[int]) -> None:
    path = tmp_path / "train.csv"
    if content is not None:
        path.write_text(content)
    config = Annotations(table=path, split_column="split", **settings)
    if isinstance(refusal, list):
        assert annotations_of(path, config)["row"].to_pylist() == refusal
        return
    with pytest.raises(UserError, match=refusal):
        annotations_of(path, config)


def test_annotations_lie_beside_the_configuration(tmp_path: Path, celeba: Path) -> None:
    settings = recipe(celeba).model_dump(mode="json", include={"name", "data", "classifier", "prior", "ladder"})
    settings["data"]["annotations"] = "train.csv"
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(settings))
    assert load_config(tmp_path / "run.yaml").data.annotations == tmp_path / "train.csv"


def test_how_images_are_resampled_and_what_cd_is_held_against_are_part_of_the_datas_identity(celeba: Path) -> None:
    settings: list[dict[str, Any]] = [{}, {"resample": "bilinear"}, {"resample": "area"}, {"annotations": None}]
    assert len({fingerprint(recipe(celeba, more).data) for more in settings}) == len(settings)


# --- what other papers' scripts read


@pytest.fixture(scope="module")
def tree(audited: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_papers(audited.root, audited.id, tmp_path_factory.mktemp("papers"))


def test_the_tree_holds_every_explanation_once(audited: Run, tree: Path) -> None:
    rows = query(audited.root, "select path, correct, flipped_8bit, target, source from outcomes order by path").to_pylist()
    results = tree / "Results" / audited.id
    with open(results / "manifest.csv", newline="") as file:
        manifest = list(csv.DictReader(file))
    assert [line["path"] for line in manifest] == [row["path"] for row in rows]
    for line, row in zip(manifest, rows, strict=True):
        place = Path("CC" if row["correct"] else "IC") / ("CCF" if row["flipped_8bit"] else "ICF")
        (found,) = results.glob(f"*/*/CF/{line['number']}.png")
        assert found.relative_to(results).parts[:2] == place.parts and len(line["number"]) == 7
        assert (tree / "Original" / ("Correct" if row["correct"] else "Incorrect") / f"{line['number']}.png").is_file()
        assert [line["pred"], line["target"]] == [str(int(row[key] == "smiling")) for key in ("source", "target")]
    assert len(list(results.glob("*/*/CF/*.png"))) == len(list(results.glob("*/*/Info/*.txt"))) == len(rows) == 12
    assert len(list((tree / "Original").glob("*/*.png"))) == 12


def test_the_files_of_the_tree_say_what_the_facts_say(audited: Run, tree: Path) -> None:
    sql = "select i.path, i.png, e.png as png_cf, l1, p_target_cf from explanations e join images i using (image_id)"
    facts = query(audited.root, f"{sql} where arm = 'guided' order by 1")
    for number, row in enumerate(facts.to_pylist()):
        (cf,) = tree.glob(f"Results/*/*/*/CF/{number:07d}.png")
        (original,) = tree.glob(f"Original/*/{number:07d}.png")
        assert cf.read_bytes() == row["png_cf"] and original.read_bytes() == row["png"]
        info = dict(line.split(": ") for line in (cf.parents[1] / "Info" / f"{number:07d}.txt").read_text().splitlines())
        assert list(info) == ["label", "pred", "target", "cf pred", "l_1", "l_inf", "bkl"]
        assert float(info["l_1"]) == row["l1"] and float(info["bkl"]) == pytest.approx(1 - row["p_target_cf"])
        flipped = cf.parents[1].name == "CCF"
        assert (info["cf pred"] == info["target"]) is flipped and info["pred"] != info["target"]
        with Image.open(cf.parents[1] / "SM" / f"{number:07d}.png") as change:
            difference = decode_png([row["png_cf"]]) - decode_png([row["png"]])
            assert change.getextrema() == (0, 255 if bool(difference.any()) else 0)


@pytest.mark.parametrize(
    ("seeds", "names"), [([0], ["r1"]), ([0, 7], ["r1-0", "r1-7"])], ids=["one-seed", "a-result-a-seed-for-diversity"]
)
def test_results_by_seed(tmp_path: Path, seeds: list[int], names: list[str]) -> None:
    ids = image_ids(3)
    write_shard(tmp_path, "runs", "r1", "finished", run_rows(seeds=seeds))
    write_shard(tmp_path, "images", "r1", "0", image_rows(ids))
    write_shard(tmp_path, "predictions", "r1", "0", prediction_rows(ids, ["no_smile"] * 3))
    for seed in seeds:
        write_shard(tmp_path, "explanations", "r1", str(seed), explanation_rows(ids, "guided", seed=[seed] * 3))
    export_papers(tmp_path, "r1", tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out/Results").iterdir()) == names
    assert len(list((tmp_path / "out/Original/Correct").iterdir())) == 3  # without a label an image counts as right


@pytest.mark.parametrize(
    ("arguments", "refusal"),
    [
        (["papers"], "papers of which run?"),
        (["papers", "nothing"], "no run 'nothing'"),
        (["papers", "RUN", "-o", "OUT"], "is there already"),
        (["papers", "RUN", "more"], "export takes a run, or `papers`, `training` or `annex-iv` and a run"),
    ],
    ids=["no-run", "unknown-run", "written-twice", "too-many"],
)
def test_exports_that_are_refused(audited: Run, tree: Path, arguments: list[str], refusal: str) -> None:
    given = [{"RUN": audited.id, "OUT": str(tree)}.get(argument, argument) for argument in arguments]
    said = CliRunner().invoke(app, ["export", *given, "--warehouse", str(audited.root)])
    assert said.exit_code != 0 and refusal in " ".join(said.output.split())


# --- shortcut detection


def _truths(rho: float, planted: list[str]) -> dict[str, list[Any]]:
    row = {"kind": "shortcut", "planted": planted, "rho": rho, "seed": 0, "images": 4, "attribute": "hat", "effect": 0.0}
    return {name: [value] for name, value in (row | {"portraits": 4}).items()}


@pytest.mark.parametrize(
    ("changes", "columns", "truths", "expected"),
    [
        ([0.2, -0.4, 0.2, 0.0], {}, None, {"value": 0.2, "sham": 0.0, "n": 4, "k": None}),
        ([0.2, -0.4, 0.2, 0.0], {"counted": [True, True, False, False]}, None, {"value": 0.3, "sham": 0.0, "n": 2, "k": None}),
        ([0.1] * 4, {"switched_on": [True, False] * 2}, None, {"value": 0.1, "sham": 0.0, "n": 4, "k": None}),
        ([0.0] * 4, {"probabilities_sham": [[0.75, 0.25]] * 4}, None, {"value": 0.0, "sham": 0.25, "n": 4, "k": None}),
        ([0.3] * 4, {}, (0.9, ["hat"]), {"value": 0.3, "sham": 0.0, "n": 4, "k": 95.0}),
        ([0.3] * 4, {}, (0.9, ["beard"]), {"value": 0.3, "sham": 0.0, "n": 4, "k": None}),
    ],
    ids=["both-directions", "counted-edits-alone", "on-and-off", "the-sham", "planted", "another-planted"],
)
def test_mad_by_hand(
    tmp_path: Path,
    changes: list[float],
    columns: dict[str, Any],
    truths: tuple[float, list[str]] | None,
    expected: dict[str, Any],
) -> None:
    write_shard(tmp_path, "runs", "r1", "finished", run_rows())
    write_shard(tmp_path, "effects", "r1", "0", effect_rows(image_ids(4), "hat", changes, **columns))
    if truths is not None:
        write_shard(tmp_path, "truths", "r1", "0", _truths(*truths))
    (found,) = query(tmp_path, "select * exclude (run_id, attribute, target) from mad").to_pylist()
    assert found == {name: pytest.approx(value, abs=1e-7) for name, value in expected.items()}
