"""What batches of a fixed size save on a CPU:  python benchmarks/fixed_batches.py [--json]

32 portraits are explained by the default ladder's first rung in batches of each size, on one thread; seconds of CPU, and the
largest difference of any pixel, on [-1, 1], from one image at a time. The same batches in reverse order must differ by nothing.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cfx.methods.maskdime import MaskDiME
from cfx.portraits import draw, render
from tasks import fixed_batches
from tasks.config import ClassifierConfig, PriorConfig
from tasks.explainer import Explainer, Targets, explain_images
from tasks.networks import classifier_for, denoiser_for
from tasks.stages.prior import prior_folder

SIZES = (1, 2, 4, 8, 16)


def measure(n: int) -> list[dict[str, float]]:
    """One row a batch size."""
    prior = denoiser_for(prior_folder(Path(), PriorConfig(path="portraits:prior"), ""), "cpu")
    classifier = classifier_for(ClassifierConfig(weights="portraits:planted"), "cpu")
    explainer = Explainer(prior, classifier, (MaskDiME(),), 64)
    x = torch.from_numpy(np.stack([render(portrait) for _, portrait in draw(n, seed=8)])).permute(0, 3, 1, 2).float() / 127.5 - 1
    ids, target = [str(i) for i in range(n)], 1 - classifier(x).argmax(1)

    def explained(order: Tensor) -> Tensor:
        return explain_images(explainer, Targets([ids[i] for i in order], x[order], target[order]), 0)[0].x_cf[order.argsort()]

    rows: list[dict[str, float]] = []
    alone = x
    for size in SIZES:
        fixed_batches.IMAGES, fixed_batches.PIXELS = size, size * x.shape[2] * x.shape[3]
        explained(torch.arange(size))  # the first time is slower
        spent = time.process_time()
        found = explained(torch.arange(n))
        spent = time.process_time() - spent
        alone = alone if rows else found
        backwards = explained(torch.arange(n - 1, -1, -1))
        rows.append(
            {
                "batch": size,
                "cpu_seconds": round(spent, 2),
                "times_as_fast": round(rows[0]["cpu_seconds"] / spent, 2) if rows else 1.0,
                "from_one_at_a_time": float((found - alone).abs().max()),
                "from_another_order": float((found - backwards).abs().max()),
            }
        )
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = measure(options.images)
    if options.json:
        print(json.dumps(found))  # noqa: T201
    else:
        for row in found:
            print("   ".join(f"{name} {value:g}" for name, value in row.items()))  # noqa: T201
