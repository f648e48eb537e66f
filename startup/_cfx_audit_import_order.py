"""Which `cfx`, `warehouse`, `tasks` and `flows` are meant: a copy of this product, not what lies in the current folder.

Python looks first where a person works (`python -c`, `python -m`, notebooks, workers of Prefect, Dask and Ray), and their own
`tasks.py` or their folder `warehouse/` must not break an audit. The search for these four names, and for nothing else, passes
over places that hold no copy. The .pth file of this name, installed beside the packages, has this done when Python starts
(Python's documentation, module `site`); so this file imports next to nothing.
"""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec, PathFinder
from os.path import isfile, join

PACKAGES = ("cfx", "warehouse", "tasks", "flows")
MARKS = [join(name, "py.typed") for name in PACKAGES]  # what a place has that holds a copy; folders of data have none


class CopyFinder:
    """Finds the packages in the first place of `sys.path` that holds a copy: an installation, a checkout, PYTHONPATH."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name not in PACKAGES:
            return None
        places = (place for place in sys.path if isinstance(place, str))
        copy = next((place for place in places if all(isfile(join(place, mark)) for mark in MARKS)), None)
        return None if copy is None else PathFinder.find_spec(name, [copy])


sys.meta_path.insert(0, CopyFinder)
