"""The benchmarks of methods run from the command line and print what they promise."""

import json
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

HOME = Path(__file__).parent.parent
PROMISED = {
    "method", "preset", "n", "flip_rate", "judge_flip_rate", "seconds_per_flip", "speedup", "nfe_forward", "nfe_backward",
    "peak_mib", "planted_rank",
}  # fmt: skip


Printed = Callable[..., Any]  # the rows, or the one row, that a script prints


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Printed:
    """Runs a script as `python SCRIPT ARGUMENTS --json` does, in this process, and returns what its last line holds."""

    def run(script: str, *arguments: str) -> Any:
        monkeypatch.setattr(sys, "argv", [script, *arguments, "--json"])
        try:
            runpy.run_path(str(HOME / script), run_name="__main__")
        except SystemExit as ended:
            assert not ended.code
        return json.loads(capsys.readouterr().out.splitlines()[-1])

    return run


@pytest.mark.slow
@pytest.mark.long
def test_the_methods_benchmark_prints_its_rows_and_goes_on_where_it_stopped(printed: Printed, tmp_path: Path) -> None:
    command = ("benchmarks/methods.py", "--quick", "--only", "default/default", "--into", str(tmp_path))
    (row,) = printed(*command)
    assert row.keys() >= PROMISED
    assert (row["method"], row["n"], row["nfe_forward"]) == ("default", 4, 9)
    shards = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("explanations/*/*.parquet")}
    assert len(shards) == 1 and printed(*command) == [row]
    assert all(path.stat().st_mtime_ns == written for path, written in shards.items())


@pytest.mark.long
def test_the_gpu_benchmark_runs_on_a_cpu_with_tiny_networks(printed: Printed) -> None:
    found = printed("benchmarks/gpu.py", "--tiny", "--minutes", "10")
    methods = {"default", "fastdime", "maskdime", "ace-l1", "dime", "dvce"}
    rows, batches = ([row for row in found["rows"] if (row["what"] == "batches") is such] for such in (False, True))
    assert {row["what"] for row in rows} == {"unet", "gradient", *methods} and found["not_measured"] == []
    assert {row["size"] for row in rows if row["what"] == "default"} == {32, 48, 64}  # of pixels, of latents, and compiled
    assert all(row["seconds_per_image"] > 0 and row["busy_share"] > 0 for row in rows)
    assert all(row["peak_mib"] > 0 for row in rows if row["engine"] != "bfloat16, compiled")
    assert {row["engine"] for row in rows} > {"float32", "bfloat16", "bfloat16, compiled", "float32, channels first"}
    assert all(row["other_slot"] == row["again"] == 0 and row["other_size"] < 1e-5 for row in batches)  # on a CPU
    assert [row["precision"] for row in found["precisions"]] == ["float32", "bfloat16"]


def test_a_slowdown_is_seen_in_the_kept_history(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    history = tmp_path / "history.jsonl"
    seconds = [("a1", "old", 4.0), ("b2", "new", 1.0), ("c3", "new", 1.2), ("d4", "new", 2.2)]  # the other machine is no measure
    rows = [{"commit": at, "hardware": on, "figures": {"torch 8": took, "even": 1.0}} for at, on, took in seconds]
    history.write_text("".join(json.dumps(row | {"when": "", "benchmark": "engines"}) + "\n" for row in rows))
    monkeypatch.setattr(sys, "argv", ["track.py", "--history", str(history), "--draw"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(HOME / "benchmarks/track.py"), run_name="__main__")
    (line,) = capsys.readouterr().out.splitlines()
    assert ended.value.code == 1 and line == "slower: engines, torch 8: 2.2 at d4, 2.00 times the usual 1.1"
    assert "<svg" in (tmp_path / "history.svg").read_text() and len(history.read_text().splitlines()) == 4


@pytest.mark.slow
@pytest.mark.long
def test_the_hit_benchmark_prints_its_rows_and_a_hits_own_map_wins(printed: Printed) -> None:
    rows = printed("benchmarks/hit.py", "--quick", "--only", "hit")
    assert all(row.keys() >= {"model", "map", "accuracy", "gflops", "insertion", "deletion", "iou_truth"} for row in rows)
    own, *others = (next(row for row in rows if row["map"] == name) for name in ("hit", "rollout", "grad_cam", "chance"))
    assert own["accuracy"] > 0.95
    for suffix in ("", "_blur"):
        insertion, deletion = f"insertion{suffix}", f"deletion{suffix}"
        assert all(own[insertion] > other[insertion] and own[deletion] < other[deletion] for other in others)


@pytest.mark.long
def test_the_explorer_benchmark_prints_pages_and_reviews(printed: Printed) -> None:
    row = printed("benchmarks/explorer.py", "--quick")
    assert row["explanations"] == 600 and row["reviews"] == 40 and row["review_seconds"] > 0
    for name in ("page_seconds", "whole_seconds", "image_seconds"):
        assert 0 < row[name]["median"] <= row[name]["p95"] and row[name]["n"] >= 8
