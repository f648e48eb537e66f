"""The stage that looks outside the attributes: a classifier that looks at one corner, and the bundled oracle, which does not."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from facts import explanation_rows, run_rows
from torch import Tensor

from cfx.classifiers.python_function import CallableConfig
from cfx.images import encode_png
from cfx.portraits import stamped, write_portraits
from tasks.shard_images import read_images
from tasks.stages.ingest import ingest
from tasks.stages.outside import ask_residual
from tasks.stages.queries import write_queries
from tests.runs import run_of
from warehouse.facts.shards import Shard, write_shard
from warehouse.lens.connect import query

N = 24
CLASSES = ("no_smile", "smile")


def marked(pictures: np.ndarray) -> np.ndarray:
    """Probabilities of a classifier that calls smiling what is pink in the upper left corner; (b, 3, 64, 64) in [0, 1]."""
    pink = pictures[:, 0, :8, :8].mean((1, 2)) - pictures[:, 1, :8, :8].mean((1, 2))
    smile = 0.1 + 0.8 * (pink > 0.5)
    return np.stack([1 - smile, smile], 1)


CORNER = CallableConfig(access="callable", module="tests.tasks.test_outside_stage:marked", classes=CLASSES)


def with_mark(x: Tensor) -> Tensor:
    pixels = ((x + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return torch.from_numpy(np.stack([stamped(picture) for picture in pixels])).permute(0, 3, 1, 2).float() / 127.5 - 1


def with_another_face(x: Tensor) -> Tensor:
    changed = x.clone()
    changed[:, :, 30:50, 20:44] *= -1
    return changed


def asked(root: Path, change: Any, limit: int = N) -> tuple[Shard, dict[str, Any]]:
    """The stage after explanations that did this to each picture, in two shards; and what the view makes of it."""
    write_portraits(root / "data", N, seed=3)
    run = run_of(root, classifier=CORNER, interventions={"images": limit}, shard_size=N // 2, batch_size=16)
    images = ingest(run)
    explained = []
    for shard in images:
        ids, x = read_images(shard)
        rows = [explanation_rows(ids, arm, png=encode_png(y)) for arm, y in (("guided", change(x)), ("null", x))]
        both = {name: [*rows[0][name], *rows[1][name]] for name in rows[0]}
        explained.append(write_shard(root, "explanations", "r1", shard.key, both))
    write_shard(root, "runs", "r1", "finished", run_rows())
    made = ask_residual(run, images, explained)
    write_queries(run)
    [row] = query(root, "from outside").to_pylist()
    return made, row


def test_a_mark_that_explanations_draw_is_found_where_it_is(tmp_path: Path) -> None:
    made, row = asked(tmp_path, with_mark)
    assert (row["finding"], row["place"], row["n"]) == ("something outside your attributes", "top left", N)
    assert row["effect"] == pytest.approx(0.8) and row["drift"] == 0
    assert row["changes"][0] == max(change for change in row["changes"] if change is not None)
    spent = query(tmp_path, "select sum(batch) as pictures from queries").to_pylist()
    assert spent == [{"pictures": 2 * N}]  # each picture as it is, which the null left alone, and with the mark
    written = made.path.stat().st_mtime_ns
    assert asked(tmp_path, with_mark)[0].path.stat().st_mtime_ns == written  # what is done is not asked again
    assert query(tmp_path, "select sum(batch) as pictures from queries").to_pylist() == spent


def test_what_changes_where_the_oracle_looks_is_left_out(tmp_path: Path) -> None:
    _, row = asked(tmp_path, with_another_face, limit=N - 3)
    assert (row["finding"], row["effect"], row["n"]) == ("nothing outside", 0.0, N - 3)
