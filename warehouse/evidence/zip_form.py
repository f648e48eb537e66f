"""The archive as a file: each byte follows from the files in it and their names, so nothing can stand between or behind them.

Its files are stored, not deflated: most are compressed already, and nobody can hide gigabytes in a few kilobytes. Archives of
earlier versions are deflated; they can be read, too.
"""

from __future__ import annotations

import shutil
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from itertools import zip_longest
from pathlib import Path

from cfx.errors import UserError

ENTRIES = 200_000  # files in an archive; an audit of 100,000 images has about half as many
EXPANDED = 20  # times its own size, that an archive may have when it is unpacked; reports shrink to a tenth at most
_THEN = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip can say: the same run gives the same bytes
_PIECE = 1 << 20  # bytes
_DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, ValueError, KeyError, IndexError),
    *(NotImplementedError, RuntimeError, OverflowError),  # whatever bytes of a stranger make of it
)


@dataclass
class Unpacked:
    """What was written of an archive, by name; what was not, or is wrong, by name with the reason; whether it was deflated."""

    files: dict[str, Path] = field(default_factory=dict)
    bad: dict[str, str] = field(default_factory=dict)
    deflated: bool = False


def write_zip(to: Path, files: Mapping[str, bytes | Path]) -> None:
    """Write files, in order of name."""
    with zipfile.ZipFile(to, "w", zipfile.ZIP_STORED) as archive:
        for name, content in sorted(files.items()):
            entry = zipfile.ZipInfo(name, _THEN)
            entry.create_system, entry.external_attr = 3, 0o644 << 16  # the same on every system
            entry.file_size = len(content) if isinstance(content, bytes) else content.stat().st_size
            source = BytesIO(content) if isinstance(content, bytes) else content.open("rb")
            with source, archive.open(entry, "w") as target:
                shutil.copyfileobj(source, target, _PIECE)


def unpack(path: Path, folder: Path, most: Callable[[str], int | None]) -> Unpacked:
    """Write the files of an archive below a folder, each name once, and none of another name or size than it may have.

    most: the bytes that the file of a name may have at most; None: no archive has a file of that name. Raises UserError where
    there is no archive, or one beyond the limits; OSError where the disk is full.
    """
    found = Unpacked()
    try:
        archive = zipfile.ZipFile(path)
    except _DAMAGE as error:
        if not path.is_file() or not _was_zip(path):
            raise UserError(f"{path} is no archive of `cfx export`: {error}") from error
        found.bad[path.name] = f"its list of files cannot be read: {error}"
        return found
    with archive:
        entries = archive.infolist()
        _check_limits(path, entries)
        twice = {name for name, count in Counter(entry.filename for entry in entries).items() if count > 1}
        for entry in entries:
            name, size = entry.filename, entry.file_size
            limit = most(name)
            if limit is None:
                found.bad[name] = "`cfx export` writes no such file"
            elif name in twice:
                found.bad[name] = "it is there more than once"
            elif size > limit:
                found.bad[name] = f"it has {size:,} bytes, and may have {limit:,} at most"
            elif reason := _write(archive, entry, folder / name):
                found.bad[name] = reason
            else:
                found.files[name] = folder / name
            found.deflated |= entry.compress_type == zipfile.ZIP_DEFLATED
    return found


def first_difference(path: Path, files: Mapping[str, bytes | Path], scratch: Path) -> tuple[str, str] | None:
    """Where an archive is not as `write_zip` writes these files: the name of the file that it is in or before, and the reason."""
    write_zip(scratch, files)
    at = _first_differing_byte(path, scratch)
    if at is None:
        return None
    with zipfile.ZipFile(scratch) as again:
        before = [entry.filename for entry in again.infolist() if entry.header_offset <= at < again.start_dir]
    name = before[-1] if before else path.name
    return name, f"from its byte {at:,} on {path.name} is not as `cfx export` writes these files"


def _was_zip(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(30)
        file.seek(max(0, path.stat().st_size - 65_557))
        return head.startswith(b"PK\3\4") or b"PK\5\6" in file.read()


def _check_limits(path: Path, entries: list[zipfile.ZipInfo]) -> None:
    if len(entries) > ENTRIES:
        raise UserError(f"{path} holds {len(entries):,} files, more than the {ENTRIES:,} that an archive may have")
    size, room = sum(entry.file_size for entry in entries), EXPANDED * path.stat().st_size
    if size > room:
        largest = max(entries, key=lambda entry: entry.file_size)
        raise UserError(
            f"{path} would grow to {size:,} bytes, more than {EXPANDED} times its own size ({largest.filename[:200]!r} alone has "
            f"{largest.file_size:,}); nothing was unpacked"
        )


def _write(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, to: Path) -> str | None:
    """Writes one file; returns the reason where its bytes are not those of its checksum."""
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or entry.flag_bits & 1:
        return "it is compressed or encrypted in a way that `cfx export` does not use"
    to.parent.mkdir(parents=True, exist_ok=True)
    try:
        with to.open("wb") as file:
            for piece in _pieces(archive, entry):
                file.write(piece)
    except _Unreadable as error:
        to.unlink()
        return f"its bytes cannot be read: {error}"
    return None


class _Unreadable(Exception):
    pass


def _pieces(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Iterator[bytes]:
    """The bytes of a file; at the end they are held against its checksum. Raises _Unreadable."""
    try:
        with archive.open(entry) as source:
            while piece := source.read(_PIECE):
                yield piece
    except _DAMAGE as error:
        raise _Unreadable(error) from error


def _first_differing_byte(a: Path, b: Path) -> int | None:
    at = 0
    with a.open("rb") as one, b.open("rb") as other:
        while True:
            left, right = one.read(_PIECE), other.read(_PIECE)
            if left != right:
                pairs = zip_longest(left, right)
                return at + next(i for i, (x, y) in enumerate(pairs) if x != y)
            if not left:
                return None
            at += len(left)
