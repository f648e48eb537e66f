"""The published settings: each makes a ladder that validates, with the numbers of its paper."""

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from cfx.classifiers import ClassifierConfig
from cfx.methods.ace import ACE
from cfx.methods.dime import DiME
from cfx.methods.dvce import DVCE
from cfx.methods.svce import SVCE
from cfx.presets import DEFAULT, PAPER, named, paper
from tasks.config import Ladder


def files_of(method: str) -> dict[str, Any]:
    """What a preset reads from files."""
    if method.startswith("dvce-"):
        return {"robust": ClassifierConfig(weights="robust.safetensors")}
    if "dime" in method:
        return {"vgg19": "vgg19.pth"}
    return {"vgg16": "vgg16.pth"} if method == "blended" else {}


@pytest.mark.parametrize(("method", "data"), list(PAPER))
def test_a_preset_makes_a_ladder_that_survives_its_own_json(method: str, data: str) -> None:
    ladder = paper(method, data, **files_of(method))
    assert len(ladder) == max(1, len(PAPER[method, data].scales))
    for rung in ladder:
        assert type(rung).model_validate_json(rung.model_dump_json()) == rung
        assert rung.scale > 0
    scales = [rung.scale for rung in ladder]
    assert scales == sorted(scales)


@pytest.mark.parametrize("data", ["celeba", "celebahq", "bdd", "imagenet"])
def test_every_data_set_has_presets(data: str) -> None:
    methods = {method.split("-")[0] for method, name in PAPER if name.split("-")[0] == data}
    assert {"ace", "maskdime"} <= methods


def test_worked_rows() -> None:
    dime = paper("dime", "bdd", vgg19="vgg19.pth")
    assert all(isinstance(rung, DiME) and (rung.steps, rung.tau, rung.perceptual) == (200, 45, 30.0) for rung in dime)
    assert [rung.scale for rung in dime] == [50.0, 55.0]
    (ace,) = paper("ace-l2", "celebahq-age")
    assert isinstance(ace, ACE)
    assert (ace.steps, ace.tau, ace.threshold, ace.distance, ace.distance_weight, ace.refinements) == (25, 5, 0.05, "l2", 0.1, 1)
    (dvce,) = paper("dvce-swin-l", "imagenet", robust=ClassifierConfig(weights="robust.safetensors"))
    assert isinstance(dvce, DVCE)
    assert (dvce.scale, dvce.distance, dvce.angle, dvce.augmentations, dvce.tau) == (0.1, 0.15, 30.0, 16, 100)
    (svce,) = paper("svce", "imagenet")
    assert isinstance(svce, SVCE) and svce.radii == (50.0, 75.0, 100.0, 150.0)


def test_what_is_missing_is_reported() -> None:
    with pytest.raises(
        ValueError, match="no published settings for dime/imagenet; there are default, dime/celeba, dime/celebahq"
    ):
        paper("dime", "imagenet")
    with pytest.raises(ValidationError, match="needs VGG19"):
        paper("dime", "celeba")
    with pytest.raises(ValueError, match="give `robust`"):
        paper("dvce-swin-l", "imagenet")


def test_a_ladder_may_be_given_by_name() -> None:
    ladder: TypeAdapter[tuple[Any, ...]] = TypeAdapter(Ladder)
    assert ladder.validate_python("default") == DEFAULT == ladder.validate_python({"preset": "default"})
    assert ladder.validate_json(ladder.dump_json(DEFAULT)) == DEFAULT
    assert ladder.validate_python("ace-l1/celeba") == paper("ace-l1", "celeba")
    with_file = {"preset": "dime/celeba", "vgg19": "vgg19.pth"}
    assert ladder.validate_python(with_file) == paper("dime", "celeba", vgg19="vgg19.pth")
    assert named([1, 2]) == [1, 2] and named({"method": "ace"}) == {"method": "ace"}
    with pytest.raises(ValidationError, match="no published settings for defualt/; there are default, dime/celeba"):
        ladder.validate_python("defualt")


def test_the_default_grows_harder_and_costs_nine_evaluations_a_rung() -> None:
    assert [rung.tau for rung in DEFAULT] == [9, 9, 9]
    assert [rung.scale for rung in DEFAULT] == sorted({rung.scale for rung in DEFAULT})
    assert all(rung.adaptive for rung in DEFAULT)
