"""What is seen of an audit at work, on a terminal, in a pipe and with --quiet."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import flows.progress
from flows.eta import Clock
from flows.progress import NAMES, Shown, bars, saying, training_bars
from flows.watch import Watch
from tasks.advice.cost_estimate import Work
from tasks.progress import advance, at_work, expect, watched_folder
from tasks.run import Run
from tasks.stage import stage
from tests.runs import run_of
from warehouse.facts.shards import Shard, write_shard
from warehouse.facts.storage import warehouse_at

WORKS = (Work("predictions", 8, 2, queries=8), Work("explanations", 8, 2), Work("judging", 8, 1, seconds=1.0))
ONE = {"image_id": ["a" * 64], "class": ["smiling"], "probabilities": [[0.0, 1.0]]}


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_of(tmp_path_factory.mktemp("watched"), interventions={"images": 0})


@pytest.fixture
def watch(audited: Run, tmp_path: Path) -> Watch:
    """A run of two shards of four images, of which nothing is done."""
    run = replace(audited, config=audited.config.model_copy(update={"warehouse": tmp_path}))
    return Watch(run, Clock.of(WORKS, 2, 0.001))


@stage("predictions")
def two_of_four(run: Run, images: Shard, seen: list[Any], watch: Watch) -> dict[str, Any]:
    """A stage of four images that is looked at when two are done."""
    expect(4)
    advance(2, evaluations=20)
    seen.append(watch.look())
    return ONE


def test_a_shard_is_seen_from_its_start_and_what_is_done_within_it(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.progress.PAUSE", 0.0)
    assert watch.look()["predictions"] == (0.0, 0.0, 0, 0, False)
    seen: list[Any] = []
    two_of_four(watch.run, Shard("images", "r1", "00000", Path(), 4), seen, watch)
    (within,) = (each["predictions"] for each in seen)
    assert (within.done, within.evaluations, within.at_work, within.finished) == (2.0, 20, 1, False)
    after = watch.look()["predictions"]
    assert (after.done, after.evaluations, after.at_work) == (4.0, 20, 0) and 0 < after.seconds < 60
    assert watch.look()["predictions"] == after, "a shard counts once"
    watch.close()
    assert watch.folder is not None and not watch.folder.exists()


def test_nothing_is_written_where_nobody_watches(audited: Run, tmp_path: Path) -> None:
    with at_work(tmp_path, "r1", "predictions", "00000"):
        expect(4)
        advance(1)
    assert list(tmp_path.iterdir()) == []
    assert watched_folder(warehouse_at("memory://store/warehouse"), "r1") is None


def test_what_a_killed_run_left_is_no_progress_and_its_shards_are_done(watch: Watch) -> None:
    assert watch.folder is not None
    watch.close()
    watch.folder.mkdir()
    (watch.folder / "predictions.00001").write_text('{"began": 0, "expected": 4, "done": 3}')
    write_shard(watch.run.root, "predictions", "r1", "00000", ONE)
    again = Watch(watch.run, Clock.of(WORKS, 2, 0.001))
    assert again.look()["predictions"][:4] == (4.0, 0.0, 0, 0)
    assert again.clock.stages["predictions"].timed == 0


def test_a_file_that_is_being_written_is_left_for_the_next_look(watch: Watch) -> None:
    assert watch.folder is not None
    (watch.folder / "predictions.00000").write_text('{"began": 0, "exp')
    assert watch.look()["predictions"].at_work == 0


def shown(watch: Watch, console: Console) -> str:
    """What a look prints while a shard is being made."""
    with at_work(watch.run.root, "r1", "explanations", "00000"):
        progress = bars(console) if console.is_terminal else None
        look = Shown(watch, progress, console, None)
        look.look()
        if progress is not None:
            console.print(progress.get_renderable())
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [80, 120])
def test_a_terminal_shows_stages_in_words_with_images_and_one_line_for_all(watch: Watch, width: int) -> None:
    text = shown(watch, Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None))
    stages, whole = [line.rstrip() for line in text.splitlines() if line.strip()]
    assert stages.split()[0] == NAMES["explanations"] and "0/8 images" in stages and "0:00" in stages
    assert whole.split()[:2] == ["in", "all"]


def test_a_pipe_gets_a_line_now_and_then(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(watch, Console(file=io.StringIO())) == "", "half a minute has not passed"
    monkeypatch.setattr(flows.progress, "LINE", 0.0)
    assert shown(watch, Console(file=io.StringIO())) == "explaining: 0 of 8 images; 0:00 so far\n"


def test_training_is_timed_and_quiet_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 30.0, 60.0, 90.0])
    monkeypatch.setattr(flows.progress.time, "monotonic", lambda: next(clock))
    for quiet, said in ((False, "training the judge: step 300 of 1,000; 1:00 so far; about 4 min left\n"), (True, "")):
        console = Console(file=io.StringIO())
        with training_bars(console, quiet) as report, saying(console, quiet=True, what="loading"):
            for step in (100, 200, 300) if not quiet else (1000,):
                report("judge", step, 1000)
        text = console.file.getvalue()  # type: ignore[attr-defined]
        assert text.endswith(said) and (text == "") is quiet


def test_what_begins_is_said_at_once() -> None:
    console = Console(file=io.StringIO())
    with saying(console, False, "loading [torch]"):
        assert console.file.getvalue() == "loading [torch]\n"  # type: ignore[attr-defined]
