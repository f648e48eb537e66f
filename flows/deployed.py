"""What `prefect.yaml` deploys: flows that take a file, so that a schedule can start them."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger
from prefect.artifacts import create_table_artifact
from prefect.client.schemas import State
from prefect.concurrency.sync import concurrency
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from cfx.errors import UserError
from cfx.masking import scrubbed
from flows.artifacts import show_alarms, show_release
from flows.audit import audit_to_release, run_audit
from flows.benchmark import GRIDS, marks, run_benchmark
from flows.config import load_config, training_config
from flows.events import send_event
from flows.terminal import reason_of
from tasks.check import check
from tasks.data.nightly import of_night
from warehouse.trend.alarms import alarms


@flow(name="nightly", flow_run_name="{config}", retries=0)
def nightly(config: Path, slots: str | None = None) -> State[str]:
    """Audit what a YAML file says, on the machine of the worker; what a killed run has finished is kept. Returns the run id.

    Where the gate fails and the policy's `on_fail` says so, which is its default, this run and the audit's end Failed with the
    reason as their message, when all is written. Either way one event says what came of it (`flows.events`), and so does one of
    an audit that raises; of a process that dies Prefect itself says so. What is other than in the nights before is an event, too,
    on its first night.

    A nightly sample is that of the day which the run was scheduled for: a run that is late, or tried again, has its images.

    slots: a Prefect global concurrency limit, such as the number of GPUs. The audit waits for one of its slots and holds it
    by a lease, which a killed run loses within a minute. Raises ConcurrencySlotAcquisitionError where there is no such limit.
    """
    held = concurrency(slots, occupy=1, strict=True, lease_duration=60) if slots else nullcontext()
    name = config.stem
    try:
        with held, scrubbed():
            settings = load_config(config)
            name = settings.name
            night = of_night(settings.data, flow_run.scheduled_start_time.date())
            settings = settings.model_copy(update={"data": night})
            release = audit_to_release(check(settings), held=True)
        show_release(release)
        changed = alarms(settings.warehouse, release.run_id)
        show_alarms(name, changed)
    except Exception as error:
        send_event("audit.error", name, f"The audit itself failed: {reason_of(error)}")
        raise
    send_event(f"gate.{release.outcome}", name, release.message, **release.details)
    for alarm in changed:
        if alarm.nights == 1:
            send_event(
                "alarm.trend", name, str(alarm), **release.details | {"headline": f"Tonight is other than before: {alarm}"}
            )
    if release.outcome == "fail":
        return Failed(message=release.message)
    return Completed(message=release.message, data=release.run_id)


@flow(name="training")
def training(images: Path, to: Path, settings: Path | None = None) -> str:
    """Train a prior on the images of a folder; after a kill it goes on from its checkpoint. Returns the prior's folder."""
    from cfx.diffusion.training import PriorTraining
    from tasks.training.from_folder import prior_from_folder

    log = get_run_logger()

    def report(step: int, loss: float) -> None:
        if step % 100 == 0:
            log.info("step %d, loss %.4f", step, loss)

    with scrubbed():
        return str(prior_from_folder(images, training_config(PriorTraining, settings), to, report))


@flow(name="grading", flow_run_name="{grid}")
def grading(folder: Path, grid: str = "quick") -> dict[str, Any]:
    """Grade the audit where the truth is known, cell by cell; what a killed run has finished is kept. Returns the marks.

    Raises UserError for a grid that does not exist.
    """
    if grid not in GRIDS:
        raise UserError(f"grid: there is no {grid!r}; the grids are {', '.join(GRIDS)}")
    with scrubbed():
        run_benchmark(folder, GRIDS[grid], run_audit)
    found = marks(folder / "warehouse")
    create_table_artifact(found["cells"], key="benchmark-cells", description=f"every cell of {folder}")
    return found
