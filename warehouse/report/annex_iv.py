"""A draft of the technical documentation of Annex IV of the EU AI Act (Regulation (EU) 2024/1689), as far as an audit goes.

Every number is the answer to a query, and the queries stand at the end of the draft, so that `cfx verify` asks them again. What
cfx cannot know is named in brackets, "[to be filled in: …]", for a person to write.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import closing
from functools import cache
from pathlib import Path

import duckdb
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from warehouse.lens.fetch import Row
from warehouse.lens.gate import check_run, verdict_of
from warehouse.lens.listed_runs import open_run
from warehouse.lens.settled import settle
from warehouse.report import formatting as wording
from warehouse.report.embedded_numbers import block
from warehouse.report.hashes import run_hashes
from warehouse.report.limitations import limits
from warehouse.report.queries import EVIDENCE, Evidence, answered, evidence
from warehouse.report.regulation import CROSSWALK
from warehouse.report.render import TEMPLATES
from warehouse.report.scope import scope
from warehouse.report.verdict import verdict_from

NUMBERS = "<!-- cfx-numbers "  # how the block of queries and answers begins, on a line of its own
TO_FILL_IN = "[to be filled in"
SHOWN = 12  # rows of a table that grows with labels or attributes; the others follow from the view that is named beside it
FROM_REPORT = (
    "runs", "ranked", "share", "claims", "compared", "layers", "splits", "associations", "reasons", "rules", "base", "changes",
    "cost", "ways", "canary", "drift", "scorecard",
)  # fmt: skip
QUERIES = {
    "accuracy": """
from accuracy where run_id = $run order by label nulls first limit $shown
""",
    "labels": """
select label, count(*) as n from images where run_id = $run group by label order by n desc, label limit $shown
""",
    "confusion": """
from confusion where run_id = $run order by label = class, n desc, label, class limit $shown
""",
    "worst": """
from worst_groups where run_id = $run and reported order by rank limit $shown
""",
    "cells": """
select count(*) as cells, count_if(not reported) as withheld, smallest_group() as smallest from worst_groups where run_id = $run
""",
    "protected": """
select coalesce(protected, []) as protected, coalesce(maximum_error_gap, .1) as maximum_error_gap, maximum_effect
from policies where run_id = $run
""",
    "fairness": """
with held as (select unnest(protected) as attribute from policies where run_id = $run)
from fairness
where run_id = $run and if((select count(*) from held) = 0, measure = 'equalized odds', attribute in (from held))
order by if((select count(*) from held) = 0, -value, null) nulls last, attribute, measure, class nulls first limit 5 * $shown
""",
    "edited": """
with held as (select unnest(protected) as attribute from policies where run_id = $run)
select attribute, target, effect, low, high, n from interventions
where run_id = $run and effect is not null and ((select count(*) from held) = 0 or attribute in (from held))
order by abs(effect) desc, attribute, target limit $shown
""",
}


def annex_iv(root: Path, run_id: str) -> str:
    """The draft, in Markdown. Raises UserError for an unknown run, with the runs there are."""
    asked = [*(EVIDENCE[name] for name in FROM_REPORT), *QUERIES.values()]
    with closing(open_run(root, ";".join(asked), run_id)) as lens:
        check_run(lens, root, run_id)
        settle(lens, run_id)
        found = {name: evidence(lens, name, run_id) for name in FROM_REPORT} | _asked(lens, run_id)
    facts = run_hashes(root, run_id)
    (run,) = found["runs"].rows
    rows = {name: each.rows for name, each in found.items()}
    drift = {(row["attribute"], row["source"], row["target"]): row["change"] for row in rows["drift"] if row["arm"] == "null"}
    ranked = [row | {"null": drift.get((row["attribute"], row["source"], row["target"]))} for row in rows["ranked"]]
    unguided = next((row["value"] for row in rows["scorecard"] if row["metric"] == "fr_null"), None)
    said = verdict_from(rows)
    text = _template().render(
        rows,
        run=run,
        config=json.loads(run["config"]),
        fingerprints=json.loads(run["fingerprints"]),
        said=said,
        held=rows["protected"][0] if rows["protected"] else None,
        gate=verdict_of(run_id, rows["rules"]) if rows["rules"] else None,
        scope=scope(run, rows["splits"], rows["ranked"], rows["associations"]),
        limits=limits(run, ranked, {row["arm"]: row for row in rows["cost"]}, unguided, rows["canary"], rows["ways"]),
        crosswalk=CROSSWALK,
        figures=_figures(run, rows),
        facts=len(facts),
        digest=hashlib.sha256(json.dumps(sorted(facts.items())).encode()).hexdigest(),
    )
    numbers = block(run_id, found).replace("--", "\\u002d\\u002d")  # which would end the comment
    return f"{text}\n{NUMBERS}{numbers} -->\n"


def _asked(lens: duckdb.DuckDBPyConnection, run_id: str) -> dict[str, Evidence]:
    return {
        name: answered(lens, sql, run=run_id, **({"shown": SHOWN} if "$shown" in sql else {})) for name, sql in QUERIES.items()
    }


def _figures(run: Row, rows: dict[str, list[Row]]) -> dict[str, str]:
    """What each view says, in a few words, for the cross-reference; nothing where the audit has no such rows."""
    percent, points, count = wording.percent, wording.points, wording.count
    figures = {
        "runs": f"{run['name']}, {wording.moment(run['finished'] or run['started'])}",
        "images": f"{count(run['attempted'])} images",
    }
    for row in rows["accuracy"][:1]:
        figures["accuracy"] = (
            f"{percent(row['value'])} ({percent(row['low'])} to {percent(row['high'])}), {count(row['n'])} images"
        )
    for row in rows["worst"][:1]:
        figures["worst_groups"] = f"{percent(row['value'])} among “{row['label']}” {_with(row)} (n = {count(row['n'])})"
    wrong = sum(row["n"] for row in rows["confusion"] if row["label"] != row["class"])
    if rows["confusion"]:
        figures["confusion"] = f"{count(wrong)} errors in the pairs shown"
    gaps = [row for row in rows["fairness"] if row["measure"] == "equalized odds" and row["value"] is not None]
    for row in sorted(gaps, key=lambda row: -row["value"])[:1]:
        interval = f"{points(row['low'])} to {points(row['high'])}"
        figures["fairness"] = f"largest gap in equalized odds {points(row['value'])} points ({interval}), {row['attribute']}"
    for row in rows["edited"][:1]:
        figures["interventions"] = (
            f"{row['attribute']} alone moves “{row['target']}” by {points(row['effect'])} points ({count(row['n'])} edits)"
        )
    for row in rows["share"][:1]:
        figures["explained_share"] = f"{percent(max(0.0, row['share']))} of the answers to “{row['class']}”"
    confirmed = [row["name"] for row in rows["claims"] if row["verdict"] == "confirmed"]
    figures["findings"] = f"confirmed: {wording.listed(confirmed)}" if rows["claims"] else ""
    failing = [rule for rule in rows["rules"] if rule["result"] == "fail"]
    if rows["rules"]:
        figures["gate"] = f"{rows['rules'][0]['verdict']}: {len(failing)} of {len(rows['rules'])} release checks failed"
    for row in rows["associations"][:1]:
        figures["label_associations"] = f"“{row['attribute']}” and “{row['label']}”: r = {row['phi']:.2f}"
    for row in rows["base"][:1]:
        figures["changes"] = f"compared with {row['base_id']}"
    for row in rows["canary"][:1]:
        figures["canaries"] = f"power {percent(row['power'])}, false alarms {percent(row['false_alarm_rate'])}"
    refused = sum(row["n"] for row in rows["reasons"] if row["stage"] != "regions")
    figures["rejected"] = f"{count(refused)} inputs refused"
    return {name: text for name, text in figures.items() if text}


def _with(row: Row) -> str:
    return f"{'with' if row['present'] else 'without'} {row['attribute']}"


@cache
def _template() -> Template:
    page = Environment(  # nosec B701 # Markdown: `_inert` takes the meaning of text from data
        loader=FileSystemLoader(TEMPLATES),
        autoescape=False,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_inert,
    )
    page.filters |= {
        name: getattr(wording, name) for name in ("signed", "number", "percent", "points", "count", "moment", "listed")
    }
    page.filters["with"] = _with
    return page.get_template("annex_iv.md.j2")


def _inert(value: object) -> object:
    """Text from data that starts no HTML, cell, link or line in Markdown."""
    if not isinstance(value, str):
        return value
    text = " ".join(value.split())
    return text.replace("<", "&lt;").replace("|", "\\|").replace("[", "\\[")
