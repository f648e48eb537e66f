"""Progress of an audit, read off the shards on disk: true for any process that runs it, after any kill."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from tasks.run import Run

STAGES = {  # fact -> what its stage is called
    "predictions": "predict",
    "explanations": "explain",
    "attributes": "attributes",
    "features": "measure",
    "effects": "edit",
}


def bars(console: Console) -> Progress:
    """Progress bars with an ETA, in this project's one style."""
    return Progress(
        TextColumn("{task.description}", justify="right"),
        BarColumn(bar_width=32),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}"),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )


class _Watch:
    """Bars for the stages of one run, and for a prior in training."""

    def __init__(self, progress: Progress, root: Path, run_id: str, prior: Path | None) -> None:
        self.progress, self.facts, self.run, self.prior = progress, root / "facts", run_id, prior
        self.tasks: dict[str, TaskID] = {}

    def count(self, fact: str) -> int:
        return len(list((self.facts / fact / f"run_id={self.run}").glob("*.parquet")))

    def show(self, name: str, done: int, total: int, unit: str) -> None:
        if name not in self.tasks:
            self.tasks[name] = self.progress.add_task(name, total=total, unit=unit)
        self.progress.update(self.tasks[name], completed=done, total=total)

    def look(self) -> None:
        """Bring the bars up to date with what is on disk."""
        if self.prior is not None and (self.prior / "progress.json").is_file():
            try:
                state = json.loads((self.prior / "progress.json").read_text())
            except ValueError:  # being written
                return
            self.show("train prior", state["step"], state["steps"], "steps")
        shards = self.count("images")
        for fact, stage in STAGES.items():
            if shards and (self.count(fact) or fact == "predictions"):
                self.show(stage, self.count(fact), shards, "shards")


@contextmanager
def watched(console: Console, run: Run) -> Iterator[None]:
    """Show the progress of a run on the terminal while the body works."""
    done = threading.Event()
    with bars(console) as progress:
        watch = _Watch(progress, run.root, run.id, run.prior)

        def follow() -> None:
            while not done.wait(0.5 if isinstance(run.root, Path) else 5):  # listing an object store takes requests
                watch.look()

        follower = threading.Thread(target=follow, daemon=True)
        follower.start()
        try:
            yield
        finally:
            done.set()
            follower.join()


@contextmanager
def training_bar(console: Console, quiet: bool, steps: int) -> Iterator[Callable[[int, float], None]]:
    """A `report(step, loss)` for a training loop: a bar on a terminal, a line now and then elsewhere."""
    if quiet or not console.is_terminal:
        yield (
            lambda step, loss: (
                console.print(f"step {step} of {steps}, loss {loss:.4f}") if step % max(1, steps // 20) == 0 else None
            )
        )
        return
    with bars(console) as progress:
        bar = progress.add_task("train", total=steps, unit="steps")
        yield lambda step, loss: progress.update(bar, completed=step, unit=f"steps, loss {loss:.4f}")


@contextmanager
def training_bars(console: Console, shown: bool) -> Iterator[Callable[[str, int, int], None]]:
    """A `report(network, step, steps)` for what an audit trains before it starts: a bar each, or a line now and then."""
    if not shown:
        yield (
            lambda name, step, steps: (
                console.print(f"training the {name}: step {step} of {steps}") if step % max(1, steps // 4) == 0 else None
            )
        )
        return
    with bars(console) as progress:
        tasks: dict[str, TaskID] = {}

        def report(name: str, step: int, steps: int) -> None:
            if name not in tasks:
                tasks[name] = progress.add_task(f"train {name}", total=steps, unit="steps")
            progress.update(tasks[name], completed=step)

        yield report
