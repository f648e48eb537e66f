"""Maps that are known by hand or by captum, and agreement of maps in worked numbers."""

from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import LayerGradCam
from torch import nn

from benchmarks.hit import Labelled, marks, recipe, trained
from cfx.classifiers.network import Network, NetworkConfig
from cfx.classifiers.torch_module import TorchClassifier
from cfx.errors import UserError
from cfx.guidance import class_loss
from cfx.metrics.agreement import (
    against_truth,
    cross_examined,
    enlarged,
    iou_at_equal_area,
    pointing,
    rank_correlation,
)
from cfx.networks.convnet import ConvNet
from cfx.networks.hit import HiT, HiTShape
from cfx.networks.vit import vit
from cfx.portraits import ATTRIBUTES, region, sample
from cfx.saliency.maps import (
    Saliency,
    default_map,
    grad_cam,
    hit_map,
    integrated_gradients,
    maps_for,
    rollout,
    saliency,
)
from tasks.config import SaliencyConfig
from tasks.stages.saliency import check_saliency

SHAPE = HiTShape(size=16, patch=4, width=8, heads=2, blocks=(2,))


def behind(
    module: nn.Module, classes: tuple[str, ...] = ("a", "b"), head: str = "softmax", output: int | None = None
) -> TorchClassifier:
    """The module with every weight random, as a classifier."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    network = Network(module, "toy", NetworkConfig(module="a:b"), {}).eval().requires_grad_(False)
    return TorchClassifier(network, classes, head, output).eval()


IMAGES, TARGETS = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1, torch.tensor([0, 1, 1])
MAKERS = {
    "hit": lambda: behind(HiT(2, SHAPE)),
    "vit": lambda: behind(vit(2, SHAPE)),
    "convnet": lambda: behind(ConvNet(2, (8, 8, 8), grid=2)),
    "plain": lambda: behind(nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(196, 2))),
}


@pytest.mark.parametrize("name", MAKERS)
def test_every_classifier_has_its_maps(name):
    classifier = MAKERS[name]()
    assert "integrated_gradients" in maps_for(classifier)
    for kind in maps_for(classifier):
        found = saliency(classifier, IMAGES, TARGETS, Saliency(map=kind, steps=4))
        assert found.ndim == 3 and len(found) == 3, kind
        assert found.isfinite().all() and not found.requires_grad, kind
        alone = saliency(classifier, IMAGES[1:2], TARGETS[1:2], Saliency(map=kind, steps=4))
        assert torch.allclose(found[1:2], alone, atol=1e-5), kind
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in classifier.modules())


def part(classifier: TorchClassifier, name: str) -> Any:
    """A part of the network behind a classifier."""
    return getattr(classifier.network.module, name)


def test_a_hits_map_adds_up_to_the_log_odds():
    classifier = MAKERS["hit"]()
    bias = part(classifier, "head").bias
    log_odds = -class_loss(classifier(IMAGES) - bias, TARGETS, "logit")
    assert torch.allclose(hit_map(classifier, IMAGES, TARGETS).sum((1, 2)), log_odds, atol=1e-4)


def test_above_an_empty_image_a_hits_map_adds_up_to_the_difference():
    classifier, empty = MAKERS["hit"](), torch.zeros_like(IMAGES)
    before, after = (-class_loss(classifier(x), TARGETS, "logit") for x in (empty, IMAGES))
    assert torch.allclose(hit_map(classifier, IMAGES, TARGETS, empty).sum((1, 2)), after - before, atol=1e-4)


def test_one_logit_of_many_is_mapped_alone():
    classifier = behind(HiT(3, SHAPE), head="sigmoid", output=2)
    bias = part(classifier, "head").bias[2]
    log_odds = classifier(IMAGES)[:, 1] - bias
    sign = torch.tensor([-1.0, 1.0, 1.0])
    assert torch.allclose(hit_map(classifier, IMAGES, TARGETS).sum((1, 2)), sign * log_odds, atol=1e-4)


def test_rollout_shares_out_one():
    assert torch.allclose(rollout(MAKERS["hit"](), IMAGES).sum((1, 2)), torch.ones(3), atol=1e-5)
    flow = rollout(MAKERS["vit"](), IMAGES)
    assert flow.shape == (3, 4, 4)
    assert (flow >= 0).all() and (flow.sum((1, 2)) < 1).all()  # what is left stays with the class token


def test_rollout_of_one_layer_by_hand():
    classifier = behind(vit(2, HiTShape(size=16, patch=4, width=8, heads=1, blocks=(1,))))
    attention = part(classifier, "blocks")[0].attn
    seen: list[torch.Tensor] = []
    attention.fused_attn = False
    attention.attn_drop.register_forward_hook(lambda module, args, output: seen.append(output))
    flow = rollout(classifier, IMAGES)
    assert torch.allclose(flow.flatten(1), seen[0][:, 0, 0, 1:] / 2, atol=1e-6)


def test_integrated_gradients_of_a_linear_network_are_weight_times_input():
    linear = nn.Linear(768, 2)
    classifier = behind(nn.Sequential(nn.Flatten(), linear))
    weight = (linear.weight[1] - linear.weight[0]).view(3, 16, 16)
    found = integrated_gradients(classifier, IMAGES, torch.ones(3, dtype=torch.long), steps=3)
    assert torch.allclose(found, (weight * IMAGES).sum(1), atol=1e-5)


def test_grad_cam_is_captums_also_where_it_needs_no_folding():
    classifier = MAKERS["convnet"]()
    layer = part(classifier, "features")[-3]
    expected = LayerGradCam(lambda x: classifier(x) @ torch.tensor([-1.0, 1.0]), layer).attribute(
        IMAGES.clone().requires_grad_(), relu_attributions=True
    )
    found = grad_cam(classifier, IMAGES, torch.ones(3, dtype=torch.long))
    assert torch.allclose(found, expected[:, 0], atol=1e-6)
    assert found.max() > 0


def test_grad_cam_plus_plus_of_equal_gradients_by_hand():
    """One channel, gradient g at each of 4 places, activations A: alpha = 1 / (2 + g sum A), weight = 4 alpha g."""
    convolution, head = nn.Conv2d(3, 1, 1, bias=False), nn.Linear(4, 2, bias=False)
    classifier = behind(nn.Sequential(convolution, nn.Flatten(), head))
    with torch.no_grad():
        convolution.weight.copy_(torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1))
        head.weight.copy_(torch.tensor([[0.0] * 4, [0.5] * 4]))
    x = torch.zeros(1, 3, 2, 2)
    x[0, 0] = torch.tensor([[1.0, 0.0], [0.5, 0.5]])
    found = saliency(classifier, x, torch.tensor([1]), Saliency(map="grad_cam++", layer="0"))
    alpha = 1 / (2 + 0.5 * 2.0)
    assert torch.allclose(found[0], 4 * alpha * 0.5 * x[0, 0], atol=1e-6)


def test_maps_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match=r"needs a HiT, but the network is a ConvNet; use grad_cam, grad_cam\+\+ or integrated"):
        saliency(MAKERS["convnet"](), IMAGES, TARGETS, Saliency(map="hit"))
    with pytest.raises(ValueError, match="needs a HiT or timm's VisionTransformer, not a ConvNet"):
        saliency(MAKERS["convnet"](), IMAGES, TARGETS, Saliency(map="rollout"))
    with pytest.raises(ValueError, match="layer 'conv9' is not in the ConvNet"):
        saliency(MAKERS["convnet"](), IMAGES, TARGETS, Saliency(map="grad_cam", layer="conv9"))
    placeless = behind(nn.Sequential(nn.Flatten(), nn.Linear(768, 2)))
    with pytest.raises(ValueError, match="no layer with places"):
        grad_cam(placeless, IMAGES, TARGETS)


def test_what_cannot_be_is_refused_before_any_work_and_the_default_can_always_be():
    placeless = behind(nn.Sequential(nn.Flatten(), nn.Linear(768, 2)))
    for classifier, wanted, words in (
        (placeless, {"map": "grad_cam"}, "no layer with places"),
        (MAKERS["convnet"](), {"map": "grad_cam++", "layer": "conv9"}, "layer 'conv9' is not in the ConvNet"),
        (MAKERS["convnet"](), {"map": "hit"}, "cannot have map 'hit'"),
    ):
        with pytest.raises(UserError, match=words):
            check_saliency(SaliencyConfig(maps=(wanted,)), classifier, (16, 16))
    kinds = {name: default_map(make(), (16, 16)).map for name, make in (MAKERS | {"placeless": lambda: placeless}).items()}
    assert kinds == {
        "hit": "hit",
        "vit": "grad_cam",
        "convnet": "grad_cam",
        "plain": "grad_cam",
        "placeless": "integrated_gradients",
    }
    assert saliency(placeless, IMAGES, TARGETS, default_map(placeless, (16, 16))).shape == (3, 16, 16)


def test_worked_agreement():
    saliency = torch.tensor([[[4.0, 3.0], [2.0, 1.0]]])
    top, diagonal = torch.tensor([[[True, True], [False, False]]]), torch.tensor([[[True, False], [False, True]]])
    assert iou_at_equal_area(saliency, top).item() == 1
    assert iou_at_equal_area(saliency, diagonal).item() == pytest.approx(1 / 3)
    assert pointing(saliency, top).item() == 1
    assert pointing(-saliency, top).item() == 0
    assert rank_correlation(saliency, saliency**3).item() == pytest.approx(1)


def test_ties_are_shared_and_nothing_agrees_with_nothing():
    flat, region = torch.zeros(1, 4, 4), torch.zeros(1, 4, 4, dtype=torch.bool)
    region[0, 0] = True
    assert iou_at_equal_area(flat, region).item() == pytest.approx(1 / 7)  # 1 of 4 in common: 1 / (4 + 4 - 1)
    assert pointing(flat, region).item() == pytest.approx(0.25)
    assert rank_correlation(flat, torch.rand(1, 4, 4)).item() == 0
    assert iou_at_equal_area(torch.rand(1, 4, 4), torch.zeros_like(region)).item() == 0


def test_cross_examination_of_a_counterfactual_that_changed_the_salient_corner():
    x = torch.zeros(1, 3, 8, 8)
    x_cf = x.clone()
    x_cf[..., :4, :4] = 0.5
    corner = torch.tensor([[[1.0, 0.0], [0.0, 0.0]]])
    assert {name: value.item() for name, value in cross_examined(corner, x, x_cf).items()} == pytest.approx(
        {"pointing": 1.0, "iou_at_equal_area": 1.0, "iou_by_chance": 1 / 7, "rank_correlation": 1.0}
    )
    away = cross_examined(corner.flip(2), x, x_cf)
    assert away["pointing"].item() == 0 and away["iou_at_equal_area"].item() == 0
    same = cross_examined(corner, x, x)  # nothing changed: agrees with nothing
    assert all(value.item() == 0 for value in same.values())


def test_chance_is_what_random_maps_score():
    region = torch.zeros(400, 16, 16, dtype=torch.bool)
    region[:, 3:8, 2:10] = True
    noise = torch.rand(400, 16, 16, generator=torch.Generator().manual_seed(0))
    found = against_truth(noise, region)
    assert found["truth_iou"].mean().item() == pytest.approx(found["truth_iou_by_chance"][0].item(), abs=0.01)
    assert against_truth(region.float(), region)["truth_iou"].mean() == 1


def test_the_region_of_an_attribute_is_where_toggling_it_shows():
    portrait = sample(np.random.default_rng(0))
    regions = {name: torch.from_numpy(region(portrait, name)) for name in ATTRIBUTES}
    assert all(region.any() for region in regions.values())
    assert torch.equal(regions["smile"], torch.from_numpy(region(portrait.toggled("smile"), "smile")))
    rows = regions["smile"].nonzero()[:, 0]
    assert rows.min() >= 36 and rows.max() <= 54  # a mouth, in the lower half of the face
    assert regions["smile"].sum() < 200 < regions["warm_background"].sum()


@pytest.mark.slow
@pytest.mark.long
def test_a_hit_that_learned_a_planted_mark_points_at_it(tmp_path):
    """The mark, one patch, agrees with the label more often than the smile does."""
    classifier = trained(lambda: marks(1_300, 2), recipe("hit"), tmp_path / "mark.safetensors", "mark")
    tested = marks(100, 90_000)
    tested = Labelled(*(part[tested.marked] for part in tested))
    x = tested.images.float() / 127.5 - 1
    target = classifier(x).argmax(1)
    pixels = enlarged(hit_map(classifier, x, target), (64, 64))
    assert target.float().mean() > 0.95  # with the mark, everyone smiles
    assert pointing(pixels, tested.region).mean() > 0.95
    assert iou_at_equal_area(pixels, tested.region).mean() > 0.8
