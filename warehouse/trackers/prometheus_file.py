"""Prometheus: a run as a text file for node_exporter's textfile collector, by the official client.

An audit ends before anything could scrape it, so its numbers wait in a file. Series are named by the audit, not by its run, to go
on night after night. https://github.com/prometheus/node_exporter#textfile-collector
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Iterator, Mapping
from math import isfinite
from pathlib import Path
from typing import NamedTuple

from cfx.errors import UserError
from warehouse.evidence.results import Results, shown_claims
from warehouse.lens.fetch import Row

SUFFIX = ".prom"  # the collector reads no other
RESULTS = ("pass", "fail", "inconclusive")


class Sample(NamedTuple):
    """One value of a metric, with the labels that it has beside the audit's name."""

    metric: str
    help: str
    labels: Mapping[str, str]
    value: float


def text_file(to: Path, audit: str) -> Path:
    """The file that `to` names: itself, or in a folder cfx_<audit>.prom.

    Raises UserError for a name that the collector would not read, or where prometheus_client is not installed.
    """
    if importlib.util.find_spec("prometheus_client") is None:
        raise UserError("prometheus_client is not installed; install it with: pip install 'cfx-audit[prometheus]'")
    path = to / f"cfx_{audit}{SUFFIX}" if to.is_dir() else to
    if path.suffix != SUFFIX:
        raise UserError(f"{path} does not end in {SUFFIX}, and node_exporter reads no other file")
    if not path.absolute().parent.is_dir():
        raise UserError(f"there is no folder {path.absolute().parent}; make it first")
    return path


def write_text_file(results: Results, to: Path) -> Path:
    """Write the file whole, by a temporary one beside it. Returns its path. Raises UserError as `text_file` does."""
    return _write(str(results.run["name"]), samples(results), to)


def write_failure(run: Row, to: Path) -> Path:
    """The file of a run that failed: that it did, and when, and no number of an earlier one. run: its row of `runs`.

    Returns its path. Raises UserError as `text_file` does.
    """
    return _write(str(run["name"]), _of_run(run), to)


def _write(audit: str, found: Iterable[Sample], to: Path) -> Path:
    path = text_file(to, audit)
    from prometheus_client import CollectorRegistry, Gauge, write_to_textfile

    registry, gauges = CollectorRegistry(), dict[str, Gauge]()
    for sample in found:
        if sample.metric not in gauges:
            gauges[sample.metric] = Gauge(sample.metric, sample.help, ("audit", *sample.labels), registry=registry)
        gauges[sample.metric].labels(audit, *sample.labels.values()).set(sample.value)
    write_to_textfile(str(path), registry)
    return path


def samples(results: Results) -> Iterator[Sample]:
    """Every number of a run that finished; what is not there, or not finite, is left out. Of any other run that it did not: its
    numbers would be those of a part of its images."""
    return (sample for sample in _samples(results) if isfinite(sample.value))


def _of_run(run: Row) -> Iterator[Sample]:
    yield Sample("cfx_audit_info", "The run that these numbers are of.", {"run": run["run_id"], "code": run["code_version"]}, 1)
    if run["finished"] is not None:
        moment = run["finished"].timestamp()
        yield Sample("cfx_audit_finished_timestamp_seconds", "When the audit ended, Unix time.", {}, moment)
    yield Sample("cfx_audit_succeeded", "1 for an audit that finished, 0 for one that failed.", {}, run["status"] == "finished")


def _samples(results: Results) -> Iterator[Sample]:
    yield from _of_run(results.run)
    if results.run["status"] != "finished":
        return
    if results.gate is not None:
        for result in RESULTS:
            help = "What all release checks come to: 1 for the result that it is, 0 for the others."
            yield Sample("cfx_gate", help, {"result": result}, results.gate.verdict == result)
        for result in RESULTS:
            n = sum(rule["result"] == result for rule in results.gate.rules)
            yield Sample("cfx_release_checks", "How many release checks ended so.", {"result": result}, n)
    yield from _shares(results)
    yield from _claims(results)
    for row in results.scorecard:
        yield Sample(
            "cfx_scorecard", "A metric of the scorecard, in its own unit.", {"metric": row["metric"]}, _or_nan(row["value"])
        )
    for row in results.costs:
        yield Sample(
            "cfx_stage_seconds", "Time inside a stage, added up over its shards.", {"stage": row["stage"]}, row["seconds"]
        )
        yield Sample("cfx_stage_shards", "Pieces of work of a stage.", {"stage": row["stage"]}, row["shards"])


def _shares(results: Results) -> Iterator[Sample]:
    if results.accuracy is not None:
        yield from _interval(
            "cfx_accuracy", "share of the labelled images that is predicted right", {}, results.accuracy, "value"
        )
        yield Sample("cfx_labelled_images", "Images that the accuracy is of.", {}, results.accuracy["n"])
    for row in results.explained:
        what = "out-of-fold R2 of a class's answers from the label and all named attributes"
        yield from _interval("cfx_explained_share", what, {"class": row["class"]}, row, "share")


def _claims(results: Results) -> Iterator[Sample]:
    for row in results.attributes:
        of = {"attribute": row["attribute"]}
        yield from _interval("cfx_effect", "change of an attribute's probability, guided minus unguided", of, row, "effect")
        edits = {name: row[f"intervention_{name}"] for name in ("low", "high")} | {"value": row["intervention"]}
        yield from _interval("cfx_intervention", "change of P(class) when an attribute alone is edited", of, edits, "value")
        verdict = of | {"verdict": row["verdict"]}
        yield Sample("cfx_attribute_verdict", "1, with the verdict on an attribute as a label.", verdict, 1)
    for row in shown_claims(results):
        of = {name: row[name] for name in ("kind", "name", "class", "verdict")}
        what = "change of P(class) when a property or place alone is changed"
        yield from _interval("cfx_unnamed_intervention", what, of, row, "intervention")


def _interval(metric: str, what: str, labels: Mapping[str, str], row: Mapping[str, float | None], value: str) -> Iterator[Sample]:
    yield Sample(metric, f"{what[0].upper()}{what[1:]}.", labels, _or_nan(row[value]))
    for side, name in (("low", "Lower"), ("high", "Upper")):
        yield Sample(f"{metric}_{side}", f"{name} end of the 95 % interval of {metric}.", labels, _or_nan(row[side]))


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else float(value)
