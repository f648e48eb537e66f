"""Any text for SQL: rows, or a refusal; the warehouse stays as it was, and no other file is read or written."""

from __future__ import annotations

from pathlib import Path

import pytest
from evidence_run import write_evidence
from hypothesis import example, given
from hypothesis import strategies as st

from tests.fuzz.bounds import answer, examples
from warehouse.lens.ask import ask

WORDS = [
    "select", "from", "where", "group by", "order by", "limit", "with", "as", "union all", "join", "on", "using", "having",
    "qualify", "insert into", "update", "delete from", "drop", "create", "table", "view", "copy", "to", "attach", "detach",
    "install", "load", "pragma", "set", "reset", "call", "explain", "describe", "summarize", "show", "pivot", "values",
    "export database", "import", "runs", "images", "verdicts", "scorecard", "findings", "explanations", "facts.images",
    "lens.runs", "duckdb_settings()", "read_csv('/etc/passwd')", "read_text('/etc/passwd')", "read_blob('/proc/self/environ')",
    "glob('/*')", "'/etc/passwd'", "read_parquet('../**/*.parquet')", "parquet_scan('x')", "read_json('x')",
    "sniff_csv('/etc/passwd')", "getenv('HOME')", "range(1000)", "generate_series(1, 9)", "unnest([1])", "query('from runs')",
    "query_table('runs')", "current_setting('home_directory')", "run_id", "path", "image_id", "count(*)", "*", "columns(*)",
    "1", "1/0", "null", "'a'", "''", '""', "$run", "?", "::int", "::blob", "(", ")", "[", "]", "{", "}", ",", ";", "--", "/*",
    "*/", ".", "=", "+", "||", "->>", "'", '"', '\\', '\x00', '\u202e', "é", '\ud800', "memory_limit", "temp_directory",
    "enable_external_access", "lock_configuration", "=", "true", "recursive", "lateral", "exists",
]  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("warehouse")
    write_evidence(root)
    return root


def state(root: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in root.rglob("*") if path.is_file()}


def test_any_text_is_answered_or_refused_and_changes_nothing(root: Path) -> None:
    before = state(root)
    words = st.lists(st.sampled_from(WORDS), max_size=9).map(" ".join)
    began = st.tuples(st.sampled_from(["from ", "select * from ", "select ", "with a as (from runs) "]), words).map("".join)

    @examples(16, 1500)
    @given(st.one_of(words, began, st.text(max_size=30)))
    @example("")
    @example(";")
    @example("select 1;;")
    @example("select '\ud800'")
    @example("select '\0'")
    @example("(" * 3000)
    @example("select " + "(" * 900 + "1" + ")" * 900)
    @example("select " + "-" * 5000 + "1")
    @example("select " + "+".join(["1"] * 5000))
    @example("from " + "a" * 5000)
    def holds(sql: str) -> None:
        found = answer(lambda: ask(root, sql, seconds=5, most=1000), mib=1024, seconds=20)
        if found is not None:
            assert len(found.rows) <= 1000 and "root:x:0" not in str(found.rows.to_pylist())

    holds()
    assert state(root) == before
