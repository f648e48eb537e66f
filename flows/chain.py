"""The chain of an audit: every stage from the images to the report, shard by shard, whoever does the work."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from cfx.masking import scrubbed
from flows.terminal import reason_of
from tasks.check import check
from tasks.config import AuditConfig
from tasks.networks import give_back
from tasks.reading.gate import gate, policy_at_end
from tasks.reading.publishing import publish_all, publish_failure
from tasks.run import Run
from tasks.run_lock import locked
from tasks.stages import canary, interventions, learn, queries, run_record
from tasks.stages.attributes import attributes
from tasks.stages.explain import explain
from tasks.stages.ingest import ingest
from tasks.stages.measure import measure
from tasks.stages.nulls import nulls_shared
from tasks.stages.predict import predict
from tasks.stages.properties import measure_properties
from tasks.stages.quality import find_label_issues, find_shared_files, finds_label_issues
from tasks.stages.saliency import cross_examine
from tasks.stages.set_metrics import compare_sets
from tasks.stages.strays import remove_strays
from tasks.stages.unchanged import query_again
from tasks.stages.unnamed import look_beyond_names
from tasks.understood import lines_of
from warehouse.facts.shards import Shard
from warehouse.facts.storage import remove_orphans
from warehouse.report.render import write_report

Log: TypeAlias = logging.Logger | logging.LoggerAdapter[Any]


class Future(Protocol):
    """A shard in the making."""

    def result(self) -> Shard:
        """The shard, once it is there. Raises what its stage raised."""
        ...


class Work(Protocol):
    """Whoever runs stages: Prefect's tasks, or threads of this process. A stage is a function of (run, input, …)."""

    def do(self, stage: Callable[..., Any], run: Run, *inputs: Any) -> Any:
        """What the stage returns, now."""
        ...

    def submit(self, stage: Callable[..., Shard], run: Run, *inputs: Any) -> Future:
        """The stage's shard, beside other work."""
        ...

    def map(self, stage: Callable[..., Shard], run: Run, *inputs: Any) -> list[Future]:
        """A shard for each element of the inputs that are lists; other inputs are the same for all. Inputs may be futures."""
        ...

    def all_of(self, futures: Sequence[Future]) -> list[Shard]:
        """Every shard, once all are done or failed: one bad shard loses no other's work. Raises what went wrong first."""
        ...

    def follow(self, name: str, futures: Sequence[Future]) -> None:
        """Wait for every shard and show how far it is. Raises as `all_of` does."""
        ...

    def audit(self, run: Run) -> str:
        """Another audit, of a canary's twin. Returns its run id."""
        ...

    def publish(self, run: Run, report: Path) -> None:
        """Show a finished run where its people look."""
        ...

    def log(self) -> Log:
        """Where lines about the audit go."""
        ...


def audited(run: Run, work: Work) -> str:
    """Explain a classifier with counterfactuals and report what it relies on. Returns the run id."""
    more = nulls_shared() if run.config.canary is not None else nullcontext()  # the twins' audits follow
    with locked(run, work.log()), recorded(run, work.log()), more:
        images = work.do(ingest, run)
        work.do(query_again, run, images)
        predicted = work.map(predict, run, images)
        measured_on_images = work.map(measure_properties, run, images)
        learned = work.do(learn.learn, run, images, work.all_of(predicted) if learn.needs_predictions(run) else [])
        if run.prior is not None:
            explained = work.map(explain, run, images, predicted, learned)
            measured = [
                *(work.map(attributes, run, images, explained) if run.config.oracle is not None else ()),
                *(work.map(cross_examine, run, images, explained) if run.config.saliency is not None else ()),
                *work.map(measure, run, images, explained, learned),
            ]
            work.follow(run.config.name, [*predicted, *explained, *measured])
            work.do(compare_sets, run)
        answers = work.all_of(predicted)
        beyond = work.submit(look_beyond_names, run, images, answers)  # on a core that the edits leave idle
        doubts = doubted(run, work, images, answers)
        work.follow(run.config.name, [*predicted, *measured_on_images, beyond, *doubts, *edited(run, work, images)])
        conclude(run, work)
    return run.id


def doubted(run: Run, work: Work, images: Sequence[Shard], predicted: Sequence[Shard]) -> list[Future]:
    """Look for wrong labels, where cleanlab is installed, and for audited files in other splits, where one split is audited."""
    labels = [work.submit(find_label_issues, run, images, predicted)] if finds_label_issues() else []
    return labels + ([work.submit(find_shared_files, run, images)] if run.config.data.split is not None else [])


def edited(run: Run, work: Work, images: Sequence[Shard]) -> list[Future]:
    """Edit the suspected attributes, each alone, and query the classifier again; what another audit drew is not drawn twice."""
    wanted = interventions.wanted_edits(run, images)
    drawn = work.map(interventions.draw_edits, run, wanted) if wanted else []
    return [*drawn, *work.map(interventions.query_edits, run, drawn, [one.images for one in wanted])] if wanted else []


def conclude(run: Run, work: Work) -> None:
    """What became of the run's images, its canary, its gate, its report."""
    if run.config.canary is not None:
        planted, clean = (work.audit(check(twin)) for twin in canary_audits(run.config))
        canary.record_canary(run, canary.Twins(run.config.canary.attribute, planted, clean))
    run_record.finish_run(run)
    verdict = gate(run.root, run.id, policy_at_end(run.root, run.id, run.config.gate), run.config.base).verdict
    report = write_report(run.root, run.id)
    work.publish(run, report)
    work.log().info("gate: %s; report %s", verdict, report)
    publish_all(run.root, run.id, run.config.publish, work.log())


@contextmanager
def recorded(run: Run, log: Log) -> Iterator[None]:
    """The body's work as events of `runs`: started, and failed with the reason in one line if it raises.

    Whatever becomes of the audit, the queries that it made are among its facts, and its networks are given back.
    """
    log.info("run %s in %s", run.id, run.root)
    if (ended := run_record.finished(run)) is not None:
        log.info(f"this run was finished on {ended:%Y-%m-%d at %H:%M} UTC, and its facts are used again")
    if run.sample is not None:
        log.info("data: %s", run.sample)
    if run.understood is not None:
        log.info("\n".join(lines_of(run.understood)))
    for warning in run.warnings:
        log.warning(warning)
    if gone := remove_orphans(run.root):
        log.info("removed what dead processes left: %d temporary files and folders", len(gone))
    run_record.heal(run)
    remove_strays(run)
    run_record.start_run(run)
    queries.write_queries(run)  # those of an earlier try, where their shards are damaged
    try:
        with scrubbed():
            yield
    except Exception as error:
        with suppress(OSError):  # a disk that is full is reported by the error itself
            run_record.fail_run(run, reason_of(error))
            publish_failure(run.root, run.id, run.config.publish, log)
        raise
    finally:
        queries.write_queries(run)
        give_back()


def canary_audits(config: AuditConfig) -> list[AuditConfig]:
    """The audits of the canary's twins, planted and clean: this audit's configuration with another classifier."""
    assert config.canary is not None
    twins = {"planted": config.canary.planted, "clean": config.canary.clean}
    return [
        config.model_copy(
            update={
                "name": f"{config.name}-canary-{twin}",
                "classifier": classifier,
                "canary": None,
                "publish": None,
                "base": None,
            }
        )
        for twin, classifier in twins.items()
    ]
