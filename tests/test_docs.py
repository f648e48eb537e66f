"""The docs: the site builds without a warning and fetches nothing, and links between files lead somewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from contextlib import closing
from pathlib import Path

import pytest
import yaml
from portrait_run import write_portrait_run

from cfx import __version__
from warehouse.lens.connect import open_warehouse

ROOT = Path(__file__).parent.parent
BESIDE = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"]  # pages that are read on their own, not on the site


def build(site: Path, config: Path) -> subprocess.CompletedProcess[str]:
    """`mkdocs build`; not --quiet, which would also keep `strict` from counting warnings."""
    command = [sys.executable, "-m", "mkdocs", "build", "--config-file", str(config), "--site-dir", str(site)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"})


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site as `make docs` builds it: strict, so that a broken link or anchor ends it."""
    folder = tmp_path_factory.mktemp("site")
    built = build(folder, ROOT / "mkdocs.yml")
    assert built.returncode == 0, built.stderr
    return folder


@pytest.mark.parametrize("link", ["nosuch.md", "#nosuch", "other.md#nosuch"])
def test_a_broken_link_ends_the_build(tmp_path: Path, link: str) -> None:
    settings = {"INHERIT": str(ROOT / "mkdocs.yml"), "docs_dir": "pages", "hooks": [], "nav": ["index.md", "other.md"]}
    (tmp_path / "mkdocs.yml").write_text(yaml.safe_dump(settings))
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "other.md").write_text("# Other\n")
    (tmp_path / "pages" / "index.md").write_text(f"# Index\n\n[broken]({link})\n")
    built = build(tmp_path / "site", tmp_path / "mkdocs.yml")
    assert built.returncode != 0 and "nosuch" in built.stderr


def test_every_page_is_on_the_site(site: Path) -> None:
    pages = {path.relative_to(ROOT / "docs").with_suffix("") for path in (ROOT / "docs").rglob("*.md")}
    made = {path.relative_to(site).with_suffix("") for path in site.rglob("*.html")}
    assert {page.with_name("index") if page.name == "README" else page for page in pages} <= made
    assert len(pages) >= 20


def test_the_site_loads_nothing_from_elsewhere(site: Path) -> None:
    script, link = r'<(?:script|img|iframe)[^>]*\ssrc="https?:', r'<link[^>]*rel="(?:stylesheet|preconnect)"[^>]*href="https?:'
    loaded = re.compile(f"{script}|{link}")
    pages = list(site.rglob("*.html"))
    assert pages
    assert not [(page.name, found.group(0)) for page in pages for found in loaded.finditer(page.read_text(encoding="utf-8"))]


def test_results_and_examples_that_pages_link_to_come_along(site: Path) -> None:
    page = (site / "explanation" / "evidence.html").read_text(encoding="utf-8")
    assert 'href="../benchmarks/results/evidence.json"' in page
    assert (site / "benchmarks" / "results" / "evidence.json").read_bytes() == (
        ROOT / "benchmarks" / "results" / "evidence.json"
    ).read_bytes()


def test_a_function_of_the_reference_shows_its_signature_and_its_example(site: Path) -> None:
    page = (site / "reference" / "python.html").read_text(encoding="utf-8")
    assert 'id="cfx.methods.maskdime.maskdime"' in page and 'id="cfx.open"' in page
    example = re.sub(r"<[^>]+>", "", page)  # without the colours
    assert "&gt;&gt;&gt; derived_seed(" in example


def slug(heading: str) -> str:
    """The anchor of a heading, as GitHub and MkDocs make it."""
    return re.sub(r"[\s]+", "-", re.sub(r"[^\w\s-]", "", heading.lower()).strip())


@pytest.mark.parametrize("name", BESIDE)
def test_links_of_a_page_beside_the_site_lead_somewhere(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    broken = []
    for link in links:
        path, _, anchor = link.partition("#")
        target = ROOT / path if path else ROOT / name
        headings = {slug(line.lstrip("# ")) for line in _text(target).splitlines() if line.startswith("#")}
        if not target.exists() or (anchor and anchor not in headings):
            broken.append(link)
    assert not broken
    assert links or name in ("SECURITY.md", "CHANGELOG.md")


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.suffix == ".md" and path.is_file() else ""


def test_paths_of_docs_that_the_code_names_are_there() -> None:
    rooms = ("cfx", "warehouse", "tasks", "flows", "benchmarks", "examples")
    named = {
        (path.name, found)
        for room in rooms
        for path in (ROOT / room).rglob("*")
        if path.suffix in (".py", ".yaml", ".sql", ".j2", ".ipynb")
        for found in re.findall(r"docs/[\w/-]+\.(?:md|sql)", path.read_text(encoding="utf-8"))
    }
    assert named
    assert not [(name, found) for name, found in sorted(named) if not (ROOT / found).exists()]


PAGES = ["README.md", *(str(path.relative_to(ROOT)) for path in sorted((ROOT / "docs").rglob("*.md")))]
QUERIES = [
    (page, sql)
    for page in PAGES
    for sql in re.findall(r'cfx query (?:-w \S+ )?"(.*?)"', (ROOT / page).read_text(encoding="utf-8"), re.S)
    if "..." not in sql
]


def test_every_query_of_a_page_finds_its_views_and_columns(tmp_path: Path) -> None:
    write_portrait_run(tmp_path, "r-planted", n=4, size=16)
    assert {"README.md", "docs/tutorials/sql.md", "docs/how-to/black-box.md"} <= {page for page, _ in QUERIES}
    with closing(open_warehouse(tmp_path, lens=True)) as lens:
        for page, sql in QUERIES:
            assert lens.execute(f"describe {sql}").fetchall(), (page, sql)  # binds it, and runs nothing


def test_the_citation_names_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert citation["version"] == __version__
    assert citation["license"] == project["license"]
