"""`cfx init --demo-of`: a whole example in an empty folder, as a user's own data would lie: images, a table, a network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import cfx
from cfx.errors import UserError
from cfx.scratch import held

HERE = Path(cfx.__file__).parent.parent
PLACES = (HERE / "flows" / "examples", HERE / "examples")  # in a wheel, in a checkout
TRAINED = ("fashion", "solar")
PORTRAITS = 128


class Example(NamedTuple):
    """What a user would have."""

    images: Path
    table: Path
    model: str


def lay_out_example(name: str, folder: Path) -> Example:
    """Lay out an example in an empty folder, or one that is not there yet.

    Raises UserError for an example that there is not, a folder with something in it, and data that is not installed.
    """
    if name not in (*TRAINED, "portraits"):
        raise UserError(f"--demo-of: there is no {name!r}; there are {', '.join(TRAINED)}, portraits")
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise UserError(f"{folder} is not an empty folder, and nothing is overwritten; name another one: --out")
    folder.mkdir(parents=True, exist_ok=True)
    model = _portraits(folder) if name == "portraits" else _trained(name, folder)
    return Example(folder / "images", folder / "table.csv", model)


def _portraits(folder: Path) -> str:
    from cfx.portraits import write_portraits
    from flows.demo import SEED

    write_portraits(folder, PORTRAITS, SEED).rename(folder / "table.csv")
    return "portraits:planted"


def _trained(name: str, folder: Path) -> str:
    """Run the example's own script, and take what it made."""
    scripts = next((place / name for place in PLACES if (place / name).is_dir()), None)
    if scripts is None:
        raise UserError(f"the example {name!r} is not part of this installation; it is in the repository, examples/{name}")
    path = os.pathsep.join(part for part in (str(HERE), os.environ.get("PYTHONPATH")) if part)
    scratch = folder / ".making"
    with held(scratch) as mine:
        if not mine:
            raise UserError(f"another process is laying out {folder}; wait for it, or name another folder")
        command = [sys.executable, str(scripts / "train.py"), "planted"]
        ended = subprocess.run(command, cwd=scratch, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True)
        if ended.returncode:
            raise UserError((ended.stderr.strip().splitlines() or [f"{scripts / 'train.py'} failed"])[-1])
        made = scratch / f"cfx-{name}"
        shutil.move(made / "images", folder / "images")
        shutil.move(made / "table.csv", folder / "table.csv")
        shutil.move(made / "planted.pt", folder / "model.pt")
    shutil.copy(scripts / "network.py", folder / "network.py")
    return str(folder / "model.pt")
