"""What `prefect.yaml` deploys: flows that take a file, so that a schedule can start them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger
from prefect.artifacts import create_table_artifact
from prefect.client.schemas import State
from prefect.concurrency.sync import concurrency
from prefect.runtime import deployment, flow_run
from prefect.states import Completed, Failed

from cfx.allowed import confined
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

FOLDERS = "CFX_ALLOWED_FOLDERS"


@contextmanager
def as_allowed(**paths: Path | None) -> Iterator[None]:
    """In a deployment, which others than its operator may start with parameters of theirs, the code that a configuration names is
    imported in the body only if CFX_ALLOWED_MODULES has it (`cfx.allowed`).

    Raises UserError for a path among the parameters that is neither CFX_AUDIT, nor in the current folder (of a worker, CFX_ROOT),
    nor in one of CFX_ALLOWED_FOLDERS. Elsewhere a flow is a function as any other.
    """
    if deployment.id is None:
        yield
        return
    added = filter(None, os.environ.get(FOLDERS, "").split(os.pathsep))
    folders = [Path(folder).resolve() for folder in ("", *added)]
    for name, path in paths.items():
        if path is None or str(path) == os.environ.get("CFX_AUDIT"):
            continue
        if not any(path.resolve().is_relative_to(folder) for folder in folders):
            raise UserError(
                f"{name}: {str(path)!r} is outside the folders of this deployment, {', '.join(map(str, folders))}; its operator "
                f"can add others to {FOLDERS} in the worker's environment, apart by {os.pathsep!r}"
            )
    with confined():
        yield


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
        with held, scrubbed(), as_allowed(config=config):
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

    with scrubbed(), as_allowed(images=images, to=to, settings=settings):
        return str(prior_from_folder(images, training_config(PriorTraining, settings), to, report))


@flow(name="grading", flow_run_name="{grid}")
def grading(folder: Path, grid: str = "quick") -> dict[str, Any]:
    """Grade the audit where the truth is known, cell by cell; what a killed run has finished is kept. Returns the marks.

    Raises UserError for a grid that does not exist.
    """
    if grid not in GRIDS:
        raise UserError(f"grid: there is no {grid!r}; the grids are {', '.join(GRIDS)}")
    with scrubbed(), as_allowed(folder=folder):
        run_benchmark(folder, GRIDS[grid], run_audit)
    found = marks(folder / "warehouse")
    create_table_artifact(found["cells"], key="benchmark-cells", description=f"every cell of {folder}")
    return found
