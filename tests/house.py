"""What the house looks like, in numbers:  python -m tests.house --json

max_parameters     most parameters of any function of tasks/ and flows/; `self` and `cls` are none. The commands of the command
                   line are left out: their parameters are its options.
max_options        most options of any command of the command line.
circles            import circles, over imports at the top of modules and inside functions alike; those for type checkers alone
                   are none, because nothing is imported.
each_calls         occurrences of `each(` in the chain of stages, flows/chain.py, and in the flow, flows/audit.py.
files_for_a_stage  files besides tests and docs in the commit that added the example stage; null while there is none.
flow_lines         lines of the chain of an audit's stages, `audited`.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = ("cfx", "warehouse", "tasks", "flows")
EXAMPLE_STAGE = "Properties: measured on every image"  # how the subject of the commit begins

Function = ast.FunctionDef | ast.AsyncFunctionDef


def house(root: Path = ROOT) -> dict[str, object]:
    """The numbers of the table above."""
    chain, flow = ((root / "flows" / f"{name}.py").read_text(encoding="utf-8") for name in ("chain", "audit"))
    audited = next(node for node in ast.parse(chain).body if isinstance(node, Function) and node.name == "audited")
    commands = commands_of(root)
    found = [(path, function) for path in modules(root, "tasks", "flows").values() for function in functions(path)]
    options = {True: [0], False: [0]}
    for path, function in found:
        options[(path, function.name) in commands].append(parameters(function))
    return {
        "max_parameters": max(options[False]),
        "max_options": max(options[True]),
        "circles": circles(imports(root)),
        "each_calls": (chain + flow).count("each("),
        "files_for_a_stage": files_for_a_stage(root),
        "flow_lines": (audited.end_lineno or audited.lineno) - audited.lineno + 1,
    }


def modules(root: Path, *packages: str) -> dict[str, Path]:
    """Dotted name -> file."""
    paths = (path for package in packages for path in sorted((root / package).rglob("*.py")))
    return {".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}


def functions(path: Path) -> Iterator[Function]:
    """Every function of a file, methods and inner ones too."""
    return (node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, Function))


def parameters(function: Function) -> int:
    """How many parameters a function takes; `*args` and `**options` are one each."""
    args = function.args
    names = [arg.arg for arg in (*args.posonlyargs, *args.args, *args.kwonlyargs, args.vararg, args.kwarg) if arg is not None]
    return len(names) - (names[:1] in (["self"], ["cls"]))


def commands_of(root: Path) -> set[tuple[Path, str]]:
    """The command line's commands: what flows/cli.py imports from flows.commands."""
    tree = ast.parse((root / "flows" / "cli.py").read_text(encoding="utf-8"))
    return {
        (root / f"{(node.module or '').replace('.', '/')}.py", alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("flows.commands.")
        for alias in node.names
    }


def imports(root: Path) -> dict[str, set[str]]:
    """Module -> modules of ours that it imports by name."""
    known = modules(root, *PACKAGES)
    return {name: {target for target in _imported(path, known) if target != name} for name, path in known.items()}


def _imported(path: Path, known: dict[str, Path]) -> Iterator[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in _run_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module:
            inside = {f"{node.module}.{alias.name}" for alias in node.names}
            yield from inside & known.keys() or {node.module} & known.keys()


def _run_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """Every node, but what stands under `if TYPE_CHECKING`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING":
            continue
        yield child
        yield from _run_nodes(child)


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Circles of imports, each as the modules along it; one a module at fault, and not every way round."""
    left, found = {name: set(targets) for name, targets in graph.items()}, []
    while True:
        try:
            TopologicalSorter(left).prepare()
        except CycleError as error:
            circle = list(reversed(error.args[1]))  # graphlib names what is imported first
            found.append(circle)
            left[circle[0]].discard(circle[1])
        else:
            return found


def files_for_a_stage(root: Path) -> int | None:
    """Files besides tests and docs that the commit with the example stage touched."""
    commit = _git(root, "log", "--format=%H", f"--grep=^{EXAMPLE_STAGE}", "-1").strip()
    if not commit:
        return None
    touched = _git(root, "show", "--name-only", "--format=", commit).split()
    return sum(name.split("/")[0] not in ("tests", "docs") for name in touched)


def _git(root: Path, *arguments: str) -> str:
    return subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False).stdout


if __name__ == "__main__":
    numbers = house()
    if sys.argv[1:] == ["--json"]:
        print(json.dumps(numbers))  # noqa: T201
    else:
        for name, value in numbers.items():
            print(f"{name:18} {value}")  # noqa: T201
