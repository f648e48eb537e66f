"""The kinds of failure that are distinguished: what a person can mend, what may pass by itself, and everything else: a defect."""

from __future__ import annotations


class UserError(ValueError):
    """Input that cannot work. Its message names the place, the value and the way out; trying again says the same again."""


class ConfigError(UserError):
    """A configuration that cannot work; its message names the place, the value and the way out."""


class UserCodeError(UserError):
    """A user's own function or network raised. The message is a line that names it and the exception; `trace`, its frames as
    text, because an exception loses them on its way between processes."""

    def __init__(self, message: str, trace: str) -> None:
        super().__init__(message, trace)
        self.trace = trace

    def __str__(self) -> str:
        return str(self.args[0])


class TransientError(OSError):
    """A failure that may pass: a server that does not answer, a store that refuses for now. Worth another try."""
