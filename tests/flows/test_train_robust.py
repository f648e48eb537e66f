"""`cfx train robust`: from a folder and a table to a network that loads as a classifier."""

from pathlib import Path

import yaml
from typer.testing import CliRunner

from cfx.classifiers import ClassifierConfig, load_classifier
from cfx.portraits import write_portraits
from flows.cli import app


def test_a_robust_network_is_trained_from_a_folder_and_a_table(tmp_path: Path) -> None:
    table = write_portraits(tmp_path / "faces", 30, seed=0)
    (tmp_path / "training.yaml").write_text(yaml.safe_dump({"widths": [8], "grid": 2, "steps": 3, "batch": 4}))
    out = tmp_path / "robust.safetensors"
    arguments = ["train", "robust", str(tmp_path / "faces" / "images"), str(table), "--label", "label", "-o", str(out), "--quiet"]
    ended = CliRunner().invoke(app, [*arguments, "--size", "16", "-c", str(tmp_path / "training.yaml")])
    assert ended.exit_code == 0, ended.output
    assert "attacked at epsilon 0.3" in " ".join(ended.output.split())
    assert load_classifier(ClassifierConfig(weights=out)).classes == ("not_smiling", "smiling")
