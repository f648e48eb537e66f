"""The notebooks run from their first cell to their last, in a process that reaches nothing but this machine."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
SHUT = """
import socket

connect, look_up = socket.socket.connect, socket.getaddrinfo
HERE = ("127.0.0.1", "::1", "localhost")

def connect_here(self, address):
    assert not isinstance(address, tuple) or address[0] in HERE, address
    return connect(self, address)

def look_up_here(host, *rest, **more):
    assert host in HERE, host
    return look_up(host, *rest, **more)

socket.socket.connect, socket.getaddrinfo = connect_here, look_up_here
try:
    socket.create_connection(("example.org", 80), timeout=1)
except AssertionError:
    pass
else:
    raise RuntimeError("the outside can be reached")
"""
NO_SERVER = "import sys; sorted(name for name in sys.modules if name.partition('.')[0] == 'prefect')"


def run(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """What the cells of a notebook in examples/ say, as text; it works in `folder`."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(ROOT / "examples" / name, as_version=4)
    shut, no_server = (nbformat.v4.new_code_cell(source) for source in (SHUT, NO_SERVER))
    notebook.cells = [shut, *notebook.cells, no_server]
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    said = [output.get("text") or output.get("data", {}).get("text/plain", "") for output in outputs]
    assert said[-1] == "[]"
    assert not [output for output in outputs if output.get("name") == "stderr" and "Warning" in output["text"]]
    return "\n".join(said)


@pytest.mark.slow
@pytest.mark.long  # test_notebook.py audits the same network in this process
def test_a_module_that_was_defined_in_a_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = run("own_model.ipynb", tmp_path, monkeypatch)
    assert "gate fail; top left (confirmed)" in said
    assert "<Figure" in said and "moves P(odd) by +0." in said


@pytest.mark.long
def test_from_a_folder_to_a_gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = run("folder_to_gate.ipynb", tmp_path, monkeypatch)
    assert "“glasses”" in said and "label and attributes" in said


@pytest.mark.long
@pytest.mark.slow
def test_what_was_seen_becomes_an_attribute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = run("teach_oracle.ipynb", tmp_path, monkeypatch)
    assert "Taught(name='glasses', has=12, lacks=12" in said and "label and attributes" in said
