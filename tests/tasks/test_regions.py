"""The stage of regions: each image explained inside each region, on the rung where its whole image ended; PNGs equal outside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from cfx.errors import UserError
from cfx.images import decode_png
from cfx.portraits import write_portraits
from tasks.config import AuditConfig
from tasks.data.ingest import DataConfig
from tasks.run import Run
from tasks.stages.explain import explain
from tasks.stages.ingest import ingest
from tasks.stages.learn import Learned
from tasks.stages.predict import predict
from tasks.stages.regions import check_regions, explain_in_regions, list_absent, regions_of, top_segments, top_share
from tests.runs import run_of
from tests.toys import Linear
from warehouse.facts.shards import Shard, read_shard

N = 4
QUICK = {"method": "fastdime", "steps": 25, "tau": 4, "threshold": 0.3}
REGIONS: dict[str, Any] = {
    "eyes": "regions/glasses", "around": {"outside": "eyes"}, "looked at": {"saliency": 0.1}, "segments": {"segment": 0.1},
}  # fmt: skip


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Shard, Shard, Shard]:
    """A run, its images, what is drawn in whole images and in regions; one image has no eyes."""
    root = tmp_path_factory.mktemp("regions")
    write_portraits(root / "data", N, 5, regions=("glasses",))
    (root / "data/regions/glasses/00002.png").unlink()
    regions = REGIONS | {"eyes": root / "data" / REGIONS["eyes"]}
    ladder = [QUICK | {"scale": scale} for scale in (5, 60)]
    run = run_of(root / "w", regions=regions, ladder=ladder, data=DataConfig(images=root / "data/images"))
    (images,) = ingest(run)
    predicted = predict(run, images)
    explained = explain(run, images, predicted, Learned())
    return run, images, explained, explain_in_regions(run, images, predicted, explained, Learned())


def rows_of(shard: Shard) -> list[dict[str, Any]]:
    return read_shard(shard).to_pylist()


def test_the_png_outside_the_region_is_the_inputs_in_both_arms_and_inside_it_is_another(
    audited: tuple[Run, Shard, Shard, Shard],
) -> None:
    _, images, _, shard = audited
    inputs = {row["image_id"]: row["png"] for row in rows_of(images)}
    rows = rows_of(shard)
    assert {(row["region"], row["arm"]) for row in rows} == {(name, arm) for name in REGIONS for arm in ("guided", "null")}
    for row in rows:
        x, x_cf, region = (decode_png([png])[0] for png in (inputs[row["image_id"]], row["png"], row["region_png"]))
        outside = region < 0
        assert torch.equal(x_cf[outside], x[outside]), (row["region"], row["arm"])
        assert not torch.equal(x_cf[~outside], x[~outside])
        assert row["region_fraction"] == pytest.approx(float((region[0] > 0).float().mean()))


def test_each_is_tried_once_on_the_rung_where_its_whole_image_ended(audited: tuple[Run, Shard, Shard, Shard]) -> None:
    _, _, explained, shard = audited
    ended = {row["image_id"]: row["attempt"] for row in rows_of(explained) if row["arm"] == "guided"}
    assert {(row["image_id"], row["attempt"]) for row in rows_of(shard)} == set(ended.items())
    assert {row["nfe_forward"] for row in rows_of(shard)} == {QUICK["tau"]}


def test_an_image_without_a_mask_takes_no_part_there_and_is_listed(audited: tuple[Run, Shard, Shard, Shard]) -> None:
    run, images, _, shard = audited
    lacking = next(row["image_id"] for row in rows_of(images) if row["path"] == "00002.png")
    taking_part = {name: {row["image_id"] for row in rows_of(shard) if row["region"] == name} for name in REGIONS}
    assert [name for name, ids in taking_part.items() if lacking not in ids] == ["eyes", "around"]
    listed = [(row["path"], row["stage"], row["reason"], row["error"]) for row in rows_of(list_absent(run, images))]
    assert listed[:2] == [("00002.png", "regions", "no mask", f"region '{name}': there is none") for name in ("eyes", "around")]
    flat = "the classifier's map of it is the same everywhere"  # one portrait, of whose class nothing at all speaks
    assert listed[2:] == [
        ("00001.png", "regions", "no saliency", f"region '{name}': {flat}") for name in ("looked at", "segments")
    ]


def test_the_oracle_sees_what_changed(audited: tuple[Run, Shard, Shard, Shard]) -> None:
    run, _, _, shard = audited
    row = next(row for row in rows_of(shard) if row["region"] == "eyes" and row["arm"] == "guided")
    after = run.oracle()(decode_png([row["png"]]))[0]
    for name, seen in zip(run.oracle().attributes, after.tolist(), strict=True):
        assert row[f"q_{name}"] == pytest.approx(seen, abs=1e-6)
        assert row[f"d_{name}"] == pytest.approx(row[f"q_{name}"] - row[f"p_{name}"], abs=1e-6)


def test_what_lies_outside_of_a_region_is_the_rest_of_it(audited: tuple[Run, Shard, Shard, Shard]) -> None:
    run, images, _, _ = audited
    eyes, around, salient, segments = regions_of(run, images)
    there = torch.tensor([why is None for why in eyes.absent])
    assert torch.equal(around.inside[there], ~eyes.inside[there]) and not around.inside[~there].any()
    looked_at = [why is None for why in salient.absent]
    assert sum(looked_at) == N - 1
    assert salient.inside[looked_at].flatten(1).float().mean(1).tolist() == pytest.approx([0.1] * (N - 1), abs=0.01)
    assert all(0.1 <= share < 0.2 for share in segments.inside[looked_at].flatten(1).float().mean(1).tolist())


def test_segments_are_whole_and_the_most_salient_first() -> None:
    """Two flat halves: the one that is looked at is the region, whatever a few of its pixels are worth."""
    x = torch.full((1, 3, 32, 32), -1.0)
    x[..., 16:] = 1.0
    values = torch.zeros(1, 1, 32, 32)
    values[..., :16, 20:] = 1.0
    inside = top_segments(x, values, 0.1)
    assert inside.any() and not inside[..., :16].any()
    assert not inside[..., 20:, :].any()
    assert 0.1 <= inside.float().mean() < 0.2


def test_pixels_that_are_no_evidence_are_no_region() -> None:
    values = torch.tensor([0.0, 0.0, 0.0, 2.0]).view(1, 1, 2, 2)
    assert top_share(values, 0.5).flatten().tolist() == [False, False, False, True]
    assert not top_share(torch.zeros(1, 1, 2, 2), 0.5).any()


def test_regions_need_a_prior_and_saliency_a_network(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"data": {"images": tmp_path}, "classifier": {"weights": "portraits:planted"}}
    config = AuditConfig.model_validate(settings | {"regions": {"seen": {"saliency": 0.1}}})
    with pytest.raises(UserError, match="no model that draws; set `prior`, or use `masks`"):
        check_regions(config, Linear())
    drawn = AuditConfig.model_validate(config.model_dump() | {"prior": {"path": "portraits:prior"}})
    with pytest.raises(UserError, match="seen: saliency looks inside a network, but the classifier is a black box; give masks"):
        check_regions(drawn, Linear())
