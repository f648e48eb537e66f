"""Which process a scheduler_config.json describes: a DDPM's, or straight paths between image and noise."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cfx.diffusion.ddpm import Schedule, schedule_of
from cfx.diffusion.flow import Flow
from cfx.diffusion.pretrained import NEUTRAL, OF_SAMPLING, SCHEDULERS, read_json, schedule_fields
from cfx.errors import UserError

OF_FLOWS = ("FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler")
DYNAMIC = {"use_dynamic_shifting", "base_shift", "max_shift", "base_image_seq_len", "max_image_seq_len", "time_shift_type"}
FLOW_FIELDS = {"num_train_timesteps", "shift", "use_flow_sigmas", "shift_terminal", "stochastic_sampling", *DYNAMIC, *OF_SAMPLING}
OF_NOISE = {  # which say nothing of a flow, in schedulers that are of both
    *("beta_schedule", "beta_start", "beta_end", "trained_betas", "prediction_type", "variance_type"),
    *("dynamic_thresholding_ratio", "sample_max_value"),
}


def read_process(source: Path, tokens: int | None) -> Schedule | Flow:
    """The schedule of a scheduler_config.json, whose every field is honoured or refused.

    tokens: positions of the network in an image as it draws them, on which the shift of a flow may depend. Raises UserError
    naming the file and the field.
    """
    settings = read_json(source)
    kind = str(settings.get("_class_name", "DDPMScheduler"))
    if kind in OF_FLOWS or settings.get("use_flow_sigmas"):
        return _flow(source, settings, tokens)
    if kind.removesuffix("Scheduler") not in SCHEDULERS:
        raise UserError(
            f"{source}: {kind} belongs to a process that is not known here; there are {', '.join(SCHEDULERS)} of noise added in "
            f"steps, and {', '.join(OF_FLOWS)} (or `use_flow_sigmas`) of flow matching"
        )
    schedule = schedule_of(source, schedule_fields(source))
    return schedule.model_copy(update={"variance_type": None})  # what a latent model says of it is left out, as in diffusers


def _flow(source: Path, settings: Mapping[str, Any], tokens: int | None) -> Flow:
    for field, value in settings.items():
        if not (field in FLOW_FIELDS | OF_NOISE or field.startswith("_") or value in NEUTRAL):
            raise UserError(f"{source}: {field} is {value!r}, which is not honoured; take it out if it says nothing of training")
    predicts = settings.get("prediction_type", "flow_prediction")
    if predicts != "flow_prediction":
        raise UserError(f"{source}: prediction_type is {predicts!r}; of a flow it is flow_prediction")
    steps = int(settings.get("num_train_timesteps", 1000))
    if settings.get("use_dynamic_shifting"):
        return Flow(num_train_timesteps=steps, shift=dynamic_shift(source, settings, tokens))
    return Flow(num_train_timesteps=steps, shift=float(settings.get("shift", settings.get("flow_shift", 1.0))))


def dynamic_shift(source: Path, settings: Mapping[str, Any], tokens: int | None) -> float:
    """The shift towards noise at so many positions: a line through (base_image_seq_len, base_shift) and (max_image_seq_len,
    max_shift), as diffusers' pipelines have it (`calculate_shift`). Raises UserError where the model does not say its size.
    """
    if tokens is None:
        raise UserError(
            f"{source}: use_dynamic_shifting needs the size of the images; set sample_size in the autoencoder's config"
        )
    first, last = int(settings.get("base_image_seq_len", 256)), int(settings.get("max_image_seq_len", 4096))
    low, high = float(settings.get("base_shift", 0.5)), float(settings.get("max_shift", 1.15))
    mu = low + (high - low) * (tokens - first) / (last - first)
    return mu if settings.get("time_shift_type") == "linear" else math.exp(mu)
