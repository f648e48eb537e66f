"""Results where teams look, each read back by the tool's own reader: MLflow, Weights & Biases, a model card, Prometheus."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard
from portrait_run import write_portrait_run
from prometheus_client.parser import text_string_to_metric_families
from typer.testing import CliRunner

from flows.cli import app
from tasks.reading.gate import Policy, set_policy
from tasks.reading.publishing import MlflowConfig, Publishing, publish_all
from warehouse.evidence.model_card import About, model_card
from warehouse.evidence.results import Results, measured, read_results
from warehouse.report.render import report_path, write_report
from warehouse.trackers.mlflow_run import mlflow_client, plainly_named, write_run
from warehouse.trackers.prometheus_file import write_text_file
from warehouse.trackers.wandb_run import write_offline_run

HOSTILE = '<b>|hat"\\\n\x07'
STORE = "sqlite:///mlflow.db"
HELD_TO = Policy(minimum_images=16, minimum_flip_rate=0.5)


@pytest.fixture(scope="module", autouse=True)
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of its own for what the tools write, and none of the settings of who runs the tests."""
    folder = tmp_path_factory.mktemp("tools")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "WANDB_PROJECT", "WANDB_MODE"):
            patch.delenv(name, raising=False)
        for name in ("DATA", "CACHE", "CONFIG"):
            patch.setenv(f"WANDB_{name}_DIR", str(folder / name))
        patch.setenv("WANDB_ERROR_REPORTING", "false")
        yield folder


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose gate fails, and one with too few images for its gate, both with a report."""
    root = tmp_path_factory.mktemp("warehouse")
    write_portrait_run(root, "planted-run", n=32, size=16, names={"hat": HOSTILE}, properties={"warmth": 0.3})
    write_portrait_run(root, "clean-run", n=32, size=16, planted=False)
    set_policy(root, "planted-run", HELD_TO)
    set_policy(root, "clean-run", Policy(minimum_images=64))
    write_report(root, "planted-run")
    report_path(root, "clean-run").write_text("<p>a report</p>")
    return root


@pytest.fixture(scope="module")
def planted(root: Path) -> Results:
    return read_results(root, "planted-run")


def said(root: Path, *arguments: str) -> tuple[int, str]:
    ended = CliRunner().invoke(app, ["publish", *arguments, "-w", str(root)])
    return ended.exit_code, " ".join(ended.output.split())


@pytest.fixture(scope="module")
def models(elsewhere: Path) -> Any:
    """A client of a store with a registered model of two versions."""
    client = mlflow_client(STORE)
    client.create_registered_model("smile")
    for number in (1, 2):
        assert str(client.create_model_version("smile", source=str(elsewhere)).version) == str(number)
    return client


def test_an_mlflow_run_is_logged_once_and_a_failing_gate_blocks_the_alias(root: Path, planted: Results, models: Any) -> None:
    release = ("--model", "smile", "--version", "2", "--alias", "champion")
    code, printed = said(root, "mlflow", "planted-run", "--tracking-uri", STORE, *release)
    assert (
        code == 1
        and "blocked version 2 of smile was not given the alias champion. Release check failed: glasses effect" in printed
    )
    assert models.get_registered_model("smile").aliases == {}
    assert models.get_model_version("smile", "2").tags["cfx.gate"] == "fail"
    mlflow_id = write_run(models, planted, [], "cfx")  # again
    [logged] = models.search_runs([models.get_experiment_by_name("cfx").experiment_id])
    assert logged.info.run_id == mlflow_id and f"MLflow run {mlflow_id} in experiment cfx" in printed
    assert logged.info.status == "FINISHED" and logged.data.metrics == plainly_named(measured(planted))
    assert {"effect/glasses", "effect_low/glasses", "accuracy", "explained_share/smiling"} <= logged.data.metrics.keys()
    tags = logged.data.tags
    assert (tags["cfx.run_id"], tags["cfx.gate"]) == ("planted-run", "fail") and "glasses" in tags["cfx.gate.reasons"]
    assert len(models.get_metric_history(mlflow_id, "effect/glasses")) == 1
    kept = {file.path: Path(models.download_artifacts(mlflow_id, file.path)) for file in models.list_artifacts(mlflow_id)}
    assert kept.keys() == {"report.html", "planted-run.zip"}
    assert kept["report.html"].read_bytes() == report_path(root, "planted-run").read_bytes()
    assert "SHA256SUMS" in zipfile.ZipFile(kept["planted-run.zip"]).namelist()


def test_a_file_store_of_mlflow_holds_the_same(planted: Results, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # MLflow asks for a database since 3.7
    client = mlflow_client(f"file:{tmp_path}")
    logged = client.get_run(write_run(client, planted, [], "cfx"))
    assert logged.data.metrics == plainly_named(measured(planted)) and logged.data.tags["cfx.gate"] == "fail"


def test_an_undecided_gate_blocks_the_alias_and_one_that_passes_gives_it(root: Path, models: Any) -> None:
    clean = ("mlflow", "clean-run", "--tracking-uri", STORE, "--no-archive", "--model", "smile", "--alias", "champion")
    code, printed = said(root, *clean)
    assert code == 2 and "which version of smile was audited? It has 1, 2" in printed
    code, printed = said(root, *clean, "--version", "1")
    assert code == 3 and "Release check inconclusive: 32 images audited, at least 64 required" in printed
    assert models.get_registered_model("smile").aliases == {}
    set_policy(root, "clean-run", HELD_TO)
    code, printed = said(root, *clean, "--version", "1", "--json")
    found = json.loads(printed)
    assert (code, found["gate"], found["alias"], found["version"]) == (0, "pass", "champion", "1")
    assert str(models.get_model_version_by_alias("smile", "champion").version) == "1"


def test_a_server_that_does_not_answer_is_no_bad_input_and_its_password_is_not_repeated(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    code, printed = said(root, "mlflow", "clean-run", "--tracking-uri", "http://me:secret@127.0.0.1:1", "--model", "smile")
    assert code == 1 and "Connection refused" in printed and "secret" not in printed


def test_names_that_mlflow_does_not_take_stay_apart() -> None:
    assert plainly_named({"fid[oracle]": 1, "effect/a<b": 2, "effect/a>b": 3}) == {
        "fid_oracle_": 1,
        "effect/a_b": 2,
        "effect/a_b_2": 3,
    }


def test_an_offline_run_of_weights_and_biases(root: Path, planted: Results, tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    report.write_bytes(report_path(root, "planted-run").read_bytes())
    folder = write_offline_run(planted, [report], "cfx", tmp_path)
    assert folder.is_relative_to(tmp_path / "wandb")
    wandb = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(folder)]  # wandb's own reader of its log
    lines = subprocess.run(wandb, capture_output=True, text=True, check=True).stdout.splitlines()
    records: dict[str, list[Any]] = {}
    for record in map(json.loads, lines):
        records.setdefault(record["type"], []).append(record[record["type"]])
    [run] = records["run"]
    assert (run["project"], run["run_id"], run["tags"]) == ("cfx", "planted-run", ["gate:fail"]) and "host" not in run
    assert run["config"]["update"]["code_version"] == planted.run["code_version"]
    assert "environment" not in records and records["exit"][0]["exit_code"] == 0
    summary = {name: value for part in records["summary"] for name, value in part["update"].items()}
    assert summary["gate"] == "fail" and summary["headline"] == planted.verdict.headline
    assert {name: summary[name] for name in measured(planted)} == pytest.approx(measured(planted))
    [page] = (folder / "files" / "media" / "html").iterdir()
    assert planted.verdict.headline.split("“")[0] in page.read_text()
    tables = {
        path.name.split("_0_")[0]: json.loads(path.read_text()) for path in (folder / "files" / "media" / "table").iterdir()
    }
    assert [row[0] for row in tables["attributes"]["data"]] == [row["attribute"] for row in planted.attributes]
    assert len(tables["release_checks"]["data"]) == len(planted.gate.rules if planted.gate else ())
    assert [row[1] for row in tables["properties_and_places"]["data"]] == ["warmth"]
    [evidence] = [each for each in records["artifact"] if each["type"] == "audit"]
    assert [file["path"] for file in evidence["manifest"]["contents"]] == ["report.html"]


def test_a_model_card_is_read_by_the_hub(planted: Results, tmp_path: Path) -> None:
    about = About("apache-2.0", "timm/resnet18.a1_in1k", ("me/faces",), "smile")
    (tmp_path / "card.md").write_text(model_card(planted, about))
    card = ModelCard.load(tmp_path / "card.md")
    data = card.data
    assert (data.license, data.base_model, data.datasets) == ("apache-2.0", "timm/resnet18.a1_in1k", ["me/faces"])
    assert data.model_name == "smile" and {"image-classification", "cfx"} <= set(data.tags)
    values = {result.metric_type: result.metric_value for result in data.eval_results}
    assert planted.accuracy is not None and values["accuracy"] == planted.accuracy["value"]
    assert values["release_check"] == "failed"
    assert {row["metric"]: row["value"] for row in planted.scorecard}.items() <= values.items()
    assert "- Contact: [to be filled in]" in card.text and "[to be filled in]" not in card.text.split("- Intended use")[0]
    assert "<b>" not in card.text and "License: [to be filled in]" in model_card(planted)


def test_a_prometheus_file_is_parsed_by_the_official_client(planted: Results, tmp_path: Path) -> None:
    path = write_text_file(planted, tmp_path)
    assert path == tmp_path / f"cfx_{planted.run['name']}.prom" and list(tmp_path.iterdir()) == [path]
    families = {family.name: family for family in text_string_to_metric_families(path.read_text())}
    assert all(family.type == "gauge" and family.documentation for family in families.values())
    values = {
        (sample.name, *(value for name, value in sorted(sample.labels.items()) if name != "audit")): sample.value
        for family in families.values()
        for sample in family.samples
    }
    [glasses] = [row for row in planted.attributes if row["attribute"] == "glasses"]
    assert (
        values["cfx_effect", "glasses"] == glasses["effect"]
        and values["cfx_intervention_low", "glasses"] == glasses["intervention_low"]
    )
    assert ("cfx_effect", HOSTILE) in values
    assert [values["cfx_gate", result] for result in ("pass", "fail", "inconclusive")] == [0, 1, 0]
    assert planted.accuracy is not None and values["cfx_accuracy",] == planted.accuracy["value"]
    assert values["cfx_explained_share", "smiling"] == planted.explained[0]["share"]
    assert values["cfx_unnamed_intervention", "smiling", "property", "warmth", "confirmed"] == pytest.approx(0.3)
    assert {name: values[name] for name in values if name[0] == "cfx_scorecard"} == {
        ("cfx_scorecard", row["metric"]): row["value"] for row in planted.scorecard
    }
    guide = (Path(__file__).parents[2] / "docs/how-to/trackers.md").read_text(encoding="utf-8")
    alerts = re.findall(r"\bcfx_[a-z_]+", "".join(line for line in guide.splitlines() if "alert:" in line))
    named = {"cfx_gate", "cfx_audit_finished_timestamp_seconds", "cfx_audit_succeeded", "cfx_intervention_low"}
    assert set(alerts) == named <= families.keys() and values["cfx_audit_succeeded",] == 1
    assert {sample.labels["audit"] for family in families.values() for sample in family.samples} == {planted.run["name"]}


def test_settings_publish_a_finished_audit_and_a_tool_that_fails_is_a_warning(
    root: Path, planted: Results, models: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wanted = {"wandb": {"folder": tmp_path / "nosuch"}, "prometheus": {"file": tmp_path / "audit.prom"}}
    with caplog.at_level("INFO", logger="trial"):
        publish_all(root, "planted-run", Publishing.model_validate(wanted), logging.getLogger("trial"))
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert "not published to wandb: there is no folder" in caplog.text and (tmp_path / "audit.prom").is_file()
    mlflow_id = MlflowConfig(tracking_uri=STORE, experiment="nightly", archive=False).write(root, planted)
    assert models.get_run(mlflow_id).data.tags["cfx.run_id"] == "planted-run"
    with pytest.raises(ValueError, match="MLFLOW_TRACKING_PASSWORD") as refused:
        MlflowConfig(tracking_uri="https://me:secret@host")
    assert "secret" not in str(refused.value)


def test_bad_input_is_refused_before_work(root: Path, models: Any, tmp_path: Path) -> None:
    there = tmp_path / "README.md"
    there.touch()
    for arguments, words in {
        ("card", "clean-run", "-o", str(root)): "is a folder; name a file in it",
        ("card", "clean-run", "-o", str(there)): "is there already; name another file",
        ("prometheus", "clean-run", "-o", "cfx.txt"): "cfx.txt does not end in .prom",
        ("wandb", "clean-run", "-o", "nosuch"): "there is no folder nosuch",
        ("mlflow", "clean-run", "--alias", "champion"): "name it with --model",
        ("mlflow", "clean-run", "--tracking-uri", STORE, "--model", "nosuch"): "MLflow has no registered model 'nosuch'",
    }.items():
        code, printed = said(root, *arguments)
        assert code == 2 and words in printed, arguments


@pytest.mark.parametrize(("package", "command"), [("mlflow", "mlflow"), ("wandb", "wandb"), ("prometheus_client", "prometheus")])
def test_a_tool_that_is_not_installed_is_named_with_its_extra(
    root: Path, monkeypatch: pytest.MonkeyPatch, package: str, command: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    code, printed = said(root, command, "clean-run")
    assert code == 2 and re.search(rf"pip install 'cfx-audit\[{command}\]'", printed)
