"""Where shards are worked on: threads of this process, or the processes of a Dask or Ray cluster; the flow is the same."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import torch

from cfx.allowed import check_cluster
from cfx.errors import ConfigError
from cfx.user_code import importable_from
from tasks.config import AuditConfig

if TYPE_CHECKING:  # threads of a notebook need none of it
    from prefect.futures import PrefectFuture
    from prefect.task_runners import TaskRunner

Runner: TypeAlias = "TaskRunner[PrefectFuture[Any]]"


def shards_at_a_time(config: AuditConfig) -> int:
    """As the configuration says, or one a GPU, or one a CPU core: two compute threads a core are many times slower."""
    gpus = torch.cuda.device_count() if config.device != "cpu" else 0
    return config.workers or gpus or os.cpu_count() or 1


def runner_for(config: AuditConfig) -> Runner:
    """The task runner of the configured engine. Raises ConfigError where its package is not installed."""
    if config.cluster is not None:
        check_cluster(config.engine, config.cluster)
    at_a_time, gpus = shards_at_a_time(config), torch.cuda.device_count() if config.device != "cpu" else 0
    try:
        if config.engine == "dask":
            from prefect_dask import DaskTaskRunner

            if config.cluster is not None:
                return cast("Runner", DaskTaskRunner(address=config.cluster))
            here = {"n_workers": at_a_time, "threads_per_worker": 1, "host": "127.0.0.1", "dashboard_address": None}
            return cast("Runner", DaskTaskRunner(cluster_kwargs=here | ({"resources": {"GPU": 1}} if gpus else {})))
        if config.engine == "ray":
            from prefect_ray import RayTaskRunner

            if config.cluster is not None:
                return cast("Runner", RayTaskRunner(address=config.cluster))
            alone = {"num_cpus": at_a_time, "include_dashboard": False, "_node_ip_address": "127.0.0.1"}
            same_modules = {"worker_process_setup_hook": hook_extending_path(tuple(sys.path))}
            return cast("Runner", RayTaskRunner(init_kwargs=alone | {"runtime_env": same_modules}))
    except ImportError as error:
        raise ConfigError(
            f"engine: {config.engine!r} needs a package that is not installed ({error}); pip install 'cfx-audit[{config.engine}]'"
        ) from error
    from prefect.task_runners import ThreadPoolTaskRunner

    return cast("Runner", ThreadPoolTaskRunner(max_workers=at_a_time))


def hook_extending_path(places: tuple[str, ...]) -> Callable[[], None]:
    """What a new process of Ray calls: modules are found where the audit's own process finds them. Dask's do so by themselves."""

    def extend_path() -> None:
        for place in places:
            importable_from(place)

    return extend_path  # a plain function: Ray takes no other callable


@contextmanager
def one_thread() -> Iterator[None]:
    """One compute thread in the body: shards run side by side, and two threads a core are many times slower on a busy machine.
    And float32 in full.

    The caller's own number comes back afterwards.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with float32_in_full():
            yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def float32_in_full() -> Iterator[None]:
    """In the body a GPU computes float32 as a CPU does. By default PyTorch's convolutions drop 13 of its 23 bits there (TF32)."""
    convolutions, products = torch.backends.cudnn, torch.backends.cuda.matmul
    before = convolutions.allow_tf32, products.allow_tf32
    convolutions.allow_tf32 = products.allow_tf32 = False
    try:
        yield
    finally:
        convolutions.allow_tf32, products.allow_tf32 = before


@contextmanager
def one_gpu_per_task(config: AuditConfig, device: str) -> Iterator[None]:
    """Tasks submitted in the body take one GPU of the cluster each, so that no two share one; nothing on a CPU."""
    if device != "cuda" or config.engine == "local":
        yield
    elif config.engine == "dask":
        import dask

        with dask.annotate(resources={"GPU": 1}):
            yield
    else:
        from prefect_ray.context import remote_options

        with remote_options(num_gpus=1):
            yield
