"""Evidence to take along and to check: a report verified against its facts, a run as one archive."""

from __future__ import annotations

from pathlib import Path

from cfx.errors import UserError
from warehouse.evidence import annex_iv as drafts
from warehouse.evidence import verify as reports
from warehouse.evidence import verify_process as archives
from warehouse.evidence.export import export
from warehouse.evidence.verify import Verification, as_json

__all__ = ["Verification", "as_json", "export", "verify"]


def verify(root: Path, run: str, key: Path | None = None) -> Verification:
    """Verify the report of a run, an archive (signed by this public key, if any), or a draft of Annex IV.

    Raises UserError where there is none, and for a key where nothing can be signed.
    """
    if run.endswith(".zip"):
        return archives.verify_stranger(Path(run), key)
    if key is not None:
        raise UserError(f"--key is for an archive, RUN.zip, which `cfx export --sign` signed; {run} has no signature")
    return drafts.verify_annex_iv(root, Path(run)) if run.endswith(".md") else reports.verify(root, run)
