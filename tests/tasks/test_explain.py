"""The explanation stage with the bundled networks: results belong to the image and the seed, not to the batch."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.distance import minkowski
from scipy.special import expit
from torch import nn

from cfx.classifiers import ClassifierConfig
from cfx.classifiers.network import Network, NetworkConfig
from cfx.classifiers.torch_module import TorchClassifier
from cfx.diffusion.first_step import FirstAnswers
from cfx.methods.dime import FastDiME
from cfx.methods.maskdime import MaskDiME
from cfx.portraits import draw, render
from cfx.types import Counterfactual
from tasks import fixed_batches
from tasks.config import Method, PriorConfig
from tasks.explainer import Explainer, Targets, check_ladder, explain_images, null_images
from tasks.networks import classifier_for, denoiser_for
from tasks.stages.explain import measured
from tasks.stages.prior import prior_folder

PRIOR = prior_folder(Path(), PriorConfig(path="portraits:prior"), "")
PLANTED = ClassifierConfig(weights="portraits:planted")
IDS = [f"portrait-{i}" for i in range(64)]


@pytest.fixture(scope="module")
def x() -> torch.Tensor:
    pixels = np.stack([render(portrait) for _, portrait in draw(64, seed=8)])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1


@pytest.mark.parametrize(
    "method", [FastDiME(steps=50, tau=8, scale=40), pytest.param(MaskDiME(steps=50, tau=8), marks=pytest.mark.slow)]
)
def test_an_image_is_explained_the_same_bit_for_bit_beside_any_others(x: torch.Tensor, method: Method) -> None:
    classifier = classifier_for(PLANTED, "cpu")
    explainer = Explainer(denoiser_for(PRIOR, "cpu"), classifier, (method,), 64)
    target = 1 - classifier(x).argmax(1)

    def explained(chosen: list[int]) -> torch.Tensor:
        return explain_images(explainer, Targets([IDS[i] for i in chosen], x[chosen], target[chosen]), 0)[0].x_cf

    together = explained(list(range(20)))  # two full batches and one filled up
    assert torch.equal(explained(list(range(19, -1, -1))).flip(0), together)
    assert torch.equal(explained([17]), together[17:18])
    assert (together - x[:20]).abs().amax() > 0.1  # and they are explanations, not copies


def test_a_filled_up_batch_gives_what_one_image_at_a_time_does(x: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    classifier = classifier_for(PLANTED, "cpu")
    explainer = Explainer(denoiser_for(PRIOR, "cpu"), classifier, (FastDiME(steps=50, tau=8, scale=40),), 64)
    targets = Targets(IDS[:11], x[:11], 1 - classifier(x[:11]).argmax(1))
    together, costs = explain_images(explainer, targets, 0)
    monkeypatch.setattr(fixed_batches, "PIXELS", 64 * 64)
    alone, same = explain_images(explainer, targets, 0)
    torch.testing.assert_close(together.x_cf, alone.x_cf, atol=1e-5, rtol=0)
    assert [cost.nfe_forward for cost in costs] == [cost.nfe_forward for cost in same] == [8]


def test_the_null_takes_the_rung_and_the_noise_of_each_image(x: torch.Tensor) -> None:
    prior, classifier = denoiser_for(PRIOR, "cpu"), classifier_for(PLANTED, "cpu")
    ladder = (FastDiME(steps=50, tau=3, scale=20), FastDiME(steps=50, tau=6, scale=20))
    target, attempt = torch.ones(4, dtype=torch.long), torch.tensor([0, 1, 0, 1])
    explainer = Explainer(prior, classifier, ladder, 64)
    null, _, costs = null_images(explainer, Targets(IDS[:4], x[:4], target), attempt, 0)
    assert [cost.nfe_forward for cost in costs] == [3, 6, 3, 6]
    other, _, _ = null_images(Explainer(prior, classifier, ladder, 1), Targets(IDS[:4], x[:4], 1 - target), attempt, 0)
    torch.testing.assert_close(null, other, atol=1e-5, rtol=0)  # without guidance the target plays no part


def test_nulls_share_batches_across_rungs_and_the_first_state_of_their_guided_runs(x: torch.Tensor) -> None:
    prior, classifier = denoiser_for(PRIOR, "cpu"), classifier_for(PLANTED, "cpu")
    ladder = tuple(FastDiME(steps=50, tau=3, scale=scale) for scale in (0.01, 0.02))  # too weak: every image ends on the second
    sure = x[classifier(x).softmax(1).amax(1).topk(10).indices]
    targets, attempt = Targets(IDS[:10], sure, 1 - classifier(sure).argmax(1)), torch.tensor([0, 1] * 5)
    explainer = Explainer(prior, classifier, ladder, 64)
    known: FirstAnswers = {}
    guided, _ = explain_images(explainer, targets, 0, known)
    assert guided.attempt.tolist() == [1] * 10
    batches: list[int] = []
    prior.network.register_forward_hook(lambda network, seen, said: batches.append(len(seen[0])))
    alone, _, _ = null_images(explainer, targets, attempt, 0)
    assert batches == [8] * 6  # two batches of three steps, not two a rung
    sharing, _, costs = null_images(explainer, targets, attempt, 0, known)
    assert batches[6:] == [8] * 4 and {cost.nfe_forward for cost in costs} == {3}
    assert torch.equal(sharing, alone)


def test_a_ladder_of_several_methods_or_for_a_black_box_is_refused() -> None:
    classifier = classifier_for(PLANTED, "cpu")
    with pytest.raises(ValueError, match="mixes fastdime, maskdime"):
        check_ladder((FastDiME(), MaskDiME()), classifier)

    class Endpoint:
        classes = ("no", "yes")
        differentiable = False

        def __call__(self, x: torch.Tensor) -> torch.Tensor:
            return torch.zeros(len(x), 2)

    with pytest.raises(ValueError, match="'fastdime' needs gradients"):
        check_ladder((FastDiME(),), Endpoint())


class Grey(nn.Module):
    """One logit, the mean of an image's first channel."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, :1].mean((2, 3))


def test_flips_are_the_worked_example_and_distances_scipys() -> None:
    # targets 1, 0, 1, 0 and logits .2, -1, -.3, 0, where a logit of 0 is class 0: FR .75
    logits, target = torch.tensor([0.2, -1.0, -0.3, 0.0]), [1, 0, 1, 0]
    x = torch.rand(4, 3, 6, 6, generator=torch.Generator().manual_seed(0)) * 2 - 1
    x_cf = x.flip(0)
    x_cf[:, 0] = logits.view(4, 1, 1)
    network = Network(Grey(), "grey", NetworkConfig(module="torch.nn:Identity"), {})
    audited, judge = (TorchClassifier(network, names, "sigmoid") for names in (("no", "yes"), ("yes", "no")))
    targets, changed = Targets(IDS[:4], x, torch.tensor(target)), Counterfactual(x_cf, torch.full((4, 1, 6, 6), torch.nan))
    rows = measured(audited, judge, targets, torch.tensor([0, 1, 0, 1]), changed)
    assert rows["flipped"] == [True, True, False, True]
    assert rows["judge_flipped"] == [False, False, True, False]  # it calls the same logits by the other name
    on_target = expit([0.2, 1.0, -0.3, 0.0])
    assert rows["p_target_cf"] == pytest.approx(on_target, abs=1e-6)
    assert rows["p_source_cf"] == pytest.approx(1 - on_target, abs=1e-6)
    a, b = (((part.double() + 1) / 2).flatten(1).numpy() for part in (x, x_cf))
    for name, p, scale in (("l1", 1, 108), ("l2", 2, 1), ("linf", float("inf"), 1)):
        assert rows[name] == pytest.approx([minkowski(v, w, p) / scale for v, w in zip(a, b, strict=True)])
