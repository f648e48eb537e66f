"""The bytes of an image by its name: a file below a folder or an object-store prefix, or a part of a larger file there.

`a/b.png` is a file; `shards/0000.tar/17.jpg` is a member of a tar; `train.parquet/17` and `data.arrow/17` are row 17, from 0, of
a Parquet or an Arrow stream file, `train.parquet/17/rgb` its column rgb where several hold images. Images requested in order of
their names are read in the order in which they lie.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as pat

from cfx.errors import UserError
from cfx.images import Refused
from cfx.targets import shortened
from tasks.data.broken_files import as_invalid
from warehouse.facts.storage import Root

WHOLES = (".tar", ".parquet", ".arrow")  # files whose parts are images
_OF_SYSTEMS = {"__macosx", "@eadir", "thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "system volume information"}
_COLUMNS = ("image", "img", "picture", "jpg", "png", "bytes")  # where bytes are looked for first


def whole_of(name: str) -> tuple[str, str | None]:
    """The file that a name is about, and the part of it, or None where the image is the file."""
    for ending in WHOLES:
        head, found, part = name.partition(f"{ending}/")
        if found:
            return head + ending, part
    return name, None


def is_inside(name: str) -> bool:
    """Whether a name stays below the folder."""
    return not os.path.isabs(name) and "://" not in name and os.path.normpath(name).split(os.sep)[0] != os.pardir


def names_below(root: Root, leave_out: Callable[[str, str], None] = lambda name, reason: None) -> list[str]:
    """The files below a folder or prefix, relative to it, in order of name; links are followed.

    Hidden files, and those that systems put beside images (`__MACOSX`, `Thumbs.db`, `@eaDir`), are left out, told to `leave_out`
    with the reason; so is what no table can name.
    """
    if isinstance(root, Path):
        names = (os.path.relpath(os.path.join(place, file), root) for place, files in _walk(root) for file in files)
    else:
        names = (name.removeprefix(root.path).lstrip("/") for name in root.fs.find(root.path))
    kept = []
    for name in sorted(names):
        if (reason := unfit(name)) is None:
            kept.append(name)
        else:
            leave_out(name.encode(errors="replace").decode(), reason)
    return kept


def _walk(root: Path) -> Iterator[tuple[str, list[str]]]:
    """Folders and the files in them; a link to a folder that it lies in is not followed again."""
    for place, folders, files in os.walk(root, followlinks=True):
        here = os.path.realpath(place)
        folders[:] = [
            folder for folder in folders if not f"{here}/".startswith(f"{os.path.realpath(os.path.join(place, folder))}/")
        ]
        yield place, files


def unfit(name: str) -> str | None:
    """Why a file is passed over, or None."""
    parts = name.split("/")
    if any(part.startswith(".") or part.lower() in _OF_SYSTEMS for part in parts):
        return "hidden or of a system"
    if any(part.endswith(WHOLES) for part in parts[:-1]):
        return "in a folder that is called like an archive, to be renamed"
    if any(0xD800 <= ord(sign) < 0xE000 for sign in name):  # how Python keeps bytes that are no text
        return "of a name that is not UTF-8, to be renamed"
    return None


def suffix_of(name: str) -> str:
    """The ending of a file's name in lower case, with its dot, or nothing."""
    return os.path.splitext(name)[1].lower()


def stamps(root: Root, names: Iterable[str]) -> dict[str, tuple[int, str]]:
    """Bytes of every file that the names are about, in order of first mention, -1 where there is none; an object's checksum."""
    files = dict.fromkeys(whole_of(name)[0] for name in names)
    if isinstance(root, Path):
        return {file: (_local_size(os.path.join(root, file)) if is_inside(file) else -1, "") for file in files}
    there = root.fs.find(root.path, detail=True)
    listed = {file: there.get(f"{root.path.rstrip('/')}/{file}", {}) for file in files}
    return {file: (int(facts.get("size", -1)), str(facts.get("ETag", ""))) for file, facts in listed.items()}


def _local_size(path: str) -> int:
    return os.path.getsize(path) if os.path.isfile(path) and os.access(path, os.R_OK) else -1


def read(root: Root, name: str, most: int) -> bytes:
    """The bytes of an image, of at most so many. Raises Refused where there are none, or more; OSError if it is not readable."""
    file, part = whole_of(name)
    path = root / file
    size = _size(path)
    if size is None:
        raise Refused("missing", "a file that is not in the folder of images")
    content = b""
    try:
        if part is not None:
            with as_invalid():
                content = _member(path, part) if file.endswith(".tar") else _row(path, part)
            size = len(content)
        elif size <= most:
            content = path.read_bytes() if isinstance(path, Path) else path.fs.cat_file(path.path)
    except (tarfile.TarError, pa.ArrowInvalid, ValueError) as error:
        if isinstance(error, Refused):
            raise
        raise Refused("unreadable", f"{file} cannot be read: {error}") from error
    if size > most:
        raise Refused("too_large", f"{size:,} bytes, more than the {most:,} that an image may take")
    return content


def _size(path: Root) -> int | None:
    """Bytes of a file, or None where there is none; an object store gets one request, and one more for each image's content."""
    if isinstance(path, Path):
        return os.path.getsize(path) if os.path.isfile(path) else None
    try:
        info = path.fs.info(path.path)
    except FileNotFoundError:
        return None
    return int(info["size"]) if info["type"] == "file" else None


def _member(path: Root, name: str) -> bytes:
    places = members(path)
    if name not in places:
        raise Refused("missing", f"a member of {path.name} that it does not have")
    start, size = places[name]
    if isinstance(path, Path):
        with path.open("rb") as file:
            file.seek(start)
            content = file.read(size)
    else:
        content = path.fs.cat_file(path.path, start=start, end=start + size)
    if len(content) < size:
        raise Refused("truncated", f"{path.name} ends before its member {name!r} does")
    return bytes(content)


class Tar(tarfile.TarFile):
    """A tar of which every member can be forgotten once it was seen."""

    members: list[tarfile.TarInfo]


@lru_cache(maxsize=2)
def members(path: Root) -> Mapping[str, tuple[int, int]]:
    """Where the files of a tar begin, and how long they are, by name; those of one that was cut short, as far as it goes."""
    with path.open("rb") as file, Tar.open(fileobj=file, mode="r:") as tar:
        return {member.name: (member.offset_data, member.size) for member in walk(tar)}


def walk(tar: Tar) -> Iterator[tarfile.TarInfo]:
    """The files of a tar in its order, as far as it goes; none is remembered."""
    while True:
        try:
            member = tar.next()
        except tarfile.ReadError:  # cut short
            return
        if member is None:
            return
        tar.members = []
        if member.isfile():
            yield member


def _row(path: Root, part: str) -> bytes:
    row, _, column = part.partition("/")
    if not row.isdecimal():
        raise Refused("missing", f"{row!r} of {path.name}, whose rows are numbered")
    number = int(row)
    for group, (start, rows) in enumerate(_groups(path)):
        if start <= number < start + rows:
            value = _images(path, group, column)[number - start].as_py()
            content = value.get("bytes") if isinstance(value, dict) else value
            if content is None:
                elsewhere = f", only the path {value['path']!r}" if isinstance(value, dict) and value.get("path") else ""
                raise Refused("missing", f"row {number} of {path.name}, which holds no bytes{elsewhere}")
            return bytes(content)
    raise Refused("missing", f"row {number} of {path.name}, which is shorter")


@lru_cache(maxsize=2)
def _groups(path: Root) -> list[tuple[int, int]]:
    """First row and number of rows of each part that is read at once."""
    if path.suffix == ".parquet":
        with path.open("rb") as file, pq.ParquetFile(file) as parquet:
            lengths = [parquet.metadata.row_group(i).num_rows for i in range(parquet.num_row_groups)]
    else:
        with path.open("rb") as file, pa.ipc.open_stream(file) as stream:
            lengths = [batch.num_rows for batch in stream]
    starts = [sum(lengths[:i]) for i in range(len(lengths))]
    return list(zip(starts, lengths, strict=True))


@lru_cache(maxsize=2)
def _images(path: Root, group: int, column: str) -> Any:
    """The images of one row group or record batch: an array of bytes, or of {bytes, path}."""
    if path.suffix == ".parquet":
        with path.open("rb") as file, pq.ParquetFile(file) as parquet:
            return parquet.read_row_group(group, columns=[image_column(parquet.schema_arrow, path, column)]).column(0)
    with path.open("rb") as file, pa.ipc.open_stream(file) as stream:
        for number, batch in enumerate(stream):
            if number == group:
                return batch.column(image_column(stream.schema, path, column))
    raise AssertionError(group)


def image_column(schema: pa.Schema, path: Root, name: str = "") -> str:
    """The column of images, bytes or a struct with `bytes`: of this name, or the only one, or the only one named as images are.

    Raises UserError where there is none, or where several may be meant.
    """
    held = image_columns(schema)
    usual = [column for column in _COLUMNS if column in held]
    if not held or (name and name not in held):
        raise UserError(f"{path} has no column {f'{name!r} ' if name else ''}of bytes; it has {shortened(schema.names)}")
    if name or len(held) == 1 or len(usual) == 1:
        return name or (held if len(held) == 1 else usual)[0]
    raise UserError(
        f"{path} has several columns of images, {', '.join(held)}; choose one: cfx import-data --image-key {held[0]}, or "
        f"{path.name}/17/{held[0]} in a table of your own"
    )


def image_columns(schema: pa.Schema) -> list[str]:
    """The columns that may hold images."""
    return [field.name for field in schema if _holds_bytes(field.type)]


def _holds_bytes(kind: pa.DataType) -> bool:
    if pat.is_struct(kind):
        return any(field.name == "bytes" and _holds_bytes(field.type) for field in kind)
    return bool(pat.is_binary(kind) or pat.is_large_binary(kind))
