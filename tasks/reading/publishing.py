"""`Publishing`: where a finished audit's results are put, each night again. See docs/how-to/trackers.md."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, field_validator

from cfx.credentials import refuse_credentials
from cfx.masking import masked
from warehouse.lens.connect import query

if TYPE_CHECKING:
    from warehouse.evidence.results import Results

Log: TypeAlias = "logging.Logger | logging.LoggerAdapter[Any]"


class MlflowConfig(BaseModel):
    """As `cfx publish mlflow RUN`; that command alone gives a model its alias."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    tracking_uri: str | None = Field(
        None, description="server, or a database such as sqlite:////data/mlflow.db; default: MLFLOW_TRACKING_URI, or ./mlflow.db"
    )
    experiment: str = Field("cfx", description="where the run stands in MLflow")
    archive: bool = Field(True, description="with the archive, which holds the images, or the report alone")

    @field_validator("tracking_uri")
    @classmethod
    def _without_a_password(cls, uri: str | None) -> str | None:
        refuse_credentials(uri)  # MLflow takes them from MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD
        return uri

    def write(self, root: Path, results: Results) -> str:
        """Log a run, or update it. Returns the id that MLflow gave it."""
        from warehouse.evidence.export import evidence_files
        from warehouse.trackers.mlflow_run import mlflow_client, write_run

        client = mlflow_client(self.tracking_uri)
        with evidence_files(root, results, self.archive) as files:
            return write_run(client, results, files, self.experiment)


class WandbConfig(BaseModel):
    """As `cfx publish wandb RUN`: an offline run, which `wandb sync` uploads."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: Path = Field(description="the folder in which `wandb` is made")
    project: str = Field("cfx", description="where the run stands in Weights & Biases")
    archive: bool = Field(True, description="with the archive, which holds the images, or the report alone")

    def write(self, root: Path, results: Results) -> str:
        """Write an offline run. Returns its folder."""
        from warehouse.evidence.export import evidence_files
        from warehouse.trackers.wandb_run import write_offline_run

        with evidence_files(root, results, self.archive) as files:
            return str(write_offline_run(results, files, self.project, self.folder))


class PrometheusConfig(BaseModel):
    """As `cfx publish prometheus RUN`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: Path = Field(description="NAME.prom, or the folder of node_exporter's textfile collector")

    def write(self, root: Path, results: Results) -> str:
        """Write the text file. Returns its path."""
        from warehouse.trackers.prometheus_file import write_text_file

        return str(write_text_file(results, self.file))


class Publishing(BaseModel):
    """Where the results of every finished audit are put. A tool that does not take them is a warning, and no failed audit."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    mlflow: MlflowConfig | None = None
    wandb: WandbConfig | None = None
    prometheus: PrometheusConfig | None = None


def publish_all(root: Path, run_id: str, publishing: Publishing | None, log: Log) -> None:
    """Put a finished run's results wherever the settings say. Raises nothing for a tool that fails: the audit is done."""
    tools = {name: getattr(publishing, name) for name in Publishing.model_fields} if publishing is not None else {}
    wanted = {name: tool for name, tool in tools.items() if tool is not None}
    if not wanted:
        return
    from warehouse.evidence.results import read_results

    results = read_results(root, run_id)
    for name, tool in wanted.items():
        try:
            log.info("published to %s: %s", name, tool.write(root, results))
        except Exception as error:  # whatever a tool of others raises
            log.warning("not published to %s: %s", name, masked(str(error)) or type(error).__name__)


def publish_failure(root: Path, run_id: str, publishing: Publishing | None, log: Log) -> None:
    """Tell Prometheus, whose series go on night after night, that a run failed; other tools list what is done."""
    if publishing is None or publishing.prometheus is None:
        return
    from warehouse.trackers.prometheus_file import write_failure

    try:
        (run,) = query(root, "from runs where run_id = $run", {"run": run_id}).to_pylist()
        log.info("failure published to prometheus: %s", write_failure(run, publishing.prometheus.file))
    except Exception as error:  # what failed is said by the audit
        log.warning("failure not published to prometheus: %s", masked(str(error)) or type(error).__name__)
