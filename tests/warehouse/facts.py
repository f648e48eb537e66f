"""Synthetic facts with known answers, written the way an audit writes them: through `write_shard`.

`write_run` writes a whole run whose true effect of every attribute is what was asked for. The `*_rows` functions give one shard's
rows with plain defaults, for tests that set the columns they are about.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from warehouse.facts import shards
from warehouse.facts.damage import file_of
from warehouse.facts.shards import write_shard

CLASSES = ("no_smile", "smile")
STARTED = datetime(2025, 1, 1, tzinfo=UTC)
FINISHED = datetime(2025, 1, 1, 0, 5, tzinfo=UTC)

Values = Sequence[Any] | NDArray[Any]
Columns = dict[str, Values]


def image_ids(n: int, seed: int = 0) -> list[str]:
    """n different image ids, as SHA-256 makes them."""
    return [hashlib.sha256(f"{seed}-{i}".encode()).hexdigest() for i in range(n)]


def png(grey: int) -> bytes:
    """An 8 x 8 picture of one grey, 0 to 255."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (grey, grey, grey)).save(buffer, "PNG")
    return buffer.getvalue()


def run_rows(**columns: object) -> Columns:
    """One event of a run, finished unless columns say otherwise."""
    row: dict[str, object] = {
        "name": "synthetic",
        "status": "finished",
        "reason": None,
        "started": STARTED,
        "finished": FINISHED,
        "config": '{"method": {"method": "dime"}}',
        "config_hash": "c0ffee",
        "fingerprints": '{"classifier": "aa", "data": "bb", "prior": "cc", "oracle": "dd", "judge": "ee"}',
        "code_version": "0.1.0",
        "packages": '{"duckdb": "1.5.6"}',
        "seeds": [0],
        "hardware": "cpu",
        "classes": list(CLASSES),
        "target_attribute": "smile",
        "method": "dime",
        "margin": 0.05,
        "attempted": None,
        "explained": None,
        "flipped": None,
        "rejected": None,
        "warnings": [],
    }
    return {name: [value] for name, value in (row | columns).items()}


def image_rows(ids: Values, **columns: Values) -> Columns:
    """Images without split; label and wide columns a_<attribute> as given."""
    n = len(ids)
    rows: Columns = {
        "image_id": ids,
        "split": [None] * n,
        "path": [f"{image_id[:8]}.png" for image_id in ids],
        "width": [8] * n,
        "height": [8] * n,
        "label": [None] * n,
        "png": [png(128)] * n,
    }
    return rows | columns


def prediction_rows(ids: Values, classes: Values) -> Columns:
    """The classifier gives each image its class with probability .9."""
    probabilities = [[0.9 if c == name else 0.1 for c in CLASSES] for name in classes]
    return {"image_id": ids, "class": classes, "probabilities": probabilities}


def effect_rows(ids: Sequence[str], attribute: str, changes: Values, **columns: Values) -> Columns:
    """Edits that switch the attribute on and change the probability of the second class by `changes`; all of them count."""
    n = len(ids)
    rows: Columns = {
        "image_id": ids,
        "attribute": [attribute] * n,
        "edits": ["edits-1"] * n,
        "switched_on": [True] * n,
        "counted": [True] * n,
        "side": [0.0] * n,
        "probabilities_before": [[0.5, 0.5]] * n,
        "probabilities_sham": [[0.5, 0.5]] * n,
        "probabilities_after": [[0.5 - change, 0.5 + change] for change in changes],
        "probabilities_pasted": [[0.5 - change, 0.5 + change] for change in changes],
    }
    return rows | columns


def share_rows(names: float = 0.95, ceiling: float = 0.96, n: int = 64, **columns: object) -> Columns:
    """What the names, and the most of anything, explain of the second class: cleared where less than .1 is missing."""
    cleared = ceiling - names <= 0.1
    constants: dict[str, object] = {
        "class": CLASSES[1], "model": "ridge", "missing": ceiling - names, "missing_low": ceiling - names - 0.03,
        "missing_high": ceiling - names + 0.03, "cleared": cleared, "n": n,
        "why": f"the names explain {names:.2f} of the answers, {ceiling:.2f} can be explained",
    }  # fmt: skip
    rows: Columns = {
        "inputs": ["label", "label and attributes", "generic features"],
        "r2": [names - 0.1, names, ceiling],
        "low": [names - 0.2, names - 0.05, ceiling - 0.05],
        "high": [names, names + 0.03, ceiling + 0.02],
        "names": [False, True, False],
        "ceiling": [False, False, True],
    }
    return {name: [value] * 3 for name, value in (constants | columns).items()} | rows


def property_rows(effects: Mapping[str, float], n: int = 64, **columns: object) -> Columns:
    """Properties whose probes move P(second class) by these effects, give or take .03; the data vary in them and agree in sign.

    Beyond .05 such a property is relied on, unless columns say otherwise.
    """
    rows: Columns = {
        "property": list(effects),
        "effect": list(effects.values()),
        "low": [effect - 0.03 for effect in effects.values()],
        "high": [effect + 0.03 for effect in effects.values()],
        "p": [0.001 if abs(effect) > 0.05 else 0.5 for effect in effects.values()],
        "down": [-effect / 2 for effect in effects.values()],
        "up": [effect / 2 for effect in effects.values()],
        "size": [abs(effect) for effect in effects.values()],
        "association": [float(np.sign(effect)) / 2 for effect in effects.values()],
        "kind": ["relies on" if abs(effect) > 0.05 else None for effect in effects.values()],
    }
    constants: dict[str, object] = {
        "class": CLASSES[1], "n": n, "in_data": True, "association_p": 0.001, "through": None, "tied": [], "moves": "{}"
    }  # fmt: skip
    return rows | {name: [value] * len(effects) for name, value in (constants | columns).items()}


def place_rows(
    effects: Mapping[int, float],
    named: Mapping[int, Sequence[str]] | None = None,
    grid: int = 8,
    n: int = 64,
    name: str = CLASSES[1],
) -> Columns:
    """A grid of places, of which these cells move the answer by so much; nothing named lies there but in the cells of `named`."""
    named = named or {}
    cells = grid * grid
    effect = [effects.get(cell, 0.0) for cell in range(cells)]
    residual = [0.0 if cell in named else value for cell, value in enumerate(effect)]
    return {
        "class": [name] * cells,
        "place": list(range(cells)),
        "grid": [grid] * cells,
        "effect": effect,
        "low": [value - 0.02 for value in effect],
        "high": [value + 0.02 for value in effect],
        "p": [0.001 if value >= 0.1 else 0.5 for value in effect],
        "n": [n] * cells,
        "residual": residual,
        "residual_low": [value - 0.02 for value in residual],
        "residual_high": [value + 0.02 for value in residual],
        "decides": [value >= 0.1 for value in effect],
        "unnamed": [value >= 0.1 for value in residual],
        "attributes": [list(named.get(cell, ())) for cell in range(cells)],
        "framing": [0.9] * cells,
    }


def explanation_rows(ids: Values, arm: str = "guided", **columns: Values) -> Columns:
    """Explanations from the first class to the second, at unit cost; the guided ones flipped."""
    n, flipped = len(ids), arm == "guided"
    constants: dict[str, object] = {
        "method": "dime", "arm": arm, "seed": 0, "source": CLASSES[0], "target": CLASSES[1], "attempt": 0,
        "p_source": 0.9, "p_target": 0.1, "p_source_cf": 0.2, "p_target_cf": 0.8,
        "flipped": flipped, "flipped_8bit": flipped, "judge_flipped": flipped,
        "l1": 0.1, "l2": 1.0, "linf": 0.5, "mask_fraction": 0.25, "nfe_forward": 60, "nfe_backward": 0,
        "seconds": 0.5, "device": "cpu", "png": png(160), "mask_png": png(255),
    }  # fmt: skip
    rows: Columns = {name: [value] * n for name, value in constants.items()}
    return rows | {"image_id": ids} | columns


def attribute_rows(
    ids: Sequence[str], p: Mapping[str, Values], q: Mapping[str, Values], arm: str = "guided", seed: int = 0
) -> Columns:
    """The oracle's probabilities before (p) and after (q), by attribute."""
    n = len(ids)
    rows: Columns = {"image_id": ids, "method": ["dime"] * n, "arm": [arm] * n, "seed": [seed] * n}
    for name in p:
        before, after = (np.asarray(side[name], dtype=np.float32) for side in (p, q))
        rows |= {f"p_{name}": before, f"q_{name}": after, f"d_{name}": after - before}
    return rows


def write_run(
    root: Path, run_id: str, effects: Mapping[str, float], n: int = 64, shards: int = 1, seed: int = 0, drift: float = 0.02
) -> None:
    """A finished run over n images, half in each direction, guided and null.

    effects: by attribute (of which one should be "smile", the target attribute), the true change of the oracle's probability as
    the classifier goes from no_smile to smile, guided minus null; of size .3 at most. Towards no_smile it has the other sign.
    drift: what the null itself adds to every attribute. The noise of single images is uniform, up to .08 in each arm.
    """
    ids = image_ids(n, seed)
    classes = [CLASSES[1 - i % 2] for i in range(n)]
    rng = np.random.default_rng([seed, 1])
    bits = {f"a_{name}": rng.random(n) < 0.5 for name in effects} | {"a_smile": np.array([c == "smile" for c in classes])}
    write_shard(root, "runs", run_id, "started", run_rows(status="started", finished=None))
    for shard in range(shards):
        mine = slice(shard, None, shards)
        images = image_rows(ids[mine], label=classes[mine], **{name: bit[mine] for name, bit in bits.items()})
        write_shard(root, "images", run_id, f"{shard:05}", images)
        write_shard(root, "predictions", run_id, f"{shard:05}", prediction_rows(ids[mine], classes[mine]))
    rejected = {"path": ["broken.png"], "stage": ["ingest"], "reason": ["truncated"], "error": ["the file ends too early"]}
    write_shard(root, "rejected", run_id, "00000", rejected)
    write_outcomes(root, run_id, effects, n, shards, seed, drift)


def write_outcomes(
    root: Path, run_id: str, effects: Mapping[str, float], n: int = 64, shards: int = 1, seed: int = 0, drift: float = 0.02
) -> None:
    """The part of `write_run` that the statistics read: explanations, attributes and the run's last event."""
    ids = image_ids(n, seed)
    rng = np.random.default_rng(seed)
    towards = np.arange(n) % 2  # the class asked for
    sources, targets = np.array(CLASSES)[1 - towards], np.array(CLASSES)[towards]
    p = {name: rng.uniform(0.4, 0.5, n) for name in effects}
    for arm, guided, flips in (("guided", 1, 0.95), ("null", 0, 0.02)):
        noise = {name: rng.uniform(-0.08, 0.08, n) for name in effects}
        q = {name: p[name] + drift + guided * effect * (2 * towards - 1) + noise[name] for name, effect in effects.items()}
        flipped = rng.random(n) < flips
        for shard in range(shards):
            mine = slice(shard, None, shards)
            directions: Columns = {"source": sources[mine], "target": targets[mine], "flipped": flipped[mine]}
            before, after = ({name: values[mine] for name, values in side.items()} for side in (p, q))
            key = f"{arm}-{shard:05}"
            write_shard(root, "explanations", run_id, key, explanation_rows(ids[mine], arm, **directions))
            write_shard(root, "attributes", run_id, key, attribute_rows(ids[mine], before, after, arm))
    counts = {"attempted": n + 1, "explained": n, "flipped": n, "rejected": 1}
    write_shard(root, "runs", run_id, "finished", run_rows(**counts))


def rewrite(path: Path, table: pa.Table) -> None:
    """Another table in the place of a shard, sealed as it was."""
    path.write_bytes(shards._parquet(table, file_of(path)))
