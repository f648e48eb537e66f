"""How long the explorer's pages take in a warehouse of 10,000 explanations, and forty reviews that come at once.

    .venv/bin/python benchmarks/explorer.py --json            # 10,000 explanations of 128 x 128 pixels
    .venv/bin/python benchmarks/explorer.py --json --quick    # 600 of 32 x 32

Facts as an audit writes them, 64 images a shard, guided and null, written by what the tests use; then `cfx serve` in a process of
its own, and clients over HTTP. `first` is the first page of all, which reads the facts. `pages` are pages of the gallery as a
person asks for them, with facets and sorts, each several times. `whole` is a page with all of its pictures, as a browser fetches
them: over six connections. `image` is the page of one explanation. `reviews`: from the first of forty posted by forty clients at
once until the last is answered.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

sys.path.pop(0)  # benchmarks/, whose names would hide Python's own and ours
HOME = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(HOME), str(HOME / "tests" / "warehouse")]

import facts
import numpy as np
from PIL import Image

from cfx.portraits import ATTRIBUTES, render, sample
from warehouse.facts.shards import write_shard

SHARD = 64  # images
DRAWN = 128  # different portraits; the other images show them again
REVIEWS = 40
PAGES = (
    {},
    {"sort": "d_glasses", "down": "1"},
    {"outcome": "not flipped"},
    {"changed": "added:glasses", "target": "smile", "sort": "p_target_cf"},
    {"judge": "disagrees", "label": "smile", "min.l1": "0.01", "max.l1": "0.05"},
    {"min.d_hat": "0.1", "sort": "d_hat", "down": "1"},
    {"page": "40", "sort": "l2"},
    {"reviewed": "not reviewed", "source": "smile", "target": "no_smile", "page": "20"},
)


def write_facts(root: Path, explanations: int, size: int) -> None:
    """One finished run with a guided and a null explanation of each image, and the edits of a few."""
    rng = np.random.default_rng(0)
    portraits = [sample(np.random.default_rng(i)) for i in range(min(DRAWN, explanations))]
    before = [_png(render(portrait, size), rng) for portrait in portraits]
    after = [_png(render(portrait.toggled("smile"), size), rng) for portrait in portraits]
    ids = facts.image_ids(explanations)
    write_shard(root, "runs", "large", "started", facts.run_rows(status="started", finished=None))
    for number, start in enumerate(range(0, explanations, SHARD)):
        mine = ids[start : start + SHARD]
        drawn = np.arange(start, start + len(mine)) % len(portraits)
        smiles = np.array([portraits[i].has("smile") for i in drawn])
        sources = np.array(facts.CLASSES)[smiles.astype(int)]
        known = {f"a_{name}": [portraits[i].has(name) for i in drawn] for name in ATTRIBUTES}
        labels = np.where(rng.random(len(mine)) < 0.1, np.array(facts.CLASSES)[1 - smiles], sources)
        images = facts.image_rows(mine, label=labels, png=[before[i] for i in drawn], **known)
        key = f"{number:05}"
        write_shard(root, "images", "large", key, images)
        write_shard(root, "predictions", "large", key, facts.prediction_rows(mine, sources))
        for arm in ("guided", "null"):
            flipped = rng.random(len(mine)) < (0.9 if arm == "guided" else 0.02)
            columns = {
                "source": sources, "target": np.array(facts.CLASSES)[1 - smiles], "flipped": flipped,
                "judge_flipped": flipped & (rng.random(len(mine)) < 0.9), "l1": rng.gamma(4, 0.01, len(mine)),
                "l2": rng.gamma(4, 0.5, len(mine)), "p_target_cf": np.where(flipped, rng.beta(9, 1, len(mine)), 0.2),
                "png": [after[i] if arm == "guided" else before[i] for i in drawn], "mask_png": [before[i] for i in drawn],
            }  # fmt: skip
            write_shard(root, "explanations", "large", f"{key}-{arm}", facts.explanation_rows(mine, arm, **columns))
            p = {name: rng.random(len(mine)) for name in ATTRIBUTES}
            q = {name: np.clip(values + rng.normal(0, 0.2, len(mine)), 0, 1) for name, values in p.items()}
            write_shard(root, "attributes", "large", f"{key}-{arm}", facts.attribute_rows(mine, p, q, arm))
    write_shard(root, "effects", "large", "00000", facts.effect_rows(ids[:SHARD], "glasses", rng.normal(0.3, 0.1, SHARD)))
    counts = {"attempted": explanations, "explained": explanations, "flipped": round(0.9 * explanations), "rejected": 0}
    write_shard(root, "runs", "large", "finished", facts.run_rows(**counts))


def _png(picture: Any, rng: np.random.Generator) -> bytes:
    """A portrait with the grain of a photograph, or PNG would make it far smaller than one."""
    noisy = np.clip(picture + rng.normal(0, 3, picture.shape), 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(noisy).save(file, "PNG")
    return file.getvalue()
