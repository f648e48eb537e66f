"""A whole audit in seconds: portraits of 16 px and untrained networks, so that what is measured is the pipeline.

The prior sees no noise anywhere and so changes nothing, which an audit accepts at little noise only.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
import yaml

from cfx.checkpoint import Facts, save_network
from cfx.diffusion.ddpm import Schedule, save_ddpm
from cfx.diffusion.training import PriorTraining, build_unet
from cfx.networks.convnet import ConvNet
from cfx.portraits import write_portraits
from warehouse.facts.schema import FACTS
from warehouse.lens.connect import open_warehouse

TIMES = {"seconds", "started", "finished", "asked", "written", "number"}  # when, and after what: all else is the same


def lay_out(folder: Path, images: int, size: int = 16) -> None:
    """Images and their table, a classifier, an oracle and a prior."""
    write_portraits(folder / "data", images, seed=5, size=size)
    torch.manual_seed(0)
    outputs: dict[str, tuple[int, Facts]] = {
        "classifier": (2, {"classes": ["not_smiling", "smiling"]}),
        "oracle": (3, {"attributes": ["smile", "hat", "beard"]}),
    }
    for name, (n, known) in outputs.items():
        kwargs: dict[str, object] = {"outputs": n, "widths": [8], "grid": 2}
        facts: Facts = {"module": "cfx.networks.convnet:ConvNet", "kwargs": kwargs, "input_size": size, **known}
        save_network(folder / f"{name}.safetensors", ConvNet(n, (8,), 2), facts)
    shape = PriorTraining(size=size, patch=4, channels=(32,))
    unet = build_unet(shape)
    torch.nn.init.zeros_(unet.conv_out.weight)
    torch.nn.init.zeros_(unet.conv_out.bias)
    save_ddpm(folder / "prior", unet.half(), Schedule())


def settings(folder: Path, shard_size: int, **more: Any) -> dict[str, Any]:
    """The audit's settings; as a file, see `write_settings`."""
    return {
        "name": "toy",
        "warehouse": str(folder / "warehouse"),
        "data": {
            "images": str(folder / "data" / "images"),
            "table": str(folder / "data" / "attributes.csv"),
            "label_column": "label",
            "size": 16,
        },
        "classifier": {"weights": str(folder / "classifier.safetensors")},
        "oracle": {"weights": str(folder / "oracle.safetensors")},
        "prior": {"path": str(folder / "prior")},
        "target_attribute": "smile",
        "ladder": [{"method": "fastdime", "steps": 100, "tau": 2, "scale": 40}],
        "interventions": {"steps": 100, "tau": 2},
        "shard_size": shard_size,
        "device": "cpu",
    } | more


def write_settings(folder: Path, settings: dict[str, Any], name: str = "run.yaml") -> Path:
    path = folder / name
    path.write_text(yaml.safe_dump(settings))
    return path


def fact_hashes(root: Path) -> dict[str, str]:
    """SHA-256 over the sorted rows of each fact that has any, columns of measured time left out."""
    hashes = {}
    with open_warehouse(root) as lens:
        for name in FACTS.keys() - {"stages"}:  # a fact of nothing but time
            columns = [row[0] for row in lens.execute(f"describe facts.{name}").fetchall() if row[0] not in TIMES]
            listed = ", ".join(f'"{column}"' for column in columns)
            rows = lens.execute(f"select {listed} from facts.{name} order by all").fetchall()
            if rows:
                hashes[name] = hashlib.sha256(repr(rows).encode()).hexdigest()
    return hashes


def run_hashes(root: Path) -> dict[tuple[str, str], str]:
    """SHA-256 over the sorted rows of each fact by run; of `runs` the last event. Left out are measured time, and the ledger of
    queries, in which a query that was broken off stands, too."""
    hashes: dict[tuple[str, str], str] = {}
    with open_warehouse(root) as lens:
        for name in FACTS.keys() - {"stages", "queries"}:
            source = "runs" if name == "runs" else f"facts.{name}"
            columns = [row[0] for row in lens.execute(f"describe {source}").fetchall() if row[0] not in TIMES]
            listed = ", ".join(f'"{column}"' for column in columns)
            if name == "runs":  # the last event may be of a try by another engine, which is no other audit
                listed = listed.replace('"config"', """json_merge_patch(config, '{"engine": null, "cluster": null}')""")
            rows: dict[str, list[object]] = {}
            for row in lens.execute(f"select run_id, {listed} from {source} order by all").fetchall():
                rows.setdefault(row[0], []).append(row)
            hashes |= {(name, run): hashlib.sha256(repr(found).encode()).hexdigest() for run, found in rows.items()}
    return hashes
