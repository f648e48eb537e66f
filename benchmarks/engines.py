"""The bundled prior's UNet on one thread of a CPU, by engine and batch:

    python benchmarks/engines.py [--quick] [--compile] [--portraits N] [--audit N] [--json] [--out FILE]

Least CPU time of a pass, of many in turn, and the share of the processor's convolution peak, which is that of the UNet's own
convolutions at its best batch. Then portraits are explained, guided and null, by torch and by ONNX Runtime: CPU time, what
flips, how far pixels lie apart. OpenVINO is measured where it is installed; --compile adds torch.compile at
one batch, which takes minutes. --audit runs the demo's whole audit of N portraits by either, a shard at a time: CPU time, flips,
verdicts, what the gate says, and how far the images that people see lie apart.
"""

from __future__ import annotations

import argparse
import copy
import importlib
import importlib.util
import io
import json
import platform
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

sys.path.pop(0)  # benchmarks/, whose statistics.py would hide Python's own
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from cfx.diffusion.compiled import Compiled, Plain
from cfx.diffusion.ddpm import DDPM
from cfx.diffusion.first_step import FirstAnswers
from cfx.images import decode_png
from cfx.portraits import draw, render
from flows.demo import demo_config, lay_out
from flows.in_process import audit_in_process
from tasks.check import check
from tasks.config import PriorConfig
from tasks.explainer import Explainer, Targets, explain_images, null_images
from tasks.fixed_batches import IMAGES
from tasks.networks import classifier_for, denoiser_for
from tasks.reading.gate import gate
from tasks.stages.prior import prior_folder
from warehouse.lens.connect import query

BATCHES = (1, 2, 4, 8, 16)
Pass = Callable[[Tensor, Tensor], Tensor]  # z (B, 48, 16, 16) and timesteps (B,) to the UNet's answer


class Packed(nn.Module):
    """A convolution whose weights were brought into oneDNN's own order beforehand, a batch size each."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv, self.weights = conv, dict[tuple[int, ...], Tensor]()

    def forward(self, x: Tensor) -> Tensor:
        conv, shape = self.conv, tuple(x.shape)
        if shape not in self.weights:
            order = torch.ops.mkldnn._reorder_convolution_weight
            self.weights[shape] = order(conv.weight, conv.padding, conv.stride, conv.dilation, 1, list(shape))
        settings: tuple[Any, ...] = conv.padding, conv.stride, conv.dilation, 1, "none", [], ""
        return torch.ops.mkldnn._convolution_pointwise(x, self.weights[shape], conv.bias, *settings)


def packed(network: nn.Module) -> nn.Module:
    """A copy with every convolution packed."""
    network = copy.deepcopy(network)
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Conv2d):
                setattr(module, name, Packed(child))
    return network


def openvino(network: nn.Module, precision: str) -> Pass:
    """Compiled by OpenVINO, once a batch size, from an ONNX file in memory."""
    Core = importlib.import_module("openvino").Core

    requests: dict[int, Any] = {}
    settings = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": precision}

    def once(z: Tensor, timesteps: Tensor) -> Tensor:
        if len(z) not in requests:
            file: Any = io.BytesIO()
            torch.onnx.export(Plain(network).eval(), (z, timesteps), file, dynamo=False, opset_version=17)
            core = Core()
            requests[len(z)] = core.compile_model(
                core.read_model(io.BytesIO(file.getvalue())), "CPU", settings
            ).create_infer_request()
        return torch.from_numpy(requests[len(z)].infer([z.numpy(), timesteps.numpy()])[0])

    return once


def engines(network: nn.Module, compile_too: bool) -> dict[str, Pass]:
    """Everything that evaluates the UNet here."""
    contiguous, in_order = copy.deepcopy(network).to(memory_format=torch.contiguous_format), packed(network)

    def plain(module: Callable[..., Any]) -> Pass:
        return lambda z, timesteps: module(z, timesteps).sample

    def inference(z: Tensor, timesteps: Tensor) -> Tensor:
        with torch.inference_mode():
            return network(z, timesteps).sample.clone()

    found: dict[str, Pass] = {
        "torch": plain(network),
        "torch, inference_mode": inference,
        "torch, not channels_last": plain(contiguous),
        "torch, packed weights": plain(in_order),
        "torch, bfloat16": plain(_halved(network)),
        "onnxruntime": Compiled(network),
    }
    if compile_too:
        import torch._inductor.config as inductor

        inductor.freezing = True
        found["torch.compile"] = plain(torch.compile(copy.deepcopy(network), dynamic=False))
    if importlib.util.find_spec("openvino") is not None:
        found |= {"openvino": openvino(network, "f32"), "openvino, bfloat16": openvino(network, "bf16")}
    return found


def _halved(network: nn.Module) -> nn.Module:
    class Halved(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = copy.deepcopy(network).to(torch.bfloat16)

        def forward(self, z: Tensor, timesteps: Tensor) -> Any:
            return self.network(z.bfloat16(), timesteps)

    return Halved()


def least(passes: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """The least CPU seconds of each, taking turns, so that other work on the machine hinders all alike."""
    spent = dict.fromkeys(passes, float("inf"))
    for _ in range(rounds):
        for name, once in passes.items():
            started = time.process_time()
            once()
            spent[name] = min(spent[name], time.process_time() - started)
    return spent


def peak(network: nn.Module, rounds: int) -> tuple[float, str]:
    """GFLOP/s of the UNet's fastest convolution at its best batch, and which that is."""
    seen: dict[str, tuple[nn.Conv2d, tuple[int, ...]]] = {}

    def note(conv: nn.Module, given: tuple[Tensor, ...], _: object) -> None:
        assert isinstance(conv, nn.Conv2d)
        shape = tuple(given[0].shape[1:])
        seen[f"{shape[0]} to {conv.out_channels} channels, {conv.kernel_size[0]} x {conv.kernel_size[1]}, {shape[1]} px"] = (
            conv,
            shape,
        )

    hooks = [module.register_forward_hook(note) for module in network.modules() if isinstance(module, nn.Conv2d)]
    network(torch.randn(1, 48, 16, 16), torch.zeros(1, dtype=torch.long))
    for hook in hooks:
        hook.remove()
    work: dict[str, float] = {}
    passes: dict[str, Callable[[], object]] = {}
    for name, (conv, shape) in seen.items():
        for batch in BATCHES:
            x = torch.randn(batch, *shape).to(memory_format=torch.channels_last)
            work[f"{name}, batch {batch}"] = 2 * conv.weight.numel() * conv(x)[:, 0].numel()
            passes[f"{name}, batch {batch}"] = partial(conv, x)
    rates = {name: work[name] / seconds / 1e9 for name, seconds in least(passes, rounds).items()}
    best = max(rates, key=lambda name: rates[name])
    return rates[best], best


def rows(network: nn.Module, most: float, rounds: int, compile_too: bool) -> Iterator[dict[str, Any]]:
    """One row an engine and batch."""
    with FlopCounterMode(display=False) as counted:
        network(torch.zeros(1, 48, 16, 16), torch.zeros(1, dtype=torch.long))
    every = engines(network, compile_too)
    for batch in BATCHES:
        noise = torch.Generator().manual_seed(batch)
        z, timesteps = torch.randn(batch, 48, 16, 16, generator=noise), torch.full((batch,), 100)
        exact = every["torch"](z, timesteps)
        here = {name: once for name, once in every.items() if name != "torch.compile" or batch == IMAGES}
        apart = {name: float((once(z, timesteps).float() - exact).abs().max()) for name, once in here.items()}
        spent = least({name: partial(once, z, timesteps) for name, once in here.items()}, rounds)
        for name, seconds in spent.items():
            rate = counted.get_total_flops() * batch / seconds / 1e9
            yield {
                "engine": name,
                "batch": batch,
                "ms_an_image": round(seconds / batch * 1000, 2),
                "times_as_fast": round(spent["torch"] / seconds, 2),
                "gflops": round(rate),
                "share_of_peak": round(rate / most, 2),
                "from_torch": apart[name],
            }


def explained(n: int) -> list[dict[str, Any]]:
    """Portraits explained by the demo's ladder, guided and null, by torch and by ONNX Runtime."""
    config = demo_config(Path(), "planted", n)
    assert config.judge is not None
    prior = denoiser_for(prior_folder(Path(), PriorConfig(path="portraits:prior"), ""), "cpu")
    classifier, judge = classifier_for(config.classifier, "cpu"), classifier_for(config.judge, "cpu")
    x = torch.from_numpy(np.stack([render(portrait) for _, portrait in draw(n, seed=8)])).permute(0, 3, 1, 2).float() / 127.5 - 1
    targets = Targets([str(i) for i in range(n)], x, 1 - classifier(x).argmax(1))
    found: list[dict[str, Any]] = []
    exact: tuple[Tensor, Tensor] | None = None
    said: tuple[Tensor, ...] = ()
    for name, network in (("torch", prior.network), ("onnxruntime", Compiled(prior.network))):
        explainer = Explainer(DDPM(network, prior.schedule, prior.channels), classifier, config.ladder, 64)
        network(torch.zeros(8, 48, 16, 16), torch.zeros(8, dtype=torch.long))  # the first time is slower
        started = time.process_time()
        known: FirstAnswers = {}
        guided, _ = explain_images(explainer, targets, 0, known)
        null, _, _ = null_images(explainer, targets, guided.attempt, 0, known)
        spent = time.process_time() - started
        answers = tuple(network(guided.x_cf).argmax(1) == targets.target for network in (classifier, judge))
        said, exact = said or (*answers, guided.attempt), exact or (guided.x_cf, null)
        apart = (guided.x_cf - exact[0]).abs().amax((1, 2, 3))
        found.append(
            {
                "engine": name,
                "portraits": n,
                "cpu_seconds": round(spent, 1),
                "times_as_fast": round(found[0]["cpu_seconds"] / spent, 2) if found else 1.0,
                "flipped": int(answers[0].sum()),
                "judge_flipped": int(answers[1].sum()),
                "other_answers": sum(int((a != b).sum()) for a, b in zip((*answers, guided.attempt), said, strict=True)),
                "largest_difference": float(apart.max()),
                "more_than_a_grey_level_apart": int((apart > 2 / 255).sum()),
                "null_largest_difference": float((null - exact[1]).abs().max()),
            }
        )
    return found


def audited(n: int) -> list[dict[str, Any]]:
    """The demo's audit of its planted twin, by torch and by ONNX Runtime; differences are from torch's."""
    with tempfile.TemporaryDirectory() as folder:
        lay_out(Path(folder), n)
        demo = demo_config(Path(folder), "planted", n)
        spent: dict[str, tuple[str, float]] = {}
        for runtime in ("torch", "onnxruntime"):
            started = time.process_time()
            prior = PriorConfig.model_validate({"path": "portraits:prior", "runtime": runtime})
            run = check(demo.model_copy(update={"name": runtime, "workers": 1, "prior": prior}))
            spent[runtime] = audit_in_process(run), round(time.process_time() - started, 1)
        exact = spent["torch"][0]
        return [
            {"engine": runtime, "cpu_seconds": seconds} | _compared(demo.warehouse, run_id, exact)
            for runtime, (run_id, seconds) in spent.items()
        ]


def _compared(root: Path, run_id: str, exact: str) -> dict[str, Any]:
    """What a run found, and how far it is from another of the same images."""
    explanations, before = (
        _rows(root, "image_id, arm, attempt, flipped, judge_flipped, png from facts.explanations", of) for of in (run_id, exact)
    )
    shown, shown_before = (decode_png([row["png"] for row in rows]) for rows in (explanations, before))
    levels = ((shown - shown_before).abs().amax((1, 2, 3)) * 127.5).round()
    verdicts, verdicts_before = (
        _rows(root, "attribute, verdict, effect, intervention from verdicts", of) for of in (run_id, exact)
    )
    numbers = [[row[name] or 0.0 for row in rows for name in ("effect", "intervention")] for rows in (verdicts, verdicts_before)]
    guided = [row for row in explanations if row["arm"] == "guided"]
    answers = [[row[name] for row in rows for name in ("attempt", "flipped", "judge_flipped")] for rows in (explanations, before)]
    return {
        "portraits": len(guided),
        "flipped": sum(row["flipped"] for row in guided),
        "judge_flipped": sum(row["judge_flipped"] for row in guided),
        "other_answers": sum(a != b for a, b in zip(*answers, strict=True)),
        "images": len(levels),
        "images_apart": int((levels > 0).sum()),
        "most_grey_levels_apart": int(levels.max()),
        "verdicts": {row["attribute"]: row["verdict"] for row in verdicts},
        "most_points_apart": max(100 * abs(a - b) for a, b in zip(*numbers, strict=True)),
        "gate": gate(root, run_id).verdict,
    }


def _rows(root: Path, what: str, run_id: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = query(root, f"select {what} where run_id = $run order by all", {"run": run_id}).to_pylist()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few rounds, and few portraits: about a minute")
    parser.add_argument("--compile", action="store_true", help="torch.compile too, at the batch that audits use")
    parser.add_argument("--portraits", type=int, help="how many are explained; default: 256, with --quick 8")
    parser.add_argument("--audit", type=int, metavar="N", help="audit N portraits by torch and by ONNX Runtime, too")
    parser.add_argument("--json", action="store_true", help="peak, engines and explanations as JSON, as the last line")
    parser.add_argument("--out", type=Path, help="write them, command, commit and hardware to this JSON file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # of exporters
    prior, rounds = denoiser_for(prior_folder(Path(), PriorConfig(path="portraits:prior"), ""), "cpu"), 5 if options.quick else 25
    with torch.no_grad():
        most, which = peak(prior.network, rounds)
        print(f"peak {most:.0f} GFLOP/s: {which}", file=sys.stderr)  # noqa: T201
        found = list(rows(prior.network, most, rounds, options.compile))
        for row in (*found, *(by_portraits := explained(options.portraits or (8 if options.quick else 256)))):
            print("   ".join(f"{k} {v:g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()), file=sys.stderr)  # noqa: T201
    result: dict[str, Any] = {"peak_gflops": round(most), "peak_of": which, "rows": found, "explained": by_portraits}
    if options.audit:
        result["audited"] = audited(options.audit)
    if options.out:
        facts = {
            "command": " ".join(["python", *sys.argv]),
            "commit": subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip(),
            "hardware": f"{_processor()}, 1 thread, torch {torch.__version__}",
        }
        options.out.write_text(json.dumps(facts | result, indent=1) + "\n")
    if options.json:
        print(json.dumps(result))  # noqa: T201


def _processor() -> str:
    """Its name, and which of the instructions that matter it has."""
    told = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").is_file() else ""
    name = next(
        (line.partition(":")[2].strip() for line in told.splitlines() if line.startswith("model name")), platform.machine()
    )
    return " ".join([name, *(flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if f" {flag}" in told)])


if __name__ == "__main__":
    main()
