"""The package is installed as cfx-audit: `cfx` on the package index is another project's, and no text may send anyone there."""

import re
from pathlib import Path

import pytest

from tests.packaging.installations import ROOT

TEXTS = {".py", ".md", ".toml", ".yaml", ".yml", ".ipynb", ".j2", ".txt", ".sql", ".cff"}
INSTALL = (
    r"\b(?:install|uvx|(?:uv|poetry) add)(?:\s+(?:-\S+|\S+\.txt))*\s+"  # of pip, pipx, uv, poetry, conda; options may follow
)
FOREIGN = re.compile(rf"""{INSTALL}['"]?cfx(?=['"\s\[=<>~!]|$)|(?<![\w.-])cfx\[[a-z]+[\],]|\bversion\(['"]cfx['"]\)""")


@pytest.mark.parametrize(
    "text",
    [
        "pip install cfx",
        "pip install -U 'cfx[s3]'",
        "uv add cfx",
        "needs 'cfx[onnx]'",
        "version('cfx')",
        "pip install cfx==1",
        "pip install -c constraints.txt cfx",
    ],
)
def test_what_would_install_the_foreign_package_is_seen(text: str) -> None:
    assert FOREIGN.search(text)


@pytest.mark.parametrize(
    "text",
    [
        "pip install cfx-audit",
        "pip install 'cfx-audit[s3]'",
        "pip install -e .",
        "install cfx-audit, then run cfx audit run.yaml",
    ],
)
def test_what_installs_this_one_is_not(text: str) -> None:
    assert not FOREIGN.search(text)


def test_no_text_of_the_repository_installs_the_foreign_package() -> None:
    shown = [place for place in ROOT.iterdir() if not place.name.startswith(".")]
    files = [path for place in shown for path in ([place] if place.is_file() else place.rglob("*"))]
    texts = [path for path in files if path.suffix in TEXTS or path.name == "Makefile"]
    assert len(texts) > 300
    found = [
        f"{path.relative_to(ROOT)}: {hit.group()}"
        for path in texts
        if path != Path(__file__)
        for hit in FOREIGN.finditer(path.read_text())
    ]
    assert not found
