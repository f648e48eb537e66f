"""Which run is meant: by its id, its beginning, `latest`, `latest:AUDIT`; and every run in a line."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from facts import run_rows
from portrait_run import write_portrait_run
from typer.testing import CliRunner

from cfx.errors import UserError
from flows.cli import app
from tasks.reading.gate import Policy, gate
from warehouse.facts.shards import write_shard
from warehouse.lens.runs import audits, resolve, run_ids, short_ids
from warehouse.report.listing import listing
from warehouse.report.render import report_path, write_report
from warehouse.report.verdict import read_verdict

NIGHT = datetime(2026, 3, 1, tzinfo=UTC)
BEGAN = [("faces-0a1b2c3d4e", "faces"), ("faces-0a1bffffff", "faces"), ("hats-99aa00bb11", "hats"), ("hats-9", "hats")]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four runs, one an hour; the last is not finished."""
    root = tmp_path_factory.mktemp("runs") / "warehouse"
    for hour, (run_id, name) in enumerate(BEGAN):
        began = NIGHT + timedelta(hours=hour)
        status = {"status": "started", "finished": None} if run_id == "hats-9" else {"finished": began + timedelta(minutes=1)}
        write_shard(root, "runs", run_id, "event", run_rows(name=name, started=began, **status))
    return root


@pytest.mark.parametrize(
    ("name", "run"),
    [
        ("faces-0a1bffffff", "faces-0a1bffffff"),
        ("faces-0a1b2", "faces-0a1b2c3d4e"),
        ("hats-9", "hats-9"),  # one run's whole id, though another begins with it
        ("latest", "hats-99aa00bb11"),  # the newest that is finished
        ("latest:faces", "faces-0a1bffffff"),
    ],
)
def test_a_name_means_one_run(root: Path, name: str, run: str) -> None:
    assert resolve(root, name) == run


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("faces", "'faces' begins the ids of 2 runs: faces-0a1b2c3d4e, faces-0a1bffffff; write more"),
        ("nosuch", "there is no run 'nosuch' in .*; the runs are: faces-0a1b2c3d4e, faces-0a1bffffff, hats-9, hats-99aa00bb11"),
        ("", "there is no run ''"),
        ("latest:nosuch", "there is no finished run of the audit 'nosuch'"),
    ],
)
def test_what_means_no_run_or_several_is_refused(root: Path, name: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        resolve(root, name)


def test_an_empty_warehouse_has_none(tmp_path: Path) -> None:
    assert run_ids(tmp_path) == []
    with pytest.raises(UserError, match="the runs are: none yet"):
        resolve(tmp_path, "latest-audit")
    with pytest.raises(UserError, match="there is no finished run in"):
        resolve(tmp_path, "latest")


def test_short_ids_are_names_of_their_runs(root: Path) -> None:
    short = short_ids(run_ids(root))
    assert {name: resolve(root, name) for name in short.values()} == {name: run for run, name in short.items()}
    assert short["faces-0a1b2c3d4e"] == "faces-0a1b2" and short["hats-9"] == "hats-9"
    assert audits(root) == ["faces", "hats"]


def test_runs_are_listed_newest_first_and_the_unfinished_found_nothing(root: Path) -> None:
    rows = listing(root)
    assert [row["run_id"] for row in rows] == [run for run, _ in reversed(BEGAN)]
    assert (rows[0]["status"], rows[0]["verdict"], rows[0]["gate"]) == ("started", None, None)
    assert (rows[1]["status"], rows[1]["verdict"], rows[1]["gate"]) == ("finished", "inconclusive", None)
    assert listing(root, 1) == rows[:1]


def test_runs_are_listed_for_people_and_machines(root: Path) -> None:
    table = CliRunner().invoke(app, ["runs", "-w", str(root)]).stdout.splitlines()
    assert table[0].split() == ["run", "audit", "started", "status", "verdict", "release", "check", "images"]
    assert [line.split()[0] for line in table[1:]] == ["hats-9", "hats-99aa", "faces-0a1bf", "faces-0a1b2"]
    rows = json.loads(CliRunner().invoke(app, ["runs", "--last", "1", "--json", "-w", str(root)]).stdout)
    assert [(row["run_id"], row["short"], row["status"], row["gate"]) for row in rows] == [("hats-9", "hats-9", "started", None)]


def test_what_a_report_says_is_read_off_it_unless_a_policy_came_after_it(tmp_path: Path) -> None:
    write_portrait_run(tmp_path, "planted-run", n=8, size=16)
    gate(tmp_path, "planted-run", Policy())
    [asked] = listing(tmp_path)
    write_report(tmp_path, "planted-run")
    [read] = listing(tmp_path)
    said = read_verdict(tmp_path, "planted-run")
    assert read == asked and (read["verdict"], read["headline"]) == (said.kind, said.headline) and read["gate"] == "inconclusive"
    page = report_path(tmp_path, "planted-run")
    page.write_text(page.read_text().replace("&#34;planted&#34;", "&#34;of the page&#34;"))  # the audit's name, which it says
    [of_page] = listing(tmp_path)
    assert of_page["headline"] == read["headline"].replace("planted", "of the page") != read["headline"]
    policy = next((tmp_path / "facts" / "policies").rglob("*.parquet"))
    later = page.stat().st_mtime + 10
    os.utime(policy, (later, later))
    assert listing(tmp_path) == [read]
