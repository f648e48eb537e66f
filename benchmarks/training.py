"""What a step of `cfx train prior` costs:  .venv/bin/python benchmarks/training.py [--config training.yaml] [--steps 4]

Times the recipe as it stands (its size, batch, UNet, precision, accumulation) on random images in memory, so that reading files
plays no part, after one step that is not counted.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

import torch
import yaml

from cfx.diffusion.training import PriorTraining, build_unet, train_prior

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--config", type=Path, help="YAML with settings of the training; default: the defaults")
parser.add_argument("--steps", type=int, default=4, help="optimizer steps to time")
arguments = parser.parse_args()

settings = yaml.safe_load(arguments.config.read_text()) if arguments.config else {}
whole = PriorTraining.model_validate(settings)
timed = whole.model_copy(update={"steps": arguments.steps + 1, "checkpoint_every": arguments.steps + 2})
images = torch.rand(whole.batch, 3, whole.size, whole.size) * 2 - 1
ends: list[tuple[float, float]] = []  # on the wall, and of this process' own cores: on a busy machine the truer one
with tempfile.TemporaryDirectory() as folder:
    train_prior(
        lambda step: images,
        timed,
        Path(folder),
        lambda step, loss: ends.append((time.perf_counter(), time.process_time())),
        "cuda" if torch.cuda.is_available() else "cpu",
    )
seconds, core_seconds = ((last - first) / arguments.steps for first, last in zip(ends[0], ends[-1], strict=True))
row = {
    "size": whole.size,
    "batch": whole.batch,
    "million_parameters": round(sum(weight.numel() for weight in build_unet(whole).parameters()) / 1e6, 2),
    "threads": torch.get_num_threads(),
    "seconds_per_step": round(seconds, 3),
    "core_seconds_per_step": round(core_seconds, 3),
    "core_hours_for_all_steps": round(core_seconds * whole.steps / 3600, 2),  # extrapolated
    "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
}
print(json.dumps(row))  # noqa: T201
