"""`cfx demo` and `cfx audit`: the main job."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from flows.progress import saying
from flows.terminal import AsJson, Quiet, err, escaped, out, print_json, print_table, quieten, settle, user_errors
from warehouse.report.formatting import points
from warehouse.report.names import Names

if TYPE_CHECKING:
    from flows.outcome import Outcome
    from tasks.config import AuditConfig
    from tasks.run import Run


MOST = 12  # attributes that are listed, the clear ones too
COLOURS = {"confirmed": "red", "finding": "red", "failed": "red", "inconclusive": "yellow", "clear": "green", "passed": "green"}
FOUND = ("confirmed", "suspected", "fragile")  # verdicts on what has no name that are listed


def demo(
    folder: Annotated[Path, typer.Option(help="where images, facts and reports go")] = Path("cfx-demo"),
    images: Annotated[int, typer.Option(min=8, help="portraits to audit")] = 128,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Audit the planted-shortcut classifier of Portraits and its clean twin; print the table, write the reports."""
    started = time.monotonic()
    settle(quiet)
    with user_errors():
        with saying(err, quiet, "loading torch"):
            from flows.demo import TWINS, demo_config, lay_out
            from flows.outcome import as_json as for_machines
            from flows.outcome import read_outcome
            from tasks.stages.nulls import nulls_shared
        with saying(err, quiet, f"drawing {images:,} portraits into {folder}"):
            lay_out(folder, images)
        found = {}
        with nulls_shared():
            for twin in TWINS:
                config = demo_config(folder, twin, images)
                found[twin] = read_outcome(config.warehouse, run_shown(config, quiet, prefect=False))
    quieten()
    for twin, outcome in found.items():
        print_outcome(twin, outcome)
        out.print()
    out.print(f'SQL: cfx query "select * from scorecard" -w {escaped(str(folder / "warehouse"))}', soft_wrap=True)
    if as_json:
        print_json({"seconds": round(time.monotonic() - started, 1)} | {twin: for_machines(one) for twin, one in found.items()})


def audit(
    config: Annotated[Path, typer.Argument(help="the audit's YAML")],
    resume: Annotated[bool, typer.Option("--resume", help="go on with an unfinished run; also what happens without it")] = False,
    planned: Annotated[bool, typer.Option("--plan", help="print what it would cost, at this machine's speed, and stop")] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Audit a classifier. Run again after a kill, it goes on where it stopped: finished shards are not computed twice."""
    settle(quiet)
    with user_errors():
        from flows.settings import read_yaml

        read_yaml(config)  # what is no file of settings is refused at once: torch takes seconds to import
        with saying(err, quiet, "loading torch"):
            from flows.config import load_config
            from flows.outcome import as_json as for_machines
            from flows.outcome import read_outcome

        settings = load_config(config)
        if planned:
            print_plan(settings, as_json, quiet)
            return
        outcome = read_outcome(settings.warehouse, run_shown(settings, quiet))
    quieten()
    print_outcome(settings.name, outcome)
    if as_json:
        print_json(for_machines(outcome))


def print_outcome(name: str, outcome: Outcome) -> None:
    """What was found of each attribute, what was not looked at, and the last lines: what it comes to, and what to do."""
    from flows.outcome import lines_of
    from warehouse.report.layers import lines_of as left_out

    print_table(findings_table(name, outcome.found))
    for line in (*caveats(outcome.found), *left_out(outcome.layers)):
        out.print(escaped(line), soft_wrap=True, highlight=False)
    for line in lines_of(outcome):
        label, _, text = line.partition(": ")
        colour = COLOURS.get(label) or (COLOURS.get(text.split(",")[0]) if label == "release check" else None)
        out.print(f"[bold{f' {colour}' if colour else ''}]{label}[/]: {escaped(text)}", soft_wrap=True, highlight=False)


def print_plan(config: AuditConfig, as_json: bool, quiet: bool) -> None:
    """Images, UNet evaluations, queries and hours of an audit that has not started."""
    from dataclasses import asdict

    from flows.engine import one_thread, shards_at_a_time
    from tasks.advice.cost_estimate import plan
    from tasks.check import check
    from tasks.training.auto import expect_networks

    workers = shards_at_a_time(config)
    with one_thread():
        with saying(err, quiet, "checking the settings, and all they name"):
            run = check(config, expect_networks)
        with saying(err, quiet, "trying a few images"):
            estimate = plan(run, workers)
    fewest, most = estimate.evaluations
    out.print(
        f"{estimate.images:,} images in {estimate.shards:,} shards, {workers} at a time on {estimate.device}", soft_wrap=True
    )
    span = f"{fewest:,} to {most:,}" if fewest < most else f"{fewest:,}"
    out.print(
        f"explaining: {span} UNet evaluations, guided and null: if every image flips on the first rung, or none at all",
        soft_wrap=True,
    )
    if estimate.edits:
        drawn = f"{estimate.edit_evaluations:,} UNet evaluations" if estimate.edit_evaluations else "by words"
        out.print(f"editing: at most {estimate.edits:,} images, an attribute each, with their shams: {drawn}", soft_wrap=True)
    out.print(f"querying: {estimate.queries:,} images, of probes, transplants, measures and edits", soft_wrap=True)
    out.print(
        f"{_hours(*estimate.hours)} in all, at the speed of a few images tried now; from its first image on", soft_wrap=True
    )
    if as_json:
        print_json(asdict(estimate))


def _hours(short: float, long: float) -> str:
    """A range of hours in a unit that suits it."""
    unit, per_hour = ("hours", 1) if long >= 1.5 else ("minutes", 60)
    low, high = (f"{hours * per_hour:.1f}" for hours in (short, long))
    return f"{low} {unit}" if low == high else f"{low} to {high} {unit}"


def run_shown(config: AuditConfig, quiet: bool, prefect: bool = True) -> str:
    """Check, then audit, and show how far it is. Returns the run id.

    prefect: as a flow, which the server that is named records, or one that starts with it; otherwise in threads of this process.
    """
    from flows.progress import training_bars, watched

    audited: Callable[[Run], str]
    if prefect:
        with saying(err, quiet, "loading Prefect"):
            from flows.audit import audit_checked as audited
    else:
        from flows.in_process import audit_in_process as audited

        logging.getLogger("cfx").setLevel(logging.ERROR if quiet or err.is_terminal else logging.WARNING)
    from tasks.check import check
    from tasks.data.annotations import columns_of, left_out
    from tasks.stages.run_record import finished
    from tasks.training.auto import train_networks

    with training_bars(err, quiet, f"checking {config.name}: loading what its settings name") as report:
        run = check(config, partial(train_networks, report=report))
    if not quiet:
        before = finished(run)
        again = before and f"it was finished on {before:%Y-%m-%d at %H:%M} UTC, and its facts are used again"
        sample = run.sample and f"data: {run.sample}"
        for note in (f"run {run.id} in {run.root}", again, sample, left_out(columns_of(config.data))):
            if note:
                err.print(escaped(note), soft_wrap=True, highlight=False)
        if err.is_terminal:  # elsewhere the log has them
            for warning in run.warnings:
                err.print(f"[yellow]warning[/] {escaped(warning)}", soft_wrap=True)
    with watched(err, quiet, run):
        return audited(run)


def caveats(finding: dict[str, Any]) -> list[str]:
    """What to know of the whole audit, and how many metrics it did without; which and why is in its report."""
    absent = sum(map(len, finding["absent"].values()))
    return [*finding["audit_warnings"], *([f"not measured: {absent} metrics; the report says which and why"] if absent else [])]


def findings_table(name: str, finding: dict[str, Any]) -> Table | Text:
    """The attributes with their effects under the run's rates, or where there are none what there is without them. Of many, what
    was cleared is counted."""
    if not finding["attributes"]:
        return Text.from_markup(f"{escaped(name)}: {_rates(finding)}\n{_caption(finding)}")
    title = f"{escaped(name)}: {_rates(finding)}"
    table = Table(title=title, title_justify="left", caption=_caption(finding), caption_justify="left")
    for heading in ("attribute", "effect,\npoints", "95% interval", "q", "edited,\npoints", "verdict"):
        table.add_column(heading, justify="left" if heading in ("attribute", "verdict") else "right")
    rows = finding["attributes"]
    shown = rows if len(rows) <= MOST else [row for row in rows if row["verdict"] != "clear"]
    for row in shown:
        interval = f"{points(row['low'])} to {points(row['high'])}"
        cells = (escaped(row["attribute"]), points(row["effect"]), interval, f"{row['q']:.4f}", _edited(row))
        table.add_row(*cells, _coloured(row["verdict"]))
    if len(shown) < len(rows):
        table.add_row(f"{len(rows) - len(shown)} others", *[""] * 4, _coloured("clear"))
    return table


def _coloured(verdict: str) -> str:
    return f"[{COLOURS[verdict]}]{verdict}[/]" if verdict in COLOURS else verdict


def _rates(finding: dict[str, Any]) -> str:
    """How many explanations flip the classifier and its judge, where there are any."""
    if finding["flip_rate"] is None:
        return "no counterfactuals"
    judged = "no judge" if finding["judge_flip_rate"] is None else f"judge flip rate {finding['judge_flip_rate']:.3f}"
    return f"flip rate {finding['flip_rate']:.3f}, {judged}"


def _caption(finding: dict[str, Any]) -> str:
    """The run, how much the names explain, what was found without a name, and what its canary says of it."""
    lines = [f"run {finding['run_id']}", *map(_explained, finding["explained"])]
    found = [row for row in finding["findings"] if row["kind"] != "attribute" and row["verdict"] in FOUND]
    lines += [_unnamed(row) for row in found]
    canary = finding["canary"]
    if canary is not None:
        rates = f"power {canary['power']:.2f}, false alarms {canary['false_alarm_rate']:.2f}"
        lines.append(f"canary {'passed' if canary['passed'] else 'failed'}: {rates} ({escaped(canary['why'])})")
    return "\n".join(lines)


def _explained(row: dict[str, Any]) -> str:
    """How much of the answers the names explain, and whether that is enough to call anything clear."""
    shares = f"{max(0.0, row['share']):.0%} of the answers, of {max(0.0, row['ceiling']):.0%} that can be explained"
    return f"explained by what you named: {shares}" + ("" if row["cleared"] else "; not enough to clear the classifier")


def _unnamed(row: dict[str, Any]) -> str:
    """One property or place without a name."""
    row = Names().row(row)
    moved = f"{points(row['intervention'])} ({points(row['low'])} to {points(row['high'])})"
    return f"{row['kind']} {escaped(row['name'])}: {row['verdict']}, {moved}; {escaped(row['why'])}"


def _edited(row: dict[str, Any]) -> str:
    """What editing the attribute alone does to the classifier, if it was edited often enough to tell."""
    return "–" if row["intervention_low"] is None else points(row["intervention"])
