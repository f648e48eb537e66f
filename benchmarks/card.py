"""The device that benchmarks/gpu.py measures on. What only a GPU has stands here and nowhere else in it."""

from __future__ import annotations

import platform
import shutil
import subprocess
import time
from collections.abc import Callable
from typing import NamedTuple

import torch

from benchmarks.live_bytes import LiveBytes
from tasks.busy import busy


class Spent(NamedTuple):
    """What one call takes."""

    seconds: float
    busy_share: float | None  # of that time; of a CPU, of the thread that calls
    peak_mib: float | None  # the most that is held at once of what is computed


class Card:
    """The GPU, where torch sees one, else the CPU."""

    def __init__(self) -> None:
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.is_gpu = self.device == "cuda"

    def facts(self) -> dict[str, str | None]:
        """Its name, its driver and what computes on it."""
        name = torch.cuda.get_device_name() if self.is_gpu else f"{platform.machine()}, {torch.get_num_threads()} threads"
        return {"hardware": name, "driver": _driver() if self.is_gpu else None, "torch": torch.__version__}

    def wait(self) -> None:
        """Until what it was asked to compute is done."""
        if self.is_gpu:
            torch.cuda.synchronize()

    def forget(self) -> None:
        """Give back memory that nothing uses."""
        if self.is_gpu:
            torch.cuda.empty_cache()

    def spent(self, once: Callable[[], object], seconds: float, countable: bool = True) -> Spent:
        """What a call takes, repeated for so many seconds or more. It has been called before.

        countable: whether a CPU's memory is counted, which what is compiled does not let see.
        """
        self.wait()
        before = 0
        if self.is_gpu:
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
        calls, took = 0, 0.0
        with busy(self.device) as computing:
            started = time.perf_counter()
            while not calls or took < seconds:
                once()
                self.wait()
                calls, took = calls + 1, time.perf_counter() - started
            computed = computing()
        if self.is_gpu:
            peak: int | None = torch.cuda.max_memory_allocated() - before
        else:
            peak = _counted(once) if countable else None
        return Spent(took / calls, None if computed is None else computed / took, None if peak is None else peak / 2**20)


def _counted(once: Callable[[], object]) -> int:
    """Bytes at the peak of a call on a CPU."""
    with LiveBytes() as live:
        once()
    return live.peak


def _driver() -> str | None:
    """The version of NVIDIA's driver."""
    if (command := shutil.which("nvidia-smi")) is None:
        return None
    asked = [command, "--query-gpu=driver_version", "--format=csv,noheader"]
    return subprocess.run(asked, capture_output=True, text=True).stdout.strip().partition("\n")[0] or None
