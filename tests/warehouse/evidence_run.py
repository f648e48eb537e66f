"""A run with all that evidence is made of: a base, a canary's twins, a policy, a review, sums, and its report."""

from __future__ import annotations

from pathlib import Path

from portrait_run import write_portrait_run

from tasks.stages.canary import Twins, judged
from warehouse.explorer.reviews import review
from warehouse.facts.schema import FACTS
from warehouse.facts.shards import find_shard, write_shard
from warehouse.lens.gate import set_policy
from warehouse.lens.partial_sums import write_sums
from warehouse.report.render import write_report

POLICY = {
    "base": "earlier",
    "forbidden": ["glasses", "<b>hat"],
    "maximum_effect": 0.15,
    "minimum_images": 16,
    "minimum_flip_rate": 0.8,
    "minimum_judge_flip_rate": None,
    "maximum_rise": 0.1,
    "maximum_cd_rise": None,
    "explained": None,
}


def write_evidence(root: Path) -> None:
    """The warehouse of the run `run`."""
    for name in ("run", "earlier", "run-planted", "run-clean"):
        write_portrait_run(root, name, n=24, size=16, planted=name != "run-clean", names={"hat": "<b>hat"})
    set_policy(root, "run", POLICY)
    write_shard(root, "canaries", "run", "all", judged(root, Twins("glasses", "run-planted", "run-clean")))
    review(root, "run", "Ada", "confirmed", attribute="glasses")
    images, explained, attributes = (find_shard(root, fact, "run", "00000") for fact in ("images", "explanations", "attributes"))
    assert images and explained and attributes
    write_sums(root, images, explained, attributes, "smile")
    for fact in FACTS.keys() - {path.name for path in (root / "facts").iterdir()}:  # a byte is a byte: these have no rows
        write_shard(root, fact, "edits-demo" if fact == "edits" else "run", "00000", FACTS[fact].schema.empty_table())
    write_report(root, "run")


def flip(path: Path, share: float = 0.5) -> None:
    """Change one byte."""
    data = bytearray(path.read_bytes())
    data[int(len(data) * share)] ^= 1
    path.write_bytes(data)
