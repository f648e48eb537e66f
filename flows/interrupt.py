"""Ctrl-C on a command that works for long: it ends within seconds, whatever is under way. Finished shards are kept."""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType

SECONDS = 5  # to say good-bye to Prefect and to trackers, which may wait for what is no longer there
INTERRUPTED = 130  # the exit code of a command that Ctrl-C ended


def end_when_interrupted() -> None:
    """From now on Ctrl-C ends this process: by KeyboardInterrupt, after SECONDS in any case; a second one ends it at once."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, _end)


def _end(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
    sys.stderr.write("\nstopping; what is finished is kept: the same command goes on from there\n")
    sys.stderr.flush()
    last = threading.Timer(SECONDS, os._exit, (INTERRUPTED,))
    last.daemon = True
    last.start()
    raise KeyboardInterrupt
