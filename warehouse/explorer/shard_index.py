"""Which file holds an image's rows of a fact: then its pictures are read in milliseconds, however large the warehouse is."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from warehouse.explorer.lenses import state_of
from warehouse.facts.shards import shard_path
from warehouse.facts.storage import Root, files_below
from warehouse.lens.fetch import Row
from warehouse.lens.wholeness import refuse_among

BYTES_KEPT = 128 * 2**20  # of shards in memory: the pictures of a page often lie side by side


@dataclass
class _Files:
    """The files of a fact of a run; `hashes` of their image ids, sorted, and in which file each is: 12 bytes an image."""

    state: object = None
    paths: list[Root] = field(default_factory=list)
    hashes: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    places: NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))

    def holding(self, image_id: str) -> list[Root]:
        """The files that hold an image; among them may be one of another image with the same hash."""
        first, last = (int(np.searchsorted(self.hashes, hash(image_id), side)) for side in ("left", "right"))
        return [self.paths[place] for place in sorted(set(self.places[first:last].tolist()))]

    def add(self, path: Root, image_ids: list[str]) -> None:
        hashes = np.fromiter(map(hash, image_ids), np.int64, len(image_ids))
        places = np.full(len(image_ids), len(self.paths), np.int32)
        self.hashes, self.places = np.concatenate([self.hashes, hashes]), np.concatenate([self.places, places])
        self.paths.append(path)

    def sort(self) -> None:
        order = np.argsort(self.hashes, kind="stable")
        self.hashes, self.places = self.hashes[order], self.places[order]


class ShardIndex:
    """Rows by fact, run and image. A file is looked through once, when an image of its run is first asked for."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._finding, self._reading = Lock(), Lock()
        self._files: dict[tuple[str, str], _Files] = {}
        self._read: OrderedDict[tuple[Root, tuple[str, ...]], tuple[pa.Table, int]] = OrderedDict()
        self._bytes = 0

    def rows(self, fact: str, run_id: str, image_id: str, *columns: str) -> list[Row]:
        """The rows of a fact about one image, with these columns. Raises UserError for a run id that cannot be one."""
        found: list[Row] = []
        for path in self._of(fact, run_id).holding(image_id):
            table = self._table(path, ("image_id", *columns))
            found += table.filter(pc.equal(table["image_id"], image_id)).select(columns).to_pylist()
        return found

    def _of(self, fact: str, run_id: str) -> _Files:
        folder = shard_path(self._root, fact, run_id, "any").parent
        with self._finding:
            files = self._files.setdefault((fact, run_id), _Files())
            state = state_of(self._root, (run_id,), (fact,))
            if files.state != state:
                known, there = set(files.paths), files_below(folder, "[!.]*.parquet")
                refuse_among(there)
                for path in there:
                    if path not in known:
                        files.add(path, _columns(path, ("image_id",))["image_id"].unique().to_pylist())
                files.sort()
                files.state = state
            return files

    def _table(self, path: Root, columns: tuple[str, ...]) -> pa.Table:
        """These columns of a file, kept in memory for as long as there is room."""
        with self._reading:
            if (path, columns) in self._read:
                self._read.move_to_end((path, columns))
                return self._read[path, columns][0]
        table = _columns(path, columns)
        with self._reading:
            self._bytes -= self._read.pop((path, columns), (None, 0))[1]
            self._read[path, columns] = table, table.nbytes
            self._bytes += table.nbytes
            while self._bytes > BYTES_KEPT and len(self._read) > 1:
                self._bytes -= self._read.popitem(last=False)[1][1]
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
