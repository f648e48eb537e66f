"""`cfx gate` and `cfx compare`: may it ship, and what changed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from flows.options import taking
from flows.run_names import RunName, complete_run, run_named
from flows.terminal import DEFAULT_WAREHOUSE, AsJson, Warehouse, err, escaped, out, print_json, print_table, user_errors

COLOURS = {"pass": "green", "fail": "red", "inconclusive": "yellow"}


@dataclass(frozen=True)
class GateOptions:
    """Options of the command."""

    run: RunName
    against: Annotated[
        str | None, typer.Option(help="run to compare with: a rise above it fails too", autocompletion=complete_run)
    ] = None
    policy: Annotated[Path | None, typer.Option(help="the rules, YAML; default: those that the run already has")] = None
    warehouse: Warehouse = DEFAULT_WAREHOUSE
    junit: Annotated[Path | None, typer.Option(help="write the rules as JUnit XML to this file")] = None
    summary: Annotated[Path | None, typer.Option(help="append the verdict as Markdown to this file")] = None
    as_json: AsJson = False


@taking(GateOptions)
def gate(options: GateOptions) -> None:
    """May this classifier ship? Exit code 0: pass, 1: fail, 3: inconclusive (2: bad input).

    A new policy or base is kept as a fact, and the report is written again, so that both say the same.
    """
    with user_errors():
        root = options.warehouse
        run = run_named(root, options.run)
        base = run_named(root, options.against) if options.against is not None else None
        from flows.settings import load
        from tasks.reading import gate as gates
        from tasks.reading import release_checks
        from warehouse.lens.connect import left_out_of, query
        from warehouse.lens.gate import EXIT_CODES
        from warehouse.lens.key_figures import key_figures
        from warehouse.report.names import Names
        from warehouse.report.render import report_path, write_report

        before = gates.policy_of(root, run, in_part=True)
        found = gates.gate(root, run, load(gates.Policy, options.policy) if options.policy is not None else None, base)
        if gates.policy_of(root, run) != before and report_path(root, run).exists():
            write_report(root, run)
        if options.junit is not None:
            options.junit.write_text(release_checks.junit(found), encoding="utf-8")
        if options.summary is not None:
            with options.summary.open("a", encoding="utf-8") as page:
                page.write(release_checks.summary(found))
        figures = key_figures(root, run) if options.as_json else {}
        [record] = query(root, "select config from runs where run_id = $run", {"run": run}).to_pylist()
        names = Names.of(record)
        beside = left_out_of(root, [run], "from damaged").get(run, [])
    for one in beside:
        err.print(f"[yellow]damaged[/] {escaped(one)}: this verdict does not rest on it; {escaped(one.way_out)}", soft_wrap=True)
    if options.as_json:
        verdict = {
            "run_id": run,
            "verdict": found.verdict,
            "reasons": found.reasons,
            "images_needed": found.images_needed,
        }
        print_json(verdict | figures | {"rules": found.rules})
    else:
        table = Table("rule", "result", "in words", title=f"gate: {found.verdict}", title_justify="left")
        for rule in names.rows(found.rules):
            table.add_row(
                escaped(release_checks.name(rule)), f"[{COLOURS[rule['result']]}]{rule['result']}[/]", escaped(rule["reason"])
            )
        print_table(table)
        for reason in found.reasons:
            out.print(f"{found.verdict}: {escaped(names.text(reason))}", soft_wrap=True)
    raise typer.Exit(EXIT_CODES[found.verdict])


def compare(
    run: RunName,
    base: Annotated[str, typer.Argument(help="the run it is compared with", autocompletion=complete_run)],
    warehouse: Warehouse = DEFAULT_WAREHOUSE,
    as_json: AsJson = False,
) -> None:
    """What changed from BASE to RUN, paired by image: attributes, flips, metrics."""
    with user_errors():
        run, base = run_named(warehouse, run), run_named(warehouse, base)
        from dataclasses import asdict

        from tasks.reading.compare import compare as compared

        found = compared(warehouse, run, base)
    if as_json:
        print_json(asdict(found))
        return
    print_table(changes_table(f"{run} against {base}: what explanations change", found.attributes))
    if found.edits or found.unedited:
        table = changes_table("what the attribute alone, edited, does to the answer", found.edits)
        for row in found.unedited:
            table.add_row(escaped(row["attribute"]), f"{row['base_effect']:+.3f}", "not edited", "not known", "–", "–")
        print_table(table)
    for row in found.unedited:
        out.print(escaped(f"{row['attribute']}: {row['why']}; {row['base_verdict']} in {base}"), soft_wrap=True)
    if found.unedited:
        out.print(
            escaped(f"audit again with `base: {base}` in the settings, which edits what the base reacts to"), soft_wrap=True
        )
    scores = Table("metric", "base", "now", "change")
    for row in found.metrics:
        scores.add_row(escaped(row["metric"]), f"{row['base_value']:.4g}", f"{row['value']:.4g}", f"{row['change']:+.4g}")
    print_table(scores)
    if found.flips is None:
        out.print("no image, seed and target is in both: flips cannot be paired")
    else:
        counts = "{both_flip} flip in both, {only_run} only now, {only_base} only in the base, {neither} in neither"
        out.print(f"{found.flips['pairs']} explanations in both: {counts.format(**found.flips)}", soft_wrap=True)


def changes_table(title: str, rows: list[dict[str, Any]]) -> Table:
    """Rows of `changes` or `edit_changes`; no interval where too few images are in both."""
    table = Table("attribute", "base", "now", "change", "low", "high", title=title, title_justify="left")
    for row in rows:
        numbers = (row[key] for key in ("base_effect", "effect", "change", "low", "high"))
        table.add_row(escaped(row["attribute"]), *("–" if value is None else f"{value:+.3f}" for value in numbers))
    return table
