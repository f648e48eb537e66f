"""The settings of an audit from what was seen: a commented YAML of a dozen lines."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import yaml

from tasks.first_look.network import Given
from tasks.first_look.table import TableFound
from tasks.first_look.trial import Proposal

MOST = 300  # images that are audited: a finding in minutes
CLOSE = 0.8  # |phi| from which on an attribute may be the label itself
FEWEST = 64  # images to learn from
AUTOS = {  # what each adds
    "prior": "draws counterfactuals and edits of attributes",
    "oracle": "names attributes: trained on the yes/no columns",
    "judge": "a second opinion on each counterfactual: trained on the labels",
}

BUNDLED = {  # for Portraits, which cfx has networks of
    "prior": {"path": "portraits:prior", "runtime": "auto"},
    "oracle": {"weights": "portraits:oracle"},
    "judge": {"weights": "portraits:judge"},
}


def name_of(folder: Path) -> str:
    """What the run is called, after the folder of its images."""
    folder = folder.resolve()
    chosen = folder.parent.name if folder.name.lower() in ("images", "image", "img", "imgs", "data") else folder.name
    return re.sub(r"[^a-z0-9]+", "-", chosen.lower()).strip("-") or "audit"


def written(given: Given, table: TableFound, found: Proposal, autos: Collection[str]) -> str:
    """The YAML. autos: which of AUTOS are on; the others stand as comments that say what they add."""
    data: dict[str, Any] = {"images": given.named(table.images), "table": given.named(table.path)}
    data |= {} if table.file_column == "file" else {"file_column": table.file_column}
    data |= {} if table.label_column is None else {"label_column": table.label_column}
    data |= {"labels": found.labels} if found.labels else {}
    data |= {"split_column": table.split_column, "split": table.split} if table.split else {}
    data |= {"size": found.size} | _limit(table, autos)
    lines = [
        "# Written by `cfx init`. Run it: cfx audit; every setting: docs/reference/config.md",
        _line("name", name_of(table.images)),
        _line("data", data),
        _line("classifier", found.settings),
    ]
    bundled = str(found.settings["weights"]).startswith("portraits:")
    if table.target_attribute is not None:
        off = "" if "oracle" in autos or bundled else "# "  # without an oracle there is no such attribute
        lines.append(f"{off}{_line('target_attribute', table.target_attribute)}  # the label itself: left out of the ranking")
    elif table.associations and abs(table.associations[0].phi) >= CLOSE:
        first = table.associations[0]
        lines.append(f"# {_line('target_attribute', first.attribute)}  # if that is the label itself: r = {first.phi:.2f}")
    for auto, adds in AUTOS.items():
        if bundled:
            lines.append(f"{_line(auto, BUNDLED[auto])}  # {adds.partition(':')[0]}; comes with cfx")
        elif reason := impossible(auto, table):
            lines.append(f"# {auto}: {reason}")
        else:
            lines.append(f"{'' if auto in autos else '# '}{auto}: auto  # {adds}; minutes of training, once")
    return "\n".join(lines) + "\n"


def impossible(auto: str, table: TableFound) -> str | None:
    """Why one of AUTOS cannot be trained from this table; None where it can."""
    if auto == "oracle" and not table.attributes:
        return "not auto, because the table has no yes/no column to learn from; add one, or give weights"
    if auto == "judge" and table.label_column is None:
        return "not auto, because there are no labels to learn from; give weights"
    return None


def _limit(table: TableFound, autos: Collection[str]) -> dict[str, int]:
    """A sample where there are many images; half of a few where some are to be learned from, those of other splits else."""
    rows = table.splits[table.split] if table.split else table.rows
    learns = {"oracle", "judge"} & set(autos) and rows == table.rows
    most = min(MOST, rows // 2 if learns and rows >= 2 * FEWEST else rows)
    return {"limit": most} if most < rows else {}


def _line(name: str, value: Any) -> str:
    """One setting on one line."""
    text = yaml.safe_dump({name: value}, default_flow_style=True, sort_keys=False, width=10**6, allow_unicode=True).strip()
    return text[1:-1]
