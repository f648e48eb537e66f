"""The evidence pack: one archive that is a warehouse when it is unpacked, with a model card and the verdict as JSON on top."""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

from cfx.errors import UserError
from warehouse.evidence.model_card import model_card
from warehouse.evidence.results import Results, read_results
from warehouse.evidence.verify import Verification, verify
from warehouse.facts.damage import DamagedRun, damage_among
from warehouse.facts.storage import name_in, remembered
from warehouse.lens.fetch import Row
from warehouse.lens.plain_json import as_json
from warehouse.report.hashes import hashes_path, later_files, other_runs, read_sums, run_files
from warehouse.report.render import report_path, write_report

SUMS = "SHA256SUMS"
_THEN = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip can say: the same run gives the same bytes


def export(root: Path, run_id: str, to: Path, results: Results | None = None) -> Path:
    """Write the archive, with every fact that the report rests on. Raises UserError for an unknown run, DamagedRun where a
    file is damaged that it would hold.

    results: those of the run, where they were read already.
    """
    results = results or read_results(root, run_id)
    _written_report(root, run_id)
    together = (run_id, *other_runs(root, run_id))
    place = remembered(root)
    if damaged := damage_among(place, [path for run in together for path in run_files(place, run)]):
        raise DamagedRun(run_id, damaged)
    files = {name_in(root, path): path.read_bytes() for run in together for path in run_files(root, run)}
    files |= {name_in(root, path): path.read_bytes() for path in (report_path(root, run_id), hashes_path(root, run_id))}
    config = json.loads(results.run["config"])
    files["config.yaml"] = yaml.safe_dump(config, sort_keys=False, allow_unicode=True).encode()
    files["README.md"] = model_card(results).encode()
    files["summary.json"] = as_json(_summary(results), indent=2).encode()
    sums = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in sorted(files.items()))
    with zipfile.ZipFile(to, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in sorted((files | {SUMS: sums.encode()}).items()):
            archive.writestr(zipfile.ZipInfo(name, _THEN), data, zipfile.ZIP_DEFLATED)
    return to


def _written_report(root: Path, run_id: str) -> Path:
    """A run's report; written first where there is none, and where it is older than a review or another fact of the run."""
    path = report_path(root, run_id)
    written = path.is_file() and hashes_path(root, run_id).is_file()
    return path if written and not later_files(root, run_id) else write_report(root, run_id)


@contextmanager
def evidence_files(root: Path, results: Results, archive: bool) -> Iterator[list[Path]]:
    """A run's report.html and, if wanted, its archive RUN.zip, in a folder of their own, for as long as they are needed."""
    run_id = results.run["run_id"]
    content = _written_report(root, run_id).read_bytes()
    with TemporaryDirectory() as folder:
        page = Path(folder) / "report.html"
        page.write_bytes(content)
        yield [page, *([export(root, run_id, Path(folder) / f"{run_id}.zip", results)] if archive else [])]


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
            found.later,
            found.absent,
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


def _summary(results: Results) -> Row:
    gate = results.gate
    return {
        "run": results.run,
        "headline": results.verdict.headline,
        "gate": None if gate is None else {"verdict": gate.verdict, "reasons": gate.reasons},
        "accuracy": results.accuracy,
        "attributes": results.attributes,
        "explained": results.explained,
        "findings": results.claims,
        "scorecard": results.scorecard,
        "rules": [] if gate is None else gate.rules,
    }
