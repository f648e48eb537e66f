"""Names and paths reach a terminal as they are: brackets are no markup, and no control character is sent."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli import app

sys.path.insert(0, str(Path(__file__).parent.parent / "warehouse"))
from portrait_run import write_portrait_run

CLEARS = "hat [x]\x1b[2J\u202etah"  # clears the screen, and turns the rest around
SHOWN = "hat [x]\\x1b[2J\\u202etah"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("text") / "[x] \x1b[31m red" / "warehouse"
    write_portrait_run(root, "one", n=8, size=16, names={"hat": CLEARS})
    return root


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("report nosuch", "[x] \\x1b[31m red"),
        ("gate one", SHOWN),
        ("query from|attributes|select|distinct|columns('hat')", SHOWN),
        ("query select|'a:car:b'|as|\"[x]\x1b[2J\"", "[x]\\x1b[2J"),
        ('query select|*|from|"[x]\x1b"', "there is no view '[x]\\x1b"),
        ("export one --out nosuch/[x]\x1b.zip", "there is no folder"),
    ],
)
def test_names_and_paths_are_printed_as_they_are(root: Path, command: str, shown: str) -> None:
    ended = CliRunner().invoke(app, [*(part.replace("|", " ") for part in command.split()), "-w", str(root)])
    said = ended.stdout + ended.stderr
    assert shown in said
    assert not set(said) & {"\x1b", "\u202e", "\x07"}
