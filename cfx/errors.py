"""The kinds of failure that are distinguished: what a person can mend, what may pass by itself, and everything else: a defect."""

from __future__ import annotations


class UserError(ValueError):
    """Input that cannot work. Its message names the place, the value and the way out; trying again says the same again."""


class TransientError(OSError):
    """A failure that may pass: a server that does not answer, a store that refuses for now. Worth another try."""
