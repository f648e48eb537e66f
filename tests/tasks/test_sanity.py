"""Whether prior and classifier get along."""

from pathlib import Path

import pytest
import torch

from cfx.classifiers import ClassifierConfig
from cfx.diffusion.ddpm import DDPM, Schedule, save_ddpm
from cfx.diffusion.training import PriorTraining, build_unet
from cfx.methods.ace import ACE
from cfx.methods.dime import DiME, FastDiME
from cfx.methods.svce import SVCE
from cfx.portraits import write_portraits
from tasks.advice.prior_check import check_depth
from tasks.advice.prior_fit import check_fit, filtered, survival
from tasks.config import PriorConfig
from tasks.data.ingest import DataConfig, sample
from tasks.networks import classifier_for, denoiser_for
from tasks.shard_images import Images
from tasks.stages.prior import prior_folder
from tests.toys import Linear, Says, gaussian_prior

BDD = DDPM(Says(0.0), Schedule(trained_timesteps=250), channels=3)


def test_a_start_beyond_the_trained_steps_is_refused() -> None:
    check_depth((DiME(steps=200, tau=45), DiME(steps=200, tau=45, exact_start=False)), BDD)  # step 221, as published
    check_depth((ACE(steps=100, tau=5),), BDD)
    with pytest.raises(ValueError, match="tau 60 of 200 starts at step 296 of 1000, .* first 250 only; use tau 50 or less"):
        check_depth((DiME(steps=200, tau=60),), BDD)
    check_depth((DiME(steps=200, tau=50),), BDD)
    with pytest.raises(ValueError, match="use tau 50 or less"):
        check_depth((DiME(steps=200, tau=51),), BDD)
    check_depth((DiME(steps=200, tau=60),), DDPM(Says(0.0), Schedule(), channels=3))
    check_depth((SVCE(),), BDD)  # takes no prior


def test_filtering_by_an_exact_prior_of_grey_images() -> None:
    # images of N(0, .25 I) stay such images: with little noise the image itself, with all of it another one
    x = (torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 0.5).clamp(-1, 1)
    ids = [str(i) for i in range(8)]
    shallow = filtered(gaussian_prior(50), Linear(), Images(ids, x), 50, 1)
    assert shallow.kept == 1 and shallow.change.distance < 0.01
    deep = filtered(gaussian_prior(50), Linear(), Images(ids, x), 50, 50)
    assert (
        deep.kept is not None and deep.kept < 1 and 0.2 < deep.change.distance < 0.4
    )  # of two independent such images: .5 sqrt(4 / pi) / 2 = .28


@pytest.fixture
def data(tmp_path: Path) -> DataConfig:
    write_portraits(tmp_path, 12, seed=0)
    (tmp_path / "images/00003.png").write_bytes(b"broken")
    return DataConfig(images=tmp_path / "images", table=tmp_path / "attributes.csv", label_column="label")


def test_the_sample_is_the_same_every_time_and_leaves_out_what_cannot_be_used(data: DataConfig) -> None:
    assert sample(data, 5).x.shape == (5, 3, 64, 64)
    assert sample(data, 5).ids == sample(data, 5).ids
    assert len(set(sample(data, 99).ids)) == 11


def test_a_prior_that_fits_says_nothing_and_one_that_does_not_is_refused(data: DataConfig, tmp_path: Path) -> None:
    planted, ladder = classifier_for(ClassifierConfig(weights="portraits:planted"), "cpu"), (FastDiME(steps=50, tau=4),)
    bundled = denoiser_for(prior_folder(Path(), PriorConfig(path="portraits:prior"), ""), "cpu")
    found = survival(bundled, planted, data, ladder)
    assert found is not None and found.kept is not None and found.kept > 0.8 and check_fit(found, ladder) == ()
    (warning,) = check_fit(found._replace(kept=0.375, chance=0.3), ladder)
    assert "38% of 8 images keep their prediction" in warning and "cfx calibrate" in warning
    untrained = build_unet(PriorTraining(patch=4, channels=(32, 32)))
    save_ddpm(tmp_path / "prior", untrained, Schedule(prediction_type="sample"))
    lost = survival(denoiser_for(tmp_path / "prior", "cpu"), planted, data, (FastDiME(steps=50, tau=30),))
    with pytest.raises(ValueError, match="does not fit these images"):
        check_fit(lost, (FastDiME(steps=50, tau=30),))
    assert survival(bundled, planted, data, (SVCE(),)) is None
