"""Networks by name from torchvision and timm, with what their makers say about images and classes."""

from typing import Any

import pytest
import timm
import torch
from torch.nn.functional import interpolate
from torchvision.models import resnet18

from cfx.classifiers import ClassifierConfig, load_classifier
from tasks.advice.understanding import shown_to
from tasks.config import AuditConfig

MEAN, STD = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)


def image(side: int = 64) -> torch.Tensor:
    return torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_torchvision_by_name_from_a_file(tmp_path):
    network = resnet18(weights=None).eval()
    torch.save(network.state_dict(), tmp_path / "resnet18.pth")
    classifier = load_classifier(ClassifierConfig(module="torchvision:resnet18", weights=tmp_path / "resnet18.pth"))
    shown = interpolate(image(), size=(224, 224), mode="bilinear", antialias=True)
    with torch.no_grad():  # at the size and with the normalisation of the published weights
        torch.testing.assert_close(classifier(image()), network(((shown + 1) / 2 - MEAN) / STD))
    assert len(classifier.classes) == 1000
    assert classifier.classes.index("zebra") == 340 and classifier.classes.index("sorrel") == 339


def test_timm_by_name_with_a_tag_and_a_head_of_ones_own(tmp_path):
    network = timm.create_model("test_resnet.r160_in1k", num_classes=3).eval()
    torch.save({"state_dict": network.state_dict()}, tmp_path / "own.pth")
    config = {"module": "timm:test_resnet.r160_in1k", "kwargs": {"num_classes": 3}, "classes": ("a", "b", "c")}
    classifier = load_classifier(ClassifierConfig(weights=tmp_path / "own.pth", **config))
    facts: Any = network.pretrained_cfg
    mean, std = (torch.tensor(facts[name]).view(3, 1, 1) for name in ("mean", "std"))
    with torch.no_grad():
        torch.testing.assert_close(classifier(image()), network(((image() + 1) / 2 - mean) / std))
        plain = load_classifier(ClassifierConfig(weights=tmp_path / "own.pth", mean=(0.5,) * 3, std=(0.5,) * 3, **config))
        torch.testing.assert_close(plain(image()), network(image()))  # the user's own word counts


def test_a_network_of_one_size_is_given_that_size():
    classifier = load_classifier(ClassifierConfig(module="timm:test_vit.r160_in1k"))
    assert classifier.network.input_size == 160 and classifier(image(48)).shape == (2, 1000)
    assert classifier.classes.index("zebra") == 340


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"module": "torchvision:resnet5o"}, "torchvision makes no 'resnet5o'"),
        ({"module": "timm:resnet5o"}, "timm makes no 'resnet5o'"),
        ({"module": "timm:test_resnet", "kwargs": {"clases": 3}}, "timm makes no 'test_resnet' of {'clases': 3}"),
        ({"module": "timm:test_resnet", "kwargs": {"num_classes": 3}}, "set `classes`"),
    ],
)
def test_what_a_hub_cannot_make_is_reported(settings, message):
    with pytest.raises(ValueError, match=message):
        load_classifier(ClassifierConfig(**settings))


@pytest.mark.parametrize(
    ("module", "settings", "said"),
    [
        (
            "timm:test_resnet.r160_in1k",
            {},
            "none (by the default); its hub's own transform leaves 95.0% of the side: set `crop: 0.95`",
        ),
        (
            "torchvision:resnet18",
            {},
            "none (by the default); its hub's own transform leaves 87.5% of the side: set `crop: 0.875`",
        ),
        ("torchvision:resnet18", {"crop": 0.875}, "the central 87.5% of the side (by the settings)"),
    ],
)
def test_what_production_cuts_off_is_said_or_done(module: str, settings: dict[str, Any], said: str) -> None:
    config = ClassifierConfig(module=module, **settings)
    classifier = load_classifier(config)
    audit = AuditConfig.model_validate(
        {"name": "t", "data": {"images": "i", "table": "t"}, "classifier": config, "target": "zebra"}
    )
    assert shown_to(classifier, audit)["crop"].startswith(said)
    if settings:
        cut = classifier(image(64))
        classifier.network.crop = 1.0
        torch.testing.assert_close(classifier(image(64)[..., 4:60, 4:60]), cut)
