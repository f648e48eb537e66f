"""The evidence pack: one archive that is a warehouse when it is unpacked, with a model card and the verdict as JSON on top."""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

from cfx.errors import UserError
from warehouse.evidence.verify import Verification, verify
from warehouse.lens.connect import open_warehouse
from warehouse.lens.fetch import Row
from warehouse.lens.gate import Gate, check_run, verdict_of
from warehouse.lens.plain_json import as_json
from warehouse.lens.settled import settle
from warehouse.report.formatting import markdown_table, number
from warehouse.report.hashes import hashes_path, name_in, other_runs, read_sums, run_files
from warehouse.report.queries import EVIDENCE, evidence
from warehouse.report.render import report_path, write_report
from warehouse.report.verdict import verdict

SUMS = "SHA256SUMS"
QUESTIONS = ("runs", "layers", "ranked", "share", "claims", "compared", "scorecard", "rules")
_THEN = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip can say: the same run gives the same bytes


def export(root: Path, run_id: str, to: Path) -> Path:
    """Write the archive, with every fact that the report rests on. Raises UserError for an unknown run."""
    with closing(open_warehouse(root, sql=";".join(EVIDENCE[name] for name in QUESTIONS))) as lens:
        check_run(lens, root, run_id)
        settle(lens, run_id)
        found = {name: evidence(lens, name, run_id).rows for name in QUESTIONS}
    if not report_path(root, run_id).is_file():
        write_report(root, run_id)
    together = (run_id, *other_runs(root, run_id))
    files = {name_in(root, path): path.read_bytes() for run in together for path in run_files(root, run)}
    files |= {name_in(root, path): path.read_bytes() for path in (report_path(root, run_id), hashes_path(root, run_id))}
    (run,) = found["runs"]
    rules = verdict_of(run_id, found["rules"]) if found["rules"] else None
    files["config.yaml"] = yaml.safe_dump(json.loads(run["config"]), sort_keys=False, allow_unicode=True).encode()
    files["README.md"] = model_card(run, found, rules).encode()
    files["summary.json"] = as_json(_summary(run, found, rules), indent=2).encode()
    sums = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in sorted(files.items()))
    with zipfile.ZipFile(to, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in sorted((files | {SUMS: sums.encode()}).items()):
            archive.writestr(zipfile.ZipInfo(name, _THEN), data, zipfile.ZIP_DEFLATED)
    return to


def verify_archive(path: Path) -> Verification:
    """Verify the report in an archive against the facts in it, and every file against SHA256SUMS.

    Raises UserError where there is no archive, or no report in it that can be read.
    """
    with TemporaryDirectory() as folder:
        root = Path(folder)
        bad = _unpack(path, root)
        reports = sorted((root / "reports").glob("*.html"))
        if not reports:
            raise UserError(f"{path} holds no report that can be read: {', '.join(bad) or 'it is no archive of `cfx export`'}")
        found = verify(root, reports[0].stem)
        listed = read_sums(root / SUMS) if (root / SUMS).is_file() else {}
        there = {name_in(root, file): file for file in root.rglob("*") if file.is_file() and file.name != SUMS}
        bad += [name for name, file in there.items() if hashlib.sha256(file.read_bytes()).hexdigest() != listed.get(name)]
        bad += [name for name in listed if name not in there]
        return Verification(
            found.run_id,
            found.numbers,
            found.recomputed,
            found.mismatches,
            len(there) + 1,
            sorted({*bad, *found.bad_files}),
        )


def _unpack(path: Path, root: Path) -> list[str]:
    """Writes what can be read; returns the names of what cannot. Raises OSError if the disk is full."""
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise UserError(f"{path} is no archive, or a damaged one: {error}") from error
    bad = []
    with archive:
        for name in archive.namelist():
            try:
                archive.read(name)  # holds it to its checksum and its name
            except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError):
                bad.append(name)  # whatever damage made of the archive: `cfx verify` tells the name and exits 1
            else:
                archive.extract(name, root)
    return bad


def _summary(run: Row, found: dict[str, list[Row]], gate: Gate | None) -> Row:
    said = verdict(run, found["ranked"], found["share"], found["claims"], found["compared"][0], found["layers"])
    return {
        "run": run,
        "headline": said.headline,
        "gate": None if gate is None else {"verdict": gate.verdict, "reasons": gate.reasons},
        "attributes": found["ranked"],
        "explained": found["share"],
        "findings": found["claims"],
        "scorecard": found["scorecard"],
        "rules": found["rules"],
    }


def model_card(run: Row, found: dict[str, list[Row]], gate: Gate | None) -> str:
    """A model card in the Hugging Face format: YAML between dashes, with the results as a `model-index`, then Markdown."""
    ranked, scores = found["ranked"], found["scorecard"]
    said = verdict(run, ranked, found["share"], found["claims"], found["compared"][0], found["layers"])
    name = str(run["name"])
    metrics = [
        {"type": row["metric"], "name": row["metric"], "value": row["value"]} for row in scores if row["value"] is not None
    ]
    result = {
        "task": {"type": "image-classification"},
        "dataset": {"name": name, "type": "audited images"},
        "metrics": metrics,
    }
    head = {
        "tags": ["image-classification", "counterfactual-audit", "cfx"],
        "pipeline_tag": "image-classification",
        "model-index": [{"name": name, "results": [result]}],
    }
    attributes = [
        (row["attribute"], *(number(row[key]) for key in ("effect", "low", "high")), row["verdict"], row["rests_on"])
        for row in ranked
    ]
    parts = [
        f"---\n{yaml.safe_dump(head, sort_keys=False, allow_unicode=True)}---",
        f"# {name}: counterfactual audit",
        _inert(f"**{said.headline}.** " + " ".join(said.sentences)),
        "## Gate\n\n" + (_inert(f"{gate.verdict}: " + "; ".join(gate.reasons)) if gate else "Held to no policy."),
        "## Attributes\n\n" + markdown_table(("attribute", "effect", "low", "high", "verdict", "rests on"), attributes),
        "## Limits\n\nAn audit sees attributes that its oracle names, changes that its generator can draw, and the properties "
        "and places that it tries.",
        f"Run `{run['run_id']}`, code {run['code_version']}. The report is `reports/{run['run_id']}.html`. This archive, "
        "unpacked, is a warehouse: `cfx query` and `cfx verify` work on it.",
    ]
    return "\n\n".join(parts) + "\n"


def _inert(text: str) -> str:
    return text.replace("<", "&lt;")
