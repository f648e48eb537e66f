"""ACE on an exact prior and a linear classifier."""

import pytest
import torch
from diffusers import UNet2DModel
from pydantic import ValidationError

from benchmarks.live_bytes import LiveBytes
from cfx.diffusion.ddpm import DDPM, Schedule
from cfx.guidance import changed_region
from cfx.methods.ace import ACE, ace, attack, distance_gradient, distance_weight, filtered, filtered_gradient, refine
from cfx.random import ImageNoise
from tasks.cost import Counted
from tests.cfx.counting import counted_prior
from tests.toys import Linear, gaussian_prior

IDS = [f"image-{i}" for i in range(4)]
CLASSIFIER = Linear()
TOY = ACE(steps=50, tau=4, iterations=12, step_size=8 / 255, dilation=3)
UP = torch.ones(4, dtype=torch.long)


def images(n: int = 4) -> torch.Tensor:
    return (torch.randn(n, 3, 8, 8, generator=torch.Generator().manual_seed(3)) * 0.3).clamp(-1, 1)


def noise(seed: int = 0) -> ImageNoise:
    return ImageNoise.of(IDS, seed)


@pytest.mark.parametrize("wanted", [0, 1])
@pytest.mark.parametrize("distance", ["l1", "l2"])
@pytest.mark.parametrize(("kind", "step_size"), [("pgd", 8 / 255), ("gd", 1.0), ("cw", 10.0)])
def test_the_attack_moves_towards_the_target(kind: str, step_size: float, distance: str, wanted: int) -> None:
    method = TOY.model_copy(update={"attack": kind, "step_size": step_size, "distance": distance})
    target = torch.full((4,), wanted)
    x = (images() - 0.1 * (2 * wanted - 1)).clamp(-1, 1)  # on the other side, so that C&W has something to do
    pre_explanation = attack(gaussian_prior(), CLASSIFIER, x, target, method, noise())
    moved = (CLASSIFIER(pre_explanation) - CLASSIFIER(x))[:, 1]
    assert (moved > 0.1).all() if wanted else (moved < -0.1).all()
    assert pre_explanation.abs().max() <= 1 + 1e-6


@pytest.mark.parametrize("kind", ["pgd", "gd", "cw"])
@pytest.mark.parametrize("change", [{"epsilon": 0.0}, {"scale": 0.0}])
def test_without_room_or_guidance_the_input_comes_back_exactly(kind: str, change: dict[str, float]) -> None:
    x = images()
    x[0, 0, 0, 0], x[0, 0, 0, 1] = 1.0, -1.0  # where tanh saturates
    found = ace(gaussian_prior(), CLASSIFIER, x, UP, TOY.model_copy(update={"attack": kind, **change}), noise())
    torch.testing.assert_close(found.x_cf, x, atol=0, rtol=0)
    assert found.mask is not None and found.mask.sum() == 0


def test_one_sign_step_by_hand() -> None:
    # towards "high" the upper half brightens by a step of 1/255 on [0, 1]; the distance is no force yet; the lower half stays
    x, method, (prior, _) = images(), ACE(steps=50, tau=3, iterations=1), counted_prior(clip=False)
    pre_explanation = attack(prior, CLASSIFIER, x, UP, method, noise())
    torch.testing.assert_close(pre_explanation, (x + 2 / 255 * CLASSIFIER.weight).clamp(-1, 1))


def test_epsilon_bounds_every_pixel() -> None:
    x, method = images(), TOY.model_copy(update={"epsilon": 3 / 255})
    pre_explanation = attack(gaussian_prior(), CLASSIFIER, x, UP, method, noise())
    assert (pre_explanation - x).abs().max() <= 6 / 255 + 1e-6


def test_distance_gradients_by_hand() -> None:
    x = torch.zeros(2, 1, 1, 2)
    u = torch.tensor([[0.3, -0.4], [0.0, 0.0]]).view(2, 1, 1, 2)
    torch.testing.assert_close(distance_gradient(x, u, "l1").flatten(1), torch.tensor([[1.0, -1.0], [0.0, 0.0]]))
    torch.testing.assert_close(distance_gradient(x, u, "l2").flatten(1), torch.tensor([[0.6, -0.8], [0.0, 0.0]]))


def test_distance_schedules_by_hand() -> None:
    weights = {
        kind: [distance_weight(ACE(distance_schedule=kind, iterations=4, distance_weight=2.0), i) for i in range(4)]
        for kind in ("constant", "step", "linear")
    }
    assert weights == {"constant": [2.0] * 4, "step": [0.0, 0.0, 2.0, 2.0], "linear": [0.0, 0.5, 1.0, 1.5]}


def test_the_distance_holds_the_attack_back() -> None:
    x, prior = images(), gaussian_prior()
    free = attack(prior, CLASSIFIER, x, UP, TOY, noise())
    held = attack(prior, CLASSIFIER, x, UP, TOY.model_copy(update={"distance_weight": 10.0}), noise())
    assert (held - x).abs().mean() < (free - x).abs().mean() / 2


@pytest.mark.parametrize("kind", ["pgd", "cw"])
def test_checkpointed_gradient_is_that_of_plain_back_propagation(kind: str) -> None:
    u, prior = (images() + 1) / 2, gaussian_prior()
    drawn = [noise(i).like(u) for i in range(4)]
    method = TOY.model_copy(update={"attack": kind})
    plain, _ = filtered_gradient(prior, CLASSIFIER, u, UP, drawn, method)
    again, _ = filtered_gradient(prior, CLASSIFIER, u, UP, drawn, method.model_copy(update={"checkpoint": True}))
    torch.testing.assert_close(again, plain, atol=1e-5 * plain.abs().max().item(), rtol=0)
    assert plain.abs().max() > 0


def test_checkpointing_keeps_one_unet_call_at_a_time() -> None:
    u = (images() + 1) / 2
    alive = {}
    for recompute in (False, True):
        prior, network = counted_prior()
        drawn = [noise(i).like(u) for i in range(5)]
        filtered_gradient(prior, CLASSIFIER, u, UP, drawn, ACE(steps=50, checkpoint=recompute))
        alive[recompute] = network.most_alive
        assert (network.forwards, network.backwards) == (4 * (10 if recompute else 5), 4 * 5)
    assert alive[False] == 4


def test_checkpointing_keeps_a_third_of_the_bytes_of_a_real_unet_at_most() -> None:
    torch.manual_seed(0)
    unet = UNet2DModel(
        sample_size=16, block_out_channels=(16, 32), norm_num_groups=8, layers_per_block=1, attention_head_dim=8,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    prior = DDPM(unet.eval().requires_grad_(False), Schedule(), channels=3, steps=50)
    u, target = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1)), UP[:2]
    drawn = [ImageNoise.of(IDS[:2], i).like(u) for i in range(5)]
    kept: dict[bool, int] = {}
    gradients: dict[bool, torch.Tensor] = {}
    for recompute in (False, True):
        method = ACE(steps=50, tau=5, checkpoint=recompute)
        with LiveBytes() as live:
            gradients[recompute], _ = filtered_gradient(prior, Linear(16), u, target, drawn, method)
        kept[recompute] = live.peak
    assert kept[True] <= kept[False] / 3
    torch.testing.assert_close(gradients[True], gradients[False], atol=1e-5 * float(gradients[False].abs().max()), rtol=0)


def test_gradient_of_the_filter_in_closed_form() -> None:
    # for a Gaussian prior without clipping every step is affine: dF/dx is the product of its slopes
    prior, _ = counted_prior(clip=False)
    tau, x = 3, images(1).double().float()
    slope = float(prior.alphas_cumprod[tau - 1]) ** 0.5
    for t in range(tau):
        level = float(prior.alphas_cumprod[t])
        gain = 0.25 * level**0.5 / (0.25 * level + 1 - level)  # of the clean estimate
        slope *= float(prior.c1[t]) * gain + float(prior.c2[t])
    drawn = [torch.randn_like(x) for _ in range(tau)]
    shifted = filtered(prior, x + 0.01, drawn) - filtered(prior, x, drawn)
    torch.testing.assert_close(shifted, torch.full_like(x, 0.01 * slope), atol=1e-5, rtol=0)
    gradient, _ = filtered_gradient(prior, CLASSIFIER, (x + 1) / 2, UP[:1], drawn, ACE(steps=50, tau=tau, loss="logit"))
    expected = -2 * slope * CLASSIFIER.gain * CLASSIFIER.weight / CLASSIFIER.weight.numel()  # u is on [0, 1]: twice the slope
    torch.testing.assert_close(gradient[0], expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("recompute", "evaluations"), [(False, (255, 250)), (True, (505, 250))])
def test_unet_evaluations_an_image(recompute: bool, evaluations: tuple[int, int]) -> None:
    prior, network = counted_prior()
    ace(prior, CLASSIFIER, images(2), UP[:2], ACE(refinements=1, checkpoint=recompute), ImageNoise.of(IDS[:2], 0))
    assert (network.forwards // 2, network.backwards // 2) == evaluations


def test_evaluations_are_seen_by_who_counts_them() -> None:
    counted = Counted(gaussian_prior())
    ace(counted, CLASSIFIER, images(2), UP[:2], ACE(refinements=1), ImageNoise.of(IDS[:2], 0))
    assert (counted.forward // 2, counted.backward // 2) == (255, 250)


def test_parameters_may_be_frozen() -> None:
    prior, network = counted_prior()
    network.requires_grad_(False)
    with torch.no_grad():
        gradient, _ = filtered_gradient(prior, CLASSIFIER, (images() + 1) / 2, UP, [noise().like(images())] * 2, TOY)
    assert gradient.abs().max() > 0


def test_refinement_keeps_the_input_outside_the_mask() -> None:
    x, prior = images(), gaussian_prior()
    pre_explanation, mask = x + 0.2 * CLASSIFIER.weight, CLASSIFIER.weight[:1].expand(4, -1, -1, -1)
    drawn = [noise(i).like(x) for i in range(8)]
    refined = refine(prior, x, pre_explanation, mask, 4, drawn)
    kept = (mask == 0).expand_as(x)
    torch.testing.assert_close(refined[kept], x[kept], atol=0, rtol=0)
    assert not torch.isclose(refined[~kept], pre_explanation[~kept]).any()


class Above(Linear):
    """The border is a bit brighter than grey."""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return super().__call__(x - 0.05)


# images of variance 1e-6 around grey: whatever is denoised is grey, so refinement undoes every change
UNDONE = ACE(steps=50, tau=10, iterations=5, loss="logit", step_size=8 / 255, distance_weight=0.0, dilation=1)


def test_what_refinement_loses_falls_back_to_the_pre_explanation() -> None:
    x, grey = torch.full((2, 3, 8, 8), -1e-4), gaussian_prior(variance=1e-6)
    pre_explanation = attack(grey, Above(), x, UP[:2], UNDONE, ImageNoise.of(IDS[:2], 0))
    kept = ace(grey, Above(), x, UP[:2], UNDONE, ImageNoise.of(IDS[:2], 0)).x_cf
    lost = ace(grey, Above(), x, UP[:2], UNDONE.model_copy(update={"fallback": False}), ImageNoise.of(IDS[:2], 0)).x_cf
    assert (Above()(kept).argmax(1) == 1).all() and (Above()(lost).argmax(1) == 0).all()
    mask = changed_region(x, pre_explanation, UNDONE.threshold, UNDONE.dilation)
    torch.testing.assert_close(kept, mask * pre_explanation + (1 - mask) * x)


def test_only_what_was_lost_is_refined_again() -> None:
    # grey is "low": the first image loses its flip each time, the second aimed at "low" and keeps it
    prior, network = counted_prior(variance=1e-6)
    ace(prior, Above(), torch.full((2, 3, 8, 8), 0.1), torch.tensor([1, 0]), UNDONE, ImageNoise.of(IDS[:2], 0))
    assert network.forwards == 10 * (2 * 5 + 2 + 1 + 1)


@pytest.mark.parametrize("change", [{}, {"stop_after": 2}, {"attack": "cw", "step_size": 10.0}, {"checkpoint": True}])
def test_result_does_not_depend_on_the_batch(change: dict[str, object]) -> None:
    x, prior, method = (images() - 0.05).clamp(-1, 1), gaussian_prior(), TOY.model_copy(update=change)
    together = ace(prior, CLASSIFIER, x, UP, method, noise(5)).x_cf
    for i in range(4):
        alone = ace(prior, CLASSIFIER, x[i : i + 1], UP[:1], method, ImageNoise.of([IDS[i]], 5)).x_cf
        torch.testing.assert_close(alone[0], together[i], atol=1e-5, rtol=0)


def test_stopped_images_cost_nothing_more_and_stay_where_they_are() -> None:
    x = torch.stack([images()[0] + 0.2, images()[0] - 0.3]).clamp(
        -0.9, 0.9
    )  # the first is the target already, the second is far from it
    prior, network = counted_prior()
    method = TOY.model_copy(update={"stop_after": 2, "iterations": 3, "step_size": 1 / 255})
    found = attack(prior, CLASSIFIER, x, UP[:2], method, ImageNoise.of(IDS[:2], 0))
    assert network.forwards == (2 + 3) * method.tau
    assert (found - x).abs().amax((1, 2, 3)).tolist() == pytest.approx([2 / 255, 6 / 255], abs=1e-6)


def test_what_cannot_work_is_refused_by_name() -> None:
    with pytest.raises(ValidationError, match="tau is 6, but the prior is respaced to 5"):
        ACE(steps=5, tau=6)
    with pytest.raises(ValidationError, match="4 is even, but"):
        ACE(dilation=4)
