"""The same audit on threads, and on two processes of Dask and of Ray: the same facts; and slots of GPUs."""

import os
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
from prefect.concurrency.asyncio import ConcurrencySlotAcquisitionError
from prefect.concurrency.sync import concurrency

from benchmarks.toy_audit import fact_hashes, lay_out, settings
from cfx.errors import ConfigError
from flows.audit import run_audit
from flows.deployed import nightly
from tasks.config import AuditConfig
from warehouse.lens.connect import query

pytestmark = pytest.mark.slow
TIMED = "seconds > 0 and wall_seconds > 0 and busy_share > 0 and busy_share < 1.01"
COSTS = f"select stage, shards, workers, nfe_forward, {TIMED} as timed from stage_costs order by stage"
WORKERS = "select process from stages where process <> $own"  # of any stage: Ray's second may start late


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory, prefect_server: dict[str, str]) -> Path:
    folder = tmp_path_factory.mktemp("engine")
    lay_out(folder, 8)
    run_audit(AuditConfig.model_validate(settings(folder, 2)))
    return folder


def test_what_a_stage_cost_is_a_fact(local: Path) -> None:
    costs = {row["stage"]: row for row in query(local / "warehouse", COSTS).to_pylist()}
    (evaluations,) = query(local / "warehouse", "select sum(nfe_forward) as n from explanations").to_pylist()
    assert {stage: costs[stage]["shards"] for stage in ("images", "predictions", "explanations")} == dict.fromkeys(
        ("images", "predictions", "explanations"), 4
    )
    assert costs["explanations"]["nfe_forward"] == evaluations["n"] > 0
    assert costs["predictions"]["nfe_forward"] is None
    assert all(row["timed"] and row["workers"] == 1 for row in costs.values())


@pytest.mark.long
@pytest.mark.parametrize("engine", ["dask", "ray"])
@pytest.mark.filterwarnings("ignore")  # of the two packages themselves
def test_two_processes_write_the_same_facts(local: Path, engine: str) -> None:
    there = AuditConfig.model_validate(settings(local, 2, engine=engine, workers=2, warehouse=str(local / engine)))
    run_audit(there)
    facts, same = fact_hashes(there.warehouse), fact_hashes(local / "warehouse")
    assert {**facts, "runs": ""} == {**same, "runs": ""}  # a run's row tells its configuration, and so its engine
    assert len(set(query(there.warehouse, WORKERS, {"own": os.getpid()})["process"].to_pylist())) >= 2


def test_an_audit_waits_for_a_slot_and_one_without_such_a_limit_is_refused(
    prefect_server: dict[str, str], tmp_path: Path
) -> None:
    """The configuration is not there: that is reported as soon as the audit has its slot, and not before."""
    nowhere = tmp_path / "nowhere.yaml"
    with pytest.raises(ConcurrencySlotAcquisitionError, match="cards"):
        nightly(nowhere, slots="cards")
    with get_client(sync_client=True) as client:
        client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name="cards", limit=1))
    with ThreadPoolExecutor(1) as other:
        with concurrency("cards", occupy=1, strict=True):
            waiting = other.submit(nightly, nowhere, slots="cards")
            assert wait([waiting], timeout=5).not_done
        with pytest.raises(ConfigError, match="nowhere"):
            waiting.result(timeout=60)
