"""Installed from a wheel, and as an editable checkout: nothing that a person has lying about is taken for the product."""

import json
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import httpx
import nbformat
import pytest
from chromium import chromium_page
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

import cfx
from benchmarks.deployment import Stack, until
from benchmarks.toy_audit import lay_out, settings, write_settings
from cfx.portraits import write_portraits
from flows.demo_of import TRAINED
from tests.foreign_page import answers_to
from tests.packaging.installations import PACKAGES, ROOT, Installation, litter
from tests.servers import Inbox
from warehouse.facts.storage import files_below

WHERE = """
import importlib, json
from importlib.resources import files
assert (files("warehouse") / "views" / "scorecard.sql").read_text()
print(json.dumps({name: importlib.import_module(name).__file__ for name in ("cfx", "warehouse", "tasks", "flows")}))
"""
LYING = {"folders": {"modules": False}, "modules": {}, "packages": {"packages": True}}
NETWORK = """
import torch

def make():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv2d(3, 2, 4, 4), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())

class Bright(torch.nn.Module):
    def forward(self, x):
        brightness = 30 * x.mean((1, 2, 3))
        return torch.stack([-brightness, brightness], 1)

def bright():
    return Bright()
"""


def test_the_wheel_holds_all_that_an_audit_reads(wheel: Path) -> None:
    held = set(ZipFile(wheel).namelist())
    tracked = [path for package in PACKAGES for path in (ROOT / package).rglob("*") if path.is_file()]
    wanted = {str(path.relative_to(ROOT)) for path in tracked if "__pycache__" not in path.parts}
    wanted |= {f"flows/examples/{name}/{part}.py" for name in TRAINED for part in ("network", "train")}
    assert wanted == {name for name in held if name.split("/")[0] in PACKAGES}
    assert {f"{name}/py.typed" for name in PACKAGES} <= held
    assert {"cfx/weights/portraits/prior/unet/config.json", "warehouse/views/cd.sql"} <= held


@pytest.mark.parametrize("lying", LYING)
def test_python_finds_the_product_where_everything_of_its_names_lies_about(
    installation: Installation, lying: str, tmp_path: Path
) -> None:
    folder = litter(tmp_path, **LYING[lying])
    (folder / "own_script.py").write_text(WHERE)
    starts = {
        "-c": ("python", "-c", WHERE),
        "-m": ("python", "-m", "own_script"),  # as workers start
        "script": ("python", "own_script.py"),
    }
    for start, command in starts.items():
        found = json.loads(installation.run(*command, cwd=folder).stdout)
        assert found == {name: str(installation.home / name / "__init__.py") for name in PACKAGES}, start
    assert installation.run("cfx", "--version", cwd=folder).stdout.split() == ["cfx", cfx.__version__]


def test_a_checkout_named_by_pythonpath_comes_before_an_installed_copy(from_wheel: Installation, tmp_path: Path) -> None:
    found = json.loads(from_wheel.run("python", "-c", WHERE, cwd=litter(tmp_path), PYTHONPATH=str(ROOT)).stdout)
    assert found == {name: str(ROOT / name / "__init__.py") for name in PACKAGES}


def test_a_users_own_module_of_such_a_name_is_theirs_where_cfx_is_not_installed_beside_it(
    from_wheel: Installation, tmp_path: Path
) -> None:
    """Only the four names are looked for elsewhere: `tests` and `utils` of the current folder are the user's as ever."""
    for name in ("tests", "utils"):
        (tmp_path / f"{name}.py").write_text("mine = True\n")
    assert (
        from_wheel.run("python", "-c", "import tests, utils; print(tests.mine, utils.mine)", cwd=tmp_path).stdout == "True True\n"
    )


def test_the_version_has_one_source(from_wheel: Installation, editable: Installation, tmp_path: Path) -> None:
    asked = "import cfx, importlib.metadata as m; print(cfx.__version__, m.version('cfx-audit'))"
    for installation in (from_wheel, editable):
        assert installation.run("python", "-c", asked, cwd=tmp_path).stdout.split() == [cfx.__version__] * 2


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything lying about, an audit's YAML, and beside it the network that it names."""
    folder = litter(tmp_path_factory.mktemp("audited"))
    lay_out(folder, 4)
    (folder / "my_net.py").write_text(NETWORK)
    return folder


def own_network(folder: Path, **more: object) -> dict[str, object]:
    theirs = {"module": "my_net:make", "classes": ["not_smiling", "smiling"]}
    return settings(folder, 2, classifier=theirs, **{"warehouse": "warehouse", **more})


@pytest.mark.slow
def test_an_audit_from_elsewhere_runs_into_a_folder_named_warehouse_and_python_opens_it(
    from_wheel: Installation, audited: Path, tmp_path: Path, prefect_server: dict[str, str]
) -> None:
    """The user's network is found beside the YAML file; from there the worker starts below."""
    run = audited_from(litter(tmp_path), from_wheel, audited, prefect_server)
    asked = "import cfx; print(*cfx.open('warehouse').sql('from runs').run_id)"
    assert run["run_id"] in from_wheel.run("python", "-c", asked, cwd=audited).stdout.split()


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("installation", ["from_wheel", "editable"], indirect=True)
def test_the_same_audit_from_two_folders_is_the_same_run(
    installation: Installation, audited: Path, tmp_path: Path, prefect_server: dict[str, str]
) -> None:
    runs = [audited_from(folder, installation, audited, prefect_server) for folder in (audited, litter(tmp_path))]
    assert runs[0] == runs[1]


def audited_from(folder: Path, installation: Installation, audited: Path, there: dict[str, str]) -> dict[str, Any]:
    """What `cfx audit`, started in this folder, says as JSON."""
    path = write_settings(audited, own_network(audited))
    found: dict[str, Any] = json.loads(
        installation.run("cfx", "audit", str(path), "--json", cwd=folder, **there).stdout.splitlines()[-1]
    )
    return found


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("engine", ["dask", "ray"])
def test_processes_of_dask_and_ray_find_the_product_and_the_users_network(
    from_wheel: Installation, audited: Path, tmp_path: Path, prefect_server: dict[str, str], engine: str
) -> None:
    more = {"warehouse": f"in-{engine}", "engine": engine, "workers": 1}
    path = write_settings(audited, own_network(audited, **more), f"{engine}.yaml")
    lines = from_wheel.run("cfx", "audit", str(path), "--json", cwd=litter(tmp_path), **prefect_server).stdout.splitlines()
    assert json.loads(next(line for line in reversed(lines) if line.startswith("{")))["run_id"].startswith("toy-")


OFTEN = {"PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "3", "PREFECT_WORKER_QUERY_SECONDS": "3"}
PASSES = {"forbidden": [], "explained": False, "minimum_images": 1, "minimum_flip_rate": None, "minimum_judge_flip_rate": None}


@pytest.fixture(scope="module")
def inbox(audited: Path) -> Iterator[Inbox]:
    """Where alarms go, and where the reports of the audits by the worker are read."""
    reports = audited / "by-worker" / "reports"
    reports.mkdir(parents=True)
    with Inbox(reports) as inbox:
        yield inbox


@pytest.fixture(scope="module")
def stack(from_wheel: Installation, audited: Path, inbox: Inbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The commands of docs/how-to/production.md, in no checkout: prefect.yaml, zombies.yaml and a .venv are there. An audit is
    scheduled in five seconds, and alarms go to the inbox."""
    for name in ("prefect.yaml", "zombies.yaml"):
        shutil.copy(ROOT / name, audited)
    (audited / ".venv").symlink_to(from_wheel.folder)
    more = {"warehouse": "by-worker", "report_url": f"{inbox.url}/", "gate": PASSES}
    path = write_settings(audited, own_network(audited, **more), "nightly.yaml")
    with Stack(
        tmp_path_factory.mktemp("stack"),
        path,
        audited,
        None,
        PYTHONPATH="",
        CFX_ALARM_URL=inbox.url,
        CFX_ALLOWED_MODULES="my_net",
        **OFTEN,
    ) as stack:
        stack.schedule(seconds=5)
        stack.run("cfx alarm webhook")
        yield stack


def artifacts_of(stack: Stack, run: str) -> dict[str, Any]:
    """A flow run's artifacts by their keys."""
    found = stack.request("POST", "/artifacts/filter", json={"flow_runs": {"id": {"any_": [run]}}})
    return {item["key"]: item for item in found}


def child_of(stack: Stack, run: str) -> Any:
    (child,) = stack.request("POST", "/flow_runs/filter", json={"flow_runs": {"parent_flow_run_id": {"any_": [run]}}})
    return child


@pytest.mark.slow
def test_the_documented_commands_bring_up_a_scheduled_audit_from_a_folder_with_everything_lying_about(
    stack: Stack, audited: Path, inbox: Inbox
) -> None:
    """And a person sees it: progress, verdict, scorecard, report and fingerprints. Its gate passes: nobody is woken."""
    deployed = {item["name"] for item in stack.request("POST", "/deployments/filter", json={})}
    assert deployed == {"audit", "audit-gpu", "train", "benchmark"}
    run = stack.scheduled()
    assert stack.ended(run) == "COMPLETED", Path(stack.log.name).read_text()[-5000:]
    child = child_of(stack, run)
    kinds = {key: item["type"] for key, item in artifacts_of(stack, child["id"]).items()}
    assert list((audited / "by-worker" / "reports").glob("toy-*.html"))
    assert len(files_below(audited / "by-worker/facts/explanations", "*/*.parquet")) == 2
    seen = {"progress": "progress", "verdict": "markdown", "scorecard": "table", "report": "markdown", "fingerprints": "markdown"}
    assert {f"toy-{name}": kind for name, kind in seen.items()}.items() <= kinds.items()
    assert child["name"] == "toy"
    assert sorted(tag.partition(":")[0] for tag in child["tags"]) == ["cfx", "code", "config"]
    assert artifacts_of(stack, run).keys() == {"toy-verdict", "toy-report"}
    message = stack.request("GET", f"/flow_runs/{run}")["state"]["message"]
    assert message.startswith("Release check passed: all ") and inbox.letters == []


@pytest.mark.slow
def test_a_failing_gate_ends_the_run_failed_and_sends_one_alarm_with_a_link_that_opens(
    stack: Stack, audited: Path, inbox: Inbox
) -> None:
    write_portraits(audited / "more", 48, seed=6, size=16)
    bright = {"module": "my_net:bright", "classes": ["not_smiling", "smiling"]}
    data = {"images": "more/images", "table": "more/attributes.csv", "label_column": "label", "size": 16}
    policy = {"minimum_images": 24, "explained": False}
    shared = {"warehouse": "by-worker", "report_url": f"{inbox.url}/", "device": "cpu"}
    path = write_settings(audited, {"name": "dark", "data": data, "classifier": bright, "gate": policy, **shared}, "dark.yaml")
    run = stack.start(config=str(path))
    assert stack.ended(run) == "FAILED"
    ended, (letter,) = time.monotonic(), until(lambda: inbox.letters, 60)
    parent, child = stack.request("GET", f"/flow_runs/{run}"), child_of(stack, run)
    message = parent["state"]["message"]
    assert message.startswith("Release check failed: brightness shifts the ") and child["state"]["message"] == message
    assert child["state"]["type"] == "FAILED" and parent["run_count"] == child["run_count"] == 1
    assert (letter["event"], letter["audit"], letter["message"]) == ("cfx.gate.fail", "dark", message)
    assert (letter["details"]["verdict"], letter["flow_run"].rpartition("/")[2]) == ("fail", run)
    for flow_run in (run, child["id"]):
        shown = artifacts_of(stack, flow_run)
        assert shown["dark-verdict"]["data"].startswith(f"## Release check failed\n\n- {message.partition(': ')[2]}")
        (link,) = re.findall(r"\]\((.*)\)", shown["dark-report"]["data"])
        page = httpx.get(link)
        assert link == letter["details"]["report"] and page.status_code == 200 and "brightness" in page.text
    time.sleep(max(0.0, ended + 3 - time.monotonic()))
    assert len(inbox.letters) == 1


@pytest.mark.slow
@pytest.mark.browser
def test_strangers_and_other_sites_are_refused_by_the_documented_server(stack: Stack, inbox: Inbox) -> None:
    api = str(stack.client.base_url).rstrip("/")
    foreign = {"Origin": "https://elsewhere.example", "Access-Control-Request-Method": "POST"}
    assert httpx.get(f"{api}/health").status_code == 200
    assert httpx.post(f"{api}/flow_runs/filter", json={}).status_code == 401
    assert httpx.post(f"{api}/flow_runs/filter", json={}, auth=("admin", "guess")).status_code == 401
    assert httpx.options(f"{api}/deployments/", headers=foreign).status_code == 400
    own = httpx.options(f"{api}/deployments/", headers=foreign | {"Origin": f"http://127.0.0.1:{stack.port}"})
    assert own.status_code == 200 and (before := stack.request("POST", "/flow_runs/filter", json={}))
    with chromium_page() as page:  # and in a real browser, in all the ways that a page can ask
        url = f"{api}/deployments/{stack.deployment()}/create_flow_run"
        assert set(answers_to(page, inbox.url, url, stack.key).values()) == {"TypeError", 0}
    assert len(stack.request("POST", "/flow_runs/filter", json={})) == len(before)


def test_a_notebooks_kernel_finds_the_product(from_wheel: Installation, tmp_path: Path) -> None:
    specification = KernelSpec(
        argv=[str(from_wheel.python), "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        display_name="theirs",
        language="python",
        env={"PYTHONPATH": ""},
    )

    class Only(KernelSpecManager):
        def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
            return specification

    class Theirs(AsyncKernelManager):
        kernel_spec_manager = Only()

    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(WHERE)])
    there = {"metadata": {"path": str(litter(tmp_path))}}
    NotebookClient(notebook, timeout=120, kernel_manager_class=Theirs, resources=there).execute()
    found = json.loads(notebook.cells[0].outputs[0].text)
    assert found == {name: str(from_wheel.home / name / "__init__.py") for name in PACKAGES}
