"""A prior from elsewhere means here what it means to diffusers, or is refused by name before any work."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, EulerDiscreteScheduler, FlowMatchEulerDiscreteScheduler, UNet2DModel
from safetensors.torch import load_file, save_file
from torch import Tensor

from cfx.diffusion.ddpm import DDPM, Schedule, load_ddpm, save_ddpm
from cfx.diffusion.latent import load_latent
from cfx.diffusion.schedule import betas
from cfx.errors import UserError
from tasks.stages.prior import fingerprint_folder
from tests.cfx.tiny_sd import write_pipeline

Z = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(5))
WEIGHTS = "diffusion_pytorch_model.safetensors"


def tiny_unet(**more: Any) -> UNet2DModel:
    torch.manual_seed(1)
    shape = {"sample_size": 8, "block_out_channels": (8,), "norm_num_groups": 4, "layers_per_block": 1, "attention_head_dim": 4}
    blocks = {"down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",)}
    return UNet2DModel(**(shape | blocks | more)).eval()


def written(folder: Path, scheduler: Any = None, **unet: Any) -> Path:
    """A prior as diffusers itself writes it."""
    tiny_unet(**unet).save_pretrained(folder / "unet")
    (scheduler or DDPMScheduler()).save_pretrained(folder / "scheduler")
    return folder


def changed(file: Path, **fields: Any) -> None:
    """The JSON file with other fields; a field that is `...` is taken out."""
    content = json.loads(file.read_text()) | fields
    file.write_text(json.dumps({name: value for name, value in content.items() if value is not ...}))


CONFIGS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "linear, N = 500": {"num_train_timesteps": 500},
    "linear, N = 250": {"num_train_timesteps": 250},
    "linear, N = 4000, other ends": {"num_train_timesteps": 4000, "beta_start": 3e-5, "beta_end": 0.006},
    "scaled_linear defaults": {"beta_schedule": "scaled_linear"},
    "scaled_linear, Stable Diffusion's": {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
    "squaredcos_cap_v2, N = 100": {"beta_schedule": "squaredcos_cap_v2", "num_train_timesteps": 100},
    "sigmoid": {"beta_schedule": "sigmoid"},
    "sigmoid, N = 200": {"beta_schedule": "sigmoid", "num_train_timesteps": 200, "beta_end": 0.05},
    "trained_betas": {"trained_betas": [0.001 * (i + 1) for i in range(60)], "num_train_timesteps": 60},
    "velocity": {"prediction_type": "v_prediction"},
    "clean image": {"prediction_type": "sample"},
    "zero terminal SNR": {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True},
    "fixed_large": {"variance_type": "fixed_large"},
    "fixed_large, N = 500": {"variance_type": "fixed_large", "num_train_timesteps": 500},
    "learned_range": {"variance_type": "learned_range"},
    "not clipped": {"clip_sample": False},
    "clipped at 3": {"clip_sample_range": 3.0},
    "dynamic thresholding": {"thresholding": True, "dynamic_thresholding_ratio": 0.9, "sample_max_value": 2.5},
}


@pytest.mark.parametrize("fields", CONFIGS.values(), ids=CONFIGS)
def test_a_step_is_that_of_diffusers_own_scheduler(tmp_path: Path, fields: dict[str, Any]) -> None:
    scheduler, channels = DDPMScheduler(**fields), 6 if fields.get("variance_type") == "learned_range" else 3
    prior = load_ddpm(written(tmp_path, scheduler, out_channels=channels))
    last = len(scheduler.betas) - 1
    for t in (0, 1, last // 3, last):
        with torch.no_grad():
            out = prior.network(Z, torch.full((2,), t)).sample
            ours = prior.step(Z, t)
        theirs = scheduler.step(out, t, Z, generator=torch.Generator().manual_seed(t))
        noise = torch.randn(Z.shape, generator=torch.Generator().manual_seed(t)) if t else torch.zeros(())
        torch.testing.assert_close(ours.x0, theirs.pred_original_sample, atol=1e-4, rtol=1e-3)
        torch.testing.assert_close(ours.mean + ours.std * noise, theirs.prev_sample, atol=1e-4, rtol=1e-3)


def test_a_respaced_step_is_diffusers_at_the_same_timesteps(tmp_path: Path) -> None:
    scheduler = DDPMScheduler(500)
    prior = load_ddpm(written(tmp_path, scheduler), steps=50)
    scheduler.set_timesteps(timesteps=prior.timesteps[::-1])
    with torch.no_grad():
        out, ours = prior.network(Z, torch.full((2,), prior.timesteps[20])).sample, prior.step(Z, 20)
    theirs = scheduler.step(out, prior.timesteps[20], Z, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(Z.shape, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(ours.mean + ours.std * noise, theirs.prev_sample, atol=1e-5, rtol=1e-4)


KINDS = (
    *("DDPMParallel", "DDIM", "DDIMParallel", "DDIMInverse", "PNDM", "LMSDiscrete", "EulerDiscrete", "EulerAncestralDiscrete"),
    *("HeunDiscrete", "KDPM2Discrete", "KDPM2AncestralDiscrete", "DPMSolverMultistep", "DPMSolverSinglestep", "DEISMultistep"),
    "UniPCMultistep",
)


NUMPY_2 = pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning")  # which diffusers' schedulers do not know yet


@NUMPY_2
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fields", [{}, {"num_train_timesteps": 500, "beta_end": 0.03}], ids=["defaults", "N = 500"])
def test_every_scheduler_of_such_noise_brings_its_own_levels(tmp_path: Path, kind: str, fields: dict[str, Any]) -> None:
    # sampling settings say nothing of the network: they load, and the levels are the class's own
    scheduler = getattr(diffusers, f"{kind}Scheduler")(**fields)
    written(tmp_path, scheduler)
    changed(tmp_path / "scheduler/scheduler_config.json", timestep_spacing="trailing", steps_offset=1)
    prior = load_ddpm(tmp_path)
    torch.testing.assert_close(prior.alphas_cumprod.float(), scheduler.alphas_cumprod, atol=1e-5, rtol=1e-4)
    assert prior.schedule.clip_sample == scheduler.config.get("clip_sample", False)


@NUMPY_2
def test_ddim_and_euler_see_the_same_clean_image(tmp_path: Path) -> None:
    ddim, euler, t = DDIMScheduler(600), EulerDiscreteScheduler(600), 400
    prior = load_ddpm(written(tmp_path / "ddim", ddim))
    unclipped = load_ddpm(written(tmp_path / "euler", euler))
    ddim.set_timesteps(600)
    euler.set_timesteps(600)
    level = prior.alphas_cumprod[t].float()
    with torch.no_grad():
        out = prior.network(Z, torch.full((2,), t)).sample
        torch.testing.assert_close(prior.step(Z, t).x0, ddim.step(out, t, Z).pred_original_sample, atol=1e-4, rtol=1e-3)
        theirs = euler.step(out, euler.timesteps[599 - t], Z / level.sqrt()).pred_original_sample
        torch.testing.assert_close(unclipped.step(Z, t).x0, theirs, atol=1e-3, rtol=1e-3)


SCHEDULERS: dict[str, tuple[dict[str, Any], str]] = {
    "flow matching that clips": (
        {"_class_name": "FlowMatchEulerDiscreteScheduler"},
        "clip_sample is True, which is not honoured",
    ),
    "another flow": ({"_class_name": "FlowMatchLCMScheduler"}, "_class_name is 'FlowMatchLCM"),
    "variance exploding": ({"_class_name": "ScoreSdeVeScheduler"}, "_class_name is 'ScoreSdeVe"),
    "EDM": ({"_class_name": "EDMEulerScheduler"}, "_class_name is 'EDMEuler"),
    "shifted SNR": ({"_class_name": "CogVideoXDDIMScheduler", "snr_shift_scale": 3.0}, "_class_name is 'CogVideoX"),
    "consistency": ({"_class_name": "CMStochasticIterativeScheduler"}, "_class_name is 'CMStochastic"),
    "unknown field": ({"snr_shift_scale": 3.0}, "snr_shift_scale is 3.0, which is not honoured"),
    "flow sigmas": ({"_class_name": "DPMSolverMultistepScheduler", "use_flow_sigmas": True}, "clip_sample is True"),
    "dynamic shifting": (
        {"_class_name": "UniPCMultistepScheduler", "use_dynamic_shifting": True},
        "use_dynamic_shifting is True",
    ),
    "continuous time": (
        {"_class_name": "EulerDiscreteScheduler", "timestep_type": "continuous"},
        "timestep_type is 'continuous'",
    ),
    "laplace": ({"beta_schedule": "laplace"}, "beta_schedule is 'laplace'.*linear, scaled_linear, squaredcos_cap_v2, sigmoid"),
    "flow prediction": ({"prediction_type": "flow_prediction"}, "prediction_type is 'flow_prediction'.*epsilon, sample"),
    "learned variance": ({"variance_type": "learned"}, "variance_type is 'learned'.*fixed_large"),
    "fixed_large_log": ({"variance_type": "fixed_large_log"}, "variance_type is 'fixed_large_log'"),
    "range without channels": ({"variance_type": "learned_range"}, "variance_type is 'learned_range', but the UNet answers 3"),
    "too few betas": ({"trained_betas": [0.1, 0.2]}, "2 trained_betas, but num_train_timesteps is 1000"),
    "zero SNR of noise": ({"rescale_betas_zero_snr": True}, "rescale_betas_zero_snr leaves nothing"),
    "beta above 1": ({"beta_end": 2.0}, "betas go from 0.0001 to 2"),
    "no steps": ({"num_train_timesteps": 0}, "num_train_timesteps is 0: "),
    "a word": ({"clip_sample_range": "wide"}, "clip_sample_range is 'wide': "),
}


@pytest.mark.parametrize(("fields", "words"), SCHEDULERS.values(), ids=SCHEDULERS)
def test_a_scheduler_that_cannot_be_honoured_is_refused_by_name(tmp_path: Path, fields: dict[str, Any], words: str) -> None:
    written(tmp_path)
    changed(tmp_path / "scheduler/scheduler_config.json", **fields)
    with pytest.raises(UserError, match=f"scheduler_config.json: .*{words}"):
        load_ddpm(tmp_path)


UNETS: dict[str, tuple[dict[str, Any], str]] = {
    "grey": ({"in_channels": 1, "out_channels": 1}, "in_channels is 1, but images have 3.*train one"),
    "latents": ({"in_channels": 4, "out_channels": 4}, "in_channels is 4, but images have 3"),
    "six": ({"in_channels": 6, "out_channels": 6}, "in_channels is 6"),
    "odd answers": ({"out_channels": 4}, "out_channels is 4, but 3 are needed"),
    "of classes": ({"num_class_embeds": 10}, "num_class_embeds is 10"),
    "of time steps": ({"class_embed_type": "timestep"}, "class_embed_type is 'timestep'"),
}


@pytest.mark.parametrize(("shape", "words"), UNETS.values(), ids=UNETS)
def test_a_unet_of_other_images_is_refused(tmp_path: Path, shape: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        load_ddpm(written(tmp_path, **shape))


def no_key(folder: Path) -> None:
    state = load_file(folder / "unet" / WEIGHTS)
    del state["conv_in.weight"]
    save_file(state, folder / "unet" / WEIGHTS, {"format": "pt"})


def one_more(folder: Path) -> None:
    state = load_file(folder / "unet" / WEIGHTS)
    save_file(state | {"adapter.weight": torch.zeros(1)}, folder / "unet" / WEIGHTS, {"format": "pt"})


def not_finite(folder: Path) -> None:
    state = load_file(folder / "unet" / WEIGHTS)
    state["conv_out.weight"][0, 0, 0, 0] = float("nan")
    save_file(state, folder / "unet" / WEIGHTS, {"format": "pt"})


def wider(folder: Path) -> None:
    changed(folder / "unet/config.json", block_out_channels=[16])


def cut_off(folder: Path) -> None:
    file = folder / "unet" / WEIGHTS
    file.write_bytes(file.read_bytes()[:500])


def pointer(folder: Path) -> None:
    text = "version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 45\n"
    (folder / "unet" / WEIGHTS).write_text(text)


def other_unet(folder: Path) -> None:
    changed(folder / "unet/config.json", _class_name="UNet2DConditionModel")


def unknown_field(folder: Path) -> None:
    changed(folder / "unet/config.json", rope=True)


def not_json(folder: Path) -> None:
    (folder / "scheduler/scheduler_config.json").write_text("<html>")


def a_list(folder: Path) -> None:
    (folder / "unet/config.json").write_text("[]")


SPOILT: dict[str, tuple[Callable[[Path], None], str]] = {
    "a key is missing": (no_key, "conv_in.weight is missing"),
    "a key too many": (one_more, "adapter.weight is unexpected"),
    "NaN": (not_finite, "conv_out.weight is not finite"),
    "other widths": (wider, "size mismatch for conv_in.weight"),
    "truncated": (cut_off, f"{WEIGHTS} cannot be read"),
    "Git-LFS pointer": (pointer, f"{WEIGHTS} is a Git LFS pointer.*git lfs pull"),
    "text-to-image": (other_unet, "this is a UNet2DConditionModel; name text-to-image models under `words`"),
    "field of another diffusers": (unknown_field, "rope is True"),
    "not JSON": (not_json, "scheduler_config.json is not JSON"),
    "a list": (a_list, "config.json holds a list"),
}


@pytest.mark.parametrize(("spoil", "words"), SPOILT.values(), ids=SPOILT)
def test_a_spoilt_folder_is_refused_by_what_is_wrong(tmp_path: Path, spoil: Callable[[Path], None], words: str) -> None:
    written(tmp_path)
    spoil(tmp_path)
    with pytest.raises(UserError, match=words):
        load_ddpm(tmp_path)


def root_layout(folder: Path) -> None:
    for file in [*folder.glob("*/*.*")]:
        file.rename(folder / file.name)
    (folder / "model_index.json").write_text("{}")
    (folder / ".git").mkdir()
    (folder / ".git" / "refs").mkdir()


def half(folder: Path) -> None:
    tiny_unet().half().save_pretrained(folder / "unet", variant="fp16")
    (folder / "unet" / WEIGHTS).unlink()


def pickled(folder: Path) -> None:
    tiny_unet().save_pretrained(folder / "unet", safe_serialization=False)
    (folder / "unet" / WEIGHTS).unlink()


LAYOUTS: dict[str, Callable[[Path], None]] = {"root, as google/ddpm-*": root_layout, "fp16": half, "bin": pickled}


@pytest.mark.parametrize("lay_out", LAYOUTS.values(), ids=LAYOUTS)
def test_other_layouts_are_the_same_prior(tmp_path: Path, lay_out: Callable[[Path], None]) -> None:
    plain, other = written(tmp_path / "plain"), written(tmp_path / "other")
    lay_out(other)
    with torch.no_grad():
        expected, found = (load_ddpm(folder).predict(Z, torch.tensor([7, 7])) for folder in (plain, other))
    torch.testing.assert_close(found, expected, atol=0.02 if lay_out is half else 0, rtol=0)
    before = fingerprint_folder(other)
    config = next(other.rglob("config.json"))
    config.write_text(config.read_text() + "\n")
    assert fingerprint_folder(other) != before  # what is read from it counts, wherever it lies


def test_a_pickle_that_runs_code_is_not_run(tmp_path: Path) -> None:
    written(tmp_path)
    (tmp_path / "unet" / WEIGHTS).unlink()
    torch.save(Schedule(), tmp_path / "unet/diffusion_pytorch_model.bin")
    with pytest.raises(UserError, match=r"\.bin cannot be read"):
        load_ddpm(tmp_path)


@pytest.mark.parametrize(
    ("gone", "words"),
    [
        (f"unet/{WEIGHTS}", f"{WEIGHTS} is missing.*cfx train prior"),
        ("unet/config.json", "config.json is missing.*cfx train prior"),
        ("scheduler/scheduler_config.json", "scheduler_config.json is missing.*cfx train prior"),
    ],
)
def test_a_missing_file_is_named(tmp_path: Path, gone: str, words: str) -> None:
    written(tmp_path)
    (tmp_path / gone).unlink()
    with pytest.raises(FileNotFoundError, match=words):
        load_ddpm(tmp_path)


def same(a: DDPM, b: DDPM) -> None:
    assert torch.equal(a.betas, b.betas) and a.schedule.prediction_type == b.schedule.prediction_type
    weights = b.network.state_dict()
    assert all(torch.equal(weight, weights[name]) for name, weight in a.network.state_dict().items())
    with torch.no_grad():  # the last bit is the processor's: kernels go by how a tensor lies in memory
        torch.testing.assert_close(a.step(Z, 20).mean, b.step(Z, 20).mean, atol=1e-6, rtol=0)


def test_one_end_of_the_betas_may_be_said() -> None:
    found = Schedule(beta_end=0.03).original_betas()
    assert float(found[0]) == 1e-4 and float(found[-1]) == 0.03


@pytest.mark.parametrize("steps", [50, 500, 1000])
@pytest.mark.parametrize("kind", ["linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid"])
def test_what_cfx_writes_it_reads_to_the_bit(tmp_path: Path, kind: Any, steps: int) -> None:
    unet, schedule = tiny_unet().to(memory_format=torch.channels_last), Schedule(num_train_timesteps=steps, beta_schedule=kind)
    save_ddpm(tmp_path, unet, schedule)
    same(load_ddpm(tmp_path), DDPM(unet, schedule, channels=3))
    theirs = DDPMScheduler.from_pretrained(tmp_path / "scheduler")  # and diffusers reads it alike
    torch.testing.assert_close(betas(kind, steps).float(), theirs.betas, atol=1e-5, rtol=1e-3)


def test_what_cfx_wrote_before_means_what_it_meant(tmp_path: Path) -> None:
    # no beta_start and no version of diffusers: linear betas grow with 1000 / N, as in guided-diffusion
    old = {"_class_name": "DDPMScheduler", "num_train_timesteps": 500, "beta_schedule": "linear", "prediction_type": "epsilon"}
    written(tmp_path)
    (tmp_path / "scheduler/scheduler_config.json").write_text(json.dumps(old | {"trained_timesteps": 250}))
    prior = load_ddpm(tmp_path)
    same(prior, DDPM(prior.network, Schedule(num_train_timesteps=500), channels=3))
    assert float(prior.betas[-1]) == pytest.approx(0.04) and prior.schedule.trained_timesteps == 250
    changed(tmp_path / "scheduler/scheduler_config.json", _diffusers_version="0.1.1", trained_timesteps=...)
    assert float(load_ddpm(tmp_path).betas[-1]) == pytest.approx(0.02)


SIZES = [(8, 8), (7, 8), (9, 14), (28, 20)]


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_any_size_is_padded_inside_and_exact_where_none_is_needed(size: tuple[int, int]) -> None:
    shape = {"block_out_channels": (8, 8, 8), "down_block_types": ("DownBlock2D",) * 3, "up_block_types": ("UpBlock2D",) * 3}
    prior = DDPM(tiny_unet(**shape), Schedule(), channels=3, steps=50)
    z = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(2), requires_grad=True)
    step = prior.step(z, 20)
    assert step.mean.shape == z.shape
    step.mean.sum().backward()
    assert isinstance(z.grad, Tensor) and bool((z.grad != 0).all())
    if size == (8, 8):
        assert torch.equal(prior.predict(z, torch.tensor([3])), prior.network(z, torch.tensor([3])).sample)
    mirror = torch.nn.functional.pad(z, (0, -size[1] % 4, 0, -size[0] % 4), mode="reflect")
    expected = prior.network(mirror, torch.tensor([3])).sample[..., : size[0], : size[1]]
    torch.testing.assert_close(prior.predict(z, torch.tensor([3])), expected)


def test_an_image_too_small_to_mirror_is_refused() -> None:
    shape = {"block_out_channels": (8,) * 4, "down_block_types": ("DownBlock2D",) * 4, "up_block_types": ("UpBlock2D",) * 4}
    prior = DDPM(tiny_unet(**shape), Schedule(), channels=3)
    with pytest.raises(UserError, match="a side of 3 px is too short .* multiples of 8; raise `size` to more than 4"):
        prior.predict(torch.zeros(1, 3, 3, 8), torch.tensor([3]))


def test_the_bundled_prior_is_read_as_before(tmp_path: Path) -> None:
    from importlib.resources import files

    bundled = Path(str(files("cfx"))) / "weights/portraits/prior"
    prior = load_ddpm(bundled)
    assert prior.size == (64, 64) and prior.multiple == 16
    assert torch.equal(prior.betas, DDPM(prior.network, Schedule(), channels=48).betas)
    shutil.copytree(bundled, tmp_path / "copy")
    assert fingerprint_folder(tmp_path / "copy") == fingerprint_folder(bundled)


def flow(folder: Path) -> None:
    FlowMatchEulerDiscreteScheduler().save_pretrained(folder / "scheduler")
    changed(folder / "model_index.json", scheduler=["diffusers", "FlowMatchEulerDiscreteScheduler"])


TEXT: dict[str, tuple[Callable[[Path], None], str]] = {
    "a key is missing": (no_key, "conv_in.weight is missing"),
    "NaN": (not_finite, "conv_out.weight is not finite"),
    "flow matching": (flow, "FlowMatchEulerDiscreteScheduler is no scheduler of a DDPM"),
}


@pytest.mark.parametrize(("spoil", "words"), TEXT.values(), ids=TEXT)
def test_a_text_to_image_model_is_read_as_strictly(tmp_path: Path, spoil: Callable[[Path], None], words: str) -> None:
    folder = write_pipeline(tmp_path / "sd")
    spoil(folder)
    with pytest.raises(UserError, match=words):
        load_latent(str(folder))
