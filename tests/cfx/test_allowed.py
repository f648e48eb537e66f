"""What a configuration may name: code that is refused is never imported."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import pytest

from cfx.allowed import VARIABLE, confined
from cfx.classifiers.network import NetworkConfig, load_network
from cfx.errors import UserError
from cfx.user_code import import_named
from cfx.weights_file import read_content
from flows.config import load_config
from flows.deployed import as_allowed
from flows.engine import runner_for

TOY = "data: {images: images}\nclassifier: {weights: w.safetensors}\n"


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of a user's own, in a folder of the path."""
    (tmp_path / "their_nets.py").write_text(
        "from subprocess import check_output\nimport torch\n\n\ndef make():\n    return torch.nn.Flatten()\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "their_nets", raising=False)
    return "their_nets:make"


@pytest.mark.parametrize("reference", ["subprocess:check_output", "os:system", "builtins:eval", "their_nets:check_output"])
def test_pythons_own_functions_are_no_classifiers(theirs: str, reference: str) -> None:
    with pytest.raises(UserError, match=f"'{reference}' is of Python's standard library"):
        load_network(NetworkConfig(module=reference, kwargs={"args": ["touch", "made"]}))


def test_a_module_that_is_not_listed_is_not_imported(theirs: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for listed in (None, "", "their_net", "other.nets, their"):
        if listed is not None:
            monkeypatch.setenv(VARIABLE, listed)
        with confined():
            for load in (
                lambda: load_network(NetworkConfig(module=theirs)),
                lambda: load_network(NetworkConfig(module="cfx.user_code:import_named", kwargs={"reference": theirs})),
            ):
                with pytest.raises(UserError, match=f"may not be imported: this is a deployment, and {VARIABLE}"):
                    load()
    assert "their_nets" not in sys.modules
    monkeypatch.setenv(VARIABLE, "other,their_nets")
    with confined():
        assert import_named(theirs)[1]() and load_network(
            NetworkConfig(module="cfx.networks.convnet:ConvNet", kwargs={"outputs": 2})
        )
    monkeypatch.delenv(VARIABLE)
    with confined():
        pass
    assert import_named(theirs)  # a person's own audit


def test_files_and_clusters_that_bring_code_are_refused_in_a_deployment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Touch:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "made",)

    file = tmp_path / "weights.pkl"
    file.write_bytes(pickle.dumps({"weight": Touch()}))
    (tmp_path / "toy.yaml").write_text(f"{TOY}engine: dask\ncluster: tcp://elsewhere:8786\n")
    with confined():
        with pytest.raises(UserError, match=r"weights\.pkl runs code when it is read, so `allow_pickle` is refused"):
            read_content(file, allow_pickle=True)
        with pytest.raises(UserError, match="'tcp://elsewhere:8786' is refused"):
            runner_for(load_config(tmp_path / "toy.yaml"))
    assert not (tmp_path / "made").exists()
    monkeypatch.setenv(VARIABLE, "pickle")
    with confined():
        read_content(file, allow_pickle=True)
    assert (tmp_path / "made").exists()


def test_a_deployments_parameters_stay_in_its_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to(tmp_path)
    monkeypatch.chdir(root)
    with as_allowed(config=tmp_path / "any.yaml"):  # called by a program
        pass
    monkeypatch.setenv("PREFECT__RUNTIME__DEPLOYMENT__ID", "1")
    for path in ("../any.yaml", "link/any.yaml", "/etc/any.yaml"):
        with (
            pytest.raises(UserError, match=f"config: '{path}' is outside the folders of this deployment"),
            as_allowed(config=Path(path)),
        ):
            pass
    with as_allowed(config=Path("any.yaml"), settings=None), pytest.raises(UserError, match="may not be imported"):
        import_named("json_lines:load")
    monkeypatch.setenv("CFX_ALLOWED_FOLDERS", f"/srv:{tmp_path}")
    with as_allowed(config=tmp_path / "any.yaml"):
        pass
