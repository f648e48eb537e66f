"""Which versions of requirements-runtime.lock have published weaknesses, by pip-audit:  python -m tests.packaging.weaknesses

Ends with 1 for one that nobody has looked at. Where nobody can be asked (no network, a mirror without that knowledge) it
says so, and ends with 0: it has then found nothing out.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.packaging.installations import LOCKS

TRIAGED: dict[str, str] = {}  # the id of a weakness -> why it does not matter here; SECURITY.md says it, too
FIRST = "jinja2==3.1.2"  # an old version of which five weaknesses are published: who does not know them knows none


def found(requirements: Path) -> list[dict[str, Any]] | str:
    """What pip-audit says of each package, or why nothing can be said."""
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(requirements), "--no-deps", "--disable-pip"]
    ended = subprocess.run(
        [*command, "--format", "json", "--progress-spinner", "off"], text=True, capture_output=True, timeout=1200
    )
    try:
        packages: list[dict[str, Any]] = json.loads(ended.stdout)["dependencies"]
    except (ValueError, KeyError):
        return (ended.stderr.strip().splitlines() or ["pip-audit says nothing"])[-1]
    return packages


def weaknesses() -> tuple[int, str]:
    """The exit code, and what to say."""
    with TemporaryDirectory() as folder:
        first = Path(folder) / "first.txt"
        first.write_text(f"{FIRST}\n")
        known = found(first)
    if isinstance(known, str) or not any(package.get("vulns") for package in known):
        why = known if isinstance(known, str) else f"it knows no weakness of {FIRST}"
        return 0, f"not asked: the index in use cannot say which versions have known weaknesses ({why})"
    packages = found(LOCKS[1])
    if isinstance(packages, str):
        return 0, f"not asked: {packages}"
    unasked = [package["name"] for package in packages if "skip_reason" in package]
    new = [(package, weakness) for package in packages for weakness in package.get("vulns", ()) if weakness["id"] not in TRIAGED]
    lines = [
        f"{package['name']} {package['version']}: {weakness['id']}, mended in {', '.join(weakness['fix_versions']) or 'none'}"
        for package, weakness in new
    ]
    lines.append(
        f"{len(packages)} packages, {len(new)} weaknesses that nobody has looked at; not known to the index: {len(unasked)}"
    )
    return int(bool(new)), "\n".join(lines)


if __name__ == "__main__":
    code, said = weaknesses()
    print(said)  # noqa: T201
    sys.exit(code)
