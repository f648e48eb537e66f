"""Methods over latents: an exact Gaussian prior, a linear autoencoder and a linear classifier, whose answers are known."""

import math
from typing import Any, ClassVar

import pytest
import torch
from torch import nn

from cfx.diffusion.ddpm import Schedule
from cfx.diffusion.first_step import FirstStep
from cfx.diffusion.flow import Flow
from cfx.diffusion.latent_model import LatentModel
from cfx.diffusion.latent_prior import LatentPrior
from cfx.errors import UserError
from cfx.latent_space import Decoded, drift, in_latent_space, sketched
from cfx.methods.ace import ACE
from cfx.methods.blended import Blended
from cfx.methods.dime import DiME, FastDiME, dime, fastdime
from cfx.methods.dvce import DVCE, dvce
from cfx.methods.maskdime import MaskDiME, maskdime
from cfx.own_size import AtOwnSize, at_priors_size
from cfx.random import ImageNoise
from tasks.advice.prior_check import check_consensus, check_depth, check_methods
from tasks.cost import Counted
from tasks.explainer import bind
from tests.toys import GaussianNetwork, Linear, LinearAutoencoder, Velocity, gaussian_prior, latent_prior

IDS = [f"image-{i}" for i in range(4)]
UP = torch.ones(4, dtype=torch.long)
CLASSIFIER = Linear()
FUNCTIONS: dict[type, Any] = {DiME: dime, FastDiME: fastdime, MaskDiME: maskdime, DVCE: dvce}


def images(n: int = 4) -> torch.Tensor:
    """In 8 bits."""
    x = torch.randn(n, 3, 8, 8, generator=torch.Generator().manual_seed(3)) * 0.15
    return ((x + 1) * 127.5).round() / 127.5 - 1


def explained(prior: Any, method: Any, x: torch.Tensor, classifier: Any = CLASSIFIER) -> Any:
    run, n = FUNCTIONS[type(method)], len(x)
    return at_priors_size(run, prior, classifier, x=x, target=UP[:n], config=method, noise=ImageNoise.of(IDS[:n], 0))


def flow_prior(steps: int) -> LatentPrior:
    return latent_prior(steps, network=Velocity(), schedule=Flow(shift=3.0))


@pytest.mark.parametrize("prior", [latent_prior(50), flow_prior(50)], ids=["ddpm", "flow"])
@pytest.mark.parametrize(
    "method",
    [DiME(steps=50, tau=8, scale=6, l1=0), FastDiME(steps=50, tau=12, scale=40, l1=0, warm_up=1)],
    ids=lambda method: method.method,
)
def test_the_whole_effect_of_guidance_in_closed_form(prior: LatentPrior, method: DiME | FastDiME) -> None:
    # as over pixels (test_dime.py), of latents stretched by 1.5: there the gradient is that of the image over 1.5, and what it
    # moved the latent by moves the image by 1 / 1.5 of it
    guided = explained(prior, method, images()).x_cf
    null = explained(prior, method.model_copy(update={"scale": 0.0}), images()).x_cf
    moved, gradient = 0.0, CLASSIFIER.gain / CLASSIFIER.weight.numel() / 1.5
    for t in reversed(range(method.tau)):
        level = float(prior.alphas_cumprod[t])
        slope = float(prior.c1[t]) * 0.25 * level**0.5 / (0.25 * level + 1 - level) + float(prior.c2[t])
        push = float(prior.log_posterior[t].exp()) * method.scale * gradient
        moved = slope * moved + (push / level**0.5 if isinstance(method, DiME) else push)
    free = (guided.abs() < 1) & (null.abs() < 1)  # the result is clamped
    assert moved / 1.5 > 0.01
    torch.testing.assert_close(
        (guided - null)[free], (moved / 1.5 * CLASSIFIER.weight).expand_as(guided)[free], atol=2e-6, rtol=0
    )


def test_one_step_of_maskdime_by_hand() -> None:
    # one position of a latent is 2 x 2 pixels: the half that the classifier looks at is half of the positions
    prior, x = latent_prior(), images(1)
    method = MaskDiME(steps=50, tau=1, scale=3, strength=2, l1=0, share=0.5, dilation=1)
    autoencoder, noise = prior.autoencoder, ImageNoise.of(IDS[:1], 0)
    z = autoencoder.encode(x)
    signal, sigma = prior.amounts(0)
    step = prior.step(signal * z + sigma * noise.like(z), 0)
    push = autoencoder.encode((CLASSIFIER.gain * CLASSIFIER.weight / CLASSIFIER.weight.numel())[None]) / 1.5**2
    drawn = autoencoder.decode(step.mean + 2 * step.std.square() * 3 * push / math.sqrt(prior.alphas_cumprod[0])).clamp(-1, 1)
    found = explained(prior, method, x)
    torch.testing.assert_close(found.mask, CLASSIFIER.weight[None, :1])
    torch.testing.assert_close(found.x_cf, torch.where(CLASSIFIER.weight > 0, drawn, x))


@pytest.mark.parametrize("prior", [latent_prior(50), flow_prior(50)], ids=["ddpm", "flow"])
def test_one_guided_step_of_dvce_by_hand(prior: LatentPrior) -> None:
    # x0 is affine in z, whether or not the network is differentiated through, so a gradient of the noise's length is the same
    x, noise, autoencoder = images(1), ImageNoise.of(IDS[:1], 0), prior.autoencoder
    method, latent = DVCE(steps=50, tau=2, scale=0.3, distance=0.2), autoencoder.encode(x)
    signal, sigma = prior.amounts(1)
    z = signal * latent + sigma * noise.like(latent)
    mean, std, x0, eps = prior.step(z, 1)
    weight, away = autoencoder.encode(CLASSIFIER.weight[None]), (x0 - latent).sign()
    z = mean + std.square() * eps.norm() * (0.3 * weight / weight.norm() - 0.2 * away / away.norm()) + std * noise.like(z)
    expected = autoencoder.decode(prior.step(z, 0).x0).clamp(-1, 1)
    torch.testing.assert_close(explained(prior, method, x).x_cf, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "method", [DiME(steps=20, tau=5), FastDiME(steps=20, tau=9), MaskDiME(steps=20, tau=9), DVCE(steps=20, tau=9)]
)
def test_a_flow_and_a_ddpm_of_the_same_noise_agree(method: Any) -> None:
    flow = flow_prior(20)
    betas = tuple(flow.betas.tolist())

    class Same(nn.Module):
        def forward(self, z: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
            return flow.step(z, int(timesteps[0])).x0

    schedule = Schedule(num_train_timesteps=20, trained_betas=betas, prediction_type="sample", clip_sample=False)
    found = [
        explained(prior, method, images().double()).x_cf for prior in (flow, latent_prior(20, network=Same(), schedule=schedule))
    ]
    torch.testing.assert_close(*found, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "method",
    [FastDiME(steps=20, tau=9, scale=60, threshold=0.7), MaskDiME(steps=20, tau=9, scale=4, share=0.2)],
    ids=lambda method: method.method,
)
@pytest.mark.parametrize("scale", [1.0, 0.0], ids=["guided", "null"])
def test_outside_the_mask_the_input_comes_back_bit_by_bit(method: Any, scale: float) -> None:
    # four of twelve channels are kept: nothing comes back by itself
    x, method = images(), method.model_copy(update={"scale": method.scale * scale, "dilation": 1})
    found = explained(latent_prior(20, channels=4), method, x)
    assert 0 < found.mask.mean() < 1
    kept = (found.mask == 0).expand_as(x)
    assert torch.equal(found.x_cf[kept], x[kept])
    assert (found.x_cf[~kept] != x[~kept]).float().mean() > 0.9
    blocks = found.mask.unfold(2, 2, 2).unfold(3, 2, 2).flatten(4)
    assert bool((blocks == blocks[..., :1]).all())  # each position of the latent as the pixels it stands for


def test_where_the_latent_is_the_inputs_the_classifier_sees_the_input() -> None:
    x, autoencoder = images(), LinearAutoencoder(channels=4)
    z = autoencoder.encode(x)
    shown = Decoded(CLASSIFIER, autoencoder, x, z)
    assert torch.equal(shown.image(z), x) and not torch.allclose(autoencoder.decode(z), x, atol=0.05)
    moved = z.clone()
    moved[:, :, 0, 0] += 1.0
    image = shown.image(moved)
    assert torch.equal(image[..., 2:, :], x[..., 2:, :])
    torch.testing.assert_close(image[..., :2, :2], autoencoder.decode(moved)[..., :2, :2])
    inside = z.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(shown(inside)[:, 1].sum(), inside)  # that of the decoder, though x is shown
    expected = autoencoder.encode((CLASSIFIER.gain * CLASSIFIER.weight / CLASSIFIER.weight.numel())[None]) / 1.5**2
    torch.testing.assert_close(gradient, expected.expand_as(gradient))


def test_drift_is_what_the_autoencoder_alone_changes() -> None:
    x = images()
    assert drift(LinearAutoencoder(), x).max() < 1e-6
    lossy = LinearAutoencoder(channels=4)
    expected = (lossy.decode(lossy.encode(x)).clamp(-1, 1) - x).abs().mean((1, 2, 3)) / 2
    torch.testing.assert_close(drift(lossy, x), expected)
    assert expected.min() > 0.02
    found = explained(latent_prior(50, channels=4), DVCE(steps=50, tau=1, scale=0, distance=0), x)  # hardly any noise: the drift
    torch.testing.assert_close((found.x_cf - x).abs().mean((1, 2, 3)) / 2, expected, atol=0.01, rtol=0)


def test_large_images_are_decoded_one_by_one_and_again_for_a_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    class Watched(LinearAutoencoder):
        seen: ClassVar[list[int]] = []

        def decode(self, z: torch.Tensor) -> torch.Tensor:
            Watched.seen.append(len(z))
            return super().decode(z)

    autoencoder, z = Watched(), torch.randn(3, 12, 4, 4)
    plain = z.clone().requires_grad_()
    (together,) = torch.autograd.grad(sketched(autoencoder, plain).square().sum(), plain)
    monkeypatch.setattr("cfx.latent_space.LARGE", 64)
    sliced = z.clone().requires_grad_()
    (alone,) = torch.autograd.grad(sketched(autoencoder, sliced).square().sum(), sliced)
    torch.testing.assert_close(alone, together)
    assert Watched.seen == [3, 1, 1, 1, 1, 1, 1]  # each again for the backward pass
    with torch.no_grad():
        sketched(autoencoder, z)
    assert Watched.seen[-3:] == [1, 1, 1] and len(Watched.seen) == 10


def test_a_given_mask_and_images_of_another_size() -> None:
    x, mask = images(), torch.zeros(4, 1, 8, 8)
    mask[..., :2, :3] = 1  # touches two positions
    run: dict[str, Any] = {"target": UP, "config": FastDiME(steps=20, tau=9), "noise": ImageNoise.of(IDS, 0), "mask": mask}
    found = in_latent_space(fastdime, latent_prior(20), CLASSIFIER, x=x, **run)
    assert found.mask is not None and found.mask[0, 0, :2].sum() == 8 and found.mask.sum() == 4 * 8
    prior = latent_prior(20)
    assert [prior.drawn_size(*size) for size in ((8, 8), (10, 7), (3, 30))] == [None, (8, 8), (4, 32)]
    larger = torch.nn.functional.interpolate(x, size=(10, 10))
    at_size = explained(prior, MaskDiME(steps=20, tau=5, share=0.1, dilation=1), larger, Linear(10))
    assert at_size.x_cf.shape == larger.shape and at_size.mask.shape == (4, 1, 10, 10)
    kept = (at_size.mask == 0).expand_as(larger)
    assert kept.any() and torch.equal(at_size.x_cf[kept], larger[kept])
    copies = AtOwnSize(Linear(10), larger, torch.nn.functional.interpolate(larger, size=(8, 8)))
    inner, image = Decoded(copies, prior.autoencoder, copies.copies, prior.autoencoder.encode(copies.copies)).seen(
        prior.autoencoder.encode(copies.copies)
    )
    assert inner is copies.classifier and torch.equal(image, larger)


def test_costs_and_first_steps_are_those_of_pixels() -> None:
    for prior, backward in ((latent_prior(20), 8), (flow_prior(20), 0)):  # DVCE's distance and class, of tau - 1 steps
        counted = Counted(FirstStep(prior))
        explained(counted, DVCE(steps=20, tau=5), images(1))
        assert (counted.forward, counted.backward) == (5, backward)
        known: dict[Any, torch.Tensor] = {}
        plain = explained(prior, MaskDiME(steps=20, tau=3), images())
        for _ in range(2):
            found = explained(FirstStep(prior, known), MaskDiME(steps=20, tau=3), images())
            assert torch.equal(found.x_cf, plain.x_cf) and len(known) == 4


class OfClass(nn.Module):
    """The exact clean estimate of latents N(mean, I / 4), the mean an image's own."""

    def __init__(self, mean: torch.Tensor) -> None:
        super().__init__()
        self.exact, self.mean = GaussianNetwork(), mean

    def forward(self, z: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        level = self.exact.level[timesteps].view(-1, 1, 1, 1).sqrt()
        return self.exact(z - level * self.mean, timesteps) + self.mean


class Prompts:
    """Of a class "high" the left half is bright and the right half dark; of "low" the other way round."""

    keeps = False

    def __init__(self, autoencoder: LinearAutoencoder) -> None:
        x = torch.ones(1, 3, 8, 8)
        x[..., 4:] = -1
        self.mean = autoencoder.encode(x)

    def conditioned(self, prompts: Any, negatives: Any = ("",), guidance: float = 1.0) -> nn.Module:
        return OfClass(torch.cat([self.mean * (1 if prompt == "bright left" else -1) for prompt in prompts]))


@pytest.mark.parametrize(
    "method",
    [
        MaskDiME(steps=20, tau=5, scale=4, l1=0, share=1.0, dilation=1),
        FastDiME(steps=20, tau=5, scale=4, l1=0, warm_up=1),
        DVCE(steps=20, tau=5, distance=0),
    ],
    ids=lambda method: method.method,
)
def test_consensus_guides_where_the_generator_agrees_and_nowhere_else(method: Any) -> None:
    # the classifier wants the upper half brighter; the generator of its class, the left half
    x, plain = images(), latent_prior(20)
    text = Prompts(LinearAutoencoder())
    model = LatentModel(plain.network, plain.schedule, LinearAutoencoder(), None, text)
    prior = LatentPrior(model, 20, class_prompts={"low": "bright right", "high": "bright left"})
    counted = Counted(FirstStep(prior))
    agreeing = method.model_copy(update={"consensus": 60.0})
    run = bind(agreeing, counted, CLASSIFIER, "cpu")
    guided = run(x=x, target=UP, noise=ImageNoise.of(IDS, 0)).x_cf
    assert counted.forward == 4 * (2 * 5 - (1 if isinstance(method, DVCE) else 0))  # DVCE's last step is not guided
    still = method.model_copy(update={"scale": 0.0})
    null = explained(plain, still, x).x_cf
    everywhere = explained(plain, method, x).x_cf
    moved = (guided - null).mean((0, 1))
    assert moved[:4, :4].min() > 1e-3 and (everywhere - null).mean((0, 1))[:4, 4:].min() > 1e-3
    if not isinstance(method, MaskDiME):  # whose mask follows what is left of the gradient
        assert moved[:, 4:].abs().max() < 1e-5
    else:
        assert torch.equal(guided[..., 4:], x[..., 4:])
    with pytest.raises(UserError, match="set `prior.class_prompts`"):
        bind(agreeing, gaussian_prior(20), CLASSIFIER, "cpu")(x=x, target=UP, noise=ImageNoise.of(IDS, 0))


def test_a_model_of_few_steps_explains_in_them() -> None:
    # as distilled ones are sampled: the whole way in 4 steps, of which noise alone, the last, cannot be a start
    few = latent_prior(4, schedule=Schedule(prediction_type="sample", clip_sample=False, timestep_spacing="trailing"))
    assert few.timesteps == [249, 499, 749, 999]
    x, method = images() * 0.5, MaskDiME(steps=4, tau=2, adaptive=True, strength=1.0, scale=2.0, share=0.5)
    counted = Counted(few)
    found = explained(counted, method, x)
    assert counted.forward == 4 * 2
    before, after = (CLASSIFIER(image)[:, 1] for image in (x, found.x_cf))
    assert bool((after - before > 0.2).all())


def test_what_a_prior_over_latents_cannot_do_is_refused_by_name() -> None:
    latents, pixels = latent_prior(1000), gaussian_prior(1000)
    for method in (ACE(), Blended(steps=50, tau=5)):
        check_methods((method,), pixels)
        with pytest.raises(UserError, match=f"'{method.method}' .*pixels.*use maskdime, fastdime, dime or dvce"):
            check_methods((method,), latents)
    agreeing = (MaskDiME(consensus=45.0),)
    with pytest.raises(UserError, match="reads prompts, and this prior reads none"):
        check_consensus(agreeing, latents, ("low", "high"))
    model = LatentModel(latents.network, latents.schedule, LinearAutoencoder(), None, Prompts(LinearAutoencoder()))
    with pytest.raises(UserError, match=r"add high to `prior\.class_prompts`"):
        check_consensus(agreeing, LatentPrior(model, class_prompts={"low": "dark"}), ("low", "high"))
    flow = latent_prior(1000, network=Velocity(), schedule=Flow())
    check_depth((MaskDiME(steps=4, tau=3),), flow)
    with pytest.raises(UserError, match="tau 4 of 4 starts at noise alone, .*use tau 3 or less"):
        check_depth((MaskDiME(steps=4, tau=4),), flow)
