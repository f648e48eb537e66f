"""A prior's folder in diffusers' format, read strictly: every field of its scheduler is honoured or refused by name, every weight
is there and finite.

Two layouts: unet/ and scheduler/ beside each other, or both in the root folder, as in google/ddpm-cat-256.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, get_args

import diffusers
import torch
from diffusers import UNet2DModel
from pydantic_core import from_json
from torch import nn

from cfx.diffusion.schedule import BetaSchedule, Prediction
from cfx.errors import UserError
from cfx.weights_file import FOREIGN, LFS

WEIGHTS = "diffusion_pytorch_model"
SCHEDULERS = (  # all that noise as sqrt(abar) x + sqrt(1 - abar) n and give the UNet that z and its training step
    *("DDPM", "DDPMParallel", "DDIM", "DDIMParallel", "DDIMInverse", "PNDM", "LMSDiscrete", "HeunDiscrete", "DEISMultistep"),
    *("EulerDiscrete", "EulerAncestralDiscrete", "KDPM2Discrete", "KDPM2AncestralDiscrete", "UniPCMultistep"),
    *("DPMSolverMultistep", "DPMSolverSinglestep", "LCM"),
)
HONOURED = (  # by `Schedule`, under the same names
    *("num_train_timesteps", "beta_schedule", "beta_start", "beta_end", "trained_betas", "rescale_betas_zero_snr"),
    *("prediction_type", "variance_type", "clip_sample", "clip_sample_range"),
    *("thresholding", "dynamic_thresholding_ratio", "sample_max_value", "trained_timesteps"),
)
OF_SAMPLING = {  # how diffusers walks down the steps, which here is the method's matter; they say nothing of the UNet
    *("timestep_spacing", "steps_offset", "set_alpha_to_one", "skip_prk_steps", "interpolation_type", "final_sigmas_type"),
    *("solver_order", "solver_type", "solver_p", "algorithm_type", "lower_order_final", "euler_at_final", "predict_x0"),
    *("disable_corrector", "use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "use_lu_lambdas"),
    *("sigma_min", "sigma_max", "lambda_min_clipped", "flow_shift", "time_shift_type", "noise_sampler_seed", "tensor_format"),
    *("original_inference_steps", "timestep_scaling"),
}
FLOWS = ("FlowMatchEulerDiscrete", "FlowMatchHeunDiscrete")  # schedulers of straight paths from the image to noise
NEUTRAL = (None, False, "discrete")  # any other field may hold these
MEANT: Mapping[str, tuple[str, ...]] = {
    "beta_schedule": get_args(BetaSchedule),
    "prediction_type": get_args(Prediction),
    "variance_type": ("fixed_small", "fixed_small_log", "fixed_large", "learned_range"),
}
OLD = {"_class_name", "num_train_timesteps", "beta_schedule", "prediction_type"}  # all that cfx wrote at first


class Files(NamedTuple):
    """What a prior is read from, whichever the layout."""

    unet: Path  # config.json
    weights: Path
    scheduler: Path  # scheduler_config.json


def prior_files(folder: Path) -> Files:
    """The files of a prior's folder. Raises FileNotFoundError naming what is missing and the way out."""
    unet = _there(folder, "unet", "config.json")
    scheduler = _there(folder, "scheduler", "scheduler_config.json")
    found = [unet.parent / f"{WEIGHTS}{end}" for end in (".safetensors", ".bin", ".fp16.safetensors", ".fp16.bin")]
    weights = next((file for file in found if file.is_file()), None)
    if weights is None:
        others = ", ".join(sorted(file.name for file in unet.parent.glob(f"{WEIGHTS}*"))) or "nothing of that name"
        raise FileNotFoundError(
            f"no prior at {folder}: {found[0].name} is missing beside {unet.name} (.bin and .fp16 will do; there is {others}); "
            "copy it there, or train one with `cfx train prior`"
        )
    for file in (unet, weights, scheduler):
        with file.open("rb") as opened:
            if opened.read(40).startswith(LFS):
                raise UserError(f"{file} {FOREIGN[LFS]}")
    return Files(unet, weights, scheduler)


def _there(folder: Path, part: str, name: str) -> Path:
    for file in (folder / part / name, folder / name):
        if file.is_file():
            return file
    raise FileNotFoundError(
        f"no prior at {folder}: {name} is missing, both in {part}/ and in the folder itself; give a folder in diffusers' format "
        "(a hub's model must be downloaded first), or train one with `cfx train prior`"
    )


def read_json(file: Path) -> dict[str, Any]:
    try:
        content = from_json(file.read_bytes())
    except ValueError as error:
        raise UserError(f"{file} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{file} holds a {type(content).__name__}; an object of settings is needed")
    return content


def read_unet(files: Files) -> UNet2DModel:
    """The UNet, float32, frozen.

    Raises UserError for one that is not an unconditional UNet2DModel of RGB images, folded or not, and naming every weight that
    is missing, unexpected, misshapen or not finite.
    """
    _check_unet(files.unet, read_json(files.unet))
    try:
        network, found = UNet2DModel.from_pretrained(
            files.unet.parent,
            torch_dtype=torch.float32,
            low_cpu_mem_usage=False,
            use_safetensors=files.weights.suffix == ".safetensors",
            variant="fp16" if ".fp16." in files.weights.name else None,
            output_loading_info=True,
        )
    except (OSError, RuntimeError, ValueError, TypeError) as error:
        raise UserError(f"{files.weights} cannot be read as the weights of {files.unet}: {error}") from error
    check_weights(network, found, f"{files.weights}, as {files.unet} describes it")
    unet: UNet2DModel = network.eval().requires_grad_(False)
    return unet


def check_weights(network: nn.Module, found: Mapping[str, Any], source: str) -> None:
    """Raises UserError naming every weight that is missing, unexpected or not finite; found: diffusers' loading info."""
    wrong = [f"{name} is {kind}" for kind in ("missing", "unexpected") for name in found[f"{kind}_keys"]]
    wrong += [f"{name} is not finite" for name, value in network.state_dict().items() if not value.isfinite().all()]
    if wrong:
        raise UserError(f"{source}: {'; '.join(wrong)}; the file is damaged, or of another network")


def _check_unet(source: Path, config: Mapping[str, Any]) -> None:
    kind, channels = config.get("_class_name"), config.get("in_channels", 3)
    answers, known = config.get("out_channels", 3), inspect.signature(UNet2DModel.__init__).parameters
    if kind != "UNet2DModel":
        way_out = "name text-to-image models under `words`; " if kind == "UNet2DConditionModel" else ""
        raise UserError(
            f"{source}: a prior is a UNet2DModel, but this is a {kind}; {way_out}train a prior with `cfx train prior`"
        )
    for field, value in config.items():
        if field in ("num_class_embeds", "class_embed_type") and value is not None:
            raise UserError(f"{source}: {field} is {value!r}, but there is no class to give to a prior; use an unconditional one")
        if not (field in known or field.startswith("_") or value in NEUTRAL):
            raise UserError(
                f"{source}: {field} is {value!r}, which UNet2DModel of this diffusers does not know; update diffusers"
            )
    if channels not in {3 * patch**2 for patch in range(1, 33)}:
        raise UserError(
            f"{source}: in_channels is {channels}, but images have 3 (or 3 p^2, folded p x p); use a prior of RGB images, "
            "or train one with `cfx train prior`"
        )
    if answers not in (channels, 2 * channels):
        raise UserError(f"{source}: out_channels is {answers}, but {channels} are needed, or twice as many with variances")


def read_schedule(files: Files) -> dict[str, Any]:
    """What scheduler_config.json says of how the UNet was trained, by the names of `Schedule`; defaults are those of its class.

    Raises UserError for a scheduler of another process, for a field that cannot be honoured, and for one that is not known.
    """
    said = schedule_fields(files.scheduler)
    if not _as_cfx_wrote_first(read_json(files.scheduler)):
        _check_variance(files.scheduler, said, read_json(files.unet))
    return said


def schedule_fields(source: Path) -> dict[str, Any]:
    """The same of a scheduler_config.json alone, whatever network it is for. Raises as `read_schedule` does."""
    settings = read_json(source)
    kind = str(settings.get("_class_name", "DDPMScheduler"))
    if kind.removesuffix("Scheduler") not in SCHEDULERS:
        raise UserError(
            f"{source}: _class_name is {kind!r}, which is no scheduler of a DDPM; there are {', '.join((*SCHEDULERS, *FLOWS))}"
        )
    for field, value in settings.items():
        if not (field in HONOURED or field in OF_SAMPLING or field.startswith("_") or value in NEUTRAL):
            raise UserError(f"{source}: {field} is {value!r}, which is not honoured; take it out if it says nothing of training")
    if _as_cfx_wrote_first(settings):
        return {field: settings[field] for field in settings if field != "_class_name"}
    found = _defaults(kind) | {field: settings[field] for field in HONOURED if settings.get(field) is not None}
    _check_schedule(source, found)
    return {field: value for field, value in found.items() if value is not None}


def _as_cfx_wrote_first(settings: Mapping[str, Any]) -> bool:
    return OLD <= settings.keys() <= OLD | {"trained_timesteps"}


def _defaults(kind: str) -> dict[str, Any]:
    """Those of the class, which does not clip where it has no field for that; without a word, the channels say the variance."""
    parameters = inspect.signature(getattr(diffusers, kind).__init__).parameters
    of_class = {field: parameters[field].default for field in HONOURED if field in parameters}
    return {"clip_sample": False, **of_class, "variance_type": None}


def _check_schedule(source: Path, found: Mapping[str, Any]) -> None:
    for field, meant in MEANT.items():
        if found[field] not in (*meant, None):
            raise UserError(f"{source}: {field} is {found[field]!r}, which is not honoured; there are {', '.join(meant)}")
    steps, given = found["num_train_timesteps"], found["trained_betas"]
    if given is not None and len(given) != steps:
        raise UserError(f"{source}: there are {len(given)} trained_betas, but num_train_timesteps is {steps}; mend one of them")
    if found.get("rescale_betas_zero_snr") and found["prediction_type"] == "epsilon":
        raise UserError(
            f"{source}: rescale_betas_zero_snr leaves nothing of the image at the last step, so noise (prediction_type epsilon) "
            "does not say what the image was; such a UNet predicts v_prediction or sample"
        )


def _check_variance(source: Path, found: Mapping[str, Any], unet: Mapping[str, Any]) -> None:
    channels, answers, variance = unet.get("in_channels", 3), unet.get("out_channels", 3), found.get("variance_type")
    if variance is not None and (answers == 2 * channels) != (variance == "learned_range"):
        raise UserError(f"{source}: variance_type is {variance!r}, but the UNet answers {answers} channels of {channels}")
