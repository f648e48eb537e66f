"""A black box that is a Python function: whatever can be called from here, in any framework."""

from __future__ import annotations

import hashlib
from typing import Literal

from pydantic import Field

from cfx.classifiers.black_box import Array, BlackBoxConfig, Ledger, Query
from cfx.user_code import import_named, sources_of, user_code


class CallableConfig(BlackBoxConfig):
    """A Python function from a NumPy array of prepared images, (b, 3, S, S) or (b, S, S, 3), to the answers (b, K)."""

    access: Literal["callable"]
    module: str = Field(pattern=r"^[\w.]+:\w+$", description="`package.module:function`, installed or beside the YAML file")


def load_callable(config: CallableConfig) -> tuple[Query, str]:
    """The function as a black box's `query`, and the SHA-256 of its module's sources.

    Raises ImportError naming what is missing. What the function raises when it is queried is a UserCodeError.
    """
    module, function = import_named(config.module)

    def query(shown: Array, ledger: Ledger) -> object:
        with ledger.call(len(shown)) as call, user_code(config.module):
            answers = function(shown)
            call.status = "answered"
        return answers

    return query, hashlib.sha256((sources_of(module) or sources_of(function) or config.module).encode()).hexdigest()
