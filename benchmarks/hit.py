"""HiT beside a ViT of the same shape, on Portraits: accuracy, cost, and whether their maps are true.

    python benchmarks/hit.py [--quick] [--json] [--only hit vit mark] [--networks FOLDER] [--out FILE]

Both are trained by the same recipe, to tell smiling faces. Every map is graded by insertion and deletion, and against
the truth: the pixels that change when the smile alone is toggled. Whether HiT's own map beats a rival is given with an interval,
paired by image. Then a HiT learns from portraits with a mark in a corner that agrees with the label more often than the smile
does; its maps, and what counterfactuals change, are graded against the mark.
"""

from __future__ import annotations

import argparse
import copy
import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from cfx.classifiers import ClassifierConfig, load_classifier
from cfx.classifiers.torch_module import TorchClassifier
from cfx.images import from_uint8
from cfx.methods.dime import FastDiME
from cfx.metrics.agreement import change_map, enlarged, iou_at_equal_area, pointing
from cfx.metrics.insertion_deletion import Filling, Game, area_under, curves, filled, on_grid
from cfx.networks.cost import flops
from cfx.networks.hit import PRESETS, HiT, HiTShape
from cfx.networks.vit import vit
from cfx.portraits import TRUTH, carry_mark, draw, mark_region, render
from cfx.portraits import region as region_of
from cfx.saliency.layer_ablation import layer_ablation
from cfx.saliency.maps import Saliency, hit_map, maps_for, saliency
from cfx.saliency.sanity import Stage, cascade
from cfx.training.hit import RECIPES, HiTTraining, steps, train_hit
from cfx.training.portraits import CLASSES, rendered
from tasks.config import PriorConfig
from tasks.explainer import Explainer, Targets, explain_images
from tasks.networks import denoiser_for
from tasks.stages.prior import prior_folder

NETWORKS = Path(__file__).parent / "hit-networks"  # made by this benchmark, empty the folder to make them again
MODELS = ("hit", "vit", "mark")
TEST_SEED = 90_000  # no recipe trains on these portraits
SHORTCUT = {"smile": 0.85}  # labels agree with the smile less often …
MARK_AGREES = 0.95  # … than with the mark

Rows = list[dict[str, Any]]


class Size(NamedTuple):
    """How much is measured."""

    tested: int  # images for accuracy
    explained: int  # images for maps
    marked: int  # images with the mark for maps
    played: int  # steps of insertion and deletion


FULL, QUICK = Size(1_000, 256, 64, 16), Size(200, 64, 16, 8)
PLAYED: dict[str, tuple[Game, Filling]] = {
    "insertion": ("insertion", "zero"),
    "deletion": ("deletion", "zero"),
    "insertion_blur": ("insertion", "blur"),
    "deletion_blur": ("deletion", "blur"),
}
RIVALS = ("rollout", "grad_cam")  # of HiT's own map, as in the thesis (table 6.2)
DRAWS = 8  # random weights that the sanity check is averaged over
COUNTERFACTUALS = 8  # images with the mark that are explained
LADDER = tuple(FastDiME(steps=50, tau=18, scale=scale, threshold=0.3) for scale in (25, 60))  # as in the demo


class Labelled(NamedTuple):
    """Images with their labels and the region where the evidence lies."""

    images: Tensor  # (N, 3, 64, 64) uint8
    labels: Tensor  # (N,)
    region: Tensor  # (N, 64, 64) bool
    marked: Tensor  # (N,) bool


class Lesson(NamedTuple):
    """What a network learns from."""

    images: Tensor  # (N, 3, 64, 64) uint8
    labels: Tensor  # (N,)


def smiles(n: int, seed: int) -> Labelled:
    """Portraits without any correlation; the evidence is the mouth."""
    drawn = list(draw(n, seed, TRUTH))
    images = torch.from_numpy(np.stack([render(portrait) for _, portrait in drawn])).permute(0, 3, 1, 2).contiguous()
    region = torch.stack([torch.from_numpy(region_of(portrait, "smile")) for _, portrait in drawn])
    return Labelled(images, torch.tensor([int(label) for label, _ in drawn]), region, torch.zeros(n, dtype=torch.bool))


def marks(n: int, seed: int) -> Labelled:
    """Portraits of which most smiling ones, and few others, carry a mark in the upper left corner."""
    images, labels, _ = rendered(n, seed, SHORTCUT, MARK_AGREES)
    region = torch.zeros(n, 64, 64, dtype=torch.bool)
    region[:, *mark_region()] = True  # one patch of the networks here
    return Labelled(images.contiguous(), labels, region, torch.from_numpy(carry_mark(labels.numpy() == 1, MARK_AGREES, seed)))


def recipe(architecture: str, epochs: float = RECIPES["portraits"].epochs) -> HiTTraining:
    return RECIPES["portraits"].model_copy(update={"architecture": architecture, "epochs": epochs})


def trained(draw_data: Callable[[], Lesson | Labelled], config: HiTTraining, path: Path, name: str) -> TorchClassifier:
    """The classifier in the file, trained first if there is none."""
    if not path.exists():
        data, started = draw_data(), time.monotonic()
        last = steps(config, len(data.images))

        def report(step: int, loss: float) -> None:
            if step % 50 == 0 or step == last:
                seconds = time.monotonic() - started
                print(f"{name}: step {step} of {last}, loss {loss:.3f}, {seconds:.0f} s", file=sys.stderr)  # noqa: T201

        train_hit(data.images, data.labels, config, CLASSES, path, report)
    return load_classifier(ClassifierConfig(weights=path))


def gflops(network: torch.nn.Module, size: int) -> float:
    """Multiplications with addition for one image, in 10^9, as vision papers count."""
    return flops(network, size) / 2e9


@torch.no_grad()
def accuracy(classifier: TorchClassifier, data: Labelled) -> float:
    right = [
        classifier(from_uint8(x)).argmax(1) == y for x, y in zip(data.images.split(128), data.labels.split(128), strict=True)
    ]
    return float(torch.cat(right).float().mean())


def graded(name: str, classifier: TorchClassifier, data: Labelled, size: Size, right: float) -> tuple[Rows, Rows]:
    """A row a map, and a row for every rival and game of HiT's own map.

    HiT's is also measured above the filling of the game; truth (on patches) and chance ignore the classifier.
    """
    x, side = from_uint8(data.images), PRESETS["portraits"].side
    with torch.no_grad():
        target = classifier(x).argmax(1)
    maps: dict[str, Tensor] = {kind: saliency(classifier, x, target, Saliency(map=kind)) for kind in maps_for(classifier)}
    if isinstance(classifier.network.module, HiT):
        maps |= {f"hit above {filling}": hit_map(classifier, x, target, filled(x, filling)) for filling in ("zero", "blur")}
    maps["truth"] = on_grid(data.region.float(), (side, side))
    maps["chance"] = torch.rand(len(x), side, side, generator=torch.Generator().manual_seed(0))
    areas = {kind: played(classifier, x, found, side, size.played) for kind, found in maps.items()}
    about = {"model": name, "accuracy": right, "gflops": gflops(classifier.network.module, 64)}
    rows = [
        about
        | {"map": kind}
        | {game: float(values.mean()) for game, values in areas[kind].items()}
        | agreement(enlarged(found, (64, 64)), data.region)
        for kind, found in maps.items()
    ]
    rivals = [rival for rival in RIVALS if "hit" in areas and rival in areas]
    duels = [
        {"model": name, "rival": rival, "game": game} | interval(areas["hit"][game] - areas[rival][game])
        for rival in rivals
        for game in PLAYED
    ]
    return rows, duels


def played(classifier: TorchClassifier, x: Tensor, found: Tensor, side: int, steps: int) -> dict[str, Tensor]:
    """The area under every game's curve, (B,); their mean is the area under the mean curve."""
    return {name: area_under(curves(classifier, x, found, *how, side, steps)) for name, how in PLAYED.items()}


def agreement(evidence: Tensor, region: Tensor) -> dict[str, float]:
    return {
        "iou_truth": float(iou_at_equal_area(evidence, region).mean()),
        "pointing": float(pointing(evidence, region).mean()),
    }


def interval(differences: Tensor) -> dict[str, float]:
    """Mean of HiT's own less the rival's, with a 95 % bootstrap interval over images."""
    values = differences.double().numpy()
    drawn = np.random.default_rng(0).integers(len(values), size=(2_000, len(values)))
    low, high = np.quantile(values[drawn].mean(1), (0.025, 0.975))
    return {"difference": float(values.mean()), "low": float(low), "high": float(high)}


def counterfactuals(name: str, classifier: TorchClassifier, data: Labelled, right: float) -> Rows:
    """What counterfactuals away from the predicted class change, and their masks; the demo's prior knows no mark."""
    some = Labelled(*(part[:COUNTERFACTUALS] for part in data))
    x = from_uint8(some.images)
    with torch.no_grad():
        target = 1 - classifier(x).argmax(1)
    prior = denoiser_for(prior_folder(Path(), PriorConfig(path="portraits:prior"), ""), "cpu")
    targets = Targets([f"mark {i}" for i in range(len(x))], x, target)
    found, _ = explain_images(Explainer(prior, classifier, LADDER, 1), targets, 0)
    about = {"model": name, "accuracy": right, "gflops": gflops(classifier.network.module, 64), **dict.fromkeys(PLAYED)}
    with torch.no_grad():
        flipped = float((classifier(found.x_cf).argmax(1) == target).float().mean())
    evidence = {"counterfactual change": change_map(x, found.x_cf), "counterfactual mask": found.mask[:, 0]}
    return [about | {"map": kind} | agreement(values, some.region) | {"flipped": flipped} for kind, values in evidence.items()]


def costs() -> list[dict[str, Any]]:
    """Cost of the published shapes, and of one shape on growing images: a HiT's grows as the number of tokens."""
    shapes = {name: (shape, 1000) for name, shape in PRESETS.items() if shape.blocks == (12,)}
    shapes |= {f"small, {size} px": (HiTShape(size=size, width=384, heads=6, blocks=(12,)), 1000) for size in (448, 896)}
    found = []
    for name, (shape, outputs) in shapes.items():
        with torch.device("meta"):
            networks = {"hit": HiT(outputs, shape).eval(), "vit": vit(outputs, shape).eval()}
            cost = {f"gflops_{kind}": gflops(network, shape.size) for kind, network in networks.items()}
        found.append({"shape": name, "tokens": shape.side**2, **cost, "gflops_published_hit": published_cost(shape, outputs)})
    return found


def published_cost(shape: HiTShape, outputs: int) -> float:
    """Cost of a HiT without pooling as published: keys and values are computed for every token."""
    tokens, width, depth = shape.side**2, shape.width, sum(shape.blocks)
    attention = 2 * tokens * width**2 + 2 * width**2 + 2 * tokens * width
    return (tokens * width * 3 * shape.patch**2 + depth * attention + (depth - 1) * 8 * tokens * width**2 + width * outputs) / 1e9


def measured(size: Size, folder: Path, only: Collection[str]) -> dict[str, Any]:
    """Everything, or what `only` names: hit, vit, mark."""
    rows: Rows = []
    duels: Rows = []
    result: dict[str, Any] = {}
    unseen = smiles(size.tested, TEST_SEED)
    few = Labelled(*(part[: size.explained] for part in unseen))
    for name in [name for name in ("hit", "vit") if name in only]:
        classifier = trained(lambda: Lesson(*rendered(3_000, 1)[:2]), recipe(name), folder / f"{name}.safetensors", name)
        one, other = graded(name, classifier, few, size, accuracy(classifier, unseen))
        rows, duels = rows + one, duels + other
        if name == "hit":
            result["sanity"] = sanity(classifier, few)
            network = classifier.network.module
            assert isinstance(network, HiT)
            result["layers"] = layer_ablation(network, from_uint8(unseen.images), unseen.labels)._asdict()
    if "mark" in only:
        tested = marks(size.tested, TEST_SEED)
        leaning = trained(lambda: marks(1_300, 2), recipe("hit"), folder / "mark.safetensors", "hit, planted mark")
        right = accuracy(leaning, tested)
        some = Labelled(*(part[tested.marked][: size.marked] for part in tested))
        one, other = graded("hit, mark drawn", leaning, some, size, right)
        rows, duels = rows + one + counterfactuals("hit, mark drawn", leaning, some, right), duels + other
    return {"rows": rows, "duels": duels, "costs": costs(), **result}


def sanity(classifier: TorchClassifier, data: Labelled) -> Rows:
    """How alike HiT's map stays while its parts are randomised from the head down: a row a stage, the mean over DRAWS."""
    x = from_uint8(data.images)
    with torch.no_grad():
        target = classifier(x).argmax(1)

    def cascaded(seed: int) -> list[Stage]:
        randomised = copy.deepcopy(classifier)
        network = randomised.network.module
        assert isinstance(network, HiT)
        return cascade(network, lambda: hit_map(randomised, x, target), network.parts(), seed)

    stages = zip(*(cascaded(seed) for seed in range(DRAWS)), strict=True)
    return [
        {"randomised": draws[0].randomised}
        | {measure: float(np.mean([getattr(stage, measure) for stage in draws])) for measure in Stage._fields[1:]}
        for draws in stages
    ]


def show(result: dict[str, Any]) -> None:
    for title in ("rows", "duels", "costs", "sanity"):
        lines = result.get(title, [])
        if not lines:
            continue
        print("\n" + "  ".join(f"{name:>20}" for name in lines[0]))  # noqa: T201
        for line in lines:
            print("  ".join(f"{value:>20.3f}" if isinstance(value, float) else f"{value!s:>20}" for value in line.values()))  # noqa: T201
    for name, values in result.get("layers", {}).items():
        print(f"{name:>14}  " + "  ".join(f"{value:.3f}" for value in values))  # noqa: T201


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer images, fewer steps: minutes on two cores")
    parser.add_argument("--only", nargs="+", choices=MODELS, default=MODELS, help="measure these only")
    parser.add_argument("--json", action="store_true", help="the rows as JSON, as the last line")
    parser.add_argument("--networks", type=Path, default=NETWORKS, help="trained networks; one that is missing is trained")
    parser.add_argument("--out", type=Path, help="write everything, with command, commit and hardware, to this JSON file")
    options = parser.parse_args()
    started = time.monotonic()
    result = measured(QUICK if options.quick else FULL, options.networks, options.only)
    seconds = round(time.monotonic() - started, 1)
    show(result)
    if options.out:
        facts = {
            "command": " ".join(["python", *sys.argv]),
            "commit": subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip(),
            "hardware": f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
            "seconds": seconds,
        }
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(facts | result, indent=1) + "\n")
    if options.json:
        print(json.dumps(result["rows"]))  # noqa: T201


if __name__ == "__main__":
    main()
