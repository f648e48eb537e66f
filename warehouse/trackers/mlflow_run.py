"""MLflow: one MLflow run a cfx run, and a registered model's alias only where the release check passed.

A run is found again by its tag `cfx.run_id`, so that publishing it twice updates it. https://mlflow.org/docs/latest/ml/tracking
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from time import time
from typing import TYPE_CHECKING

from cfx.errors import TransientError, UserError
from cfx.masking import masked
from warehouse.evidence.results import Results, measured, release_check
from warehouse.lens.gate import Gate
from warehouse.report.scope import model_name

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

LONGEST = 5000  # letters of a tag, which MLflow cuts or refuses beyond
_NOT_IN_A_NAME = re.compile(r"[^\w./: -]")
_SETTINGS = {  # read when MLflow is imported, and its own defaults where the user sets them
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # what is printed there is the command's own
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # seven take minutes before a wrong address is reported
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}


def mlflow_client(tracking_uri: str | None) -> MlflowClient:
    """A client of this server or store; None: MLFLOW_TRACKING_URI, or MLflow's own default, ./mlflow.db.

    Raises UserError where MLflow is not installed.
    """
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    try:
        from mlflow import MlflowClient
    except ImportError as error:
        raise UserError("MLflow is not installed; install it with: pip install 'cfx-audit[mlflow]'") from error
    with mlflow_errors():
        return MlflowClient(tracking_uri)


@contextmanager
def mlflow_errors() -> Iterator[None]:
    """What MLflow refuses is bad input, and a server that does not answer is another failure: MLflow's own words either way."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        words = "MLflow: " + masked(str(error)).splitlines()[0]
        if error.error_code in ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE"):
            raise TransientError(words) from error
        raise UserError(words) from error


def write_run(client: MlflowClient, results: Results, files: Sequence[Path], experiment: str) -> str:
    """Metrics, tags, parameters and files of a run, in the one MLflow run of this experiment that is about it. Returns its id."""
    from mlflow.entities import Metric, Param, RunTag

    run = results.run
    with mlflow_errors():
        found = client.get_experiment_by_name(experiment)
        place = found.experiment_id if found is not None else client.create_experiment(experiment)
        earlier = client.search_runs([place], f"tags.`cfx.run_id` = '{run['run_id']}'", max_results=1)
        began = _milliseconds(run["started"])
        written = earlier[0] if earlier else client.create_run(place, began, run_name=run["run_id"])
        now = int(time() * 1000)
        metrics = [
            Metric(name, value, now, 0)
            for name, value in plainly_named(measured(results)).items()
            if written.data.metrics.get(name) != value  # a metric is a series: the same value again would be another point
        ]
        tags = [RunTag(name, value[:LONGEST]) for name, value in tags_of(results).items()]
        params = [Param(name, value[:LONGEST]) for name, value in _params(results).items()]
        mlflow_id = str(written.info.run_id)
        client.log_batch(mlflow_id, params=params, tags=tags)
        for start in range(0, len(metrics), 1000):  # MLflow's limit of one request
            client.log_batch(mlflow_id, metrics=metrics[start : start + 1000])
        for file in files:
            client.log_artifact(mlflow_id, str(file))
        if run["finished"] is not None:
            status = "FINISHED" if run["status"] == "finished" else "FAILED"
            client.set_terminated(mlflow_id, status, _milliseconds(run["finished"]))
    return mlflow_id


def plainly_named(numbers: Mapping[str, float]) -> dict[str, float]:
    """The same numbers by names that MLflow takes: `fid[oracle]` is `fid_oracle_`; a second one of the same name gets a 2."""
    named = dict[str, float]()
    for name, value in numbers.items():
        plain = _NOT_IN_A_NAME.sub("_", name)
        twins = (f"{plain}_{i}" for i in range(2, len(numbers) + 2))
        named[plain if plain not in named else next(twin for twin in twins if twin not in named)] = value
    return named


def tags_of(results: Results) -> dict[str, str]:
    """What the audit says, as tags; `mlflow.note.content` is what MLflow shows as the run's description."""
    run, gate, said = results.run, results.gate, results.verdict
    tags = {"cfx.run_id": run["run_id"], "cfx.audit": run["name"], "cfx.verdict": said.headline, "cfx.status": run["status"]}
    tags |= {"cfx.gate": "none"} if gate is None else {"cfx.gate": gate.verdict, "cfx.gate.reasons": "\n".join(gate.reasons)}
    note = f"**{said.headline}.** {' '.join(said.sentences)}\n\n{release_check(results)}"
    return tags | {"mlflow.note.content": note.replace("<", "&lt;")}


def _params(results: Results) -> dict[str, str]:
    run = results.run
    config = json.loads(run["config"])
    known = {
        "classifier": model_name(config.get("classifier") or {}),
        "images": (config.get("data") or {}).get("images"),
        "method": run["method"],
        "config_hash": run["config_hash"],
        "code_version": run["code_version"],
    }
    return {name: str(value) for name, value in known.items() if value}


def _milliseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def audited_version(client: MlflowClient, model: str, version: str | None) -> ModelVersion:
    """The version of a registered model that was audited, by its number, or the only one that there is.

    Raises UserError where there is none, or where it is not said which of several.
    """
    from mlflow.exceptions import MlflowException

    with mlflow_errors():
        numbers = sorted((found.version for found in client.search_model_versions(f"name = '{model}'")), key=int)
        try:
            client.get_registered_model(model)
        except MlflowException as error:
            raise UserError(f"--model: MLflow has no registered model {model!r}; register it before it is published") from error
        if version is None and len(numbers) != 1:
            raise UserError(
                f"--version: which version of {model} was audited? It has {', '.join(map(str, numbers)) or 'none yet'}"
            )
        wanted = str(numbers[0]) if version is None else version
        if wanted not in map(str, numbers):
            raise UserError(f"--version: {model} has no version {wanted!r}; it has {', '.join(map(str, numbers)) or 'none yet'}")
        return client.get_model_version(model, wanted)


def mark_version(client: MlflowClient, audited: ModelVersion, gate: Gate, mlflow_id: str, alias: str | None) -> bool:
    """Tag the version with the result, and give it the alias if the release check passed. Returns whether it was given.

    An alias that the version has already is left where it is: to take it away could end what serves by it.
    """
    tags = {
        "cfx.run_id": gate.run_id,
        "cfx.gate": gate.verdict,
        "cfx.gate.reasons": "\n".join(gate.reasons),
        "cfx.run": mlflow_id,
    }
    with mlflow_errors():
        for name, value in tags.items():
            client.set_model_version_tag(audited.name, str(audited.version), name, value[:LONGEST])
        if alias is None or gate.verdict != "pass":
            return False
        client.set_registered_model_alias(audited.name, alias, str(audited.version))
    return True
