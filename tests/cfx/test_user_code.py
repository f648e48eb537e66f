"""A user's own function or network: found beside their YAML, behind installed modules, and its failures told as theirs."""

import pickle
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from benchmarks.toy_audit import lay_out, settings, write_settings
from cfx.classifiers.access import load_black_box
from cfx.classifiers.network import NetworkConfig, load_network
from cfx.classifiers.python_function import CallableConfig
from cfx.errors import TransientError, UserCodeError, UserError
from cfx.user_code import import_named, importable_from, user_code
from flows.cli import app
from warehouse.facts.query_ledger import QueryLedger

THEIRS = """
import torch

def half(x):
    return x / 0

def answers(shown):
    return [half(image.sum().item()) for image in shown]

def unreachable(shown):
    raise ConnectionResetError("the server hung up")

def wants_an_argument(outputs):
    return torch.nn.Linear(1, outputs)

def wrong_inside(outputs=2):
    return torch.nn.Linear(1, None)

class Fails(torch.nn.Module):
    def forward(self, x):
        return self.head(x)
"""


@pytest.fixture(autouse=True)
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that can be imported from, with the user's module in it."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name in ("theirs", "half_written", "needs_more"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    (tmp_path / "theirs.py").write_text(THEIRS)
    importable_from(tmp_path)
    return tmp_path


def test_a_folder_to_import_from_comes_last_and_once(tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("raise RuntimeError")
    before = list(sys.path)
    importable_from(tmp_path)
    assert sys.path == before
    assert sys.path[-1] == str(tmp_path)
    assert import_named("numpy:abs")[1](-1) == 1


def test_a_name_that_is_not_there_is_told_with_the_file_that_was_looked_into(beside: Path) -> None:
    with pytest.raises(ImportError, match=rf"module 'theirs' \({beside}/theirs.py\) has no 'answer'"):
        import_named("theirs:answer")
    with pytest.raises(
        ImportError, match=r"module 'tasks' \(.*/tasks/__init__.py\) has no 'make'.* a name that no installed one has"
    ):
        import_named("tasks:make")
    with pytest.raises(ImportError, match="cannot import 'nowhere_at_all'"):
        import_named("nowhere_at_all:answer")


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("half_written", "def f(:\n", r"half_written raised SyntaxError: .*half_written.py, line 1"),
        ("needs_more", "import not_installed\n", "needs_more raised ModuleNotFoundError: No module named 'not_installed'"),
    ],
)
def test_a_module_that_fails_while_it_is_imported_is_the_users(beside: Path, name: str, text: str, told: str) -> None:
    (beside / f"{name}.py").write_text(text)
    with pytest.raises(UserCodeError, match=told):
        import_named(f"{name}:f")


def test_a_bug_in_a_function_is_a_line_that_names_it_and_their_frames_which_cross_processes() -> None:
    config = CallableConfig(access="callable", module="theirs:answers", classes=("a", "b"))
    with pytest.raises(UserCodeError) as caught:
        load_black_box(config, QueryLedger(None, "f", None))(torch.zeros(2, 3, 4, 4))
    told = pickle.loads(pickle.dumps(caught.value))
    assert str(told) == "theirs:answers raised ZeroDivisionError: float division by zero"
    frames = [line.strip() for line in told.trace.splitlines() if "File" in line]
    assert [line.rpartition(" in ")[2] for line in frames] == ["answers", "<listcomp>", "half"]
    assert "return x / 0" in told.trace


def test_a_connection_that_fails_in_a_function_is_worth_another_try() -> None:
    config = CallableConfig(access="callable", module="theirs:unreachable", classes=("a", "b"))
    with pytest.raises(TransientError, match="theirs:unreachable raised ConnectionResetError: the server hung up"):
        load_black_box(config, QueryLedger(None, "f", None))(torch.zeros(2, 3, 4, 4))


def test_what_cfx_says_of_bad_input_stays_as_it_is() -> None:
    with pytest.raises(UserError, match="^budget$"), user_code("theirs:answers"):
        raise UserError("budget")


def test_arguments_that_a_factory_does_not_take_are_the_configurations_and_what_it_does_with_them_its_own() -> None:
    with pytest.raises(UserError, match="theirs:wants_an_argument cannot be called with kwargs {}") as caught:
        load_network(NetworkConfig(module="theirs:wants_an_argument"))
    assert not isinstance(caught.value, UserCodeError)
    with pytest.raises(UserCodeError, match="theirs:wrong_inside raised TypeError"):
        load_network(NetworkConfig(module="theirs:wrong_inside"))


def test_a_network_that_fails_is_the_users_and_one_of_a_hub_is_not() -> None:
    network, _ = load_network(NetworkConfig(module="theirs:Fails"))
    with pytest.raises(
        UserCodeError, match="theirs:Fails raised AttributeError: 'Fails' object has no attribute 'head'"
    ) as caught:
        network(torch.zeros(1, 3, 8, 8))
    assert "return self.head(x)" in caught.value.trace
    with pytest.raises(UserCodeError, match="on images of 224 x 224; set `input_size`"):
        network.outputs()
    hub, _ = load_network(NetworkConfig(module="torchvision:resnet18", kwargs={"num_classes": 2}))
    with pytest.raises(RuntimeError) as other:
        hub(torch.zeros(1, 3, 1, 1, 1))
    assert not isinstance(other.value, UserError)


def test_the_command_line_shows_their_frames_and_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lay_out(tmp_path, 4)
    network = {"module": "theirs:Fails", "classes": ["not_smiling", "smiling"], "input_size": 16}
    path = write_settings(tmp_path, settings(tmp_path, 2, classifier=network))
    ended = CliRunner().invoke(app, ["audit", str(path), "--quiet"])
    assert ended.exit_code == 2
    shown, last = ended.stderr.splitlines()[:-1], ended.stderr.splitlines()[-1]
    assert last.startswith("error classifier: theirs:Fails raised AttributeError")
    assert shown[0] == "Traceback (most recent call last):"
    assert any(f'File "{tmp_path / "theirs.py"}"' in line for line in shown)
    assert not any("/cfx/classifiers/" in line for line in shown)
