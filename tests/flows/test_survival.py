"""A full disk, and an estimate beforehand, as docs/how-to/production.md says. All else that may happen: test_chaos.py."""

import json
import subprocess
import sys
from pathlib import Path

from typer.testing import CliRunner

from benchmarks.toy_audit import lay_out, settings, write_settings
from cfx.evidence import probes, transplant
from flows.cli import app

FULL_DISK = """
import subprocess, sys
from pathlib import Path
from warehouse.facts.shards import find_shard, write_shard
from warehouse.facts.storage import NotWritten

root = Path(sys.argv[1])
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", root], check=True)
rows = lambda i: {"path": [f"{i}-{j}.png" for j in range(2000)], "stage": ["ingest"] * 2000,
                  "reason": ["missing"] * 2000, "error": [str(hash((i, j))) for j in range(2000)]}
done = []
try:
    while True:
        done.append(write_shard(root, "rejected", "r", str(len(done)), rows(len(done))))
except NotWritten as error:
    print(error)
left = {path for path in root.rglob("*") if path.is_file() and path.name != ".owner"}
assert done and left == {shard.path for shard in done}, left
assert all(find_shard(root, "rejected", "r", shard.key) == shard for shard in done)
subprocess.run(["mount", "-o", "remount,size=8m", root], check=True)
assert write_shard(root, "rejected", "r", str(len(done)), rows(len(done))).rows == 2000
"""


def test_a_full_disk_is_reported_with_the_file_and_keeps_what_is_finished(tmp_path: Path) -> None:
    """A tmpfs of 256 KiB, in a mount namespace of its own."""
    alone = ["unshare", "--user", "--map-root-user", "--mount", sys.executable, "-c", FULL_DISK, str(tmp_path)]
    ran = subprocess.run(alone, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert "rejected/run_id=r" in ran.stdout and "could not be written: No space left on device" in ran.stdout


def test_the_plan_counts_what_the_audit_then_does(tmp_path: Path) -> None:
    lay_out(tmp_path, 8)
    path = write_settings(tmp_path, settings(tmp_path, 3, seeds=[0, 1], workers=2))
    planned = CliRunner().invoke(app, ["audit", str(path), "--plan", "--json"])
    assert planned.exit_code == 0, planned.output
    plan = json.loads(planned.stdout.splitlines()[-1])
    # tau 2: two steps of the guided arm and two of the null, each one UNet evaluation, for 8 images x 2 seeds
    assert (plan["images"], plan["shards"], plan["evaluations"]) == (8, 3, [64, 64])
    # smile is the label: two attributes, each edited on 8 images, as deep as the settings say, and their shams
    assert (plan["edits"], plan["edit_evaluations"]) == (2 * 8, 2 * 8 * 2 * 2)
    # probes, transplants for classifier and oracle, and four answers an edit are the most of what is asked
    assert plan["queries"] > probes.queries(8) + 2 * transplant.queries(8) + 4 * 16
    assert 0 < plan["hours"][0] <= plan["hours"][1] < 1
    assert not (tmp_path / "warehouse").exists()
