"""A real deployment's run, executed as a worker does it: what its parameters name is imported only if the operator lists it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client

from benchmarks.toy_audit import lay_out, settings, write_settings
from flows.deployed import nightly

NETWORK = """
from pathlib import Path

Path(PLACE).touch()


def make():
    raise ValueError("it was called")
"""


@pytest.mark.long
def test_a_deployed_audit_imports_only_what_its_operator_lists(prefect_server: dict[str, str], tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    lay_out(root, 4)
    # Prefect copies the folder before it runs: where it was imported from is gone afterwards.
    (root / "their_nets.py").write_text(NETWORK.replace("PLACE", repr(str(root / "imported"))))
    theirs = {name: {"module": name, "classes": ["not_smiling", "smiling"]} for name in ("their_nets:make", "subprocess:Popen")}
    own, python = (write_settings(root, settings(root, 2, classifier=theirs[n]), f"{n[:5]}.yaml") for n in theirs)
    (tmp_path / "outside.yaml").write_text(own.read_text())

    def message_of(config: str, **environment: str) -> str:
        run = client.create_flow_run_from_deployment(deployment, parameters={"config": config})
        command = [sys.executable, "-m", "prefect", "flow-run", "execute", str(run.id)]
        subprocess.run(
            command, cwd=root, env=os.environ | prefect_server | environment, capture_output=True, timeout=300, check=False
        )
        state = client.read_flow_run(run.id).state
        assert state is not None and state.is_failed()
        return str(state.message)

    with get_client(sync_client=True) as client:
        deployment = client.create_deployment(client.create_flow(nightly), "confined", entrypoint="flows.deployed.nightly")
        assert "'their_nets:make' may not be imported: this is a deployment" in message_of(own.name)
        assert "'subprocess:Popen' is of Python's standard library" in message_of(python.name, CFX_ALLOWED_MODULES="subprocess")
        assert "'../outside.yaml' is outside the folders of this deployment" in message_of("../outside.yaml")
        assert not (root / "imported").exists()
        assert "it was called" in message_of(own.name, CFX_ALLOWED_MODULES="their_nets")
        assert (root / "imported").exists()
