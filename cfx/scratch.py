"""Temporary folders that outlive no one: each is locked by the process that made it, and a lock ends with its process, whatever
ends that. What nobody holds any more is removed by whoever comes next, and never what a living process works with, on whichever
machine.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

OWNER = ".owner"  # the file in a folder that its process holds a lock on
PREFIX = "cfx-"
LOCK = ".lock"  # of files that are locked: whoever waits for one has it open, so they stay
DAY = 86400  # seconds after which a file that nobody ever held has no owner: older versions of cfx write such, for moments
_making = threading.Lock()
_made: dict[tuple[int, Path], tuple[Path, int]] = {}  # by process and place: the folder, and its lock


def scratch(where: Path) -> Path:
    """This process's own folder in `where`, made when it is first wanted, or wanted again after somebody removed it. It goes with
    the process, or with the next `sweep`. Raises OSError where none can be made."""
    with _making:
        known = _made.get((os.getpid(), where))
        if known is not None and _is_at(known[1], known[0] / OWNER):
            return known[0]
        if known is not None:
            os.close(known[1])
        where.mkdir(parents=True, exist_ok=True)
        while True:
            folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=where))
            lock = _locked(folder / OWNER)
            if lock is not None:
                break
        _made[os.getpid(), where] = folder, lock
        atexit.register(_remove_own, os.getpid(), folder)
        return folder


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder for the body, among the system's temporary files."""
    folder = Path(tempfile.mkdtemp(dir=scratch(Path(tempfile.gettempdir()))))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def held(folder: Path) -> Iterator[bool]:
    """The folder, empty, is this process's own for the body, and is gone after it; False, and nothing is done, where another
    living process holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = _locked(folder / OWNER, wait=False)
    if lock is None:
        yield False
        return
    try:
        for left in folder.iterdir():
            if left.name != OWNER:
                _remove(left)
        yield True
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def sweep(*places: Path) -> list[Path]:
    """Remove what dead processes left in these folders: folders whose lock is free. Returns what was removed."""
    folders = [path.parent for place in places for path in sorted(place.glob(f"*/{OWNER}"))]
    return [folder for folder in folders if _removed(folder)]


def sweep_all(place: Path) -> list[Path]:
    """As `sweep`, of a folder that holds temporary files alone: whatever never had an owner goes, too, once it is a day old."""
    gone = sweep(place)
    if not place.is_dir():
        return gone
    with suppress(OSError):
        now = scratch(place).stat().st_mtime  # by the clock of whoever keeps the files
        for left in sorted(place.iterdir()):
            if left.suffix != LOCK and not any(left.rglob(OWNER)) and now - left.stat().st_mtime > DAY:
                _remove(left)
                gone.append(left)
    return gone


def _locked(path: Path, wait: bool = True) -> int | None:
    """The descriptor of a lock on this file, made if missing; None where another process has it, or removed the file just now.

    Where the file system knows no locks the file is there without one, and nobody can tell whether its owner lives.
    """
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        import fcntl

        fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        os.close(lock)
        return None
    except (ImportError, OSError):  # no locks here
        return lock
    if not _is_at(lock, path):
        os.close(lock)
        return None
    return lock


def _removed(folder: Path) -> bool:
    """Whether this folder had no living owner, and is gone now."""
    try:
        import fcntl

        lock = os.open(folder / OWNER, os.O_RDWR | os.O_CLOEXEC)
    except (ImportError, OSError):  # somebody else's
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not _is_at(lock, folder / OWNER):
            return False
        shutil.rmtree(folder, ignore_errors=True)
        return True
    except OSError:  # its owner lives, or there are no locks here
        return False
    finally:
        os.close(lock)


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether this open file still has this name."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _remove_own(process: int, folder: Path) -> None:
    if process == os.getpid():  # a forked child's end is not its parent's
        shutil.rmtree(folder, ignore_errors=True)
