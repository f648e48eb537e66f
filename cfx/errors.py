"""The kinds of failure that are distinguished: what a person can mend, what may pass by itself, and everything else: a defect."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

ALIKE = 0.6  # of difflib's ratio: less, and a name is no other one mistyped


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


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A question in brackets for a name that is none of those known, where one or two of these are much like it; else nothing.

    Examples:
        >>> did_you_mean("glases", ["hat", "glasses"]), did_you_mean("tie", ["hat", "glasses"])
        (" (did you mean 'glasses'?)", '')
        >>> did_you_mean("Eye Glasses", ["eyeglasses"])
        " (did you mean 'eyeglasses'?)"
    """
    spelled = {"".join(letter for letter in other.casefold() if letter.isalnum()): other for other in known}
    near = get_close_matches("".join(letter for letter in name.casefold() if letter.isalnum()), spelled, n=2, cutoff=ALIKE)
    return f" (did you mean {' or '.join(repr(spelled[one]) for one in near)}?)" if near else ""
