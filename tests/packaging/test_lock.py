"""pyproject.toml names the packages, constraints.txt their ranges, requirements.lock one set that was tested, and
requirements-runtime.lock what of it an installation needs: they agree, and they install."""

import re
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from tests.packaging.installations import LOCKS, ROOT, pins

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
ASKED = [Requirement(line) for listed in [PROJECT["dependencies"], *EXTRAS.values()] for line in listed]
LINES = [line.partition("#")[0] for line in (ROOT / "constraints.txt").read_text().splitlines()]
RANGES = {canonicalize_name(asked.name): asked.specifier for asked in map(Requirement, filter(str.strip, LINES))}
PINS, RUNTIME = map(pins, LOCKS)
OWN = ("all", "dev", "real")  # all but itself, what tests need, and data sets


def versions(name: str) -> list[str]:
    """All versions of a package in the lock: there may be one for each platform."""
    return [str(pin.specifier).removeprefix("==") for pin in PINS if canonicalize_name(pin.name) == canonicalize_name(name)]


@pytest.mark.parametrize("asked", [asked for asked in ASKED if asked.name != PROJECT["name"]], ids=str)
def test_a_dependency_is_locked_at_a_version_that_is_asked_for(asked: Requirement) -> None:
    locked = versions(asked.name)
    assert locked, f"{asked.name} is not in requirements.lock: run make lock"
    assert all(asked.specifier.contains(version) for version in locked), locked


def test_every_locked_version_is_within_the_constraints() -> None:
    assert RANGES.keys() <= {canonicalize_name(pin.name) for pin in PINS}
    outside = [
        str(pin)
        for pin in PINS
        for version in versions(pin.name)
        if version not in RANGES.get(canonicalize_name(pin.name), SpecifierSet())
    ]
    assert not outside


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_every_locked_package_has_hashes_and_the_lock_names_no_host(lock: Path) -> None:
    text = lock.read_text()
    blocks = re.split(r"\n(?=[a-zA-Z0-9])", text)[1:]
    assert len(blocks) == len(pins(lock)) > 200
    assert all(re.search(r"--hash=sha256:[0-9a-f]{64}", block) for block in blocks)
    assert "://" not in text
    assert "index" not in text.partition("==")[0]


def test_the_runtime_lock_is_the_part_of_the_lock_that_a_wheel_with_all_its_extras_needs() -> None:
    (everything,) = map(Requirement, EXTRAS["all"])
    assert everything.extras == EXTRAS.keys() - set(OWN), "an extra is missing in `all`"
    names = {pin.name for pin in RUNTIME}
    needed = [PROJECT["dependencies"], *(EXTRAS[extra] for extra in everything.extras)]
    assert {canonicalize_name(Requirement(line).name) for listed in needed for line in listed} <= names
    assert not names & {"pytest", "mypy", "moto", "build", "pip-licenses"}
    assert {(pin.name, str(pin.specifier)) for pin in RUNTIME} <= {(pin.name, str(pin.specifier)) for pin in PINS}


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_the_lock_resolves_by_its_hashes_in_an_empty_environment(lock: Path, tmp_path: Path) -> None:
    """Every version is there, has a file for this machine with a hash of the lock, and nothing is missing that one of them needs.

    That it installs is tested in test_release_notes.py: gigabytes.
    """
    uv = [str(Path(sys.executable).with_name("uv")), "pip", "install", "--dry-run", "--require-hashes", "--quiet"]
    venv.create(tmp_path / "venv", with_pip=False)

    def resolve(text: str) -> subprocess.CompletedProcess[str]:
        path = tmp_path / lock.name
        path.write_text(text)
        command = [*uv, "--python", str(tmp_path / "venv/bin/python"), "--requirement", str(path)]
        return subprocess.run(command, text=True, capture_output=True, timeout=300)

    text = lock.read_text()
    ended = resolve(text)
    assert ended.returncode == 0, ended.stderr
    without = re.sub(r"^httpx==.*\n( +--hash.*\n)+", "", text, flags=re.M)
    assert without != text and resolve(without).returncode != 0
