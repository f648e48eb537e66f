"""Modules beside a file of settings: found there whatever the current folder is, and those of one file are not another's."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType


class _Beside(MetaPathFinder):
    """Finds modules in one folder: before those of the current folder, behind what is installed."""

    folder: str | None = None

    def __init__(self) -> None:
        self.found: set[str] = set()  # top-level modules that came from this folder
        self.named: set[str] = set()  # top-level modules that settings have named, wherever they were found

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if path is not None or self.folder is None:
            return None
        spec = PathFinder.find_spec(name, [self.folder])
        if spec is None or _installed(name):
            return None
        if spec.loader is None:  # a folder without __init__.py: its place is this one, whatever is on sys.path later
            spec.submodule_search_locations = [os.path.join(self.folder, name)]
        self.found.add(name)
        return spec


BESIDE = _Beside()


def look_beside(folder: str | Path | None) -> None:
    """From now on a module in this folder is found before one in the current folder, where no installed one has its name.

    There is one such folder at a time: modules of the one before it, which may have the same names, are forgotten. None, of what
    was read in no folder, changes nothing.
    """
    if folder is None:
        return
    if BESIDE not in sys.meta_path:
        sys.meta_path.insert(sys.meta_path.index(PathFinder), BESIDE)
    if str(folder) != BESIDE.folder:
        _forget(BESIDE.found)
        BESIDE.folder, BESIDE.found = str(folder), set()
        importlib.invalidate_caches()
        _forget({name for name in BESIDE.named if BESIDE.find_spec(name) is not None})  # those of the current folder


def searched() -> str:
    """The folders that a user's module is looked for in, in words."""
    folders = [BESIDE.folder, *(os.getcwd() for place in sys.path if place in ("", os.getcwd()))]
    return " and ".join(dict.fromkeys(folder for folder in folders if folder)) or "no folders"


def _installed(name: str) -> bool:
    """Whether a module of this name is Python's own or on the path, the current folder left out."""
    elsewhere = [place for place in sys.path if place not in ("", os.getcwd())]
    return name in sys.stdlib_module_names or PathFinder.find_spec(name, elsewhere) is not None


def _forget(names: set[str]) -> None:
    """These modules and what is in them are imported anew when they are needed next."""
    for name in [name for name in sys.modules if name.partition(".")[0] in names]:
        del sys.modules[name]
