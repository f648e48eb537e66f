"""CD's noise floor and interval, against explainers that are perfect by construction; never NaN."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from facts import attribute_rows, explanation_rows, image_ids, image_rows, run_rows
from numpy.typing import NDArray

from warehouse.facts.shards import write_shard
from warehouse.lens.connect import query

AGREES = np.array([1.0, 0.85, 0.6, 0.5, 0.5, 0.5])  # with the target attribute, which is the first
NAMES = ["smile", "glasses", "hat", "beard", "earrings", "brows"]
RUNS, N = 20, 120

Bits = NDArray[np.int64]


def faces(rng: np.random.Generator, *shape: int) -> Bits:
    """Bits of random faces, shape (*shape, attributes), each fair by itself."""
    smile = rng.random((*shape, 1)) < 0.5
    return (smile == (rng.random((*shape, len(AGREES))) < AGREES)).astype(np.int64)


def correlations(bits: Bits) -> NDArray[np.float64]:
    """Of every column with the first, over the last axis but one: (..., attributes)."""
    centred = bits - bits.mean(axis=-2, keepdims=True)
    spread = np.sqrt((centred**2).sum(axis=-2))
    both = (centred * centred[..., :1]).sum(axis=-2)
    scale = spread * spread[..., :1]
    return np.divide(both, scale, out=np.zeros_like(both), where=scale > 1e-9)


def write_explained(root: Path, run_id: str, annotations: Bits, changes: Bits, seed: int) -> None:
    ids = image_ids(len(annotations), seed)
    columns = {f"a_{name}": annotations[:, i] == 1 for i, name in enumerate(NAMES)}
    write_shard(root, "images", run_id, "1", image_rows(ids, **columns))
    before = {name: np.where(changes[:, i] < 0, 0.9, 0.1) for i, name in enumerate(NAMES)}
    after = {name: np.where(changes[:, i] == 0, before[name], 1 - before[name]) for i, name in enumerate(NAMES)}
    mine = ids[: len(changes)]
    write_shard(root, "explanations", run_id, "1", explanation_rows(mine))
    write_shard(root, "attributes", run_id, "1", attribute_rows(mine, before, after))
    write_shard(root, "runs", run_id, "finished", run_rows())


@pytest.fixture(scope="module")
def perfect(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[dict[str, Any]], list[float]]:
    """cd_intervals of twenty explainers whose changes are differences of faces from the data's own distribution; numpy's CD."""
    root, rng, expected = tmp_path_factory.mktemp("warehouse"), np.random.default_rng(0), []
    for run in range(RUNS):
        annotations, changes = faces(rng, N), faces(rng, N) - faces(rng, N)
        write_explained(root, f"r{run:02}", annotations, changes, run)
        expected.append(float(np.abs(correlations(annotations) - correlations(changes)).sum()))
    return query(root, "from cd_intervals order by run_id").to_pylist(), expected


def test_cd_is_numpys_and_lies_in_its_interval(perfect: tuple[list[dict[str, Any]], list[float]]) -> None:
    rows, expected = perfect
    assert [row["value"] for row in rows] == pytest.approx(expected, abs=1e-6)
    assert all(0 <= row["low"] < row["value"] < row["high"] for row in rows)


def test_the_noise_floor_is_within_a_tenth_of_the_simulated_one(perfect: tuple[list[dict[str, Any]], list[float]]) -> None:
    rng = np.random.default_rng(1)
    simulated = np.abs(correlations(faces(rng, 4000, N)) - correlations(faces(rng, 4000, N) - faces(rng, 4000, N))).sum(-1).mean()
    floors = np.array([row["floor"] for row in perfect[0]])
    assert floors.mean() == pytest.approx(simulated, rel=0.05)
    assert (np.abs(floors / simulated - 1) < 0.1).mean() >= 0.95  # and each run's own


def test_the_interval_is_as_wide_as_repeated_audits_differ(perfect: tuple[list[dict[str, Any]], list[float]]) -> None:
    # over the explanations, for one set of annotations: what the bootstrap resamples
    rng = np.random.default_rng(2)
    wanted = correlations(faces(rng, N))
    values = np.abs(wanted - correlations(faces(rng, 4000, N) - faces(rng, 4000, N))).sum(-1)
    widths = [(row["high"] - row["low"]) / 3.92 for row in perfect[0]]
    assert np.mean(widths) == pytest.approx(values.std(), rel=0.25)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_constant_attributes_and_single_images_are_never_nan(tmp_path: Path, n: int) -> None:
    annotations = np.ones((6, len(NAMES)), np.int64)
    annotations[:3, 0] = 0
    write_explained(tmp_path, "r1", annotations, np.eye(3, len(NAMES), dtype=np.int64)[:n], 0)
    rows = query(tmp_path, "from cd").to_pylist() + query(tmp_path, "from cd_intervals").to_pylist()
    numbers = [value for row in rows for value in row.values() if isinstance(value, float)]
    assert np.isfinite(numbers).all()
    assert [row["unchanged"] for row in rows] == [len(NAMES) - n] * 2
