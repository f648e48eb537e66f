"""Options of a command as one dataclass, so that a command with many of them is still a function of one parameter."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")


def taking(options: type[T]) -> Callable[[Callable[[T], None]], Callable[..., None]]:
    """Declare a function of an `options` dataclass as a Typer command whose parameters are the dataclass's fields."""
    hints = get_type_hints(options, include_extras=True)
    fields = dataclasses.fields(options)
    parameters = [
        inspect.Parameter(
            field.name,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
            annotation=hints[field.name],
            default=inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default,
        )
        for field in fields
    ]

    def declare(command: Callable[[T], None]) -> Callable[..., None]:
        @wraps(command)
        def called(**values: Any) -> None:
            command(options(**values))

        called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        called.__annotations__ = {field.name: hints[field.name] for field in fields}
        return called

    return declare
