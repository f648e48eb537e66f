"""Black boxes audited from outside, with and without a planted shortcut, on balanced and on biased pools of images.

    .venv/bin/python benchmarks/black_box.py [--quick | --time] [--json] [--only NAME ...] [--into FOLDER] [--out FILE]

Each black box is a classifier of smiles behind a KServe v2 endpoint (examples/endpoint.py, a process of its own on loopback): no
gradients, a budget, every call in the ledger. It is audited with a surrogate and interventions, on a pool of portraits in which
every attribute is balanced, or on one in which an attribute agrees with the smile. Found: a confirmed verdict names what was
planted. Silent: a clean classifier has no confirmed verdict. `accused` is what the explanations alone would have said. What is in
FOLDER is kept: killed, it goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import platform
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

sys.path.pop(0)  # benchmarks/, whose statistics.py would hide Python's own
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import httpx  # noqa: E402
import torch  # noqa: E402

from flows.terminal import settle  # noqa: E402

settle(quiet=False)  # before Prefect is imported

from cfx.checkpoint import read_facts  # noqa: E402
from cfx.classifiers import ClassifierConfig  # noqa: E402
from cfx.images import decode_png  # noqa: E402
from cfx.portraits import WORDS, write_portraits  # noqa: E402
from flows.audit import run_audit  # noqa: E402
from tasks.config import AuditConfig  # noqa: E402
from tasks.networks import classifier_for  # noqa: E402
from tasks.training.planted import Planting, train_planted  # noqa: E402
from warehouse.lens.connect import query  # noqa: E402

RHO = 0.9  # of a planted attribute with the label, and of a biased pool's attribute with the smile
SEED = 2027  # of the pools; no classifier was trained on them
IMAGES, STEPS = 10_000, 1_200  # portraits and optimizer steps that a classifier is trained with
BUNDLED = {"planted": "glasses", "clean": None}  # the demo's twins
POOLS = ("even", "glasses", "beard")  # what agrees with the smile in each


class Box(NamedTuple):
    """A black box: one of the demo's twins, or a classifier trained here, queried with the images of a pool."""

    classifier: str | Planting
    pool: str = "even"

    @property
    def model(self) -> str:
        return self.classifier if isinstance(self.classifier, str) else self.classifier.name

    @property
    def name(self) -> str:
        return f"{self.model}-{self.pool}"

    @property
    def planted(self) -> str | None:
        return BUNDLED[self.classifier] if isinstance(self.classifier, str) else next(iter(self.classifier.attributes), None)


AUGMENTATION = {"shift": 0.03, "zoom": 0.03, "noise": 0.6, "erase": 0.08}  # of a surrogate's images, as in the example
LADDER = [{"method": "fastdime", "steps": 50, "tau": 18, "scale": scale, "threshold": 0.3} for scale in (25, 60)]


class Size(NamedTuple):
    """How much is queried."""

    boxes: tuple[Box, ...]
    images: int  # of a pool
    edited: int  # attributes that are edited
    edits: int  # images that each is edited on
    how: Mapping[str, Any]  # the search
    intervene: Mapping[str, Any] = {}  # how, if not by the oracle's gradient


def _shortcut(attribute: str, seed: int) -> Planting:
    return Planting(attributes=(attribute,), rho=RHO, seed=seed)


FULL = Size(
    boxes=(
        Box("planted"),
        Box("clean"),
        Box("planted", "glasses"),  # the pool has the bias that the classifier was trained with
        Box("clean", "glasses"),
        Box(_shortcut("beard", 1), "glasses"),  # the pool has another
        Box(Planting(seed=0), "glasses"),
        Box(_shortcut("hat", 1), "glasses"),
        Box(Planting(seed=1), "glasses"),
        Box(_shortcut("glasses", 1)),
        Box(Planting(seed=0)),
        Box(_shortcut("beard", 0)),
        Box(Planting(seed=1)),
        Box(_shortcut("hat", 0)),
        Box(Planting(seed=2)),
        Box(_shortcut("glasses", 0)),
        Box("clean", "beard"),
        Box(_shortcut("glasses", 0), "beard"),
        Box(Planting(seed=0), "beard"),
        Box(_shortcut("beard", 0), "beard"),
        Box(Planting(seed=1), "beard"),
    ),
    images=64,
    edited=9,
    edits=32,
    how={"surrogate": {"steps": 600, "augmentation": AUGMENTATION}, "ladder": LADDER},
)
QUICK = Size(
    tuple(Box(twin, pool) for pool in ("even", "beard") for twin in BUNDLED),
    images=48,
    edited=2,
    edits=20,
    how={"surrogate": {"steps": 260, "augmentation": AUGMENTATION}, "ladder": LADDER},
)

TIME = Size(
    (Box("planted"), Box("clean"), Box("planted", "glasses"), Box("clean", "glasses")),
    images=32,
    edited=2,
    edits=16,
    how={
        "words": {"model": "portraits:text", "training": {"steps": 80, "batch": 16}},
        "ladder": [{"method": "time", "tau": tau, "scale": scale} for tau, scale in ((12, 3), (16, 3), (20, 4))],
    },
    intervene={"named": {"model": "portraits:text", "words": dict(WORDS)}},
)


def audit_config(folder: Path, url: str, box: Box, size: Size) -> AuditConfig:
    """The audit of a black box on a pool: examples/endpoint.yaml, or TIME instead of the surrogate and edits by word."""
    pool = folder / f"{box.pool}-{size.images}"
    return AuditConfig.model_validate(
        {
            "name": box.name if size is not TIME else f"{box.name}-time",
            "warehouse": folder / "warehouse",
            "data": {"images": pool / "images", "table": pool / "attributes.csv", "label_column": "label"},
            "classifier": {
                "access": "kserve",
                "url": url,
                "model": box.model,
                "classes": ["not_smiling", "smiling"],
                "limits": {"budget": 40 * size.images, "batch": 16, "concurrency": 1},
            },
            **size.how,
            "judge": {"weights": "portraits:judge"},
            "oracle": {"weights": "portraits:oracle"},
            "prior": {"path": "portraits:prior"},
            "target_attribute": "smile",
            "interventions": {"images": size.edits, "attributes": size.edited, **size.intervene},
            "shard_size": size.images // 2,
        }
    )


@contextmanager
def served(classifiers: Path, port: int) -> Iterator[str]:
    """The example's endpoint, serving the demo's twins and every classifier of the folder."""
    command = [sys.executable, str(ROOT / "examples/endpoint.py"), "--port", str(port), "--weights", str(classifiers)]
    with (classifiers.parent / "endpoint.log").open("a") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        url, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 120
        while not _ready(url):
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{' '.join(command)} did not come up; see endpoint.log beside {classifiers}")
            time.sleep(0.5)
        yield url
    finally:
        server.terminate()
        server.wait()


def _ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/v2/models/clean/ready").is_success
    except httpx.TransportError:
        return False


def free_port(folder: Path) -> int:
    """A port for this folder's endpoint, always the same: the address is part of an audit's configuration."""
    kept = folder / "port"
    if not kept.is_file():
        with closing(socket.socket()) as free:
            free.bind(("127.0.0.1", 0))
            kept.write_text(str(free.getsockname()[1]))
    return int(kept.read_text())


def graded(folder: Path, box: Box, run: str) -> dict[str, Any]:
    """One row of the result: what was said of a black box, by which evidence, and what it cost."""
    root = folder / "warehouse"

    def named(sql: str) -> list[str]:
        return [row["attribute"] for row in query(root, sql).to_pylist()]

    of_run = f"where run_id = '{run}'"
    confirmed = named(f"select attribute from verdicts {of_run} and verdict = 'confirmed' order by rank")
    (flips,) = query(root, f"select value, n from scorecard {of_run} and metric = 'fr'").to_pylist()
    sql = f"select sum(batch) as images from queries {of_run} and status <> 'not reached'"
    (ledger,) = query(root, sql).to_pylist()
    (spent,) = query(root, f"select epoch(finished - started) as seconds from runs {of_run}").to_pylist()
    surrogate = root / "surrogates" / f"{run}.safetensors"
    planted = box.planted
    return {
        "box": box.name,
        "planted": planted,
        "pool": box.pool,
        "confirmed": confirmed,
        "accused": named(f"select attribute from ranked_attributes {of_run} and status = 'above null' order by rank"),
        "suspected": named(f"select attribute from verdicts {of_run} and verdict = 'suspected' order by rank"),
        "right": not confirmed if planted is None else planted in confirmed,
        "flip_rate": flips["value"],
        "surrogate_accuracy": read_facts(surrogate)["accuracy"] if surrogate.is_file() else None,
        "largest_difference": difference(folder, box, run),
        "queries_per_image": ledger["images"] / flips["n"],
        "seconds": round(spent["seconds"], 1),
        "verdicts": query(
            root,
            f"""select attribute, verdict, effect, low, high, intervention, intervention_low, intervention_high, n_interventions
                from verdicts {of_run} order by rank""",
        ).to_pylist(),
        "run": run,
    }


@torch.no_grad()
def difference(folder: Path, box: Box, run: str) -> float:
    """The largest difference between a probability that the endpoint gave and the same network's in this process."""
    sql = f"select probabilities, png from predictions join images using (run_id, image_id) where run_id = '{run}'"
    answered = query(folder / "warehouse", sql).to_pylist()
    weights = f"portraits:{box.model}" if isinstance(box.classifier, str) else folder / "classifiers" / f"{box.model}.safetensors"
    here = classifier_for(ClassifierConfig(weights=weights), "cpu")(decode_png([row["png"] for row in answered])).softmax(1)
    return float((torch.tensor([row["probabilities"] for row in answered]) - here).abs().max())


def totals(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The numbers wanted, and beside them what association alone would have said. seconds: of all audits, by their
    `runs`, so that a benchmark that was stopped tells the same."""
    planted = [row for row in rows if row["planted"] is not None]
    clean = [row for row in rows if row["planted"] is None]
    return {
        "planted_found": sum(row["right"] for row in planted),
        "planted_total": len(planted),
        "clean_silent": sum(row["right"] for row in clean),
        "clean_total": len(clean),
        "false_claims": sum(name != row["planted"] for row in rows for name in row["confirmed"]),
        "clean_accused_by_explanations_alone": sum(bool(row["accused"]) for row in clean),
        "queries_per_image": round(sum(row["queries_per_image"] for row in rows) / max(1, len(rows)), 2),
        "seconds": round(sum(row["seconds"] for row in rows), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the demo's twins on two small pools: under five minutes")
    parser.add_argument("--time", action="store_true", help="the demo's twins on two pools, by TIME and edits by word")
    parser.add_argument("--json", action="store_true", help="totals and rows as JSON, as the last line")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these black boxes only, such as clean-even")
    parser.add_argument("--into", type=Path, default=Path("black-box-benchmark"), help="classifiers, pools and facts")
    parser.add_argument("--out", type=Path, help="write totals, rows, command, commit and hardware to this JSON file")
    options = parser.parse_args()
    folder = options.into.resolve()
    size = TIME if options.time else QUICK if options.quick else FULL
    boxes = [box for box in size.boxes if options.only is None or box.name in options.only]
    if not boxes:
        raise SystemExit(f"--only: there is no such black box; there are {', '.join(box.name for box in size.boxes)}")
    (folder / "classifiers").mkdir(parents=True, exist_ok=True)
    for place, pool in enumerate(POOLS):
        agreement = {"smile": 1.0} | ({} if pool == "even" else {pool: (1 + RHO) / 2})
        write_portraits(folder / f"{pool}-{size.images}", size.images, SEED + place, agreement)
    for box in boxes:
        if isinstance(box.classifier, Planting):
            train_planted(folder / "classifiers", box.classifier, IMAGES, STEPS)
    rows = []
    with served(folder / "classifiers", free_port(folder)) as url:
        for box in boxes:
            rows.append(graded(folder, box, run_audit(audit_config(folder, url, box, size))))
            print(line(rows[-1]), file=sys.stderr)  # noqa: T201
    found = totals(rows)
    if options.out:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=ROOT).stdout.strip()
        facts = {"command": " ".join(["python", *sys.argv]), "commit": commit, "hardware": f"{platform.machine()}, CPU"}
        options.out.write_text(json.dumps(facts | found | {"rows": rows}, indent=1) + "\n")
    print(json.dumps(found | {"rows": rows}) if options.json else "\n".join(f"{name:36} {n}" for name, n in found.items()))  # noqa: T201


def line(row: dict[str, Any]) -> str:
    return "  ".join(f"{name} {row[name]}" for name in ("box", "right", "confirmed", "accused", "flip_rate", "seconds"))


if __name__ == "__main__":
    main()
