"""A model card in the Hugging Face format, from what an audit found: metadata with a `model-index`, then Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from warehouse.evidence.results import Results, release_check, shown_claims
from warehouse.lens.fetch import Row
from warehouse.lens.gate import IN_WORDS
from warehouse.report.formatting import markdown_table, percent, points
from warehouse.report.metric_names import in_order
from warehouse.report.names import Names
from warehouse.report.summary import group_name

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

TASK = "image-classification"
TAGS = (TASK, "counterfactual-audit", "cfx")


@dataclass(frozen=True)
class About:
    """What no audit knows of a model: its license and what it was made from, as the Hub names them. What is not given, the card
    says is to be filled in."""

    license: str | None = None
    base_model: str | None = None
    datasets: tuple[str, ...] = ()
    model: str | None = None  # its name; default: the audit's


def model_card(results: Results, about: About | None = None) -> str:
    """The card as text, read once by huggingface_hub, so that what it cannot read is not written."""
    from huggingface_hub import ModelCard, ModelCardData

    about = about or About()
    name = about.model or str(results.run["name"])
    scores = list(_eval_results(results, about))
    data = ModelCardData(
        license=about.license,
        base_model=about.base_model,
        datasets=list(about.datasets) or None,
        tags=list(TAGS),
        pipeline_tag=TASK,
        metrics=["accuracy"] if results.accuracy is not None else None,
        model_name=name,
        eval_results=scores or None,
    )
    return str(ModelCard(f"---\n{data.to_yaml()}\n---\n\n{_text(name, results, about)}"))


def _eval_results(results: Results, about: About) -> Sequence[EvalResult]:
    from huggingface_hub import EvalResult

    def result(kind: str, name: str, value: object) -> EvalResult:
        return EvalResult(
            task_type=TASK,
            dataset_type="audited-images",
            dataset_name=f"images of the audit {results.run['run_id']}",
            metric_type=kind,
            metric_name=name,
            metric_value=value,
        )

    found = [result("accuracy", "Accuracy", results.accuracy["value"])] if results.accuracy is not None else []
    if results.worst is not None:
        found.append(result("worst_group_accuracy", "Worst-group accuracy", results.worst["value"]))
    if results.gate is not None:
        found.append(result("release_check", "Release check", IN_WORDS[results.gate.verdict]))
    found += [
        result("explained_share", f"Share of the answers that is explained, {row['class']}", row["share"])
        for row in results.explained
        if row["share"] is not None
    ]
    return found + [
        result(row["metric"], known.label, row["value"]) for row, known in in_order(results.scorecard) if row["value"] is not None
    ]


def _text(name: str, results: Results, about: About) -> str:
    run, said = results.run, results.verdict
    parts = [
        f"# {_inert(name)}",
        _inert(f"**{said.headline}.** " + " ".join(said.sentences)),
        f"## Release check\n\n{_inert(release_check(results))}",
        f"## Accuracy\n\n{_inert(_accuracy(results))}",
        f"## What moves the answers\n\n{_effects(results)}",
        "## Limits\n\nAn audit sees attributes that its oracle names, changes that its generator can draw, and the properties "
        "and places that it tries.",
        f"## Not known to the audit\n\n{_missing(about)}",
        f"Run `{run['run_id']}`, code {run['code_version']}. The report is `reports/{run['run_id']}.html` of its archive "
        f"(`cfx export {run['run_id']}`), which is a warehouse when it is unpacked: `cfx query` and `cfx verify` work on it.",
    ]
    return "\n\n".join(parts) + "\n"


def _accuracy(results: Results) -> str:
    """Over all images, and in the group that it may hide."""
    if results.accuracy is None:
        return "Not measured: the audited images have no labels."
    overall = f"{percent(results.accuracy['value'])} of {results.accuracy['n']:,} labelled images ({_between(results.accuracy)})."
    worst = results.worst
    if worst is None:
        return f"{overall} By group it is not known."
    clearly = "clearly below that" if worst["below"] else "not clearly below that"
    name = group_name(Names.of(results.run).row(worst))
    lowest = f"{percent(worst['value'])} of {worst['n']:,} images ({_between(worst)}), {clearly}"
    return f"{overall}\n\nLowest of {worst['cells']:,} groups by label and attribute: {name}, {lowest}."


def _between(row: Row) -> str:
    return f"95% confidence {percent(row['low'])} to {percent(row['high'])}"


def _effects(results: Results) -> str:
    """Attributes by explanations and by edits, then properties and places; changes in points, hundredths of a probability."""
    columns = ("what", "explanations change it by", "alone, it moves the score by", "95% interval", "verdict")
    rows = [
        (row["attribute"], points(row["effect"]), points(row["intervention"]), *_interval(row, "intervention_"), row["verdict"])
        for row in results.attributes
    ]
    rows += [
        (f"{row['name']} ({row['kind']})", "", points(row["intervention"]), *_interval(row, ""), row["verdict"])
        for row in shown_claims(results)
    ]
    return f"In points.\n\n{markdown_table(columns, rows)}" if rows else "Nothing was tried."


def _interval(row: Row, side: str) -> tuple[str]:
    low, high = row[f"{side}low"], row[f"{side}high"]
    return ("" if low is None else f"{points(low)} to {points(high)}",)


def _missing(about: About) -> str:
    given = {
        "License": about.license,
        "Base model": about.base_model,
        "Training data": ", ".join(about.datasets),
        "Intended use": None,
        "Contact": None,
    }
    return "\n".join(f"- {what}: {_inert(value) if value else '[to be filled in]'}" for what, value in given.items())


def _inert(text: str) -> str:
    return text.replace("<", "&lt;")
