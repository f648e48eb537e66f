"""What a pipeline's folder says of itself: its class and its parts. What cannot be a prior is refused here, by name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from cfx.diffusion.families import FAMILIES, Family
from cfx.diffusion.pipeline_parts import LEGACY, OURS
from cfx.diffusion.pretrained import read_json
from cfx.errors import UserError

LIBRARIES = ("diffusers", "transformers")  # whose classes a part may have: no module of the folder's choice is imported
REFUSED = {  # what a class's name holds: what it does, and the way out
    r"ControlNet|T2IAdapter|Control": "draws along a second image; give the folder of the model under it",
    r"Inpaint|Fill|PaintByExample": "fills a hole in an image, and reads the hole, too; give the model that it was grown from",
    r"Upscale|SuperResolution": "enlarges images and reads the small one; give a model that draws images from noise",
    r"^(IF|Kandinsky|StableCascade|Wuerstchen|UnCLIP|DeepFloyd)": "is a cascade of several diffusion models; give one that draws "
    "in one (Stable Diffusion, SD3, FLUX, SANA, PixArt, DiT)",
    r"Video|Animat|Wan|LTX|Mochi|Allegro|Latte|I2V|Cosmos|SkyReels|Helios": "draws videos; give a model of images",
    r"Audio|Music|AceStep": "makes sound; give a model of images",
    r"Img2Img|Pix2Pix|Depth2|Kontext|Edit|ImageVariation|Redux": "changes an image that it reads beside the noise; give the "
    "model that draws from noise alone (an Img2Img folder has its parts: write its class without Img2Img into model_index.json)",
    r"Refiner|ScoreSde|KarrasVe|ConsistencyModelPipeline": "walks by another process than noise in steps or flow matching; give "
    "another model",
}
BY_NETWORK = {"UNet2DModel": "DDPMPipeline", "DiTTransformer2DModel": "DiTPipeline", LEGACY: "DiTPipeline"}


class Index(NamedTuple):
    """A pipeline's folder, understood."""

    folder: Path
    name: str  # of its class in diffusers
    family: Family
    parts: Mapping[str, str]  # folder of a part -> its class
    settings: Mapping[str, Any]  # what else model_index.json says

    def part(self, name: str) -> Path:
        """The folder of a part; the folder itself where a network lies there alone, as in google/ddpm-cat-256."""
        inside = self.folder / name
        return inside if inside.is_dir() or not (self.folder / "config.json").is_file() else self.folder


def read_index(folder: Path) -> Index:
    """The pipeline in a folder. Raises UserError for a class that cannot be a prior, saying why and what can, and for a part of a
    foreign library; FileNotFoundError for a folder without a pipeline.
    """
    file = folder / "model_index.json"
    content = read_json(file) if file.is_file() else _without_index(folder)
    name = content.get("_class_name")
    if not isinstance(name, str) or name not in FAMILIES:
        raise UserError(f"{file}: {_refusal(name)}")
    family = FAMILIES[name]
    named = {part: value for part, value in content.items() if isinstance(value, list) and len(value) == 2}
    parts = {
        part: _class(file, part, value) for part, value in named.items() if value != [None, None] and part in _needed(family)
    }
    for part in _needed(family):
        if part not in parts and part not in (*family.optional, *(family.text[text] for text in family.optional)):
            raise UserError(f"{file}: {name} has no {part}; give a whole pipeline, not one of which parts were left out")
    return Index(folder, name, family, parts, {key: value for key, value in content.items() if key not in named})


def _needed(family: Family) -> tuple[str, ...]:
    autoencoder = () if family.autoencoder is None else (family.autoencoder,)
    return (family.part, "scheduler", *autoencoder, *family.text, *family.text.values())


def _class(file: Path, part: str, value: list[Any]) -> str:
    library, name = value
    if library not in LIBRARIES and OURS.get(name) != library:
        raise UserError(
            f"{file}: {part} is {name} of {library!r}; parts of {' and '.join(LIBRARIES)} alone are read, so that no code that a "
            "folder names is run"
        )
    return str(name)


def _without_index(folder: Path) -> dict[str, Any]:
    """A folder of parts alone: the class by its network."""
    for part in ("unet", "transformer", ""):
        file = folder / part / "config.json"
        if file.is_file():
            kind = str(read_json(file).get("_class_name"))
            if kind not in BY_NETWORK:
                raise UserError(f"{file}: a {kind} alone is no prior; give the whole folder, with model_index.json")
            name, known = BY_NETWORK[kind], {"scheduler": ["diffusers", ""], part or "unet": ["diffusers", kind]}
            autoencoder = FAMILIES[name].autoencoder
            if autoencoder is None:
                return {"_class_name": name, **known}
            of_autoencoder = folder / autoencoder / "config.json"
            if not of_autoencoder.is_file():
                raise FileNotFoundError(f"{of_autoencoder} is missing; the {kind} of {folder} sees latents: put it there")
            return {"_class_name": name, **known, autoencoder: ["diffusers", str(read_json(of_autoencoder)["_class_name"])]}
    raise FileNotFoundError(
        f"there is no pipeline in {folder}: neither model_index.json nor unet/ or transformer/ with a config.json; give a folder "
        "as diffusers' save_pretrained writes it, or turn a single file into one with `cfx import-prior`"
    )


def _refusal(name: object) -> str:
    if not isinstance(name, str):
        return f"_class_name is {name!r}: a pipeline with code of its own, which is not run; give one of diffusers' own"
    why = next((why for pattern, why in REFUSED.items() if re.search(pattern, name)), "is not known here")
    return f"{name} {why}; what can be a prior: {', '.join(FAMILIES)}"
