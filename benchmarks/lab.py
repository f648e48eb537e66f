"""A folder in which a toy audit is disturbed, with a Prefect home and temporary files of its own; its processes bear a mark."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from benchmarks.deployment import until
from benchmarks.toy_audit import lay_out, run_hashes, settings, write_settings
from benchmarks.toy_endpoint import SETTINGS, ToyEndpoint
from cfx.scratch import LOCK

CFX = str(Path(sys.executable).with_name("cfx"))
IMAGES, SHARD_SIZE = 12, 4
MARK = "CFX_CHAOS"
ENDS = 600  # seconds that an audit may take to end, on a busy machine


class Written(NamedTuple):
    """A file of the undisturbed run: seconds after the first one, its name below `facts`, the fact."""

    seconds: float
    name: str
    fact: str


class Lab:
    """The toy, audited once without any disturbance: what it wrote, in which order, is what every other run is held to."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.chance = folder, random.Random(seed)
        self.root, self.kept, self.log = folder / "warehouse", folder / "undisturbed", folder / "log"
        folder.mkdir()
        lay_out(folder, IMAGES)
        for name in ("home", "temporary"):
            (folder / name).mkdir()
        with ToyEndpoint() as endpoint:  # its address is part of a configuration
            self.port = endpoint.port
        self.write("run")
        self.write("other", name="other", seeds=[1])
        self.write("dask", engine="dask")
        self.write("ray", engine="ray")
        self.write("box", **self.box())
        self.order: list[Written] = []
        self.facts: dict[str, dict[tuple[str, str], str]] = {}  # by configuration
        self.asked = 0  # images that the undisturbed audit of the endpoint asks for
        self._notes: dict[str, Any] = {}

    def write(self, file: str, /, **more: Any) -> Path:
        """A configuration as a YAML file."""
        return write_settings(self.folder, settings(self.folder, SHARD_SIZE, **{"workers": 1} | more), f"{file}.yaml")

    def box(self, budget: int | None = None) -> dict[str, Any]:
        """Settings of the audit of an endpoint."""
        limits = {"patience": 1, "batch": 4, "budget": budget}
        classifier = SETTINGS | {"url": f"http://127.0.0.1:{self.port}/", "limits": limits}
        return {"name": "box", "classifier": classifier, "surrogate": {"steps": 20, "batch": 8}}

    def undisturbed(self, config: str) -> None:
        """Audit this configuration in an empty warehouse, and keep what came of it."""
        self.clear()
        assert self.run(config) == 0, self.log
        self.facts[config] = run_hashes(self.root)
        if config == "run":
            times = sorted((path.stat().st_mtime_ns, path) for path in self.root.glob("facts/*/*/*.parquet"))
            names = [(at, path.relative_to(self.root / "facts")) for at, path in times]
            self.order = [Written((at - times[0][0]) / 1e9, str(name), name.parts[0]) for at, name in names]
            shutil.copytree(self.root, self.kept)  # with the times of the files

    def clear(self, finished: bool = False) -> None:
        """An empty warehouse, or one as the undisturbed run left it; nothing in the temporary folder."""
        for folder in (self.root, self.folder / "temporary"):
            shutil.rmtree(folder, ignore_errors=True)
        (self.folder / "temporary").mkdir()
        if finished:
            shutil.copytree(self.kept, self.root)

    def environment(self, **more: str) -> dict[str, str]:
        """Of every process of the lab: no Prefect server is named, as on a person's machine."""
        known = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        own = {"HOME": str(self.folder / "home"), "TMPDIR": str(self.folder / "temporary"), MARK: str(self.folder)}
        return known | own | {"OMP_NUM_THREADS": "1", "DO_NOT_TRACK": "1"} | more

    def audit(self, config: str = "run", command: Sequence[str] = (CFX,), **environment: str) -> subprocess.Popen[bytes]:
        """`cfx audit`, in a session of its own, as from a terminal."""
        return self.start([*command, "audit", str(self.folder / f"{config}.yaml")], **environment)

    def start(self, command: Sequence[str], **environment: str) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            env = self.environment(**environment)
            return subprocess.Popen(
                command, start_new_session=True, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env, cwd=self.folder
            )

    def run(self, config: str = "run", **environment: str) -> int:
        """The exit code of a whole audit."""
        if config != "box":
            return self.audit(config, **environment).wait(ENDS)
        with ToyEndpoint(self.port) as endpoint:
            code = self.audit(config, **environment).wait(ENDS)
        self.asked = self.asked or endpoint.images
        return code

    def reach(self, fact: str, ended: Callable[[], object]) -> None:
        """Wait for a random moment of the stage that writes this fact, as the undisturbed run went; or until the audit ended."""
        mine = [i for i, file in enumerate(self.order) if file.fact == fact]
        begins = self.order[max(0, mine[0] - 1)].seconds
        moment = self.chance.uniform(begins, self.order[mine[-1]].seconds)
        last = max((file for file in self.order if file.seconds <= moment), key=lambda file: file.seconds)
        path = self.root / "facts" / last.name
        deadline = time.monotonic() + ENDS
        while not path.exists() and ended() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        time.sleep(moment - last.seconds)

    def note(self, **what: Any) -> None:
        """Something to tell of the disturbance."""
        self._notes |= what

    def noted(self) -> dict[str, Any]:
        """What was noted since this was last called."""
        notes, self._notes = self._notes, {}
        return notes

    def processes(self, word: str = "") -> list[psutil.Process]:
        """The lab's own processes, whoever started them, whose command has the word in it."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == str(self.folder) and word in " ".join(process.cmdline()):
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def alone(self, seconds: float) -> int:
        """How many of the lab's processes are left when none is, or so many seconds later; these are then killed."""
        try:
            until(lambda: not self.processes(), seconds)
        except TimeoutError:
            left = self.processes()
            for process in left:
                process.kill()
            return len(left)
        return 0

    def shards(self) -> dict[Path, tuple[int, int]]:
        """Every file of facts, with what tells that it was written again."""
        return {path: ((at := path.stat()).st_mtime_ns, at.st_size) for path in self.root.glob("facts/*/*/*.parquet")}

    def temporary(self) -> list[str]:
        """Files that lie in the warehouse's tmp/, and in cfx's own folders in the system's."""
        there = [*(self.root / "tmp").rglob("*"), *(self.folder / "temporary").glob("cfx-*/**/*")]
        return sorted(str(path.relative_to(self.folder)) for path in there if path.is_file() and path.suffix != LOCK)
