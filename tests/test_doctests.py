"""The API reference: every module that docs/reference/python.md shows has examples, and they are true."""

from __future__ import annotations

import doctest
import importlib
import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parent.parent / "docs" / "reference" / "python.md"
SHOWN = re.findall(r"^::: (cfx[\w.]*)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)


def test_the_page_shows_the_doors_and_contracts() -> None:
    assert {"cfx", "cfx.types", "cfx.random", "cfx.methods.maskdime", "cfx.metrics.frechet"} <= set(SHOWN)
    assert len(SHOWN) == len(set(SHOWN))


@pytest.mark.parametrize("name", SHOWN)
def test_a_module_of_the_reference_has_examples_that_are_true(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.attempted > 0, f"{name} is in docs/reference/python.md and has no example"
    assert result.failed == 0
