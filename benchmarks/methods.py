"""Every method and preset on the same Portraits: do the images flip, for the judge too, what changed, and what did it cost?

    python benchmarks/methods.py [--quick] [--json] [--only dime/paper default/default ...] [--into FOLDER] [--out FILE]

Runs that were begun in FOLDER go on where they stopped. Each preset audits the classifier with planted glasses and, where the
table says so, its clean twin; metrics are the warehouse's views. Costs are of guided explanations, on one CPU thread, in shards
of eight images, as many as a batch of an audit has: fewer are filled up, and cost as much. Seconds are those that the CPU
worked, so another program's load counts little. Memory is counted on one image. `dime/released` is DiME's paper preset as
released code runs it: a plain loop (plain_loop.py), one image at a time.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.pop(0)  # benchmarks/, whose statistics.py would hide Python's own
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from benchmarks import plain_loop
from benchmarks.live_bytes import LiveBytes
from benchmarks.portrait_presets import MANY, Preset, presets, published, robust_network
from cfx.images import decode_png
from cfx.methods.dime import DiME
from cfx.random import ImageNoise
from flows.demo import demo_config, lay_out
from tasks.check import check, prior_of
from tasks.config import AuditConfig
from tasks.explainer import Targets, bind
from tasks.networks import classifier_for, denoiser_for
from tasks.run import Run
from tasks.shard_images import read_images
from tasks.stages.attributes import attributes
from tasks.stages.editor import leading, learn_editor
from tasks.stages.explain import explain
from tasks.stages.ingest import ingest
from tasks.stages.learn import Learned
from tasks.stages.predict import predict
from tasks.stages.run_record import start_run
from warehouse.facts.shards import Shard, find_shard, read_shard
from warehouse.lens.connect import query

IMAGES = 256
SHARD, EDITORS_SHARD = 8, 32
QUICK_EXAMPLES = 64  # of an editor, with --quick
PLANTED = "glasses"
RELEASED = "dime/released"
RELEASED_IMAGES = 8
VISIBLE = 8 / 255  # a pixel has changed when a channel moved by more
SHORTER = {"tau": 3, "iterations": 1, "radii": (9.4,)}  # memory does not depend on these; ACE's depends on tau


def audit_of(into: Path, preset: Preset, twin: str, seed: int, shard_size: int, images: int = IMAGES) -> AuditConfig:
    """The demo's audit with another ladder; always of the same images, of which the first are explained."""
    settings = demo_config(into, twin, images).model_dump()
    name = f"{preset.method}-{preset.preset}-{twin}-{seed}".replace("+", "p")
    changed = {"name": name, "ladder": preset.ladder, "seeds": (seed,), "shard_size": shard_size, "device": "cpu"}
    prior = {"path": preset.prior, "runtime": preset.runtime}
    return AuditConfig.model_validate(settings | changed | {"prior": prior, "editor": preset.editor})


def explained(config: AuditConfig, n: int) -> tuple[str, list[Shard]]:
    """Audit the first n images, without a report. Returns the run id and its shards of explanations."""
    run, found, learned = check(config), list[Shard](), Learned()
    start_run(run)
    shards = ingest(run)[: -(-n // config.shard_size)]
    first = leading(config.editor, shards)
    for place, images in enumerate(shards):
        if place == first:
            learned = trained(run, shards[:first], found, learned)
        predicted = predict(run, images)
        cost = run.root.parent / "costs" / run.id / f"{images.key}.json"
        new, wall, worked = (
            find_shard(run.root, "explanations", run.id, images.key) is None,
            time.perf_counter(),
            time.process_time(),
        )
        shard = explain(run, images, predicted, learned)
        if new:
            share = min(1.0, (time.process_time() - worked) / (time.perf_counter() - wall))  # more is of threads that make files
            cost.parent.mkdir(parents=True, exist_ok=True)
            cost.write_text(json.dumps({"of_the_cpu": share}))
        attributes(run, images, shard)
        found.append(shard)
    return run.id, found


def trained(run: Run, images: list[Shard], explained: list[Shard], learned: Learned) -> Learned:
    """What was learned, with the run's editor; how long that kept the CPU busy, its comparison with the ladder included, is
    noted."""
    cost, worked = run.root.parent / "costs" / run.id / "editor.json", time.process_time()
    learned = learn_editor(run, images, explained, learned)
    if not cost.is_file():
        cost.parent.mkdir(parents=True, exist_ok=True)
        cost.write_text(json.dumps({"seconds": time.process_time() - worked}))
    return learned


def seconds_by_way(root: Path, run: str, shards: list[Shard]) -> dict[str, float]:
    """The parts of `seconds_of`: training, and guided explanations by the way that they came."""
    found: dict[str, float] = {}
    noted = root.parent / "costs" / run / "editor.json"
    if noted.is_file():
        found["training"] = json.loads(noted.read_text())["seconds"]
    for shard in shards:
        share = of_the_cpu(root, run, shard)
        for row in read_shard(shard, ["arm", "way", "seconds"]).to_pylist():
            if row["arm"] == "guided":
                found[row["way"]] = found.get(row["way"], 0.0) + share * row["seconds"]
    return found


def of_the_cpu(root: Path, run: str, shard: Shard) -> float:
    """The share of one CPU that the process had while it made a shard; 1 where it was killed before that was noted."""
    cost = root.parent / "costs" / run / f"{shard.key}.json"
    return float(json.loads(cost.read_text())["of_the_cpu"]) if cost.is_file() else 1.0


def seconds_of(root: Path, run: str, shards: list[Shard]) -> float:
    """What guided explanations kept one CPU busy: their wall time, times the share of it that the process had meanwhile; and
    the training of their editor."""
    return sum(seconds_by_way(root, run, shards).values())


def unchanged(root: Path, run: str, shards: list[Shard]) -> float:
    """Sparsity: the mean share of pixels that look as before."""
    shares = []
    for shard in shards:
        images = find_shard(root, "images", run, shard.key)
        assert images is not None
        before = {row["image_id"]: row["png"] for row in read_shard(images, ["image_id", "png"]).to_pylist()}
        after = [row for row in read_shard(shard, ["image_id", "arm", "png"]).to_pylist() if row["arm"] == "guided"]
        if after:
            moved = decode_png([row["png"] for row in after]) - decode_png([before[row["image_id"]] for row in after])
            shares.append((moved.abs().amax(1) / 2 <= VISIBLE).float().flatten(1).mean(1))
    return float(torch.cat(shares).mean())


def peak_mib(config: AuditConfig, shards: list[Shard]) -> float:
    """Most memory alive while one image is explained, without weights: of a short run, where its length does not matter."""
    first = config.ladder[0]
    short = {name: value for name, value in SHORTER.items() if name in type(first).model_fields}
    if first.method == "ace":
        short.pop("tau")  # its memory grows with it
    classifier, prior = classifier_for(config.classifier, "cpu"), denoiser_for(prior_of(config), "cpu")
    images = find_shard(config.warehouse, "images", shards[0].run_id, shards[0].key)
    assert images is not None
    x = read_images(images).x[:1]
    with torch.no_grad():
        target = 1 - classifier(x).argmax(1)
    run = bind(first.model_copy(update=short), prior.respaced(first.steps), classifier, "cpu")
    with LiveBytes() as live:
        run(x=x, target=target, noise=ImageNoise.of(["one"], 0))
    return live.peak / 2**20


def rank_of(root: Path, run: str) -> tuple[int | None, float | None]:
    """The rank of the planted attribute among those that guidance changed, and its effect."""
    sql = f"select rank, effect from ranked_attributes where run_id = '{run}' and attribute = '{PLANTED}'"
    rows = query(root, sql).to_pylist()
    return (rows[0]["rank"], rows[0]["effect"]) if rows else (None, None)


def row_of(preset: Preset, into: Path, quick: bool, most: int) -> dict[str, Any]:
    """One row of the result, of at most so many images, in whole shards."""
    n, clean, seeds = (preset.quick, 0, 1) if quick else (min(preset.n, most), min(preset.clean, most), preset.seeds)
    size = SHARD
    if preset.editor is not None:
        size = EDITORS_SHARD
        preset = preset._replace(editor=preset.editor.model_copy(update={"examples": QUICK_EXAMPLES})) if quick else preset
    config = audit_of(into, preset, "planted", 0, size, max(IMAGES, n if quick else preset.n))
    root = config.warehouse
    run, shards = explained(config, n)
    found = query(root, f"select metric, value, n from scorecard where run_id = '{run}'").to_pylist()
    scores = {row["metric"]: row["value"] for row in found}
    n = next(row["n"] for row in found if row["metric"] == "fr")
    seconds, flips = seconds_of(root, run, shards), scores["fr"] * n
    ranks = [rank_of(root, run)]
    ranks += [rank_of(root, explained(audit_of(into, preset, "planted", seed, size), n)[0]) for seed in range(1, seeds)]
    twins = [
        rank_of(root, explained(audit_of(into, preset, "clean", seed, size), clean)[0]) for seed in range(seeds if clean else 0)
    ]
    return {
        "method": preset.method,
        "preset": preset.preset,
        "n": n,
        "flip_rate": scores["fr"],
        "judge_flip_rate": scores["judge_fr"],
        "seconds_per_flip": seconds / flips if flips else None,
        "speedup": None,  # to DiME's paper preset, once all are measured
        "nfe_forward": scores["nfe_forward"],
        "nfe_backward": scores["nfe_backward"],
        "peak_mib": peak_mib(config, shards),
        "planted_rank": ranks[0][0],
        "planted_effect": ranks[0][1],
        "planted_ranks": [rank for rank, _ in ranks],
        "n_clean": clean,
        "clean_ranks": [rank for rank, _ in twins],
        "clean_effects": [effect for _, effect in twins],
        "l1": scores["l1"],
        "sparsity": unchanged(root, run, shards),
        "mnac": scores.get("mnac"),
        "cd": scores.get("cd"),
        "run": run,
        "seconds_by_way": seconds_by_way(root, run, shards),
        "ways": query(root, f"select * exclude (run_id, method) from ways where run_id = '{run}' order by way").to_pylist(),
    }


def released_row(into: Path, n: int) -> dict[str, Any]:
    """DiME's ladder by the plain loop on the first n images: the first scale that flips one is kept, as released."""
    ladder = published("dime")
    run = check(audit_of(into, Preset("dime", "released", ladder, n), "planted", 0, n))
    images, classifier, judge = read_images(ingest(run)[0]), run.classifier(), run.judge()
    assert judge is not None
    x, unet, tried, found = images.x[:n], plain_loop.loaded().unet, 0, list[torch.Tensor]()
    with torch.no_grad():
        targets = Targets(images.ids[:n], x, 1 - classifier(x).argmax(1))
    began = time.process_time()
    for i in range(n):
        for rung in ladder:
            assert isinstance(rung, DiME)
            diffusion, tried = plain_loop.Diffusion(unet, rung.steps), tried + rung.tau * (rung.tau + 1) // 2
            x_cf = plain_loop.dime(diffusion, classifier, plain_loop.image_of(targets, i), rung)
            with torch.no_grad():
                if int(classifier(x_cf).argmax(1)) == int(targets.target[i]):
                    break
        found.append(x_cf)
    seconds = time.process_time() - began
    with torch.no_grad():
        flips, judged = ((network(torch.cat(found)).argmax(1) == targets.target).float() for network in (classifier, judge))
    return {
        "method": "dime",
        "preset": "released",
        "n": n,
        "flip_rate": float(flips.mean()),
        "judge_flip_rate": float(judged.mean()),
        "seconds_per_flip": seconds / float(flips.sum()) if flips.any() else None,
        "speedup": None,
        "nfe_forward": tried / n,
        "nfe_backward": 0.0,
        "l1": float((torch.cat(found) - x).abs().mean()),
    }


def with_speedups(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Seconds and UNet evaluations a flip of DiME's paper preset over each row's, and seconds of the released loop over each
    row's; none where DiME was not measured."""
    base, loop = (
        next((row for row in rows if (row["method"], row["preset"]) == ("dime", preset)), None)
        for preset in ("paper", "released")
    )

    def evaluations(row: dict[str, Any]) -> float:
        return (row["nfe_forward"] + row["nfe_backward"]) / row["flip_rate"] if row["flip_rate"] else math.inf

    for row in rows:
        row["nfe_per_flip"] = evaluations(row)
        if base and base["seconds_per_flip"] and row["seconds_per_flip"]:
            row["speedup"] = base["seconds_per_flip"] / row["seconds_per_flip"]
            row["nfe_ratio"] = evaluations(base) / evaluations(row) if evaluations(row) else None
        if loop and loop["seconds_per_flip"] and row["seconds_per_flip"]:
            row["speedup_over_released"] = loop["seconds_per_flip"] / row["seconds_per_flip"]
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few images each, planted only: under five minutes")
    parser.add_argument("--json", action="store_true", help="the rows as JSON, as the last line")
    parser.add_argument("--only", nargs="+", metavar="METHOD/PRESET", help="measure these only")
    parser.add_argument("--most", type=int, default=MANY, help="images a preset, at most")
    parser.add_argument("--into", type=Path, default=Path("methods-benchmark"), help="warehouse and portraits; begun runs go on")
    parser.add_argument("--out", type=Path, help="write rows, command, commit and hardware to this JSON file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    wanted = [preset for preset in presets() if options.only is None or preset.name in options.only]
    wanted = [preset for preset in wanted if preset.quick or not options.quick]
    lay_out(options.into, IMAGES if options.quick else max([IMAGES, *(preset.n for preset in wanted)]))
    if any(rung.method == "dvce" and rung.robust for preset in wanted for rung in preset.ladder):
        robust_network()
    rows = []
    if not options.quick and (options.only is None or RELEASED in options.only):
        rows.append(released_row(options.into, min(RELEASED_IMAGES, options.most)))
        print(line(with_speedups(rows)[-1]), file=sys.stderr)  # noqa: T201
    for preset in wanted:
        rows.append(row_of(preset, options.into, options.quick, options.most))
        print(line(with_speedups(rows)[-1]), file=sys.stderr)  # noqa: T201
    if options.out:
        facts = {
            "command": " ".join(["python", *sys.argv]),
            "commit": subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip(),
            "hardware": f"{platform.machine()}, 1 thread, torch {torch.__version__}",
        }
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(facts | {"rows": rows}, indent=1) + "\n")
    if options.json:
        print(json.dumps(rows))  # noqa: T201


def line(row: dict[str, Any]) -> str:
    return "  ".join(f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}" for key, value in row.items())


if __name__ == "__main__":
    main()
