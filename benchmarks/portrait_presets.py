"""The rows of benchmarks/methods.py: every method and preset as a ladder for Portraits, and on how many it is measured."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, NamedTuple

from cfx.classifiers import ClassifierConfig
from cfx.diffusion.runtimes import Runtime
from cfx.editor import EditorTraining
from cfx.methods.ace import ACE
from cfx.methods.blended import Blended
from cfx.methods.dime import FastDiME
from cfx.methods.dvce import DVCE
from cfx.methods.svce import SVCE
from cfx.presets import DEFAULT, PAPER, WhiteBox
from cfx.training.portraits import CLASSES, rendered
from cfx.training.robust import RobustTraining, train_robust

MANY = 1000  # images of an audit that is large enough for an editor
ROBUST = Path(__file__).parent / "methods-networks" / "robust.safetensors"  # made by this benchmark if it is not there


class Preset(NamedTuple):
    """A row of the table: a ladder, and on how much it is measured."""

    method: str
    preset: str
    ladder: tuple[WhiteBox, ...]
    n: int  # images with the planted classifier …
    clean: int = 0  # … and with its clean twin
    seeds: int = 1
    quick: int = 8  # images with --quick; 0: left out
    prior: str = "portraits:prior"
    editor: EditorTraining | None = None  # proposes after its examples
    runtime: Runtime = "torch"  # what evaluates the UNet

    @property
    def name(self) -> str:
        return f"{self.method}/{self.preset}"


def published(method: str, data: str = "celeba", **changes: Any) -> tuple[WhiteBox, ...]:
    """A paper's ladder without the perceptual term, whose VGG19 does not come with cfx."""
    row = PAPER[method, data]
    settings = row.settings | ({"perceptual": 0.0} if "perceptual" in row.settings else {}) | changes
    return tuple(row.method(**settings, **({"scale": scale} if scale is not None else {})) for scale in row.scales or (None,))


def presets() -> list[Preset]:
    """Every row; n is what one core can do in an hour and a half, all 256 where an image is cheap."""
    direct, naive = (
        tuple(rung.model_copy(update={"guide": guide}) for rung in published("dime")) for guide in ("noisy", "input")
    )
    radii = tuple(
        round(radius * (64 / 224) ** (4 / 3), 1) for radius in (50, 75, 100, 150)
    )  # the l1.5 norm grows as pixels^(2/3)
    cone = DVCE(scale=0.1, robust=ClassifierConfig(weights=ROBUST), augmentations=16)
    first_demo = tuple(FastDiME(steps=50, tau=18, scale=scale, threshold=0.3) for scale in (25.0, 60.0))
    return [
        Preset("dime", "paper", published("dime"), 16),
        Preset("dime", "direct", direct, 32, 32),
        Preset("dime", "naive", naive, 32, 32),
        Preset("fastdime", "paper", published("fastdime"), 64, 64),
        Preset("fastdime-2", "paper", published("fastdime-2"), 32, 32),
        Preset("fastdime-2+", "paper", published("fastdime-2+"), 32, 32),
        Preset("fastdime", "18-of-50", first_demo, 256, 256),
        Preset("maskdime", "paper", published("maskdime", "celeba-smile"), 64, 64),
        Preset("ace-l1", "paper", published("ace-l1"), 16),
        Preset("ace-l1", "kept", (ACE(),), 32, 16),
        Preset("ace-l2", "kept", (ACE(distance="l2", distance_weight=0.1),), 16),
        Preset("dvce", "paper", (DVCE(scale=0.1),), 16, 16),
        Preset("dvce", "cone", (cone,), 16, quick=0),
        Preset("svce", "paper", (SVCE(radii=radii),), 64, 64),
        Preset("blended", "paper", (Blended(),), 16, 16),
        Preset("default", "default", DEFAULT, 256, 256, seeds=3),
        Preset("latent", "default", DEFAULT, 256, 256, quick=32, prior="portraits:text"),
        Preset("flow", "default", DEFAULT, 256, 256, quick=32, prior="portraits:flow"),
        Preset("default", "onnxruntime", DEFAULT, MANY, runtime="onnxruntime"),
        Preset("editor", "default", DEFAULT, MANY, quick=96, editor=EditorTraining(), runtime="onnxruntime"),
    ]


def robust_network() -> None:
    """Train the cone's network, unless it is there: adversarially, on portraits without any correlation."""
    if ROBUST.is_file():
        return
    images, labels, _ = rendered(6_000, 5_150)

    def report(step: int, loss: float) -> None:
        if step % 100 == 0:
            print(f"robust network: step {step}, loss {loss:.3f}", file=sys.stderr)  # noqa: T201

    train_robust(images, labels, RobustTraining(steps=900, seed=5), CLASSES, ROBUST, report)
