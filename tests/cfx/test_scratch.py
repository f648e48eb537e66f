"""Temporary folders: a living process keeps its own, and what a dead one left goes with the next sweep."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from cfx.scratch import DAY, OWNER, held, scratch, sweep, sweep_all, temporary_folder

MAKES_ONE = """
import sys
from pathlib import Path
from cfx.scratch import scratch
folder = scratch(Path(sys.argv[1]))
(folder / "half.parquet").write_bytes(b"half")
print(folder, flush=True)
sys.stdin.read()
"""


def test_what_a_process_left_that_was_killed_goes_and_no_living_ones(tmp_path: Path) -> None:
    mine = scratch(tmp_path)
    command = [sys.executable, "-c", MAKES_ONE, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        theirs = Path(other.stdout.readline().strip())
        assert theirs.parent == tmp_path and theirs != mine
        assert sweep(tmp_path) == sweep_all(tmp_path) == [] and (theirs / "half.parquet").exists()
        other.send_signal(signal.SIGKILL)
        other.wait()
        assert sweep(tmp_path) == [theirs] and not theirs.exists()
    assert mine.is_dir() and scratch(tmp_path) == mine


def test_a_process_that_ends_takes_its_folder_with_it(tmp_path: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", MAKES_ONE, str(tmp_path)], input="", capture_output=True, text=True, check=True)
    assert ended.stdout.startswith(str(tmp_path)) and list(tmp_path.iterdir()) == []


def test_a_folder_that_somebody_removed_is_made_again(tmp_path: Path) -> None:
    first = scratch(tmp_path / "tmp")
    (first / OWNER).unlink()
    first.rmdir()
    second = scratch(tmp_path / "tmp")
    assert second.is_dir() and second != first and sweep(tmp_path / "tmp") == []


def test_what_never_had_an_owner_goes_after_a_day(tmp_path: Path) -> None:
    """Older versions of cfx wrote their parts without a folder; one of them may be at work."""
    old, new, folder = tmp_path / "old.parquet", tmp_path / "new.parquet", tmp_path / "at-work"
    for file in (old, new):
        file.write_bytes(b"half")
    (folder / "run").mkdir(parents=True)
    long_ago = time.time() - DAY - 60
    for path in (old, folder / "run", folder):
        os.utime(path, (long_ago, long_ago))
    with held(folder / "another"):  # somebody is at work in it
        os.utime(folder, (long_ago, long_ago))
        assert sweep_all(tmp_path) == [old]
    os.utime(folder, (long_ago, long_ago))
    assert sweep_all(tmp_path) == [folder] and new.exists()


def test_a_folder_is_held_by_one_and_empty_at_first(tmp_path: Path) -> None:
    folder = tmp_path / "r1"
    folder.mkdir()
    (folder / "of a killed run").write_text("{}")
    with held(folder) as mine, held(folder) as second:
        assert mine and not second and [path.name for path in folder.iterdir()] == [OWNER]
    assert not folder.exists()


def test_a_temporary_folder_is_gone_after_its_body(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with temporary_folder() as folder:
        assert folder.is_relative_to(tmp_path) and folder.is_dir()
        (folder / "file").write_text("")
    assert not folder.exists()
