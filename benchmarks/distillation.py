"""Does a distilled prior pay? The same portraits explained in fewer steps, with the teacher and with its students.

    python benchmarks/distillation.py [--portraits 64] [--into FOLDER] [--json] [--out FILE]

Students that are not in FOLDER yet are made there first, by `cfx.diffusion.distillation` on fresh portraits, in a few minutes of
one CPU core. Every ladder begins at the same noise, timestep 333 of 1000, as the default ladder. In few steps the same scale has
another force (it is multiplied by each step's variance), so scales are multiples of that with the same force in all. Which one
is chosen for each row alone, the teacher's too: the smallest on 24 other portraits that is within 3 % of the best for the judge.
The default ladder and the demo's first are as they are. An evaluation is one image through the UNet once.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

sys.path.pop(0)  # benchmarks/, whose statistics.py would hide Python's own
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from torch import Tensor

from cfx.classifiers import ClassifierConfig
from cfx.diffusion.ddpm import DDPM, Schedule
from cfx.diffusion.distillation import Distillation, distil
from cfx.methods.dime import FastDiME
from cfx.methods.maskdime import MaskDiME
from cfx.portraits import draw, render, sample
from cfx.presets import DEFAULT
from cfx.types import Classifier
from tasks.config import Method, PriorConfig
from tasks.explainer import Explainer, Targets, explain_images
from tasks.networks import classifier_for, denoiser_for
from tasks.stages.prior import prior_folder

TUNED, GRADED = 611, 612  # seeds of the portraits that scales are chosen on, and of those that are graded
PRACTICE = 613  # of the portraits that students are distilled on
FORCES = (1.0, 2.0, 4.0, 8.0)  # of the first rung, as multiples of the method's own ladder
UPDATES = 70  # of a student
CLOSE = 0.03  # of the best judge's flip rate
DEPTHS = {25: 9, 13: 5, 7: 3, 4: 2}  # steps -> tau, of which each begins at timestep 333
TEACHERS = {13: None, 7: 13, 4: 7}  # steps of a student -> those of its teacher; None: the bundled prior


class Row(NamedTuple):
    """A prior, what is done with it, and the ladder at a force."""

    prior: str
    method: str
    ladder: Callable[[float], Sequence[Method]]
    forces: tuple[float, ...] = FORCES


def variance(steps: int, tau: int) -> float:
    """The variances of a ladder's steps, added up: what its scale is multiplied by."""
    prior = DDPM(torch.nn.Identity(), Schedule(), channels=3, steps=steps)
    return float(prior.log_posterior[:tau].exp().sum())


def maskdime(steps: int) -> Callable[[float], Sequence[Method]]:
    """The default ladder in so many steps, at a multiple of its force."""
    changes, ratio = {"steps": steps, "tau": DEPTHS[steps]}, variance(25, 9) / variance(steps, DEPTHS[steps])
    return lambda force: [
        MaskDiME.model_validate(rung.model_dump() | changes | {"scale": force * ratio * rung.scale}) for rung in DEFAULT
    ]


def fastdime(steps: int) -> Callable[[float], Sequence[Method]]:
    """The demo's first ladder in so many steps, at a multiple of its force."""
    ratio = variance(50, 18) / variance(steps, DEPTHS[steps])
    return lambda force: [
        FastDiME(steps=steps, tau=DEPTHS[steps], scale=force * ratio * scale, threshold=0.3) for scale in (25.0, 60.0)
    ]


def rows() -> list[Row]:
    """All of them, the teacher's own settings first."""
    first_demo = [FastDiME(steps=50, tau=18, scale=scale, threshold=0.3) for scale in (25.0, 60.0)]
    found = [
        Row("teacher", "maskdime 9 of 25", lambda force: DEFAULT, (1.0,)),
        Row("teacher", "fastdime 18 of 50", lambda force: first_demo, (1.0,)),
    ]
    for steps in TEACHERS:
        for prior in ("teacher", f"student {steps}"):
            found.append(Row(prior, f"maskdime {DEPTHS[steps]} of {steps}", maskdime(steps)))
            if steps == 7:
                found.append(Row(prior, f"fastdime {DEPTHS[steps]} of {steps}", fastdime(steps)))
    return found


def portraits(n: int, seed: int) -> Tensor:
    """(n, 3, 64, 64) in [-1, 1]."""
    pixels = np.stack([render(portrait) for _, portrait in draw(n, seed)])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1


def measured(
    prior: DDPM, classifier: Classifier, judge: Classifier, x: Tensor, ladder: Sequence[Method], seed: int
) -> dict[str, float]:
    """One row's numbers on these portraits."""
    ids = [f"{seed}-{i}" for i in range(len(x))]
    with torch.no_grad():
        target = 1 - classifier(x).argmax(1)
        spent = time.process_time()
        found, costs = explain_images(Explainer(prior, classifier, ladder, 64), Targets(ids, x, target), seed=0)
        spent = time.process_time() - spent
        flipped = (classifier(found.x_cf).argmax(1) == target).float()
        judged = (judge(found.x_cf).argmax(1) == target).float()
    on_rung = [sum(cost.nfe_forward for cost in costs[: attempt + 1]) for attempt in found.attempt.tolist()]
    return {
        "n": len(x),
        "flip_rate": float(flipped.mean()),
        "judge_flip_rate": float(judged.mean()),
        "l1": float((found.x_cf - x).abs().mean() / 2),
        "evaluations": sum(on_rung) / len(x),
        "evaluations_per_judged_flip": sum(on_rung) / max(1.0, float(judged.sum())),
        "first_rung": float((found.attempt == 0).float().mean()),
        "cpu_seconds_per_image": spent / len(x),
    }


def chosen(forces: Sequence[float], tried: Sequence[dict[str, float]]) -> float:
    """The smallest force at which the judge's flip rate is within CLOSE of the best."""
    best = max(row["judge_flip_rate"] for row in tried)
    return next(force for force, row in zip(forces, tried, strict=True) if row["judge_flip_rate"] >= best - CLOSE)


def student(steps: int, teacher: Path, into: Path) -> dict[str, float]:
    """Make the student of so many steps, unless it is there; what that cost."""
    folder, config = into / f"student-{steps}", Distillation(steps=steps, halvings=1, updates=UPDATES, batch=16)
    teacher = teacher if TEACHERS[steps] is None else into / f"student-{TEACHERS[steps]}"
    cost = folder / "cost.json"
    if not cost.is_file():

        def batches(step: int) -> Tensor:
            rng = np.random.default_rng((PRACTICE, steps, step))
            pixels = np.stack([render(sample(rng)) for _ in range(config.batch)])
            return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1

        losses: list[float] = []
        spent = time.process_time()
        distil(batches, teacher, config, folder, lambda step, loss: losses.append(loss))
        spent = time.process_time() - spent
        facts = {"cpu_seconds": spent, "updates": len(losses), "first_losses": losses[:5], "last_losses": losses[-5:]}
        cost.write_text(json.dumps(facts))
        print(f"student of {steps} steps: {spent:.0f} s", file=sys.stderr)  # noqa: T201
    found: dict[str, float] = json.loads(cost.read_text())
    return found


def measure(into: Path, n: int) -> dict[str, Any]:
    """Students and rows."""
    teacher = prior_folder(Path(), PriorConfig(path="portraits:prior"), "")
    costs = {steps: student(steps, teacher, into) for steps in TEACHERS}
    priors = {"teacher": denoiser_for(teacher, "cpu")}
    priors |= {f"student {steps}": denoiser_for(into / f"student-{steps}", "cpu") for steps in TEACHERS}
    classifier, judge = (classifier_for(ClassifierConfig(weights=f"portraits:{name}"), "cpu") for name in ("planted", "judge"))
    tuned, graded, found = portraits(24, TUNED), portraits(n, GRADED), []
    for row in rows():
        prior, force = priors[row.prior], row.forces[0]
        if len(row.forces) > 1:
            tried = [measured(prior, classifier, judge, tuned, row.ladder(one), TUNED) for one in row.forces]
            force = chosen(row.forces, tried)
        ladder = row.ladder(force)
        facts = {"prior": row.prior, "method": row.method, "force": force, "scale": ladder[0].model_dump()["scale"]}
        found.append(facts | measured(prior, classifier, judge, graded, ladder, GRADED))
        print("   ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in found[-1].items()), file=sys.stderr)  # noqa: T201
    return {"students": costs, "rows": found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--portraits", type=int, default=64)
    parser.add_argument(
        "--into", type=Path, default=Path("distillation-benchmark"), help="students; those that are there are kept"
    )
    parser.add_argument("--json", action="store_true", help="the result as JSON, as the last line")
    parser.add_argument("--out", type=Path, help="write it with command, commit and hardware to this JSON file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = measure(options.into, options.portraits)
    if options.out:
        facts = {
            "command": " ".join(["python", *sys.argv]),
            "commit": subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip(),
            "hardware": f"{platform.machine()}, 1 thread, torch {torch.__version__}",
        }
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(facts | found, indent=1) + "\n")
    if options.json:
        print(json.dumps(found))  # noqa: T201


if __name__ == "__main__":
    main()
