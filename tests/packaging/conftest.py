"""The two kinds of installation, each made once."""

from pathlib import Path

import pytest

from tests.packaging.installations import ROOT, Installation, build_wheel, install, install_locked


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="session")
def from_wheel(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Installation:
    return install(tmp_path_factory.mktemp("wheel") / "venv", wheel)


@pytest.fixture(scope="session")
def locked(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Installation:
    """The wheel, and beside it only what requirements-runtime.lock lists."""
    return install_locked(tmp_path_factory.mktemp("locked"), wheel)


@pytest.fixture(scope="session")
def editable(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    return install(tmp_path_factory.mktemp("editable") / "venv", ROOT)


@pytest.fixture(params=["from_wheel", "editable"])
def installation(request: pytest.FixtureRequest) -> Installation:
    found: Installation = request.getfixturevalue(request.param)
    return found
