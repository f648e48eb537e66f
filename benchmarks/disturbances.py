"""What may happen to an audit, each a function of a `Lab` that disturbs one for real. It returns the files that it damaged."""

from __future__ import annotations

import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from functools import partial
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from typing import NamedTuple, TypeAlias

from benchmarks.deployment import ENDED, ROOT, Stack
from benchmarks.lab import CFX, ENDS, Lab
from benchmarks.toy_endpoint import ToyEndpoint
from tasks.stages.strays import KEPT

Damaged: TypeAlias = Iterable[Path] | None
STAGES = (  # facts, one of each stage of an audit
    "images", "predictions", "properties", "explanations", "attributes", "saliency", "measurements", "set_metrics", "explained",
    "label_issues", "edits", "effects", "policies",
)  # fmt: skip
YEAR = 365 * 86400
# Loaded before libc: the wall clock is off by as many seconds as stand in a file; time that only runs stays as it is. (Under
# libfaketime sleep fails: it takes the time to wake up at for one of its own.)
CLOCK = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const long long *off;
static const long long none = 0;

static long long seconds_off(void) {
    if (!off) {
        int file = open(getenv("CLOCK_OFF"), O_RDONLY);
        void *there = file < 0 ? MAP_FAILED : mmap(0, sizeof none, PROT_READ, MAP_SHARED, file, 0);
        if (file >= 0) close(file);
        off = there == MAP_FAILED ? &none : there;
    }
    return *off;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = syscall(SYS_clock_gettime, clock, now);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += seconds_off();
    return failed;
}

int gettimeofday(struct timeval *now, void *zone) {
    struct timespec exact;
    int failed = clock_gettime(CLOCK_REALTIME, &exact);
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return failed;
}

time_t time(time_t *where) {
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    if (where) *where = exact.tv_sec;
    return exact.tv_sec;
}
"""


class Disturbance(NamedTuple):
    """One thing that may happen. config: of the audit that is run afterwards; needs: what must be there for it."""

    name: str
    disturb: Callable[[Lab], Damaged]
    finished: bool = False  # it happens to a finished run
    config: str = "run"
    needs: str | None = None


def signalled(lab: Lab, fact: str, sent: signal.Signals, group: bool = False, config: str = "run") -> None:
    """A signal to the audit's main process, or as from a terminal to all of its group, in the stage that writes this fact."""
    audit = lab.audit(config)
    lab.reach(fact, audit.poll)
    if audit.poll() is None:
        (os.killpg if group else os.kill)(audit.pid, sent)
    began = time.monotonic()
    audit.wait(60)
    lab.note(stopped_in=round(time.monotonic() - began, 1))


def child_killed(lab: Lab, word: str, config: str = "run") -> None:
    """kill -9 of the audit's children whose command has this word in it, while it explains."""
    audit = lab.audit(config)
    lab.reach("explanations", audit.poll)
    victims = [process for process in lab.processes(word) if process.pid != audit.pid]
    for process in victims:
        process.kill()
    lab.note(killed=len(victims), exit_code=audit.wait(ENDS))


def deployed(lab: Lab, what: str) -> None:
    """kill -9 of the flow's process, of the worker and its flow, or of the server, as docs/how-to/production.md deploys them."""
    folder = lab.folder / "deployed"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    with Stack(folder, lab.folder / "run.yaml", ROOT, None, **lab.environment()) as stack:
        run = stack.start()
        lab.reach("explanations", lambda: stack.state(run) if stack.state(run) in ENDED else None)
        stack.kill(what)


def in_a_mount(lab: Lab, options: str, then: str = "", ended: str = "") -> None:
    """An audit into a file system of its own, in a name space of its own. then: commands while it is at work, $AUDIT its id;
    ended: once it is not.

    What is there in the end is copied to where the next run looks for it.
    """
    lab.root.mkdir(exist_ok=True)
    copy = lab.folder / "copy"
    script = f"""
        mount -t tmpfs -o {options} none {lab.root}
        {CFX} audit {lab.folder}/run.yaml & AUDIT=$!
        {then}
        code=0; wait $AUDIT || code=$?
        {ended}
        cp -a {lab.root}/. {copy}; umount {lab.root}; cp -a {copy}/. {lab.root}; rm -r {copy}
        exit $code
    """
    lab.note(exit_code=lab.start(["unshare", "--user", "--map-root-user", "--mount", "bash", "-ec", script]).wait(ENDS))


def full_disk(lab: Lab) -> None:
    size = sum(path.stat().st_blocks * 512 for path in lab.kept.rglob("*") if path.is_file())
    in_a_mount(lab, f"size={size // 3 // 1024}k")


def no_inodes(lab: Lab) -> None:
    in_a_mount(lab, f"size=64m,nr_inodes={len(list(lab.kept.rglob('*'))) // 2}")


def read_only(lab: Lab) -> None:
    first = next(file.name for file in lab.order if file.fact == "explanations")
    there = f"until [ -e {lab.root}/facts/{first} ] || [ ! -e /proc/$AUDIT ]; do sleep .01; done"
    again = f"mount --bind {lab.root} {lab.root}; mount -o remount,bind,ro {lab.root}"  # above files that are open to write
    in_a_mount(lab, "size=64m", f"{there}; {again}", f"umount {lab.root}")


def home_unwritable(lab: Lab) -> None:
    home = lab.folder / "home"
    script = f"mount --bind {home} {home}; mount -o remount,bind,ro {home}; exec {CFX} audit {lab.folder}/run.yaml"
    lab.note(exit_code=lab.start(["unshare", "--user", "--map-root-user", "--mount", "bash", "-ec", script]).wait(ENDS))


def clock_of(lab: Lab, seconds: int) -> dict[str, str]:
    """The environment of a process whose wall clock is off by so many seconds, until `set_clock` says otherwise."""
    library, off = lab.folder / "clock.so", lab.folder / "clock"
    if not library.exists():
        command = ["cc", "-x", "c", "-shared", "-fPIC", "-o", str(library), "-"]
        subprocess.run(command, input=CLOCK.encode(), check=True)
        off.write_bytes(bytes(8))
    set_clock(lab, seconds)
    return {"LD_PRELOAD": str(library), "CLOCK_OFF": str(off)}


def set_clock(lab: Lab, seconds: int) -> None:
    """The wall clock of the processes that `clock_of` was for jumps."""
    with (lab.folder / "clock").open("r+b") as file:
        file.write(struct.pack("q", seconds))


def clock_jumps(lab: Lab, before: int, after: int, kill: bool = False) -> None:
    """The clock is off by `before` seconds, and from the explanations on by `after`."""
    audit = lab.audit(**clock_of(lab, before))
    lab.reach("explanations", audit.poll)
    set_clock(lab, after)
    if kill:
        lab.reach("edits", audit.poll)
        audit.kill()
    lab.note(exit_code=audit.wait(ENDS))


def fails_in_the_future(lab: Lab) -> None:
    """It fails, and says so, while its clock is a year ahead."""
    in_the_way = lab.root / "facts" / "effects"
    in_the_way.parent.mkdir(parents=True)
    in_the_way.write_text("a file where a folder should be")
    lab.note(exit_code=lab.audit(**clock_of(lab, YEAR)).wait(ENDS))
    in_the_way.unlink()


def at_once(lab: Lab, other: str) -> None:
    """Two audits at once in one warehouse."""
    lab.note(exit_codes=[audit.wait(ENDS) for audit in (lab.audit(), lab.audit(other))])


def two_versions(lab: Lab) -> None:
    """Another version of cfx audits the same, at the same time, in the same warehouse."""
    newer = lab.folder / "newer"
    if not newer.exists():
        for package in ("cfx", "tasks", "warehouse", "flows"):
            shutil.copytree(ROOT / package, newer / package, ignore=shutil.ignore_patterns("__pycache__"))
        version = newer / "cfx" / "version.py"
        version.write_text(version.read_text().replace('__version__ = "', '__version__ = "99.'))
    theirs = lab.audit(command=[sys.executable, "-m", "flows.cli"], PYTHONPATH=str(newer))
    lab.note(exit_codes=[audit.wait(ENDS) for audit in (lab.audit(), theirs)])


def one_of_each_fact(lab: Lab) -> list[Path]:
    """A random file of each fact."""
    files = sorted(lab.root.glob("facts/*/*/*.parquet"))
    return [lab.chance.choice(list(shards)) for _, shards in groupby(files, lambda path: path.parent.parent)]


def damaged(lab: Lab, damage: Callable[[Lab, Path], None]) -> list[Path]:
    """One file of every fact is damaged while nobody works."""
    hit = one_of_each_fact(lab)
    for path in hit:
        damage(lab, path)
    lab.note(files=len(hit))
    return hit


def flip(lab: Lab, path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[lab.chance.randrange(len(data))] ^= 1 << lab.chance.randrange(8)
    path.write_bytes(data)


def cut(lab: Lab, path: Path) -> None:
    path.write_bytes(path.read_bytes()[: lab.chance.randrange(path.stat().st_size)])


def empty(lab: Lab, path: Path) -> None:
    path.write_bytes(b"")


def removed(lab: Lab, path: Path) -> None:
    path.unlink()


def strays(lab: Lab) -> list[Path]:
    """What file managers, editors and synchronising leave among the facts."""
    left = []
    for path in one_of_each_fact(lab):
        whole = path.read_bytes()
        beside = {
            "notes.txt": b"not a fact",
            f".{path.name}.swp": b"half a file",
            f"{path.stem} (copy).parquet": whole,
            f"{path.stem}-LAPTOP.parquet": whole,
        }
        if path.parent.parent.name not in KEPT:  # of what people wrote a damaged file stays, and is named
            beside[f"{path.stem}.sync-conflict.parquet"] = whole[:100]
        for name, data in beside.items():
            left.append(path.with_name(name))
            left[-1].write_bytes(data)
    (lab.root / "facts" / "lost+found").mkdir()
    (lab.root / "facts" / ".DS_Store").write_bytes(b"\0\0\0\1")
    return left


def endpoint_dies(lab: Lab) -> None:
    with ToyEndpoint(lab.port, lives=lab.asked // 2):
        lab.note(exit_code=lab.audit("box").wait(ENDS))


def budget_spent(lab: Lab) -> None:
    lab.write("poor", **lab.box(budget=lab.asked // 4))
    with ToyEndpoint(lab.port):
        lab.note(exit_code=lab.audit("poor").wait(ENDS))


def killed_while_asking(lab: Lab) -> None:
    with ToyEndpoint(lab.port) as endpoint:
        audit = lab.audit("box")
        deadline = time.monotonic() + ENDS
        least = lab.chance.randrange(lab.asked // 4, lab.asked)
        while endpoint.images < least and audit.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        audit.kill()
        audit.wait()


def scratch_removed(lab: Lab) -> None:
    """Somebody empties the warehouse's tmp/, again and again, while an audit works."""
    audit = lab.audit()
    lab.reach("images", audit.poll)
    while audit.poll() is None:
        shutil.rmtree(lab.root / "tmp", ignore_errors=True)
        time.sleep(0.05)
    lab.note(exit_code=audit.wait())


def pruned(lab: Lab) -> None:
    """`cfx prune` of everything while an audit works."""
    audit = lab.audit()
    lab.reach("saliency", audit.poll)
    lab.start([CFX, "prune", "--days", "0", "--keep", "0", "--yes", "-w", str(lab.root)]).wait(ENDS)
    lab.note(exit_code=audit.wait(ENDS))


def reader_gone(lab: Lab) -> None:
    """`cfx audit | head -1`: whoever reads what it prints is gone."""
    line = f"set -o pipefail; {CFX} audit {lab.folder}/run.yaml 2>&1 | head -1"
    lab.note(exit_code=lab.start(["bash", "-c", line]).wait(ENDS))


def suspended(lab: Lab) -> None:
    """The machine sleeps for ten seconds while it explains."""
    audit = lab.audit()
    lab.reach("explanations", audit.poll)
    everyone = lab.processes()
    for process in everyone:
        process.suspend()
    time.sleep(10)
    for process in everyone:
        process.resume()
    lab.note(exit_code=audit.wait(ENDS))


def _mounts() -> str | None:
    alone = ["unshare", "--user", "--map-root-user", "--mount", "true"]
    able = shutil.which("unshare") and subprocess.run(alone, capture_output=True).returncode == 0
    return None if able else "a mount name space"


def _without(engine: str) -> str | None:
    return None if find_spec(f"prefect_{engine}") else f"the extra {engine}"


MOUNTS = _mounts()
CLOCKS = None if sys.platform == "linux" and shutil.which("cc") else "Linux and a C compiler"
DISTURBANCES = (
    *(Disturbance(f"kill -9, {fact}", partial(signalled, fact=fact, sent=signal.SIGKILL)) for fact in STAGES),
    *(Disturbance(f"SIGTERM, {fact}", partial(signalled, fact=fact, sent=signal.SIGTERM)) for fact in ("explanations", "edits")),
    *(
        Disturbance(f"{name}, {fact}", partial(signalled, fact=fact, sent=sent, group=True))
        for name, sent, facts in (
            ("SIGHUP", signal.SIGHUP, ("saliency",)),
            ("Ctrl-C", signal.SIGINT, ("runs", "explanations", "effects")),
        )
        for fact in facts
    ),
    Disturbance("Prefect's server killed", partial(child_killed, word="flows.server")),
    Disturbance("Dask: workers killed", partial(child_killed, word="multiprocessing", config="dask"), needs=_without("dask")),
    Disturbance(
        "Dask: kill -9", partial(signalled, fact="explanations", sent=signal.SIGKILL, config="dask"), needs=_without("dask")
    ),
    Disturbance(
        "Ray: kill -9", partial(signalled, fact="explanations", sent=signal.SIGKILL, config="ray"), needs=_without("ray")
    ),
    *(Disturbance(f"deployment: kill -9 of the {what}", partial(deployed, what=what)) for what in ("flow", "worker", "server")),
    Disturbance("disk full", full_disk, needs=MOUNTS),
    Disturbance("no inodes left", no_inodes, needs=MOUNTS),
    Disturbance("read-only half-way", read_only, needs=MOUNTS),
    Disturbance("home read-only", home_unwritable, needs=MOUNTS),
    Disturbance("clock jumps a year ahead", partial(clock_jumps, before=0, after=YEAR), needs=CLOCKS),
    Disturbance("clock jumps a year back, then killed", partial(clock_jumps, before=0, after=-YEAR, kill=True), needs=CLOCKS),
    Disturbance("failed while the clock was a year ahead", fails_in_the_future, needs=CLOCKS),
    Disturbance("two audits of one configuration at once", partial(at_once, other="run")),
    Disturbance("two audits of two configurations at once", partial(at_once, other="other")),
    Disturbance("two versions of cfx at once", two_versions),
    Disturbance("a bit flipped in each fact", partial(damaged, damage=flip), finished=True),
    Disturbance("a file cut in each fact", partial(damaged, damage=cut), finished=True),
    Disturbance("a file emptied in each fact", partial(damaged, damage=empty), finished=True),
    Disturbance("a file removed of each fact", partial(damaged, damage=removed), finished=True),
    Disturbance("stray files among the facts", strays, finished=True),
    Disturbance("endpoint dies half-way and comes back", endpoint_dies, config="box"),
    Disturbance("budget spent, then raised", budget_spent, config="box"),
    Disturbance("kill -9 while an endpoint is asked", killed_while_asking, config="box"),
    Disturbance("tmp/ removed again and again", scratch_removed),
    Disturbance("pruned while it works", pruned),
    Disturbance("its reader is gone (| head -1)", reader_gone),
    Disturbance("machine suspended for 10 s", suspended),
)
