"""cfx audits image classifiers with counterfactual explanations."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from warehouse.lens.notebook import Warehouse

__version__ = "0.2.0"  # pyproject.toml reads it here


def open(warehouse: str | Path = "cfx-demo/warehouse") -> Warehouse:
    """A warehouse to ask in a notebook: `cfx.open("cfx-demo/warehouse").sql("from scorecard")` is a pandas frame.

    Raises FileNotFoundError where there is none.

    Examples:
        >>> open("nowhere")
        Traceback (most recent call last):
            ...
        FileNotFoundError: there is no warehouse at nowhere; `cfx demo` makes one at cfx-demo/warehouse
    """
    from warehouse.lens.notebook import Warehouse  # when it is asked for: nothing else of cfx needs the warehouse

    return Warehouse(warehouse)
