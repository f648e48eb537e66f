"""Which file holds an image's rows of a fact: then its pictures are read in milliseconds, however large the warehouse is."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from threading import Lock

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from warehouse.explorer.lenses import state_of
from warehouse.facts.shards import shard_path
from warehouse.facts.storage import Root, files_below
from warehouse.lens.fetch import Row, fetch

BYTES_KEPT = 128 * 2**20  # of shards in memory: the pictures of a page often lie side by side


class ShardIndex:
    """Rows by fact, run and image. A file is looked through once, when an image of its run is first asked for."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._finding, self._reading = Lock(), Lock()
        self._seen: dict[tuple[str, str], object] = {}
        self._paths: dict[Root, int] = {}
        self._read: OrderedDict[tuple[Root, tuple[str, ...]], pa.Table] = OrderedDict()
        self._con = duckdb.connect(":memory:", config={"threads": 1})
        self._con.execute("create table located (fact varchar, run_id varchar, image_id varchar, file integer)")

    def rows(self, fact: str, run_id: str, image_id: str, *columns: str) -> list[Row]:
        """The rows of a fact about one image, with these columns. Raises UserError for a run id that cannot be one."""
        self._look_through(fact, run_id)
        sql = "select file from located where fact = $fact and run_id = $run and image_id = $image order by file"
        paths = list(self._paths)
        found: list[Row] = []
        for row in fetch(self._con.cursor(), sql, fact=fact, run=run_id, image=image_id):
            table = self._table(paths[row["file"]], ("image_id", *columns))
            found += table.filter(pc.equal(table["image_id"], image_id)).select(columns).to_pylist()
        return found

    def runs(self, fact: str, image_id: str) -> list[str]:
        """The runs that have rows of a fact about this image."""
        for folder in (self._root / "facts" / fact).glob("run_id=*"):
            self._look_through(fact, folder.name.removeprefix("run_id="))
        sql = "select distinct run_id from located where fact = $fact and image_id = $image order by run_id"
        return [row["run_id"] for row in fetch(self._con.cursor(), sql, fact=fact, image=image_id)]

    def _look_through(self, fact: str, run_id: str) -> None:
        folder = shard_path(self._root, fact, run_id, "any").parent
        with self._finding:
            state = state_of(self._root, (run_id,), (fact,))
            if self._seen.get((fact, run_id)) == state:
                return
            for path in files_below(folder, "[!.]*.parquet"):
                if path not in self._paths:
                    ids = _columns(path, ("image_id",))["image_id"].unique()
                    self._con.register("ids", pa.table({"image_id": ids}))
                    values = {"fact": fact, "run": run_id, "file": len(self._paths)}
                    self._con.execute("insert into located select $fact, $run, image_id, $file from ids", values)
                    self._con.unregister("ids")
                    self._paths[path] = len(self._paths)
            self._seen[fact, run_id] = state

    def _table(self, path: Root, columns: tuple[str, ...]) -> pa.Table:
        """These columns of a file, kept in memory for as long as there is room."""
        with self._reading:
            table = self._read.pop((path, columns), None)
        if table is None:
            table = _columns(path, columns)
        with self._reading:
            self._read[path, columns] = table
            room = BYTES_KEPT - sum(other.nbytes for other in self._read.values())
            while room < 0 and len(self._read) > 1:
                room += self._read.popitem(last=False)[1].nbytes
        return table


def _columns(path: Root, columns: tuple[str, ...]) -> pa.Table:
    """Columns of a file; one that an older version did not write is null."""
    with path.open("rb") as file, pq.ParquetFile(file) as parquet:
        there = parquet.schema_arrow.names
        table = parquet.read(columns=[name for name in columns if name in there])
    for name in columns:
        if name not in there:
            table = table.append_column(name, pa.nulls(len(table)))
    return table
