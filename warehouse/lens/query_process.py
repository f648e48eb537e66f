"""People's SQL in a process of its own, with little memory and little time: what kills it leaves the one that asked as it was.

Every door for SQL leads here: `cfx query`, the explorer, notebooks, agents. DuckDB ends most queries itself at their time and
memory. What it does not end, a function on a long text, a query nested too deeply, a crash of its own, ends with the process
(`warehouse.lens.query_worker`).
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from selectors import EVENT_READ, DefaultSelector
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, NoReturn, TypeVar

from cfx.errors import TransientError, UserError
from cfx.scratch import scratch
from warehouse.lens.query_limits import GIB, GRACE, TOO_LARGE, USUAL, Limits, send

if TYPE_CHECKING:  # a command line that has not loaded Arrow and DuckDB yet has one thread, and may fork
    import pyarrow as pa

T = TypeVar("T")
STARTS = 300  # seconds in which a process must be ready for its first query
AT_ONCE = 2  # queries of one program
ARROW = {"ARROW_DEFAULT_MEMORY_POOL": "system"}  # its own pool takes hold of a gigabyte at once, whatever it then needs


class Answer(NamedTuple):
    """The rows, at most as many as were wanted; whether there are more; notes on old names in the query; the columns that came
    along under an old name, as of `warehouse.lens.ask.Answer`."""

    rows: pa.Table
    more: bool = False
    notes: tuple[str, ...] = ()
    old: tuple[str, ...] = ()


def answer(
    root: Path,
    sql: str,
    values: Mapping[str, object] | None = None,
    limits: Limits = USUAL,
    most: int | None = None,
    lens: bool = True,
) -> Answer:
    """The answer of `warehouse.lens.ask.ask`, its first `most` rows; not lens: of `warehouse.lens.connect.query`.

    Raises what they raise, WrongQuery for SQL that DuckDB refuses; QueryTimeout and QueryTooLarge also where DuckDB does not stop
    by itself; UserError for a query that ends its process otherwise, for an answer with too many bytes, and where AT_ONCE others
    are running for all of its time.
    """
    request = {"sql": sql, "values": dict(values or {}), "lens": lens, "most": most, "form": None}
    return _answered(root, request, limits, _table)


def write_answer(
    root: Path, sql: str, limits: Limits, form: str, width: int | None = None, rows: int | None = None
) -> tuple[BinaryIO, tuple[str, ...]]:
    """The answer as a file of this form (`warehouse.lens.answer_files`), open to be read, and notes on old names in the query.

    width, rows: for the form `terminal`. Raises what `answer` raises.
    """
    request = {"sql": sql, "values": {}, "lens": True, "most": None, "form": form, "width": width, "rows": rows}
    return _answered(root, request, limits, lambda path, reply: (path.open("rb"), tuple(reply["notes"])))


def _table(path: Path, reply: dict[str, Any]) -> Answer:
    """The rows in a file, whose bytes are read from the disk where they are used."""
    import pyarrow as pa

    with pa.memory_map(str(path)) as source, pa.ipc.open_stream(source) as stream:
        return Answer(stream.read_all(), reply["more"], tuple(reply["notes"]), tuple(reply["old"]))


def _answered(root: Path, request: dict[str, Any], limits: Limits, read: Callable[[Path, dict[str, Any]], T]) -> T:
    """What is read from the file with the answer, which then has no name."""
    if not _running.acquire(timeout=limits.seconds):
        raise UserError(f"{AT_ONCE} other queries are still running; try again when they are done")
    try:
        place = str(root.resolve()) if isinstance(root, Path) else str(root)
        process = _kept(limits) or _Process(limits)
        try:
            reply = process.ask(request | {"root": place, "bytes": limits.answer}, limits.seconds)
            if found := "error" not in reply:
                file = process.folder / "answer"
                result = read(file, reply)
                file.unlink()
        except BaseException:  # Ctrl-C, too
            process.end()
            raise
        if reply["last"]:
            process.end()
        else:
            _idle.append(process)
    finally:
        _running.release()
    return result if found else _refuse(reply, limits)


def _refuse(reply: dict[str, Any], limits: Limits) -> NoReturn:
    from warehouse.lens.query_worker import KINDS
    from warehouse.lens.readonly import QueryTimeout, QueryTooLarge

    match reply["error"]:
        case "QueryTimeout":
            raise QueryTimeout(limits.seconds, limits.longer)
        case "QueryTooLarge":
            raise QueryTooLarge(limits.memory / GIB, limits.larger)
        case "long":
            has, most = (f"{size / 1e6:,.1f} MB" for size in (reply["bytes"], limits.answer))
            raise UserError(f"the answer has {has}, at most {most} are read; query fewer rows or columns, or {limits.larger}")
    raise next((kind for kind in KINDS if kind.__name__ == reply["error"]), RuntimeError)(reply["said"])


class _Process:
    """One process that answers queries, one at a time: a fork of this one where that is safe, else a new interpreter."""

    def __init__(self, limits: Limits) -> None:
        self.made_for = self.making(limits)
        self.folder = Path(tempfile.mkdtemp(dir=scratch(Path(tempfile.gettempdir()))))  # goes with this process, however it ends
        (requests, self._out), (self._in, replies) = os.pipe(), os.pipe()
        given = (str(self.folder), limits.memory, limits.threads)
        self._unread, self._code = b"", 0
        if _may_fork():
            self._pid, self._reap = _forked(lambda: _work(requests, replies, *given), (self._out, self._in))
        else:
            command = [sys.executable, "-P", "-m", "warehouse.lens.query_worker", *map(str, given)]
            started = subprocess.Popen(command, stdin=requests, stdout=replies, stderr=subprocess.DEVNULL, env=os.environ | ARROW)
            self._pid, self._reap = started.pid, started.wait
        os.close(requests)
        os.close(replies)
        ready = self._line(STARTS)
        if not ready:
            code = self.end()
            if ready is None:
                raise TransientError(
                    f"no process for the query was ready after {STARTS} s; try again when this machine has less to do"
                )
            raise RuntimeError(f"the process for queries ended with exit code {code} before it was ready")

    @staticmethod
    def making(limits: Limits) -> tuple[object, ...]:
        """What a process is made of: in another environment (the keys of a store, say) it would be another."""
        return limits.memory, limits.threads, dict(os.environ)

    def waits(self) -> bool:
        """Whether it is still there: one that has ended has closed its pipe."""
        return not _readable(self._in, 0)

    def ask(self, request: dict[str, Any], seconds: float) -> dict[str, Any]:
        """What it replies, or why it did not; `last` where it answers no more."""
        with suppress(BrokenPipeError):
            send(self._out, request | {"seconds": seconds})
        line = self._line(seconds + 2 * GRACE)
        if line:
            return dict(json.loads(line))
        code = self.end()
        if line is None or -code in (signal.SIGALRM, signal.SIGXCPU):
            return {"error": "QueryTimeout", "last": True}
        if code == TOO_LARGE:
            return {"error": "QueryTooLarge", "last": True}
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        said = (
            f"the query ended its process ({how}): it took more memory than it may, or DuckDB crashed on it; nothing else is "
            "harmed: query less at once, or write it another way"
        )
        return {"error": "UserError", "said": said, "last": True}

    def end(self) -> int:
        """End it, if it has not ended, and remove its folder; its exit code, of one that a signal ended the negative of that."""
        if self._pid:
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
            self._code, self._pid = self._reap(), 0
            self.close()
            shutil.rmtree(self.folder, ignore_errors=True)
        return self._code

    def close(self) -> None:
        """Let go of its pipes: it ends when nobody holds them."""
        os.close(self._out)
        os.close(self._in)

    def _line(self, seconds: float) -> bytes | None:
        """The next line that it writes; nothing where it ends before, None where it takes longer."""
        until = time.monotonic() + seconds
        while b"\n" not in self._unread:
            if not _readable(self._in, max(until - time.monotonic(), 0)):
                return None
            read = os.read(self._in, 1 << 16)
            if not read:
                return b""
            self._unread += read
        line, _, self._unread = self._unread.partition(b"\n")
        return line


_running = threading.BoundedSemaphore(AT_ONCE)
_idle: list[_Process] = []  # a second query need not load DuckDB again, and its views are laid out


def _kept(limits: Limits) -> _Process | None:
    """A process that waits for a query of these limits; others are ended."""
    with suppress(IndexError):
        while True:
            process = _idle.pop()
            if process.made_for == _Process.making(limits) and process.waits():
                return process
            process.end()
    return None


@atexit.register
def _end_idle() -> None:
    while _idle:
        _idle.pop().end()


def _leave_idle() -> None:
    """In a fork of this process: they are not its own."""
    while _idle:
        _idle.pop().close()


os.register_at_fork(after_in_child=_leave_idle)


def _readable(end: int, seconds: float) -> bool:
    with DefaultSelector() as selector:
        selector.register(end, EVENT_READ)
        return bool(selector.select(seconds))


def _may_fork() -> bool:
    """Whether this process has one thread: a fork has no other, but it has the locks that others held. macOS's own libraries have
    threads."""
    return sys.platform == "linux" and len(os.listdir("/proc/self/task")) == 1


def _forked(work: Callable[[], object], not_its: Iterable[int]) -> tuple[int, Callable[[], int]]:
    """The id of a fork of this process that does this work and no more, and what waits for its exit code."""
    pid = os.fork()
    if pid:
        return pid, lambda: os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    try:
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in range(3):
            os.dup2(nowhere, stream)
        for end in not_its:
            os.close(end)
        work()
    finally:
        os._exit(1)


def _work(requests: int, replies: int, folder: str, memory: int, threads: int) -> None:
    os.environ |= ARROW  # before Arrow is loaded
    from warehouse.lens.query_worker import work

    work(requests, replies, folder, memory, threads)
