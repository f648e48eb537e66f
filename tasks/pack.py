"""Evidence to take along and to check: a report verified against its facts, a run as one archive."""

from __future__ import annotations

from pathlib import Path

from warehouse.evidence import annex_iv as drafts
from warehouse.evidence import export as archives
from warehouse.evidence import verify as reports
from warehouse.evidence.export import export
from warehouse.evidence.verify import Verification, as_json

__all__ = ["Verification", "as_json", "export", "verify"]


def verify(root: Path, run: str) -> Verification:
    """Verify the report of a run, the one in an archive, or a draft of Annex IV. Raises UserError where there is none."""
    if run.endswith(".md"):
        return drafts.verify_annex_iv(root, Path(run))
    return archives.verify_archive(Path(run)) if run.endswith(".zip") else reports.verify(root, run)
