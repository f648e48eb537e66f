"""By what a report is made: the same facts give the same page, letter for letter, where this says the same."""

from __future__ import annotations

import hashlib
import platform
import re
from functools import cache
from html import unescape
from importlib.metadata import version
from pathlib import Path

PACKAGES = ("duckdb", "huggingface-hub", "jinja2", "numpy", "pillow", "pyyaml", "scipy")  # what forms words, numbers, pictures
_GENERATOR = re.compile(r'<meta name="generator" content="([^"<>]{1,1000})">')


@cache
def made_by() -> str:
    """This installation: cfx with a hash of the code that reports rest on, the packages, the kind of machine."""
    packages = (f"{name} {version(name)}" for name in PACKAGES)
    return ", ".join((f"cfx {version('cfx-audit')} (code {_code()})", *packages, platform.machine()))


def maker_of(page: str) -> str | None:
    """What a page says that it was made by; None for one of a version that did not say so yet."""
    found = _GENERATOR.search(page[:10_000])
    return unescape(found[1]) if found else None


def _code() -> str:
    """Twelve digits of the SHA-256 of this package's files: its SQL, templates and Python."""
    package, digest = Path(__file__).parents[1], hashlib.sha256()
    kinds = (".py", ".sql", ".css", ".j2")
    for path in sorted(path for path in package.rglob("*") if path.suffix in kinds):
        digest.update(f"{path.relative_to(package).as_posix()}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:12]
