"""One audit as one HTML page that needs nothing but itself: views -> one string.

Style is inline and allowed by its hash, images are data URIs, charts are SVG; there is no script and the page's own
Content-Security-Policy forbids every request. Everything that comes from data is escaped by Jinja.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import duckdb
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from warehouse.facts.storage import write_whole
from warehouse.lens.connect import left_out_of
from warehouse.lens.fetch import Row, fetch
from warehouse.lens.gate import IN_WORDS, check_run, verdict_of
from warehouse.lens.kept import KEPT, digests, keep
from warehouse.lens.listed_runs import open_run
from warehouse.lens.settled import settle
from warehouse.lens.wholeness import left_out as lens_left_out
from warehouse.lens.wholeness import left_out_in_words
from warehouse.report import formatting as wording
from warehouse.report import nights, quality
from warehouse.report.cards import cards
from warehouse.report.charts import Axis, axis_over
from warehouse.report.check_words import in_numbers, in_words
from warehouse.report.check_words import name as check_name
from warehouse.report.claims_chart import claims_chart
from warehouse.report.confusion import matrix
from warehouse.report.embedded_numbers import block
from warehouse.report.findings import Question, ask_findings, findings
from warehouse.report.gallery import AMPLIFIED, gallery
from warehouse.report.gallery_filters import Filters
from warehouse.report.hashes import fact_hashes, facts_digest, write_hashes
from warehouse.report.layers import left_out
from warehouse.report.limitations import limits
from warehouse.report.made_by import made_by
from warehouse.report.maps import Maps, ask_maps, opacity
from warehouse.report.metric_names import in_order, measure
from warehouse.report.names import Names
from warehouse.report.pairs import Claim, ask_pictures, pairs_of
from warehouse.report.printed import running_head
from warehouse.report.queries import EVIDENCE, Evidence, evidence, image_rows, input_images
from warehouse.report.regions import ask_regions, regions_shown
from warehouse.report.regulation import CROSSWALK
from warehouse.report.scope import has, scope
from warehouse.report.summary import summary
from warehouse.report.verdict import nothing_to_compare, verdict_from

TOP = 40  # attributes that a table shows; the others follow from the SQL printed beside it
TEMPLATES = Path(__file__).parent / "templates"
IMAGES = (  # where images are read
    "select 1 from images, explanations, region_explanations, attributes, saliency, effects, edits, probes, transplants"
)
STYLES = ("report", "tabs", "summary", "pairs", "zoom", "maps", "trend", "print")
TABS = (  # anchor and name
    ("summary", "Summary"),
    ("evidence", "Evidence"),
    ("gallery", "Gallery"),
    ("groups", "Groups"),
    ("checks", "Release checks"),
    ("method", "Method and limits"),
    ("provenance", "Provenance"),
)


def write_report(root: Path, run_id: str) -> Path:
    """Write <root>/reports/<run_id>.html and its list of hashes, and return its path. Raises UserError for an unknown run."""
    path, facts = report_path(root, run_id), fact_hashes(root, run_id)
    page = report_html(root, run_id, facts=facts_digest(facts)).encode()
    write_whole(root, path, page, replace=True)
    write_hashes(root, run_id, page, facts)
    return path


def report_path(root: Path, run_id: str) -> Path:
    """Where the report of a run is, once it is written."""
    return root / "reports" / f"{run_id}.html"


@dataclass(frozen=True)
class Then:
    """What a report rested on that was written earlier: not on these files, that came since; and these earlier runs' numbers.

    made_by: what made it, as it says itself.
    """

    without: frozenset[str]
    nights: Evidence | None
    made_by: str


def report_html(root: Path, run_id: str, then: Then | None = None, facts: str | None = None) -> str:
    """The report of one run, as it is or as it was then. Raises UserError for an unknown run, with the runs there are.

    facts: the digest of the facts that it rests on (`hashes.facts_digest`), for a page that is kept.

    What takes longest of the run is kept for queries over many runs (`warehouse.lens.kept`).
    """
    before = {} if then else digests(root, run_id)
    asked = ";".join((*EVIDENCE.values(), IMAGES))
    with closing(open_run(root, asked, run_id, without=then.without if then else frozenset())) as lens:
        check_run(lens, root, run_id)
        settle(lens, run_id, KEPT)
        if before:
            keep(lens, root, run_id, before)
        found = {name: evidence(lens, name, run_id) for name in EVIDENCE}
        questions = ask_findings(lens, run_id, found["ranked"].rows)
        picked = [found["picks"], *(each.picks for each in questions)]
        pictures = Pictures(
            image_rows(lens, run_id, sorted({row["image_id"] for each in picked for row in each.rows})),
            input_images(lens, run_id, sorted({row["image_id"] for row in found["carriers"].rows})),
            pairs_of(found, ask_pictures(lens, run_id, found)),
            ask_maps(lens, run_id, found["map"].rows),
            quality.images_by_path(lens, run_id, found["quality_images"].rows),
            ask_regions(lens, run_id, found["region_picks"].rows),
        )
        absent = _absent(root, lens, run_id)
        earlier = then.nights if then else nights.ask_nights(root, run_id, found["claims"].rows, found["rules"].rows)
    return _render(found, questions, pictures, earlier, then.made_by if then else made_by(), facts, absent)


def _absent(root: Path, lens: duckdb.DuckDBPyConnection, run_id: str) -> list[str]:
    """Other runs that the page would compare this one with and of which a file is damaged, each in a line."""
    bases = {row["base_id"] for row in fetch(lens, "select base_id from bases where run_id = $run", run=run_id)}
    damaged = [(run, one) for run, one in lens_left_out(lens) if run in bases]
    earlier = [run for run in nights.runs_of(root, run_id) if run not in {run_id, *bases}]
    damaged += [(run, one) for run, because in left_out_of(root, earlier, nights.READ).items() for one in because]
    return [
        f"Not compared with all it could be: {line}. Write this report again after that." for line in left_out_in_words(damaged)
    ]


class Pictures(NamedTuple):
    """What a page shows beside numbers. shown: the images of the picks (see `queries.image_rows`); carriers: those on cards;
    doubtful: those that a check of the data flags, by path; regions: of `ask_regions`."""

    shown: list[Row]
    carriers: list[Row]
    pairs: list[Claim]
    maps: Maps
    doubtful: dict[str, bytes]
    regions: dict[tuple[str, str], bytes | None]


def _render(
    found: dict[str, Evidence],
    questions: Sequence[Question],
    pictures: Pictures,
    earlier: Evidence | None,
    maker: str,
    facts: str | None,
    absent: Sequence[str] = (),
) -> str:
    names = Names.of(found["runs"].rows[0])
    said = verdict_from({name: each.rows for name, each in found.items()})
    named = {name: Evidence(each.sql, names.rows(each.rows)) for name, each in found.items() if name != "runs"}
    run, ranked, effects = names.run(found["runs"].rows[0]), named["ranked"].rows, named["directions"].rows
    cost = {row["arm"]: row for row in named["cost"].rows}
    null = {_question(row): row["change"] for row in named["drift"].rows if row["arm"] == "null"}
    scores = {row["metric"]: row for row in named["scorecard"].rows}
    rows = [
        row | {"null": null.get(_question(row)), "directions": _directions(row, effects) if len(run["classes"]) == 2 else []}
        for row in ranked
    ]
    missing = left_out(named["layers"].rows)
    answers = {name: each.rows for name, each in named.items()} | {"ranked": rows, "left_out": missing}
    gate = verdict_of(run["run_id"], named["rules"].rows) if named["rules"].rows else None
    groups = gallery(named["picks"].rows, pictures.shown, names)
    filters = Filters.of(groups)
    style = "".join((TEMPLATES / f"{name}.css").read_text(encoding="utf-8") for name in STYLES)
    style += filters.css + running_head(run["run_id"])
    own_style = Markup(style)  # nosec B704 # our own files, numbers, and the run's id in CSS's own escapes
    per_finding = {f"share of {each.row['attribute']}": each.shares for each in questions}
    per_finding |= {f"examples of {each.row['attribute']}": each.picks for each in questions}
    per_finding |= {"nights": earlier} if earlier else {}
    return _page().render(
        named | {"ranked": Evidence(named["ranked"].sql, rows), "runs": found["runs"]},
        tabs=TABS,
        maker=maker,
        facts=facts,
        drawn=_draws(run),
        undrawn=UNDRAWN,
        run=run,
        summary=summary(run, answers, said),
        chart=claims_chart(named["claims"].rows, run["margin"], run["attempted"] or len(pictures.shown)),
        matrix=matrix(run["classes"], named["confusion"].rows, named["recalls"].rows),
        mistaken=[row for row in named["confusion"].rows if row["label"] != row["class"]][:12],
        sanity=[row for row in effects if row["attribute"] == run["target_attribute"]],
        verdict=said,
        left_out=missing,
        nothing=nothing_to_compare(run, named["compared"].rows[0]),
        top=TOP,
        shown_directions=[row for row in effects if row["attribute"] != run["target_attribute"]][: 4 * TOP],
        map_evidence=named["map"],
        maps=pictures.maps,
        nights=nights.nights_of(None if earlier is None else names.rows(earlier.rows)),
        night_evidence=earlier,
        people=names.text,
        map_steps=[(share, opacity(share)) for share in (0.25, 0.5, 0.75, 1.0)],
        claims_shown=[each.named(names) for each in pictures.pairs],
        pair_evidence=[(found["pairs"], "the edits"), (found["moved"], "the probes"), (found["pasted"], "the transplants")],
        regions_in=regions_shown(
            named["regions"].rows, named["region_shifts"].rows, named["region_picks"].rows, pngs=pictures.regions
        ),
        cards=cards(named["carriers"].rows, named["claims"].rows, pictures.carriers),
        quality_checks=quality.checks(named["quality"].rows, named["quality_images"].rows, pictures.doubtful),
        warnings=[
            *_warnings(run),
            *(("Warning.", text) for text in absent),
            *(("Warning.", text) for text in quality.warnings(named["quality"].rows)),
        ],
        figures=_figures(run, scores, cost),
        effect_meaning=_effect_meaning(run),
        axis=_axis(run["margin"], rows),
        groups=groups,
        sources=filters.sources,
        moved=filters.moved,
        filter_classes=filters.classes,
        shown_rules=_first_rules(named["rules"].rows),
        gate=gate,
        gate_counts=_counts(named["rules"].rows),
        scope=scope(run, named["splits"].rows, ranked, named["associations"].rows),
        findings=findings(run, questions, pictures.shown, names),
        crosswalk=CROSSWALK,
        numbers=block(run["run_id"], found | per_finding),
        amplified=AMPLIFIED,
        saliency=next((row["map"] for row in pictures.shown if row["map"]), None),
        measures=in_order(named["scorecard"].rows),
        limits=limits(run, rows, cost, scores.get("fr_null", {}).get("value"), named["canary"].rows, named["ways"].rows),
        provenance=_provenance(run, cost),
        fingerprints=json.loads(run["fingerprints"]),
        packages=json.loads(run["packages"]),
        config=json.dumps(json.loads(run["config"]), indent=2, ensure_ascii=False),
        style=own_style,
        style_hash=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode("ascii"),
    )


def _counts(rules: Sequence[Row]) -> str:
    """'1 failed, 1 open, 12 passed': what decides first."""
    results = [rule["result"] for rule in rules]
    words = IN_WORDS | {"inconclusive": "open"}
    return ", ".join(f"{results.count(result)} {word}" for result, word in words.items() if result in results)


def _first_rules(rules: Sequence[Row]) -> list[Row]:
    """The first TOP rules, what decides before what passed."""
    return sorted(rules, key=lambda rule: list(IN_WORDS).index(rule["result"]))[:TOP]


WORDS = (
    *("signed", "number", "probability", "percent", "score", "points", "points_between", "whole_points", "count", "moment"),
    *("listed", "slug", "capital"),
)
GLANCE = {  # measures that stand above the others, in plain words
    "fr": "Answer changed",
    "judge_fr": "A second model agrees",
    "fr_null": "Changed without guidance",
}
UNDRAWN = (
    "None: this audit has no model that draws (the setting prior), so it draws no counterfactuals and no edits. What it found by "
    "probing and exchanging parts of the images themselves is under “What the answers rest on”."
)


def _draws(run: Row) -> bool:
    """Whether the audit has a prior, so that counterfactuals are missing where there are none."""
    return has(json.loads(run["config"]), "prior")


@cache  # to compile the templates takes longer than to fill them in
def _page() -> Template:
    page = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined)
    for name in WORDS:
        page.filters[name] = page.globals[name] = getattr(wording, name)
    page.filters["plain_reason"] = wording.reason
    page.globals |= {"in_words": in_words, "in_numbers": in_numbers, "check_name": check_name}
    return page.get_template("report.html.j2")


def _question(row: Row) -> tuple[str, str, str]:
    return row["attribute"], row["source"], row["target"]


def _directions(row: Row, effects: Sequence[Row]) -> list[tuple[int, float]]:
    """The attribute's effect in each direction: +1 or -1 for along or against the ranked one, and the effect along it."""
    source, target = row["source"], row["target"]
    signs = {(source, target): 1, (target, source): -1}
    return [
        (sign, sign * part["effect"])
        for part in effects
        if part["attribute"] == row["attribute"] and (sign := signs.get((part["source"], part["target"])))
    ]


def _axis(margin: float, rows: Sequence[Row]) -> Axis:
    ends = [value for row in rows for value in (row["low"], row["high"], row["null"] or 0.0)]
    return axis_over([-margin, margin, *ends, *(effect for row in rows for _, effect in row["directions"])])


def _effect_meaning(run: Row) -> str:
    way = (
        "from {} to {}".format(*run["classes"])
        if len(run["classes"]) == 2
        else "from one class to another (of each attribute, the direction that moves it most)"
    )
    return (
        f"When images are changed until the classifier’s answer moves {way}: how many points more likely each attribute "
        f"becomes, by the attribute model, over an unguided control on the same images."
    )


def _warnings(run: Row) -> list[tuple[str, str]]:
    """What to know before reading on, each with its kind: what looks wrong, and why the page may not be the whole audit."""
    incomplete = [("Incomplete.", text) for text in _incomplete(run)]
    return [*incomplete, *(("Warning.", text) for text in run["warnings"] or ())]


def _incomplete(run: Row) -> list[str]:
    """Why the page may not be the whole audit; nothing for one that ended with every image explained."""
    if run["status"] == "failed":
        reason = f": {run['reason']}" if run["reason"] else ""
        return [f"This audit failed before its end{reason}. What follows covers what was written; run it again to finish it."]
    if run["status"] != "finished":
        return ["This audit has not finished: it is still running or was interrupted. What follows covers what is there by now."]
    if not _draws(run):
        return []
    missing = (run["attempted"] or 0) - (run["explained"] or 0)
    return [f"{missing:,} of {run['attempted']:,} images have no explanation and count nowhere below."] if missing > 0 else []


def _figures(run: Row, scores: dict[str, Row], cost: dict[str, Row]) -> list[dict[str, str]]:
    """The four numbers above the measures."""
    if run["attempted"] is None:  # the counts come with the end of an audit
        done, given = cost["guided"]["images"] if "guided" in cost else 0, "so far"
    else:
        done, given = run["explained"], f"of {wording.count(run['attempted'])} given"
    figures = [{"label": "Images explained", "value": wording.count(done), "note": given}]
    for metric, label in GLANCE.items():
        if metric in scores:
            row = scores[metric]
            note = f"of {row['n']:,}; {measure(metric).better} is better"
            figures.append({"label": label, "value": wording.percent(row["value"]), "note": note})
    return figures


def _provenance(run: Row, cost: dict[str, Row]) -> list[dict[str, object]]:
    spent = [
        f"{'unguided control' if name == 'null' else name}: {row['explanations']:,} explanations, "
        f"{row['nfe_forward']:,} UNet evaluations, "
        f"{row['nfe_backward']:,} of them differentiated, {wording.duration(row['seconds'])}"
        for name, row in cost.items()
    ]
    devices = sorted({device for row in cost.values() for device in row["devices"]})
    entries: list[tuple[str, Sequence[str], bool]] = [
        ("Run", [run["run_id"]], True),
        ("Status", [run["status"]], False),
        ("Started, finished", [f"{wording.moment(run['started'])}, {wording.moment(run['finished'])}"], False),
        ("Method", [run["method"] if _draws(run) else "none: no prior"], False),
        ("Seeds", [", ".join(str(seed) for seed in run["seeds"])], False),
        ("Configuration hash", [run["config_hash"]], True),
        ("Code version", [run["code_version"]], True),
        ("Hardware", [run["hardware"], *(f"explained on {device}" for device in devices)], False),
        ("Cost", spent or ["nothing explained" + (" yet" if _draws(run) else "")], False),
    ]
    return [{"label": label, "lines": lines, "code": code} for label, lines, code in entries]
