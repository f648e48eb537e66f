"""A shard is written once, whole, and holds exactly what its fact takes."""

import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from facts import attribute_rows, explanation_rows, image_ids, image_rows, prediction_rows, run_rows

from cfx.scratch import OWNER
from warehouse.facts.schema import FACTS
from warehouse.facts.seal import UNSEALED, is_whole, sealed
from warehouse.facts.shards import DamagedShard, Shard, damaged, find_shard, read_shard, write_shard
from warehouse.facts.storage import write_whole

IDS = image_ids(3)
PREDICTED = prediction_rows(IDS, ["smile", "smile", "no_smile"])


def test_what_is_written_is_read_back(tmp_path):
    shard = write_shard(tmp_path, "predictions", "r1", "00003", PREDICTED)
    path = tmp_path / "facts" / "predictions" / "run_id=r1" / "00003.parquet"
    assert shard == Shard("predictions", "r1", "00003", path, 3)
    assert shard == find_shard(tmp_path, "predictions", "r1", "00003")
    table = read_shard(shard)
    assert table.schema == FACTS["predictions"].schema
    assert table.schema.metadata == {b"fact": b"predictions", b"version": b"1"}
    assert table["class"].to_pylist() == ["smile", "smile", "no_smile"]
    assert read_shard(shard, ["class", "image_id"]).column_names == ["class", "image_id"]
    assert write_shard(tmp_path, "predictions", "r1", "again", table).rows == 3  # a table as it was read is taken too


def test_a_final_name_that_exists_is_done(tmp_path):
    first = write_shard(tmp_path, "predictions", "r1", "0", PREDICTED)
    before = first.path.stat()
    again = write_shard(tmp_path, "predictions", "r1", "0", prediction_rows(IDS[:1], ["smile"]))
    assert again == first
    assert (first.path.stat().st_mtime_ns, first.path.stat().st_ino) == (before.st_mtime_ns, before.st_ino)


def test_nothing_is_left_behind_when_a_write_fails(tmp_path, monkeypatch):
    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "link", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_shard(tmp_path, "predictions", "r1", "0", PREDICTED)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [OWNER]  # of the folder that this process keeps
    assert find_shard(tmp_path, "predictions", "r1", "0") is None


def test_no_rows_are_a_shard_too(tmp_path):
    shard = write_shard(tmp_path, "rejected", "r1", "0", {"path": [], "stage": [], "reason": [], "error": []})
    assert shard.rows == 0 == len(read_shard(shard))


def test_images_lie_in_row_groups_that_are_quick_to_enter(tmp_path):
    shard = write_shard(tmp_path, "images", "r1", "0", image_rows(image_ids(300)))
    assert [pq.ParquetFile(shard.path).metadata.row_group(i).num_rows for i in range(3)] == [128, 128, 44]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"class": None}, "predictions: column 'class' is missing"),
        ({"colour": ["red"] * 3}, "predictions: there is no column 'colour'; the columns are image_id, class, probabilities"),
        ({"class": [1, 2, 3]}, "predictions: column 'class' takes string"),
        ({"class": pa.array([1, 2, 3])}, "predictions: column 'class' takes string, not int64"),
        ({"class": ["smile", None, None]}, "predictions: column 'class' is null in 2 of 3 rows"),
        ({"class": ["smile"]}, "predictions: column 'class' has 1 rows, 'image_id' has 3"),
        ({"probabilities": [[0.5, 0.5], [0.5, float("nan")], [1.0, 0.0]]}, "'probabilities' holds a number that is not finite"),
        ({"CLASS": ["smile"] * 3}, "there is no column 'CLASS'"),
    ],
)
def test_a_column_that_does_not_fit_is_refused_by_name(tmp_path, change, message):
    rows = {name: values for name, values in (PREDICTED | change).items() if values is not None}
    with pytest.raises(ValueError, match=message):
        write_shard(tmp_path, "predictions", "r1", "0", rows)
    assert not (tmp_path / "facts").exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e39])
def test_a_wide_column_that_is_not_finite_is_refused_by_name(tmp_path, value):
    rows = attribute_rows(IDS, {"hat": [0.1, 0.2, 0.3]}, {"hat": [0.1, 0.2, 0.3]}) | {"q_hat": [0.1, value, 0.3]}
    with pytest.raises(ValueError, match="attributes: column 'q_hat' holds a number that is not finite"):
        write_shard(tmp_path, "attributes", "r1", "0", rows)


def test_decimals_are_no_integers(tmp_path):
    with pytest.raises(ValueError, match="explanations: column 'nfe_forward' takes int64, not decimals"):
        write_shard(tmp_path, "explanations", "r1", "0", explanation_rows(IDS, nfe_forward=[1.5, 2.0, 2.5]))


def test_an_attribute_comes_whole_and_once(tmp_path):
    rows = attribute_rows(IDS, {"hat": [0.1] * 3}, {"hat": [0.2] * 3})
    with pytest.raises(ValueError, match="column 'q_hat' is missing"):
        write_shard(tmp_path, "attributes", "r1", "0", {name: rows[name] for name in rows if name != "q_hat"})
    with pytest.raises(ValueError, match="column 'p_hat' is there more than once; SQL does not tell upper from lower case"):
        write_shard(tmp_path, "attributes", "r1", "0", rows | {f"{prefix}_HAT": rows[f"{prefix}_hat"] for prefix in "pqd"})


def test_the_shards_of_a_run_have_the_same_attributes(tmp_path):
    write_shard(tmp_path, "images", "r1", "0", image_rows(IDS, a_hat=[True, False, None]))
    write_shard(tmp_path, "images", "r2", "0", image_rows(IDS, a_beard=[True, False, None]))
    with pytest.raises(ValueError, match="differ in column 'a_beard'; the shards of one run have the same columns"):
        write_shard(tmp_path, "images", "r1", "1", image_rows(IDS, a_beard=[True, False, None]))


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "a b", "ä", "x=1"])
def test_a_name_that_could_leave_its_folder_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match=r"run_id .* cannot name a shard"):
        write_shard(tmp_path, "predictions", name, "0", PREDICTED)
    with pytest.raises(ValueError, match=r"key .* cannot name a shard"):
        find_shard(tmp_path, "predictions", "r1", name)


def test_a_column_that_a_shard_does_not_have_is_told_with_those_it_has(tmp_path):
    shard = write_shard(tmp_path, "predictions", "r1", "0", PREDICTED)
    with pytest.raises(ValueError, match="no column 'klass'; it has image_id, class, probabilities"):
        read_shard(shard, ["klass"])


def cut(data, kept):
    return data[:kept]


def flip(data, place):
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


@pytest.mark.parametrize(
    ("hurt", "place"), [(cut, 0), (cut, 3), (cut, 200), (cut, -1), (flip, 0), (flip, 40), (flip, -1), (flip, -40)]
)
def test_a_damaged_shard_is_named_and_written_again(tmp_path, hurt, place, caplog):
    shard = write_shard(tmp_path, "runs", "r1", "started", run_rows())
    whole = shard.path.read_bytes()
    shard.path.write_bytes(hurt(whole, place))
    assert damaged(tmp_path, "r1") == [shard.path]
    with pytest.raises(DamagedShard, match=r"started\.parquet was cut short or altered; run its audit again"):
        read_shard(shard)
    assert find_shard(tmp_path, "runs", "r1", "started") is None
    assert "started.parquet was cut short or altered, and will be written again" in caplog.text
    assert write_shard(tmp_path, "runs", "r1", "started", run_rows()) == shard
    assert shard.path.read_bytes() == whole
    assert damaged(tmp_path, "r1") == []


def test_every_bit_is_under_the_seal():
    data = sealed(b"PAR1 rows " + UNSEALED.encode() + b" footer PAR1")
    assert is_whole(data)
    assert not any(is_whole(flip(data, place)) for place in range(len(data)))
    assert not is_whole(b"PAR1 never sealed PAR1")


def test_of_two_writers_the_first_counts(tmp_path):
    """Both found nothing, both computed: the second one's rows do not replace the first one's."""
    path = tmp_path / "facts" / "predictions" / "0.parquet"
    write_whole(tmp_path, path, b"first")
    write_whole(tmp_path, path, b"second")
    assert path.read_bytes() == b"first"
    assert [path.name for path in (tmp_path / "tmp").rglob("*") if path.is_file()] == [OWNER]
