"""A configuration that cannot work is refused before any work, with place, value and way out."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from cfx.errors import ConfigError
from cfx.portraits import write_portraits
from flows.cli import app
from flows.config import load_config
from tasks.check import check

HERE = Path(__file__).parent


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    """A configuration that works, as YAML would hold it."""
    write_portraits(tmp_path / "data", 4, seed=0)
    return {
        "name": "trial",
        "data": {"images": "data/images", "table": "data/attributes.csv", "label_column": "label"},
        "classifier": {"weights": "portraits:planted"},
        "judge": {"weights": "portraits:judge"},
        "oracle": {"weights": "portraits:oracle"},
        "prior": {"path": "portraits:prior"},
        "target_attribute": "smile",
        "ladder": [{"method": "fastdime", "steps": 50, "tau": 4, "scale": 40}],
    }


def loaded(folder: Path, settings: dict[str, Any]) -> Any:
    (folder / "run.yaml").write_text(yaml.safe_dump(settings))
    return load_config(folder / "run.yaml")


def test_paths_are_relative_to_the_file_and_defaults_are_filled_in(tmp_path: Path, settings: dict[str, Any]) -> None:
    config = loaded(tmp_path, settings)
    assert config.data.images == tmp_path / "data" / "images"
    assert config.warehouse == tmp_path / "warehouse-data"
    checked = check(config)
    assert checked.classes == ("not_smiling", "smiling")
    assert checked.id.startswith("trial-")
    assert not (tmp_path / "warehouse-data").exists()  # checking does no work


@pytest.mark.parametrize(
    "change",
    [
        {"target": "most-confused"},
        {"target": "nearest-in-hierarchy", "hierarchy": {"smiling": ["face"], "not_smiling": ["face"]}},
        {
            "classifier": {"weights": "portraits:oracle", "output": 1, "head": "sigmoid", "classes": ["no", "glasses"]},
            "data": {"images": "data/images", "table": "data/attributes.csv", "label_column": "glasses"},
            "judge": None,
        },
    ],
    ids=["most-confused", "hierarchy", "one column of a multi-label network"],
)
def test_other_targets_and_tasks_that_work(tmp_path: Path, settings: dict[str, Any], change: dict[str, Any]) -> None:
    assert check(loaded(tmp_path, settings | change)).id.startswith("trial-")


def test_what_results_do_not_depend_on_is_not_in_the_run_id(tmp_path: Path, settings: dict[str, Any]) -> None:
    same = [settings, settings | {"batch_size": 3}, settings | {"workers": 1}, settings | {"warehouse": "elsewhere"}]
    other = [settings | {"seeds": [1]}, settings | {"target": "smiling"}, settings | {"shard_size": 2}]
    ids = [check(loaded(tmp_path, each)).id for each in same + other]
    assert len(set(ids[: len(same)])) == 1
    assert len(set(ids[len(same) - 1 :])) == 1 + len(other)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"shard_sise": 8}, ["shard_sise", "did you mean 'shard_size'?"]),
        ({"ladder": [{"method": "fastdime", "scael": 1}]}, ["ladder.0.fastdime.scael", "did you mean 'scale'?"]),
        ({"ladder": [{"method": "dimes"}]}, ["ladder.0", "dimes", "'dime'"]),
        ({"ladder": []}, ["ladder"]),
        ({"prior": {}}, ["prior", "path", "train"]),
        ({"ladder": [{"method": "fastdime", "steps": 10, "tau": 20}]}, ["tau is 20", "lower tau"]),
        ({"name": "Not a name"}, ["name", "Not a name"]),
    ],
)
def test_unknown_settings_are_reported_with_their_path(
    tmp_path: Path, settings: dict[str, Any], change: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(ConfigError) as error:
        loaded(tmp_path, settings | change)
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"target": "laughing"}, ["target", "'laughing'", "'smiling'"]),
        ({"target": "nearest-in-hierarchy"}, ["target", "needs `hierarchy`"]),
        ({"target": "nearest-in-hierarchy", "hierarchy": {"smiling": ["face"]}}, ["target", "no path for not_smiling"]),
        (
            {"target": "most-confused", "data": {"images": "data/images", "table": "data/attributes.csv"}},
            ["target", "data.label_column"],
        ),
        ({"target_attribute": "monocle"}, ["target_attribute", "'monocle'", "glasses"]),
        ({"classifier": {"weights": "nowhere.safetensors"}}, ["classifier", "nowhere.safetensors"]),
        ({"judge": {"weights": "portraits:judge", "classes": ["a", "b"]}}, ["judge", "a, b", "smiling"]),
        ({"oracle": {"weights": "portraits:judge"}}, ["oracle"]),
        ({"prior": {"path": "nowhere"}}, ["prior", "nowhere", "cfx train prior"]),
        ({"ladder": [{"method": "fastdime", "steps": 2000, "tau": 4}]}, ["prior", "2000", "1000"]),
        ({"data": {"images": "data/images", "table": "data/none.csv"}}, ["data", "none.csv"]),
        (
            {"data": {"images": "data/images", "table": "data/attributes.csv", "label_column": "mood"}},
            ["data", "'mood'", "label"],
        ),
    ],
)
def test_what_cannot_work_is_refused_before_any_work(
    tmp_path: Path, settings: dict[str, Any], change: dict[str, Any], words: list[str]
) -> None:
    config = loaded(tmp_path, settings | change)
    with pytest.raises(ConfigError) as error:
        check(config)
    for word in words:
        assert word in str(error.value)
    assert not config.warehouse.exists()


def test_the_command_line_says_it_in_one_line_and_exits_with_2(tmp_path: Path, settings: dict[str, Any]) -> None:
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(settings | {"target": "laughing"}))
    answer = CliRunner().invoke(app, ["audit", str(tmp_path / "run.yaml")])
    assert answer.exit_code == 2
    assert "unknown target class 'laughing'" in answer.stderr and "Traceback" not in answer.stderr
    answer = CliRunner().invoke(app, ["audit", str(tmp_path / "none.yaml")])
    assert answer.exit_code == 2 and "no such file" in answer.stderr


def test_the_reference_of_settings_is_up_to_date() -> None:
    from flows.reference import reference

    kept = (HERE.parents[1] / "docs" / "reference" / "config.md").read_text()
    assert kept == reference(), "run: python -m flows.reference > docs/reference/config.md"


@pytest.mark.parametrize("name", ["portraits.yaml", "words.yaml", "digits.yaml", "endpoint.yaml"])
def test_the_examples_are_valid(name: str) -> None:
    load_config(HERE.parents[1] / "examples" / name)
