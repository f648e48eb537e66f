"""The house: no import goes in a circle, and the numbers about it are what they say."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.house import ROOT, circles, commands_of, house, imports, parameters


def test_no_import_goes_in_a_circle() -> None:
    assert circles(imports(ROOT)) == []


def test_a_circle_is_named_from_the_importer_on() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}
    (circle,) = circles(graph)
    assert circle in (["b", "c", "b"], ["c", "b", "c"])
    assert graph["c"] == {"b"}, "the graph itself is left as it was"


def test_two_circles_are_both_found() -> None:
    assert len(circles({"a": {"b"}, "b": {"a"}, "c": {"d"}, "d": {"c"}})) == 2


def test_imports_inside_functions_count_and_those_for_type_checkers_do_not(tmp_path: Path) -> None:
    (tmp_path / "cfx").mkdir()
    (tmp_path / "cfx" / "__init__.py").write_text("")
    (tmp_path / "cfx" / "one.py").write_text("def late():\n    from cfx import two\n")
    (tmp_path / "cfx" / "two.py").write_text("import os\nif TYPE_CHECKING:\n    from cfx.one import late\n")
    assert imports(tmp_path) == {"cfx": set(), "cfx.one": {"cfx.two"}, "cfx.two": set()}
    assert circles(imports(tmp_path)) == []
    (tmp_path / "cfx" / "two.py").write_text("from cfx.one import late\n")
    assert len(circles(imports(tmp_path))) == 1


@pytest.mark.parametrize(
    ("code", "count"),
    [
        ("def f(): ...", 0),
        ("def f(a, /, b, *rest, c=1, **more): ...", 5),
        ("def f(self, a): ...", 1),
        ("async def f(cls): ...", 0),
    ],
)
def test_parameters_are_counted_without_self(code: str, count: int) -> None:
    (function,) = ast.parse(code).body
    assert isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
    assert parameters(function) == count


def test_the_commands_are_those_of_the_command_line() -> None:
    assert (ROOT / "flows/commands/gate.py", "compare") in commands_of(ROOT)
    assert all(name != "changes_table" for _, name in commands_of(ROOT))


def test_the_numbers_are_those_that_are_promised() -> None:
    numbers = house()
    assert set(numbers) == {"max_parameters", "max_options", "circles", "each_calls", "files_for_a_stage", "flow_lines"}
