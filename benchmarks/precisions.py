"""What precision and runtime of a prior change:  python benchmarks/precisions.py [--portraits 64] [--json] [--out FILE]

Portraits are explained by the default ladder with the bundled networks, guided and null, in float32 by torch and then otherwise:
what flips, what the judge says, which attribute moves most, by how much effects differ, and how far pixels lie apart, on [-1, 1].
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

if sys.path[0] == str(Path(__file__).resolve().parent):
    sys.path.pop(0)  # benchmarks/, whose statistics.py would hide Python's own
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from torch import Tensor

from cfx.attributes.oracle import OracleConfig, load_oracle
from cfx.classifiers import ClassifierConfig, load_classifier
from cfx.diffusion.first_step import FirstAnswers
from cfx.diffusion.forward_passes import Precision
from cfx.diffusion.runtimes import Runtime
from cfx.portraits import draw, render
from cfx.presets import DEFAULT
from flows.engine import one_thread
from tasks.config import PriorConfig
from tasks.explainer import Explainer, Targets, explain_images, null_images
from tasks.networks import denoiser_for
from tasks.stages.prior import prior_folder

Way = tuple[Runtime, Precision]
EXACT: Way = ("torch", "float32")


def portraits(n: int) -> Tensor:
    """(n, 3, 64, 64) in [-1, 1]."""
    pixels = torch.from_numpy(np.stack([render(portrait) for _, portrait in draw(n, seed=8)]))
    return pixels.permute(0, 3, 1, 2).float() / 127.5 - 1


@torch.no_grad()
def rows(n: int, device: str, ways: Sequence[Way]) -> Iterator[dict[str, Any]]:
    """One row a way, each against float32 by torch."""
    classifier, judge = (
        load_classifier(ClassifierConfig(weights=Path(f"portraits:{name}")), device) for name in ("planted", "judge")
    )
    oracle, x = load_oracle(OracleConfig(weights=Path("portraits:oracle")), device), portraits(n).to(device)
    targets = Targets([str(i) for i in range(n)], x, 1 - classifier(x).argmax(1))
    exact: tuple[Tensor, ...] = ()
    for runtime, precision in (EXACT, *ways):
        of_prior = PriorConfig(path="portraits:prior", runtime=runtime, precision=precision)
        prior = denoiser_for(prior_folder(Path(), of_prior, ""), device, of_prior)
        explainer, started = Explainer(prior, classifier, DEFAULT, 64), time.process_time()
        known: FirstAnswers = {}
        guided, _ = explain_images(explainer, targets, 0, known)
        null, _, _ = null_images(explainer, targets, guided.attempt, 0, known)
        spent = time.process_time() - started
        flips = [network(guided.x_cf).argmax(1) == targets.target for network in (classifier, judge)]
        effects = (oracle(guided.x_cf) - oracle(null)).mean(0)
        found = (guided.x_cf, null, *flips, effects)
        exact = exact or found
        apart = [(found[arm] - exact[arm]).abs().amax((1, 2, 3)) for arm in (0, 1)]
        yield {
            "runtime": runtime,
            "precision": precision,
            "portraits": n,
            "cpu_seconds": round(spent, 1),
            "flipped": int(flips[0].sum()),
            "judge_flipped": int(flips[1].sum()),
            "other_flips": sum(int((found[i] != exact[i]).sum()) for i in (2, 3)),
            "first": oracle.attributes[int(effects.abs().argmax())],
            "effects_apart": float((effects - exact[4]).abs().max()),
            "largest_difference": float(apart[0].max()),
            "median_difference": float(apart[0].median()),
            "null_largest_difference": float(apart[1].max()),
            "more_than_a_grey_level_apart": int((apart[0] > 2 / 255).sum()),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--portraits", type=int, default=64)
    parser.add_argument("--json", action="store_true", help="the rows as JSON, as the last line")
    parser.add_argument("--out", type=Path, help="write them, command, commit and hardware to this JSON file")
    options = parser.parse_args()
    device, found = "cuda" if torch.cuda.is_available() else "cpu", list[dict[str, Any]]()
    with one_thread():
        for row in rows(options.portraits, device, (("torch", "bfloat16"),)):
            found.append(row)
            print("   ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()), file=sys.stderr)  # noqa: T201
    if options.out:
        facts = {
            "command": " ".join(["python", *sys.argv]),
            "commit": subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip(),
            "hardware": torch.cuda.get_device_name() if device == "cuda" else f"{platform.machine()}, 1 thread",
            "torch": torch.__version__,
        }
        options.out.write_text(json.dumps(facts | {"rows": found}, indent=1) + "\n")
    if options.json:
        print(json.dumps(found))  # noqa: T201


if __name__ == "__main__":
    main()
