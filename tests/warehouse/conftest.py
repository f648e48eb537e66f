"""What tests of evidence stand on; other files have a warehouse of their own under these names."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from evidence_run import write_evidence


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every fact there is: the run `run`, its base, its canary's twins, its edits."""
    root = tmp_path_factory.mktemp("warehouse")
    write_evidence(root)
    return root


@pytest.fixture
def root(written: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    return Path(shutil.copytree(written, tmp_path / "warehouse"))
