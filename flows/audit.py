"""The audit: every stage from the images to the report, shard by shard, chained by Prefect."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch
from prefect import flow, get_run_logger, tags, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas import State, TaskRun
from prefect.context import TagsContext
from prefect.futures import PrefectFuture
from prefect.tasks import Task

from flows.artifacts import all_of, follow, publish
from flows.engine import Runner, one_gpu_per_task, one_thread, runner_for
from flows.terminal import reason_of
from tasks.check import check
from tasks.config import AuditConfig
from tasks.networks import give_back
from tasks.reading.gate import gate
from tasks.run import Run
from tasks.stages import attributes as attribute_stage
from tasks.stages import canary, interventions, learn, properties, queries, run_record, set_metrics, unnamed
from tasks.stages import explain as explain_stage
from tasks.stages import ingest as ingest_stage
from tasks.stages import measure as measure_stage
from tasks.stages import predict as predict_stage
from tasks.stages import saliency as saliency_stage
from tasks.understood import lines_of
from warehouse.facts.shards import Shard
from warehouse.report.render import write_report

P = ParamSpec("P")
R = TypeVar("R")

MAY_PASS = (OSError, torch.OutOfMemoryError)  # TransientError is one: stores, endpoints, disks, a GPU that another process fills
WILL_NOT_PASS = (FileNotFoundError, PermissionError)


def _may_pass(_: Task[..., Any], __: TaskRun, state: State[Any]) -> bool:
    """Whether a failure is of a kind that may pass by itself; a defect, or what a UserError says, will be there again."""
    try:
        state.result()
    except WILL_NOT_PASS:
        return False
    except MAY_PASS:
        return True
    except Exception:
        return False
    return False


def _task(stage: Callable[P, R]) -> Task[P, R]:
    """A stage as a Prefect task; the shards are the truth, so nothing is cached here."""

    @wraps(stage)
    def alone(*args: P.args, **kwargs: P.kwargs) -> R:
        with one_thread():
            return stage(*args, **kwargs)

    return task(retries=2, retry_delay_seconds=2, retry_condition_fn=_may_pass, cache_policy=NO_CACHE)(alone)


ingest = _task(ingest_stage.ingest)
predict = _task(predict_stage.predict)
measure_properties = _task(properties.measure_properties)
learn_from = _task(learn.learn)
explain = _task(explain_stage.explain)
attributes = _task(attribute_stage.attributes)
cross_examine = _task(saliency_stage.cross_examine)
measure = _task(measure_stage.measure)
compare_sets = _task(set_metrics.compare_sets)
draw_edits = _task(interventions.draw_edits)
query_edits = _task(interventions.query_edits)
look_beyond_names = _task(unnamed.look_beyond_names)


@flow(name="audit", flow_run_name="{run.config.name}", validate_parameters=False)
def audit(run: Run) -> str:
    """Explain a classifier with counterfactuals and report what it relies on. Returns the run id.

    Run again with the same configuration, or after a kill, it goes on where it stopped: a shard that exists is done.
    """
    with TagsContext(current_tags=set()), recorded(run):  # a task with tags asks the server for a slot of each before it starts
        images = ingest(run)
        predicted = predict.map(run, images)
        measured_on_images = measure_properties.map(run, images)
        learned = learn_from(run, images, all_of(predicted) if learn.needs_predictions(run) else [])
        if run.prior is not None:
            explained = explain.map(run, images, predicted, learned)
            measured = [
                *(attributes.map(run, images, explained) if run.config.oracle is not None else ()),
                *(cross_examine.map(run, images, explained) if run.config.saliency is not None else ()),
                *measure.map(run, images, explained, learned),
            ]
            follow(run.config.name, [*predicted, *explained, *measured])
            compare_sets(run)
        follow(run.config.name, [*predicted, *measured_on_images, *edited(run, images)])
        look_beyond_names(run, images, all_of(predicted))
        conclude(run)
    return run.id


def edited(run: Run, images: Sequence[Shard]) -> list[PrefectFuture[Shard]]:
    """Edit the suspected attributes, each alone, and query the classifier again; what another audit drew is not drawn twice."""
    wanted = interventions.wanted_edits(run, images)
    drawn = draw_edits.map(run, wanted) if wanted else []
    return [*drawn, *query_edits.map(run, drawn, [one.images for one in wanted])] if wanted else []


def conclude(run: Run) -> None:
    """What became of the run's images, its canary, its gate, its report."""
    if run.config.canary is not None:
        planted, clean = (audit_tagged(check(twin)) for twin in canary_audits(run.config))
        canary.record_canary(run, canary.Twins(run.config.canary.attribute, planted, clean))
    run_record.finish_run(run)
    verdict = gate(run.root, run.id, run.config.gate).verdict
    report = write_report(run.root, run.id)
    publish(run, report)
    get_run_logger().info("gate: %s; report %s", verdict, report)


@contextmanager
def recorded(run: Run) -> Iterator[None]:
    """The body's work as events of `runs`: started, and failed with the reason in one line if it raises.

    Whatever becomes of the audit, the queries that it made are among its facts, and its networks are given back.
    """
    get_run_logger().info("run %s in %s", run.id, run.root)
    if run.sample is not None:
        get_run_logger().info("data: %s", run.sample)
    if run.understood is not None:
        get_run_logger().info("\n".join(lines_of(run.understood)))
    for warning in run.warnings:
        get_run_logger().warning(warning)
    run_record.start_run(run)
    try:
        yield
    except Exception as error:
        with suppress(OSError):  # a disk that is full is reported by the error itself
            run_record.fail_run(run, reason_of(error))
        raise
    finally:
        queries.write_queries(run)
        give_back()


def canary_audits(config: AuditConfig) -> list[AuditConfig]:
    """The audits of the canary's twins, planted and clean: this audit's configuration with another classifier."""
    assert config.canary is not None
    twins = {"planted": config.canary.planted, "clean": config.canary.clean}
    return [
        config.model_copy(update={"name": f"{config.name}-canary-{twin}", "classifier": classifier, "canary": None})
        for twin, classifier in twins.items()
    ]


def audit_tagged(run: Run, runner: Runner | None = None) -> str:
    """Run the audit under tags that name its configuration and its code."""
    with tags("cfx", f"config:{run.config.result_hash()[:10]}", f"code:{run_record.code_version()}"):
        return (audit if runner is None else audit.with_options(task_runner=runner))(run)


def run_audit(config: AuditConfig) -> str:
    """Check, then audit on the configured engine, with as many shards at a time as the configuration says."""
    return audit_checked(check(config))


def audit_checked(run: Run) -> str:
    """Audit on the configured engine."""
    with one_gpu_per_task(run.config, run.device):
        return audit_tagged(run, runner_for(run.config))
