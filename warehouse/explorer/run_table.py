"""The explanations of a run as one table in memory: a page of a gallery counts and sorts all of them a dozen times."""

from __future__ import annotations

from collections import OrderedDict
from contextlib import closing
from pathlib import Path
from threading import Lock

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cfx.errors import UserError
from warehouse.explorer.lenses import state_of
from warehouse.facts.schema import FACTS
from warehouse.facts.shards import shard_path
from warehouse.facts.storage import Root, files_below
from warehouse.lens.catalog import view_sql
from warehouse.lens.connect import open_runs
from warehouse.lens.fetch import Row, fetch
from warehouse.lens.scans import columns_of, identifier
from warehouse.lens.wholeness import Wholeness, refuse_among, refuse_damaged
from warehouse.report.names import Names

READ = ("runs", "explanations", "attributes", "images", "predictions", "properties", "place_claims")  # what a table is made of
WORDS = {"outcome": ("flipped", "not flipped"), "judge": ("agrees", "disagrees"), "answer": ("right", "wrong")}
FACETS = (*WORDS, "label", "source", "target", "method", "seed", "split", "attempt", "way")  # columns of words
NUMBERS = ("FLOAT", "DOUBLE", "TINYINT", "INTEGER", "BIGINT")
KEPT = 4  # tables in memory: runs that are looked at by turns
RUN = "from runs where run_id = $run"
GRID = "select max(grid) as grid from place_claims where run_id = $run"
# An attribute's p_ and q_ get names of their own: p_target is the classifier's, and an attribute may be called target.
SHOWN = r"""
select
    *,
    if(flipped, 'flipped', 'not flipped') as outcome,
    case when judge_flipped then 'agrees' when not judge_flipped then 'disagrees' end as judge,
    case when correct then 'right' when not correct then 'wrong' end as answer
from (select * exclude (run_id) from outcomes where run_id = $run)
left join (
    select
        image_id, method, seed,
        columns('^p_(.*)$') as "before_\1", columns('^q_(.*)$') as "after_\1", columns('^d_'), columns('^c_')
    from attributes where run_id = $run and arm = 'guided'
) using (image_id, method, seed)
left join (select image_id, columns('^m_') from properties where run_id = $run) using (image_id)
"""


class RunTable:
    """A run's guided explanations: tables `shown`, their outcomes and attributes, and `marks`, what reviewers say of them.

    A column of `shown` that is null everywhere is left out. Beside those of `outcomes` there are, by attribute, before_ and
    after_ (the oracle's probability of it), d_ (its change) and c_ (-1, 0 or 1: whether it crossed one half); `crossed`, how many
    did; and outcome, judge and answer in words. `attributes` has those first that change most often; `grid`, how many
    places a side of the image has in transplants, None without.
    """

    def __init__(self, run: Row, shown: pa.Table, grid: int | None) -> None:
        kept = [name for name, column in zip(shown.column_names, shown.columns, strict=True) if column.null_count < len(shown)]
        self.run, self.total, self.grid = run, len(shown), grid
        self.names = Names.of(run)
        self.left_out = tuple(name for name in shown.column_names if name not in kept)
        changes = {name[2:]: pc.sum(pc.abs(shown[name])).as_py() for name in kept if name.startswith("c_")}
        self.attributes = tuple(sorted(changes, key=lambda name: -changes[name]))
        self._con = duckdb.connect(":memory:", config={"threads": 1})
        self._reading = Lock()
        self._read: set[str] = set()
        self._reviewed: object = None
        crossed = " + ".join(f"abs({identifier('c_' + name)})" for name in self.attributes)
        self._create("shown", shown.select(kept) if kept else shown, f", ({crossed})::integer as crossed" if crossed else "")
        self._create("reviews", pa.schema([*FACTS["reviews"].schema, pa.field("run_id", pa.string())]).empty_table())
        self._con.execute(view_sql("marks"))
        self._con.execute("create schema facts")
        Wholeness().lay_out(self._con)
        self._create("runs", pa.table({"run_id": [run["run_id"]], "started": [run["started"]]}))
        self._con.execute("create view explanations as select run_id, image_id, method, seed from shown cross join runs")
        self.columns = tuple(name for name, _ in columns_of(self._con, "shown"))
        self.values = {name: self._values(name) for name in FACETS if name in kept}
        self.histograms: dict[str, tuple[int, ...]] = {}
        numbers = [name for name, kind in columns_of(self._con, "shown") if kind in NUMBERS]
        self.extents = {name: extent for name in numbers if (extent := self._extent(name)) is not None}

    def lens(self) -> duckdb.DuckDBPyConnection:
        """A lens with what a review of an explanation is held against, `runs` and `explanations` of this run, and no more."""
        return self._con.cursor()

    def fetch(self, sql: str, /, **values: object) -> list[Row]:
        """The rows of an answer about `shown` and `marks`. Safe for several threads."""
        return fetch(self._con.cursor(), sql, **values)

    def read_reviews(self, folder: Root, state: object) -> None:
        """Take in the reviews that came since the folder was last in another state; each is a file that is written once."""
        with self._reading:
            if state == self._reviewed:
                return
            con = self._con.cursor()
            new = [path for path in files_below(folder, "[!.]*.parquet") if path.name not in self._read]
            refuse_among(new)
            for path in new:
                with path.open("rb") as file, pq.ParquetFile(file) as parquet:
                    con.register("given", parquet.read())
                insert = "insert into reviews by name select *, $run as run_id from given"
                con.execute(insert, {"run": self.run["run_id"]})
                self._read.add(path.name)
            self._reviewed = state

    def _create(self, name: str, rows: pa.Table, more: str = "") -> None:
        self._con.register("given", rows)
        self._con.execute(f"create table {name} as select *{more} from given")
        self._con.unregister("given")

    def _values(self, name: str) -> dict[str, int]:
        """The values of a facet and how often each occurs, the most frequent first; of our own words also those that do not."""
        column = identifier(name)
        sql = f"select {column}::varchar, count(*) as n from shown where {column} is not null group by 1 order by n desc, 1"
        counts = dict(self._con.execute(sql).fetchall())
        return {word: counts.get(word, 0) for word in WORDS.get(name, counts)}

    def _extent(self, name: str) -> tuple[float, float] | None:
        """The least and the greatest value of a number; None where there are no two."""
        column = f"{identifier(name)}::double"
        ((low, high),) = self._con.execute(f"select min({column}), max({column}) from shown where isfinite({column})").fetchall()
        return (low, high) if low is not None and low < high else None


class RunTables:
    """The tables of the runs that were looked at last. Safe for several threads."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._lock = Lock()
        self._tables: OrderedDict[str, tuple[object, RunTable]] = OrderedDict()

    def of(self, run_id: str) -> RunTable:
        """The table of a run as its facts are now. Raises UserError for a run that is not there."""
        reviews = shard_path(self._root, "reviews", run_id, "any").parent
        state = state_of(self._root, (run_id,), READ)
        with self._lock:
            known, table = self._tables.pop(run_id, (None, None))
            if table is None or known != state:
                table = self._read(run_id)
            self._tables[run_id] = (state, table)
            while len(self._tables) > KEPT:
                self._tables.popitem(last=False)
        table.read_reviews(reviews, state_of(self._root, (run_id,), ("reviews",)))
        return table

    def _read(self, run_id: str) -> RunTable:
        with closing(open_runs(self._root, (run_id,), sql=f"{RUN};{SHOWN};{GRID}")) as lens:
            refuse_damaged(lens, run_id)
            found = fetch(lens, RUN, run=run_id)
            if not found:
                raise UserError(f"there is no run {run_id!r} in this warehouse")
            (places,) = fetch(lens, GRID, run=run_id)
            return RunTable(found[0], lens.execute(SHOWN, {"run": run_id}).to_arrow_table(), places["grid"])
