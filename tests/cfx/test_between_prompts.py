"""Edits by word on any generator that reads prompts: noise in closed form, the exact inverse, what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cfx.attributes.named_edits import NamedEdits, edit_by_word
from cfx.attributes.pasting import difference_mask, pasted
from cfx.diffusion.between_prompts import BetweenPrompts
from cfx.diffusion.ddpm import Schedule
from cfx.diffusion.flow import Flow
from cfx.diffusion.latent import LatentDiffusion, load_latent
from cfx.diffusion.latent_model import LatentModel
from cfx.diffusion.pipelines import load_latent_model
from cfx.diffusion.text_models import load_text_model
from cfx.errors import UserError
from cfx.methods.time_edit import TIME, check_levels, time_edit
from tasks.config import PriorConfig
from tasks.networks import text_model_for
from tasks.stages.interventions import Evaluations
from tasks.stages.prompts import check_named
from tests.cfx.tiny_pipelines import write
from tests.toys import LinearAutoencoder

Folders = Callable[[str], Path]
WORDS = {"smile": "smile", "star": "star"}
LITTLE = TIME(steps=10, tau=4, scale=3.0)
PLACES = {"low": -0.6, "high": 0.4}  # where the images of each prompt lie


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    base, made = tmp_path_factory.mktemp("text"), {}

    def of(kind: str) -> Path:
        if kind not in made:
            made[kind] = write(base / kind, kind)
        return made[kind]

    return of


class Places(nn.Module):
    """The exact answer where all images of a prompt are one, every value of its latent the same."""

    def __init__(self, schedule: Schedule | Flow, at: Sequence[float]) -> None:
        super().__init__()
        self.schedule, self.at = schedule, torch.tensor(at, dtype=torch.float64).view(-1, 1, 1, 1)
        self.levels = schedule.respaced()

    def forward(self, state: Tensor, timesteps: Tensor) -> Tensor:
        if isinstance(self.schedule, Flow):
            s = (timesteps.double() / 1000).view(-1, 1, 1, 1)
            return ((state.double() - self.at) / s).float()
        level = (1 - self.levels[1]).cumprod(0)[timesteps.long()].view(-1, 1, 1, 1)
        noise = (state.double() - level.sqrt() * self.at) / (1 - level).sqrt()
        answers = {"epsilon": noise, "sample": self.at.expand_as(state)}
        answers["v_prediction"] = level.sqrt() * noise - (1 - level).sqrt() * self.at
        return answers[self.schedule.prediction_type].float()


class Reader:
    """Prompts of `PLACES`."""

    keeps = False

    def __init__(self, schedule: Schedule | Flow) -> None:
        self.schedule = schedule

    def conditioned(self, prompts: Sequence[str], negatives: Sequence[str] = ("",), guidance: float = 1.0) -> nn.Module:
        return Places(self.schedule, [PLACES[prompt] for prompt in prompts])


def of_places(schedule: Schedule | Flow, side: int | None = 8) -> BetweenPrompts:
    return BetweenPrompts(LatentModel(Places(schedule, [0.0]), schedule, LinearAutoencoder(), side, Reader(schedule)))


def images(side: int, n: int = 1) -> Tensor:
    return (torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(2)) * 255).round() / 127.5 - 1


@pytest.mark.parametrize(
    "schedule",
    [Flow(shift=3.0), *(Schedule(prediction_type=kind) for kind in ("epsilon", "sample", "v_prediction"))],
    ids=["flow", "epsilon", "sample", "velocity"],
)
def test_the_noise_between_two_prompts_in_closed_form(schedule: Schedule | Flow) -> None:
    model, t = of_places(schedule), 421
    z = model.encode(images(8, 2)).double()
    signal, sigma = (float(amount) for amount in (model.alphas_cumprod[t].sqrt(), (1 - model.alphas_cumprod[t]).sqrt()))
    low, high = ((z - signal * PLACES[name]) / sigma for name in ("low", "high"))
    found = model.guided(z, t, model.embed(["high"] * 2), model.embed(["low"] * 2), 2.5)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, low + 2.5 * (high - low), atol=1e-5, rtol=0)


def test_images_are_drawn_in_a_square_of_whole_latents() -> None:
    x = images(12)[..., :10, :7]
    for side, drawn in ((None, 12), (16, 16)):
        model = of_places(Flow(), side)
        z = model.encode(x)
        assert z.shape == (1, 12, drawn // 2, drawn // 2) and model.decode(z, (10, 7)).shape == x.shape
    whole, x = of_places(Flow(), None), x[..., :8, :7]
    torch.testing.assert_close(whole.decode(whole.encode(x), (8, 7)), x, atol=1e-5, rtol=0)


class Seen:
    """An oracle that sees a star and no smile in every image, so that no edit is confirmed."""

    attributes = ("smile", "star")

    def __call__(self, x: Tensor) -> Tensor:
        return torch.tensor([[0.1, 0.9]]).expand(len(x), 2)


ALIKE = ("consistency", "flux", "schnell", "without_t5", "sana", "pixart", "pixart_sigma")
KINDS = ["stable_diffusion_xl", "stable_diffusion_3", *(pytest.param(kind, marks=pytest.mark.long) for kind in ALIKE)]


@pytest.mark.parametrize("kind", KINDS)
def test_an_edit_by_word_on_generators_of_noise_and_of_straight_paths(kind: str, folder: Folders) -> None:
    named = NamedEdits(model=str(folder(kind)), words=WORDS, rungs=(LITTLE,))
    model: Any = text_model_for(named, "cpu")
    assert isinstance(model, BetweenPrompts) and model.text.keeps
    x, counted = images(32), Evaluations(model)
    edit = edit_by_word(counted, Seen(), x, 0, named, ["a"])  # type: ignore[arg-type]
    assert counted.evaluated == 2 * 2 * 2 * LITTLE.tau  # there and back, of coupled latents, under two prompts
    torch.testing.assert_close(edit.x_sham, model.decode(model.encode(x), 32))
    here = named.told({"star": True})
    still = time_edit(model, x, [here], [here], LITTLE, ["a"], {}).x_cf  # the same inversion and denoising without the edit
    torch.testing.assert_close(still, edit.x_sham, atol=2e-4, rtol=0)
    assert float((edit.x_edit - still).abs().max()) > 10 * float((still - edit.x_sham).abs().max())
    outside = difference_mask(edit.x_edit, edit.x_sham).eq(0).expand_as(x)
    assert torch.equal(pasted(x, edit)[outside], x[outside])
    assert float((pasted(x, edit) - x).abs().max()) > 0


def test_both_ways_to_read_stable_diffusion_agree() -> None:
    x, prompts = images(64), (["a photo with a beard"], ["a photo"])
    own = load_text_model("portraits:text")
    assert isinstance(own, LatentDiffusion) and isinstance(own, type(load_latent("portraits:text")))
    any_generators = text_model_for(NamedEdits(words=WORDS), "cpu", PriorConfig(path="portraits:text"), bundled("text"))
    assert isinstance(any_generators, BetweenPrompts)
    found = [time_edit(model, x, *prompts, TIME(steps=20, tau=2), ["a"], {}).x_cf for model in (own, any_generators)]
    torch.testing.assert_close(*found, atol=2e-4, rtol=0)
    assert float((found[0] - x).abs().mean()) > 1e-3


def bundled(name: str) -> Path:
    return Path(__file__).parents[2] / "cfx/weights/portraits" / name


def test_what_reads_no_prompts_is_refused_before_work(folder: Folders, tmp_path: Path) -> None:
    for kind, name in (("dit", "DiTPipeline"), ("pixel_flow", "DDPMPipeline")):
        with pytest.raises(UserError, match=f"a {name} reads no prompts.*name a text-to-image model.*or leave `named` out"):
            check_named(NamedEdits(model=str(folder(kind)), words=WORDS), Seen.attributes, None, "cpu")
    with pytest.raises(UserError, match="this model reads no prompts"):
        BetweenPrompts(load_latent_model(str(folder("dit"))))
    left_out = NamedEdits(words=WORDS)
    with pytest.raises(UserError, match=r"there is no prior whose prompts could be edited; name a text-to-image model"):
        check_named(left_out, Seen.attributes, None, "cpu")
    with pytest.raises(UserError, match=r"prior draws images and reads no prompts; name a text-to-image model"):
        check_named(left_out, Seen.attributes, None, "cpu", PriorConfig(path="portraits:prior"), bundled("prior"))
    with pytest.raises(UserError, match="dit reads no prompts; name a text-to-image model"):
        prior = PriorConfig(path=str(folder("dit")))
        check_named(left_out, Seen.attributes, None, "cpu", prior, folder("dit"))
    with pytest.raises(ValueError, match="revision is 'main', but no `model` is named"):
        NamedEdits(words=WORDS, revision="main")


def test_steps_that_a_model_does_not_have_are_refused() -> None:
    few, many = of_places(Schedule(num_train_timesteps=40)), of_places(Flow())
    with pytest.raises(UserError, match="steps is 50, but the model knows 40 noise levels; lower `steps`, and tau with it"):
        check_levels(few.alphas_cumprod, TIME())
    with pytest.raises(UserError, match="tau is 1000 of 1000 steps, where the model leaves nothing of the image"):
        check_levels(many.alphas_cumprod, TIME(steps=1000, tau=1000))
    check_levels(many.alphas_cumprod, TIME(steps=50, tau=50))
    with pytest.raises(UserError, match="distilled to 3 steps, and between them its answers mean nothing"):
        of_places(Schedule(distilled_steps=3))


def test_the_fingerprint_is_of_all_that_the_folder_holds_and_the_priors_is_its_own(folder: Folders) -> None:
    kind = folder("stable_diffusion_3")
    named = NamedEdits(model=str(kind), words=WORDS)
    before = check_named(named, Seen.attributes, None, "cpu")
    assert before is not None
    scheduler = kind / "scheduler/scheduler_config.json"
    content = scheduler.read_text()
    scheduler.write_text(json.dumps(json.loads(content) | {"shift": 2.0}))
    assert check_named(named, Seen.attributes, None, "cpu") != before
    scheduler.write_text(content)
    prior = PriorConfig(path=str(kind), prompt="a photo")
    assert check_named(NamedEdits(words=WORDS), Seen.attributes, None, "cpu", prior, kind) is None
