"""The audit: images -> predictions -> prior -> explanations -> attributes, measurements, features, pairs -> set metrics ->
edits -> what is outside the attributes -> run row and report, shard by shard."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import torch
from prefect import flow, get_run_logger, tags, task, unmapped
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas import State, TaskRun
from prefect.context import TagsContext
from prefect.futures import PrefectFuture
from prefect.tasks import Task

from cfx.errors import UserError
from flows.artifacts import follow
from flows.artifacts import publish as publish_artifacts
from flows.check import Checked, check, device_of, prior_of
from flows.config import AuditConfig
from flows.engine import Runner, a_gpu_each, runner_for
from tasks.data import ingest as data
from tasks.reading import gate
from tasks.stages import attributes as oracle
from tasks.stages import (
    autoencoders,
    canary,
    explain,
    measure,
    outside,
    predict,
    prior,
    saliency,
    surrogate,
)
from tasks.stages import interventions as intervene
from tasks.stages import nearest_classes as targets
from tasks.stages import prompts as words
from tasks.stages import queries as black_box
from tasks.stages import run_record as publish
from tasks.stages import set_metrics as sets
from tasks.stages.timing import timed
from warehouse.facts.shards import Shard
from warehouse.report import render

P = ParamSpec("P")
R = TypeVar("R")


def _may_pass(_: Task[..., Any], __: TaskRun, state: State[Any]) -> bool:
    """Whether a failure may be transient: what a ValueError says will be said again."""
    try:
        state.result()
    except UserError:
        return False
    except Exception:
        return True
    return False


def _stage(function: Callable[P, R]) -> Task[P, R]:
    """A Prefect task around a stage's function; the shards are the truth, so nothing is cached here.

    Shards run side by side, one compute thread each: two threads a shard on a busy machine are many times slower.
    """

    @wraps(function)
    def alone(*args: P.args, **kwargs: P.kwargs) -> R:
        torch.set_num_threads(1)
        began = time.monotonic()
        made = timed(lambda: function(*args, **kwargs))
        for shard in made if isinstance(made, list) else [made]:
            if isinstance(shard, Shard):
                told = (shard.run_id, shard.fact, shard.key, shard.rows, time.monotonic() - began)
                get_run_logger().info("run=%s stage=%s shard=%s rows=%d seconds=%.2f", *told)
        return made

    stage = task(retries=2, retry_delay_seconds=2, retry_condition_fn=_may_pass, cache_policy=NO_CACHE)
    return stage(alone)


ingest = _stage(data.ingest)
ensure_surrogate = _stage(surrogate.ensure_surrogate)
ensure_words = _stage(words.ensure_words)
predict_shard = _stage(predict.predict_shard)
nearest_classes = _stage(targets.nearest_classes)
explain_shard = _stage(explain.explain_shard)
predict_attributes = _stage(oracle.predict_attributes)
edit_images = _stage(intervene.edit_images)
ask_edits = _stage(intervene.ask_edits)
ask_rest = _stage(outside.ask_rest)
write_queries = _stage(black_box.write_queries)
cross_examine = _stage(saliency.cross_examine)
ensure_autoencoders = _stage(autoencoders.ensure_autoencoders)
measure_shard = _stage(measure.measure_shard)
compare_sets = _stage(sets.compare_sets)
start_run = _stage(publish.start_run)
finish_run = _stage(publish.finish_run)
hold_to_policy = _stage(gate.gate)
record_canary = _stage(canary.record_canary)
write_report = _stage(render.write_report)


@task(cache_policy=NO_CACHE)
def ensure_prior(config: AuditConfig, checked: Checked, images: Sequence[Shard]) -> Path:
    """The prior's folder; trained now, from the audited images, if the configuration says so."""
    return prior.ensure_prior(prior_of(config), config.prior, lambda: predict.pictures(images), checked.device)


@flow(name="audit", flow_run_name="{config.name}")
def audit(config: AuditConfig) -> str:
    """Explain a classifier with counterfactuals and report what it leans on. Returns the run id.

    Run again with the same configuration, or after a kill, it goes on where it stopped: a shard that exists is done.
    """
    with TagsContext(current_tags=set()):  # a task with tags asks the server for a slot of each before it starts
        return _audit(config)


def _audit(config: AuditConfig) -> str:
    checked = check(config)
    root, run = config.warehouse, checked.run_id
    get_run_logger().info("run %s in %s", run, root)
    for warning in checked.warnings:
        get_run_logger().warning(warning)
    facts = facts_of(config, checked)
    started = start_run(root, run, facts)
    try:
        explain_all(config, checked)
    finally:  # whatever becomes of the audit, the calls that it made are among its facts
        write_queries(root, run, (config.classifier, config.judge))
    if config.canary is not None:
        planted, clean = (audit_tagged(twin) for twin in canary_audits(config))
        record_canary(root, run, config.canary.attribute, planted, clean)
    finish_run(root, run, started)
    held = hold_to_policy(root, run, config.gate)
    report = write_report(root, run)
    publish_artifacts(config.name, root, run, report, facts)
    get_run_logger().info("gate: %s; report %s", held.verdict, report)
    return run


def canary_audits(config: AuditConfig) -> list[AuditConfig]:
    """The audits of the canary's twins, planted and clean: this audit's configuration with another classifier."""
    assert config.canary is not None
    twins = {"planted": config.canary.planted, "clean": config.canary.clean}
    return [
        config.model_copy(update={"name": f"{config.name}-canary-{twin}", "classifier": classifier, "canary": None})
        for twin, classifier in twins.items()
    ]


def explain_all(config: AuditConfig, checked: Checked) -> None:
    """Every stage from the images to the interventions."""
    root, run = config.warehouse, checked.run_id
    images = ingest(root, run, config.data, config.shard_size)
    denoiser = ensure_prior(config, checked, images)
    each = unmapped  # Prefect would otherwise iterate over a configuration
    predicted = predict_shard.map(
        each(root), each(run), images, each(config.classifier), each(config.batch_size), each(checked.device)
    )
    counted: Any = predicted if config.target == "most-confused" else []  # the only target that waits for all predictions
    nearest = nearest_classes.submit(config.target, config.hierarchy, checked.classes, images if counted else [], counted)
    guide = None
    if config.surrogate is not None:
        guide = ensure_surrogate(root, run, images, _all(predicted), config.surrogate, checked.classes, checked.device)
    spoken = None
    if config.words is not None:
        spoken = ensure_words(root, run, images, _all(predicted), config.words, checked.classes, checked.device)
    explained = explain_shard.map(
        each(root),
        each(run),
        images,
        predicted,
        each(denoiser),
        each(config.classifier),
        each(config.judge),
        each(config.target),
        each(nearest),
        each(config.ladder),
        each(config.seeds),
        each(config.batch_size),
        each(checked.device),
        each(guide),
        each(config.words),
        each(spoken),
    )
    attributes = predict_attributes.map(
        each(root),
        each(run),
        images,
        explained,
        each(config.oracle),
        each(config.target_attribute),
        each(config.batch_size),
        each(checked.device),
    )
    examined = cross_examined(config, checked, images, explained)
    encoders = None
    if config.measures.autoencoders is not None:
        settings = config.measures.autoencoders
        encoders = ensure_autoencoders(root, run, images, _all(predicted), settings, checked.classes, checked.device)
    measured = measure_shard.map(
        each(root),
        each(run),
        images,
        explained,
        each(config.measures),
        each(config.classifier),
        each(config.oracle),
        each(config.batch_size),
        each(checked.device),
        each(encoders),
    )
    follow(config.name, [*attributes, *examined, *measured])
    method, seeds = config.ladder[0].method, len(config.seeds)
    compare_sets(root, run, method, config.measures, config.classifier, config.oracle, seeds, checked.device)
    _all(intervened(config, checked, images, denoiser))
    look_outside(config, checked, images, _all(explained))


def cross_examined(
    config: AuditConfig, checked: Checked, images: Sequence[Shard], explained: Sequence[PrefectFuture[Shard]]
) -> list[PrefectFuture[Shard]]:
    """Hold the counterfactuals against the classifier's saliency, if the audit asks for it."""
    if config.saliency is None:
        return []
    each = unmapped
    return cross_examine.map(
        each(config.warehouse),
        each(checked.run_id),
        images,
        explained,
        each(config.classifier),
        each(config.saliency),
        each(config.batch_size),
        each(checked.device),
    )


def intervened(config: AuditConfig, checked: Checked, images: Sequence[Shard], denoiser: Path) -> list[PrefectFuture[Shard]]:
    """Edit the suspected attributes, each alone, and ask the classifier again; what another audit drew is not drawn twice."""
    root, settings, each = config.warehouse, config.interventions, unmapped
    suspects = intervene.suspects(root, checked.run_id, settings)
    wanted = [
        (shard, n, attribute)
        for attribute in suspects
        for shard, n in zip(images, intervene.first_images(images, settings.images), strict=True)
        if n
    ]
    if not wanted:
        return []
    shards, counts, attributes = zip(*wanted, strict=True)
    edited = edit_images.map(
        each(root),
        each(intervene.edits_id(settings, checked.fingerprints)),
        shards,
        counts,
        attributes,
        each(denoiser),
        each(config.oracle),
        each(settings),
        each(checked.device),
    )
    return ask_edits.map(
        each(root),
        each(checked.run_id),
        shards,
        edited,
        each(config.classifier),
        each(settings),
        each(config.batch_size),
        each(checked.device),
    )


def look_outside(config: AuditConfig, checked: Checked, images: Sequence[Shard], explained: Sequence[Shard]) -> None:
    """Ask what explanations change where the oracle looks at nothing, on the images that interventions use."""
    counts = intervene.first_images(images, config.interventions.images)
    few = sum(n > 0 for n in counts)  # shards that hold the first images
    if sum(counts):
        ask_rest(
            config.warehouse,
            checked.run_id,
            images[:few],
            explained[:few],
            sum(counts),
            config.oracle,
            config.classifier,
            config.batch_size,
            checked.device,
        )


def _all(futures: Sequence[PrefectFuture[Shard]]) -> list[Shard]:
    """Wait for every shard, then raise the first failure: one bad shard does not lose the others' work."""
    for future in futures:
        future.wait()
    return [future.result() for future in futures]


def facts_of(config: AuditConfig, checked: Checked) -> dict[str, Any]:
    """The columns of `runs` that are known at the start."""
    return {
        "name": config.name,
        "config": config.model_dump_json(),
        "config_hash": config.result_hash(),
        "fingerprints": checked.fingerprints,
        "code_version": publish.code_version(),
        "packages": publish.package_versions(),
        "seeds": list(config.seeds),
        "hardware": publish.hardware(checked.device),
        "classes": list(checked.classes),
        "target_attribute": config.target_attribute,
        "method": config.ladder[0].method,
        "margin": config.margin,
    }


def audit_tagged(config: AuditConfig, runner: Runner | None = None) -> str:
    """Run the audit under tags that tell its configuration and its code."""
    with tags("cfx", f"config:{config.result_hash()[:10]}", f"code:{publish.code_version()}"):
        return (audit if runner is None else audit.with_options(task_runner=runner))(config)


def run_audit(config: AuditConfig) -> str:
    """Run the audit on the configured engine, with as many shards at a time as the configuration asks for."""
    with a_gpu_each(config, device_of(config)):
        return audit_tagged(config, runner_for(config))
