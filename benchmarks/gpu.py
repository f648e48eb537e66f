"""Time and memory of every method at 128 and 256 pixels, with the published UNets' sizes and random weights, on a GPU.

    python benchmarks/gpu.py [--batch 8] [--json] [--out FILE]
    python benchmarks/gpu.py --tiny      that it runs: small networks, few steps, also without a GPU

Images mean nothing here, so no rate is given: a row is the first rung of a method's ladder on one batch, in bf16 where
autocast takes it. Memory is the allocator's peak, with the weights; without a GPU it is counted, without them.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.pop(0)  # benchmarks/, whose statistics.py would hide Python's own
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from benchmarks.live_bytes import LiveBytes
from benchmarks.portrait_presets import presets
from cfx.classifiers import ClassifierConfig, TorchClassifier, load_classifier
from cfx.diffusion.ddpm import DDPM, Schedule
from cfx.diffusion.guided import PUBLISHED, GuidedDiffusion, unet_of
from cfx.random import ImageNoise
from tasks.config import Method
from tasks.stages.explain import Counted, bind

TINY = GuidedDiffusion(image_size=32, num_channels=32, channel_mult=(1, 2), attention_resolutions=(16,), num_head_channels=32)
SHORTER = {"tau": 2, "iterations": 2, "radii": (1.0,), "augmentations": 1}


def prior_of(arguments: GuidedDiffusion, device: str) -> DDPM:
    """A denoiser of the published size; the weights are noise."""
    unet = unet_of(arguments).eval().requires_grad_(False).to(device, memory_format=torch.channels_last)
    return DDPM(unet, Schedule(num_train_timesteps=arguments.diffusion_steps), channels=3)


def classifier_of(device: str) -> TorchClassifier:
    """A ResNet50 of two classes; the weights are noise."""
    module = "torchvision.models:resnet50"
    return load_classifier(ClassifierConfig(module=module, kwargs={"num_classes": 2}, classes=("no", "yes")), device)


def rows(batch: int, tiny: bool, device: str) -> Iterator[dict[str, Any]]:
    """One row a size and method."""
    classifier = classifier_of(device)
    for arguments in (TINY,) if tiny else (PUBLISHED["celeba"], PUBLISHED["celebahq"]):
        prior, side = prior_of(arguments, device), arguments.image_size
        x = torch.rand(batch, 3, side, side, device=device) * 2 - 1
        for preset in presets():
            first = preset.ladder[0]
            if first.method == "dvce" and first.robust:
                continue  # its robust network is a Portraits one
            if tiny:
                first = first.model_copy(update={key: SHORTER[key] for key in SHORTER if key in type(first).model_fields})
            yield {
                "size": side,
                "method": preset.method,
                "preset": preset.preset,
                **measured(first, prior, classifier, x, device),
            }


def measured(method: Method, prior: DDPM, classifier: TorchClassifier, x: torch.Tensor, device: str) -> dict[str, Any]:
    """Seconds, UNet evaluations and peak memory for one batch; what is compiled or chosen on first use is warmed up by a step."""
    counted = Counted(prior.respaced(method.steps))
    run = bind(method, counted, classifier, device)
    target = torch.zeros(len(x), dtype=torch.long, device=device)
    noise = ImageNoise.of([str(i) for i in range(len(x))], 0)
    on_gpu = device == "cuda"
    with torch.no_grad():
        prior.step(x, 0)
    if on_gpu:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    started, live = time.perf_counter(), LiveBytes()
    with torch.autocast(device, torch.bfloat16, enabled=on_gpu):
        if on_gpu:
            run(x=x, target=target, noise=noise)
            torch.cuda.synchronize()
        else:
            with live:
                run(x=x, target=target, noise=noise)
    seconds = time.perf_counter() - started
    peak = torch.cuda.max_memory_allocated() if on_gpu else live.peak
    return {
        "batch": len(x),
        "seconds_per_image": seconds / len(x),
        "nfe_forward": counted.forward // len(x),
        "nfe_backward": counted.backward // len(x),
        "peak_mib": peak / 2**20,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=8, help="images at a time")
    parser.add_argument("--tiny", action="store_true", help="small networks and few steps: only that it runs")
    parser.add_argument("--json", action="store_true", help="the rows as JSON, as the last line")
    parser.add_argument("--out", type=Path, help="write rows, command and hardware to this JSON file")
    options = parser.parse_args()
    on_gpu = torch.cuda.is_available()
    if not on_gpu and not options.tiny:
        parser.error("torch sees no GPU; --tiny shows that the benchmark runs")
    found = []
    for row in rows(options.batch, options.tiny, "cuda" if on_gpu else "cpu"):
        found.append(row)
        print("  ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()), file=sys.stderr)  # noqa: T201
    hardware = torch.cuda.get_device_name() if on_gpu else f"{platform.machine()}, {torch.get_num_threads()} threads"
    result = {"command": " ".join(["python", *sys.argv]), "hardware": hardware, "torch": torch.__version__, "rows": found}
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")
    if options.json:
        print(json.dumps(found))  # noqa: T201


if __name__ == "__main__":
    main()
