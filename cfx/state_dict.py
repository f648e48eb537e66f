"""Where in a file a network's weights are: found by their names and shapes, whatever they were wrapped in.

People save state dicts under any name, beside other things, with the prefixes of DataParallel, torch.compile or Lightning. A
place in the file is a beginning of names; it fits if what follows it are the network's names, each with its shape, and no other.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from cfx.errors import UserError

PARALLEL = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module"}  # torch's wrappers
AVERAGED = re.compile(r"(^|[._-])(ema|swa|avg|averaged?|shadow|polyak)\d*([._-]|$)", re.IGNORECASE)  # names of averaged weights
DEEPEST = 100  # mappings in one another
SHOWN = 3  # names of each kind in a message
COUNTER = "num_batches_tracked"  # files from before torch 0.4.1 have none, and torch does without


class Leaf(NamedTuple):
    """A tensor in a file."""

    table: str  # dotted path of the mapping that it is in; empty for the outermost
    name: str  # its name there
    value: Tensor

    @property
    def path(self) -> str:
        """Its whole name."""
        return _joined(self.table, self.name)

    @property
    def plain(self) -> str:
        """Its whole name without torch's wrappers."""
        return _joined(self.table, _plain(self.name))


class Place(NamedTuple):
    """A beginning of names in a file, and how what follows it differs from a network's state dict."""

    prefix: str
    tensors: dict[str, Tensor]  # by the network's own names where it has them
    missing: list[str]
    unexpected: list[str]
    misshapen: dict[str, tuple[tuple[int, ...], tuple[int, ...]]]  # in the file, in the network
    beside: list[str]  # what else is in its mapping
    elsewhere: list[str]  # other mappings with tensors

    @property
    def problems(self) -> int:
        """How many names do not fit."""
        return len(self.missing) + len(self.unexpected) + len(self.misshapen)


def leaves(content: object, table: str = "", depth: int = 0) -> Iterator[Leaf]:
    """Every tensor that was saved under a name. An optimizer's state is none of a network's and left out.

    Raises UserError for mappings in mappings without end: what is unpickled may hold itself.
    """
    if depth > DEEPEST:
        raise UserError(f"more than {DEEPEST} mappings stand in one another, so these are no weights: {table[:60]} …")
    if isinstance(content, nn.Module):
        content = content.state_dict()
    if isinstance(content, list | tuple) and all(isinstance(part, Mapping | nn.Module) for part in content):
        content = dict(enumerate(content))
    if not isinstance(content, Mapping) or is_optimizer(content):
        return
    for name, value in content.items():
        if isinstance(value, Tensor):
            yield Leaf(table, str(name), value)
        else:
            yield from leaves(value, _joined(table, str(name)), depth + 1)


def is_optimizer(content: object) -> bool:
    """Whether this is what an optimizer's state_dict gives."""
    return isinstance(content, Mapping) and "param_groups" in content


def under(found: list[Leaf], key: str, source: Path) -> list[Leaf]:
    """What is at or below `key`, a dotted name in the file `source`. Raises UserError naming what there is."""
    inside = [leaf for leaf in found if leaf.path.startswith(f"{key}.") or leaf.plain.startswith(f"{key}.")]
    if not inside:
        there = dict.fromkeys(leaf.table or leaf.name.partition(".")[0] for leaf in found)
        raise UserError(f"{source} holds no weights under `key: {key}`; it has {_some(list(there))}")
    return inside


def nearest(found: list[Leaf], wanted: Mapping[str, Tensor]) -> list[Place]:
    """The places in a file whose names and shapes differ least from those of a network's state dict, equally little each; never
    none."""
    own, stem = _own_names(wanted)
    prefixes = {prefix: None for leaf in found for prefix in _prefixes(leaf.plain, own)} or {"": None}
    places = [_place(found, prefix, own, stem, wanted) for prefix in prefixes]
    least = min(place.problems for place in places)
    return sorted((place for place in places if place.problems == least), key=lambda place: place.prefix.count("."))


def chosen(places: list[Place], source: Path, explicit: bool) -> tuple[Place, tuple[str, ...]]:
    """The place in the file `source` whose weights to load, and what a user should know; `explicit`: the user named it.

    Of weights and their running average, the weights. Raises UserError where two places fit and differ, or where the network is
    part of what was saved.
    """
    different = _different(places)
    raw = [place for place in different if not AVERAGED.search(place.prefix)]
    if len(different) > 1 and len(raw) != 1:
        raise UserError(f"{source} holds weights of this network under {_names(different)}, which differ; choose one with `key`")
    place = raw[0] if len(different) > 1 else different[0]
    fitting = [other.prefix for other in places]
    beside, elsewhere = (
        [name for name in names if not any(f"{name}.".startswith(f"{prefix}.") for prefix in fitting)]
        for names in (place.beside, place.elsewhere)
    )
    if beside and not explicit:
        raise UserError(
            f"the network is a part of what {source} holds: {place.prefix!r} fits, but {_some(beside)} would be left out; if "
            f"that is right set `key: {place.prefix}`"
        )
    notes = []
    if len(different) > 1:
        notes = [f"{source}: {_names(different)} hold different weights; {place.prefix!r} is used, `key` chooses another"]
    if elsewhere and not explicit:
        notes.append(
            f"{source}: {place.prefix!r} is used, weights under {_some(elsewhere)} are not; `key: {place.prefix}` says so"
        )
    return place, tuple(notes)


def mismatch(place: Place, wanted: Mapping[str, Tensor]) -> str:
    """How a place differs from a network: counts, some names, and the likeliest reason."""
    parts = [
        f"{len(names)} {'key is' if len(names) == 1 else 'keys are'} {kind} ({_some(names)})"
        for kind, names in (("missing", place.missing), ("unexpected", place.unexpected))
        if names
    ]
    if place.misshapen:
        shapes = [f"{name} is {list(a)} in the file and {list(b)} in the network" for name, (a, b) in place.misshapen.items()]
        parts.append(f"{len(shapes)} of another shape: " + "; ".join(shapes[:SHOWN]) + (" …" if len(shapes) > SHOWN else ""))
    return "; ".join(parts) + f". {_reason(place, wanted)}"


def wrong_numbers(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str | None:
    """The first tensor of whole or quantised numbers that would fill one of floating point, if any: its scale would be lost."""
    for name, value in tensors.items():
        if name in wanted and wanted[name].is_floating_point() and not value.is_floating_point():
            kind = str(value.dtype).removeprefix("torch.")
            return f"{name} is {kind}, so the weights are quantised; save those of the network before that"
    return None


def _reason(place: Place, wanted: Mapping[str, Tensor]) -> str:
    names = list(wanted)
    matrices = [name for name in names if wanted[name].ndim > 1]
    if not place.tensors.keys() & wanted.keys():
        return "No name is the network's: these are another architecture's weights, or none"
    if len(place.missing) > len(names) / 2:
        return "Most names are missing: is it another architecture, or another size of it?"
    for name, (saved, own) in place.misshapen.items():
        if matrices[:1] == [name] and len(saved) == len(own) == 4 and saved[1] != own[1]:
            return f"Its first layer was made for {saved[1]} channels, the network's for {own[1]}"
        if matrices[-1:] == [name] and saved[1:] == own[1:]:
            return f"Its last layer gives {saved[0]} outputs, the network's {own[0]}: set that number in `kwargs`, and `classes`"
        if "pos_embed" in name or "position" in name:
            return "Positions differ: it was made for another size of image or patch"
    if place.missing and not place.unexpected and set(matrices[-1:]) & set(place.missing):
        return "The last layer is missing: these are a backbone's weights, without a head"
    if any("lora_" in name for name in place.unexpected):
        return "They are those of a LoRA adapter: merge it into its network first"
    return "Check `module` and `kwargs`"


def _own_names(wanted: Mapping[str, Tensor]) -> tuple[dict[str, str], str]:
    """Short name -> the network's own, without torch's wrappers and without what all of them begin with, which comes second."""
    plain = {_plain(name): name for name in wanted}
    if len(plain) < len(wanted):
        plain = {name: name for name in wanted}
    stem = ""
    while len({name.partition(".")[0] for name in plain}) == 1 and all("." in name for name in plain):
        stem += next(iter(plain)).partition(".")[0] + "."
        plain = {name.partition(".")[2]: own for name, own in plain.items()}
    return plain, stem


def _prefixes(path: str, own: Mapping[str, str]) -> Iterator[str]:
    parts = path.split(".")
    for length in range(len(parts)):
        if ".".join(parts[length:]) in own:
            yield ".".join(parts[:length])


def _place(found: list[Leaf], prefix: str, own: Mapping[str, str], stem: str, wanted: Mapping[str, Tensor]) -> Place:
    begins = f"{prefix}." if prefix else ""
    inside = {leaf.plain.removeprefix(begins): leaf for leaf in found if leaf.plain.startswith(begins)}
    kept = {name: leaf.value for name, leaf in inside.items() if name in own or not _is_counter(leaf.value)}
    tensors = {own.get(name, stem + name): value for name, value in kept.items()}
    misshapen = {
        name: (tuple(value.shape), tuple(wanted[name].shape))
        for name, value in tensors.items()
        if name in wanted and value.shape != wanted[name].shape
    }
    missing = [name for name in wanted if name not in tensors and not name.endswith(COUNTER)]
    unexpected = [name for name in tensors if name not in wanted]
    tables = {leaf.table for leaf in inside.values()}
    out = [leaf for leaf in found if not leaf.plain.startswith(begins) and not _is_counter(leaf.value)]
    beside = [leaf.path for leaf in out if leaf.table in tables]
    other = [leaf for leaf in out if leaf.table not in tables and leaf.value.ndim > 1 and "." in leaf.path]  # not just a score
    elsewhere = dict.fromkeys(leaf.table or leaf.name.partition(".")[0] for leaf in other)
    return Place(prefix, tensors, missing, unexpected, misshapen, beside, list(elsewhere))


def _is_counter(value: Tensor) -> bool:
    return value.numel() == 1 and not value.is_floating_point()


def _plain(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in PARALLEL)


def _different(places: Iterable[Place]) -> list[Place]:
    """The places without those that hold what an earlier one holds."""
    different: list[Place] = []
    for place in places:
        if not any(_equal(place.tensors, other.tensors) for other in different):
            different.append(place)
    return different


def _equal(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def _joined(table: str, name: str) -> str:
    return f"{table}.{name}" if table else name


def _names(places: Iterable[Place]) -> str:
    return ", ".join(repr(place.prefix) for place in places)


def _some(names: list[str]) -> str:
    return ", ".join(f'"{name}"' for name in names[:SHOWN]) + (" …" if len(names) > SHOWN else "")
