"""What holds for any input whatever: an answer or a refusal that names what is wrong, in bounded time and memory."""

from __future__ import annotations

import faulthandler
import resource
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn, TypeVar

from hypothesis import settings

from cfx.errors import UserError

Answer = TypeVar("Answer")
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
HUNG = 120  # seconds after which even code that hears no signal is ended, with its trace


class Hung(BaseException):
    """More CPU time than any input may take. Nothing that catches Exception catches it."""


def examples(few: int, many: int) -> settings:
    """So many in the suite, and so many with --hypothesis-profile=long."""
    return settings(max_examples=many if settings.get_current_profile_name() == "long" else few)


def answer(call: Callable[[], Answer], *named: object, mib: int = 256, seconds: float = 10) -> Answer | None:
    """What a call returns, or None where it refuses its input by a UserError whose message holds all of `named`.

    Fails for any other exception, a message of more than some lines, more than so many seconds of CPU, or so many MiB at once.
    """
    try:
        with bounded(mib, seconds):
            return call()
    except UserError as error:
        said = str(error)
    assert said.strip(), "a refusal without a word"
    assert [name for name in named if str(name) not in said] == [], said
    assert len(said) < 20_000, f"a refusal of {len(said):,} characters: {said[:500]}"
    return None


@contextmanager
def bounded(mib: int, seconds: float) -> Iterator[None]:
    """Fails for more CPU time than this, and for a process that holds so many MiB more at any moment in between."""
    before, data = _mib("VmRSS"), resource.getrlimit(resource.RLIMIT_DATA)
    CLEAR.write_text("5")  # the highest that VmRSS has been is counted from now on (proc(5))
    resource.setrlimit(resource.RLIMIT_DATA, (int(_mib("VmData") + 4 * mib) << 20, data[1]))  # a bomb harms nobody else
    heard = signal.signal(signal.SIGPROF, _hung)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    faulthandler.dump_traceback_later(HUNG, exit=True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, heard)
        resource.setrlimit(resource.RLIMIT_DATA, data)
    grown = _mib("VmHWM") - before
    assert grown < mib, f"{grown:,.0f} MiB more at once, where {mib} are allowed"


def _hung(*_: object) -> NoReturn:
    raise Hung


def _mib(what: str) -> float:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(f"{what}:"))
    return int(line.split()[1]) / 1024
