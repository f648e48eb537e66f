"""The process in which people's SQL runs: it bounds itself, answers one query after the other, and ends with who asks.

    python -m warehouse.lens.query_worker FOLDER MEMORY THREADS

Requests come in and replies go out as lines of JSON, `warehouse.lens.query_process`; an answer's bytes go into a file of FOLDER.
"""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any, BinaryIO, NoReturn

import duckdb
import pyarrow as pa

from cfx.errors import UserError
from warehouse.facts.storage import warehouse_at
from warehouse.lens import connect
from warehouse.lens.answer_files import FORMS
from warehouse.lens.answer_table import plain, printed
from warehouse.lens.ask import Answer, WrongQuery, ask
from warehouse.lens.needed_views import parser
from warehouse.lens.query_limits import GRACE, TOO_LARGE, send
from warehouse.lens.readonly import QueryTimeout, ReadOnlyError, refuse_writes

BESIDE = 3 << 28  # bytes that it may have beside those that DuckDB counts
LARGE = 1 << 28  # bytes: when it had so many more than at its start, it answers no other query
ENDS = ("QueryTimeout", "QueryTooLarge", "")  # after which it answers none: what a query left may still hold memory
KINDS = (WrongQuery, ReadOnlyError, UserError, FileNotFoundError, OSError)  # of errors whose words say all


def work(requests: int, replies: int, folder: str, memory: int, threads: int) -> None:
    """Answer what comes in at one pipe at the other, until nobody asks; it does not return."""
    try:
        _serve(requests, replies, folder, memory, threads)
    finally:  # who asked ended before this was ready
        shutil.rmtree(folder, ignore_errors=True)


def _serve(requests: int, replies: int, folder: str, memory: int, threads: int) -> NoReturn:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for who asks
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends this process, whatever it is doing
    _bound(memory + BESIDE)
    connect.SETTINGS |= {
        "memory_limit": f"{memory}B",
        "temp_directory": str(Path(folder, "spilled")),
        "max_temp_directory_size": f"{2 * memory}B",
        "threads": threads,
    }
    waiting: SimpleQueue[dict[str, Any]] = SimpleQueue()
    threading.Thread(target=_listen, args=(requests, folder, waiting.put), daemon=True).start()
    least = _peak()
    send(replies, {"ready": True})
    while True:
        request = waiting.get()
        signal.setitimer(signal.ITIMER_REAL, request["seconds"] + GRACE)
        reply = _reply(request, Path(folder, "answer"))
        signal.setitimer(signal.ITIMER_REAL, 0)
        spent = reply.get("error") in ENDS or _peak() - least > LARGE
        send(replies, reply | {"last": spent})


def _listen(requests: int, folder: str, put: Callable[[dict[str, Any]], object]) -> None:
    """Take requests until nobody can send one: who asked has ended, or was killed."""
    with open(requests, "rb") as lines:
        for line in lines:
            put(json.loads(line))
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)


def _reply(request: dict[str, Any], file: Path) -> dict[str, Any]:
    """What there is to say of an answer, which goes into the file, or why there is none."""
    try:
        found = _answer(request)
        rows = found.rows[: request["most"]]
        if rows.nbytes > request["bytes"]:
            return {"error": "long", "bytes": rows.nbytes}
        with file.open("wb") as to:
            _write(rows, found.old, request, to)
        return {"more": len(rows) < len(found.rows), "notes": found.notes, "old": found.old}
    except QueryTimeout:
        return {"error": "QueryTimeout"}
    except (MemoryError, duckdb.OutOfMemoryException):
        return {"error": "QueryTooLarge"}
    except RecursionError:
        return {"error": "UserError", "said": "the query is nested too deeply; write it with fewer brackets"}
    except Exception as error:
        if isinstance(error.__cause__, duckdb.OutOfMemoryException):
            return {"error": "QueryTooLarge"}
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            return {"error": "OSError", "said": f"there is no room for the answer in {file.parent}; name another place in TMPDIR"}
        kind = next((kind.__name__ for kind in KINDS if isinstance(error, kind)), "")
        return {"error": kind, "said": str(error) if kind else traceback.format_exc()}


def _answer(request: dict[str, Any]) -> Answer:
    root, sql, seconds = warehouse_at(request["root"]), request["sql"], request["seconds"]
    most = None if request["most"] is None else request["most"] + 1
    with suppress(duckdb.ParserException):  # which `ask` says better
        refuse_writes(parser(), sql)  # before the views are laid out, which takes longer
    if request["lens"]:
        return ask(root, sql, request["values"] or None, seconds, most)
    try:
        return Answer(connect.query(root, sql, request["values"] or None, seconds, most))
    except duckdb.Error as error:
        raise WrongQuery(str(error)) from error


def _write(rows: pa.Table, old: tuple[str, ...], request: dict[str, Any], to: BinaryIO) -> None:
    match request["form"]:
        case None:
            with pa.ipc.new_stream(to, rows.schema) as stream:
                stream.write_table(rows)
        case "terminal":
            to.write(printed(rows.drop_columns(list(old)), request["width"], request["rows"]).encode())
        case "table":
            to.write(plain(rows.drop_columns(list(old))).encode())
        case form:
            FORMS[form](rows, to)


def _bound(most: int) -> None:
    """Let this process have so many bytes of data, and leave no image of it where it crashes."""
    for limit, value in ((resource.RLIMIT_DATA, most), (resource.RLIMIT_CORE, 0)):
        with suppress(ValueError, OSError):  # of a limit that is lower already
            resource.setrlimit(limit, (value, value))
    if sys.platform != "linux":  # where that limit does not count what is mapped
        threading.Thread(target=_watch, args=(most,), daemon=True).start()


def _watch(most: int) -> None:
    """End this process when it has had more than so many bytes in memory."""
    while _peak() < most:
        time.sleep(0.05)
    os._exit(TOO_LARGE)


def _peak() -> int:
    """Most bytes that this process has had in memory."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    answers = os.dup(1)
    os.dup2(2, 1)  # what else is printed is no answer
    work(0, answers, sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
