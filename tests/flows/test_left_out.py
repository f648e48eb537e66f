"""Every optional part of an audit may be left out: it runs, without a request to anywhere, and says what is missing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from benchmarks.toy_audit import lay_out, settings, write_settings

ROOT = Path(__file__).parents[2]
N = 26  # images: of fewer than 24 the stage beyond names looks at nothing
OUTSIDE = 97  # exit code of a process that wants to leave the machine; nothing can catch it
BLOCKED = f"""
import os, socket, sys

def inside(host):
    host = host.decode() if isinstance(host, bytes) else str(host)
    return host in ("", "None", "localhost", "::1", "0.0.0.0", "::", socket.gethostname()) or host.startswith("127.")

def guarded(function, host_of):
    def call(*arguments, **named):
        host = host_of(*arguments)
        if not inside(host):
            os.write(2, f"wanted to reach {{host!r}}\\n".encode())
            os._exit({OUTSIDE})
        return function(*arguments, **named)
    return call

def of_address(_, *arguments):
    return arguments[-1][0] if isinstance(arguments[-1], tuple) else ""  # a path, of a socket in the file system

for name in ("connect", "connect_ex", "sendto"):
    setattr(socket.socket, name, guarded(getattr(socket.socket, name), of_address))
for name in ("getaddrinfo", "gethostbyname"):
    setattr(socket, name, guarded(getattr(socket, name), lambda host, *_: host))
"""
COMMANDS = """
import json, sys
from typer.testing import CliRunner
from flows.cli import app
for arguments in json.load(sys.stdin):
    ended = CliRunner().invoke(app, arguments)
    print("ENDED", json.dumps([ended.exit_code, ended.stdout, ended.stderr]), flush=True)
"""


class Ended(NamedTuple):
    """A command that ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def last(self) -> dict[str, Any]:
        """The JSON object of its last line."""
        found: dict[str, Any] = json.loads(self.stdout.splitlines()[-1])
        return found


def within(folder: Path, program: str, text: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """A Python program that can reach this machine alone, and so can each process that it starts."""
    (folder / "blocked").mkdir(exist_ok=True)
    (folder / "blocked" / "sitecustomize.py").write_text(BLOCKED)
    paths = os.pathsep.join([str(folder / "blocked"), str(ROOT)])
    command = [sys.executable, "-c", program]
    return subprocess.run(
        command, input=text, text=True, capture_output=True, env=os.environ | environment | {"PYTHONPATH": paths}, cwd=folder
    )


def commands(folder: Path, server: dict[str, str], *arguments: list[str]) -> list[Ended]:
    """Commands of cfx, one after another, in a process that can reach this machine alone."""
    done = within(folder, COMMANDS, json.dumps(arguments), **server)
    assert done.returncode == 0, done.stderr[-4000:]
    lines = [line.removeprefix("ENDED ") for line in done.stdout.splitlines() if line.startswith("ENDED ")]
    return [Ended(*json.loads(line)) for line in lines]


def left_out(folder: Path, part: str) -> dict[str, Any]:
    """The settings of an audit that has all but this part."""
    kept = settings(folder, 32, judge={"weights": str(folder / "classifier.safetensors")}, warehouse=str(folder / part))
    data, without = kept["data"], kept | {"prior": None, "judge": None}
    match part:
        case "table":
            return {key: without[key] for key in ("warehouse", "classifier", "device")} | {
                "data": {"images": data["images"], "size": 16}
            }
        case "label_column":
            return without | {"data": {key: data[key] for key in data if key != "label_column"}}
        case "attributes":
            return without | {"data": data | {"attribute_columns": []}, "oracle": None, "target_attribute": None}
        case "target_attribute" | "saliency":
            return without | {part: None}
        case "oracle":
            return kept | {"data": data | {"limit": 6}, "oracle": None, "target_attribute": None}
    return kept | {part: None}


MISSING = {  # by the part that is left out: the layers that are told
    "table": {"labels", "attributes", "counterfactuals", "judge", "masks"},
    "label_column": {"labels", "counterfactuals", "judge", "masks"},
    "attributes": {"attributes", "counterfactuals", "judge", "masks"},
    "target_attribute": {"counterfactuals", "judge", "masks"},
    "saliency": {"counterfactuals", "judge", "masks"},
    "oracle": {"attributes", "masks"},
}


QUICK = ("table", "oracle")  # images and a classifier alone; and one with a prior


def audits_without(folder: Path, server: dict[str, str], parts: Sequence[str]) -> dict[str, list[Ended]]:
    """`cfx check` and `cfx audit --json` by the part that is left out."""
    lay_out(folder, N)
    paths = [str(write_settings(folder, left_out(folder, part), f"Without {part}.yaml")) for part in parts]
    ended = commands(folder, server, *([name, path, "--json"] for path in paths for name in ("check", "audit")))
    assert [(one.code, one.stderr[-2000:]) for one in ended if one.code] == []
    return {part: ended[2 * i : 2 * i + 2] for i, part in enumerate(parts)}


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory, prefect_server: dict[str, str]) -> dict[str, list[Ended]]:
    return audits_without(tmp_path_factory.mktemp("left-out"), prefect_server, QUICK)


def test_nothing_but_this_machine_can_be_reached_there(tmp_path: Path) -> None:
    for program in (
        "import socket; socket.create_connection(('192.0.2.1', 80), 1)",
        "import urllib.request; urllib.request.urlopen('http://example.org', timeout=1)",
        "import subprocess, sys; sys.exit(subprocess.call([sys.executable, '-c', 'import socket; socket.gethostbyname(`x.y`)']))",
    ):
        ended = within(tmp_path, program.replace("`", '"'))
        assert ended.returncode == OUTSIDE and "wanted to reach" in ended.stderr
    served = "import socket; s = socket.create_server(('127.0.0.1', 0)); socket.create_connection(s.getsockname()); print('home')"
    assert within(tmp_path, served).stdout == "home\n"


@pytest.mark.slow
@pytest.mark.parametrize("part", QUICK)
def test_an_audit_without_it_ends_and_says_what_it_did_not_look_at(audited: dict[str, list[Ended]], part: str) -> None:
    assert_told(part, *audited[part])


@pytest.mark.slow
@pytest.mark.long
def test_so_does_one_without_any_other_part(tmp_path: Path, prefect_server: dict[str, str]) -> None:
    found = audits_without(tmp_path, prefect_server, [part for part in MISSING if part not in QUICK])
    for part, ended in found.items():
        assert_told(part, *ended)


def assert_told(part: str, checked: Ended, ended: Ended) -> None:
    """What is missing is told by check, by the audit's last lines, in its JSON and on its page, each with the line that adds it;
    and nothing is cleared."""
    for layers in (checked.last["layers"], ended.last["layers"]):
        assert {layer["layer"] for layer in layers if layer["there"] is False} == MISSING[part]
    lines = [line for line in ended.stdout.splitlines() if line.startswith("not looked at: ")]
    assert len(lines) == len(MISSING[part]) <= 6 and set(lines) < set(checked.stdout.splitlines())
    found, page = ended.last, Path(ended.last["report"]).read_text()
    assert "What this audit did not look at" in page
    for layer in found["layers"]:
        assert (f"<code>{layer['line']}</code>" in page) == (layer["layer"] in MISSING[part])
    assert found["run"] == found["run_id"] and Path(found["report"]).name == f"{found['run']}.html"
    assert found["verdict"] == found["gate"] == "inconclusive"  # few images, and most of the audit left out
    assert f"{found['verdict']}: {found['headline']}" in ended.stdout and "no reliance" not in found["headline"].lower()
    assert all({"kind", "name", "verdict", "why"} <= set(row) for row in found["findings"])


@pytest.mark.slow
def test_images_and_a_classifier_alone_are_called_like_their_file_and_nothing_named_is_said_so(
    audited: dict[str, list[Ended]],
) -> None:
    ended = audited["table"][1]
    assert ended.last["run"].startswith("without-table-")
    page = Path(ended.last["report"]).read_text()
    assert "Nothing was cleared, because nothing was named" in page
    assert "None: no attribute was tested." in page and "None: this audit has no model that draws" in page


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("part", ["judge", "target_attribute", "saliency", "prior"])
def test_of_a_whole_audit_one_part_is_left_out(tmp_path: Path, prefect_server: dict[str, str], part: str) -> None:
    lay_out(tmp_path, N)
    whole = settings(tmp_path, 32, judge={"weights": str(tmp_path / "classifier.safetensors")})
    path = write_settings(tmp_path, whole | {part: None})
    (ended,) = commands(tmp_path, prefect_server, ["audit", str(path), "--json"])
    assert ended.code == 0, ended.stderr
    told = {layer["layer"] for layer in ended.last["layers"] if layer["there"] is False}
    assert told == {"masks"} | ({"judge": {"judge"}, "prior": {"counterfactuals"}}.get(part) or set())
