"""The whole audit on a real Prefect server: every fact there, once; the same again; after a kill -9."""

import csv
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from cfx.portraits import write_portraits
from flows.audit import run_audit
from flows.cli import app
from tasks.config import AuditConfig
from warehouse.lens.connect import query

pytestmark = pytest.mark.slow
N = 20


def settings(folder: Path, **more: Any) -> dict[str, Any]:
    return {
        "name": "trial",
        "warehouse": str(folder / "warehouse"),
        "data": {"images": str(folder / "data/images"), "table": str(folder / "data/attributes.csv"), "label_column": "label"},
        "classifier": {"weights": "portraits:planted"},
        "judge": {"weights": "portraits:judge"},
        "oracle": {"weights": "portraits:oracle"},
        "prior": {"path": "portraits:prior"},
        "target_attribute": "smile",
        "ladder": [
            {"method": "fastdime", "steps": 50, "tau": 5, "scale": 40},
            {"method": "fastdime", "steps": 50, "tau": 5, "scale": 90},
        ],
        "shard_size": 8,
        "interventions": {"images": 6, "attributes": 2},
    } | more


def lay_out(folder: Path) -> None:
    """Portraits, two files that are none, and a class name with markup in it."""
    table = write_portraits(folder / "data", N, seed=5)
    (folder / "data/images/<script>alert(1)<script>.png").write_text("no image")
    Image.new("RGB", (1, 1)).save(folder / "data/images/dot.png")
    with table.open("a", newline="") as lines:
        for name in ("<script>alert(1)<script>.png", "dot.png", "gone.png"):
            csv.writer(lines).writerow([name, "test", "smiling", *[""] * 10])


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, prefect_server: dict[str, str]) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("audit")
    lay_out(folder)
    publish = {
        "prometheus": {"file": str(folder / "trial.prom")},
        "wandb": {"folder": str(folder / "nosuch")},
    }  # one of them fails
    return folder, run_audit(AuditConfig.model_validate(settings(folder, publish=publish)))


def ask(folder: Path, sql: str) -> list[dict[str, Any]]:
    return query(folder / "warehouse", sql).to_pylist()


def times(root: Path) -> dict[str, int]:
    return {str(path.relative_to(root)): path.stat().st_mtime_ns for path in sorted(root.rglob("*.parquet"))}


def test_results_are_published_where_the_settings_say_and_the_run_is_no_other_for_it(finished: tuple[Path, str]) -> None:
    folder, run = finished
    assert f'run="{run}"' in (folder / "trial.prom").read_text()
    unpublished, published = (AuditConfig.model_validate(settings(folder, publish=each)) for each in (None, {"wandb": None}))
    assert unpublished.result_hash() == published.result_hash()


def test_every_image_is_explained_once_in_each_arm(finished: tuple[Path, str]) -> None:
    folder, run = finished
    (row,) = ask(folder, "select * from runs")
    assert (row["run_id"], row["status"], row["attempted"], row["explained"], row["rejected"]) == (run, "finished", N, N, 3)
    counts = ask(
        folder, "select arm, count(*) as n, count(distinct image_id) as images from explanations group by arm order by arm"
    )
    assert counts == [{"arm": "guided", "n": N, "images": N}, {"arm": "null", "n": N, "images": N}]
    assert ask(folder, "select count(*) as n from attributes") == [{"n": 2 * N}]
    assert ask(folder, "select reason from rejected order by 1") == [
        {"reason": r} for r in ("missing", "too_small", "unreadable")
    ]
    assert (folder / "warehouse" / "reports" / f"{run}.html").is_file()


def test_source_is_the_prediction_and_the_null_is_paired(finished: tuple[Path, str]) -> None:
    folder, _ = finished
    both = "explanations join predictions using (run_id, image_id)"
    wrong = f"select count(*) as n from {both} where source <> class or target = source"
    assert ask(folder, wrong) == [{"n": 0}]
    pairs = "select count(*) as n from (select image_id, seed, attempt from explanations group by all having count(*) = 2)"
    assert ask(folder, pairs) == [{"n": N}]
    guided = "select avg(p_target_cf) filter (arm = 'guided') > avg(p_target_cf) filter (arm = 'null') as more from explanations"
    assert ask(folder, guided) == [{"more": True}]


def test_suspected_attributes_are_edited_alone_and_the_classifier_is_queried_again(finished: tuple[Path, str]) -> None:
    folder, _ = finished
    rows = ask(folder, "select attribute, count(*) as n, count(distinct image_id) as images from effects group by attribute")
    first = ask(folder, "select attribute from ranked_attributes order by status <> 'above null', rank limit 2")
    assert {row["attribute"] for row in rows} == {row["attribute"] for row in first}
    assert [(row["n"], row["images"]) for row in rows] == [(6, 6), (6, 6)]
    both = "from effects join edits on edits.run_id = effects.edits and edits.image_id = effects.image_id"
    drawn = ask(folder, f"select count(*) as n {both} and edits.attribute = effects.attribute")
    assert drawn == [{"n": 12}]
    assert ask(folder, "select max(n_interventions) as n from verdicts")[0]["n"] > 0


def test_with_few_images_nothing_is_claimed_beyond_names_and_nothing_is_cleared(finished: tuple[Path, str]) -> None:
    folder, run = finished
    assert ask(folder, "select count(*) as n from properties") == [{"n": N}]  # measured all the same
    assert ask(folder, "select count(*) as n from findings where kind <> 'attribute'") == [{"n": 0}]
    assert ask(folder, "select count(*) as n from explained_share") == [{"n": 0}]
    page = (folder / "warehouse" / "reports" / f"{run}.html").read_text()
    assert "How much of the answers the names explain was not measured" in page


def test_the_same_configuration_again_computes_nothing(finished: tuple[Path, str]) -> None:
    folder, run = finished
    before = times(folder / "warehouse" / "facts")
    assert run_audit(AuditConfig.model_validate(settings(folder, batch_size=5))) == run
    assert times(folder / "warehouse" / "facts") == before


def test_results_do_not_depend_on_shards(finished: tuple[Path, str]) -> None:
    folder, run = finished
    few, base = 8, settings(folder, shard_size=3, batch_size=2, interventions={"images": 0})
    other = run_audit(AuditConfig.model_validate(base | {"data": base["data"] | {"limit": {"first": few}}}))
    assert other != run
    far = f"""
        select count(*) as n, max(abs(a.p_target_cf - b.p_target_cf)) as p, max(abs(a.l1 - b.l1)) as l1
        from explanations a join explanations b using (image_id, arm, seed)
        where a.run_id = '{run}' and b.run_id = '{other}'
    """
    (row,) = ask(folder, far)
    assert row["n"] == 2 * few and row["p"] < 1e-4 and row["l1"] < 1e-5


def test_writing_is_refused_and_reading_works(finished: tuple[Path, str]) -> None:
    folder, _ = finished
    root = str(folder / "warehouse")
    refused = CliRunner().invoke(app, ["query", "drop view cd", "-w", root])
    assert refused.exit_code == 2 and "read-only" in refused.stderr
    answer = CliRunner().invoke(app, ["query", "select metric from scorecard where metric = 'fr'", "-w", root, "-f", "csv"])
    assert answer.exit_code == 0 and '"fr"' in answer.stdout
    listed = CliRunner().invoke(app, ["views", "-w", root])
    assert listed.exit_code == 0 and "scorecard" in listed.stdout


def test_one_image_explained(finished: tuple[Path, str]) -> None:
    folder, _ = finished
    to = folder / "one.png"
    (folder / "run.yaml").write_text(yaml.safe_dump(settings(folder)))
    image = str(folder / "data/images/00001.png")
    answer = CliRunner().invoke(app, ["explain", image, "--config", str(folder / "run.yaml"), "--out", str(to)])
    assert answer.exit_code == 0, answer.output
    with Image.open(to) as panel:
        assert panel.size == (4 * 64 * 4, 64 * 4)
    refused = CliRunner().invoke(app, ["explain", image, "--target", "frowning", "--out", str(to)])
    assert refused.exit_code == 2 and "'frowning'" in refused.stderr and "'smiling'" in refused.stderr
    (folder / "near.yaml").write_text(
        yaml.safe_dump(
            settings(
                folder,
                target="nearest-in-hierarchy",
                hierarchy={"smiling": ["face"], "not_smiling": ["face"]},
            )
        )
    )
    answer = CliRunner().invoke(app, ["explain", image, "--config", str(folder / "near.yaml"), "--out", str(to)])
    assert answer.exit_code == 0, answer.output


@pytest.mark.long
def test_images_need_not_be_square(tmp_path: Path, prefect_server: dict[str, str]) -> None:
    lay_out(tmp_path)
    base = settings(tmp_path, interventions={"images": 2, "attributes": 1}, shard_size=4)
    run_audit(AuditConfig.model_validate(base | {"data": base["data"] | {"size": [32, 64], "limit": {"first": 4}}}))
    images = ask(
        tmp_path, "select png from images union all select png from explanations union all select mask_png from explanations"
    )
    sizes = [Image.open(io.BytesIO(row["png"])).size for row in images]
    assert len(sizes) == 4 + 2 * 8 and set(sizes) == {(64, 32)}
    (row,) = ask(tmp_path, "select count(*) as n, count(distinct image_id) as images from effects where counted is not null")
    assert (row["n"], row["images"]) == (2, 2)


def test_killed_in_the_explanation_stage_then_run_again(tmp_path: Path, prefect_server: dict[str, str]) -> None:
    lay_out(tmp_path)
    few, base = 12, settings(tmp_path, shard_size=2, workers=1, interventions={"images": 2, "attributes": 1})
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(base | {"data": base["data"] | {"limit": {"first": few}}}))
    there: Any = {"env": os.environ | prefect_server, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    command = [str(Path(sys.executable).with_name("cfx")), "audit", str(tmp_path / "run.yaml"), "--quiet"]
    facts = tmp_path / "warehouse" / "facts"
    killed = subprocess.Popen(command, start_new_session=True, **there)
    deadline = time.monotonic() + 240
    while (made := len(list(facts.glob("explanations/*/*.parquet")))) < 3:
        assert killed.poll() is None and time.monotonic() < deadline, "the audit ended before it could be killed"
        if facts.is_dir() and not made:  # a query may take as long as a shard
            query(tmp_path / "warehouse", "select * from scorecard")  # asking while an audit writes
        time.sleep(0.1)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    before = times(facts)
    explained = [name for name in before if name.startswith("explanations")]
    assert 3 <= len(explained) < few // 2

    run_audit(AuditConfig.model_validate(yaml.safe_load((tmp_path / "run.yaml").read_text())))
    after = times(facts)
    assert {name: after[name] for name in before} == before
    rows = ask(tmp_path, "select count(*) as n, count(distinct (image_id, arm, seed)) as once from explanations")
    assert rows == [{"n": 2 * few, "once": 2 * few}]
    assert ask(tmp_path, "select status, explained from runs") == [{"status": "finished", "explained": few}]
