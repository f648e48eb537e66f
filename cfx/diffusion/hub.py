"""A model's folder: a local one, one that comes with cfx, or a hub id at one commit."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from pydantic_core import from_json

from cfx.errors import UserError

BUNDLED = "portraits:"
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
COMMIT = re.compile(r"[0-9a-f]{40}")
PARTS = ("unet", "transformer", "vae", "vqvae", "scheduler")  # where there is no model_index.json
UNUSED = ("safety_checker", "feature_extractor", "image_encoder")
TEXT = ("json", "txt", "model")  # configs, vocabularies, sentencepiece
HALF = ("*.fp16.*", "*.fp16-*", "*.bf16.*", "*.bf16-*")
_log = logging.getLogger("cfx.diffusion")


class Folder(NamedTuple):
    """Where a model lies on this machine."""

    path: Path
    commit: str | None  # of a hub id: which state of its repository this is


def model_folder(source: str, revision: str | None = None) -> Folder:
    """The folder of a model; of a hub id downloaded, or taken from the cache, at the commit that `revision` (a branch, a tag or
    the commit itself; default: main) means now.

    Only configs, vocabularies and safetensors are downloaded, no code. Warns, with the line to add, where the commit is not
    said. Raises FileNotFoundError where there is no such model, UserError for a revision of a local folder.
    """
    local = (
        Path(str(files("cfx") / "weights" / "portraits" / source.removeprefix(BUNDLED)))
        if source.startswith(BUNDLED)
        else Path(source)
    )
    if local.is_dir():
        if revision is not None:
            raise UserError(f"revision is {revision!r}, but {source} is a folder, which has none; take `revision` out")
        return Folder(local, None)
    if source.startswith(BUNDLED) or not HUB_ID.fullmatch(source):
        there = (
            ", ".join(f"{BUNDLED}{path.name}" for path in sorted(local.parent.glob("*"))) if source.startswith(BUNDLED) else ""
        )
        raise FileNotFoundError(
            f"there is no model {source!r}; {f'there are {there}' if there else 'give a folder, or a hub id (owner/name)'}"
        )
    path = _downloaded(source, revision)
    if revision != path.name:
        _log.warning(
            "%s was read as its commit %s; so that later runs read the same, add `revision: %s`",
            source,
            path.name[:12],
            path.name,
        )
    return Folder(path, path.name)


def _downloaded(source: str, revision: str | None) -> Path:
    """The snapshot's folder, which is named by its commit."""
    from huggingface_hub import hf_hub_download, snapshot_download
    from huggingface_hub.errors import EntryNotFoundError

    try:
        try:
            index = Path(hf_hub_download(source, "model_index.json", revision=revision))
            commit, parts = index.parent.name, parts_of(index)
        except EntryNotFoundError:  # a network and its scheduler alone
            commit, parts = revision, PARTS
        wanted = ["*.json", *(f"{part}/*.{end}" for part in parts for end in TEXT)]
        weights = [f"{part}/*.safetensors" for part in parts]
        path = Path(snapshot_download(source, revision=commit, allow_patterns=wanted + weights, ignore_patterns=list(HALF)))
        if lacking := [f"{part}/*.safetensors" for part in parts if _is_empty(path / part)]:
            snapshot_download(source, revision=path.name, allow_patterns=lacking)
        return path
    except (OSError, ValueError) as error:
        at = f" at revision {revision!r}" if revision else ""
        raise FileNotFoundError(
            f"{source!r} is no folder here, and as a hub id{at} it could not be had: {str(error).strip().splitlines()[0]}; give "
            f"a folder, or download it where there is a network (hf download {source}) and copy the cache"
        ) from error


def parts_of(index: Path) -> Iterable[str]:
    """The folders that a model_index.json names and a prior needs."""
    content = from_json(index.read_bytes())
    return [name for name, value in content.items() if isinstance(value, list) and None not in value and name not in UNUSED]


def _is_empty(part: Path) -> bool:
    return (part / "config.json").is_file() and not any(part.glob("*.safetensors"))
