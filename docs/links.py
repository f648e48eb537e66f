"""A hook of MkDocs: results, examples and automations lie outside of docs/ and come along, so that links to them work."""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
BESIDE = ("benchmarks/results", "examples", "flows/automations")  # folders beside docs/ whose files pages may link to
UP = re.compile(rf"\]\((?:\.\./)+((?:{'|'.join(BESIDE)})/[^)#\s]+)\)")  # ](../../examples/ci.yaml)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the files beside docs/, under their own paths."""
    for folder in BESIDE:
        for path in sorted((ROOT / folder).glob("*.*")):
            files.append(File.generated(config, f"{folder}/{path.name}", abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links that leave docs/ for such a file lead to its copy on the site."""
    up = "../" * page.file.src_uri.count("/")
    return UP.sub(rf"]({up}\1)", markdown)
