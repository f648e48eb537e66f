"""A prior that does not fit the images stops the audit, with the numbers; one that fits says nothing.

The limits were fixed on Portraits, photographs, gradients and noise (`tasks/advice/prior_fit.py`); the images of the first table
were kept apart from that.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch import Tensor

from cfx.classifiers import ClassifierConfig
from cfx.diffusion.ddpm import DDPM, Schedule, load_ddpm
from cfx.diffusion.training import PriorTraining, build_unet, train_prior
from cfx.errors import ConfigError, UserError
from cfx.methods.dime import FastDiME
from cfx.portraits import render, sample
from cfx.reconstruction import Change, blurs, change
from cfx.types import Classifier
from tasks.advice.prior_check import size_warnings
from tasks.advice.prior_fit import Filtered, check_fit, filtered
from tasks.check import check
from tasks.config import AuditConfig
from tasks.networks import classifier_for
from tasks.run import Run
from tasks.shard_images import Images
from tasks.stages.ingest import ingest
from tasks.stages.learn import learn
from tests.toys import Says, gaussian_prior

BUNDLED = Path(str(files("cfx"))) / "weights/portraits/prior"
SHALLOW, DEEP = 4, 18  # tau of 50; the demo's is 18


@pytest.fixture(scope="module")
def bundled() -> DDPM:
    return load_ddpm(BUNDLED)


@pytest.fixture(scope="module")
def planted() -> Classifier:
    return classifier_for(ClassifierConfig(weights="portraits:planted"), "cpu")


def portraits(n: int = 8) -> Tensor:
    rng = np.random.default_rng(11)
    return torch.stack([torch.tensor(render(sample(rng), 64)).permute(2, 0, 1) for _ in range(n)]).float() / 127.5 - 1


def small(image: Any) -> Tensor:
    """(3, 64, 64) of a grey or RGB array."""
    resized = np.asarray(Image.fromarray(np.asarray(image)).convert("RGB").resize((64, 64), Image.Resampling.LANCZOS))
    return torch.tensor(resized).permute(2, 0, 1).float() / 127.5 - 1


def digits() -> Tensor:
    return torch.stack([small((image * 15).astype(np.uint8)) for image in load_digits().images[:8]])


def textures() -> Tensor:
    whole = [image() for image in (skimage.data.brick, skimage.data.grass, skimage.data.gravel, skimage.data.moon)]
    return torch.stack([small(part) for image in whole for part in (image[:256, :256], image[256:, 256:])])


def text() -> Tensor:
    return torch.stack([small(skimage.data.page()[:, x : x + 190]) for x in range(0, 190, 25)])


def silhouettes() -> Tensor:
    horse = (skimage.data.horse() * 255).astype(np.uint8)
    return torch.stack([small(np.roll(horse, 20 * i, axis=1)) for i in range(8)])


KINDS: dict[str, tuple[Callable[[], Tensor], bool]] = {
    "other portraits": (portraits, True),
    "darker portraits": (lambda: portraits() * 0.8 - 0.1, True),
    "mirrored portraits": (lambda: portraits().flip(3), True),
    "digits": (digits, False),
    "textures": (textures, False),
    "text": (text, False),
    "silhouettes": (silhouettes, False),
    "negatives": (lambda: -portraits(), False),
}


@pytest.mark.parametrize(("images", "fits"), KINDS.values(), ids=KINDS)
def test_a_prior_is_held_to_the_images_it_was_not_tried_on(bundled: DDPM, images: Callable[[], Tensor], fits: bool) -> None:
    found = filtered(bundled, None, Images([str(i) for i in range(8)], images()), 50, SHALLOW)
    assert found.misfit != fits, found


@pytest.mark.parametrize("kind", ["other portraits", "digits", "textures"])
def test_it_is_the_same_at_the_depth_of_the_demo(bundled: DDPM, planted: Classifier, kind: str) -> None:
    images, fits = KINDS[kind]
    found = filtered(bundled, planted, Images(list("abcd"), images()[::2]), 50, DEEP)
    assert found.misfit != fits and found.kept is not None, found
    if fits:
        assert check_fit(found, LADDER) == ()


def test_priors_that_know_nothing_do_not_fit() -> None:
    x = Images([str(i) for i in range(8)], portraits())
    untrained = DDPM(
        build_unet(PriorTraining(patch=4, channels=(32, 32))).eval(), Schedule(prediction_type="sample"), channels=48
    )
    broken = DDPM(Says(float("nan")), Schedule(), channels=3)
    for prior in (untrained, broken):
        assert filtered(prior, None, x, 50, SHALLOW).misfit
    assert not filtered(DDPM(Says(0.0), Schedule(), channels=3), None, x, 1000, 1).misfit  # to no depth, nothing is lost


def test_an_exact_prior_fits_at_any_depth() -> None:
    # of N(0, .25 I): nothing is as hard to give back, and where all is noise, F(x) is another such image
    x = (torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 0.5).clamp(-1, 1)
    for tau in (1, 5, 10, 20, 50):
        found = filtered(gaussian_prior(), None, Images([str(i) for i in range(8)], x), 50, tau)
        assert not found.misfit, (tau, found)


def test_change_in_pixels_and_in_colours() -> None:
    x = torch.zeros(2, 3, 4, 4)
    x[:, :, :2] = 1.0
    assert change(x, x) == (0, 0)
    assert change(x, x.flip(2)) == (0.5, 0)  # the same colours elsewhere
    assert change(x, x - 0.5) == (0.25, 0.25)
    assert change(x, torch.full_like(x, 0.5)) == (0.25, 0.25)


def test_plain_blurs_go_from_the_image_to_its_mean() -> None:
    z = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    found = blurs(z)
    assert torch.equal(found[0], z) and float(found[1].std((2, 3)).max()) < 1e-6
    spread = [float(blurred.std()) for blurred in found[2:]]
    assert spread == sorted(spread, reverse=True)
    torch.testing.assert_close(found[-1].mean(), z.mean(), atol=0.05, rtol=0)


FINE, SAME = Change(0.04, 0.02), Change(0.09, 0.05)
LADDER = (FastDiME(steps=50, tau=18),)
OUTCOMES: dict[str, tuple[Filtered | None, str | None]] = {
    "no noise, nothing to say": (None, None),
    "fits": (Filtered(0.9, 0.5, FINE, SAME, 8), None),
    "half are kept": (Filtered(0.5, 0.5, FINE, SAME, 8), None),
    "black box": (Filtered(None, 0.0, FINE, SAME, 8), None),
    "invisible": (Filtered(1.0, 0.5, Change(0.02, 0.02), Change(0.001, 0.001), 8), None),
    "most are lost, of few": (Filtered(0.25, 0.5, FINE, SAME, 8), "warns: 25% of 8 images keep their prediction.*calibrate"),
    "most are lost, above chance": (Filtered(0.4, 0.01, FINE, SAME, 32), "warns: 40% of 32 images keep their prediction"),
    "no better than chance": (Filtered(0.4, 0.5, SAME, SAME, 32), r"stops: no more than by chance \(50%\).*Lower tau"),
    "no better than chance, of images that come back": (
        Filtered(0.4, 0.5, FINE, SAME, 32),
        "warns: though images come back: .*as soon as an image is redrawn.*probes and transplants",
    ),
    "one of a thousand classes": (Filtered(0.0, 0.001, FINE, SAME, 8), "stops: hardly a prediction survives"),
    "one of eight": (Filtered(0.125, 0.5, FINE, SAME, 8), "stops: hardly a prediction survives"),
    "worse than a blur": (Filtered(0.9, 0.5, Change(0.14, 0.02), SAME, 8), "stops: does not fit these images.*0.140.*0.090"),
    "no better than a blur, as a perfect draw may be": (Filtered(0.9, 0.5, Change(0.13, 0.02), SAME, 8), None),
    "other colours": (Filtered(0.9, 0.5, Change(0.04, 0.08), SAME, 8), "stops: does not fit these images.*0.080.*0.050"),
    "black box, misfit": (Filtered(None, 0.0, Change(0.2, 0.1), SAME, 8), "stops: .*prior: {train: {}}.*prior: null"),
    "nothing finite": (Filtered(None, 0.0, Change(float("nan"), float("nan")), SAME, 8), "stops: does not fit"),
}


@pytest.mark.parametrize(("found", "outcome"), OUTCOMES.values(), ids=OUTCOMES)
def test_what_is_said(found: Filtered | None, outcome: str | None) -> None:
    kind, _, words = (outcome or "").partition(": ")
    if kind == "stops":
        with pytest.raises(UserError, match=words):
            check_fit(found, LADDER)
    else:
        said = check_fit(found, LADDER)
        assert len(said) == (kind == "warns")
        assert all(re.search(words, line) for line in said), said


CALLED: list[int] = []


def black_box(x: Any) -> Any:
    """A callable classifier that remembers how many images it was asked about."""
    CALLED.append(len(x))
    return np.tile([0.3, 0.7], (len(x), 1))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight portraits, and eight textures, as files, each twice: a surrogate takes ten."""
    folder = tmp_path_factory.mktemp("fit")
    (folder / "table.csv").write_text("\n".join(["file", *(f"{i}{twin}.png" for twin in ("", "b") for i in range(8))]))
    for name, batch in (("portraits", portraits()), ("textures", textures())):
        (folder / name).mkdir()
        for i, image in enumerate(((batch + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()):
            Image.fromarray(image).save(folder / name / f"{i}.png")
            Image.fromarray(image ^ 1).save(folder / name / f"{i}b.png")
    return folder


def audit(data: Path, images: str = "portraits", size: Any = 64, **more: Any) -> AuditConfig:
    settings = {
        "name": "fit",
        "warehouse": str(data / "warehouse"),
        "data": {"images": str(data / images), "table": str(data / "table.csv"), "label_column": None, "size": size},
        "classifier": {"weights": "portraits:planted"},
        "prior": {"path": "portraits:prior"},
        "ladder": [{"method": "fastdime", "steps": 50, "tau": 3, "scale": 40}],
        "saliency": None,
        "device": "cpu",
    }
    return AuditConfig.model_validate(settings | more)


BLACK = {
    "classifier": {"access": "callable", "module": f"{__name__}:black_box", "classes": ["not_smiling", "smiling"]},
    "surrogate": {"steps": 5},
}


@pytest.mark.parametrize("more", [{}, BLACK], ids=["torch", "black box"])
def test_an_audit_stops_at_a_prior_that_does_not_fit(data: Path, more: dict[str, Any]) -> None:
    CALLED.clear()
    with pytest.raises(ConfigError, match=r"^prior: it does not fit these images: .*`prior: null`"):
        check(audit(data, "textures", **more))
    assert check(audit(data, **more)).warnings == ()
    assert check(audit(data, "textures", prior=None, **more)).prior is None
    assert CALLED == []  # nothing is queried before it counts


SMALLER = {128: ("64 x 64", "128 x 128", "2.0"), (96, 128): ("48 x 64", "96 x 128", "2.0"), 300: ("64 x 64", "300 x 300", "4.7")}


@pytest.mark.parametrize(("size", "numbers"), SMALLER.items(), ids=str)
def test_a_prior_that_draws_smaller_says_what_is_too_fine_for_it(bundled: DDPM, size: Any, numbers: tuple[str, ...]) -> None:
    (warning,) = size_warnings(bundled, size)
    assert all(number in warning for number in numbers)


def test_no_word_where_nothing_is_too_fine_or_nothing_is_known(bundled: DDPM) -> None:
    assert size_warnings(bundled, 48) == size_warnings(bundled, (64, 48)) == ()
    assert size_warnings(bundled, 64) == size_warnings(bundled, (64, 64)) == size_warnings(bundled, 62) == ()  # padded to 64
    assert size_warnings(gaussian_prior(), 17) == ()


def test_an_audit_of_larger_images_says_what_is_too_fine(data: Path) -> None:
    (warning,) = [line for line in check(audit(data, size=96)).warnings if line.startswith("prior")]
    assert warning.startswith("prior: it draws 64 x 64 px, and its changes are laid on the images of 96 x 96 px")


TRAIN: dict[str, tuple[dict[str, Any], int, str | None]] = {
    "any size": ({"size": 28}, 28, None),
    "too deep for the training's size": ({"size": 8, "patch": 4, "channels": [8, 8, 8]}, 64, "a side of 8 px is too short.*16"),
    "too deep for the data": ({"patch": 8, "channels": [8, 8, 8]}, 12, "a side of 12 px is too short for .* multiples of 32"),
}


@pytest.mark.parametrize(("training", "size", "words"), TRAIN.values(), ids=TRAIN)
def test_a_prior_to_be_trained_takes_any_size_that_can_be_padded(
    data: Path, training: dict[str, Any], size: int, words: str | None
) -> None:
    if words is None:
        said = check(audit(data, size=size, prior={"train": training})).warnings
        assert not [warning for warning in said if not warning.startswith("classifier: it sees 64 px")]
    else:
        with pytest.raises(ValueError, match=words):
            check(audit(data, size=size, prior={"train": training}))


def test_a_prior_of_28_px_trains_and_says_its_size(tmp_path: Path) -> None:
    shape = PriorTraining(size=28, patch=2, channels=(8, 8, 8), steps=2, batch=2)
    prior = load_ddpm(train_prior(lambda step: torch.zeros(2, 3, 28, 28), shape, tmp_path))
    assert prior.size == (28, 28) and prior.multiple == 8 and size_warnings(prior, 28) == ()
    assert prior.step(torch.zeros(1, 3, 28, 28), 5).mean.shape == (1, 3, 28, 28)


def learned(data: Path, training: dict[str, Any]) -> Run:
    """The run of an audit that trained its prior."""
    run = check(audit(data, prior={"train": training | {"batch": 2}}))
    learn(run, ingest(run), [])
    return run


def test_a_prior_that_an_audit_trained_is_held_to_the_same(data: Path) -> None:
    short = {"steps": 2, "channels": [16, 16], "size": 32}
    for _ in range(2):  # what was trained is kept, and is no better the second time
        with pytest.raises(UserError, match=r"^prior: 2 steps taught it too little .*`prior\.train\.steps`.*priors/"):
            learned(data, short)
    bundled = str(files("cfx") / "weights" / "portraits" / "prior")
    run = learned(data, {"steps": 1, "start": bundled, "learning_rate": 1e-6})
    assert run.prior is not None and run.denoiser().size == (64, 64)
