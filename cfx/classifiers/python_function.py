"""A black box that is a Python function: whatever can be called from here, in any framework."""

from __future__ import annotations

import hashlib
import importlib
import inspect
from collections.abc import Callable
from typing import Any, Literal

from pydantic import Field

from cfx.classifiers.black_box import Array, BlackBoxConfig, Ledger, Query


class CallableConfig(BlackBoxConfig):
    """A Python function from a NumPy array of prepared images, (b, 3, S, S) or (b, S, S, 3), to the answers (b, K)."""

    access: Literal["callable"]
    module: str = Field(pattern=r"^[\w.]+:\w+$", description="`package.module:function`, importable where the audit runs")


def load_callable(config: CallableConfig) -> tuple[Query, str]:
    """The function as a black box's `query`, and its module's SHA-256. Raises ImportError naming what is missing."""
    function, source = _imported(config.module)

    def query(shown: Array, ledger: Ledger) -> Any:
        with ledger.call(len(shown)) as call:
            answers = function(shown)
            call.status = "answered"
        return answers

    return query, source


def _imported(name: str) -> tuple[Callable[[Array], Any], str]:
    package, attribute = name.split(":")
    try:
        module = importlib.import_module(package)
        function = getattr(module, attribute)
    except ModuleNotFoundError as error:
        raise ImportError(f"cannot import {package!r} ({error}); install it, or run where it can be imported") from error
    except AttributeError as error:
        raise ImportError(f"module {package!r} has no {attribute!r}; `module` is package.module:function") from error
    try:
        source = inspect.getsource(module)
    except OSError:  # compiled: its name is all there is
        source = name
    return function, hashlib.sha256(source.encode()).hexdigest()
