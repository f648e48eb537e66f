"""What can be found before work is found before work; what fails during it ends as its own words, in one line."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from prefect.exceptions import UnfinishedRun
from typer.testing import CliRunner

from benchmarks.toy_audit import lay_out, settings, write_settings
from cfx.checkpoint import Facts, save_network
from cfx.errors import ConfigError, TransientError, UserCodeError, UserError
from cfx.networks.convnet import ConvNet
from flows.artifacts import all_of
from flows.audit import audit_checked
from flows.cli import app
from flows.config import load_config
from flows.terminal import in_one_line, reason_of, user_errors
from tasks.check import check, check_names_differ
from warehouse.lens.connect import query

THEIRS = """
from pathlib import Path
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.head = torch.nn.Linear(3, 2)
        torch.nn.init.constant_(self.head.weight, 0.5)

    def forward(self, x):
        if x.requires_grad and (Path(__file__).parent / "broken").exists():
            raise RuntimeError("no gradients here")
        return self.head(x.mean((2, 3)))

def answers(shown):
    bright = shown.mean((1, 2, 3))
    return [[1 - p, p] for p in bright.tolist()]
"""


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toys")
    lay_out(folder, 8)
    (folder / "their_failing.py").write_text(THEIRS)
    kwargs: dict[str, object] = {"outputs": 3, "widths": [8], "grid": 2}
    facts: Facts = {"module": "cfx.networks.convnet:ConvNet", "kwargs": kwargs, "input_size": 16}
    torch.manual_seed(0)
    save_network(folder / "colliding.safetensors", ConvNet(3, (8,), 2), facts | {"attributes": ["smile", "Hat", "hat"]})
    save_network(folder / "three.safetensors", ConvNet(3, (8,), 2), facts | {"classes": ["a", "b", "c"]})
    (folder / "file").write_text("no folder")
    return folder


def refused(folder: Path, **more: Any) -> str:
    config = load_config(write_settings(folder, settings(folder, 4, **more), "refused.yaml"))
    with pytest.raises(ConfigError) as error:
        check(config)
    assert not config.warehouse.exists() or config.warehouse.is_file()
    return str(error.value)


DVCE = {"method": "dvce", "steps": 10, "tau": 2}
FAST = {"method": "fastdime", "steps": 10, "tau": 2, "perceptual": 1.0}


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"ladder": [DVCE | {"robust": {"weights": "none.pt"}}]}, ["ladder", "none.pt"]),
        (
            {"ladder": [DVCE | {"robust": {"weights": "three.safetensors"}}]},
            ["ladder", "robust", "a, b, c", "not_smiling, smiling"],
        ),
        ({"ladder": [FAST | {"vgg19": "none.pth"}]}, ["ladder", "none.pth", "vgg19-dcbb9e9d.pth"]),
        ({"ladder": [FAST | {"vgg19": "file"}]}, ["ladder", "file"]),
        ({"ladder": [{"method": "blended", "steps": 10, "tau": 2, "lpips": 1.0, "vgg16": "none.pth"}]}, ["none.pth", "vgg16-"]),
        ({"measures": {"vgg16": "none.pth"}}, ["measures", "none.pth", "vgg16-"]),
        ({"measures": {"alexnet": "none.pth"}}, ["measures", "none.pth", "alexnet-"]),
        ({"measures": {"inception": "none.pth"}}, ["measures", "none.pth"]),
        ({"measures": {"vggface2": "none.pkl"}}, ["measures", "none.pkl"]),
        ({"measures": {"simsiam": "none.tar"}}, ["measures", "none.tar"]),
        ({"oracle": {"weights": "colliding.safetensors"}}, ["oracle", "'Hat' and 'hat'", "rename"]),
        ({"oracle": {"weights": "oracle.safetensors", "attributes": ["Smile", "smile", "hat"]}}, ["'Smile' and 'smile'"]),
        ({"gate": {"forbidden": ["monocle"]}}, ["gate.forbidden", "'monocle'", "smile, hat, beard"]),
        ({"gate": {"protected": ["hatt"]}}, ["gate.protected", "'hatt' is neither annotated", "known are smile"]),
        ({"warehouse": "file"}, ["warehouse", "is a file"]),
        ({"warehouse": "file/below/it"}, ["warehouse", "file is a file"]),
        ({"saliency": {"regions": "none"}}, ["saliency", "none"]),
        ({"masks": "none"}, ["masks", "none", "holds no mask", "none/subject/"]),
        ({"judge": {"weights": "none.safetensors"}}, ["judge", "none.safetensors"]),
        ({"classifier": {"module": "nowhere:Net", "classes": ["a", "b"]}}, ["classifier", "'nowhere'", "were searched"]),
        ({"data": {"images": "none", "table": "data/attributes.csv"}}, ["data", "none"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_can_be_found_before_work_is_found_there(toys: Path, more: dict[str, Any], words: list[str]) -> None:
    said = refused(toys, **more)
    assert "\n" not in said
    assert [word for word in words if word not in said] == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_refused(toys: Path) -> None:
    (toys / "locked").mkdir(mode=0o500)
    assert "cannot be written" in refused(toys, warehouse="locked/warehouse")


@pytest.mark.parametrize("name", ["big\nhat", "hat\x00", "", " ", "a\u202eb", "a\tb"])
def test_a_name_that_no_column_can_have_is_refused_before_work(name: str) -> None:
    with pytest.raises(UserError, match="sign that is not shown; rename it"):
        check_names_differ(("smile", name))


@pytest.mark.parametrize("names", [("Hat", "hat"), ("a", "b", "A"), ("É", "é"), ("straße", "STRASSE")])
def test_names_that_differ_by_case_alone_are_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(UserError, match="differ by case alone"):
        check_names_differ(names)
    check_names_differ(tuple(f"{i} {name}" for i, name in enumerate(names)))


# --- during the work ---


class Future:
    """A stage's end: what it gave, or what it raised."""

    def __init__(self, end: object) -> None:
        self._end = end

    def result(self) -> object:
        if isinstance(self._end, Exception):
            raise self._end
        return self._end


NOT_BEGUN = UnfinishedRun("Run is in PENDING state, its result is not available.")


@pytest.mark.parametrize(
    ("ends", "raised"),
    [
        ((1, 2), None),
        ((1, UserError("budget"), NOT_BEGUN), "budget"),
        ((NOT_BEGUN, 1, UserError("budget")), "budget"),
        ((NOT_BEGUN, KeyError("first"), UserError("second")), "'first'"),
        ((NOT_BEGUN,), "Run is in PENDING state, its result is not available."),
    ],
)
def test_the_first_failure_of_a_stages_own_is_raised(ends: tuple[object, ...], raised: str | None) -> None:
    futures: Any = [Future(end) for end in ends]
    if raised is None:
        assert all_of(futures) == list(ends)
        return
    with pytest.raises(Exception) as error:
        all_of(futures)
    assert str(error.value) == raised


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (UserError("classifier: no such file"), "classifier: no such file"),
        (UserCodeError("theirs:Net raised KeyError: 'x'", "frames"), "theirs:Net raised KeyError: 'x'"),
        (ConfigError("first finding\nsecond finding"), "first finding"),
        (KeyError("x"), "KeyError: 'x'"),
        (RuntimeError("one\ntwo"), "RuntimeError: one"),
        (AssertionError(), "AssertionError"),
        (TransientError("the store refuses"), "TransientError: the store refuses"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_a_reason_is_one_line(error: Exception, reason: str) -> None:
    assert reason_of(error) == reason


def test_the_log_tells_a_failure_in_one_line_and_nothing_of_stages_that_did_not_begin() -> None:
    def record(text: str, error: Exception | None = None) -> logging.LogRecord:
        return logging.LogRecord(
            "prefect.flow_runs", logging.ERROR, "", 0, text, None, (type(error), error, None) if error else None
        )

    failed = record("Encountered exception during execution: UserError('a', 'Traceback\\n…')", UserError("a"))
    assert in_one_line(failed) and failed.getMessage() == "a" and failed.exc_info is None
    assert not in_one_line(record("Finished in state NotReady(\"Upstream task run '01' did not reach …\", type=PENDING)"))
    assert in_one_line(record("Finished in state Completed()"))


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (UserError("name a class"), 2, ["error name a class"]),
        (FileNotFoundError("there is no file x"), 2, ["error there is no file x"]),
        (TransientError("the store refuses"), 1, ["error the store refuses"]),
        (KeyError("x"), 1, ["error KeyError: 'x'", "defect", "cfx-error-"]),
        (RuntimeError("one\ntwo"), 1, ["error RuntimeError: one.", "defect", "cfx-error-"]),
        (typer.Exit(3), 3, []),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_a_command_ends_with_one_line_and_its_documented_status(
    error: Exception, code: int, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    command = typer.Typer()

    @command.command()
    def fail() -> None:
        with user_errors():
            raise error

    ended = CliRunner().invoke(command)
    assert ended.exit_code == code and "Traceback" not in ended.output
    assert len(ended.stderr.splitlines()) == (1 if words else 0)
    assert [word for word in words if word not in ended.stderr] == []
    traces = [path.read_text() for path in tmp_path.glob("cfx-error-*.txt")]
    assert len(traces) == ("defect" in words) and all("raise error" in trace for trace in traces)


def test_a_failure_in_the_explanations_is_the_reason_of_the_run(toys: Path, prefect_server: dict[str, str]) -> None:
    network = {"module": "their_failing:Net", "classes": ["plain", "smiling"], "input_size": 16}
    run = check(load_config(write_settings(toys, settings(toys, 4, classifier=network, warehouse="failed"))))
    (toys / "broken").touch()
    with pytest.raises(UserCodeError) as error:
        audit_checked(run)
    said = "their_failing:Net raised RuntimeError: no gradients here"
    assert str(error.value) == said
    assert query(toys / "failed", "select status, reason from runs").to_pylist() == [{"status": "failed", "reason": said}]
    sys.modules.pop("their_failing", None)


def test_a_budget_that_is_spent_ends_the_command_with_its_words_alone(toys: Path, prefect_server: dict[str, str]) -> None:
    box = {"access": "callable", "module": "their_failing:answers", "classes": ["plain", "smiling"], "limits": {"budget": 5}}
    more = {"classifier": box, "prior": None, "warehouse": "spent", "name": "spent"}
    path = write_settings(toys, settings(toys, 4, **more))
    ended = CliRunner().invoke(app, ["audit", str(path), "--quiet"])
    assert ended.exit_code == 2 and "Traceback" not in ended.stderr and "PENDING" not in ended.stderr
    (last,) = [line for line in ended.stderr.splitlines() if line.startswith("error ")]
    assert "the query budget is 5 images" in last and "raise `limits.budget`" in last
    (row,) = query(toys / "spent", "select status, reason from runs").to_pylist()
    assert row == {"status": "failed", "reason": last.removeprefix("error ")}
