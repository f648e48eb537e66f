"""What a release is made of: notes, a bill of materials, and an empty environment with the wheel and its lock alone."""

import json
import re
import subprocess
import tempfile
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest

import cfx
from tests.packaging.installations import LOCKS, ROOT, Installation

STRONG = re.compile(r"\bA?GPL\b|\bA?GPL-|General Public License")  # Lesser and Mozilla's do not reach who uses a library
CHOICE = {"text-unidecode"}  # under the Artistic License or the GPL, as one likes


def test_the_version_has_notes_under_its_date() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert re.search(rf"^## \[{re.escape(cfx.__version__)}\] - \d{{4}}-\d\d-\d\d$", changelog, re.M), (
        "cut a section of the version"
    )
    notes = make("notes").stdout
    assert "### Added" in notes and notes in changelog
    assert "\n## [" not in notes


@pytest.mark.long
def test_the_bill_of_materials_names_every_locked_package_and_no_strong_copyleft() -> None:
    make("sbom")
    made = json.loads((ROOT / "build" / "sbom.json").read_text())
    assert made["bomFormat"] == "CycloneDX"
    assert (made["metadata"]["component"]["name"], made["metadata"]["component"]["version"]) == ("cfx-audit", cfx.__version__)
    licences = {part["name"].lower(): json.dumps(part.get("licenses", [])) for part in made["components"]}
    assert {"torch", "prefect", "duckdb", "s3fs"} <= licences.keys() and "pytest" not in licences
    assert {name for name, text in licences.items() if STRONG.search(text.replace("Lesser General", ""))} == CHOICE


@pytest.fixture(scope="module")
def empty() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="cfx-release-") as folder:
        yield Path(folder)


@pytest.mark.long
def test_the_wheel_and_its_lock_in_an_empty_environment_run_demo_gate_and_explorer(empty: Path, wheel: Path) -> None:
    """The commands of docs/how-to/release.md, in a folder that holds nothing."""
    venv.create(empty / "venv", with_pip=True)
    there, work = Installation(empty / "venv", empty), empty / "work"
    work.mkdir()
    there.run("pip", "install", "-q", "--no-deps", "--require-hashes", "-r", str(LOCKS[1]), cwd=work)
    there.run("pip", "install", "-q", "--no-deps", str(wheel), cwd=work)
    there.run("pip", "check", cwd=work)
    line = there.run("python", str(ROOT / "tests/packaging/first_steps.py"), "64", cwd=work).stdout.splitlines()[-1]
    seen = json.loads(line)
    assert seen["version"] == cfx.__version__
    assert {twin: gate["verdict"] for twin, gate in seen["gates"].items()} == {"planted": "fail", "clean": "pass"}
    assert seen["explorer"]["listed"] == ["planted", "clean"] and seen["explorer"]["foreign"] == 400


def make(target: str) -> subprocess.CompletedProcess[str]:
    ended = subprocess.run(["make", "--no-print-directory", target], cwd=ROOT, text=True, capture_output=True, timeout=1200)
    assert ended.returncode == 0, ended.stderr
    return ended
