"""A checksum inside the file that it covers, so that file and checksum can neither part nor disagree after a crash.

Parquet's footer takes a note. The note is written as zeros, the whole file is hashed, and the hash takes the zeros' place.
"""

from __future__ import annotations

import hashlib

_MARK, _ZEROS = b"sha256:", b"0" * 64
UNSEALED = (_MARK + _ZEROS).decode()


def sealed(data: bytes) -> bytes:
    """The file with its hash in it; `data` ends with a footer that holds UNSEALED."""
    start = data.rindex(_MARK) + len(_MARK)
    return data[:start] + _digest(data, start) + data[start + 64 :]


def is_whole(data: bytes) -> bool:
    """Whether every byte is as it was when the file was sealed."""
    start = data.rfind(_MARK) + len(_MARK)
    return start >= len(_MARK) and data[start : start + 64] == _digest(data, start)


def is_sealed(data: bytes) -> bool:
    """Whether there is a seal in it at all, broken or not."""
    return _MARK in data


def _digest(data: bytes, start: int) -> bytes:
    view, digest = memoryview(data), hashlib.sha256()
    for part in (view[:start], _ZEROS, view[start + 64 :]):
        digest.update(part)
    return digest.hexdigest().encode()
