"""Old runs go whole, the newest finished one of each audit stays."""

from datetime import UTC, datetime, timedelta

import pytest
from facts import image_ids, prediction_rows, run_rows
from typer.testing import CliRunner

from flows.cli import app
from warehouse.facts.shards import write_shard
from warehouse.lens.connect import query
from warehouse.lens.prune import expired, forget

NOW = datetime(2026, 6, 1, tzinfo=UTC)


def write(root, run_id, name, age, status="finished"):
    began = NOW - timedelta(days=age)
    write_shard(root, "runs", run_id, status, run_rows() | {"name": [name], "status": [status], "started": [began]})
    write_shard(root, "predictions", run_id, "0", prediction_rows(image_ids(2), ["smile"] * 2))
    (root / "reports").mkdir(exist_ok=True)
    (root / "reports" / f"{run_id}.html").write_text("report")


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
    assert forget(root, "a-old") == 2
    assert not [path for path in root.rglob("*") if "a-old" in str(path)]
    assert query(root, "select run_id from runs order by 1")["run_id"].to_pylist() == ["a-new", "a-newer", "b-broken", "b-only"]
    assert forget(root, "a-old") == 0


def test_the_command_lists_first_and_deletes_when_told(root):
    command = ["prune", "--days", "1", "--keep", "1", "-w", str(root)]
    listed = CliRunner().invoke(app, command)
    assert listed.exit_code == 0 and "a-new: would be deleted" not in listed.stdout
    assert "a-old: would be deleted; add --yes" in listed.stdout and query(root, "from runs").num_rows == 5
    done = CliRunner().invoke(app, [*command, "--yes"])
    assert done.exit_code == 0 and "a-old: 2 files deleted" in done.stdout
    assert query(root, "select run_id from runs order by 1")["run_id"].to_pylist() == ["a-new", "b-only"]
