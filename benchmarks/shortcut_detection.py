"""FastDiME's shortcut detection on Portraits:  python benchmarks/shortcut_detection.py [--quick] [--json] [--into FOLDER]

Classifiers of smiles are trained on sets in which glasses go with the label in k % of the portraits; 50 is chance. Glasses alone
are then put on or taken off other portraits, by word, and every classifier is asked before and after. MAD is the mean absolute
difference of its probability: of the edit, of the sham (the same redrawing without the edit), and exactly, of the portrait
rendered again. It is the quantity of the view `mad`.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from tempfile import mkdtemp

sys.path.pop(0)  # benchmarks/, whose statistics.py would hide Python's own
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from torch import Tensor

from cfx.attributes.named_edits import NamedEdits, edit_by_word
from cfx.attributes.oracle import OracleConfig, load_oracle
from cfx.classifiers import ClassifierConfig, load_classifier
from cfx.diffusion.latent import load_latent
from cfx.images import from_uint8
from cfx.portraits import ATTRIBUTES, WORDS, Portrait, draw, render
from tasks.training.planted import Planting, train_planted

SHORTCUT, SEED = "glasses", 77
SHARES = (50, 65, 80, 95, 100)


def pixels(portraits: list[Portrait]) -> Tensor:
    """(N, 3, 64, 64) in [-1, 1]."""
    return from_uint8(torch.from_numpy(np.stack([render(portrait) for portrait in portraits])).permute(0, 3, 1, 2))


def measure(into: Path, n: int, images: int, steps: int) -> list[dict[str, float]]:
    """One row a share k. n: portraits edited; images, steps: that each classifier is trained on, and for."""
    portraits = [portrait for _, portrait in draw(n, seed=SEED)]
    x, place = pixels(portraits), ATTRIBUTES.index(SHORTCUT)
    oracle = load_oracle(OracleConfig(weights=Path("portraits:oracle")))
    named = NamedEdits(model="portraits:text", words=dict(WORDS))
    edit = edit_by_word(load_latent("portraits:text"), oracle, x, place, named, [str(i) for i in range(n)])
    seen = [oracle(image)[:, place] > 0.5 for image in (x, edit.x_edit)]
    kept = seen[0] != seen[1]  # as an audit counts: the oracle sees the edit
    exact = pixels([portrait.toggled(SHORTCUT) for portrait in portraits])
    rows = []
    for k in SHARES:
        attributes = (SHORTCUT,) if k > 50 else ()
        planting = Planting(attributes=attributes, rho=2 * k / 100 - 1)
        classifier = load_classifier(ClassifierConfig(weights=train_planted(into, planting, images, steps)))

        def mad(other: Tensor, classifier: torch.nn.Module = classifier) -> float:
            with torch.no_grad():
                moved = classifier(other[kept]).softmax(1)[:, 1] - classifier(x[kept]).softmax(1)[:, 1]
            return round(float(moved.abs().mean()), 3)

        found = {"mad": mad(edit.x_edit), "sham": mad(edit.x_sham), "exact": mad(exact)}
        rows.append({"k": k, "n": int(kept.sum()), **found})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few portraits, short trainings")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--into", type=Path, help="where classifiers are kept; default: a new folder")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    started = time.monotonic()
    size = {"n": 8, "images": 500, "steps": 60} if arguments.quick else {"n": 32, "images": 3_000, "steps": 400}
    rows = measure(arguments.into or Path(mkdtemp()), **size)
    if arguments.json:
        print(json.dumps({"seconds": round(time.monotonic() - started, 1), **size, "rows": rows}))  # noqa: T201
        return
    for row in rows:
        print(" ".join(f"{name} {value:g}" for name, value in row.items()))  # noqa: T201


if __name__ == "__main__":
    main()
