"""A scheduler_config.json of straight paths between image and noise: which steps it takes, every field honoured or refused."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cfx.diffusion.flow import Flow
from cfx.diffusion.pretrained import FLOWS, NEUTRAL, OF_SAMPLING, read_json
from cfx.errors import UserError

DYNAMIC = {"use_dynamic_shifting", "base_shift", "max_shift", "base_image_seq_len", "max_image_seq_len", "time_shift_type"}
FLOW_FIELDS = {"num_train_timesteps", "shift", "use_flow_sigmas", "shift_terminal", "stochastic_sampling", *DYNAMIC, *OF_SAMPLING}
OF_NOISE = {  # which say nothing of a flow, in schedulers that are of both
    *("beta_schedule", "beta_start", "beta_end", "trained_betas", "prediction_type", "variance_type"),
    *("clip_sample_range", "dynamic_thresholding_ratio", "sample_max_value"),
}


def read_flow(source: Path, tokens: int | None = None) -> Flow | None:
    """How a flow was trained, from its scheduler's file: one of FLOWS, or another with `use_flow_sigmas`; None where that is no
    flow's.

    tokens: positions of the network in an image as it draws them, on which the shift may depend. Raises UserError for a field
    that cannot be honoured.
    """
    settings = read_json(source)
    kind = str(settings.get("_class_name", "")).removesuffix("Scheduler")
    if kind not in FLOWS and not settings.get("use_flow_sigmas"):
        return None
    for field, value in settings.items():
        if not (field in FLOW_FIELDS | OF_NOISE or field.startswith("_") or value in NEUTRAL):
            raise UserError(f"{source}: {field} is {value!r}, which is not honoured; take it out if it says nothing of training")
    predicts = settings.get("prediction_type", "flow_prediction")
    if predicts != "flow_prediction":
        raise UserError(f"{source}: prediction_type is {predicts!r}; of a flow it is flow_prediction")
    shift = settings.get("shift", settings.get("flow_shift", 1.0))
    if settings.get("use_dynamic_shifting"):
        shift = dynamic_shift(source, settings, tokens)
    try:
        return Flow(num_train_timesteps=settings.get("num_train_timesteps", 1000), shift=shift)
    except ValidationError as error:
        wrong = "; ".join(f"{found['loc'][0]} is {found['input']!r}: {found['msg']}" for found in error.errors())
        raise UserError(f"{source}: {wrong}") from error


def dynamic_shift(source: Path, settings: Mapping[str, Any], tokens: int | None) -> float:
    """The shift towards noise at so many positions: a line through (base_image_seq_len, base_shift) and (max_image_seq_len,
    max_shift), as diffusers' pipelines have it (`calculate_shift`). Raises UserError where the model does not say its size.
    """
    if tokens is None:
        raise UserError(
            f"{source}: use_dynamic_shifting needs the images' size; set sample_size in the autoencoder's config.json"
        )
    first, last = int(settings.get("base_image_seq_len", 256)), int(settings.get("max_image_seq_len", 4096))
    low, high = float(settings.get("base_shift", 0.5)), float(settings.get("max_shift", 1.15))
    mu = low + (high - low) * (tokens - first) / (last - first)
    return mu if settings.get("time_shift_type") == "linear" else math.exp(mu)
