"""A damaged file stops questions about its own run alone, and is named: by the answer, by the view `damaged`, by `cfx scrub`."""

from __future__ import annotations

import json
import os
import random
import shutil
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from evidence_run import POLICY
from facts import image_ids, prediction_rows, run_rows
from starlette.testclient import TestClient
from typer.testing import CliRunner

from cfx.errors import UserError
from flows.cli import app
from tasks.reading.gate import Policy
from tasks.reading.gate import gate as gate_with
from warehouse.evidence.export import export
from warehouse.evidence.scrub import scrub
from warehouse.explorer.app import explorer
from warehouse.facts import damage
from warehouse.facts.damage import Damage, DamagedRun, damage_among
from warehouse.facts.schema import FACTS
from warehouse.facts.shards import damaged, write_shard
from warehouse.lens.ask import ask
from warehouse.lens.connect import open_runs, open_warehouse, query
from warehouse.lens.gate import gate, read_policy, set_policy
from warehouse.lens.needed_views import needed_facts
from warehouse.lens.prune import expired, forget
from warehouse.lens.runs import resolve
from warehouse.lens.wholeness import refuse_damaged
from warehouse.report.listing import listing
from warehouse.report.render import write_report

RUNS = ["earlier", "run", "run-clean", "run-planted"]
DERIVED = {"attribute_sums", "annotation_sums"}  # made from rows, which are there


def first(root: Path, fact: str, run: str = "run") -> Path:
    return min((root / "facts" / fact).glob(f"run_id={'edits-demo' if fact == 'edits' else run}/*.parquet"))


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def flip(path: Path, place: int | None = None) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2 if place is None else place] ^= 4
    path.write_bytes(data)


def file(root: Path, path: Path) -> str:
    return str(path.relative_to(root))


def answers_on(root: Path, fact: str) -> None:
    """The other runs answer as ever, also about the fact that is damaged in `run`."""
    found = query(root, f"select distinct run_id from {fact} order by 1")["run_id"].to_pylist()
    assert found == sorted(folder.name[7:] for folder in (root / "facts" / fact).glob("*") if folder.name != "run_id=run")


def told(root: Path, path: Path, fact: str, wrong: str) -> None:
    """A damaged file of `run` is named, and what would rest on it is refused."""
    assert [(row["file"], row["wrong"]) for row in query(root, "from damaged").to_pylist()] == [(file(root, path), wrong)]
    refused = fact in needed_facts("from runs, gate") and fact not in DERIVED
    if refused:
        with pytest.raises(DamagedRun, match=path.name):
            gate(root, "run")
    else:
        assert gate(root, "run").verdict == "inconclusive"


@pytest.mark.long
@pytest.mark.parametrize("fact", FACTS)
def test_a_shard_of_each_fact_is_cut_and_flipped(root: Path, fact: str) -> None:
    path = first(root, fact)
    whole = path.read_bytes()
    for hurt, wrong in ((cut, "cut short"), (flip, "altered")):
        hurt(path)
        told(root, path, fact, wrong)
        assert [one.file for one in scrub(root).damage] == [file(root, path)]
        if fact not in ("edits", "runs", *DERIVED):
            answers_on(root, fact)
        path.write_bytes(whole)
        assert query(root, "from damaged").num_rows == 0


@pytest.mark.long
@pytest.mark.parametrize("fact", FACTS)
def test_each_of_twelve_flipped_bits_of_each_fact_is_told_by_the_next_question(root: Path, fact: str) -> None:
    path, rng = first(root, fact), random.Random(fact)
    whole = path.read_bytes()
    sound = query(root, f"from {fact} order by all") if fact in DERIVED else query(root, f"from {fact}")
    for place in (0, len(whole) - 1, *(rng.randrange(len(whole)) for _ in range(10))):
        data = bytearray(whole)
        data[place] ^= 1 << rng.randrange(8)
        path.write_bytes(data)
        if fact in DERIVED:  # the rows are asked in its place
            assert query(root, "select file from damaged")["file"].to_pylist() == [file(root, path)]
            assert query(root, f"from {fact} order by all").equals(sound)
            continue
        answer = ask(root, f"select run_id from {fact}")
        owner = path.parent.name.removeprefix("run_id=")
        assert any(f"{file(root, path)} (" in note for note in answer.notes)
        assert fact == "runs" or owner not in answer.rows["run_id"].to_pylist()
        with pytest.raises(DamagedRun, match=path.name):
            query(root, f"from {fact} where run_id = '{owner}'")
    path.write_bytes(whole)
    assert not [note for note in ask(root, f"select run_id from {fact}").notes if "is the old name of" not in note]


@pytest.mark.long
def test_what_rests_on_a_damaged_file_is_refused_and_what_does_not_is_answered(root: Path) -> None:
    path = first(root, "explanations")
    flip(path)
    told(root, path, "explanations", "altered")
    answer = ask(root, "select run_id, count(*) as n from explanations group by all order by all")
    assert answer.rows["run_id"].to_pylist() == ["earlier", "run-clean", "run-planted"]
    assert answer.notes == (
        f"run run is left out: {file(root, path)} (altered); run its audit again: it writes what is damaged or missing, no more "
        "(`cfx scrub run`)",
    )
    assert query(root, "select run_id from predictions group by all order by all")["run_id"].to_pylist() == RUNS
    for sql, values in (("from fr where run_id = $run", {"run": "run"}), ("from fr where run_id = 'run'", None)):
        with pytest.raises(DamagedRun, match=r"run run cannot be read whole: facts/explanations/run_id=run/00000\.parquet"):
            query(root, sql, values)
    for refused in (lambda: write_report(root, "run"), lambda: export(root, "run", root / "run.zip")):
        with pytest.raises(DamagedRun, match="run its audit again"):
            refused()
    assert not (root / "run.zip").exists()
    said = {row["run_id"]: (row["status"], row["verdict"], row["gate"]) for row in listing(root)}
    assert said["run"] == ("damaged", None, None) and said["earlier"][0] == "finished"
    shown = CliRunner().invoke(app, ["gate", "run", "-w", str(root)])
    assert shown.exit_code == 2 and "explanations/run_id=run/00000.parquet" in shown.stderr and "audit again" in shown.stderr
    assert gate_with(root, "earlier", Policy()).verdict in ("fail", "inconclusive")


@pytest.mark.long
def test_a_run_whose_policy_compares_it_with_a_damaged_one_gets_no_verdict(root: Path) -> None:
    flip(first(root, "effects", "earlier"))
    with pytest.raises(DamagedRun, match=r"run run cannot be read whole: facts/effects/run_id=earlier/"):
        gate(root, "run")
    assert query(root, "select run_id from gate_verdicts").num_rows == 0
    assert query(root, "select run_id from effects group by all order by all")["run_id"].to_pylist() == RUNS[1:]


@pytest.mark.long
def test_a_run_asked_about_damaged_edits_is_left_out_where_edits_are_read(root: Path) -> None:
    cut(first(root, "edits"))
    with closing(open_warehouse(root, sql="from edit_quality")) as lens, pytest.raises(DamagedRun, match="uses these edits"):
        refuse_damaged(lens, "run")
    assert query(root, "from edit_quality").num_rows == 0
    assert gate(root, "run").verdict == "inconclusive"  # which reads what the classifier answered, not the images


@pytest.mark.long
def test_rows_are_asked_where_their_sums_are_damaged(root: Path) -> None:
    asked = "select * from attribute_tests where run_id = 'run' order by all"
    before = query(root, asked)
    cut(first(root, "attribute_sums"))
    assert query(root, asked).equals(before) and before.num_rows > 0


@pytest.mark.long
def test_a_record_that_is_damaged_makes_no_run_another_one(root: Path) -> None:
    """Without `finished` a run would be one that is at work; without its last event the newest finished one another."""
    path = first(root, "runs", "run-planted")
    assert path.name == "finished.parquet"
    flip(path)
    assert "run-planted" not in query(root, "select run_id from runs")["run_id"].to_pylist()
    with pytest.raises(DamagedRun):
        query(root, "from runs where run_id = 'run-planted'")
    assert {row["run_id"]: row["status"] for row in listing(root)}["run-planted"] == "damaged"
    assert resolve(root, "run-pl") == "run-planted"


@pytest.mark.long
def test_a_damaged_policy_decides_nothing_until_it_is_set_anew(root: Path) -> None:
    path = first(root, "policies")
    cut(path)
    with pytest.raises(DamagedRun, match="set the policy anew with `cfx gate RUN --policy FILE`"):
        gate(root, "run")
    assert set_policy(root, "run", POLICY)
    held = read_policy(root, "run")
    assert held is not None and held["maximum_effect"] == POLICY["maximum_effect"] and not path.exists()
    assert damaged(root, "run") == []


@pytest.mark.long
def test_old_runs_go_also_where_they_are_damaged(root: Path) -> None:
    for fact in ("effects", "runs", "saliency"):
        cut(first(root, fact, "run-clean"))
    assert set(expired(root, 1, 0)) >= {"run-clean", "run-planted"} and "earlier" in expired(root, 1, 0)
    forget(root, "run-clean")
    assert not list(root.rglob("*run-clean*")) and first(root, "edits").exists()
    flip(first(root, "policies"))  # the base of `run` stays, though nobody can read that it is one
    began = datetime.now(UTC)
    write_shard(root, "runs", "run", "finished-9", run_rows(name="another", started=began, finished=began))
    assert "earlier" not in expired(root, 1, 1)


@pytest.mark.long
@pytest.mark.parametrize("fact", ["explanations", "runs"])
def test_the_explorer_marks_a_damaged_run_and_shows_the_others(root: Path, fact: str) -> None:
    flip(first(root, fact, "run-clean"))
    app_ = explorer(root, ("testserver",))
    client, path = TestClient(app_), file(root, first(root, fact, "run-clean"))
    deadline = time.monotonic() + 60
    while "data-awaited" in (page := client.get("/").text) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert path in page and "damaged" in page and page.count('scope="row"') == 4
    refused = client.get("/runs/run-clean")
    assert refused.status_code == 400 and path in refused.text
    assert client.get("/runs/earlier").status_code == 200


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Two runs of predictions alone."""
    for run in ("one", "two"):
        write_shard(tmp_path, "runs", run, "finished", run_rows(name=run))
        for key in "01":
            rows = prediction_rows(image_ids(2, seed=int(key)), ["smile"] * 2)
            write_shard(tmp_path, "predictions", run, key, rows)
    return tmp_path


def test_a_damaged_run_is_left_out_and_named_and_a_question_about_it_is_refused(small: Path) -> None:
    count = "select run_id, count(*) as n from predictions group by all order by all"
    path = small / "facts/predictions/run_id=one/1.parquet"
    whole, other = path.read_bytes(), [{"run_id": "two", "n": 4}]
    for place in (0, 100, len(whole) // 2, len(whole) - 60, len(whole) - 1):
        flip(path, place)
        answer = ask(small, count)
        assert answer.rows.to_pylist() == other and [note.split(" (")[0] for note in answer.notes] == [
            "run one is left out: facts/predictions/run_id=one/1.parquet"
        ]
        path.write_bytes(whole)
    cut(path)
    assert ask(small, count).rows.to_pylist() == other
    assert query(small, "select run_id from runs order by 1")["run_id"].to_pylist() == ["one", "two"]
    for sql, values in (
        ("from predictions where run_id = $run", {"run": "one"}),
        ("from predictions where run_id = 'one'", None),
    ):
        with pytest.raises(
            DamagedRun, match=r"run one cannot be read whole: facts/predictions/run_id=one/1\.parquet \(cut short\)"
        ):
            query(small, sql, values)
    [row] = query(small, "from damaged").to_pylist()
    assert (row["run_id"], row["fact"], row["wrong"]) == ("one", "predictions", "cut short") and "audit again" in row["way_out"]
    path.write_bytes(whole)
    assert query(small, count).num_rows == 2 and query(small, "from damaged").num_rows == 0


def test_scrub_names_what_is_damaged_unsealed_or_missing(small: Path) -> None:
    assert scrub(small).damage == () and scrub(small).files == 6
    cut(small / "facts/predictions/run_id=one/0.parquet")
    (small / "facts/predictions/run_id=one/1.parquet").write_bytes(b"PAR1 of another tool PAR1")
    row = {"stage": ["properties"], "shard": ["0"], "host": ["h"], "process": [1]}
    write_shard(small, "stages", "one", "properties.0", row | {name: [datetime.now(UTC)] for name in ("began", "ended")})
    found = {(one.fact, one.wrong) for one in scrub(small, "one").damage}
    assert found == {("predictions", "cut short"), ("predictions", "not sealed"), ("properties", "missing")}
    assert scrub(small, "two").damage == ()
    ended = CliRunner().invoke(app, ["scrub", "--json", "-w", str(small)])
    said = json.loads(ended.stdout.splitlines()[-1])
    assert ended.exit_code == 1 and {row["wrong"] for row in said["damaged"]} == {"cut short", "not sealed", "missing"}
    assert said["files"] == 7 and all(row["way_out"] for row in said["damaged"])
    assert CliRunner().invoke(app, ["scrub", "two", "-w", str(small)]).exit_code == 0


@pytest.fixture
def shards(tmp_path: Path) -> list[Path]:
    """Two shards that were written some time ago."""
    rows = prediction_rows(image_ids(2), ["smile"] * 2)
    paths = [write_shard(tmp_path, "predictions", "r1", str(i), rows).path for i in range(2)]
    time.sleep(2 * damage.SETTLED / 1e9)
    return paths


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """What is hashed from now on."""
    files: list[Path] = []
    whole = damage.wrong_with

    def counted(data: bytes, path: Path) -> str | None:
        files.append(path)
        return whole(data, path)

    monkeypatch.setattr(damage, "wrong_with", counted)
    return files


def as_another_process(root: Path, elsewhere: bool = False) -> None:
    """What was asked and written so far happened in a process that has ended; elsewhere: on another machine."""
    checked = damage._checked.pop(root.resolve())
    if elsewhere:
        checked._list.unlink(missing_ok=True)


def test_a_file_is_hashed_once_and_again_when_it_changes(shards: list[Path], tmp_path: Path, hashed: list[Path]) -> None:
    def wrong() -> list[Damage]:
        return damage_among(tmp_path, shards)

    as_another_process(tmp_path, elsewhere=True)
    assert wrong() == [] and len(hashed) == 2
    assert wrong() == [] and len(hashed) == 2
    as_another_process(tmp_path)
    assert wrong() == [] and len(hashed) == 2
    known = shards[0].stat()
    flip(shards[0])
    os.utime(shards[0], ns=(known.st_atime_ns, known.st_mtime_ns))  # size and time of writing as before
    assert [one.file for one in wrong()] == [file(tmp_path, shards[0])]
    flip(shards[0])
    copy = Path(shutil.copytree(tmp_path, tmp_path.with_name("copy")))  # same sizes and times, other files
    flip(copy / "facts/predictions/run_id=r1/1.parquet")
    known = shards[1].stat()
    os.utime(copy / "facts/predictions/run_id=r1/1.parquet", ns=(known.st_atime_ns, known.st_mtime_ns))
    assert [one.file for one in damage_among(copy, copy.rglob("*.parquet"))] == ["facts/predictions/run_id=r1/1.parquet"]


def test_what_was_written_on_this_machine_is_not_hashed(tmp_path: Path, hashed: list[Path]) -> None:
    rows = prediction_rows(image_ids(2), ["smile"] * 2)
    paths = []
    for i in range(3):
        paths.append(write_shard(tmp_path, "predictions", "r1", str(i), rows).path)
        time.sleep(2 * damage.SETTLED / 1e9)
    assert damage_among(tmp_path, paths) == [] and hashed == []
    flip(paths[0])
    as_another_process(tmp_path)
    assert [one.file for one in damage_among(tmp_path, paths)] == [file(tmp_path, paths[0])] and hashed == paths[:1]


def test_a_file_that_changes_at_once_after_it_was_written_is_damaged(tmp_path: Path) -> None:
    """Within a tick of the file system's clock, too."""
    rows = prediction_rows(image_ids(2), ["smile"] * 2)
    for i in range(20):
        path = write_shard(tmp_path, "predictions", "r1", str(i), rows).path
        flip(path)
        assert len(damage_among(tmp_path, [path])) == 1


def test_what_scrub_finds_is_known_to_questions(shards: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bit that a disk loses changes no time of the file."""
    assert damage_among(tmp_path, shards) == []
    stamps = {path: damage._stamp(path) for path in shards}
    flip(shards[1])
    monkeypatch.setattr(damage, "_stamp", stamps.__getitem__)
    assert damage_among(tmp_path, shards) == []
    assert [one.file for one in scrub(tmp_path).damage] == [file(tmp_path, shards[1])]
    assert len(damage_among(tmp_path, shards)) == 1
    damage._checked.clear()
    assert len(damage_among(tmp_path, shards)) == 1


@pytest.mark.long
def test_a_lens_of_one_run_says_nothing_of_another(root: Path) -> None:
    flip(first(root, "images", "earlier"))
    with closing(open_runs(root, ["run-clean"], sql="from images")) as lens:
        refuse_damaged(lens, "run-clean", "earlier")
        assert lens.execute("select count(*) from images").fetchall() == [(24,)]
    with pytest.raises(UserError, match="earlier"):
        query(root, "from images where run_id = $run", {"run": "earlier"})
