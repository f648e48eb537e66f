"""A black box that was exchanged behind its address, or behind a function, never gets the verdict of the one before."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cfx.classifiers import load_black_box
from cfx.classifiers.python_function import CallableConfig
from cfx.errors import UserError
from cfx.portraits import write_portraits
from tasks.run import Run
from tasks.stages.ingest import ingest
from tasks.stages.predict import predict
from tasks.stages.unchanged import QUERIED, query_again
from tests.runs import run_of
from tests.servers import Moody
from warehouse.facts.query_ledger import QueryLedger

N = 6
CLASSES = ["low", "high"]


def audited(folder: Path, classifier: dict[str, Any], run_id: str = "r1") -> Run:
    """An audit whose images are predicted; another process that goes on with it finds only what is on disk."""
    write_portraits(folder / "data", N, seed=3)
    run = run_of(folder, run_id, classifier={"classes": CLASSES} | classifier, oracle=None, prior=None, shard_size=4)
    for shard in ingest(run):
        predict(run, shard)
    return run


def again(run: Run) -> None:
    query_again(run, ingest(run))


def test_an_endpoint_that_answers_otherwise_is_refused_and_one_that_answers_as_before_is_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    door = {"access": "kserve", "model": "brightness", "output": "p", "limits": {"budget": N + 2 * QUERIED + 1}}
    with Moody() as server:
        run = audited(tmp_path, door | {"url": server.url})
        again(run)
        assert server.images == N + QUERIED
        before = server.classify
        server.classify = lambda images: before(images)[:, ::-1]
        with pytest.raises(UserError, match=r"has changed since run r1 was begun: to image \w{12} it answered .*`version:`"):
            again(run)
        again(run)  # the budget is spent: said, and no call is made
    assert server.images == N + 2 * QUERIED
    assert caplog.messages[-1].startswith("run=r1 no budget is left") and caplog.records[-1].levelno == logging.WARNING


def test_a_run_that_begins_and_a_network_of_this_process_are_not_queried_again(tmp_path: Path) -> None:
    write_portraits(tmp_path / "data", N, seed=3)
    with Moody() as server:
        door = {"access": "kserve", "model": "brightness", "output": "p", "url": server.url, "classes": CLASSES}
        again(run_of(tmp_path, "new", classifier=door, oracle=None, prior=None))
        assert server.images == 0
    again(audited(tmp_path, {"weights": "portraits:planted"} | {"classes": ["not_smiling", "smiling"]}, "torch"))


def test_a_surrogate_of_too_few_images_that_can_be_read_is_refused_before_a_query(tmp_path: Path) -> None:
    write_portraits(tmp_path / "data", 12, seed=3)
    for name in ("00001", "00002", "00003"):
        (tmp_path / f"data/images/{name}.png").write_bytes(b"no image")
    with Moody() as server:
        door = {"access": "kserve", "model": "brightness", "output": "p", "url": server.url, "classes": CLASSES}
        data = {"images": tmp_path / "data/images", "table": tmp_path / "data/attributes.csv", "max_rejected": 0.5}
        run = run_of(tmp_path, "few", classifier=door, oracle=None, prior=None, surrogate={}, data=data)
        with pytest.raises(UserError, match="10 images or more, and there are 9"):
            ingest(run)
        assert server.images == 0


def test_weights_behind_a_function_are_part_of_what_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    weights = tmp_path / "weights.npy"
    (tmp_path / "weighed.py").write_text(
        f"import numpy\n\ndef answers(x):\n    p = float(numpy.load({str(weights)!r}))\n    return [[1 - p, p] for _ in x]\n"
    )

    def print_of(**settings: Any) -> str:
        config = CallableConfig(access="callable", module="weighed:answers", classes=("low", "high"), **settings)
        return load_black_box(config, QueryLedger(None, "f", None)).fingerprint

    np.save(weights, 0.2)
    run, named, unnamed = (
        audited(tmp_path, {"access": "callable", "module": "weighed:answers"}),
        print_of(files=[weights]),
        print_of(),
    )
    again(run)
    np.save(weights, 0.8)
    assert print_of(files=[weights]) != named and print_of() == unnamed
    with pytest.raises(UserError, match=r"\(0.8, 0.2\) then and \(0.2, 0.8\) now.*`files:`"):
        again(run)
    with pytest.raises(UserError, match="there is no file .*gone.npy; `files` are what weighed:answers reads"):
        print_of(files=[tmp_path / "gone.npy"])
