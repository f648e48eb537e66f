"""Text that commands no terminal."""

from __future__ import annotations

TURNING = "\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"  # marks that change a text's direction


def printable(text: str) -> str:
    r"""Text whose control characters are written out: a file may be called so as to move the cursor or to turn the text around.

    Examples:
        >>> printable("a\x1b[31mb\u202ec\n")
        'a\\x1b[31mb\\u202ec\n'
    """
    return "".join(_written_out(c) if c in TURNING or (_commands(c) and c not in "\n\t") else c for c in text)


def _commands(character: str) -> bool:
    """Whether a terminal may take it for a command: C0, DEL or C1."""
    return ord(character) < 32 or 127 <= ord(character) < 160


def _written_out(character: str) -> str:
    return f"\\x{ord(character):02x}" if ord(character) < 256 else f"\\u{ord(character):04x}"
