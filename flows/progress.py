"""Progress on the terminal: bars that move and say how long it will take, a line now and then in a pipe, nothing with --quiet."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from flows.terminal import escaped, printable

if TYPE_CHECKING:
    from flows.eta import Seen
    from flows.watch import Watch
    from tasks.run import Run

NAMES = {  # stage -> what it does, for people
    "images": "reading images",
    "predictions": "asking the classifier",
    "properties": "measuring properties",
    "explanations": "explaining",
    "attributes": "naming attributes",
    "saliency": "mapping saliency",
    "measurements": "measuring explanations",
    "set_metrics": "comparing sets",
    "explained": "exchanging places",
    "edits": "editing attributes alone",
    "effects": "asking about the edits",
    "judging": "judging",
    "surrogate": "training the surrogate",
    "prompts": "learning words",
    "autoencoders": "training autoencoders",
}
WHOLE, STARTING = "in all", "starting"
WIDE = 100  # columns of a terminal
LOOK, LOOK_FAR = 0.5, 5.0  # seconds between two looks; listing an object store takes requests
LINE = 30.0  # seconds between two lines in a pipe


def bars(console: Console) -> Progress:
    """Progress bars in this project's one style: what, how far, for how long, and how long still."""
    return Progress(
        TextColumn("{task.description}", justify="right"),
        BarColumn(bar_width=24 if console.width >= WIDE else 8),  # a line of 80 columns holds the longest words
        TextColumn("{task.fields[count]}"),
        TextColumn("{task.fields[spent]}", style="progress.elapsed"),
        TextColumn("{task.fields[left]}", style="progress.remaining"),
        console=console,
        transient=True,
        refresh_per_second=4,
    )


def left_in_words(seconds: float | None) -> str:
    """How long something will take, no finer than it is known.

    Examples:
        >>> [left_in_words(seconds) for seconds in (None, 3, 42, 100, 4000, 20000)]
        ['', 'a few seconds left', 'about 40 s left', 'about 2 min left', 'about 67 min left', 'about 5.6 h left']
    """
    if seconds is None:
        return ""
    if seconds < 10:
        return "a few seconds left"
    if seconds < 90:
        return f"about {round(seconds / 5) * 5} s left"
    return f"about {seconds / 60:.0f} min left" if seconds < 5400 else f"about {seconds / 3600:.1f} h left"


def spent_in_words(seconds: float) -> str:
    """Time that has passed.

    Examples:
        >>> spent_in_words(5), spent_in_words(3725)
        ('0:05', '1:02:05')
    """
    hours, rest = divmod(int(seconds), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"


@contextmanager
def saying(console: Console, quiet: bool, what: str) -> Iterator[None]:
    """Say what the body does, from its start: on a terminal for as long as it lasts."""
    if quiet:
        yield
    elif console.is_terminal:
        with console.status(escaped(what)):
            yield
    else:
        console.print(escaped(what), soft_wrap=True, highlight=False)
        yield


class Shown:
    """The bars of a watched run, or its lines in a pipe."""

    def __init__(self, watch: Watch, progress: Progress | None, console: Console, prior: Path | None) -> None:
        self.watch, self.progress, self.console, self.prior = watch, progress, console, prior
        self.began, self.line = time.monotonic(), time.monotonic()
        self.tasks: dict[str, TaskID] = {}
        self.began_at: dict[str, float] = {}
        self.spent: dict[str, float] = {}

    def look(self) -> None:
        """Bring what is shown up to date with what is on disk."""
        from flows.watch import training_of

        seen, now = self.watch.look(), time.monotonic()
        clock, before = self.watch.clock, self.watch.clock.stages
        if (training := training_of(self.prior)) is not None and training[0] < training[1]:
            self._show("train prior", "training the prior", *training, "steps", now, None)
        for name in self.watch.others:
            self._show(name, NAMES.get(name, name), 0, None, "", now, None)
        at_work = [name for name, one in seen.items() if one.at_work]
        for name, one in seen.items():
            if one.at_work or name in self.tasks or before[name].timed:
                total = before[name].work.images if name != "judging" else None
                left = None if one.finished else clock.left_of(name)
                self._show(name, NAMES[name], (total or 0) if one.finished else int(one.done), total, "images", now, left)
        for name in (name for name in self.tasks if name in NAMES and name not in seen and name not in self.watch.others):
            self._done(name)
        self._whole(now, clock.left(), at_work, seen)

    def _show(self, name: str, title: str, done: int, total: int | None, unit: str, now: float, left: float | None) -> None:
        began = self.began_at.setdefault(name, now)
        finished = total is not None and done >= total
        if not finished or name not in self.spent:
            self.spent[name] = now - began
        if self.progress is None:
            return
        count = "" if total is None else f"{done:,}/{total:,} {unit}"
        fields: dict[str, Any] = {
            "count": count,
            "spent": spent_in_words(self.spent[name]),
            "left": "" if finished else left_in_words(left),
        }
        if name not in self.tasks:
            self.tasks[name] = self.progress.add_task(title, total=total, count="", spent="", left="")
        self.progress.update(self.tasks[name], completed=done, total=total, **fields)

    def _done(self, name: str) -> None:
        if self.progress is not None:
            self.progress.update(self.tasks[name], completed=1, total=1, left="")

    def _whole(self, now: float, left: float | None, at_work: list[str], seen: dict[str, Seen]) -> None:
        spent = now - self.began
        if self.progress is not None:
            share = None if left is None else 1000 * spent / max(1e-9, spent + left)
            if WHOLE in self.tasks:  # the last line stays the last
                self.progress.remove_task(self.tasks[WHOLE])
            fields: dict[str, Any] = {"count": "", "spent": spent_in_words(spent), "left": left_in_words(left)}
            total = None if share is None else 1000
            title = WHOLE if at_work or len(self.tasks) > (WHOLE in self.tasks) else STARTING
            self.tasks[WHOLE] = self.progress.add_task(title, completed=int(share or 0), total=total, **fields)
        elif now - self.line >= LINE:
            self.line = now
            parts = [
                f"{NAMES[name]}: {int(seen[name].done):,} of {self.watch.clock.stages[name].work.images:,} images"
                for name in at_work
            ]
            parts += [NAMES.get(name, name) for name in self.watch.others]
            parts = parts or [STARTING]
            said = "; ".join([*parts, f"{spent_in_words(spent)} so far", *filter(None, [left_in_words(left)])])
            self.console.print(printable(said), markup=False, soft_wrap=True, highlight=False)


@contextmanager
def watched(console: Console, quiet: bool, run: Run) -> Iterator[None]:
    """Show the progress of a run while the body works on it."""
    if quiet:
        yield
        return
    from flows.engine import one_thread, shards_at_a_time
    from flows.eta import Clock
    from flows.watch import Watch
    from tasks.advice.cost_estimate import pass_seconds, works

    with one_thread():
        clock = Clock.of(works(run), shards_at_a_time(run.config), pass_seconds(run))
    watch, done = Watch(run, clock), threading.Event()
    progress = bars(console) if console.is_terminal else None
    shown = Shown(watch, progress, console, run.prior)

    def follow() -> None:
        shown.look()
        while not done.wait(LOOK if isinstance(run.root, Path) else LOOK_FAR):
            shown.look()

    follower = threading.Thread(target=follow, daemon=True)
    if progress is not None:
        progress.start()
    follower.start()
    try:
        yield
    finally:
        done.set()
        follower.join()
        watch.close()
        if progress is not None:
            progress.stop()


@contextmanager
def training_bar(console: Console, quiet: bool, steps: int) -> Iterator[Callable[[int, float], None]]:
    """A `report(step, loss)` for a training loop: a bar on a terminal, a line now and then elsewhere."""
    with training_bars(console, quiet) as report:
        yield lambda step, loss: report("", step, steps, f"loss {loss:.4f}")


@contextmanager
def training_bars(console: Console, quiet: bool, what: str = "") -> Iterator[Callable[..., None]]:
    """A `report(network, step, steps, more)` for networks in training: a bar each, with the time left, a line now and then in a
    pipe. what: the body does beside training, which is said from its start."""
    if quiet:
        yield lambda name, step, steps, more="": None
        return
    began: dict[str, tuple[float, int]] = {}  # by network: when it was first heard of, and at which step
    said: dict[str, float] = {}
    progress = bars(console) if console.is_terminal else None
    tasks: dict[str, TaskID] = {}
    if progress is not None:
        progress.start()
        if what:
            progress.add_task(escaped(what), total=None, count="", spent="", left="")
    elif what:
        console.print(printable(what), markup=False, soft_wrap=True, highlight=False)

    def report(name: str, step: int, steps: int, more: str = "") -> None:
        now, title = time.monotonic(), f"training the {name}" if name else "training"
        start, first = began.setdefault(name, (now, step))
        left = (now - start) / (step - first) * (steps - step) if step > first else None
        spent = spent_in_words(now - start)
        if progress is None:
            if name not in said or now - said[name] >= LINE or step >= steps:  # at once, too: where a killed one goes on from
                said[name] = now
                parts = [
                    f"{title}: step {step:,} of {steps:,}",
                    more,
                    f"{spent} so far",
                    left_in_words(left) if step < steps else "",
                ]
                console.print(printable("; ".join(filter(None, parts))), markup=False, soft_wrap=True, highlight=False)
            return
        if name not in tasks:
            tasks[name] = progress.add_task(title, total=steps, count="", spent="", left="")
        count = f"{step:,}/{steps:,} steps" + (f", {more}" if more else "")
        progress.update(tasks[name], completed=step, count=count, spent=spent, left=left_in_words(left))

    try:
        yield report
    finally:
        if progress is not None:
            progress.stop()
