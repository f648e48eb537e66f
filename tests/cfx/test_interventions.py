"""Edits of one attribute alone, by the bundled prior and oracle."""

from importlib.resources import files
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cfx.attributes.interventions import Interventions, Wanted, edit_alone
from cfx.attributes.oracle import Oracle, OracleConfig, load_oracle
from cfx.diffusion.ddpm import DDPM, load_ddpm
from cfx.portraits import ATTRIBUTES
from cfx.training.portraits import rendered
from cfx.types import Edit

GLASSES, N = ATTRIBUTES.index("glasses"), 6
IDS = [str(i) for i in range(N)]


@pytest.fixture(scope="module")
def oracle() -> Oracle:
    return load_oracle(OracleConfig(weights=Path("portraits:oracle")))


@pytest.fixture(scope="module")
def prior() -> DDPM:
    return load_ddpm(Path(str(files("cfx") / "weights" / "portraits" / "prior"))).respaced(50)


@pytest.fixture(scope="module")
def x() -> Tensor:
    images, _, _ = rendered(N, seed=11)
    return images.float() / 127.5 - 1


@pytest.fixture(scope="module")
def edit(prior: DDPM, oracle: Oracle, x: Tensor) -> Edit:
    return edit_alone(prior, oracle, x, GLASSES, Interventions(), IDS)


def test_the_edit_toggles_its_attribute_and_the_sham_does_not(oracle: Oracle, x: Tensor, edit: Edit) -> None:
    before, after, sham = (oracle(image)[:, GLASSES] > 0.5 for image in (x, edit.x_edit, edit.x_sham))
    assert (after != before).sum() >= N - 1
    assert torch.equal(sham, before)


def test_other_attributes_stay_where_they_are(oracle: Oracle, edit: Edit) -> None:
    change = (oracle(edit.x_edit) - oracle(edit.x_sham)).abs()
    change[:, GLASSES] = 0
    assert change.mean() < 0.02
    assert (change.amax(1) < 0.2).sum() >= N - 1


def test_edit_and_sham_redraw_the_same_region_and_no_other_pixel(x: Tensor, edit: Edit) -> None:
    outside = (1 - edit.mask).bool().expand_as(x)
    for redrawn in (edit.x_edit, edit.x_sham):
        assert torch.equal(redrawn[outside], x[outside])
        assert not torch.equal(redrawn, x)
    assert 0 < edit.mask.mean() < 0.5


def test_an_edit_does_not_depend_on_the_batch(prior: DDPM, oracle: Oracle, x: Tensor, edit: Edit) -> None:
    alone = edit_alone(prior, oracle, x[2:3], GLASSES, Interventions(), IDS[2:3])
    assert (alone.x_sham - edit.x_sham[2:3]).abs().mean() < 1e-3


def test_what_is_wanted_is_the_toggled_attribute_with_all_others_as_they_were(oracle: Oracle, x: Tensor) -> None:
    logits = oracle.logits(x)
    signs = logits.sign()
    signs[:, GLASSES] *= -1
    wanted = Wanted(oracle, signs, GLASSES)(x)
    others = torch.log1p(torch.exp(3.0 - logits.abs())).sum(1) - torch.log1p(torch.exp(3.0 - logits[:, GLASSES].abs()))
    assert wanted[:, 1] == pytest.approx(-logits[:, GLASSES].abs() - others, abs=1e-4)
    assert wanted[:, 0].eq(0).all()
