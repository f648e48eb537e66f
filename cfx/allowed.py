"""Which code a configuration may name: any, for a person who starts an audit; where others can start one, what is listed.

The list is CFX_ALLOWED_MODULES of the environment: modules, with those below them, apart by commas; `pickle` stands for files
that run code when they are read, `dask` and `ray` for a cluster at an address. Empty, it allows cfx's own networks and those of
the hubs; where there is none, anything goes.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cfx.errors import UserError

VARIABLE = "CFX_ALLOWED_MODULES"
OWN = ("cfx.networks",)


@contextmanager
def confined() -> Iterator[None]:
    """In the body, and in processes that it starts, only what the operator lists may be named: nothing without a list."""
    before = os.environ.get(VARIABLE)
    os.environ.setdefault(VARIABLE, "")
    try:
        yield
    finally:
        if before is None:
            del os.environ[VARIABLE]


def check_module(reference: str) -> None:
    """Raises UserError, before anything is imported, for `package.module:name` that is no code for an audit or is not allowed."""
    package = reference.partition(":")[0]
    if package.partition(".")[0] in sys.stdlib_module_names:
        raise _of_python(reference)
    if not any(_below(package, own) for own in OWN):
        _check(package, f"{reference!r} may not be imported")


def check_object(reference: str, found: object) -> None:
    """Raises UserError for a function or class that its module has from Python's standard library."""
    home = getattr(found, "__module__", None) or ""
    if (inspect.isroutine(found) or inspect.isclass(found)) and home.partition(".")[0] in sys.stdlib_module_names:
        raise _of_python(reference)


def check_pickle(path: Path) -> None:
    """Raises UserError for a file that runs code when it is read, where that is not allowed."""
    _check("pickle", f"{path} runs code when it is read, so `allow_pickle` is refused")


def check_cluster(engine: str, address: str) -> None:
    """Raises UserError for a cluster, which sends code and is sent some, where that is not allowed."""
    _check(engine, f"a cluster sends code, so {address!r} is refused")


def _check(module: str, refused: str) -> None:
    listed = os.environ.get(VARIABLE)
    if listed is None or any(_below(module, name.strip()) for name in listed.split(",") if name.strip()):
        return
    allowed = f"allows {listed}" if listed.strip() else "is empty or not set"
    raise UserError(
        f"{refused}: this is a deployment, and {VARIABLE} of its worker's environment {allowed}; add {module!r} there if you "
        "trust that code, or start the audit yourself with `cfx audit`"
    )


def _below(module: str, parent: str) -> bool:
    return f"{module}.".startswith(f"{parent}.")


def _of_python(reference: str) -> UserError:
    return UserError(
        f"{reference!r} is of Python's standard library, which has no classifiers; name a function or class of your own, "
        "package.module:name (a module of yours needs a name that no installed one has)"
    )
