"""The audit as a Prefect flow: the chain's stages as tasks, with retries, artifacts and tags, on any task runner."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, wraps
from pathlib import Path
from typing import Any, cast

from prefect import flow, get_run_logger, tags, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas import State, TaskRun
from prefect.context import TagsContext
from prefect.futures import PrefectFuture
from prefect.states import Completed, Failed
from prefect.tasks import Task

from cfx.masking import scrubbed
from flows import artifacts, chain
from flows.engine import Runner, float32_in_full, one_gpu_per_task, one_thread, runner_for
from flows.release import Release, read_release
from flows.server import prefect_api
from flows.transient import PAUSE, TRIES, may_pass
from tasks.check import check
from tasks.config import AuditConfig
from tasks.run import Run
from tasks.stages import run_record
from warehouse.facts.shards import Shard


def _may_pass(_: Task[..., Any], __: TaskRun, state: State[Any]) -> bool:
    try:
        state.result()
    except Exception as error:
        return may_pass(error)
    return False


@cache
def _task(stage: Callable[..., Any]) -> Task[..., Any]:
    """A stage as a Prefect task; the shards are the truth, so nothing is cached here."""

    @wraps(stage)
    def alone(*args: Any, **kwargs: Any) -> Any:
        with one_thread(), scrubbed():  # also in a process of Dask or Ray
            return stage(*args, **kwargs)

    retried = task(retries=TRIES - 1, retry_delay_seconds=PAUSE, retry_condition_fn=_may_pass, cache_policy=NO_CACHE)
    return retried(alone)


class PrefectTasks:
    """The chain's work as tasks of the flow run that it is in (see `flows.chain.Work`)."""

    release: Release  # once it is published

    def do(self, stage: Callable[..., Any], run: Run, *inputs: Any) -> Any:
        return _task(stage)(run, *inputs)

    def submit(self, stage: Callable[..., Shard], run: Run, *inputs: Any) -> chain.Future:
        return _task(stage).submit(run, *inputs)

    def map(self, stage: Callable[..., Shard], run: Run, *inputs: Any) -> list[chain.Future]:
        return list(_task(stage).map(run, *inputs))

    def all_of(self, futures: Sequence[chain.Future]) -> list[Shard]:
        return artifacts.all_of(cast(Sequence[PrefectFuture[Shard]], futures))

    def follow(self, name: str, futures: Sequence[chain.Future]) -> None:
        artifacts.follow(name, cast(Sequence[PrefectFuture[Shard]], futures))

    def audit(self, run: Run) -> str:
        return audit_tagged(run).run_id

    def publish(self, run: Run, report: Path) -> None:
        self.release = read_release(run, report)
        artifacts.publish(run, self.release)

    def log(self) -> chain.Log:
        return get_run_logger()


@flow(name="audit", flow_run_name="{run.config.name}", validate_parameters=False, retries=0)
def audit(run: Run, held: bool = False) -> State[Release]:
    """Explain a classifier with counterfactuals and report what it relies on.

    Run again with the same configuration, or after a kill, it goes on where it stopped: a shard that exists is done.
    held: end Failed where the gate fails and the policy says so; every fact, the report and the artifacts are there by then, and
    a retry would find the same. Otherwise it ends Completed, with what the gate says as its message.
    """
    work = PrefectTasks()
    # a task with tags asks the server for a slot of each before it starts; no task puts back what others still need
    with TagsContext(current_tags=set()), float32_in_full():
        chain.audited(run, work)
    ends = Failed if held and work.release.outcome == "fail" else Completed
    return ends(message=work.release.message, data=work.release)


def audit_tagged(run: Run, runner: Runner | None = None, held: bool = False) -> Release:
    """Run the audit under tags that name its configuration and its code. held: see `audit`; whatever its run ends as, what it
    found is returned."""
    flow_of_audit = audit if runner is None else audit.with_options(task_runner=runner)
    with tags("cfx", f"config:{run.config.result_hash()[:10]}", f"code:{run_record.code_version()}"):
        if not held:
            return cast(Release, flow_of_audit(run))
        found = flow_of_audit(run, held, return_state=True).result(raise_on_failure=False)
    if isinstance(found, BaseException):
        raise found
    return cast(Release, found)


def run_audit(config: AuditConfig) -> str:
    """Check, then audit on the configured engine, with as many shards at a time as the configuration says. Returns the run id."""
    return audit_checked(check(config))


def audit_checked(run: Run) -> str:
    """Audit on the configured engine. Returns the run id."""
    return audit_to_release(run).run_id


def audit_to_release(run: Run, held: bool = False) -> Release:
    """Audit on the configured engine. held: its flow run ends Failed where the gate fails and the policy says so."""
    with prefect_api(), one_gpu_per_task(run.config, run.device):
        return audit_tagged(run, runner_for(run.config), held)
