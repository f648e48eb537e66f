"""pyproject.toml names the packages, constraints.txt their ranges, requirements.lock one set that was tested: they agree."""

import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from tests.packaging.installations import ROOT

LOCK = (ROOT / "requirements.lock").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LISTS = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
ASKED = [Requirement(line) for listed in LISTS for line in listed if not line.startswith(PROJECT["name"])]
LINES = [line.partition("#")[0] for line in (ROOT / "constraints.txt").read_text().splitlines()]
RANGES = {canonicalize_name(asked.name): asked.specifier for asked in map(Requirement, filter(str.strip, LINES))}
PINS = [Requirement(line.removesuffix("\\")) for line in LOCK.splitlines() if "==" in line and line[0] not in "# "]


def versions(name: str) -> list[str]:
    """All versions of a package in the lock: there may be one for each platform."""
    return [str(pin.specifier).removeprefix("==") for pin in PINS if canonicalize_name(pin.name) == canonicalize_name(name)]


@pytest.mark.parametrize("asked", ASKED, ids=str)
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


def test_every_locked_package_has_hashes_and_the_lock_names_no_host() -> None:
    blocks = re.split(r"\n(?=[a-zA-Z0-9])", LOCK)[1:]
    assert len(blocks) == len(PINS) > 200
    assert all(re.search(r"--hash=sha256:[0-9a-f]{64}", block) for block in blocks)
    assert "://" not in LOCK
    assert "index" not in LOCK.partition("==")[0]
