"""The evidence pack: one archive that is a warehouse when it is unpacked, with a model card and the verdict as JSON on top."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from warehouse.evidence.contents import SIGNATURE, SUMS, Claims, digest_of, fact_of, hash_of, made_files, sums_of
from warehouse.evidence.results import Results, read_results
from warehouse.evidence.signature import signed
from warehouse.evidence.zip_form import write_zip
from warehouse.facts.damage import DamagedRun, damage_among
from warehouse.facts.storage import name_in, remembered
from warehouse.report.embedded_numbers import read_block
from warehouse.report.hashes import hashes_path, later_files, read_sums, report_name
from warehouse.report.made_by import made_by, maker_of
from warehouse.report.render import report_path, write_report


def export(root: Path, run_id: str, to: Path, results: Results | None = None, key: Ed25519PrivateKey | None = None) -> Path:
    """Write the archive, with every fact that the report rests on.

    results: those of the run, where they were read already. key: to sign it with. Raises UserError for an unknown run,
    DamagedRun where a file is damaged that it would hold.
    """
    results = results or read_results(root, run_id)
    page = _written_report(root, run_id).read_bytes()
    rests_on = sorted(name for name in read_sums(hashes_path(root, run_id)) if fact_of(name))
    if damaged := damage_among(remembered(root), [root / name for name in rests_on if (root / name).is_file()]):
        raise DamagedRun(run_id, damaged)
    facts: dict[str, bytes | Path] = {name: root / name for name in rests_on if (root / name).is_file()}
    hashes = {name: hash_of(content) for name, content in facts.items()}
    files = facts | {report_name(run_id): page, name_in(root, hashes_path(root, run_id)): hashes_path(root, run_id).read_bytes()}
    files |= made_files(results, hashes, _claims(page))
    sums = sums_of(hashes | {name: hash_of(content) for name, content in files.items() if name not in hashes})
    files[SUMS] = sums
    if key is not None:
        files[SIGNATURE] = signed(digest_of(sums), key)
    write_zip(to, files)
    return to


def digest_in(path: Path) -> str:
    """The digest of an archive that was just written (`cfx verify` computes it from all files), sha256:…."""
    with zipfile.ZipFile(path) as archive:
        return digest_of(archive.read(SUMS))


def _written_report(root: Path, run_id: str) -> Path:
    """A run's report; written first where there is none, where it is older than a review or another fact of the run, and where
    another version of cfx wrote it. What was altered stays altered: it is for `cfx verify` to find."""
    path, listed = report_path(root, run_id), hashes_path(root, run_id)
    if not path.is_file() or not listed.is_file() or later_files(root, run_id):
        return write_report(root, run_id)
    page = path.read_bytes()
    as_written = read_sums(listed).get(report_name(run_id)) == hashlib.sha256(page).hexdigest()
    if as_written and maker_of(page.decode(errors="replace")) != made_by():
        return write_report(root, run_id)
    return path


def _claims(page: bytes) -> Claims:
    """What a page says that its facts do not; nothing where it is damaged, so that its archive is found to be, too."""
    text = page.decode(errors="replace")
    try:
        return Claims(maker_of(text), read_block(text)["questions"].get("nights"))
    except (ValueError, LookupError, TypeError, AttributeError):
        return Claims(maker_of(text), None)


@contextmanager
def evidence_files(root: Path, results: Results, archive: bool) -> Iterator[list[Path]]:
    """A run's report.html and, if wanted, its archive RUN.zip, in a folder of their own, for as long as they are needed."""
    run_id = results.run["run_id"]
    content = _written_report(root, run_id).read_bytes()
    with TemporaryDirectory() as folder:
        page, packed = Path(folder) / "report.html", Path(folder) / f"{run_id}.zip"
        page.write_bytes(content)
        if archive:
            export(root, run_id, packed, results)
        yield [page, packed] if archive else [page]
