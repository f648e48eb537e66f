"""The time that an audit has to go: worked examples, and the recorded timelines of real audits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.time_left import RECORDED, errors, replayed
from flows.eta import Clock, Seen
from tasks.advice.cost_estimate import Work

TIMELINES = sorted(RECORDED.glob("*.json"))
TRUE = 0.3  # how far a time left may be off, as a share of what is really left, after a tenth of the work


@pytest.mark.parametrize("path", TIMELINES, ids=[path.stem for path in TIMELINES])
def test_after_a_tenth_of_the_work_the_time_left_is_true_within_a_third(path: Path) -> None:
    off = errors(json.loads(path.read_text()))["10%"]
    assert off is not None and abs(off) <= TRUE


def test_on_a_machine_that_stays_as_busy_as_it_is_it_stays_true() -> None:
    recorded = json.loads((RECORDED / "busy.json").read_text())
    told = [(moment, clock.left()) for moment, share, clock in replayed(recorded) if 0.1 <= share <= 0.9]
    assert len(told) > 40
    off = [abs(left / (recorded["end"] - moment) - 1) for moment, left in told if left is not None]
    assert len(off) == len(told) and sum(off) / len(off) < TRUE / 2


def drawing(images: int = 100, pieces: int = 10) -> Work:
    return Work("explanations", images, pieces)


def test_what_is_left_goes_on_at_the_speed_that_was_measured() -> None:
    clock = Clock.of([drawing()], 2, 0.0)
    clock.see({"explanations": Seen(0.0)})
    assert clock.left() is None, "nothing tells how long an explanation takes before one is there"
    clock.see({"explanations": Seen(10.0, seconds=20.0, at_work=2)})
    assert clock.left() == clock.left_of("explanations") == pytest.approx(90 * 2 / 2)
    clock.see({"explanations": Seen(100.0, seconds=200.0, finished=True)})
    assert clock.left() == 0


def test_what_was_done_before_a_kill_counts_as_done_and_not_as_speed() -> None:
    clock = Clock.of([drawing()], 2, 0.0)
    clock.see({"explanations": Seen(60.0)})
    assert clock.left() is None
    clock.see({"explanations": Seen(70.0, seconds=20.0)})
    assert clock.left() == pytest.approx(30 * 2 / 2)


def test_the_last_shard_is_made_by_one() -> None:
    clock = Clock.of([drawing(pieces=2)], 2, 0.0)
    clock.see({"explanations": Seen(0.0)})
    clock.see({"explanations": Seen(80.0, seconds=160.0)})
    assert clock.left() == pytest.approx(20 * 2), "of two shards one is left, and no second worker can help"


def test_edits_are_as_fast_as_explanations_an_evaluation() -> None:
    clock = Clock.of([drawing(), Work("edits", 40, 4, evaluations=800)], 2, 0.0)
    clock.see({"explanations": Seen(0.0), "edits": Seen(0.0)})
    clock.see({"explanations": Seen(50.0, seconds=90.0, evaluations=1800), "edits": Seen(0.0)})
    assert clock.left() == pytest.approx((50 * 1.8 + 800 * 90 / 1800) / 2)
    by_words = Clock.of([drawing(), Work("edits", 40, 4)], 2, 0.0)
    by_words.see({"explanations": Seen(0.0), "edits": Seen(0.0)})
    by_words.see({"explanations": Seen(50.0, seconds=90.0), "edits": Seen(0.0)})
    assert by_words.left() == pytest.approx((50 * 1.8 + 40 * 2 * 1.8) / 2), (
        "two drawings an image, where no evaluation is counted"
    )


def test_queries_count_before_they_are_timed_and_a_slow_machine_is_noticed() -> None:
    works = [
        Work("predictions", 100, 4, queries=100),
        Work("explained", 1000, 1, queries=1000),
        Work("judging", 100, 1, seconds=3.0),
    ]
    clock = Clock.of(works, 2, 0.01)
    nothing = {"explained": Seen(0.0), "judging": Seen(0.0)}
    clock.see({"predictions": Seen(0.0), **nothing})
    assert clock.left() == pytest.approx(100 * 0.01 / 2 + 1000 * 0.01 + 3)
    clock.see({"predictions": Seen(100.0, seconds=2.0, finished=True), **nothing})  # twice what was counted
    assert clock.left() == pytest.approx(2 * (1000 * 0.01 + 3))


def test_a_machine_that_got_faster_is_believed() -> None:
    clock = Clock.of([drawing()], 1, 0.0)
    clock.see({"explanations": Seen(0.0)})
    for done, seconds in ((10, 100), (20, 200), (30, 210), (40, 220), (50, 230)):
        clock.see({"explanations": Seen(float(done), seconds=float(seconds))})
    assert clock.left() == pytest.approx(50 * 1), "of the last half of what was timed an image took a second"
