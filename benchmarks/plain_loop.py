"""Each method as a plain PyTorch loop, one image at a time, beside cfx's own, with the same weights and the same noise:

    python benchmarks/plain_loop.py [--quick] [--only METHOD ...] [--images N] [--json] [--out FILE]

The loops below share nothing with cfx but the networks' weights and an image's seed. They follow the released codes line by line
(their conventions are `as_released` in cfx), at batch 1, without batches that are filled up and without a compiled UNet; DVCE
evaluates the UNet twice a step, as released. CPU seconds of one thread an image; and the largest difference of a pixel on [-1, 1]
from the loop: of cfx at batch 1, at its own batch, and with the UNet compiled. It fails where the first is not rounding.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

if sys.path[0] == str(Path(__file__).resolve().parent):
    sys.path.pop(0)  # benchmarks/, whose statistics.py would hide Python's own
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from diffusers import UNet2DModel
from torch import Tensor
from torch.nn.functional import log_softmax, max_pool2d, pixel_shuffle, pixel_unshuffle

from benchmarks.track import commit, hardware
from cfx.diffusion.compiled import Compiled
from cfx.diffusion.ddpm import DDPM
from cfx.methods.ace import ACE
from cfx.methods.dime import DiME, FastDiME
from cfx.methods.dvce import DVCE
from cfx.methods.maskdime import MaskDiME
from cfx.portraits import draw, render
from cfx.random import derived_seed
from cfx.types import Classifier
from tasks import fixed_batches
from tasks.config import ClassifierConfig, Method, PriorConfig
from tasks.explainer import Explainer, Targets, explain_images
from tasks.networks import classifier_for, denoiser_for
from tasks.stages.prior import prior_folder

ROUNDING = 2e-5  # a pixel of cfx at batch 1 may lie as far from the loop's
GROWN = {"DVCE": 2e-4}  # which clips nothing and scales gradients to a norm: 9e-7 after 4 steps, 6e-5 after 16
PRIOR = prior_folder(Path(), PriorConfig(path="portraits:prior"), "")


class Diffusion:
    """The bundled prior as guided-diffusion has one: a UNet that predicts the clean image, linear betas, K of 1,000 steps."""

    def __init__(self, unet: torch.nn.Module, steps: int) -> None:
        self.unet = unet
        self.original = [round(j * 999 / (steps - 1)) for j in range(steps)]
        level = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000, dtype=np.float64))[self.original]
        before = np.append(1.0, level[:-1])
        beta = 1 - level / before
        variance = beta * (1 - before) / (1 - level)
        variance[0] = variance[1]  # the log of the first would be minus infinity
        self.level, self.variance = level, variance
        self.of_x0, self.of_z = beta * np.sqrt(before) / (1 - level), (1 - before) * np.sqrt(1 - beta) / (1 - level)

    def noised(self, x: Tensor, i: int, n: Tensor) -> Tensor:
        return math.sqrt(self.level[i]) * x + math.sqrt(1 - self.level[i]) * n

    def x0(self, z: Tensor, i: int) -> Tensor:
        """The UNet sees 4 x 4 pixels folded into one position."""
        return pixel_shuffle(self.unet(pixel_unshuffle(z, 4), torch.tensor([self.original[i]])).sample, 4)

    def mean(self, x0: Tensor, z: Tensor, i: int) -> Tensor:
        return float(self.of_x0[i]) * x0 + float(self.of_z[i]) * z

    def p_mean_variance(self, z: Tensor, i: int) -> tuple[Tensor, float, Tensor]:
        x0 = self.x0(z, i).clamp(-1, 1)
        return self.mean(x0, z, i), float(self.variance[i]), x0

    def sample(self, z: Tensor, i: int, noise: Callable[[], Tensor]) -> Tensor:
        """The unguided chain from z at i to the end."""
        for j in reversed(range(i + 1)):
            mean, variance, _ = self.p_mean_variance(z, j)
            z = mean + math.sqrt(variance) * noise() if j else mean
        return z


class Image(NamedTuple):
    """One image, (1, 3, 64, 64), the class that is wanted, and where its noise comes from."""

    x: Tensor
    target: int
    noise: Callable[[], Tensor]


def towards_target(classifier: Classifier, x: Tensor, target: int) -> Tensor:
    """Gradient of minus the log-odds of the target, one of two classes."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        logits = classifier(x)[0]
        (gradient,) = torch.autograd.grad(logits[1 - target] - logits[target], x)
    return gradient


@torch.no_grad()
def dime(diffusion: Diffusion, classifier: Classifier, image: Image, config: DiME) -> Tensor:
    """Noised to tau, denoised from tau - 1; the classifier sees a whole denoising of the state before."""
    x, target, noise = image
    z, seen = diffusion.noised(x, config.tau, noise()), x
    for i in reversed(range(config.tau)):
        mean, variance, _ = diffusion.p_mean_variance(z, i)
        gradient = config.scale * towards_target(classifier, seen, target) / math.sqrt(diffusion.level[i])
        z = mean - variance * (gradient + config.l1 * (z - x).sign())
        if i:
            z = z + math.sqrt(variance) * noise()
            seen = diffusion.sample(z, i - 1, noise)
    return z.clamp(-1, 1)


@torch.no_grad()
def fastdime(diffusion: Diffusion, classifier: Classifier, image: Image, config: FastDiME) -> Tensor:
    """The classifier sees the clean estimate of the step before; a mask from half of the steps on."""
    x, target, noise = image
    z, seen, mask = diffusion.noised(x, config.tau, noise()), x, torch.ones_like(x[:, :1])
    for done, i in enumerate(reversed(range(config.tau))):
        mean, variance, x0 = diffusion.p_mean_variance(z, i)
        z = mean - variance * (config.scale * towards_target(classifier, seen, target) + config.l1 * (z - x).sign())
        if i:
            z = z + math.sqrt(variance) * noise()
        seen = x0
        if done >= config.warm_up * config.tau:
            mask = changed(x, seen, config.threshold, config.dilation)
            seen = mask * seen + (1 - mask) * x
            z = mask * z + (1 - mask) * (diffusion.noised(x, i, noise()) if i else x)
    return (mask * z + (1 - mask) * x).clamp(-1, 1)


def changed(x: Tensor, other: Tensor, threshold: float, side: int) -> Tensor:
    difference = (other - x).abs().sum(1, keepdim=True)
    return (max_pool2d(difference / difference.max(), side, 1, side // 2) >= threshold).float()


@torch.no_grad()
def maskdime(diffusion: Diffusion, classifier: Classifier, image: Image, config: MaskDiME) -> Tensor:
    """What may change, and what the classifier sees changed, are the pixels with the largest gradients."""
    x, target, noise = image
    z, shown = diffusion.noised(x, config.tau, noise()), torch.zeros_like(x[:, :1])
    for i in reversed(range(config.tau)):
        mean, variance, x0 = diffusion.p_mean_variance(z, i)
        gradient = towards_target(classifier, shown * x0 + (1 - shown) * x, target) / math.sqrt(diffusion.level[i])
        strength = gradient.abs().mean(1, keepdim=True)
        most = int(config.share * strength.numel())
        mask, shown = (largest(strength, n, config.dilation) for n in (most, int(config.seen_share * most)))
        z = mean - config.strength * variance * (config.scale * gradient + config.l1 * (z - x).sign())
        z = mask * z + (1 - mask) * diffusion.noised(x, i, noise())
    return z.clamp(-1, 1)


def largest(strength: Tensor, n: int, side: int) -> Tensor:
    last = strength.flatten().topk(n).values[-1]
    return max_pool2d(((strength >= last) & (strength > 0)).float(), side, 1, side // 2)


def ace(diffusion: Diffusion, classifier: Classifier, image: Image, config: ACE) -> Tensor:
    """Sign steps on [0, 1] against the classifier behind the diffusion, whose every UNet pass is differentiated through; then
    what changed is denoised once more, inside a mask."""
    x, target, noise = image
    start = (x + 1) / 2
    u = start
    for _ in range(config.iterations):
        u = u.detach().requires_grad_()
        z = diffusion.noised(2 * u - 1, config.tau - 1, noise())
        for i in reversed(range(config.tau)):
            mean, variance, _ = diffusion.p_mean_variance(z, i)
            z = mean + math.sqrt(variance) * noise() if i else mean
        loss = -log_softmax(classifier(z), dim=1)[0, target] + config.distance_weight * (u - start).abs().sum()
        (gradient,) = torch.autograd.grad(loss, u)
        u = (u - config.step_size * gradient.sign()).clamp(0, 1)
    with torch.no_grad():
        before = torch.where(u == start, x, 2 * u.detach() - 1)
        mask = changed(x, before, config.threshold, config.dilation)
        z = diffusion.noised(before, config.tau - 1, noise())
        for i in reversed(range(config.tau)):
            z = mask * z + (1 - mask) * diffusion.noised(x, i, noise())
            mean, variance, _ = diffusion.p_mean_variance(z, i)
            z = mean + math.sqrt(variance) * noise() if i else mean
        return (mask * z + (1 - mask) * x).clamp(-1, 1)


def dvce(diffusion: Diffusion, classifier: Classifier, image: Image, config: DVCE) -> Tensor:
    """Class score and distance of the clean estimate, each differentiated through the UNet and given the noise's norm. Nothing is
    clipped. A classifier that is robust itself, one view at its own size."""
    x, target, noise = image
    z = diffusion.noised(x, config.tau - 1, noise())
    for i in reversed(range(config.tau)):
        with torch.no_grad():
            x0 = diffusion.x0(z, i)
            mean, variance = diffusion.mean(x0, z, i), float(diffusion.variance[i])
            eps = (z - math.sqrt(diffusion.level[i]) * x0) / math.sqrt(1 - diffusion.level[i])
        if i:
            seen = z.detach().requires_grad_()
            estimate = diffusion.x0(seen, i)
            score = log_softmax(classifier(estimate), dim=1)[0, target]
            (by_class,) = torch.autograd.grad(score, seen, retain_graph=True)
            (by_distance,) = torch.autograd.grad((estimate - x).abs().mean(), seen)
            of_length = [gradient / gradient.norm().clamp(min=1e-22) * eps.norm() for gradient in (by_class, by_distance)]
            update = config.scale * of_length[0] - config.distance * of_length[1]
            z = mean + variance * update + math.sqrt(variance) * noise()
    return x0.clamp(-1, 1)


class Compared(NamedTuple):
    """A loop, cfx's settings for what the released code does, and the UNet passes of the loop, there and back, an image."""

    loop: Callable[..., Tensor]
    config: Method
    passes: tuple[int, int]


def compared(quick: bool) -> dict[str, Compared]:
    """By name. Depths and steps are smaller than the papers', so that it ends; without the perceptual term, whose weights are
    not bundled."""
    deep, steps, many = (6, 2, 4) if quick else (12, 6, 16)
    dimes: dict[str, Any] = {"steps": 50, "tau": deep, "scale": 20.0}
    masked: dict[str, Any] = {"steps": 200, "tau": 8 if quick else 40, "as_released": True}
    return {
        "DiME": Compared(dime, DiME(**dimes, exact_start=False), (deep * (deep + 1) // 2, 0)),
        "FastDiME": Compared(fastdime, FastDiME(**masked, scale=20.0), (masked["tau"], 0)),
        "MaskDiME": Compared(maskdime, MaskDiME(**masked), (masked["tau"], 0)),
        "ACE": Compared(
            ace,
            ACE(steps=25, iterations=steps, refinements=1, fallback=False, as_released=True, batch=1),
            (5 * steps + 5, 5 * steps),
        ),
        "DVCE": Compared(dvce, DVCE(steps=50, tau=many, side=64), (2 * many - 1, 2 * (many - 1))),
    }


def portraits(n: int, classifier: Classifier) -> Targets:
    x = torch.from_numpy(np.stack([render(portrait) for _, portrait in draw(n, seed=8)])).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.no_grad():
        return Targets([str(i) for i in range(n)], x, 1 - classifier(x).argmax(1))


def image_of(targets: Targets, i: int) -> Image:
    """One of them, with the noise that cfx gives it: seed 0, first rung."""
    generator = torch.Generator().manual_seed(derived_seed(targets.image_ids[i], 0, 0))
    x = targets.x[i : i + 1]
    return Image(x, int(targets.target[i]), lambda: torch.randn(x.shape[1:], generator=generator)[None])


def of_cfx(prior: DDPM, classifier: Classifier, config: Method, targets: Targets, size: int = fixed_batches.IMAGES) -> Tensor:
    """What the explanation stage finds, in batches of a fixed size."""
    fixed_batches.IMAGES, fixed_batches.PIXELS = size, size * targets.x.shape[2] * targets.x.shape[3]
    return explain_images(Explainer(prior, classifier, (config,), 64), targets, 0, {})[0].x_cf


def timed(function: Callable[[], Tensor]) -> tuple[Tensor, float]:
    started = time.process_time()
    found = function()
    return found, time.process_time() - started


class Networks(NamedTuple):
    """The loop's UNet, and cfx's prior in torch and compiled: the same weights."""

    unet: UNet2DModel
    exact: DDPM
    compiled: DDPM


def loaded() -> Networks:
    """Each has been shown a batch already: the first pass of a shape is slower."""
    unet, exact = (
        UNet2DModel.from_pretrained(PRIOR / "unet", low_cpu_mem_usage=False).eval().requires_grad_(False),
        denoiser_for(PRIOR, "cpu"),
    )
    compiled = DDPM(Compiled(exact.network), exact.schedule, exact.channels)
    for network in (unet, exact.network, compiled.network):
        for size in (1, fixed_batches.IMAGES):
            with torch.no_grad():
                network(torch.zeros(size, 48, 16, 16), torch.zeros(size, dtype=torch.long))
    return Networks(unet, exact, compiled)


def row(name: str, one: Compared, networks: Networks, classifier: Classifier, targets: Targets) -> dict[str, Any]:
    """What one method costs by the loop and by cfx, and how far apart they end."""
    n, config = len(targets.x), one.config
    diffusion = Diffusion(networks.unet, config.steps)
    plain, seconds = timed(lambda: torch.cat([one.loop(diffusion, classifier, image_of(targets, i), config) for i in range(n)]))
    batched, in_torch = timed(lambda: of_cfx(networks.exact, classifier, config, targets))
    faster, in_ort = timed(lambda: of_cfx(networks.compiled, classifier, config, targets))
    few = Targets(targets.image_ids[:2], targets.x[:2], targets.target[:2])
    alone = of_cfx(networks.exact, classifier, config, few, size=1)
    found = (plain, batched, faster)
    return {
        "method": name,
        "settings": config.model_dump(exclude_defaults=True),
        "images": n,
        "passes": one.passes[0],
        "passes_back": one.passes[1],
        "loop_seconds": round(seconds / n, 3),
        "seconds": round(in_torch / n, 3),
        "compiled_seconds": round(in_ort / n, 3),
        "times_as_fast": round(seconds / in_torch, 2),
        "compiled_times_as_fast": round(seconds / in_ort, 2),
        "apart_alone": apart(alone, plain[:2]),
        "apart": apart(batched, plain),
        "compiled_apart": apart(faster, plain),
        "share_a_grey_level_apart": [round(float(((x - plain).abs() > 2 / 255).float().mean()), 6) for x in found[1:]],
        "flips": [int((classifier(x).argmax(1) == targets.target).sum()) for x in found],
    }


def apart(x: Tensor, other: Tensor) -> float:
    return float((x - other).abs().max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = list(compared(quick=True))
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="these methods")
    parser.add_argument("--images", type=int, default=8, help="portraits; a batch of cfx's is eight")
    parser.add_argument("--quick", action="store_true", help="fewer steps of each: half a minute")
    parser.add_argument("--json", action="store_true", help="the rows as JSON, as the last line")
    parser.add_argument("--out", type=Path, help="write them, command, commit and hardware to this JSON file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # of the exporter
    networks, classifier = loaded(), classifier_for(ClassifierConfig(weights="portraits:planted"), "cpu")
    targets, found = portraits(options.images, classifier), []
    for name in options.only:
        found.append(row(name, compared(options.quick)[name], networks, classifier, targets))
        shown = (f"{k} {v:g}" if isinstance(v, float) else f"{k} {v}" for k, v in found[-1].items())
        print("   ".join(shown), file=sys.stderr)  # noqa: T201
    if options.out:
        facts = {"command": " ".join(["python", *sys.argv]), "commit": commit(), "hardware": f"{hardware()}, 1 thread"}
        options.out.write_text(json.dumps(facts | {"rows": found}, indent=1) + "\n")
    if options.json:
        print(json.dumps(found))  # noqa: T201
    if far := [
        f"{one['method']} {one['apart_alone']:g}" for one in found if one["apart_alone"] > GROWN.get(one["method"], ROUNDING)
    ]:
        sys.exit(f"not the same method: cfx at batch 1 lies further than rounding from the loop: {', '.join(far)}")


if __name__ == "__main__":
    main()
