"""Names that are one but for case, spaces and marks: a column `Eye glasses` beside an oracle's attribute `eyeglasses`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def near(name: str, known: Iterable[str]) -> str | None:
    """The known name that differs from this one in case, spaces, underscores, dashes and other marks alone; None without one."""
    return next((other for other in known if other != name and _core(other) == _core(name)), None)


def unmatched_warnings(attributes: Sequence[str], columns: Sequence[str]) -> tuple[str, ...]:
    """What to say of an oracle's attributes that the table annotates under another spelling: they are not taken for the same."""
    pairs = ((attribute, near(attribute, columns)) for attribute in attributes if attribute not in columns)
    named = [f"{column!r} of the table and {attribute!r} of the oracle" for attribute, column in pairs if column is not None]
    if not named:
        return ()
    return (
        f"annotations are joined to the oracle's attributes by name, and {', '.join(named)} differ: what needs both, such as CD, "
        "does without; call them alike",
    )


def _core(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum())
