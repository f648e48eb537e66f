"""Audits of a black box, end to end on a real Prefect server and real endpoints: the same facts by every door, no query lost."""

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
import yaml

from cfx.classifiers import ClassifierConfig, load_classifier
from cfx.classifiers.kserve import KServeConfig
from cfx.diffusion.latent import load_latent
from cfx.errors import ConfigError, UserError
from cfx.images import decode_png
from cfx.portraits import write_portraits
from flows.audit import run_audit
from tasks.black_boxes import connect
from tasks.check import check
from tasks.config import AuditConfig
from tasks.stages.unchanged import QUERIED
from tests.cfx.tiny_sd import write_pipeline
from tests.servers import Moody
from warehouse.lens.connect import query
from warehouse.report.render import report_html

pytestmark = pytest.mark.slow
N = 10
CLASSES = ["not_smiling", "smiling"]
REPOSITORY = Path(__file__).parents[2]


def planted(images: np.ndarray) -> np.ndarray:
    """The planted classifier as a Python function: (b, 3, 64, 64) in [0, 1] to probabilities."""
    with torch.no_grad():
        return NETWORK(torch.from_numpy(np.array(images)) * 2 - 1).softmax(1).numpy()


NETWORK = load_classifier(ClassifierConfig(weights=Path("portraits:planted")))


class Probabilities(torch.nn.Module):
    """The same as a module that can be exported."""

    def __init__(self) -> None:
        super().__init__()
        self.network = NETWORK.network.module

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.network(images * 2 - 1).softmax(1)


def settings(folder: Path, classifier: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "name": "trial",
        "warehouse": str(folder / "warehouse"),
        "data": {"images": str(folder / "data/images"), "table": str(folder / "data/attributes.csv"), "label_column": "label"},
        "classifier": {"classes": CLASSES} | classifier,
        "surrogate": {"steps": 30, "batch": 16},
        "interventions": {"images": 2, "attributes": 1, "tau": 3},
        "oracle": {"weights": "portraits:oracle"},
        "prior": {"path": "portraits:prior"},
        "target_attribute": "smile",
        "ladder": [{"method": "fastdime", "steps": 50, "tau": 4, "scale": scale} for scale in (40, 90)],
        "shard_size": 5,
        "workers": 1,
    } | more


SAME = """
    select count(*) as n, max(abs(a.p_target_cf - b.p_target_cf)) as p,
        bool_and((a.source, a.target, a.attempt, a.flipped, a.png) = (b.source, b.target, b.attempt, b.flipped, b.png)) as same
    from explanations a join explanations b using (image_id, arm, seed) where a.run_id = '{a}' and b.run_id = '{b}'
"""


def ask(folder: Path, sql: str) -> list[dict[str, Any]]:
    return query(folder / "warehouse", sql).to_pylist()


@pytest.fixture(scope="module")
def served() -> Iterator[str]:
    """The example's server of the KServe v2 protocol, in a process of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, str(REPOSITORY / "examples/endpoint.py"), "--port", str(port)]
    server = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        url, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 120
        while True:
            try:
                if httpx.get(f"{url}/v2/models/planted/ready").is_success:
                    break
            except httpx.TransportError:
                assert server.poll() is None and time.monotonic() < deadline, "the example's server did not come up"
            time.sleep(0.3)
        yield url
    finally:
        server.kill()
        server.wait()


@pytest.fixture(scope="module")
def onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path, blank = tmp_path_factory.mktemp("onnx") / "planted.onnx", torch.zeros(2, 3, 64, 64)
    torch.onnx.export(Probabilities().eval(), (blank,), path, dynamic_shapes=({0: torch.export.Dim("n")},), verbose=False)
    return path


@pytest.mark.long
def test_function_onnx_and_endpoint_give_the_same_facts(
    tmp_path: Path, served: str, onnx: Path, prefect_server: dict[str, str]
) -> None:
    write_portraits(tmp_path / "data", N, seed=5)
    doors: dict[str, dict[str, Any]] = {
        "endpoint": {"access": "kserve", "url": served, "model": "planted", "limits": {"budget": 7 * N}},
        "onnx": {"access": "onnx", "weights": str(onnx)},
        "callable": {"access": "callable", "module": "tests.flows.test_black_box_audit:planted"},
    }
    runs = {door: run_audit(AuditConfig.model_validate(settings(tmp_path, config))) for door, config in doors.items()}
    assert len(set(runs.values())) == 3
    for other in ("onnx", "callable"):
        (row,) = ask(tmp_path, SAME.format(a=runs["endpoint"], b=runs[other]))
        assert row["n"] == 2 * N and row["same"] and row["p"] < 1e-5
    spent = ask(tmp_path, "select run_id, sum(batch) as images, min(call) as first from queries group by run_id")
    assert len(spent) == 3 and len({row["images"] for row in spent}) == 1 and 3 * N < spent[0]["images"] <= 7 * N
    for row in ask(tmp_path, "select probabilities, png from predictions join images using (run_id, image_id)"):
        kept, right = torch.tensor(row["probabilities"]), torch.from_numpy(planted(((decode_png([row["png"]]) + 1) / 2).numpy()))
        torch.testing.assert_close(kept[None], right, atol=1e-5, rtol=0)


def test_both_classifiers_answer_at_the_endpoint_as_in_this_process(served: str) -> None:
    x = torch.rand(5, 3, 64, 64) * 2 - 1
    for model in ("planted", "clean"):
        door = KServeConfig(access="kserve", url=served, model=model, classes=tuple(CLASSES))
        here = load_classifier(ClassifierConfig(weights=Path(f"portraits:{model}")))(x).softmax(1)
        torch.testing.assert_close(connect(door, "cpu")(x).softmax(1), here, atol=1e-5, rtol=0)


@pytest.mark.long
def test_a_flaky_endpoint_and_a_killed_audit_lose_nothing_and_query_nothing_twice(
    tmp_path: Path, prefect_server: dict[str, str]
) -> None:
    write_portraits(tmp_path / "data", N, seed=6)
    limits = {"budget": 200, "batch": 1, "concurrency": 1, "timeout": 1, "patience": 60}
    with Moody([503, "hang up", 503], classify=planted) as server:
        port = server.server_address[1]
        door = {"access": "kserve", "url": server.url, "model": "m", "output": "p", "tensors": "binary", "limits": limits}
        config = settings(tmp_path, door, shard_size=2)
        (tmp_path / "run.yaml").write_text(yaml.safe_dump(config))
        command = [str(Path(sys.executable).with_name("cfx")), "audit", str(tmp_path / "run.yaml"), "--quiet"]
        silent: Any = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        killed = subprocess.Popen(command, start_new_session=True, env=os.environ | prefect_server, **silent)
        deadline = time.monotonic() + 240
        while len(list((tmp_path / "warehouse/facts/explanations").glob("*/*.parquet"))) < 2:
            assert killed.poll() is None and time.monotonic() < deadline, "the audit ended before it could be killed"
            time.sleep(0.05)
        os.killpg(killed.pid, signal.SIGKILL)
        killed.wait()
        before = server.images
    with Moody([503], port=port, classify=planted) as server:  # and the endpoint was started again, too
        run = run_audit(AuditConfig.model_validate(config))
        total = before + server.images
    made = "select status = '200' as good, sum(batch) as images from queries where status <> 'not reached' group by good"
    ledger = {row["good"]: row["images"] for row in ask(tmp_path, made)}
    assert sum(ledger.values()) == total <= limits["budget"]
    (answers,) = (tmp_path / "warehouse/answers" / run).glob("*.sqlite")
    with closing(sqlite3.connect(answers)) as file:
        (distinct,) = file.execute("select count(*) from answers").fetchone()
    twice = ledger[True] - distinct - QUERIED  # those that see whether the endpoint still answers as before
    assert twice <= max(1, total // 100)  # at most the one that was under way
    assert ask(tmp_path, "select status, explained from runs") == [{"status": "finished", "explained": N}]


def test_what_cannot_work_with_a_black_box_is_refused_before_any_query(tmp_path: Path) -> None:
    write_portraits(tmp_path / "data", N, seed=0)
    with Moody() as server:
        door = {"access": "kserve", "url": server.url, "model": "m", "output": "p"}
        few = settings(tmp_path, door)
        few["data"] |= {"limit": N - 1}
        with pytest.raises(ConfigError, match="surrogate: a surrogate is trained on 10 images or more, and there are 9"):
            check(AuditConfig.model_validate(few))
        config = settings(tmp_path, door, surrogate=None)
        with pytest.raises(ConfigError, match=r"ladder: method 'fastdime' needs gradients.*black box.*`surrogate: \{\}`"):
            check(AuditConfig.model_validate(config))
        with pytest.raises(ConfigError, match="classifier: environment variable NO_SUCH_TOKEN is not set"):
            check(AuditConfig.model_validate(settings(tmp_path, door | {"auth": {"env": "NO_SUCH_TOKEN"}})))
        first = check(AuditConfig.model_validate(settings(tmp_path, door))).id
        more = door | {"limits": {"budget": 7, "timeout": 3}}
        assert check(AuditConfig.model_validate(settings(tmp_path, more))).id == first  # so that an audit goes on with more
        assert server.images == 0
    white = settings(tmp_path, {"weights": "portraits:planted"})
    with pytest.raises(ConfigError, match="surrogate: the classifier gives its own gradients"):
        check(AuditConfig.model_validate(white))


def test_time_is_a_method_of_the_ladder_and_its_words_are_kept_with_the_run(
    tmp_path: Path, prefect_server: dict[str, str]
) -> None:
    write_portraits(tmp_path / "data", N, seed=5)
    door = {"access": "callable", "module": "tests.flows.test_black_box_audit:planted"}
    learned = {"steps": 2, "batch": 2}
    more: dict[str, Any] = {
        "words": {"model": str(write_pipeline(tmp_path / "model")), "training": learned},
        "ladder": [{"method": "time", "steps": 6, "tau": tau, "scale": 3} for tau in (2, 4)],
        "surrogate": None,
        "workers": 2,
    }
    config = settings(tmp_path, door, **more)
    run = run_audit(AuditConfig.model_validate(config))
    kept = {path.name for path in (tmp_path / "warehouse/words" / run).iterdir()}
    assert kept == {"context.pth", "class-0.pth", "class-1.pth"}
    rows = ask(tmp_path, "select image_id, arm, attempt, method, nfe_forward, png from explanations")
    assert {row["method"] for row in rows} == {"time"} and len(rows) == 2 * N
    # a step costs two evaluations of two prompts each way; the deeper attempt goes on where the shallower inversion stopped
    assert {(row["attempt"], row["nfe_forward"]) for row in rows if row["arm"] == "guided"} <= {(0, 16), (1, 40)}
    images = {row["image_id"]: row["png"] for row in ask(tmp_path, "select image_id, png from images")}
    model = load_latent(more["words"]["model"])
    for row in rows:
        if row["arm"] == "null":  # its own class's words both ways: the image as the model's autoencoder has it
            x = decode_png([images[row["image_id"]]])
            torch.testing.assert_close(decode_png([row["png"]]), model.decode(model.encode(x), 64), atol=0.02, rtol=0)
    assert ask(tmp_path, "select count(*) as n from verdicts") == [{"n": 9}]

    for missing, words in ({"words": None}, "method 'time' edits with words"), ({"ladder": "default"}, "words: method 'time'"):
        with pytest.raises(ConfigError, match=words):
            check(AuditConfig.model_validate(settings(tmp_path, door, **more | {"surrogate": {"steps": 60}} | missing)))


@pytest.mark.parametrize(
    "door", [pytest.param("torch", marks=pytest.mark.long), "onnx", pytest.param("endpoint", marks=pytest.mark.long)]
)  # torch: test_left_out.py
def test_without_prior_and_oracle_places_and_properties_are_still_looked_at(
    tmp_path: Path, served: str, onnx: Path, prefect_server: dict[str, str], door: str
) -> None:
    """A folder, its labels and a classifier: what decides is found where it is, and the names that there are do not clear."""
    write_portraits(tmp_path / "data", 40, seed=5)
    doors: dict[str, dict[str, Any]] = {
        "torch": {"weights": "portraits:planted"},
        "onnx": {"access": "onnx", "weights": str(onnx), "classes": CLASSES},
        "endpoint": {"access": "kserve", "url": served, "model": "planted", "classes": CLASSES, "limits": {"budget": 4_000}},
    }
    bare = {
        "name": "bare",
        "warehouse": str(tmp_path / "warehouse"),
        "data": {
            "images": str(tmp_path / "data/images"),
            "table": str(tmp_path / "data/attributes.csv"),
            "label_column": "label",
        },
        "classifier": doors[door],
        "shard_size": 24,
    }
    run = run_audit(AuditConfig.model_validate(bare))
    (row,) = ask(tmp_path, "select status, attempted, explained from runs")
    assert (row["status"], row["attempted"], row["explained"]) == ("finished", 40, 0)
    places = {row["name"]: row for row in ask(tmp_path, "from findings where kind = 'place'")}
    assert places["bottom centre"]["verdict"] == "suspected" and places["bottom centre"]["intervention"] > 0.3  # the mouth
    assert places["top left"]["verdict"] in ("clear", "inconclusive")
    assert ask(tmp_path, "select count(*) as n from findings where kind = 'property'") == [{"n": 18}]
    (share,) = ask(tmp_path, "from explained_share")
    assert share["share"] < 0.9  # the table's annotations are known, but a label that is right in 92 of 100 leaves much open
    spent = ask(tmp_path, "select coalesce(sum(batch), 0) as images from queries")[0]["images"]
    assert spent <= 4_000 and (spent > 0) is (door != "torch")
    page = (tmp_path / "warehouse" / "reports" / f"{run}.html").read_text()
    assert "What the answers rest on" in page and "nothing outside" not in page.lower()


def moody(images: np.ndarray) -> np.ndarray:
    """A user's function that raises until what it lacks is there."""
    if "CFX_TEST_LAYER" not in os.environ:
        raise KeyError(f"no such layer, called with {len(images)} images")
    return planted(images)


def test_an_audit_that_raises_ends_as_failed_with_its_reason_and_a_later_one_as_finished(
    tmp_path: Path, prefect_server: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_portraits(tmp_path / "data", 6, seed=5)
    config = settings(
        tmp_path, {"access": "callable", "module": "tests.flows.test_black_box_audit:moody"}, prior=None, oracle=None
    )
    config |= {"surrogate": None, "target_attribute": None}
    with pytest.raises(UserError, match="moody"):
        run_audit(AuditConfig.model_validate(config))
    (row,) = ask(tmp_path, "select run_id, status, reason from runs")
    assert row["status"] == "failed" and "moody" in row["reason"] and "KeyError" in row["reason"] and "\n" not in row["reason"]
    assert row["reason"] in report_html(tmp_path / "warehouse", row["run_id"]).replace("&#39;", "'")
    monkeypatch.setenv("CFX_TEST_LAYER", "there")
    assert run_audit(AuditConfig.model_validate(config)) == row["run_id"]
    (row,) = ask(tmp_path, "select status, reason from runs")
    assert (row["status"], row["reason"]) == ("finished", None)
