"""How true the time left is: audits whose progress was recorded, replayed, and what was told against what it then took.

    .venv/bin/python -m benchmarks.time_left [--json]
    .venv/bin/python -m benchmarks.time_left --record FOLDER --images 128 --out benchmarks/recorded/NAME.json

The first replays benchmarks/recorded; a tenth of the work is a tenth of all seconds of threads at work. The second audits the
demo's planted classifier in a folder and records it, as the machine is then; an audit that was killed there is recorded resumed.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flows.eta import Clock, Seen
from tasks.advice.cost_estimate import Work

RECORDED = Path(__file__).parent / "recorded"
FRAMES = 90  # moments that are kept of a recorded audit
SHARES = (0.1, 0.25, 0.5, 0.75)  # of the work, when it is asked


def replayed(recorded: dict[str, Any]) -> Iterator[tuple[float, float, Clock]]:
    """Moments of a recorded audit: seconds since its start, the share of its work that is done, and the clock then."""
    works = [Work(*values) for values in recorded["works"]]
    clock = Clock.of(works, recorded["workers"], recorded["seconds"])
    total = sum(values[1] for values in recorded["frames"][-1][1])
    for moment, stages in recorded["frames"]:
        clock.see({work.stage: Seen(*values) for work, values in zip(works, stages, strict=True)})
        yield moment, sum(values[1] for values in stages) / total, clock


def errors(recorded: dict[str, Any]) -> dict[str, float | None]:
    """By share of the work: the time left as it was told over what was really left, less 1; None where none was told."""
    found: dict[str, float | None] = {}
    for moment, done, clock in replayed(recorded):
        for share in SHARES:
            if done >= share and f"{share:.0%}" not in found:
                left = clock.left()
                found[f"{share:.0%}"] = None if left is None else round(left / (recorded["end"] - moment) - 1, 3)
    return found


def record(folder: Path, images: int, out: Path) -> None:
    """Audit the demo's planted classifier, and write down what was seen of it every half second."""
    from flows.terminal import settle

    settle(quiet=True)
    from flows.audit import audit_checked
    from flows.demo import demo_config, lay_out
    from flows.engine import one_thread, shards_at_a_time
    from flows.watch import Watch
    from tasks.advice.cost_estimate import pass_seconds, works
    from tasks.check import check

    lay_out(folder, images)
    run = check(demo_config(folder, "planted", images))
    with one_thread():
        seconds, workers, listed = pass_seconds(run), shards_at_a_time(run.config), works(run)
    watch, done, began = Watch(run, Clock.of(listed, workers, seconds)), threading.Event(), time.monotonic()
    frames: list[tuple[float, list[list[float]]]] = []

    def follow() -> None:
        while not done.wait(0.5):
            seen = watch.look()
            row = [
                [round(one.done, 1), round(one.seconds, 2), one.evaluations, one.at_work, int(one.finished)]
                for one in seen.values()
            ]
            frames.append((round(time.monotonic() - began, 2), row))

    follower = threading.Thread(target=follow, daemon=True)
    follower.start()
    audit_checked(run)
    end = round(time.monotonic() - began, 2)
    done.set()
    follower.join()
    watch.close()
    kept = sorted({0, *range(0, len(frames), max(1, len(frames) // FRAMES)), len(frames) - 1})
    head = {
        "workers": workers,
        "seconds": round(seconds, 6),
        "end": end,
        "works": [
            [work.stage, work.images, work.pieces, work.evaluations, work.queries, round(work.seconds, 3)] for work in listed
        ],
    }
    rows = ",\n".join(json.dumps(frames[i], separators=(",", ":")) for i in kept)
    out.write_text(f'{json.dumps(head)[:-1]}, "frames": [\n{rows}\n]}}\n')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", type=Path, metavar="FOLDER")
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--out", type=Path, default=RECORDED / "new.json")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.record is not None:
        record(options.record, options.images, options.out)
        return
    found = {path.stem: errors(json.loads(path.read_text())) for path in sorted(RECORDED.glob("*.json"))}
    if options.json:
        print(json.dumps(found))  # noqa: T201
        return
    print(f"{'audit':12}" + "".join(f"{share:>8.0%}" for share in SHARES) + "  of the work: time left against what it took")  # noqa: T201
    for name, row in found.items():
        print(f"{name:12}" + "".join("       –" if value is None else f"{value:+8.0%}" for value in row.values()))  # noqa: T201


if __name__ == "__main__":
    main()
