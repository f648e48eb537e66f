"""An audit that is run again writes whatever is damaged or missing, of every fact, and leaves all that is whole."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.toy_audit import fact_hashes, lay_out, settings
from flows.in_process import audit_in_process
from tasks.check import check
from tasks.config import AuditConfig
from tasks.run import Run
from warehouse.evidence.scrub import scrub
from warehouse.facts.shards import write_shard
from warehouse.lens.connect import query

EMPTY = {"explained", "pairs", "probes", "property_claims", "transplants", "place_claims", "segment_claims", "rejected"}


def audited(folder: Path, images: int) -> Run:
    lay_out(folder, images)
    table = folder / "data" / "attributes.csv"
    given = settings(folder, 4, saliency={}, seeds=[0, 1])
    given["data"] |= {"annotations": str(table)}
    run = check(AuditConfig.model_validate(given))
    audit_in_process(run)
    return run


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A whole audit, with every fact that an audit of one classifier writes."""
    return audited(tmp_path_factory.mktemp("toy"), 4)


def cut(path: Path) -> None:
    os.truncate(path, 1000 if path.stat().st_size > 2000 else 100)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(data)


WAYS: tuple[Callable[[Path], None], ...] = (cut, flip, Path.unlink)


def hurt(root: Path, ways: tuple[Callable[[Path], None], ...]) -> dict[str, Path]:
    """One shard of each fact, damaged in these ways by turns."""
    found = {}
    for i, folder in enumerate(sorted((root / "facts").iterdir())):
        if folder.name == "reviews":
            continue
        found[folder.name] = min(folder.glob("*/*.parquet"))
        ways[i % len(ways)](found[folder.name])
    return found


@pytest.mark.long
def test_the_next_audit_heals_a_shard_of_every_fact(made: Run, caplog: pytest.LogCaptureFixture) -> None:
    root = made.root
    before, paths = fact_hashes(root), list(root.glob("facts/*/*/*.parquet"))
    assert {path.parent.parent.name for path in paths} - EMPTY - {"stages"} == before.keys()
    damaged = hurt(root, (cut, flip))
    written = {path: path.stat().st_mtime_ns for path in paths}
    assert {one.file for one in scrub(root).damage} == {str(path.relative_to(root)) for path in damaged.values()}
    with caplog.at_level(logging.WARNING):
        assert audit_in_process(made) == made.id
    assert scrub(root).damage == () and query(root, "from damaged").num_rows == 0
    assert fact_hashes(root) == before
    assert "is deleted" in caplog.text and "--policy FILE" in caplog.text  # what policy was lost nobody knows
    anew = {path for path, then in written.items() if not path.exists() or path.stat().st_mtime_ns != then}
    assert {path.parent.parent.name for path in anew} == set(damaged) and len(anew) == len(damaged)
    assert query(root, "select status from runs")["status"].to_pylist() == ["finished"]
    assert query(root, "select verdict from gate_verdicts").num_rows == 1


@pytest.mark.long
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_each_fact_is_healed_alone(made: Run, way: Callable[[Path], None]) -> None:
    root = made.root
    audit_in_process(made)
    before = fact_hashes(root)
    for fact in sorted(path.name for path in (root / "facts").iterdir()):
        path = min((root / "facts" / fact).glob("*/*.parquet"))
        way(path)
        audit_in_process(made)
        assert scrub(root).damage == (), fact
        assert fact_hashes(root) == before, fact


@pytest.mark.long
def test_a_run_that_failed_before_keeps_its_events(made: Run, tmp_path: Path) -> None:
    """Also where the record of the failure is damaged: when it was is known, why is lost."""
    from tasks.stages import run_record

    root = Path(shutil.copytree(made.root, tmp_path / "warehouse"))
    run = Run(
        made.config.model_copy(update={"warehouse": root}), made.id, made.device, made.classes, made.fingerprints, made.prior
    )
    failed = run_record.fail_run(run, "out of memory")
    started = query(root, "select started from runs")["started"].to_pylist()
    for path in (failed.path, failed.path.with_name("started.parquet")):
        cut(path)
    run_record.heal(run)
    run_record.start_run(run)
    assert scrub(root).damage == ()
    [last] = query(root, "select status, reason, started from runs").to_pylist()
    assert (last["status"], [last["started"]]) == ("failed", started) and "lost" in last["reason"]
    done = run_record.finish_run(run)
    assert done.key.startswith("finished-") and query(root, "select status from runs")["status"].to_pylist() == ["finished"]


@pytest.mark.long
def test_events_are_in_the_order_in_which_they_were_written(made: Run, tmp_path: Path) -> None:
    """Whatever the clock said."""
    from tasks.stages import run_record
    from warehouse.facts.shards import find_shard, read_shard

    root = Path(shutil.copytree(made.root, tmp_path / "warehouse"))
    run = Run(
        made.config.model_copy(update={"warehouse": root}), made.id, made.device, made.classes, made.fingerprints, made.prior
    )
    finished = find_shard(root, "runs", run.id, "finished")
    assert finished is not None
    (row,) = read_shard(finished).to_pylist()
    ahead = row["finished"].replace(year=2100)
    write_shard(
        root,
        "runs",
        run.id,
        "failed-21000101T000000000000",
        {
            name: [value]
            for name, value in (row | {"status": "failed", "finished": ahead, "reason": "by a clock that is ahead"}).items()
        },
    )
    assert query(root, "select status from runs")["status"].to_pylist() == ["failed"]
    run_record.finish_run(run)
    assert query(root, "select status from runs")["status"].to_pylist() == ["finished"]
