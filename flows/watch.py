"""What is seen of an audit at work: its shards on disk, and what those in the making say of themselves."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from cfx.scratch import held
from flows.eta import PHASES, Clock, Seen
from tasks.progress import AtWork, read, watched_folder
from tasks.run import Run
from tasks.stages.interventions import edits_id
from warehouse.facts.storage import files_below

SALIENCY = "-saliency"  # of shards of `measurements`, which two stages write


@dataclass
class Counted:
    """Shards of one stage that were made while watched."""

    seconds: float = 0.0
    evaluations: int = 0


@dataclass
class Watch:
    """One run, watched. Makes the folder in which its shards say how far they are; `close` takes it away."""

    run: Run
    clock: Clock
    made: dict[str, Counted] = field(default_factory=dict)  # by stage
    others: tuple[str, ...] = ()  # what is at work and no stage of the clock: networks that are trained

    def __post_init__(self) -> None:
        self.folder = watched_folder(self.run.root, self.run.id)
        self.holding = ExitStack()
        if self.folder is not None:
            self.holding.enter_context(held(self.folder))  # another process may watch the same run: then it is the other's

    def close(self) -> None:
        """Nobody watches any more."""
        self.holding.close()

    def look(self) -> dict[str, Seen]:
        """Every stage of the clock as it is now, which the clock is told."""
        now = time.time()
        making: dict[str, dict[str, AtWork]] = {}  # stage -> key -> shard
        for path in sorted(self.folder.glob("[!.]*")) if self.folder is not None else ():
            state, stage, key = read(path), *_stage(path.name)
            if state is None:
                continue
            if state.seconds is None:
                making.setdefault(stage, {})[key] = state
                continue
            counted = self.made.setdefault(stage, Counted())
            counted.seconds += state.seconds
            counted.evaluations += state.evaluations
            path.unlink(missing_ok=True)
        self.others = tuple(stage for stage in making if stage not in self.clock.stages)
        seen = {name: self._seen(name, making.get(name, {}), now) for name in self.clock.stages}
        seen = _finished(seen)
        self.clock.see(seen)
        return seen

    def _seen(self, name: str, making: dict[str, AtWork], now: float) -> Seen:
        work, counted = self.clock.stages[name].work, self.made.get(name, Counted())
        each = work.images / max(1, work.pieces)
        shards = self._shards(name)
        still = [state for key, state in making.items() if key not in shards]  # the others are just being closed
        parts = sum(min(1.0, state.done / state.expected) for state in still if state.expected)
        seconds = counted.seconds + sum(now - state.began for state in making.values())
        evaluations = counted.evaluations + sum(state.evaluations for state in making.values())
        done = min(float(work.images), (len(shards) + parts) * each)
        return Seen(done, seconds, evaluations, len(still), len(shards) >= work.pieces and not still)

    def _shards(self, name: str) -> set[str]:
        """The keys of a stage's shards that are done."""
        fact, owner = ("measurements" if name == "saliency" else name), self.run.id
        if name == "judging":
            return set()
        if name == "edits":
            owner = edits_id(self.run)
        files = files_below(self.run.root / "facts" / fact, f"run_id={owner}/[!.]*.parquet")
        if fact == "measurements":
            files = [file for file in files if file.stem.endswith(SALIENCY) is (name == "saliency")]
        return {file.stem for file in files}


def training_of(prior: Path | None) -> tuple[int, int] | None:
    """Steps done and steps in all of a prior that is being trained; None of one that is not."""
    try:
        state = json.loads((prior / "progress.json").read_text()) if prior is not None else {}
        return state["step"], state["steps"]
    except (OSError, ValueError, KeyError):
        return None


def _stage(name: str) -> tuple[str, str]:
    """The stage and the key of a shard's file, `fact.key`."""
    fact, _, key = name.partition(".")
    return "saliency" if fact == "measurements" and key.endswith(SALIENCY) else fact, key


def _finished(seen: dict[str, Seen]) -> dict[str, Seen]:
    """A stage whose next phase is at work is finished, however many of its shards were expected; what is last is at work once all
    before it is."""
    phases = [[name for name in phase if name in seen] for phase in PHASES]
    begun = max((i for i, phase in enumerate(phases) if any(seen[name].done or seen[name].at_work for name in phase)), default=0)
    for phase in phases[:begun]:
        seen |= {name: seen[name]._replace(finished=True) for name in phase}
    before = [one for name, one in seen.items() if name != "judging"]
    return seen | {"judging": seen["judging"]._replace(at_work=int(all(one.finished for one in before)))}
