"""Installations in environments of their own, and folders in which everything that has a name of ours lies about."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
LOCKS = (ROOT / "requirements.lock", ROOT / "requirements-runtime.lock")  # a checkout's .venv, and what a wheel runs with
PACKAGES = ("cfx", "warehouse", "tasks", "flows")
LYING_ABOUT = (*PACKAGES, "tests", "utils")
OURS = ("PYTHONPATH", "PREFECT_API_URL", "PREFECT_TEST_MODE", "VIRTUAL_ENV")  # of the tests' own process


@dataclass(frozen=True)
class Installation:
    """An environment with its own copy of cfx, or an editable one; its dependencies are those of the tests' environment."""

    folder: Path
    home: Path  # where the packages must come from

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    def run(self, *command: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
        """A command of the environment (`python`, `cfx`); its output is shown if it fails."""
        ended = subprocess.run(
            [str(self.folder / "bin" / command[0]), *command[1:]],
            cwd=cwd,
            env=self.environment(**environment),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=3000,  # what installs gigabytes takes as long as its network
        )
        assert ended.returncode == 0, f"{command} ended with {ended.returncode}\n{ended.stdout[-8000:]}"
        return ended

    def environment(self, **more: str) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if name not in OURS}
        return kept | {"PATH": f"{self.folder / 'bin'}:{kept['PATH']}"} | more


def build_wheel(folder: Path) -> Path:
    """The wheel as it is published: from the source distribution, by `python -m build`, without a network."""
    _run(sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT))
    (wheel,) = folder.glob("*.whl")
    return wheel


def install(folder: Path, what: Path, dependencies: Iterable[str] = ()) -> Installation:
    """A new environment with a wheel, or with a checkout as an editable installation.

    dependencies: the folders in which its dependencies are found; default, those of the tests' own environment.
    """
    venv.create(folder, with_pip=False, symlinks=True)
    home = Path(sysconfig.get_path("purelib", "venv", {"base": str(folder), "platbase": str(folder)}))
    heavy = set(dependencies) or {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (home / "zz-dependencies.pth").write_text("\n".join(heavy))  # their own .pth files are not followed: no other cfx comes in
    editable = ["--no-build-isolation", "--editable"] if what.is_dir() else []
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install", "--no-deps", "--no-index", "-q"]
    _run(*pip, *editable, str(what))
    prefect = folder / "bin" / "prefect"  # the script of the dependencies' environment would start that one's Python
    prefect.write_text('#!/bin/sh\nexec "$(dirname "$0")/python" -m prefect "$@"\n')
    prefect.chmod(0o755)
    return Installation(folder, what if what.is_dir() else home)


def pins(lock: Path) -> list[Requirement]:
    """The lines of a lock: a version each, and on which platforms."""
    return [
        Requirement(line.removesuffix("\\")) for line in lock.read_text().splitlines() if "==" in line and line[0] not in "# "
    ]


def install_locked(folder: Path, wheel: Path) -> Installation:
    """A new environment with the wheel and what requirements-runtime.lock lists, and nothing else of the tests' environment.

    Packages are linked, not installed: gigabytes. Their versions are those that are here, which `make lock` wrote down. Raises
    PackageNotFoundError for a package of the lock that is not here.
    """
    linked = folder.resolve() / "dependencies"
    linked.mkdir(parents=True)
    for pin in pins(LOCKS[1]):
        if pin.marker is None or pin.marker.evaluate():
            found = metadata.distribution(pin.name)
            for top in {file.parts[0] for file in found.files or ()} - {"..", "__pycache__"}:
                if not (linked / top).exists():
                    (linked / top).symlink_to(Path(str(found.locate_file(top))).resolve())
    return install(folder / "venv", wheel, [str(linked)])


def litter(folder: Path, modules: bool = True, packages: bool = False) -> Path:
    """Data folders of our names, modules of them (whoever imports one fails), and those folders made packages."""
    for name in LYING_ABOUT:
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / "data.csv").write_text("image,label\n")
        if modules:
            (folder / f"{name}.py").write_text(f"raise RuntimeError('the user has a {name}.py, and it was imported')\n")
        if packages:
            (folder / name / "__init__.py").write_text(f"raise RuntimeError('the user has a package {name}')\n")
    return folder


def _run(*command: str) -> None:
    shown: Any = {"text": True, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    environment = {name: value for name, value in os.environ.items() if name not in OURS}
    ended = subprocess.run(command, env=environment, **shown)
    assert ended.returncode == 0, ended.stdout[-5000:]
