"""Any method held to a region: nothing outside is another, and the prior knows what is there."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cfx.diffusion.ddpm import DDPM, Schedule
from cfx.diffusion.flow import Flow
from cfx.diffusion.latent_prior import LatentPrior
from cfx.images import decode_png, encode_png
from cfx.methods.ace import ACE, ace
from cfx.methods.blended import Blended, blended
from cfx.methods.dime import DiME, FastDiME, dime, fastdime
from cfx.methods.dvce import DVCE, dvce
from cfx.methods.maskdime import MaskDiME, maskdime
from cfx.methods.svce import SVCE, svce
from cfx.own_size import at_priors_size
from cfx.random import ImageNoise
from cfx.region import KnownOutside, held, in_region, unheld
from cfx.types import Counterfactual
from tests.toys import GaussianNetwork, Linear, Velocity, gaussian_prior, latent_prior

IDS = ["a", "b", "c"]
METHODS: list[tuple[Callable[..., Counterfactual], Any]] = [
    (dime, DiME(steps=20, tau=4, scale=20)),
    (fastdime, FastDiME(steps=20, tau=4, scale=20)),
    (maskdime, MaskDiME(steps=20, tau=4, scale=20)),
    (ace, ACE(steps=20, tau=2, iterations=6, refinements=2, step_size=0.05, stop_after=1)),
    (dvce, DVCE(steps=20, tau=4, augmentations=2)),
    (blended, Blended(steps=20, tau=4, augmentations=2)),
    (svce, SVCE(radii=(1.0,), iterations=6)),
]
EVERY = pytest.mark.parametrize(("method", "config"), METHODS, ids=lambda part: getattr(part, "__name__", ""))


def within(method: Callable[..., Counterfactual]) -> Callable[..., Counterfactual]:
    """As the explanation stage binds it."""
    return partial(in_region, partial(unheld, method) if method is svce else partial(at_priors_size, partial(held, method)))


def eight_bit(seed: int = 3, height: int = 8, width: int = 8) -> Tensor:
    """Images as audits read them: on the grid of 8 bits."""
    x = (torch.rand(3, 3, height, width, generator=torch.Generator().manual_seed(seed)) - 0.8).clamp(-1, 1)
    return decode_png(encode_png(x))


def box(top: int, bottom: int, size: int = 8) -> Tensor:
    region = torch.zeros(3, 1, size, size)
    region[..., top:bottom, 2:6] = 1
    return region


TARGET = torch.ones(3, dtype=torch.long)


@EVERY
def test_outside_the_8_bit_image_is_the_input_and_inside_the_method_works(
    method: Callable[..., Counterfactual], config: Any
) -> None:
    x, region, classifier = eight_bit(), box(0, 4), Linear(gain=100)
    found = within(method)(
        gaussian_prior(20), classifier, x=x, target=TARGET, config=config, noise=ImageNoise.of(IDS, 0), region=region
    )
    outside = region.expand_as(x) == 0
    assert torch.equal(found.x_cf[outside], x[outside])
    written = decode_png(encode_png(found.x_cf))
    assert torch.equal(written[outside], x[outside]) and not torch.equal(written[~outside], x[~outside])
    assert found.mask is not None and not found.mask[region == 0].any()
    assert (classifier(found.x_cf)[:, 1] > classifier(x)[:, 1]).all()


@EVERY
def test_the_whole_image_as_a_region_is_no_region(method: Callable[..., Counterfactual], config: Any) -> None:
    x, classifier = eight_bit(), Linear(gain=100)
    whole, free = (
        within(method)(
            gaussian_prior(20), classifier, x=x, target=TARGET, config=config, noise=ImageNoise.of(IDS, 0), region=region
        )
        for region in (torch.ones(3, 1, 8, 8), None)
    )
    assert (whole.x_cf - free.x_cf).abs().max() < 1e-5  # gradients through the UNet are added up in another order


@EVERY
def test_where_the_classifier_does_not_look_guidance_changes_nothing(method: Callable[..., Counterfactual], config: Any) -> None:
    """The upper half counts, the region is in the lower one: a gradient that led out of it would be followed."""
    if method in (dvce, blended):
        config = config.model_copy(update={"augmentations": 1})  # a tilted view shows the lower half above
    x, classifier = eight_bit(), Linear(gain=100)
    guided, null = (
        within(method)(
            gaussian_prior(20), classifier, x=x, target=TARGET, config=one, noise=ImageNoise.of(IDS, 0), region=box(5, 8)
        )
        for one in (config, config.model_copy(update={"scale": 0.0}))
    )
    assert (guided.x_cf - null.x_cf).abs().max() < 1e-5
    assert torch.equal(classifier(guided.x_cf), classifier(x))


@EVERY
def test_an_image_does_not_depend_on_its_batch(method: Callable[..., Counterfactual], config: Any) -> None:
    x, region = eight_bit(), box(0, 4)
    region[1, ..., :3] = 0  # each image has its own
    together, alone = (
        within(method)(
            gaussian_prior(20), Linear(gain=100), x=x[rows], target=TARGET[rows], config=config,
            noise=ImageNoise.of(IDS[rows], 0), region=region[rows],
        )
        for rows in (slice(0, 3), slice(1, 2))
    )  # fmt: skip
    assert (together.x_cf[1:2] - alone.x_cf).abs().max() < 1e-5


class OneGrey(nn.Module):
    """The clean estimate of a prior whose images are of one grey each, any: the mean of what z shows, its noise averaged out."""

    def __init__(self) -> None:
        super().__init__()
        self.level = GaussianNetwork().level

    def forward(self, z: Tensor, timesteps: Tensor) -> Tensor:
        return (z.mean((1, 2, 3), keepdim=True) / self.level[timesteps].sqrt().view(-1, 1, 1, 1)).expand_as(z)


def test_what_is_drawn_fits_what_lies_around_it() -> None:
    """A dark hole in light grey: the prior fills it with the grey around, which it could not know from the hole alone."""
    prior = DDPM(OneGrey(), Schedule(prediction_type="sample"), channels=3, steps=50)
    x, region = torch.full((3, 3, 16, 16), 0.6), torch.zeros(3, 1, 16, 16)
    x[..., 6:10, 6:10], region[..., 6:10, 6:10] = -1.0, 1
    redraw = FastDiME(steps=50, tau=45, scale=0, l1=0, warm_up=1)
    found = within(fastdime)(prior, Linear(16), x=x, target=TARGET, config=redraw, noise=ImageNoise.of(IDS, 0), region=region)
    assert (found.x_cf[..., 6:10, 6:10] - 0.6).abs().max() < 0.05


def test_the_known_outside_is_a_noised_image_at_every_step_and_the_image_at_the_end() -> None:
    """A reverse chain that forgets all it is given outside ends in the image; where it is noised, its clean estimate is x."""
    prior, x, inside = gaussian_prior(20), eight_bit(), box(0, 4) > 0
    known = KnownOutside(prior, x, inside, ImageNoise.of(IDS, 1).like(x))
    for t in reversed(range(20)):
        step = known.step(torch.full_like(x, 3.0), t)
        level = float(prior.alphas_cumprod[t])
        outside = ~inside.expand_as(x)
        assert torch.equal(step.x0[outside], x[outside])
        assert (level**0.5 * x + (1 - level) ** 0.5 * step.eps - 3.0)[outside].abs().max() < 1e-5
    assert torch.equal(step.mean[outside], x[outside])


def test_the_first_state_is_the_same_in_every_region() -> None:
    """So that a null and other regions need not ask the UNet again: what is noised outside is what the method draws first."""
    states = []

    class Watched:
        def __init__(self, prior: DDPM) -> None:
            self.prior, self.alphas_cumprod, self.drawn_size = prior, prior.alphas_cumprod, prior.drawn_size
            self.first: Tensor | None = None

        def step(self, z: Tensor, t: int) -> Any:
            if self.first is None:
                self.first = z
                states.append(z)
            return self.prior.step(z, t)

    for region in (None, box(0, 4), box(5, 8)):
        within(maskdime)(
            Watched(gaussian_prior(20)), Linear(), x=eight_bit(), target=TARGET, config=MaskDiME(steps=20, tau=4),
            noise=ImageNoise.of(IDS, 0), region=region,
        )  # fmt: skip
    assert torch.equal(states[0], states[1]) and torch.equal(states[0], states[2])


class Of16(GaussianNetwork):
    config = {"sample_size": 16}  # noqa: RUF012 # as diffusers' networks have it


def test_images_of_another_size_than_the_priors_keep_their_own_outside() -> None:
    """A line of one pixel at 40 px is finer than the prior's pixels: what is drawn around it is dropped."""
    prior = DDPM(Of16(), Schedule(prediction_type="sample"), channels=3, steps=20)
    x, region, classifier = eight_bit(height=40, width=40), torch.zeros(3, 1, 40, 40), Linear(40, gain=100)
    region[..., 7, 3:30] = 1
    config = FastDiME(steps=20, tau=4, scale=50)
    found = within(fastdime)(prior, classifier, x=x, target=TARGET, config=config, noise=ImageNoise.of(IDS, 0), region=region)
    outside = region.expand_as(x) == 0
    assert torch.equal(found.x_cf[outside], x[outside])
    assert (classifier(found.x_cf)[:, 1] > classifier(x)[:, 1]).all()


@pytest.mark.parametrize("prior", [latent_prior(20), latent_prior(20, network=Velocity(), schedule=Flow(shift=3.0))])
def test_over_latents_the_outside_is_the_input_pixel_by_pixel(prior: LatentPrior) -> None:
    """A region of 3 x 3 pixels touches four positions of the latent, of 2 x 2 pixels each; what lies outside it is dropped."""
    x, classifier, region = eight_bit(), Linear(gain=100), torch.zeros(3, 1, 8, 8)
    region[..., 1:4, 3:6] = 1
    config = FastDiME(steps=20, tau=8, scale=100)
    found = within(fastdime)(prior, classifier, x=x, target=TARGET, config=config, noise=ImageNoise.of(IDS, 0), region=region)
    outside = region.expand_as(x) == 0
    assert torch.equal(decode_png(encode_png(found.x_cf))[outside], x[outside])
    assert (classifier(found.x_cf)[:, 1] > classifier(x)[:, 1]).all()
    z = prior.autoencoder.encode(x)
    known = KnownOutside(prior, z, torch.zeros_like(z[:, :1]) > 0, ImageNoise.of(IDS, 1).like(z))
    for t in (7, 0):
        assert torch.equal(known.step(torch.full_like(z, 3.0), t).x0, z)
    assert torch.equal(known.step(z, 0).mean, z)
