"""Which `cfx`, `warehouse`, `tasks` and `flows` are meant: a copy of this product, not what lies in the current folder.

Python looks first where a person works (`python -c`, `python -m`, notebooks, workers of Prefect, Dask and Ray), and their own
`tasks.py` or their folder `warehouse/` must not break an audit. The search for these four names, and for nothing else, passes
over places that hold no copy. `import_order.pth`, beside the installed packages, has this done when Python starts (Python's
documentation, module `site`); so this file imports next to nothing.
"""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec, PathFinder
from os.path import isfile, join

PACKAGES = ("cfx", "warehouse", "tasks", "flows")
MARK = join("cfx", "import_order.py")  # this file: a place that has it has a copy


class CopyFinder:
    """Finds the packages in the first place of `sys.path` that holds a copy: an installation, a checkout, PYTHONPATH."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name not in PACKAGES:
            return None
        copies = [place for place in sys.path if isinstance(place, str) and isfile(join(place, MARK))]
        return PathFinder.find_spec(name, copies[:1]) if copies else None


sys.meta_path.insert(0, CopyFinder)
