"""A stranger's archive may hold anything: it is refused with the file and the limit named, in little memory and time."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from archive_changes import Files, read, recompute, zipped
from evidence_run import write_evidence
from facts import image_ids, image_rows

from cfx.errors import UserError
from warehouse.evidence import fact_limits, zip_form
from warehouse.evidence.contents import most_bytes
from warehouse.evidence.export import export
from warehouse.evidence.fact_limits import fault_of
from warehouse.facts.schema import FACTS
from warehouse.facts.seal import UNSEALED, sealed
from warehouse.facts.shards import write_shard

GIB = 1 << 30


def unpacked(tmp_path: Path, data: bytes) -> zip_form.Unpacked:
    path = tmp_path / "archive.zip"
    path.write_bytes(data)
    return zip_form.unpack(path, tmp_path / "unpacked", most_bytes)


def bomb(name: str, size: int) -> bytes:
    """A zip whose one file grows a thousand times."""
    file = BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive, archive.open(name, "w", force_zip64=True) as entry:
        for _ in range(size >> 20):
            entry.write(bytes(1 << 20))
    return file.getvalue()


def test_what_grows_beyond_its_size_is_not_unpacked(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"would grow to 33,554,432 bytes, more than 20 times .* \('README.md' alone has 33,554,432\)"
    ):
        unpacked(tmp_path, bomb("README.md", 32 << 20))
    assert not (tmp_path / "unpacked").exists()


def test_too_many_files_are_not_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zip_form, "ENTRIES", 3)
    with pytest.raises(UserError, match="holds 4 files, more than the 3 that an archive may have"):
        unpacked(tmp_path, zipped({f"{i}.md": b"" for i in range(4)}))


def test_no_name_leaves_its_folder_or_goes_deep(tmp_path: Path) -> None:
    deep, up = "/".join(["a"] * 2000), "facts/runs/run_id=../x.parquet"
    names = [deep, up, "../README.md", "/README.md", "reports/../../x.html"]
    found = unpacked(tmp_path, zipped(dict.fromkeys(names, b"x")))
    assert set(found.bad) == set(names) and not found.files
    assert not list(tmp_path.rglob("*.html")) and sorted(path.name for path in tmp_path.iterdir()) == ["archive.zip"]


def test_what_is_no_archive_is_told_and_half_of_one_is_damage(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"archive.zip is no archive of `cfx export`"):
        unpacked(tmp_path, b"a letter")
    whole = zipped({"README.md": b"words" * 100})
    assert "its list of files cannot be read" in unpacked(tmp_path, whole[:200]).bad["archive.zip"]


def png(width: int, height: int) -> bytes:
    """The beginning of a PNG of that size, and one row group of zeros: what a decoder would make room for."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(1 << 20))) + chunk(b"IEND", b"")


def test_images_of_too_many_pixels_are_named_before_they_are_decoded(tmp_path: Path) -> None:
    rows = image_rows(image_ids(1))
    shard = write_shard(tmp_path, "images", "run", "0", rows | {"png": [png(50_000, 40_000)]})
    with pytest.raises(UserError, match="an image in its column 'png' has 50,000 x 40,000 pixels, more than 16,777,216"):
        fault_of(shard.path, FACTS["images"])
    shard = write_shard(tmp_path, "images", "run", "1", rows | {"png": [b"GIF89a"]})
    assert fault_of(shard.path, FACTS["images"]) == "its column 'png' holds something else than a PNG"


def test_a_fact_is_one_by_its_columns_and_no_larger_than_it_may(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shard = write_shard(tmp_path, "images", "run", "0", image_rows(image_ids(8)))
    assert fault_of(shard.path, FACTS["images"]) is None
    assert fault_of(shard.path, FACTS["runs"]) == "it is not of the fact runs"
    monkeypatch.setattr(fact_limits, "ROWS", 7)
    with pytest.raises(UserError, match="it has 8 rows, more than 7"):
        fault_of(shard.path, FACTS["images"])
    monkeypatch.undo()
    table = pq.read_table(shard.path).drop_columns("image_id")
    shard.path.write_bytes(resealed(table, 1))
    assert fault_of(shard.path, FACTS["images"]) == "it has no column 'image_id'"
    shard.path.write_bytes(shard.path.read_bytes()[:-10])
    assert fault_of(shard.path, FACTS["images"]) == "it was altered: its seal is broken"


def resealed(table: pa.Table, times: int) -> bytes:
    """A fact as an attacker writes it: these rows, so many times, under a seal of their own."""
    file = BytesIO()
    with pq.ParquetWriter(file, table.schema, compression="zstd") as writer:
        for _ in range(times):
            writer.write_table(table)
        writer.add_key_value_metadata({"seal": UNSEALED})
    return sealed(file.getvalue())


def consistent(files: Files) -> bytes:
    """The archive with every list of facts rewritten, in the page and in the summary, too: as far as an attacker can get."""
    facts = {name: sha256(data).hexdigest() for name, data in sorted(files.items()) if name.startswith("facts/")}
    digest = sha256("".join(f"{digest}  {name}\n" for name, digest in facts.items()).encode()).hexdigest()
    page, _, rest = files["reports/run.html"].partition(b'<meta name="facts" content="sha256:')
    files["reports/run.html"] = page + b'<meta name="facts" content="sha256:' + digest.encode() + rest[64:]
    files["summary.json"] = json.dumps(json.loads(files["summary.json"]) | {"facts": facts}, indent=2).encode()
    recompute(files)
    return zipped(files)


def many_rows(files: Files) -> bytes:
    """Forty million rows in a file of a few megabytes."""
    name = "facts/predictions/run_id=run/00000.parquet"
    table = pq.read_table(BytesIO(files[name]))
    million = pa.concat_tables([table] * (1_000_000 // len(table))).combine_chunks()
    files[name] = resealed(million.replace_schema_metadata(table.schema.metadata), 40)
    return consistent(files)


def long_texts(files: Files) -> bytes:
    """A text of a megabyte in each of a million rows, which a dictionary writes once."""
    name = "facts/rejected/run_id=run/00000.parquet"
    schema = pq.read_schema(BytesIO(files[name]))
    text = pa.DictionaryArray.from_arrays(pa.array([0] * 1_000_000, pa.int32()), pa.array(["x" * (1 << 20)]))
    columns = [text if field.type == pa.string() else pa.nulls(1_000_000, field.type) for field in schema]
    written = BytesIO()
    table = pa.table(columns, [field.name for field in schema])
    with pq.ParquetWriter(written, table.schema, store_schema=False) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({"fact": "rejected", "version": "1", "seal": UNSEALED})
    files[name] = sealed(written.getvalue())
    return consistent(files)


def large_images(files: Files) -> bytes:
    """Every image that the page shows has as many pixels as it may."""
    for name in [name for name in files if name.startswith("facts/images/run_id=run/")]:
        table = pq.read_table(BytesIO(files[name]))
        large = pa.array([png(4096, 4096)] * len(table), pa.binary())
        files[name] = resealed(table.set_column(table.schema.get_field_index("png"), table.schema.field("png"), large), 1)
    return consistent(files)


def deflated(_: Files) -> bytes:
    return bomb("facts/runs/run_id=run/0.parquet", 4 << 30)


MEASURED = """
import json, resource, sys
from pathlib import Path
from cfx.errors import UserError
from warehouse.evidence.verify_process import verify_stranger
try:
    said = ["", verify_stranger(Path(sys.argv[1]), seconds=240).reasons]
except UserError as error:
    said = [str(error), {}]
print(json.dumps([*said, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024]))
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("warehouse")
    write_evidence(root)
    return export(root, "run", root / "archive.zip")


@pytest.mark.long
@pytest.mark.parametrize("attack", [many_rows, long_texts, large_images, deflated])
def test_a_hostile_archive_takes_less_than_two_gib(whole: Path, tmp_path: Path, attack: Callable[[Files], bytes]) -> None:
    path = tmp_path / "archive.zip"
    path.write_bytes(attack(read(whole)))
    done = subprocess.run([sys.executable, "-c", MEASURED, str(path)], capture_output=True, text=True, timeout=400)
    error, reasons, peak = json.loads(done.stdout.splitlines()[-1])
    print(attack.__name__, path.stat().st_size, error, reasons, f"{peak / GIB:.2f} GiB")  # noqa: T201
    assert (error or reasons) and peak < 2 * GIB
