"""Audits in a program: the facts are the command line's, models are those of the process, and no server is needed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch import nn

import cfx
from cfx.errors import ConfigError, UserError
from cfx.live import content_hash, held
from flows.audit import run_audit
from flows.config import load_config
from flows.notebook import Audit
from tasks.check import check
from warehouse.lens.connect import query

N, SIDE = 48, 16
COMPARED = ("images", "predictions", "properties", "probes", "property_claims", "transplants", "place_claims", "explained")


class Corner(nn.Module):
    """A classifier of how bright the upper left corner is: logits of dark and bright."""

    def __init__(self, gain: float = 4.0) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(gain))
        self.dropped = nn.Dropout(0.5)  # shows whether it is audited in the mode for training

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        bright = self.gain * self.dropped(x)[:, :, :4, :4].mean((1, 2, 3))
        return torch.stack([-bright, bright], 1)


def by_brightness(shown: Any) -> Any:
    """A black box of how bright an image (b, 3, S, S) in [0, 1] is."""
    bright = shown.mean((1, 2, 3))
    return np.stack([1 - bright, bright], 1)


@pytest.fixture(scope="module")
def images() -> list[Image.Image]:
    chance = np.random.default_rng(3)
    pixels = chance.normal(128, 20, (N, SIDE, SIDE, 3))
    pixels[:, :4, :4] += chance.choice([-70, 70], (N, 1, 1, 1))
    return [Image.fromarray(each.clip(0, 255).astype(np.uint8)) for each in pixels]


@pytest.fixture(scope="module")
def labels() -> list[str]:
    return [("dark", "bright")[i % 2] for i in range(N)]


@pytest.fixture(scope="module")
def model() -> Corner:
    return Corner().train()


@pytest.fixture(scope="module")
def found(
    tmp_path_factory: pytest.TempPathFactory, images: list[Image.Image], labels: list[str], model: Corner
) -> Iterator[Audit]:
    warehouse = tmp_path_factory.mktemp("notebook")
    yield cfx.audit(model, images, labels=labels, classes=["dark", "bright"], warehouse=warehouse, progress=False)


def facts(root: Path, run: str, fact: str) -> list[dict[str, Any]]:
    return query(root, f"select * exclude (run_id) from {fact} where run_id = $run order by all", {"run": run}).to_pylist()


def test_a_live_module_on_images_in_memory_gives_the_facts_of_the_flow(found: Audit, prefect_server: dict[str, str]) -> None:
    (given,) = (found.root / "given").iterdir()
    settings = {
        "name": "flow",
        "warehouse": str(found.root),
        "data": {"images": str(given / "images"), "table": str(given / "table.csv"), "label_column": "label", "size": SIDE},
        "classifier": {"module": "tests.flows.test_notebook:Corner", "classes": ["dark", "bright"]},
    }
    (found.root / "run.yaml").write_text(yaml.safe_dump(settings))
    run = run_audit(load_config(found.root / "run.yaml"))
    for fact in COMPARED:
        assert facts(found.root, found.run, fact) == facts(found.root, run, fact), fact
    assert all(facts(found.root, run, fact) for fact in COMPARED)


def test_what_was_found_comes_as_frames_verdict_page_and_plots(found: Audit, model: Corner) -> None:
    corner = found.findings[found.findings["name"] == "top left"].iloc[0]
    assert (corner["kind"], corner["verdict"]) == ("place", "confirmed") and corner["intervention"] > 0.3
    assert found.gate().verdict in repr(found) and "top left (confirmed)" in repr(found)
    assert found.report().is_file() and "top left" in found._repr_html_()
    assert found.sql("select count(*) as n from images where run_id = $run")["n"][0] == N
    assert found.verdicts.empty and len(found.counterfactuals()) == 0
    effects, places = found.plot_effects(), found.plot_map()
    assert any("top left (confirmed)" in tick.get_text() for tick in effects.get_yticklabels())
    assert places.get_title() == "where the “bright” score comes from"
    assert found.plot_cost().patches and found.plot_trend().lines
    with pytest.raises(UserError, match="audit has no 'nosuch' over time; it has accuracy"):
        found.plot_trend("nosuch")
    assert model.training and all(parameter.requires_grad for parameter in model.parameters())


def test_the_same_question_is_not_computed_twice_and_another_model_is_another_run(
    found: Audit, images: list[Image.Image], labels: list[str], model: Corner
) -> None:
    same = {"labels": labels, "classes": ["dark", "bright"], "warehouse": found.root, "progress": False}
    before = {path: path.stat().st_mtime_ns for path in (found.root / "facts" / "probes").rglob("*.parquet")}
    assert cfx.audit(model, images, **same).run == found.run  # type: ignore[arg-type]
    assert {path: path.stat().st_mtime_ns for path in before} == before
    same.pop("progress")
    assert cfx.check(Corner(), images, **same).run == found.run  # type: ignore[arg-type]
    assert cfx.check(Corner(4.5), images, **same).run != found.run  # type: ignore[arg-type]


def test_files_and_folders_have_the_run_id_of_the_command_line(
    found: Audit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (given,) = (found.root / "given").iterdir()
    data = {"table": "table.csv", "label_column": "label", "size": SIDE}
    settings = {
        "name": "audit",
        "warehouse": str(tmp_path / "w"),
        "data": data | {"images": "images"},
        "classifier": {"module": "tests.flows.test_notebook:Corner", "classes": ["dark", "bright"]},
    }
    (given / "run.yaml").write_text(yaml.safe_dump(settings))
    monkeypatch.chdir(given)
    checked = cfx.check(
        "tests.flows.test_notebook:Corner", "images", classes=["dark", "bright"], data=data, warehouse=tmp_path / "w"
    )
    assert checked.run == check(load_config(given / "run.yaml")).id
    assert "24 dark, 24 bright" in repr(checked) or "24 bright, 24 dark" in repr(checked)


def test_a_function_of_the_session_is_a_black_box(images: list[Image.Image], tmp_path: Path) -> None:
    threshold = 0.5

    def shifted(shown: Any) -> Any:
        return by_brightness(shown) + np.array([threshold - 0.5, 0.5 - threshold])

    asked: dict[str, Any] = {"classes": ["dark", "bright"], "warehouse": tmp_path, "name": "function"}
    first = cfx.check(shifted, images, **asked)
    threshold = 0.4
    assert cfx.check(shifted, images, **asked).run != first.run  # what it refers to is part of what it is
    assert cfx.check(by_brightness, images, **asked).run == cfx.check(by_brightness, images, **asked).run


def test_a_scripted_module_and_a_hash_that_stays(tmp_path: Path) -> None:
    class Defined(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.mean((2, 3))[:, :2]

    assert content_hash(Defined()) == content_hash(Defined())
    with pytest.warns(FutureWarning, match="deprecated"):
        one, other = (torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)) for _ in range(2))
    assert content_hash(one) == content_hash(one) != content_hash(other)
    with held(Defined()) as reference:
        assert reference.startswith("cfx.live:Defined_")


def test_one_image_is_explained_and_its_attributes_edited(tmp_path: Path) -> None:
    from cfx.portraits import write_portraits

    write_portraits(tmp_path / "p", 4, 11)
    file = next((tmp_path / "p" / "images").glob("*.png"))
    asked: dict[str, Any] = {"prior": "portraits:prior", "warehouse": tmp_path / "w", "seed": 1}
    quick: dict[str, Any] = {"ladder": [{"method": "fastdime", "steps": 10, "tau": 3}], "interventions": {"steps": 10, "tau": 2}}
    one = cfx.explain("portraits:planted", file, oracle="portraits:oracle", target_attribute="smile", **asked, **quick)
    again = cfx.explain("portraits:planted", Image.open(file), **asked, **quick)
    assert one.x.shape == one.x_cf.shape == (64, 64, 3) and one.mask is not None
    assert {one.source, one.target} == {"smiling", "not_smiling"} and one.target in repr(one)
    assert one.edits is not None and len(one.edits) == 9 and "smile" not in set(one.edits["attribute"])
    assert np.allclose(one.edits["effect"], one.edits["p"] - one.edits["p_sham"])
    assert again.edits is None and np.array_equal(again.x, one.x)
    assert len(one.plot().axes) == 7


def test_counterfactuals_as_a_dataset_beside_attributions_of_others(tmp_path: Path) -> None:
    from captum.attr import Saliency
    from portrait_run import write_portrait_run
    from torch.utils.data import DataLoader

    write_portrait_run(tmp_path, n=8, size=32)
    found = Audit(tmp_path, "planted-demo").counterfactuals()
    (batch,) = DataLoader(found, batch_size=len(found))
    assert len(found) == 8 and batch["x"].shape == batch["x_cf"].shape == (8, 3, 32, 32) and batch["mask"].shape == (8, 1, 32, 32)
    arrays = found.arrays()
    assert arrays["a_batch"].shape == (8, 1, 32, 32) and set(arrays["y_batch"]) <= {"neutral", "smiling"}
    changed = found.agreement(arrays["a_batch"])  # what was changed agrees with itself
    assert (changed["rank_correlation"] > 0.99).all() and (changed["pointing"] == 1).all()
    by_captum = Saliency(Corner()).attribute(batch["x"].requires_grad_(), target=1)
    assert found.agreement(by_captum)["rank_correlation"].abs().max() < 0.5  # the corner is not what smiles
    with pytest.raises(UserError, match=r"attributions: \(3, 32, 32\) for 8 explained images"):
        found.agreement(torch.zeros(3, 32, 32))


@pytest.mark.parametrize(
    ("model", "settings", "kind", "said"),
    [
        (3, {}, UserError, "model: a int cannot be audited; give a torch module"),
        ("https://model.example/v2", {}, UserError, "model: of an endpoint more must be known"),
        (Corner(), {"classes": None}, ConfigError, "set `classes`"),
        (Corner(), {"margn": 0.1}, ConfigError, "margn"),
        (Corner(), {"labels": ["dark"]}, UserError, "labels: 1 for 48 images"),
        (Corner(), {"oracle": nn.Linear(2, 2)}, UserError, "oracle: a torch module needs `attributes`"),
    ],
)
def test_what_cannot_be_audited_is_refused_before_work(
    model: object, settings: dict[str, Any], kind: type[Exception], said: str, images: list[Image.Image], tmp_path: Path
) -> None:
    with pytest.raises(kind, match=said):
        cfx.audit(model, images, warehouse=tmp_path, progress=False, **{"classes": ["dark", "bright"], **settings})
    assert not (tmp_path / "facts").exists()


def test_images_of_several_sizes_need_a_size(images: list[Image.Image], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="several sizes, and nothing says what the classifier sees"):
        cfx.check(Corner(), [images[0], images[1].resize((8, 8))], classes=["dark", "bright"], warehouse=tmp_path)


def test_a_failing_stage_is_raised_and_recorded_and_the_threads_end(
    found: Audit, images: list[Image.Image], tmp_path: Path
) -> None:
    def breaks(shown: Any) -> Any:
        if len(shown) and time.monotonic() < 0:
            return by_brightness(shown)
        raise RuntimeError("no answer today")

    with pytest.raises(UserError, match="no answer today"):
        cfx.audit(breaks, images, classes=["dark", "bright"], warehouse=tmp_path, progress=False)
    (row,) = query(tmp_path, "select status, reason from runs").to_pylist()
    assert row["status"] == "failed" and "no answer today" in row["reason"]
