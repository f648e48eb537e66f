"""How long a device computed: a thread's CPU time, a GPU's samples; and the share of it that a stage's costs tell."""

import time
from datetime import UTC, datetime, timedelta
from itertools import cycle
from pathlib import Path

import pytest
import torch

from flows.engine import one_thread
from tasks.busy import busy, sampled
from warehouse.facts.shards import write_shard
from warehouse.lens.connect import query

BEGAN = datetime(2025, 1, 1, tzinfo=UTC)


def test_a_cpu_is_busy_while_the_thread_computes_and_not_while_it_waits() -> None:
    started = time.thread_time()
    with busy("cpu") as seconds:
        time.sleep(0.1)
        waited = seconds()
        while time.thread_time() - started < 0.1:
            pass
    assert waited is not None and waited < 0.05 and seconds() == pytest.approx(0.1, abs=0.03)


def test_a_gpu_is_busy_for_the_mean_of_its_samples_and_unknown_without_any() -> None:
    shares, said = cycle((100, 0, 50)), list[int]()

    def utilisation() -> int:
        said.append(next(shares))
        return said[-1]

    started = time.monotonic()
    with sampled(utilisation) as seconds:
        before = seconds()
        while len(said) < 3:
            time.sleep(0.05)
        found, took = seconds(), time.monotonic() - started
    assert before is None and found == pytest.approx(took * sum(said) / len(said) / 100, abs=0.05)
    with sampled(torch.cuda.utilization) as seconds:  # there is no GPU, or it says so
        time.sleep(0.25)
    assert seconds() is None or torch.cuda.is_available()


def test_a_stages_costs_tell_the_share_where_it_is_known(tmp_path: Path) -> None:
    spent = {"a": (8.0, 6.0), "b": (2.0, None), "c": (2.0, 1.0)}  # seconds, and of them the device's; b: before that was kept
    for shard, (seconds, computed) in spent.items():
        row = {"stage": "predictions", "shard": shard, "host": "h", "process": 1, "busy_seconds": computed}
        row |= {"began": BEGAN, "ended": BEGAN + timedelta(seconds=seconds)}
        write_shard(tmp_path, "stages", "r", shard, {name: [value] for name, value in row.items()})
    (cost,) = query(tmp_path, "from stage_costs").to_pylist()
    assert cost["seconds"] == 12 and cost["busy_share"] == pytest.approx(0.7)


def test_float32_is_in_full_while_an_audit_works_and_the_callers_choice_comes_back() -> None:
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32, torch.get_num_threads()
    with one_thread():
        assert not torch.backends.cudnn.allow_tf32 and not torch.backends.cuda.matmul.allow_tf32 and torch.get_num_threads() == 1
    assert (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32, torch.get_num_threads()) == before
