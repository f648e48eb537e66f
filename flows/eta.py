"""How long an audit has still to go: what is left of each stage, at the speed that it or stages like it had until now.

A stage that has begun is timed: so many images took so many seconds of threads at work. One that has not is counted from the
settings (`tasks.advice.cost_estimate.works`): its UNet evaluations at the speed of those that were timed, its queries at that of
a pass through classifier and oracle, corrected by how much slower than counted such stages turned out so far. What was done
before the watch began counts as done, and tells nothing of the speed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from tasks.advice.cost_estimate import Work

PHASES = (  # stages that are at work together; each phase waits for the one before
    ("images",),
    ("predictions", "properties"),
    ("explanations", "region_explanations", "attributes", "saliency", "measurements"),
    ("set_metrics",),
    ("explained", "edits", "effects"),
    ("judging",),
)
DRAWN = ("explanations", "region_explanations", "edits")  # what the UNet takes
SURE = 0.2  # of a stage's images: with as many timed, how it was counted does not matter any more
TIMED = 0.02  # of a stage's images: with fewer, its own speed is not known yet
SLOWEST, FASTEST = 10.0, 0.2  # times what was counted, at most


class Seen(NamedTuple):
    """What is seen of one stage at one moment."""

    done: float  # images, those of shards in the making included
    seconds: float = 0.0  # of threads at work, since the watch began
    evaluations: int = 0  # of the UNet, since then
    at_work: int = 0  # shards in the making
    finished: bool = False


@dataclass
class Timed:
    """What is known of one stage."""

    work: Work
    seen: Seen | None = None
    before: float = 0.0  # images that were done when the watch began
    marks: list[tuple[float, float]] = field(default_factory=list)  # (images, seconds), each time that there were more

    @property
    def done(self) -> float:
        """Images."""
        return 0.0 if self.seen is None else self.seen.done

    @property
    def seconds(self) -> float:
        """Of threads at work."""
        return 0.0 if self.seen is None else self.seen.seconds

    @property
    def timed(self) -> float:
        """Images that were done while watched."""
        return max(0.0, self.done - self.before)

    @property
    def left(self) -> float:
        """Images."""
        return 0.0 if self.seen is not None and self.seen.finished else max(0.0, self.work.images - self.done)

    @property
    def each(self) -> float:
        """Seconds an image took of late: over the last half of what was timed, as a machine may have become slower or faster."""
        half = self.before + self.timed / 2
        images, seconds = next((mark for mark in reversed(self.marks) if mark[0] <= half), (self.before, 0.0))
        return (self.seconds - seconds) / (self.done - images)

    @property
    def is_timed(self) -> bool:
        """Whether its own speed is known."""
        return self.seconds > 0 and self.timed >= max(1.0, TIMED * self.work.images)


@dataclass
class Clock:
    """The time that an audit has to go, from what is seen of it. seconds: of a pass through a network, an image."""

    stages: dict[str, Timed]
    workers: int
    seconds: float
    watching: bool = False

    @classmethod
    def of(cls, works: Iterable[Work], workers: int, seconds: float) -> Clock:
        """A clock of these stages, `workers` shards at a time."""
        return cls({work.stage: Timed(work) for work in works}, workers, seconds)

    def see(self, seen: Mapping[str, Seen]) -> None:
        """What is seen now, of every stage. The first time, it is what was done before."""
        for name, one in seen.items():
            stage = self.stages[name]
            if not self.watching:
                stage.before = one.done
            if one.done > stage.done or not stage.marks:
                stage.marks.append((one.done, one.seconds))
            stage.seen = one
        self.watching = True

    def left_of(self, name: str) -> float | None:
        """Seconds that a stage has to go by itself; None where nothing tells."""
        stage = self.stages[name]
        spent = self._thread_seconds(stage)
        return None if spent is None else spent / self._side_by_side(stage)

    def left(self) -> float | None:
        """Seconds that the audit has to go; None until it can be told."""
        total = 0.0
        for phase in PHASES:
            there = [self.stages[name] for name in phase if name in self.stages]
            spent = [seconds for stage in there if (seconds := self._thread_seconds(stage)) is not None]
            if len(spent) < len(there):
                return None
            alone = [seconds / self._side_by_side(stage) for stage, seconds in zip(there, spent, strict=True)]
            total += max([sum(spent) / self.workers, *alone], default=0.0)
        return total

    def _side_by_side(self, stage: Timed) -> float:
        """How many of a stage's shards are made at a time from now on."""
        pieces = stage.left * stage.work.pieces / max(1, stage.work.images)
        return max(1.0, min(self.workers, pieces))

    def _thread_seconds(self, stage: Timed) -> float | None:
        """What is left of a stage, in seconds of one thread; None where nothing tells."""
        if (stage.seen is not None and stage.seen.finished) or not stage.work.images:
            return 0.0
        counted, share = self._counted(stage.work), stage.left / stage.work.images
        if not stage.is_timed:
            return None if counted is None else max(0.0, counted * share - stage.seconds)
        timed = stage.left * stage.each
        if counted is None:
            return timed
        if stage.work.stage == "explained":  # it begins and ends with what is no query
            return max((1 - share) * timed + share * share * counted, min(counted - stage.seconds, stage.work.seconds))
        certain = min(1.0, (1 - share) / SURE)
        return certain * timed + (1 - certain) * share * counted

    def _counted(self, work: Work) -> float | None:
        """What a whole stage takes, as counted; None where that rests on what was not timed yet."""
        slower = self._slower()
        rest = work.queries * self.seconds * slower + work.seconds * max(1.0, slower)
        if work.stage not in DRAWN:
            return rest
        drawn = self.stages.get("explanations")
        if work.stage == "explanations" or drawn is None or drawn.seen is None or not drawn.is_timed:
            return None
        if work.evaluations and drawn.seen.evaluations:
            return rest + work.evaluations * drawn.seconds / drawn.seen.evaluations
        return rest + (2 if work.stage == "edits" else 1) * work.images * drawn.seconds / drawn.timed

    def _slower(self) -> float:
        """How many times slower than counted the stages were that were counted and timed."""
        timed = [stage for stage in self.stages.values() if stage.is_timed and stage.work.stage not in (*DRAWN, "images")]
        spent = sum(stage.seconds for stage in timed)
        counted = sum(
            (stage.work.queries * self.seconds + stage.work.seconds) * stage.timed / max(1, stage.work.images) for stage in timed
        )
        return min(SLOWEST, max(FASTEST, spent / counted)) if counted else 1.0
