"""Old runs go whole, the newest finished one of each audit stays."""

from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from facts import effect_rows, image_ids, prediction_rows, run_rows, write_run
from typer.testing import CliRunner

from flows.cli import app
from tasks.reading.gate import Policy, set_policy
from warehouse.facts.shards import write_shard
from warehouse.lens.connect import query
from warehouse.lens.prune import LEARNED, compared_with, expired, forget

NOW = datetime(2026, 6, 1, tzinfo=UTC)


def write(root, run_id, name, age, status="finished"):
    began = NOW - timedelta(days=age)
    write_shard(root, "runs", run_id, status, run_rows() | {"name": [name], "status": [status], "started": [began]})
    write_shard(root, "predictions", run_id, "0", prediction_rows(image_ids(2), ["smile"] * 2))
    (root / "reports").mkdir(exist_ok=True)
    (root / "reports" / f"{run_id}.html").write_text("report")


def draw(root, edits):
    path = root / f"facts/edits/run_id={edits}/0.parquet"
    path.parent.mkdir(parents=True)
    pq.write_table(pa.table({"image_id": ["portraits of somebody"]}), path)


@pytest.fixture
def root(tmp_path):
    write(tmp_path, "a-old", "a", 200)
    write(tmp_path, "a-newer", "a", 100)
    write(tmp_path, "a-new", "a", 10)
    write(tmp_path, "b-only", "b", 300)
    write(tmp_path, "b-broken", "b", 150, status="started")
    return tmp_path


def test_what_is_past_its_time_and_not_the_last_of_its_audit_goes(root):
    assert expired(root, 90, 1, NOW) == ["a-old", "b-broken", "a-newer"]
    assert expired(root, 90, 0, NOW) == ["b-only", "a-old", "b-broken", "a-newer"]
    assert expired(root, 120, 1, NOW) == ["a-old", "b-broken"]
    assert expired(root, 0, 2, NOW) == ["a-old"]


def test_a_run_goes_whole(root):
    assert forget(root, "a-old") == 3  # its report, too
    assert not [path for path in root.rglob("*") if "a-old" in str(path)]
    assert query(root, "select run_id from runs order by 1")["run_id"].to_pylist() == ["a-new", "a-newer", "b-broken", "b-only"]
    assert forget(root, "a-old") == 0


def test_the_command_lists_first_and_deletes_when_told(root):
    command = ["prune", "--days", "1", "--keep", "1", "-w", str(root)]
    listed = CliRunner().invoke(app, command)
    assert listed.exit_code == 0 and "a-new: would be deleted" not in listed.stdout
    assert "a-old: would be deleted; add --yes" in listed.stdout and query(root, "from runs").num_rows == 5
    done = CliRunner().invoke(app, [*command, "--yes"])
    assert done.exit_code == 0 and "a-old: 3 files deleted" in done.stdout
    assert query(root, "select run_id from runs order by 1")["run_id"].to_pylist() == ["a-new", "b-only"]


def test_what_was_made_for_a_run_alone_goes_with_it_and_what_others_use_stays(root):
    for run, edits in (("a-old", "edits-1"), ("a-old", "edits-2"), ("a-new", "edits-2")):
        write_shard(root, "effects", run, edits, effect_rows(image_ids(1), "glasses", [0.2], edits=[edits]))
    for edits in ("edits-1", "edits-2"):
        draw(root, edits)
    for made in (
        "answers/a-old/box.sqlite",
        "words/a-old/context.pth",
        "surrogates/a-old.safetensors",
        "editors/a-old.safetensors",
        "autoencoders/a-old.safetensors",
        "answers/a-new/box.sqlite",
    ):
        (root / made).parent.mkdir(parents=True, exist_ok=True)
        (root / made).write_bytes(b"made")
    forget(root, "b-broken")  # had it been at work, the edits might have been its own
    forget(root, "a-old")
    left = {
        str(path.relative_to(root))
        for folder in (*LEARNED, "facts/edits")
        for path in (root / folder).rglob("*")
        if path.is_file()
    }
    assert left == {"facts/edits/run_id=edits-2/0.parquet", "answers/a-new/box.sqlite"}
    assert not [path for path in root.rglob("*") if "a-old" in str(path)]


def test_edits_stay_while_another_run_is_at_work(root):
    write_shard(root, "effects", "a-old", "0", effect_rows(image_ids(1), "glasses", [0.2]))
    draw(root, "edits-1")
    forget(root, "a-old")
    assert (root / "facts/edits/run_id=edits-1/0.parquet").is_file()


@pytest.mark.long
def test_a_base_that_a_policy_names_stays_and_a_report_that_compared_is_written_again(tmp_path):
    for number, run in enumerate(("first", "second", "third")):
        write_run(tmp_path, run, {"smile": 0.3, "glasses": 0.2}, n=8)
        for event in ("started", "finished"):
            (tmp_path / f"facts/runs/run_id={run}/{event}.parquet").unlink()
        began = datetime(2026, 1, 1 + number, tzinfo=UTC)
        write_shard(tmp_path, "runs", run, "finished", run_rows(started=began, attempted=8, explained=8, flipped=8, rejected=0))
    set_policy(tmp_path, "third", Policy(), base="first")
    assert expired(tmp_path, 1, 1) == ["second"] and compared_with(tmp_path, "first") == ["second", "third"]
    set_policy(tmp_path, "third", Policy())
    assert compared_with(tmp_path, "second") == ["third"]
    done = CliRunner().invoke(app, ["prune", "--days", "1", "--yes", "-w", str(tmp_path)])
    assert done.exit_code == 0 and "third: report written again" in done.stdout, done.output
    assert query(tmp_path, "select run_id from runs")["run_id"].to_pylist() == ["third"]
    checked = CliRunner().invoke(app, ["verify", "third", "-w", str(tmp_path)])
    assert checked.exit_code == 0, checked.output


def test_the_twins_of_a_canary_stay_as_long_as_its_run_and_a_report_that_names_a_run_is_known(root):
    write(root, "a-planted", "a-planted", 120)
    write(root, "a-clean", "a-clean", 120)
    assert {"a-planted", "a-clean"} < set(expired(root, 90, 0, NOW))
    twins = {"attribute": "glasses", "planted_run": "a-planted", "clean_run": "a-clean", "verdict": "confirmed", "rank": 1}
    judged = {"power": 0.9, "false_alarms": [], "false_alarm_rate": 0.0, "passed": True, "why": "found"}
    write_shard(root, "canaries", "a-new", "all", {name: [value] for name, value in (twins | judged).items()})
    assert not {"a-planted", "a-clean"} & set(expired(root, 90, 0, NOW))
    assert {"a-planted", "a-clean", "a-new"} < set(expired(root, 0, 0, NOW))
    (root / "reports" / "a-new.sha256").write_text("0  facts/runs/run_id=b-broken/started.parquet\n")
    assert compared_with(root, "b-broken") == ["a-new"]
