"""Weights of networks: found in files of any layout, fitted strictly, and written with the facts about them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import uuid4

import safetensors.torch
from pydantic import AfterValidator, ConfigDict, Field, FiniteFloat, TypeAdapter, ValidationError, with_config
from torch import Tensor, nn
from typing_extensions import TypedDict

from cfx.errors import UserError
from cfx.images import LARGEST_SIDE
from cfx.state_dict import Leaf, Place, chosen, is_optimizer, leaves, mismatch, nearest, under, wrong_numbers
from cfx.weights_file import read_content, read_metadata

WRAPPERS = ("state_dict", "model_state_dict", "model", "ema")  # names under which weights are where no network says what fits


def _above_zero(std: tuple[float, ...]) -> tuple[float, ...]:
    if min(std) <= 0:
        raise ValueError(f"std is {std}; every channel needs a number above 0")
    return std


def _one_or_three(values: tuple[float, ...]) -> tuple[float, ...]:
    if len(values) not in (1, 3):
        raise ValueError(f"{len(values)} numbers, where one or three channels have them")
    return values


OfChannels = Annotated[tuple[FiniteFloat, ...], AfterValidator(_one_or_three)]


@with_config(ConfigDict(extra="allow"))  # `repair` and the like
class Facts(TypedDict, total=False):
    """What cfx writes about a network beside its weights, all JSON values; a hub gives some of them, too."""

    module: str  # package.module:factory
    kwargs: dict[str, object]  # the factory's arguments
    classes: list[str]  # of a classifier, in the order of the logits
    attributes: list[str]  # of an oracle
    input_size: Annotated[int, Field(ge=1, le=LARGEST_SIDE)] | None  # side, pixels
    published_size: int | None  # side that a hub's own weights were made for, pixels
    crop: Annotated[float, Field(gt=0, le=1)]  # share of the side of an image that it sees, the centre
    published_crop: float  # the same of what a hub's own weights were made for
    squeezes: bool  # whether what it saw before squeezed images that are not square
    resample: str  # how images are brought to its size, as torch calls it
    channels: Literal[1, 3]
    mean: OfChannels  # of the normalisation, on [0, 1]; one number a channel
    std: Annotated[OfChannels, AfterValidator(_above_zero)]
    training: dict[str, object]  # its settings
    accuracy: Any  # on what was held out: a number, or for an oracle one by attribute
    robust_accuracy: float  # likewise, under attack
    data: dict[str, object]  # how many images it was trained on, and what of the table was not
    width: int  # of autoencoders, channels
    code: int
    pairs: list[tuple[int, int]]  # of an editor: source and target, class ids
    bounds: list[float]  # of its proposals


_FACTS = TypeAdapter(Facts)


def load_weights(
    network: nn.Module, path: Path, module: str, key: str | None = None, allow_pickle: bool = False
) -> tuple[str, ...]:
    """Fill the network with its weights from a file, wherever in it they are, and return what a user should know about that.

    `module`: what errors call the network. `key`: the dotted name in the file at or under which the weights are, where several
    fit. Raises FileNotFoundError without the file, and UserError for one that cannot be read (`cfx.weights_file`), whose weights
    do not fit, or where more than one place fits.
    """
    found, wanted = _tensors(path, allow_pickle), network.state_dict()
    places = nearest(found if key is None else under(found, key, path), wanted)
    _load(network, places[0], path, module, wanted)
    place, notes = chosen(places, path, explicit=key is not None)
    if place is not places[0]:
        _load(network, place, path, module, wanted)
    return notes


def fit(network: nn.Module, state: Mapping[str, Tensor], source: Path, module: str) -> None:
    """Load every weight into the network. Raises UserError naming what is missing, unexpected or misshapen, the first of each."""
    wanted = network.state_dict()
    _load(network, nearest([Leaf("", name, value) for name, value in state.items()], wanted)[0], source, module, wanted)


def _load(network: nn.Module, place: Place, source: Path, module: str, wanted: Mapping[str, Tensor]) -> None:
    if quantised := wrong_numbers(place.tensors, wanted):
        raise UserError(f"{source}: {quantised}")
    try:
        network.load_state_dict(place.tensors, strict=True)
    except RuntimeError as error:
        why = mismatch(_as_torch_says(network, place), wanted) if place.problems else str(error)
        raise UserError(f"the weights in {source} are not those of {module}: {why}") from error


def _as_torch_says(network: nn.Module, place: Place) -> Place:
    """The place less the names that a network of its own accord renames or drops."""
    fitting = {name: value for name, value in place.tensors.items() if name not in place.misshapen}
    left = network.load_state_dict(fitting, strict=False)
    missing = [name for name in left.missing_keys if name not in place.misshapen]
    return place._replace(missing=missing, unexpected=list(left.unexpected_keys))


def read_state_dict(path: Path, allow_pickle: bool = False) -> dict[str, Tensor]:
    """The weights in a file by name, where no network says what fits: under one of WRAPPERS, or else all there are.

    Without the "module." of DataParallel and the like. Raises UserError for a file that holds no weights, or that needs
    unpickling, which runs code, unless `allow_pickle`; FileNotFoundError if there is no file.
    """
    found = _tensors(path, allow_pickle)
    while inner := next((name for name in WRAPPERS if any(leaf.table.split(".")[0] == name for leaf in found)), None):
        found = [leaf._replace(table=leaf.table.partition(".")[2]) for leaf in found if leaf.table.split(".")[0] == inner]
    return {leaf.plain: leaf.value for leaf in found if leaf.path != "n_averaged"}


def _tensors(path: Path, allow_pickle: bool) -> list[Leaf]:
    content = read_content(path, allow_pickle)
    try:
        found = list(leaves(content))
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    if not found:
        raise UserError(f"{path} holds no state dict: {_instead(content)}; save network.state_dict()")
    return found


def _instead(content: object) -> str:
    """What was saved that has no weights in it."""
    if not isinstance(content, Mapping):
        return f"it is a {type(content).__name__}"
    if is_optimizer(content) or any(is_optimizer(value) for value in content.values()):
        return "only an optimizer's state"
    first = next(iter(content.items()), None)
    return "it is empty" if first is None else f"{first[0]!r} is a {type(first[1]).__name__}"


def read_facts(path: Path) -> Facts:
    """What cfx wrote about a network beside its weights (`save_network`); empty for a file from elsewhere.

    Raises as `read_content` does, and UserError for facts that cfx never writes: they come with the weights, from anybody.
    """
    try:
        return _FACTS.validate_json(read_metadata(path).get("cfx", "{}"))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "all of it"
        raise UserError(
            f"{path}: what stands beside its weights is not as cfx writes it ({place}: {first['msg']}); copy or download the "
            "file again"
        ) from error


def save_network(path: Path, network: nn.Module, facts: Facts) -> Path:
    """Write weights and facts (JSON values) to a .safetensors file, whole or not at all, and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return _write(path, {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}, facts)


def add_facts(path: Path, more: Facts) -> Path:
    """Add facts to what `save_network` wrote, and return its path."""
    return _write(path, safetensors.torch.load_file(path), read_facts(path) | more)


def _write(path: Path, state: Mapping[str, Tensor], facts: Facts) -> Path:
    temporary = path.with_name(f".{uuid4().hex}.tmp")
    temporary.write_bytes(safetensors.torch.save(dict(state), metadata={"cfx": json.dumps(facts, sort_keys=True)}))
    os.replace(temporary, path)
    return path
