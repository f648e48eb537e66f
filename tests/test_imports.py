"""The arrows between the packages: cfx and warehouse stand alone, tasks join them, flows chain the tasks."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = {"cfx", "warehouse", "tasks", "flows"}
ALLOWED = {"cfx": set(), "warehouse": set(), "tasks": {"cfx", "warehouse"}, "flows": {"cfx", "warehouse", "tasks"}}
DOORS = {  # what users look for in cfx: cfx.audit(...), cfx.open(...), and the command line as `python -m cfx`
    ("cfx/__init__.py", "warehouse.lens.notebook"),
    ("cfx/__init__.py", "flows.notebook"),
    ("cfx/__main__.py", "flows.cli"),
}
# Kinds of failure, what must not be written, what goes with its process, the version: light, and about no package.
EVERYWHERE = {"cfx.errors", "cfx.credentials", "cfx.masking", "cfx.scratch", "cfx.version"}
HEAVY = {"torch", "torchvision", "diffusers", "lpips"}  # warehouse is Arrow and SQL: querying must not load a tensor library


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_a_package_imports_only_what_its_arrow_allows(package):
    forbidden = PACKAGES - ALLOWED[package] - {package} | (HEAVY if package == "warehouse" else set())
    for path in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            place = str(path.relative_to(ROOT))
            wrong = {
                name
                for name in names
                if name.split(".")[0] in forbidden and (place, name) not in DOORS and name not in EVERYWHERE
            }
            assert not wrong, f"{place}:{getattr(node, 'lineno', 0)} imports {', '.join(wrong)}"


def test_programs_of_cfx_take_memory_for_arrow_from_the_system():
    inherited = {name: value for name, value in os.environ.items() if name != "ARROW_DEFAULT_MEMORY_POOL"}
    said = "import flows, pandas, pyarrow; print(pyarrow.default_memory_pool().backend_name)"
    ran = subprocess.run([sys.executable, "-c", said], cwd=ROOT, env=inherited, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "system"
