"""A person's query in a process of its own: it has little memory and little time, and what kills it leaves the explorer."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from threading import BoundedSemaphore
from typing import NamedTuple

import pyarrow as pa

from cfx.errors import UserError
from warehouse.lens.readonly import QueryTimeout, refuse_writes

SECONDS = 30  # that a query may take
MEMORY = 1 << 30  # bytes that DuckDB may hold at once
PROCESS = 4 << 30  # bytes of data that the process may have in all, what DuckDB does not count too
AT_ONCE = 2  # queries
REFUSED = 3  # exit code: the query cannot be answered, and why is on standard error
_running = BoundedSemaphore(AT_ONCE)


class Answer(NamedTuple):
    """The rows, at most as many as were wanted; whether there are more; notes on old names in the query."""

    rows: pa.Table
    more: bool
    notes: tuple[str, ...]


def answer(root: Path, sql: str, values: Mapping[str, str], most: int, seconds: float = SECONDS) -> Answer:
    """What `cfx query` would say, its first `most` rows.

    Raises UserError as `warehouse.lens.ask.ask` does, and for a query that took too much time or memory, or found no room to run.
    """
    if not _running.acquire(timeout=seconds):
        raise UserError(f"{AT_ONCE} other queries are still running; try again when they are done")
    try:
        request = json.dumps([str(root), sql, dict(values), most, seconds])
        command = [sys.executable, "-P", "-m", "warehouse.explorer.sql_process"]
        done = subprocess.run(command, input=request.encode(), capture_output=True, timeout=seconds + 5, check=False)
    except subprocess.TimeoutExpired as error:  # it did not listen to DuckDB's own interrupt
        raise UserError(f"query timed out after {seconds:g} s; query fewer rows") from error
    finally:
        _running.release()
    if done.returncode == REFUSED:
        raise UserError(done.stderr.decode(errors="replace").strip())
    if done.returncode:
        raise UserError("the query ended its process: it took more memory than it may, or DuckDB broke off; query less at once")
    with pa.ipc.open_stream(done.stdout) as stream:
        rows = stream.read_all()
    notes = json.loads(rows.schema.metadata[b"notes"])
    return Answer(rows.slice(0, most).replace_schema_metadata(None), rows.num_rows > most, tuple(notes))


def main() -> None:
    """Answer the query on standard input, as an Arrow stream."""
    import resource

    import duckdb

    from warehouse.lens import connect
    from warehouse.lens.ask import ask

    root, sql, values, most, seconds = json.load(sys.stdin)
    resource.setrlimit(resource.RLIMIT_DATA, (PROCESS, PROCESS))
    connect.SETTINGS |= {"memory_limit": f"{MEMORY}B", "max_temp_directory_size": f"{MEMORY}B", "threads": 2}
    try:
        with suppress(duckdb.ParserException):  # which `ask` says better
            refuse_writes(duckdb.connect(":memory:"), sql)  # before the views are laid out, which takes longer
        found = ask(Path(root), sql, values or None, seconds, most + 1)
    except QueryTimeout as error:
        print(f"query timed out after {seconds:g} s; query fewer rows, or use `cfx query --timeout`", file=sys.stderr)  # noqa: T201
        raise SystemExit(REFUSED) from error
    except (UserError, MemoryError) as error:
        print(error or "the query took more memory than it may; query less at once", file=sys.stderr)  # noqa: T201
        raise SystemExit(REFUSED) from error
    rows = found.rows.replace_schema_metadata({"notes": json.dumps(found.notes)})
    with pa.ipc.new_stream(sys.stdout.buffer, rows.schema) as stream:
        stream.write_table(rows)


if __name__ == "__main__":
    main()
