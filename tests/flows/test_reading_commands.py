"""The commands that read answer without torch and Prefect, and `python -m` runs the same command line as `cfx`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from portrait_run import write_portrait_run

HOME = Path(__file__).parents[2]
HEAVY = ("torch", "torchvision", "diffusers", "transformers", "prefect", "lpips", "sklearn", "scipy", "matplotlib", "captum")
PROGRAM = f"""
import sys
from flows.cli import app
try:
    app(sys.argv[1:], prog_name="cfx")
finally:
    print("imported:", *(name for name in {HEAVY} if name in sys.modules), file=sys.stderr)
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reading") / "warehouse"
    write_portrait_run(folder, "planted-run", n=8)
    write_portrait_run(folder, "clean-run", n=8, planted=False)
    return folder


def run(*command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *command], cwd=cwd, env={"PYTHONPATH": str(HOME)}, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ("--help", 0, "Audit image classifiers"),
        ("query|select 1 as one", 0, "1"),
        ("views|runs", 0, "config_hash"),
        ("views", 0, "scorecard"),
        ("gate|nosuch", 2, "there is no run 'nosuch' in"),
        ("gate|planted-run", 3, "gate: inconclusive"),
        ("compare|planted-run|clean-run", 0, "explanations in both"),
        ("compare|planted-run|nosuch", 2, "there is no run 'nosuch' in"),
        ("report|nosuch", 2, "there is no run 'nosuch' in"),
        ("verify|nosuch", 2, "there is no run 'nosuch' in"),
        ("export|nosuch", 2, "there is no run 'nosuch' in"),
        ("publish|card|nosuch", 2, "there is no run 'nosuch' in"),
        ("export|annex-iv|nosuch", 2, "there is no run 'nosuch' in"),
        ("prune|--days|0|--keep|0", 0, "planted-run: would be deleted"),
    ],
)
def test_a_reading_command_imports_no_torch(root: Path, tmp_path: Path, arguments: str, code: int, words: str) -> None:
    place = [] if arguments == "--help" else ["--warehouse", str(root)]
    done = run("-c", PROGRAM, *arguments.split("|"), *place, cwd=tmp_path)
    assert words in done.stdout + done.stderr
    assert done.stderr.splitlines()[-1] == "imported:", done.stderr
    assert done.returncode == code


def test_a_policy_from_a_file_needs_no_torch_either(root: Path, tmp_path: Path) -> None:
    (tmp_path / "gate.yaml").write_text("maximun_effect: 0.2\n")
    done = run("-c", PROGRAM, "gate", "planted-run", "--policy", "gate.yaml", "-w", str(root), cwd=tmp_path)
    assert done.returncode == 2
    assert "gate.yaml: maximun_effect: there is no such setting; did you mean 'maximum_effect'?" in done.stderr
    assert done.stderr.splitlines()[-1] == "imported:"


ONE_BY_ONE = f"""
import sys
from flows.cli import app
for line in sys.stdin.read().splitlines():
    try:
        app(line.split(), prog_name="cfx")
    except SystemExit as ended:
        print("imported:", *(name for name in {HEAVY} if name in sys.modules), "by", line, "code", ended.code, flush=True)
"""


def test_what_cannot_begin_is_refused_before_torch_is_imported(root: Path, tmp_path: Path) -> None:
    """And so is what is only listed. One process runs them all; each is named by the first that imports anything heavy."""
    (tmp_path / "bad.yaml").write_text("classifer: {weights: a.pt}\n")
    ends = {
        "--version": 0,
        f"runs -w {root}": 0,
        f"trend nosuch -w {root}": 2,
        f"repair nosuch -w {root}": 2,
        f"propose nosuch --model no/model -w {root}": 2,
        f"serve --host 0.0.0.0 -w {root}": 2,
        "audit nosuch.yaml": 2,
        "audit nosuch.yaml --plan": 2,
        "check nosuch.yaml": 2,
        "explain nosuch.png": 2,
        "explain bad.yaml --config nosuch.yaml": 2,
        "audit --help": 0,
    }
    command = [sys.executable, "-c", ONE_BY_ONE]
    done = subprocess.run(
        command, cwd=tmp_path, env={"PYTHONPATH": str(HOME)}, capture_output=True, text=True, input="\n".join(ends)
    )
    said = [line for line in done.stdout.splitlines() if line.startswith("imported:")]
    assert said == [f"imported: by {command} code {code}" for command, code in ends.items()], done.stderr
    assert done.stderr.count("nosuch.yaml: no such file") == 4
    assert "http://" not in done.stdout, "an address that is refused is not printed as one that answers"


def completed(words: str, cwd: Path) -> list[str]:
    """What bash would offer for the last of these words, as Typer's protocol says; standard error must be empty."""
    known = {"_CFX_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split(" ")) - 1)}
    env = {"PYTHONPATH": str(HOME)} | known
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=cwd, env=env, capture_output=True, text=True)
    assert done.stderr.splitlines() == ["imported:"]
    return done.stdout.split()


def test_a_shell_completes_run_ids_without_torch(root: Path, tmp_path: Path) -> None:
    assert completed(f"cfx gate -w {root} pl", tmp_path) == ["planted-run"]
    assert completed("cfx report ", tmp_path) == [], "there is no default warehouse here, and a shell shows no message"
    (tmp_path / "cfx-demo").mkdir()
    (tmp_path / "cfx-demo" / "warehouse").symlink_to(root)
    assert completed("cfx compare planted-run ", tmp_path) == ["clean-run", "planted-run", "latest"]


@pytest.mark.parametrize("module", ["cfx", "flows.cli"])
def test_python_m_runs_the_command_line(root: Path, tmp_path: Path, module: str) -> None:
    shown = run("-m", module, "--help", cwd=tmp_path)
    assert shown.returncode == 0 and "Usage: cfx [OPTIONS] COMMAND" in shown.stdout
    answer = run("-m", module, "query", "select 1 + 1 as two", "--format", "json", "-w", str(root), cwd=tmp_path)
    assert (answer.returncode, answer.stdout.strip()) == (0, '[{"two": 2}]')
    assert run("-m", module, "gate", "nosuch", "-w", str(root), cwd=tmp_path).returncode == 2
