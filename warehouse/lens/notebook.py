"""The door for notebooks: `cfx.open("warehouse")`, whose answers are data frames."""

from __future__ import annotations

import warnings
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from warehouse.facts.storage import warehouse_at
from warehouse.lens.connect import View, open_warehouse, query, views
from warehouse.lens.gate import check_run
from warehouse.lens.query_limits import GIB, Limits
from warehouse.lens.query_process import answer
from warehouse.report import plots
from warehouse.report.render import write_report

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


def notebook_limits(seconds: float, memory: float) -> Limits:
    """What a query of a notebook may take: seconds, and GiB of memory."""
    size = int(memory * GIB)
    return Limits(seconds, size, size // 2, longer="give more `seconds`", larger="give more `memory`")


class Warehouse:
    """One warehouse, read-only. Each query sees the facts that are there when it runs."""

    def __init__(self, root: str | Path) -> None:
        self.root = warehouse_at(root)
        if not self.root.is_dir():
            raise FileNotFoundError(f"there is no warehouse at {root}; `cfx demo` makes one at cfx-demo/warehouse")

    def __repr__(self) -> str:
        runs = query(self.root, "select run_id from runs order by started")["run_id"].to_pylist()
        return f"Warehouse({str(self.root)!r}), runs: {', '.join(runs) or 'none'}"

    def sql(self, sql: str, seconds: float = 300, memory: float = 1) -> pd.DataFrame:
        """The answer to one SELECT as a pandas frame.

        seconds, memory: what the query may take, memory in GiB (half as much for its answer); it runs in a process of its own.
        Raises what `warehouse.lens.query_process.answer` raises; warns of old names.
        """
        return self.arrow(sql, seconds, memory).to_pandas()

    def arrow(self, sql: str, seconds: float = 300, memory: float = 1) -> pa.Table:
        """The answer to one SELECT as an Arrow table; arguments as of `sql`."""
        found = answer(self.root, sql, limits=notebook_limits(seconds, memory))
        for note in found.notes:
            warnings.warn(note, FutureWarning, stacklevel=3)
        return found.rows

    def views(self) -> list[View]:
        """Every fact and view."""
        return views(self.root)

    def report(self, run_id: str) -> Path:
        """Write the report of a run and return its path. Raises UserError for an unknown run, with the runs there are."""
        return write_report(self.root, run_id)

    def plot_effects(self, run_id: str, ax: Axes | None = None) -> Axes:
        """What moves the answer when it alone is changed: each finding's intervention with its 95 % interval, in points."""
        return plots.plot_effects(self.root, self._known(run_id), ax)

    def plot_map(self, run_id: str, of: str | None = None, ax: Axes | None = None) -> Axes:
        """Where the answer comes from: effects of the places over the mean image. of: the class; default: the one moved most."""
        return plots.plot_map(self.root, self._known(run_id), of, ax)

    def plot_trend(self, audit: str, of: str = "accuracy", ax: Axes | None = None) -> Axes:
        """One quantity over the finished runs of an audit: accuracy, an attribute, a property … of the view `trend`."""
        return plots.plot_trend(self.root, audit, of, ax)

    def plot_cost(self, run_id: str, ax: Axes | None = None) -> Axes:
        """What the stages of an audit took."""
        return plots.plot_cost(self.root, self._known(run_id), ax)

    def _known(self, run_id: str) -> str:
        """The run. Raises UserError for one that is not there, with the runs there are."""
        with closing(open_warehouse(self.root, sql="from runs")) as lens:
            check_run(lens, self.root, run_id)
        return run_id
