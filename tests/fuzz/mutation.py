"""Bytes near to those of a real file: flipped, cut, repeated, moved, and with numbers that lie about lengths."""

from __future__ import annotations

import struct

from hypothesis import strategies as st

NUMBERS = [
    struct.pack(f"{order}{kind}", value)
    for order in "<>"
    for kind, bits in (("H", 16), ("I", 32), ("Q", 64))
    for value in (0, 1, 2 ** (bits - 1) - 1, 2 ** (bits - 1), 2**bits - 1, 1000, 50_000)
]
MANY = 4  # changes to one file


def mutated(content: bytes, sites: range | None = None) -> st.SearchStrategy[bytes]:
    """This file with a few changes; at most of those in the bytes `sites`, where formats say how large things are."""
    places = st.integers(0, len(content)) if sites is None else st.one_of(st.integers(0, len(content)), st.sampled_from(sites))
    change = st.tuples(st.sampled_from(("flip", "put", "number", "cut", "drop", "twice", "zero")), places, st.integers(0, 255))
    return st.lists(change, min_size=1, max_size=MANY).map(lambda changes: _changed(content, changes))


def _changed(content: bytes, changes: list[tuple[str, int, int]]) -> bytes:
    data = bytearray(content)
    for kind, place, value in changes:
        at = min(place, max(0, len(data) - 1))
        match kind:
            case "flip" if data:
                data[at] ^= 1 << value % 8
            case "put":
                data[at : at + 1] = bytes([value])
            case "number":
                number = NUMBERS[value % len(NUMBERS)]
                data[at : at + len(number)] = number
            case "cut":
                del data[at:]
            case "drop":
                del data[at : at + value]
            case "twice":
                data[at:at] = data[at : at + value]
            case "zero":
                data[at : at + value] = bytes(len(data[at : at + value]))
    return bytes(data)
