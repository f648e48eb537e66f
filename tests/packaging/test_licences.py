"""What an installation is made of may be used and passed on: every package's licence is one of those below, or named here."""

from __future__ import annotations

import re
from importlib import metadata

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.packaging.installations import LOCKS, pins

ALLOWED = re.compile(
    r"0BSD|3-Clause BSD.*|Apache.*|BSD.*|BSL-1\.0|CC0-1\.0|CNRI-Python|ISC.*|MIT.*|MPL-2\.0|Mozilla Public License 2\.0.*"
    r"|PSF-2\.0|Python Software Foundation License|Zlib|LLVM-exception"
)
NVIDIA = "NVIDIA's own terms, under which its libraries come with torch on Linux"
EXCEPTIONS = {
    "pillow-heif": "BSD, but its wheels hold x265 (GPL-2.0), libheif and libde265 (LGPL-3.0): who passes on an image with them "
    "in it has to give their sources; an installation by pip fetches them itself",
    "text-unidecode": "Artistic License or GPL, as one likes: the first",
    "cuda-toolkit": NVIDIA,
}
RUNTIME = pins(LOCKS[1])


def licences(package: metadata.Distribution) -> list[str]:
    """The parts of the licence that a package says it has: by SPDX expression, else by classifiers, else in its own words."""
    said = package.metadata.json.get("license_expression")
    classifiers = [line for line in package.metadata.get_all("Classifier") or [] if line.startswith("License :: ")]
    named = [name for line in classifiers if (name := line.split(" :: ")[-1]) != "OSI Approved"]
    words = str(package.metadata.json.get("license") or "").strip().splitlines()[:1]
    return re.split(r" AND | OR | WITH |[()]+", str(said)) if said else named or re.split(r" AND | OR ", "".join(words))


def bundled(package: metadata.Distribution) -> str:
    """What a wheel says of libraries that it brings along, in a file of its own."""
    files = [file for file in package.files or () if "bundled" in file.name.lower() and file.suffix == ".txt"]
    return "\n".join(file.read_text() for file in files)


@pytest.mark.parametrize("pin", RUNTIME, ids=lambda pin: pin.name)
def test_a_package_of_an_installation_has_a_licence_that_is_allowed(pin: Requirement) -> None:
    name = canonicalize_name(pin.name)
    if pin.marker is not None and not pin.marker.evaluate():
        return  # of another platform
    package = metadata.distribution(name)
    found = [part for part in licences(package) if part.strip()]
    if name in EXCEPTIONS or (name.startswith("nvidia-") and any("NVIDIA" in part or "Proprietary" in part for part in found)):
        return
    assert found, f"{name} says of no licence"
    assert [part for part in found if not ALLOWED.fullmatch(part.strip())] == []
    assert "GPL" not in bundled(package), f"{name} brings along libraries under the GPL"


def test_an_exception_is_of_a_package_that_is_there() -> None:
    assert EXCEPTIONS.keys() <= {canonicalize_name(pin.name) for pin in RUNTIME}
    assert "x265" in bundled(metadata.distribution("pillow-heif"))
