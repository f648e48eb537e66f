"""`cfx demo` and `cfx audit`: the main job."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from flows.terminal import AsJson, Quiet, err, escaped, out, print_json, print_table, quieten, settle, user_errors

if TYPE_CHECKING:
    from tasks.config import AuditConfig


FOUND = ("confirmed", "suspected", "fragile")  # verdicts on what has no name that are listed


def demo(
    folder: Annotated[Path, typer.Option(help="where images, facts and reports go")] = Path("cfx-demo"),
    images: Annotated[int, typer.Option(min=8, help="portraits to audit")] = 128,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Audit the planted-shortcut classifier of Portraits and its clean twin; print the table, write the reports."""
    started = time.monotonic()
    shown = settle(quiet)
    with user_errors():
        from flows.demo import TWINS, demo_config, findings, lay_out
        from warehouse.report.render import report_path

        lay_out(folder, images)
        found = {}
        for twin in TWINS:
            config = demo_config(folder, twin, images)
            found[twin] = findings(config.warehouse, run_shown(config, shown))
    quieten()
    for twin, finding in found.items():
        print_table(findings_table(twin, finding))
        out.print(f"report: {report_path(folder / 'warehouse', finding['run_id'])}", soft_wrap=True)
    out.print(f'SQL: cfx query "select * from scorecard" -w {folder / "warehouse"}', soft_wrap=True)
    if as_json:
        print_json({"seconds": round(time.monotonic() - started, 1), **found})


def audit(
    config: Annotated[Path, typer.Argument(help="the audit's YAML")],
    resume: Annotated[bool, typer.Option("--resume", help="go on with an unfinished run; also what happens without it")] = False,
    planned: Annotated[bool, typer.Option("--plan", help="print what it would cost, at this machine's speed, and stop")] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Audit a classifier. Run again after a kill, it goes on where it stopped: finished shards are not computed twice."""
    shown = settle(quiet)
    with user_errors():
        from flows.config import load_config
        from flows.demo import findings
        from warehouse.lens.connect import query
        from warehouse.lens.gate import gate
        from warehouse.report.layers import lines_of
        from warehouse.report.render import report_path
        from warehouse.report.verdict import read_verdict

        settings = load_config(config)
        if planned:
            print_plan(settings, as_json)
            return
        root, run = settings.warehouse, run_shown(settings, shown)
        finding, said, release, report = findings(root, run), read_verdict(root, run), gate(root, run), report_path(root, run)
        layers = query(root, "from layers where run_id = $run order by place", {"run": run}).to_pylist()
    quieten()
    print_table(findings_table(settings.name, finding))
    lines = (f"{said.kind}: {said.headline}", f"release check: {release.verdict}, {release.reasons[0]}")
    for line in (*lines, *caveats(finding), *lines_of(layers)):
        out.print(escaped(line), soft_wrap=True, highlight=False)
    out.print(f"report: {report}", soft_wrap=True)
    if as_json:
        named = {"run": run, "verdict": said.kind, "headline": said.headline, "gate": release.verdict, "report": str(report)}
        print_json(finding | named | {"layers": layers})


def print_plan(config: AuditConfig, as_json: bool) -> None:
    """Images, shards, UNet evaluations and hours of an audit that has not started."""
    from dataclasses import asdict

    from flows.engine import one_thread, shards_at_a_time
    from tasks.advice.cost_estimate import plan
    from tasks.check import check
    from tasks.training.auto import expect_networks

    workers = shards_at_a_time(config)
    with one_thread():
        estimate = plan(check(config, expect_networks), workers)
    (fewest, most), (short, long) = estimate.evaluations, estimate.hours
    out.print(f"{estimate.images:,} images in {estimate.shards:,} shards, {workers} at a time on {estimate.device}")
    out.print(f"{fewest:,} to {most:,} UNet evaluations: if every image flips on the first rung, or none at all")
    out.print(f"{short:.2f} to {long:.2f} hours of explaining, at the speed of one image tried now")
    if as_json:
        print_json(asdict(estimate))


def run_shown(config: AuditConfig, shown: bool) -> str:
    """Check, then audit, under progress bars if they are shown."""
    from flows.audit import audit_checked
    from flows.progress import training_bars, watched
    from tasks.check import check
    from tasks.training.auto import train_networks

    with training_bars(err, shown) as report:
        run = check(config, partial(train_networks, report=report))
    if not shown:
        return audit_checked(run)
    from tasks.data.annotations import columns_of, left_out

    for note in (run.sample, left_out(columns_of(config.data))):
        if note is not None:
            err.print(f"data: {escaped(note)}", soft_wrap=True)
    for warning in run.warnings:  # elsewhere the flow's log has them
        err.print(f"[yellow]warning[/] {escaped(warning)}", soft_wrap=True)
    with watched(err, run):
        return audit_checked(run)


def caveats(finding: dict[str, Any]) -> list[str]:
    """What the numbers lack: metrics that were not measured and why, and metrics to read with care."""
    absent = [f"not measured: {', '.join(metrics)} ({reason})" for reason, metrics in finding["absent"].items()]
    return [*finding["warnings"], *absent]


def findings_table(name: str, finding: dict[str, Any]) -> Table | Text:
    """The attributes with their effects under the run's rates, or where there are none what there is without them."""
    if not finding["attributes"]:
        return Text.from_markup(f"{name}: {_rates(finding)}\n{_caption(finding)}")
    table = Table(title=f"{name}: {_rates(finding)}", title_justify="left", caption=_caption(finding), caption_justify="left")
    for heading in ("attribute", "effect", "low", "high", "q", "edited", "verdict"):
        table.add_column(heading, justify="left" if heading in ("attribute", "verdict") else "right")
    for row in finding["attributes"]:
        numbers = (f"{row[key]:+.3f}" for key in ("effect", "low", "high"))
        table.add_row(escaped(row["attribute"]), *numbers, f"{row['q']:.4f}", _edited(row), row["verdict"])
    return table


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
    moved = f"{row['intervention']:+.3f} ({row['low']:+.3f} to {row['high']:+.3f})"
    return f"{row['kind']} {escaped(row['name'])}: {row['verdict']}, {moved}; {escaped(row['why'])}"


def _edited(row: dict[str, Any]) -> str:
    """What editing the attribute alone does to the classifier, if it was edited often enough to tell."""
    return "–" if row["intervention_low"] is None else f"{row['intervention']:+.3f}"
