"""Facts about the user's table: what counts as yes or no, which rows are selected, and what is refused before any work."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from cfx.errors import UserError
from tasks.data.annotations import FIXED, Annotations, First, columns_of, listing
from tasks.data.ingest import DataConfig, fingerprint
from tasks.data.yes_or_no import yes_or_no


def written(tmp_path, text):
    (tmp_path / "table.csv").write_text(text)
    return tmp_path / "table.csv"


@pytest.mark.parametrize(
    ("cells", "answers"),
    [
        (["1", "0", "1"], [True, False, True]),
        (["True", "false", " TRUE "], [True, False, True]),
        (["-1", "1", "-1"], [False, True, False]),  # CelebA
        (["1.0", "0.0", None], [True, False, None]),
        (["1", "", "  "], [True, None, None]),
        (["0", "-1", "1"], None),  # 0 may mean unknown here
        (["0", "1", "2"], None),
        (["yes", "0", "1"], None),
    ],
)
def test_what_is_yes_and_what_is_no(cells, answers):
    found = yes_or_no(pa.chunked_array([cells], pa.string()))
    assert (None if found is None else found.to_pylist()) == answers


def test_every_other_yes_or_no_column_is_an_attribute(tmp_path):
    table = written(tmp_path, "age,hat,file,note,empty,male\n31,1,a.png,0x,,-1\n7,0,b.png,1,,1\n")
    rows = listing(Annotations(table=table))
    assert rows.column_names == ["row", "file", "again", "split", "label", "a_hat", "a_male"]
    assert rows["a_hat"].to_pylist() == [True, False]
    assert rows["a_male"].to_pylist() == [False, True]
    assert rows.column_names[FIXED] == "a_hat"


def test_only_the_attributes_configured(tmp_path):
    table = written(tmp_path, "file,hat,beard,empty\na.png,1,0,\n")
    assert listing(Annotations(table=table, attribute_columns=("beard", "empty"))).column_names[FIXED:] == ["a_beard", "a_empty"]
    assert listing(Annotations(table=table, attribute_columns=())).column_names[FIXED:] == []


def test_rows_are_sorted_filtered_and_limited(tmp_path):
    table = written(tmp_path, "file,part,class\nc,test,x\nb,train,x\na,test,\nd, test ,y \na,test,z\n")
    config = Annotations(table=table, split_column="part", split="test", label_column="class")
    rows = listing(config)
    assert rows["file"].to_pylist() == ["a", "a", "c", "d"]
    assert rows["row"].to_pylist() == [3, 5, 1, 4]
    assert rows["again"].to_pylist() == [False, True, False, False]
    assert rows["label"].to_pylist() == [None, "z", "x", "y"]
    assert listing(config.model_copy(update={"limit": First(first=3)}))["row"].to_pylist() == [3, 5, 1]


def test_numbers_that_name_files_keep_their_zeros(tmp_path):
    assert listing(Annotations(table=written(tmp_path, "file\n0012\n0007\n")))["file"].to_pylist() == ["0007", "0012"]


def test_a_byte_order_mark_quotes_and_line_breaks_are_read(tmp_path):
    table = written(tmp_path, '\ufefffile,"a, ""quoted""\nname"\n"x, y.png",1\n')
    rows = listing(Annotations(table=table))
    assert rows["file"].to_pylist() == ["x, y.png"]
    assert rows.column_names[FIXED:] == ['a_a, "quoted"\nname']


def test_parquet_says_the_same_as_csv(tmp_path):
    columns = {
        "file": ["b", "a"],
        "hat": [True, None],
        "beard": [1.0, 0.0],
        "male": pa.array([-1, 1], pa.int8()),
        "label": pa.array(["x", "y"]).dictionary_encode(),
        "vector": [[0.5], [1.5]],
        "bytes": [b"\xff", b"1"],
    }
    pq.write_table(pa.table(columns), tmp_path / "table.parquet")
    text = "file,hat,beard,male,label\nb,true,1,-1,x\na,,0,1,y\n"
    parquet = listing(Annotations(table=tmp_path / "table.parquet", label_column="label"))
    assert parquet.to_pylist() == listing(Annotations(table=written(tmp_path, text), label_column="label")).to_pylist()


TABLE = "file,label,hat\na.png,x,1\n"


@pytest.mark.parametrize(
    ("text", "settings", "message"),
    [
        (TABLE, {"file_column": "path"}, "file_column: .* has no column 'path'; it has file, label, hat"),
        (TABLE, {"label_column": "class"}, "label_column: .* has no column 'class'; it has file, label, hat"),
        (TABLE, {"split_column": "part"}, "split_column: .* has no column 'part'"),
        (TABLE, {"attribute_columns": ("hat", "wig")}, "attribute_columns: .* has no column 'wig'"),
        (TABLE, {"attribute_columns": ("label",)}, "attribute_columns: 'label' holds 'x'; an attribute holds 1/0"),
        (TABLE, {"split": "test"}, "split: 'test' is set without split_column"),
        (TABLE, {"split_column": "label", "split": "test"}, "split: no row .* is in split 'test'; its splits are x"),
        ("file,label\n", {}, "has a header and no rows"),
        ("", {}, "table: .* cannot be read: Empty CSV file"),
        ("file,label\na.png\n", {}, "table: .* cannot be read: .*Expected 2 columns, got 1"),
        ("file,hat,hat\na.png,1,0\n", {}, "names the column 'hat' twice"),
        ("file,Hat,hat\na.png,1,0\n", {}, r"attributes \['Hat', 'hat'\] differ only in case"),
    ],
)
def test_a_table_that_cannot_work_is_refused_with_the_way_out(tmp_path, text, settings, message):
    with pytest.raises(ValueError, match=message):
        listing(Annotations(table=written(tmp_path, text), **settings))


def test_a_table_that_is_not_there_or_not_one_is_refused(tmp_path):
    with pytest.raises(ValueError, match="table: there is no file"):
        listing(Annotations(table=tmp_path / "nowhere.csv"))
    (tmp_path / "table.parquet").write_text("file\na.png\n")
    with pytest.raises(ValueError, match=r"table: .* cannot be read: Parquet magic bytes not found"):
        listing(Annotations(table=tmp_path / "table.parquet"))
    (tmp_path / "table.csv").write_bytes(b"file\n\xff\xfe.png\n")
    with pytest.raises(ValueError, match=r"table: .* cannot be read: .*invalid UTF8"):
        listing(Annotations(table=tmp_path / "table.csv"))


def test_without_a_table_every_image_of_the_folder_is_listed_and_nothing_is_known(tmp_path):
    for name in ("b.png", "sub/a.jpg", "notes.txt", ".hidden.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    rows = listing(DataConfig(images=tmp_path))
    assert rows["file"].to_pylist() == ["b.png", "sub/a.jpg"] and rows.column_names[FIXED:] == []
    assert rows["label"].null_count == 2 and columns_of(DataConfig(images=tmp_path)) == []
    assert listing(DataConfig(images=tmp_path, limit=First(first=1)))["file"].to_pylist() == ["b.png"]
    alone = tmp_path / "sub"
    before = fingerprint(DataConfig(images=alone))
    (alone / "c.png").write_bytes(b"")
    assert fingerprint(DataConfig(images=alone)) != before


def test_without_a_table_what_needs_one_is_refused(tmp_path):
    with pytest.raises(ValidationError, match="label_column: 'label' is looked for in the table, and there is none; set `table`"):
        DataConfig(images=tmp_path, label_column="label")
    (tmp_path / "x.tar").write_bytes(b"")
    with pytest.raises(UserError, match="there is no image below .*cfx import-data"):
        listing(DataConfig(images=tmp_path))
    for name in ("1.png", "1_mask.png"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(UserError, match="several images"):
        listing(DataConfig(images=tmp_path))
    with pytest.raises(UserError, match="table: is required"):
        listing(Annotations())


def test_an_unknown_setting_is_reported():
    with pytest.raises(ValidationError, match="atribute_columns"):
        Annotations.model_validate({"table": "t.csv", "atribute_columns": ["hat"]})
