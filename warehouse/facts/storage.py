"""Where a warehouse lies: a local folder, or a URL of any fsspec file system (s3://bucket/prefix with the extra `s3`).

A URL is a UPath, which offers the methods of pathlib.Path and is typed as one. Credentials never stand in it: each file
system finds its own, S3 in AWS_ACCESS_KEY_ID, AWS_PROFILE, the machine's role (AWS_ENDPOINT_URL for another server).
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
import time
from pathlib import Path, PurePosixPath
from typing import TypeAlias, cast
from uuid import uuid4

from upath import UPath

from cfx.credentials import refuse_credentials
from cfx.errors import TransientError, UserError
from cfx.scratch import scratch, sweep, sweep_all

Root: TypeAlias = Path | UPath
TEMPORARY = "tmp"  # folder of a local warehouse
AT_WORK = "at-work"  # folder in it: how far the shards are that are being made
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}  # of a file system without hard links


class NotWritten(TransientError):
    """A file that the disk or the object store did not take."""

    def __init__(self, path: Root, error: OSError) -> None:
        super().__init__(
            f"{path} could not be written: {error.strerror or error}; what is finished is kept: make room or allow writing, "
            "then run the audit again, and it computes only what is missing"
        )


def warehouse_at(place: str | Path) -> Path:
    """The folder or URL as a path. Raises UserError for a URL with credentials in it, or of a file system that is not there."""
    if not isinstance(place, str | Path):
        raise UserError(f"a warehouse is a folder or a URL, not {str(place)[:80]!r}")
    if "://" not in str(place):
        return cast(Path, place) if isinstance(place, UPath) else Path(place)
    refuse_credentials(str(place))
    try:  # another process may write, so no list of files is remembered
        return cast(Path, UPath(place, use_listings_cache=False))
    except (ImportError, ValueError) as error:
        raise UserError(
            f"{place} cannot be reached: {error}; for s3:// install the extra: pip install 'cfx-audit[s3]'"
        ) from error


def write_whole(root: Root, path: Root, data: bytes, replace: bool = False, lasting: bool = True) -> bool:
    """Bytes under their final name, whole or not at all; returns whether: a name that exists keeps its bytes unless `replace`.

    A local file is written in a folder of this process's own under `<root>/tmp`, flushed, and gets its name in one step; an
    object is put whole, on condition that there is none. Raises NotWritten naming the file.

    lasting: False for what is sealed and can be computed again, so that nobody waits for the disk: it may not be
    whole after a power cut.
    """
    try:
        if isinstance(path, Path):
            _write_local(Path(str(root)) / TEMPORARY, path, data, replace, lasting)
        else:
            path.fs.pipe_file(path.path, data, mode="overwrite" if replace else "create")
    except FileExistsError:
        return False
    except OSError as error:
        raise NotWritten(path, error) from error
    return True


def _write_local(temporary: Path, path: Path, data: bytes, replace: bool, lasting: bool) -> None:
    part = scratch(temporary) / f"{uuid4().hex}{path.suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        part.write_bytes(data)
        os.utime(
            part, ns=(now := time.time_ns(), now)
        )  # finer than a file system's clock: whatever comes next is at another time
        if lasting:
            _flush(part)
        if replace:
            os.replace(part, path)
        else:
            _link(part, path)
    finally:
        part.unlink(missing_ok=True)
    if lasting:
        _flush(path.parent)


def remove_orphans(root: Root) -> list[Path]:
    """Remove what processes that are dead left in a local warehouse's tmp/ and among the system's temporary files. Returns it."""
    gone = sweep(Path(tempfile.gettempdir()))
    if isinstance(root, Path):
        gone += sweep(root / TEMPORARY / AT_WORK) + sweep_all(root / TEMPORARY)
    return gone


def _link(part: Path, path: Path) -> None:
    """Gives a file its final name; raises FileExistsError if another process was first."""
    try:
        os.link(part, path)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        os.replace(part, path)


def _flush(path: Path) -> None:
    """fsync of a file or folder, so that a name that is there after a crash has its bytes."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remembered(root: Root) -> Root:
    """The same place as it is now: an object store is listed once, so that reading it asks for no file's size again."""
    if isinstance(root, Path):
        return root.resolve()
    found = UPath(str(root), use_listings_cache=True, skip_instance_cache=True)
    found.fs.find((found / "facts").path)
    return found


def fetched(folder: Root) -> Path:
    """A local folder with the files of this one: itself, or a copy in the cache, made once a machine."""
    if isinstance(folder, Path):
        return folder
    here = cache_of(folder)
    if not here.is_dir():
        sweep(here.parent)
        part = scratch(here.parent) / uuid4().hex
        folder.fs.get(f"{folder.path}/", f"{part}/", recursive=True)
        try:
            os.rename(part, here)
        except OSError:  # another process was first
            shutil.rmtree(part)
    return here


def cache_of(folder: Root) -> Path:
    """Where this machine keeps its copy of a folder of an object store."""
    return machine_cache() / hashlib.sha256(str(folder).encode()).hexdigest()[:16]


def machine_cache() -> Path:
    """What this machine keeps between runs, and can make again: below XDG_CACHE_HOME, or ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cfx"


def files_below(folder: Root, pattern: str) -> list[Root]:
    """The files below a folder whose relative path matches the pattern, in order of name; none where there is no folder."""
    if isinstance(folder, Path):
        return sorted(folder.glob(pattern))
    inside = (name.removeprefix(folder.path).lstrip("/") for name in sorted(folder.fs.find(folder.path)))
    return [folder / name for name in inside if PurePosixPath(name).match(pattern)]


def name_in(root: Root, path: Root) -> str:
    """A file's name, relative to the warehouse."""
    return str(path).removeprefix(str(root)).lstrip("/")
