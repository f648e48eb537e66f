"""Damage: files among the facts that are not as they were written, told by their seals.

To hash a file costs about a second a gigabyte, so it is done once, and not at all where it was written on this machine: what was
written or found whole is remembered by its size, its times and its inode, in this machine's cache, and hashed again when one of
these is another. A copy is another file. What changes bytes without the file system knowing, as a failing disk does, is seen by
`warehouse.facts.scrub` alone, which always reads every byte.
Files in an object store, where each is put whole, are read by `scrub` alone too.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple, cast
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq

from cfx.errors import UserError
from warehouse.facts.seal import is_sealed, is_whole
from warehouse.facts.storage import Root, cache_of

BY_PEOPLE = ("reviews", "names")  # facts that no audit can write again
COPY = "another file's copy"
_MAGIC = b"PAR1"
SETTLED = 10**8  # ns: a file that changed later than so long ago may change again without another time
ENDING = ".whole"
_TEXT: Any = {"encoding": "utf-8", "errors": "surrogateescape"}
_WAYS_OUT = {
    "edits": "run an audit that uses these edits again: it draws what is damaged or missing, no more",
    "policies": "run its audit again, or set the policy anew with `cfx gate RUN --policy FILE`",
} | dict.fromkeys(BY_PEOPLE, "people wrote it, so no audit can: put a copy of it back, or delete the file and ask them again")
_WAY_OUT = "run its audit again: it writes what is damaged or missing, no more"


@dataclass(frozen=True)
class Damage:
    """A file of a fact that is not as it was written.

    wrong: cut short, altered, not sealed (no audit wrote it), missing, or why it cannot be read.
    """

    run_id: str
    fact: str
    file: str  # relative to the warehouse
    wrong: str

    @property
    def way_out(self) -> str:
        return "delete it" if self.wrong == COPY else _WAYS_OUT.get(self.fact, _WAY_OUT)

    def __str__(self) -> str:
        return f"{self.file} ({self.wrong})"


class DamagedRun(UserError):
    """A question about a run of which a file is damaged that the answer would rest on."""

    def __init__(self, run_id: str, found: list[Damage]) -> None:
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        super().__init__(
            f"run {run_id} cannot be read whole: {found[0]}{more}, and an answer from the rest would be one about a part of its "
            f"facts; {found[0].way_out} (`cfx scrub {run_id}` names every such file)"
        )


def damage_at(path: Root, wrong: str) -> Damage:
    """What is wrong with the file of a fact, as `Damage`."""
    file = file_of(path)
    _, fact, run, _ = file.split("/")
    return Damage(run.removeprefix("run_id="), fact, file, wrong)


def file_of(path: Root) -> str:
    """A shard's name relative to its warehouse: facts/<fact>/run_id=<run>/<key>.parquet."""
    return "/".join(str(path).rsplit("/", 4)[1:])


def wrong_with(data: bytes, path: Root) -> str | None:
    """What is wrong with the bytes of a shard; None where each is as it was written, and in the file that it was written for.

    What synchronising and copying leave beside a shard would otherwise count twice. Shards of older versions do not say what file
    they are.
    """
    if is_whole(data):
        of = (pq.read_metadata(pa.BufferReader(data)).metadata or {}).get(b"file")
        return None if of is None or of.decode() == file_of(path) else COPY
    if data[-4:] != _MAGIC or len(data) < 12:
        return "cut short" if data[:4] == _MAGIC[: len(data)] else "altered"
    return "altered" if is_sealed(data) else "not sealed"


def damage_among(root: Root, paths: Iterable[Root]) -> list[Damage]:
    """What is wrong with these files of the warehouse: each hashed if it is not known to be whole."""
    return _checked_below(root).damage_among(paths) if isinstance(root, Path) else []


def damage_in_any_byte(root: Root, paths: Iterable[Root]) -> list[Damage]:
    """The same, of files that are all read, whatever is known of them; questions know from then on."""
    if isinstance(root, Path):
        return _checked_below(root).damage_among(paths, every_byte=True)
    wrong = ((path, wrong_with(path.read_bytes(), path)) for path in paths)
    return [damage_at(path, said) for path, said in wrong if said is not None]


def remember_written(root: Root, path: Root) -> None:
    """A shard that this process has just written, whole: while it stays as it is, no question need hash it."""
    if isinstance(root, Path):
        _checked_below(root).remember_written(cast(Path, path))


class _Stamp(NamedTuple):
    """What changes when a file does, as far as the file system knows."""

    size: int
    modified: int  # ns
    changed: int  # ns; no program can set it
    inode: int


_NEVER = _Stamp(0, 0, 0, 0)  # of no file: it is to be hashed


def _stamp(path: Path) -> _Stamp:
    known = path.stat()
    return _Stamp(known.st_size, known.st_mtime_ns, known.st_ctime_ns, known.st_ino)


class _CheckedFiles:
    """The files of a warehouse that this machine has hashed and found whole, as a list in its cache.

    Its first line is the warehouse, each other one a stamp and a file; of two about one file the last counts.
    """

    def __init__(self, root: Path) -> None:
        self.root, self._list, self._lock = root, cache_of(root).with_suffix(ENDING), Lock()
        self._damaged: dict[str, tuple[_Stamp, str]] = {}
        self._written: dict[str, _Stamp] = {}  # here, and so lately that a change may have had the same time
        self._whole, lines = _read(self._list)
        if lines > 2 * len(self._whole) + 1000:
            self._write(self._whole, anew=True)

    def damage_among(self, paths: Iterable[Root], every_byte: bool = False) -> list[Damage]:
        """Of these files those that are damaged; every_byte: also of those that are known to be whole."""
        found, new = [], dict[str, _Stamp]()
        self._list_written()
        for path in paths:
            wrong = self._wrong_with(cast(Path, path), new, every_byte)
            if wrong is not None:
                found.append(damage_at(path, wrong))
        if new:
            self._write(new, anew=not self._list.exists())
        return found

    def remember_written(self, path: Path) -> None:
        """While it stays as it is; those that were written a while before it are listed for other processes."""
        self._list_written()
        with self._lock, suppress(OSError):
            self._written[file_of(path)] = _stamp(path)

    def _list_written(self) -> None:
        new = dict[str, _Stamp]()
        with self._lock:
            settled = [name for name, stamp in self._written.items() if time.time_ns() - stamp.changed > SETTLED]
            for name in settled:
                stamp = self._written.pop(name)
                with suppress(OSError):
                    if _stamp(self.root / name) == stamp:
                        self._whole[name] = new[name] = stamp
        if new:
            self._write(new, anew=not self._list.exists())

    def _wrong_with(self, path: Path, new: dict[str, _Stamp], every_byte: bool) -> str | None:
        name = file_of(path)
        try:
            stamp = _stamp(path)
            known = self._damaged.get(name)
            if not every_byte and stamp in (self._whole.get(name), self._written.get(name)):
                return None
            if not every_byte and known is not None and known[0] == stamp:
                return known[1]
            wrong = wrong_with(path.read_bytes(), path)
        except FileNotFoundError:
            return "missing"
        except OSError as error:
            return error.strerror or "cannot be read"
        if time.time_ns() - stamp.changed > SETTLED and "\n" not in name:
            if wrong is None and self._whole.get(name) != stamp:
                self._whole[name] = new[name] = stamp
            elif wrong is not None:
                self._damaged[name] = stamp, wrong
                if self._whole.pop(name, None) is not None:
                    new[name] = _NEVER
        return wrong

    def _write(self, stamps: Mapping[str, _Stamp], anew: bool) -> None:
        lines = "".join(f"{' '.join(map(str, stamp))} {name}\n" for name, stamp in stamps.items())
        with self._lock, suppress(OSError):  # without a list it is only slower
            self._list.parent.mkdir(parents=True, exist_ok=True)
            if anew:
                _forget_lists_of_gone_warehouses(self._list.parent)
                part = self._list.with_name(f"{self._list.name}.{uuid4().hex}")
                part.write_text(f"{self.root}\n{lines}", **_TEXT)
                os.replace(part, self._list)
            else:
                with self._list.open("a", **_TEXT) as file:
                    file.write(lines)


def _read(path: Path) -> tuple[dict[str, _Stamp], int]:
    """The stamps in a list, by file, and how many lines it has."""
    try:
        _, *lines = path.read_text(**_TEXT).split("\n")
    except OSError:
        return {}, 0
    whole = dict[str, _Stamp]()
    for line in lines:
        *numbers, name = line.split(" ", len(_Stamp._fields))
        if len(numbers) == len(_Stamp._fields) and all(number.isdecimal() for number in numbers):
            whole[name] = _Stamp(*map(int, numbers))
    return whole, len(lines)


def _forget_lists_of_gone_warehouses(cache: Path) -> None:
    for path in cache.glob(f"*{ENDING}"):
        with path.open(**_TEXT) as file:
            gone = not Path(file.readline().rstrip("\n")).exists()
        if gone:
            path.unlink(missing_ok=True)


_LOADING = Lock()
_checked: dict[Path, _CheckedFiles] = {}


def _checked_below(root: Path) -> _CheckedFiles:
    place = root.resolve()
    with _LOADING:
        if place not in _checked:
            _checked[place] = _CheckedFiles(place)
        return _checked[place]
