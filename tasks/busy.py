"""How long a device computed, of the time that a piece of work took."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread

import torch

PAUSE = 0.2  # seconds between two samples of a GPU, whose driver looks back over a sixth of a second to one second


@contextmanager
def busy(device: str) -> Iterator[Callable[[], float | None]]:
    """Called at the end of the body or after it, what this yields says how many seconds of it the device computed.

    On a CPU: the CPU time of the thread that works in the body. On a GPU: the driver's own utilisation, of all its processes,
    sampled; None where it cannot be had (it takes the package nvidia-ml-py) or the body was shorter than a sample.
    """
    if device == "cuda":
        with sampled(torch.cuda.utilization) as seconds:
            yield seconds
        return
    started = time.thread_time()
    yield lambda: time.thread_time() - started


@contextmanager
def sampled(utilisation: Callable[[], int]) -> Iterator[Callable[[], float | None]]:
    """`busy` for a device that says, in percent, how much of the last moment it computed."""
    started, samples, done = time.monotonic(), list[int](), Event()

    def sample() -> None:
        while not done.wait(PAUSE):
            try:
                samples.append(utilisation())
            except Exception:  # no package, no driver, or a part of a card: of as many kinds; then nothing is known
                return

    thread = Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield lambda: (time.monotonic() - started) * sum(samples) / (100 * len(samples)) if samples else None
    finally:
        done.set()
        thread.join()
