"""`cfx init`: each kind of network is understood, what cannot be is refused with the way out, and nothing is overwritten."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import yaml
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner, Result

from cfx.user_code import importable_from
from flows.cli import app
from tests.flows.init_subject import CLASSES, MODULE, SIDE, lay_out, network


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(lay_out(tmp_path))
    return tmp_path


def init(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["init", *arguments, "--yes"])


def understood(*arguments: str) -> dict[str, Any]:
    """What `cfx init` says to machines, once its settings passed the check."""
    ended = init(*arguments, "--json")
    assert ended.exit_code == 0, ended.output
    found: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return found


def refused(*arguments: str) -> str:
    ended = init(*arguments)
    assert ended.exit_code == 2
    return " ".join(ended.output.split())


def own_weights(home: Path, module: str, content: object) -> Path:
    """A file of weights beside a module that makes the network."""
    (home / f"{module}.py").write_text(MODULE.format(name="Net"))
    torch.save(content, home / "model.pt")
    return home / "model.pt"


def onnx_file(path: Path, ends_in_softmax: bool) -> Path:
    weights = np.array([[0, 5], [0, 0], [5, 0]], np.float32)
    nodes = [
        helper.make_node("ReduceMean", ["images", "places"], ["mean"], keepdims=0),
        helper.make_node("MatMul", ["mean", "weights"], ["logits"]),
        helper.make_node("Softmax" if ends_in_softmax else "Identity", ["logits"], ["answer"]),
    ]
    shapes: dict[str, list[str | int | None]] = {"images": ["n", 3, SIDE, SIDE], "answer": ["n", 2]}
    given, answer = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items())
    constants = [numpy_helper.from_array(np.array([2, 3]), "places"), numpy_helper.from_array(weights, "weights")]
    graph = helper.make_graph(nodes, "colours", [given], [answer], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


def test_a_state_dict_finds_its_class_beside_it_and_a_dozen_lines_are_written(home: Path) -> None:
    own_weights(home, "net_of_colours", {"model": network().state_dict(), "classes": list(CLASSES)})
    found = understood("images", "table.csv", "model.pt")
    assert set(found) == {"images", "table", "model", "config", "reasons", "check", "warnings"}
    sizes = {f"{SIDE} x {SIDE}": 40}
    assert {name: found["images"][name] for name in ("count", "sizes", "channels", "classes", "unreadable")} == {
        "count": 40, "sizes": sizes, "channels": 3, "classes": {}, "unreadable": {},
    }  # fmt: skip
    assert (found["table"]["file_column"], found["table"]["label_column"], found["table"]["attributes"]) == (
        "file",
        "label",
        ["tag"],
    )
    assert found["model"]["settings"] == {"module": "net_of_colours:Net", "weights": "model.pt"}
    assert found["model"]["accuracy"] == found["model"]["accuracy_resampled"] == {"right": 40, "n": 40}
    assert found["check"]["run_id"].startswith(home.name.replace("_", "-").lower()[:4])
    text = (home / "run.yaml").read_text()
    assert len(text.splitlines()) <= 12 and "# oracle: auto" in text
    assert set(yaml.safe_load(text)) == {"name", "data", "classifier"}


def test_nothing_is_overwritten(home: Path) -> None:
    (home / "run.yaml").write_text("mine")
    assert "run.yaml is there" in refused("images", "table.csv", "model.pt")
    assert (home / "run.yaml").read_text() == "mine"


def test_the_order_of_classes_is_found_where_the_file_does_not_say_it(home: Path) -> None:
    own_weights(home, "net_of_order", network(swapped=True).state_dict())
    found = understood("images", "table.csv", "model.pt")
    assert found["model"]["classes"] == ["red", "blue"]
    assert any("right about 40 of 40" in reason for reason in found["reasons"])


def test_values_are_found_where_the_file_does_not_say_them(home: Path) -> None:
    made = network()
    with torch.no_grad():
        weight, bias = made.parameters()
        weight[0, 2], weight[1, 0], bias[1] = 0, 20, -8  # red in [0, 1] above .4, which in [-1, 1] hardly is
    own_weights(home, "net_of_values", {"state_dict": made.state_dict(), "classes": list(CLASSES)})
    found = understood("images", "table.csv", "model.pt")
    assert found["model"]["settings"]["std"] == [1.0, 1.0, 1.0] and found["model"]["accuracy"]["right"] == 40


def test_a_class_and_its_weights_are_named(home: Path) -> None:
    own_weights(home, "net_by_name", network().state_dict())
    with (home / "net_by_name.py").open("a") as file:
        file.write("print('at work')\n")  # not imported unless it is named
    assert "does more than" not in str(
        understood("images", "table.csv", "net_by_name.py:Net", "--weights", "model.pt")["reasons"]
    )
    (home / "run.yaml").unlink()
    assert "net_by_name.py has Net, but does more than define" in refused("images", "table.csv", "model.pt")


@pytest.mark.parametrize("ends_in_softmax", [True, False])
def test_an_onnx_file_is_asked_what_it_gives(home: Path, ends_in_softmax: bool) -> None:
    onnx_file(home / "model.onnx", ends_in_softmax)
    found = understood("images", "table.csv", "model.onnx")
    answers = {} if ends_in_softmax else {"answers": "logits"}
    assert found["model"]["settings"] == {"access": "onnx", "weights": "model.onnx", "classes": list(CLASSES)} | answers
    assert found["model"]["accuracy"] == {"right": 40, "n": 40} and found["model"]["input_size"] == SIDE


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_a_program_needs_trust(home: Path) -> None:
    torch.jit.trace(network(), torch.zeros(2, 3, SIDE, SIDE)).save(str(home / "model.pt"))
    assert "--allow-pickle" in refused("images", "table.csv", "model.pt")
    assert not (home / "run.yaml").exists()
    assert understood("images", "table.csv", "model.pt", "--allow-pickle")["model"]["settings"]["allow_pickle"]


def test_a_whole_network_needs_trust_and_its_class(home: Path) -> None:
    (home / "net_whole.py").write_text(MODULE.format(name="Net"))
    importable_from(home)
    whole = importlib.import_module("net_whole").Net()
    whole.load_state_dict(network().state_dict())
    torch.save(whole, home / "model.pt")
    assert "allow_pickle" in refused("images", "table.csv", "model.pt")
    assert understood("images", "table.csv", "model.pt", "--allow-pickle")["model"]["settings"]["module"] == "net_whole:Net"


@pytest.mark.parametrize("name", ["torchvision:squeezenet1_1", "timm:vit_tiny_patch16_224"])
def test_a_published_architecture_is_recognised_by_its_shapes(name: str, tmp_path: Path) -> None:
    from cfx.classifiers.hub import from_hub
    from tasks.first_look.architecture import recognise

    hub, _, architecture = name.partition(":")
    made, _ = from_hub(hub, architecture, {"num_classes": 3})
    found = recognise({f"model.{key}": value for key, value in made.state_dict().items()}, tmp_path, tmp_path / "model.pt")
    assert found.settings == {"module": name, "kwargs": {"num_classes": 3}}


def test_a_folder_a_class_becomes_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(lay_out(tmp_path, folders=True))
    own_weights(tmp_path, "net_of_folders", network().state_dict())
    found = understood("images", "model.pt")
    assert found["images"]["classes"] == {"blue": 20, "red": 20} == found["table"]["labels"]
    (tmp_path / "run.yaml").unlink()
    assert "table.csv is there" in refused("images", "model.pt")


def test_numbers_for_labels_are_positions_of_classes(home: Path) -> None:
    table = (home / "table.csv").read_text()
    (home / "table.csv").write_text(table.replace(",blue,", ",0,").replace(",red,", ",1,"))
    own_weights(home, "net_of_numbers", {"w": network().state_dict(), "classes": list(CLASSES)})
    assert understood("images", "table.csv", "model.pt")["model"]["accuracy"]["right"] == 40
    assert yaml.safe_load((home / "run.yaml").read_text())["data"]["labels"] == {"0": "blue", "1": "red"}


def test_on_a_terminal_it_asks_for_the_label(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own_weights(home, "net_that_asks", network().state_dict())
    _several_labels(home)
    monkeypatch.setattr("flows.commands.init.asks", lambda options: True)
    ended = CliRunner().invoke(app, ["init", "images", "table.csv", "model.pt"], input="colour\n")
    assert ended.exit_code == 0 and "Which column is the label (colour, tag, shape)?" in ended.output
    assert yaml.safe_load((home / "run.yaml").read_text())["data"]["label_column"] == "colour"


def _no_file_column(home: Path) -> tuple[str, ...]:
    (home / "table.csv").write_text("picture,label\nx.png,red\ny.png,blue\n")
    return ("table.csv", "model.pt")


def _several_labels(home: Path) -> tuple[str, ...]:
    lines = (home / "table.csv").read_text().splitlines()[1:]
    rows = [f"{line},{'round' if i % 3 else 'square'}" for i, line in enumerate(lines)]
    (home / "table.csv").write_text("\n".join(["file,colour,tag,shape", *rows]) + "\n")
    return ("table.csv", "model.pt")


def _three_outputs(home: Path) -> tuple[str, ...]:
    torch.save(network(3).state_dict(), home / "model.pt")
    return ("table.csv", "model.pt")


def _half_a_file(home: Path) -> tuple[str, ...]:
    (home / "half.pt").write_bytes((home / "model.pt").read_bytes()[:800])
    return ("table.csv", "half.pt")


def _unknown_weights(home: Path) -> tuple[str, ...]:
    torch.save({"a.weight": torch.zeros(3, 4), "b.weight": torch.zeros(2, 3)}, home / "model.pt")
    return ("table.csv", "model.pt")


BAD: dict[str, tuple[Callable[[Path], tuple[str, ...]], str]] = {
    "no file column": (_no_file_column, "--file-column"),
    "several columns of labels": (_several_labels, "--label, one of colour, tag, shape"),
    "outputs and labels differ": (_three_outputs, "gives 3 outputs, and column 'label' has 2 labels"),
    "no such label": (lambda home: ("table.csv", "model.pt", "--label", "Label"), "did you mean 'label'?"),
    "half a file": (_half_a_file, "truncated or broken"),
    "weights of nobody": (_unknown_weights, "my_net.py:Net --weights model.pt"),
    "no network": (lambda home: ("table.csv",), "give MODEL"),
    "no such network": (lambda home: ("table.csv", "none.pt"), "there is no file none.pt"),
    "an oracle without attributes": (lambda home: _bare(home), "no yes/no column"),
    "an unknown network to train": (lambda home: ("table.csv", "model.pt", "--with", "orakel"), "there is no 'orakel'"),
}


def _bare(home: Path) -> tuple[str, ...]:
    lines = [line.rpartition(",")[0] for line in (home / "table.csv").read_text().splitlines()]
    (home / "table.csv").write_text("\n".join(lines) + "\n")
    return ("table.csv", "model.pt", "--with", "oracle")


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_work_says_the_way_out_and_writes_nothing(home: Path, case: str) -> None:
    own_weights(home, "net_refused", network().state_dict())
    arrange, way_out = BAD[case]
    assert way_out in refused("images", *arrange(home))
    assert not (home / "run.yaml").exists()


def test_an_empty_folder_and_a_broken_image(home: Path) -> None:
    (home / "empty").mkdir()
    assert "holds no image" in refused("empty", "table.csv", "model.pt")
    (home / "images" / "000.png").write_bytes(b"\x89PNG\r\n\x1a\nhalf")
    own_weights(home, "net_beside_broken", network().state_dict())
    found = understood("images", "table.csv", "model.pt")
    assert list(found["images"]["unreadable"]) == ["000.png"]
    assert any("1 of 40 files opened cannot be read" in warning for warning in found["warnings"])


def test_networks_to_train_are_settings_and_leave_images_to_learn_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(lay_out(tmp_path, 128))
    own_weights(tmp_path, "net_in_full", network().state_dict())
    found = understood("images", "table.csv", "model.pt", "--full")
    settings = yaml.safe_load((tmp_path / "run.yaml").read_text())
    assert [settings[name] for name in ("prior", "oracle", "judge")] == ["auto"] * 3
    assert settings["data"]["limit"] == 64
    assert found["check"]["pending"] == ["oracle", "judge"] and found["check"]["run_id"] is None
    assert not (tmp_path / "warehouse-data").exists()


def test_an_example_is_laid_out_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("flows.demo_of.PORTRAITS", 24)
    found = understood("--demo-of", "portraits", "--out", "mine")
    assert found["model"]["settings"] == {"weights": "portraits:planted"} and found["table"]["target_attribute"] == "smile"
    assert {path.name for path in (tmp_path / "mine").iterdir()} == {"images", "table.csv", "run.yaml"}
    assert "not an empty folder" in refused("--demo-of", "portraits", "--out", "mine")
    assert "there is no 'cats'" in refused("--demo-of", "cats")
