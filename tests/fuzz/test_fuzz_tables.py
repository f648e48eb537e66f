"""Any bytes for a table or a data set's own lists: rows as they are written, or a refusal that names the file."""

from __future__ import annotations

import csv
import io
import json
import tarfile
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cfx.images import Refused
from tasks.data import files
from tasks.data.annotations import Annotations, annotations_of, columns_of, listing, sample_of, text_of
from tasks.data.formats import table_of
from tests.fuzz.bounds import answer, examples
from tests.fuzz.mutation import mutated

ROWS = [["a.png", "cat", "1", "train"], ["b.png", "dog", "0", "test"], ["c.png", "cat", "", "train"]]
HEAD = ["file", "label", "hat", "split"]
PIXEL = b"P5 8 8 255\n" + bytes(64)
cells = st.one_of(
    st.sampled_from(["", "1", "0", "yes", "NaN", "a.png", "../x", "/etc/passwd", "=1+1", '"', "\r", "\n", "\0", 
                     "‮", "\ud800", "é"]),
    st.text(max_size=6),
    st.just("x" * 70_000),
)  # fmt: skip


def as_csv(rows: list[list[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode(errors="replace")


def as_parquet(columns: dict[str, Any], note: bytes | None = None) -> bytes:
    buffer = io.BytesIO()
    table = pa.table(columns)
    pq.write_table(table if note is None else table.replace_schema_metadata({b"huggingface": note}), buffer)
    return buffer.getvalue()


PARQUET = as_parquet({name: [row[i] for row in ROWS] for i, name in enumerate(HEAD)})
NOTE = {"info": {"features": {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}}}
IMAGES = as_parquet({"image": [{"bytes": PIXEL, "path": None}] * 3, "label": [0, 1, -1]}, json.dumps(NOTE).encode())


def read(path: Path, content: bytes) -> None:
    """Every way to read a table of this name holds."""
    path.write_bytes(content)
    config = Annotations(table=path, label_column="label", split_column="split", split="train", limit=2)
    rows = answer(lambda: listing(config), "table" if path.suffix == ".csv" else "")
    if rows is not None:
        assert rows.column_names[:5] == ["row", "file", "again", "split", "label"] and 0 < len(rows) <= 2
        assert answer(lambda: columns_of(config)) is not None
        answer(lambda: sample_of(config))
    answer(lambda: text_of(path), path)
    answer(lambda: annotations_of(path, config), path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tables")


def test_a_csv_of_any_kind_is_a_table_or_refused(folder: Path) -> None:
    tables = st.builds(
        lambda head, rows: as_csv([head, *rows]), st.lists(cells, max_size=5), st.lists(st.lists(cells, max_size=5), max_size=4)
    )
    with_head = st.lists(st.lists(cells, min_size=4, max_size=4), min_size=1, max_size=4).map(lambda rows: as_csv([HEAD, *rows]))

    @examples(13, 3000)
    @given(st.one_of(with_head, tables, mutated(as_csv([HEAD, *ROWS])), st.binary(max_size=60)))
    @example(b"")
    @example(b'""\r')
    @example(b"file\n")
    @example(b"file,label,split\na,b," + b'"' * 1001)
    @example(b"," * 100_000 + b"\n")
    @example(as_csv([HEAD, *ROWS]).decode().encode("utf-16"))
    def holds(content: bytes) -> None:
        read(folder / "table.csv", content)

    holds()


@pytest.mark.parametrize("seed", [PARQUET, IMAGES], ids=["rows", "images"])
def test_a_mutated_parquet_file_is_a_table_or_refused(folder: Path, seed: bytes) -> None:
    @examples(6, 1500)
    @given(mutated(seed, range(max(0, len(seed) - 700), len(seed))))
    def holds(content: bytes) -> None:
        read(folder / "table.parquet", content)
        answer(partial(table_of, "parquet", folder, folder / "out" / "table.parquet"), folder)
        for row in ("0", "2", "3", "x", "1/image", "0/label"):
            files._groups.cache_clear()
            files._images.cache_clear()
            answer(partial(files.read, folder, f"table.parquet/{row}", 10_000))

    holds()


def test_a_parquet_file_of_any_types_is_a_table_or_refused(folder: Path) -> None:
    text = cells.map(lambda cell: cell.encode(errors="replace").decode())
    kinds = [st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(), text, st.binary(max_size=4), st.dates()]
    kinds += [st.lists(st.integers(0, 1), max_size=2), st.just({"a": 1})]
    column = st.one_of(*(st.lists(st.one_of(st.none(), kind), min_size=3, max_size=3) for kind in kinds))
    names = st.one_of(st.sampled_from(HEAD), st.text(max_size=3))
    notes = st.one_of(
        st.none(),
        st.binary(max_size=8),
        st.sampled_from(
            [
                b"[]",
                b"{",
                b'{"info": 1}',
                b'{"info": {"features": []}}',
                b'{"info": {"features": {"label": {"names": 1}}}}',
                b"[" * 9999,
            ]
        ),
    )

    @examples(10, 2000)
    @given(st.dictionaries(names, column, max_size=5), notes)
    def holds(columns: dict[str, Any], note: bytes | None) -> None:
        read(folder / "table.parquet", as_parquet(columns, note))
        answer(lambda: table_of("huggingface", folder, folder / "out" / "table.parquet"))

    holds()


def members(named: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in named.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


SAMPLE = {"0001.pgm": PIXEL, "0001.cls": b"1", "0001.json": b'{"hat": true, "age": 3}', "0002.pgm": PIXEL, "0002.cls": b"0"}
texts = st.one_of(
    st.sampled_from([b"", b"{", b"[]", b"[" * 9999, b"1" * 5000, b'{"hat": NaN}', b'{"file": 1}', b'{"a": "\\ud800"}', b"\xff"]),
    st.binary(max_size=9),
)


def test_a_tar_of_any_kind_is_a_data_set_or_refused(folder: Path) -> None:
    (folder / "tars").mkdir()
    changed = st.dictionaries(st.sampled_from([*SAMPLE, "../0003.pgm", "/0004.json", "a/b/0005.cls", "0006"]), texts, max_size=3)

    @examples(10, 2000)
    @given(st.one_of(changed.map(lambda more: members(SAMPLE | more)), mutated(members(SAMPLE), range(160))))
    def holds(content: bytes) -> None:
        (folder / "tars" / "0.tar").write_bytes(content)
        answer(lambda: table_of("webdataset", folder / "tars", folder / "out" / "table.parquet"), folder)
        for name in ("0001.pgm", "0003.pgm", "../0003.pgm"):
            files.members.cache_clear()
            found = answer(partial(files.read, folder / "tars", f"0.tar/{name}", 10_000))
            assert found is None or len(found) <= 10_000

    holds()


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl", "metadata.parquet"])
def test_metadata_of_any_kind_is_joined_or_refused(folder: Path, name: str) -> None:
    place = folder / Path(name).suffix[1:]
    place.mkdir()
    (place / "a.pgm").write_bytes(PIXEL)
    rows = {
        "csv": b"file_name,hat\na.pgm,1\n",
        "jsonl": b'{"file_name": "a.pgm", "hat": 1}\n',
        "parquet": as_parquet({"file_name": ["a.pgm"], "hat": [1]}),
    }
    lines = st.lists(
        st.one_of(
            texts,
            st.sampled_from(
                [
                    b'{"file_name": 1}',
                    b'{"file_name": null}',
                    b'{"file_name": ["a"]}',
                    b'{"file_name": "/"}',
                    b'{"file_name": "a.pgm", "x": [1]}',
                ]
            ),
        ),
        max_size=4,
    )

    @examples(6, 1500)
    @given(st.one_of(mutated(rows[Path(name).suffix[1:]]), lines.map(b"\n".join)))
    def holds(content: bytes) -> None:
        (place / name).write_bytes(content)
        answer(lambda: table_of("imagefolder", place, folder / "out" / "table.parquet"), place)

    holds()


def test_a_name_in_a_table_never_leaves_the_folder(folder: Path) -> None:
    (folder / "secret.png").write_bytes(PIXEL)
    inside = folder / "inside"
    inside.mkdir()
    parts = st.sampled_from(
        ["..", ".", "", "a", "secret.png", "~", "\0", "x" * 300, "table.parquet", "0.tar", "‮", "\\..", "%2e%2e", "file:", "a\nb"]
    )

    @examples(20, 5000)
    @given(st.one_of(st.lists(parts, max_size=6).map("/".join), st.text(max_size=40)))
    def holds(name: str) -> None:
        if not files.is_inside(name):
            return
        try:
            found = answer(lambda: files.read(inside, name, 10_000))
        except OSError:
            return  # `content_of` makes a row of `rejected` of it
        assert found is None

    holds()
    with pytest.raises(Refused):
        files.read(inside, "nothing.png", 10)
