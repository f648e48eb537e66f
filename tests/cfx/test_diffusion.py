"""The schedule and the reverse step, against the numbers of guided-diffusion's own settings."""

import math
from pathlib import Path

import pytest
import torch

from cfx.diffusion import training
from cfx.diffusion.ddpm import DDPM, Schedule, load_ddpm, save_ddpm
from cfx.diffusion.schedule import betas, q_sample, respaced_betas, respaced_timesteps
from cfx.diffusion.training import PriorTraining, build_unet, period, train_prior
from cfx.methods.dime import denoise
from cfx.random import ImageNoise
from tests.toys import Says, gaussian_prior


def test_linear_schedule_of_500_steps() -> None:
    level = (1 - betas("linear", 500)).cumprod(0)
    assert level[0] == pytest.approx(0.9998, abs=1e-9)
    assert level[249] == pytest.approx(0.07810849, abs=1e-8)
    assert level[499] == pytest.approx(3.76609e-5, rel=1e-5)


def test_scaled_linear_schedule_is_stable_diffusions() -> None:
    level = (1 - betas("scaled_linear", 1000)).cumprod(0)
    for step, value in {0: 0.99915, 1: 0.998296, 21: 0.9803807, 481: 0.3022957, 499: 0.2776697, 999: 0.0046601}.items():
        assert level[step] == pytest.approx(value, abs=1e-6)


def test_unknown_schedule_is_named() -> None:
    with pytest.raises(ValueError, match="'quadratic'"):
        betas("quadratic", 10)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("steps", "kept", "first", "last"),
    [
        (500, 200, [0, 3, 5, 8, 10, 13, 15, 18], [494, 496, 499]),
        (500, 50, [0, 10, 20, 31, 41, 51], [499]),
        (500, 25, [0, 21, 42, 62, 83, 104], [499]),
        (1000, 100, [0, 10], [999]),
        (1000, 25, [0, 42, 83, 125, 166, 208], [999]),
        (1000, 200, [0, 5, 10, 15], [999]),
    ],
)
def test_respaced_timesteps(steps: int, kept: int, first: list[int], last: list[int]) -> None:
    timesteps = respaced_timesteps(steps, kept)
    assert timesteps[: len(first)] == first and timesteps[-len(last) :] == last and len(timesteps) == kept


def test_respacing_to_all_steps_changes_nothing() -> None:
    original = betas("linear", 500)
    torch.testing.assert_close(respaced_betas(original, respaced_timesteps(500, 500)), original)


def test_respacing_to_more_steps_than_trained_is_refused() -> None:
    with pytest.raises(ValueError, match="to 501; choose between 1 and 500"):
        respaced_timesteps(500, 501)


@pytest.mark.parametrize(
    ("steps", "kept", "index", "original", "signal", "sigma"),
    [
        (500, 200, 60, 150, 0.6258, 0.7799),
        (500, 200, 59, 148, 0.6335, 0.7737),
        (1000, 200, 45, 226, 0.7655, 0.6435),
        (1000, 200, 44, 221, 0.7743, 0.6328),
        (500, 50, 4, 41, 0.9622, 0.2725),
        (500, 25, 4, 83, 0.8626, 0.5058),
        (1000, 100, 4, 40, 0.9898, 0.1422),
        (1000, 25, 4, 166, 0.8637, 0.5041),
        (1000, 200, 99, 497, 0.2832, 0.9591),
        (1000, 100, 74, 747, 0.0588, 0.9983),
    ],
)
def test_levels_where_published_methods_start(
    steps: int, kept: int, index: int, original: int, signal: float, sigma: float
) -> None:
    ddpm = DDPM(Says(0.0), Schedule(num_train_timesteps=steps), channels=3, steps=kept)
    assert ddpm.timesteps[index] == original
    assert math.sqrt(ddpm.alphas_cumprod[index]) == pytest.approx(signal, abs=5e-5)
    assert math.sqrt(1 - ddpm.alphas_cumprod[index]) == pytest.approx(sigma, abs=5e-5)


def test_learned_variance_step_worked_example() -> None:
    ddpm = DDPM(Says(eps=0.2, variance=0.0), Schedule(num_train_timesteps=500), channels=3, steps=200)
    assert float(ddpm.betas[59]) == pytest.approx(0.0353490581, abs=1e-9)
    assert float(ddpm.log_posterior[59].exp()) == pytest.approx(0.0344805973, abs=1e-9)
    assert float(ddpm.c1[59]) == pytest.approx(0.0380882922, abs=1e-9)
    assert float(ddpm.c2[59]) == pytest.approx(0.9580364462, abs=1e-9)
    step = ddpm.step(torch.full((1, 3, 2, 2), 0.5), 59)
    torch.testing.assert_close(step.x0, torch.full_like(step.x0, 0.5449735))
    torch.testing.assert_close(step.mean, torch.full_like(step.mean, 0.4997753))
    torch.testing.assert_close(step.std.square(), torch.full_like(step.std, 0.0349121), atol=1e-6, rtol=0)
    torch.testing.assert_close(step.eps, torch.full_like(step.eps, 0.2))


def test_first_steps_of_the_worked_schedule() -> None:
    ddpm = DDPM(Says(0.0), Schedule(num_train_timesteps=500), channels=3, steps=200)
    assert float(ddpm.log_posterior[0]) == pytest.approx(-8.6871878, abs=1e-6)
    assert float(ddpm.betas[0].log()) == pytest.approx(-8.5171932, abs=1e-6)
    assert float(ddpm.c1[1]) == pytest.approx(0.8435848569, abs=2e-7)
    assert float(ddpm.c2[1]) == pytest.approx(0.1564151431, abs=2e-7)
    assert float(ddpm.c1[0]) == pytest.approx(1) and float(ddpm.c2[0]) == pytest.approx(0)


def test_three_parameterisations_say_the_same() -> None:
    z, x0 = torch.randn(2, 3, 4, 4), torch.rand(2, 3, 4, 4)
    plain = DDPM(Says(0.0), Schedule(), channels=3, steps=100)
    signal, sigma = math.sqrt(plain.alphas_cumprod[30]), math.sqrt(1 - plain.alphas_cumprod[30])
    eps = (z - signal * x0) / sigma
    answers = {"sample": x0, "epsilon": eps, "v_prediction": signal * eps - sigma * x0}
    for name, answer in answers.items():

        class Answer(torch.nn.Module):
            def forward(self, z: torch.Tensor, t: torch.Tensor, said: torch.Tensor = answer) -> torch.Tensor:
                return said

        step = DDPM(Answer(), Schedule(prediction_type=name), channels=3, steps=100).step(z, 30)
        torch.testing.assert_close(step.x0, x0)
        torch.testing.assert_close(step.eps, eps)


def test_forward_process_has_the_right_mean_and_spread() -> None:
    prior, x = gaussian_prior(), torch.full((4, 3, 64, 64), 0.5)
    level = float(prior.alphas_cumprod[20])
    z = q_sample(prior, x, 20, ImageNoise.of(["a", "b", "c", "d"], seed=0))
    assert float(z.mean()) == pytest.approx(0.5 * math.sqrt(level), abs=0.02)
    assert float(z.std()) == pytest.approx(math.sqrt(1 - level), abs=0.02)


def test_exact_denoiser_samples_its_prior() -> None:
    # ancestral sampling with the exact posterior mean ends at the prior's own mean and spread
    prior = gaussian_prior(steps=250, mean=0.2, variance=0.04)
    noise = ImageNoise.of([str(i) for i in range(8)], seed=1)
    with torch.no_grad():
        x = denoise(prior, noise.like(torch.zeros(8, 3, 32, 32)), 249, noise)
    assert float(x.mean()) == pytest.approx(0.2, abs=0.02)
    assert float(x.std()) == pytest.approx(0.2, abs=0.02)


TINY = PriorTraining(size=16, patch=2, channels=(32, 32), steps=6, batch=4, checkpoint_every=3)


def tiny_batches(step: int) -> torch.Tensor:
    return torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(step)) * 2 - 1


def test_prior_round_trip_through_its_folder(tmp_path: Path) -> None:
    torch.manual_seed(0)
    unet = build_unet(TINY)
    save_ddpm(tmp_path, unet, Schedule(prediction_type="sample"))
    loaded = load_ddpm(tmp_path)
    assert loaded.schedule.prediction_type == "sample" and loaded.patch == 2
    z = torch.randn(2, 3, 16, 16)
    expected = DDPM(unet, loaded.schedule, channels=12).step(z, 100)
    torch.testing.assert_close(loaded.step(z, 100).x0, expected.x0, atol=1e-5, rtol=0)


def test_missing_prior_names_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"config\.json is missing.*cfx train prior"):
        load_ddpm(tmp_path)


class Killed(RuntimeError):
    pass


def test_killed_training_resumes_to_the_same_weights(tmp_path: Path) -> None:
    train_prior(tiny_batches, TINY, tmp_path / "whole")

    def kill(step: int, loss: float) -> None:
        if step == 5:  # after the checkpoint of step 3
            raise Killed

    with pytest.raises(Killed):
        train_prior(tiny_batches, TINY, tmp_path / "killed", kill)
    assert (tmp_path / "killed" / "checkpoint.pt").is_file()
    train_prior(tiny_batches, TINY, tmp_path / "killed")
    whole, resumed = load_ddpm(tmp_path / "whole"), load_ddpm(tmp_path / "killed")
    for (name, a), b in zip(whole.network.state_dict().items(), resumed.network.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, msg=name)
    assert not (tmp_path / "killed" / "checkpoint.pt").exists()


def test_checkpoint_of_another_configuration_is_refused(tmp_path: Path) -> None:
    def kill(step: int, loss: float) -> None:
        if step == 4:
            raise Killed

    with pytest.raises(Killed):
        train_prior(tiny_batches, TINY, tmp_path, kill)
    with pytest.raises(ValueError, match="another configuration"):
        train_prior(tiny_batches, TINY.model_copy(update={"batch": 8}), tmp_path)


def test_a_step_in_parts_is_the_same_step(tmp_path: Path) -> None:
    losses: dict[int, list[float]] = {1: [], 3: []}
    for parts in losses:
        config = TINY.model_copy(update={"accumulate": parts})
        train_prior(tiny_batches, config, tmp_path / str(parts), lambda step, loss: losses[parts].append(loss))  # noqa: B023
    assert losses[3] == pytest.approx(losses[1], rel=1e-4) and len(losses[1]) == TINY.steps
    whole, in_parts = load_ddpm(tmp_path / "1"), load_ddpm(tmp_path / "3")  # 4 images in parts of 2 and 2
    for (name, a), b in zip(whole.network.state_dict().items(), in_parts.network.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, msg=name, atol=2e-3, rtol=0)


def test_training_in_bfloat16_learns(tmp_path: Path) -> None:
    losses: list[float] = []
    config = TINY.model_copy(update={"bf16": True, "steps": 24, "learning_rate": 3e-3})
    train_prior(lambda step: tiny_batches(0), config, tmp_path, lambda step, loss: losses.append(loss))
    assert sum(losses[-6:]) < 0.8 * sum(losses[:6])
    assert all(weight.isfinite().all() for weight in load_ddpm(tmp_path).network.state_dict().values())


@pytest.mark.parametrize(
    ("step", "within"),
    [(0, (0, 300)), (299, (0, 300)), (300, (300, 600)), (899, (300, 600)), (900, (900, 100)), (999, (900, 100))],
)
def test_each_cosine_is_twice_as_long_as_the_one_before(step: int, within: tuple[int, int]) -> None:
    assert period(step, PriorTraining(steps=1_000)) == within
    assert period(step, PriorTraining(steps=1_000, enough=None)) == (0, 1_000)


@pytest.mark.parametrize(("enough", "steps"), [(1e9, 2), (1e-9, 6), (None, 6)])
def test_a_training_ends_where_the_prior_is_good_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, enough: float | None, steps: int
) -> None:
    monkeypatch.setattr(training, "FIRST", 2)
    config, seen, said = TINY.model_copy(update={"enough": enough}), list[int](), list[str]()
    x = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    train_prior(lambda step: x, config, tmp_path, lambda step, loss: seen.append(step), tell=said.append)
    assert seen[-1] == steps and len(said) == {1e9: 1, 1e-9: 2, None: 0}[enough]
    assert all(f"after {n} steps" in line for n, line in zip((2, 6), said, strict=False))
    assert not (tmp_path / "checkpoint.pt").exists() and load_ddpm(tmp_path).size == (16, 16)
