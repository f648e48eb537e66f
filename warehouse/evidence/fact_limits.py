"""Is a fact from a stranger one that may be read? It is whole, has the fact's columns, and nothing in it grows without bound."""

from __future__ import annotations

import struct
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cfx.errors import UserError
from warehouse.facts.fact import Fact
from warehouse.facts.seal import is_whole

ROWS = 50_000_000  # in one file
UNPACKED = 2 << 30  # bytes that the columns of one file may have, by its own account
ROW_GROUP = 512 << 20  # bytes of one row group: read at once
PIXELS = 1 << 24  # of one image
_PNG = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR"
_BATCH = 32  # images looked at at once


class BeyondLimits(UserError):
    """A fact that may be as it was written, and is too large to be read from a stranger."""


def fault_of(path: Path, fact: Fact) -> str | None:
    """Why this file is no such fact, in words; None for one that may be read. Raises BeyondLimits, and MemoryError."""
    if not is_whole(path.read_bytes()):
        return "it was altered: its seal is broken"
    try:
        with pq.ParquetFile(path, thrift_string_size_limit=16 << 20, thrift_container_size_limit=1 << 20) as file:
            if fault := _columns(file.schema_arrow, fact):
                return fault
            _check_sizes(file.metadata)
            return _fault_of_images(file)
    except (BeyondLimits, MemoryError):
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        return f"it cannot be read: {str(error).splitlines()[0] if str(error) else type(error).__name__}"


def _columns(schema: pa.Schema, fact: Fact) -> str | None:
    if (schema.metadata or {}).get(b"fact") != fact.name.encode():
        return f"it is not of the fact {fact.name}"
    for name in (name for name in fact.schema.names if name not in schema.names and name not in fact.gained):
        return f"it has no column {name!r}"
    for field in schema:
        family = fact.family(field.name)
        fixed = fact.schema.field(field.name).type if field.name in fact.schema.names else None
        wanted = fixed if fixed is not None else family.type if family is not None else None
        if field.type != wanted:
            return f"it has a column {field.name[:200]!r} of type {field.type}" + (f" instead of {wanted}" if wanted else "")
    return None


def _check_sizes(metadata: pq.FileMetaData) -> None:
    groups = [metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups)]
    if metadata.num_rows > ROWS:
        raise BeyondLimits(f"it has {metadata.num_rows:,} rows, more than {ROWS:,}")
    if sum(groups) > UNPACKED or max(groups, default=0) > ROW_GROUP:
        raise BeyondLimits(f"it would grow to {sum(groups):,} bytes; a file may have {UNPACKED:,}, and {ROW_GROUP:,} a row group")


def _fault_of_images(file: pq.ParquetFile) -> str | None:
    """Whether each image is a PNG of few enough pixels: read from its first bytes, before anybody decodes it."""
    columns = [field.name for field in file.schema_arrow if field.type == pa.binary()]
    for batch in file.iter_batches(_BATCH, columns=columns) if columns else ():
        for name, column in zip(columns, batch.columns, strict=True):
            for head in pc.binary_slice(column.drop_null(), 0, 24).to_pylist():
                if not head.startswith(_PNG) or len(head) < 24:
                    return f"its column {name!r} holds something else than a PNG"
                width, height = struct.unpack(">II", head[16:24])
                if width * height > PIXELS:
                    size = f"{width:,} x {height:,} pixels, more than {PIXELS:,} in all"
                    raise BeyondLimits(f"an image in its column {name!r} has {size}")
    return None
