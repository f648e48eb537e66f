"""A black box that is a Python function: whatever can be called from here, in any framework."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

from pydantic import Field

from cfx.classifiers.black_box import Array, BlackBoxConfig, Ledger, Query
from cfx.errors import UserError
from cfx.user_code import import_named, sources_of, user_code


class CallableConfig(BlackBoxConfig):
    """A Python function from a NumPy array of prepared images, (b, 3, S, S) or (b, S, S, 3), to the answers (b, K)."""

    access: Literal["callable"]
    module: str = Field(pattern=r"^[\w.]+:\w+$", description="`package.module:function`, installed or beside the YAML file")
    files: tuple[Path, ...] = Field(
        (), description="what the function reads beside its sources, its weights first of all: other contents are another run"
    )
    version: str | None = Field(None, description="what you call this state of the model: another word is another run")


def load_callable(config: CallableConfig) -> tuple[Query, str]:
    """The function as a black box's `query`, and the SHA-256 of its module's sources and of `files`.

    Raises ImportError naming what is missing, UserError for a file that is. What the function raises when it is queried is a
    UserCodeError.
    """
    if missing := [str(path) for path in config.files if not path.is_file()]:
        raise UserError(f"files: there is no file {missing[0]}; `files` are what {config.module} reads beside its sources")
    module, function = import_named(config.module)

    def query(shown: Array, ledger: Ledger) -> object:
        with ledger.call(len(shown)) as call, user_code(config.module):
            answers = function(shown)
            call.status = "answered"
        return answers

    digest = hashlib.sha256((sources_of(module) or sources_of(function) or config.module).encode())
    for path in config.files:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return query, digest.hexdigest()
