"""A question costs what it is about: one run's reads that run alone; what is kept of each run is read, never stale."""

from __future__ import annotations

import os
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from facts import effect_rows, image_ids, run_rows, write_run

from tasks.reading.gate import Policy, set_policy
from warehouse.facts.damage import SETTLED
from warehouse.facts.schema import FACTS
from warehouse.facts.shards import write_shard
from warehouse.lens import kept, listed_runs, open_lens
from warehouse.lens.catalog import LENS, NAMES, VIEWS
from warehouse.lens.connect import query
from warehouse.lens.listed_runs import compares, list_of_runs, open_run, with_bases
from warehouse.lens.named_runs import OF_ALL, PAIRED, named_runs
from warehouse.lens.open_lens import lay_out, open_runs, open_warehouse
from warehouse.lens.prune import forget

LESS_THAN_A_FILE = 500  # bytes, such as a counter's digits
START = datetime(2026, 1, 1, tzinfo=UTC)


def write_night(root: Path, run_id: str, night: int, name: str = "nightly", **effects: float) -> None:
    """A small run of that night, with edits of one attribute."""
    write_run(root, run_id, {"smile": 0.3, "glasses": 0.1} | effects, n=16, seed=night)
    began = START + timedelta(days=night)
    event = run_rows(name=name, started=began, finished=began + timedelta(hours=1), attempted=16, explained=16, flipped=15)
    write_shard(root, "runs", run_id, "finished-later", event)
    write_shard(root, "effects", run_id, "all", effect_rows(image_ids(16, night), "glasses", [0.1 + 0.01 * night] * 16))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for night in range(3):
        write_night(tmp_path, f"n-{night}", night)
    return tmp_path


@pytest.mark.parametrize(
    ("sql", "runs"),
    [
        ("from gate where run_id = 'a'", {"a"}),
        ("from gate where 'a' = run_id and (result = 'fail' or n > 3)", {"a"}),
        ("from lens.scorecard s join gate g using (run_id) where g.run_id in ('a', 'b')", {"a", "b"}),
        ("from gate g left join runs r on g.run_id = r.run_id and r.name = 'x' where g.run_id = $run", {"r"}),
        ("with one as (from gate where run_id = 'a') select (select count(*) from runs where run_id = 'b') from one", {"a", "b"}),
        ("from gate where run_id = 'a' union all from gate where run_id = 'b'", {"a", "b"}),
        ("from changes where run_id = 'a' and base_id = 'b'", {"a", "b"}),
        # What may read another run's rows.
        ("from gate", None),
        ("from gate where run_id = 'a' or n > 3", None),
        ("from gate where run_id <> 'a'", None),
        ("from gate where lower(run_id) = 'a'", None),
        ("from gate g join scorecard s on g.method = s.method where g.run_id = 'a'", None),
        ("from gate g positional join scorecard s where g.run_id = 'a' and s.run_id = 'a'", None),
        ("from gate g asof join scorecard s using (n, run_id) where run_id = 'a'", None),
        ("from gate as g(place, run_id) where run_id = 'a'", None),
        ("with gate as (from gate) from gate where run_id = 'a'", None),
        ("from (from gate) where run_id = 'a'", None),
        ("from gate where run_id = 'a' and n > (select avg(n) from gate)", None),
        ("from changes where run_id = 'a'", None),
        ("from changes c join bases b using (run_id) where c.run_id = 'a' and b.base_id = 'b'", None),
        ("from edits where run_id = 'a'", None),
        ("from benchmark", None),
        ("from nothing_there where run_id = 'a'", None),
        ("describe gate", None),
        ("select 1", None),
    ],
)
def test_a_query_is_about_the_runs_that_all_of_it_names(sql: str, runs: set[str] | None) -> None:
    found = named_runs(sql, {"run": "r"})
    assert (None if found is None else set(found)) == runs


def test_a_column_that_other_runs_alone_have_is_null_in_a_run_that_is_named(root: Path) -> None:
    write_night(root, "other", 9, hat=0.2)
    asked = "select distinct d_hat from attributes where run_id = 'n-0'"
    assert query(root, asked).to_pylist() == [{"d_hat": None}]
    assert "d_hat" not in query(root, "from attributes where run_id = 'n-0'").column_names


def bytes_read(work: object) -> int:
    """By this process, for a question in a lens that is opened for it."""
    open_lens._last.clear()
    listed_runs._last.clear()
    before = _bytes()
    work()  # type: ignore[operator]
    return _bytes() - before


def _bytes() -> int:
    return int(Path("/proc/self/io").read_text().splitlines()[0].split()[1])


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="counts bytes as Linux does")
def test_one_runs_questions_read_as_much_whatever_else_is_there(root: Path) -> None:
    set_policy(root, "n-2", Policy())
    questions = [lambda view=view: query(root, f"from {view} where run_id = 'n-2'") for view in ("scorecard", "gate")]
    counts = []
    for runs in range(5, 21, 15):
        for i in range(3, runs):
            if not (root / "facts" / "runs" / f"run_id=more-{i}").exists():
                write_night(root, f"more-{i}", i, name="another")
        listing = [lambda: list_of_runs(root), *questions]
        time.sleep(2 * SETTLED / 1e9)  # what changed just now would be hashed again each time
        for question in listing:
            question()
        counts.append([bytes_read(question) for question in listing])
    (few, scorecard, gate), (many, scorecard_of_many, gate_of_many) = counts
    assert many > few
    assert scorecard_of_many == pytest.approx(scorecard, abs=LESS_THAN_A_FILE)
    assert gate_of_many - many == pytest.approx(gate - few, abs=LESS_THAN_A_FILE)


@pytest.mark.long
def test_what_a_view_says_of_a_run_rests_on_no_other_but_what_it_is_compared_with(root: Path) -> None:
    write_night(root, "other", 1, name="another", hat=0.2)
    for run in ("n-0", "n-1", "n-2", "other"):
        set_policy(root, run, Policy())
    set_policy(root, "n-2", Policy(), base="n-0")
    write_shard(root, "effects", "n-0", "more", effect_rows(image_ids(16, 2), "glasses", [-0.5] * 16))
    whole = open_warehouse(root, lens=True)
    read = {True: open_runs(root, with_bases(root, ["n-2"])), False: open_runs(root, ["n-2"])}
    for con in read.values():
        lay_out(con, NAMES)
    for name in (*VIEWS, *NAMES, *FACTS):
        short = name.removeprefix(LENS)
        if short in OF_ALL or short == "edits":
            continue
        table = name if name.startswith(LENS) else f"main.{name}"
        pair = "and base_id = 'n-0'" if short in PAIRED else ""
        alone = read[compares(f"from {table}")]
        columns = ", ".join(f'"{row[0]}"' for row in alone.execute(f"describe {table}").fetchall())
        asked = f"select {columns} from {table} where run_id = 'n-2' {pair} order by all"
        assert alone.execute(asked).fetchall() == whole.execute(asked).fetchall(), name


def answers(root: Path, view: str) -> list[tuple[object, ...]]:
    """Rows of a view for all runs, with what is kept."""
    with closing(kept.open_all(root, f"from {view}")) as lens:
        return lens.execute(f"from {view} order by all").fetchall()


def computed(root: Path, view: str) -> list[tuple[object, ...]]:
    open_lens._last.clear()
    with closing(open_warehouse(root, sql=f"from {view}")) as lens:
        return lens.execute(f"from {view} order by all").fetchall()


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The runs that are computed, not read, from here on; of three runs, too."""
    seen: list[str] = []
    real = kept._computed

    def counting(place: Path, names: list[str], runs: list[str], known: Any) -> object:
        seen.extend(runs)
        return real(place, names, runs, known)

    monkeypatch.setattr(kept, "FEW", 1)
    monkeypatch.setattr(kept, "_computed", counting)
    return seen


def taken(counted: list[str]) -> list[str]:
    runs = list(counted)
    counted.clear()
    return runs


def test_kept_rows_are_those_that_are_computed_and_go_with_any_change_of_their_facts(root: Path, counted: list[str]) -> None:
    view = "interventions"
    assert answers(root, view) == computed(root, view) and taken(counted) == ["n-0", "n-1", "n-2"]
    assert answers(root, view) == computed(root, view) and taken(counted) == []

    write_shard(root, "effects", "n-1", "more", effect_rows(image_ids(16, 77), "glasses", [-0.5] * 16))
    assert answers(root, view) == computed(root, view) and taken(counted) == ["n-1"]

    (path,) = (root / "facts/effects/run_id=n-2").iterdir()  # another file of the same size under the same name
    other = effect_rows(image_ids(16, 2), "glasses", [0.35] * 16)
    size = path.stat().st_size
    path.unlink()
    write_shard(root, "effects", "n-2", "all", other)
    assert path.stat().st_size == size
    assert answers(root, view) == computed(root, view) and taken(counted) == ["n-2"]

    (path,) = (root / "kept/interventions/run_id=n-0").iterdir()
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(data)
    assert answers(root, view) == computed(root, view) and taken(counted) == ["n-0"]

    (path,) = (root / "facts/effects/run_id=n-0").iterdir()
    os.truncate(path, 1000)
    left = answers(root, view)
    assert left == computed(root, view) and "n-0" not in {row[0] for row in left}, "kept, but of facts that are damaged now"

    forget(root, "n-1")
    assert {row[0] for row in answers(root, view)} == {"n-2"}
    assert not list((root / "kept").glob("*/run_id=n-1"))


def test_what_is_kept_of_a_run_is_not_computed_and_kept_views_are_made_of_kept_ones(
    root: Path, counted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept.keep_all(root, ["n-0"])
    assert taken(counted) == ["n-0"]
    answers(root, "claims")
    assert taken(counted) == ["n-1", "n-2"]
    real, lacking = kept._computed, []

    def noting(place: Path, names: Any, *more: Any) -> object:
        lacking.append(names)
        return real(place, names, *more)

    monkeypatch.setattr(kept, "_computed", noting)
    answers(root, "gate")
    assert lacking == [("group_counts", "gate")] and taken(counted) == ["n-1", "n-2"]


def test_other_code_keeps_other_rows(root: Path, counted: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    before = answers(root, "group_counts")
    taken(counted)
    monkeypatch.setattr(kept, "_code", lambda: "another version")
    assert answers(root, "group_counts") == before and taken(counted) == ["n-0", "n-1", "n-2"]
    assert len(list((root / "kept/group_counts/run_id=n-0").iterdir())) == 1, "the other version's rows are gone"


@pytest.mark.long
def test_a_kept_gate_goes_with_the_policy_and_with_what_the_run_is_compared_with(root: Path, counted: list[str]) -> None:
    for run in ("n-0", "n-1", "n-2"):
        set_policy(root, run, Policy())
    first = answers(root, "gate")
    assert first == computed(root, "gate") and taken(counted) == ["n-0", "n-1", "n-2"]
    set_policy(root, "n-2", Policy(maximum_effect=0.9, minimum_images=4), base="n-0")
    second = answers(root, "gate")
    assert second == computed(root, "gate") != first and taken(counted) == ["n-2"]
    write_shard(root, "effects", "n-0", "more", effect_rows(image_ids(16, 2), "glasses", [-0.5] * 16))
    third = answers(root, "gate")
    assert third == computed(root, "gate") != second and taken(counted) == ["n-0", "n-1", "n-2"]


@pytest.mark.long
def test_columns_keep_their_types_and_a_warehouse_that_takes_no_file_is_asked_all_the_same(
    root: Path, counted: list[str]
) -> None:
    (root / "kept").write_text("a file, where a folder is wanted")
    sql = "select normal(0) from scorecard, claims, gate"
    with closing(kept.open_all(root, sql)) as lens, closing(open_warehouse(root, sql=sql)) as plain:
        for view in ("scorecard", "claims", "gate"):
            assert lens.execute(f"describe {view}").fetchall() == plain.execute(f"describe {view}").fetchall()
        assert lens.execute("select normal(0)").fetchall() == [(0.5,)], "macros of views that are kept are there, too"
    assert taken(counted) == ["n-0", "n-1", "n-2"]


def test_a_reports_lens_is_of_its_run_and_what_that_is_compared_with(root: Path) -> None:
    set_policy(root, "n-2", Policy(), base="n-0")
    with closing(open_run(root, "from runs", "n-2")) as lens:
        assert [run for (run,) in lens.execute("select run_id from runs order by 1").fetchall()] == ["n-0", "n-1", "n-2"]
    assert isinstance(list_of_runs(root), duckdb.DuckDBPyConnection)
