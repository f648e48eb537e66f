"""The cross-examination of counterfactuals whose truth is known: portraits drawn again with the glasses toggled."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cfx.classifiers import ClassifierConfig, load_classifier
from cfx.images import decode_png, png_of
from cfx.portraits import draw, region, render, write_portraits
from cfx.saliency.maps import Saliency
from tasks.config import SaliencyConfig
from tasks.stages.saliency import check_saliency, cross_examine
from tests.runs import run_of
from warehouse.facts.shards import Shard, read_shard, write_shard
from warehouse.lens.connect import query

N, SEED = 3, 11
PLANTED = ClassifierConfig(weights=Path("portraits:planted"))


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Shard, Shard]:
    folder = tmp_path_factory.mktemp("examined")
    write_portraits(folder, N, SEED, regions=("glasses",))
    ids, paths = [f"id{i}" for i in range(N)], [f"{i:05d}.png" for i in range(N)]
    pngs = [(folder / "images" / path).read_bytes() for path in paths]
    images = {"image_id": ids, "split": [None] * N, "path": paths, "width": [64] * N, "height": [64] * N}
    images |= {"label": [None] * N, "png": pngs}
    halves = ("p_source", "p_target", "p_source_cf", "p_target_cf", "l1", "l2", "linf", "mask_fraction")
    numbers: dict[str, Any] = dict.fromkeys(halves, 0.5)
    rows: dict[str, list[Any]] = {}
    for arm, toggled in (("guided", "glasses"), ("null", "smile")):
        for i, (_, portrait) in enumerate(draw(N, SEED)):
            row = {"image_id": ids[i], "method": "toggle", "arm": arm, "seed": 0, "source": "smiling", "target": "not_smiling"}
            row |= {"attempt": 0, "flipped": True, "flipped_8bit": True, "judge_flipped": None, "nfe_forward": 0} | numbers
            row |= {"nfe_backward": 0, "seconds": 0.0, "device": "cpu", "mask_png": None}
            row |= {"png": png(render(portrait.toggled(toggled)))}
            for name, value in row.items():
                rows.setdefault(name, []).append(value)
    predictions = {"image_id": ids, "class": ["smiling"] * N, "probabilities": [[0.0, 1.0]] * N}
    write_shard(folder / "w", "predictions", "run", "0", predictions)
    return (
        folder,
        write_shard(folder / "w", "images", "run", "0", images),
        write_shard(folder / "w", "explanations", "run", "0", rows),
    )


def png(pixels: Any) -> bytes:
    return png_of(Image.fromarray(pixels))


def test_changes_are_held_against_maps_and_truth(shards: tuple[Path, Shard, Shard]) -> None:
    folder, images, explained = shards
    config = SaliencyConfig(maps=(Saliency(map="grad_cam"), Saliency(map="grad_cam++")), regions=folder / "regions")
    run = run_of(folder / "w", "run", saliency=config, batch_size=2)
    shard = cross_examine(run, images, explained)
    assert cross_examine(run, images, explained) == shard
    measured = read_shard(shard).to_pylist()
    assert {row["arm"] for row in measured} == {"guided"}
    assert len(measured) == N * (2 * 3 + 1 + 3 * 2 + 1)  # maps and change, three and two measures each, and what chance scores
    (change,) = query(folder / "w", "select * from truth_agreement where evidence = 'change'").to_pylist()
    assert (change["attribute"], change["n"], change["pointing"]) == ("glasses", N, 1.0)
    assert change["iou"] > 0.95 > 0.2 > change["iou_by_chance"]  # a flat toggle: nearly all of its pixels are the largest
    examined = query(folder / "w", "select * from cross_examination order by map").to_pylist()
    assert [row["map"] for row in examined] == ["grad_cam", "grad_cam++"]
    assert all(row["n"] == N and 0 <= row["iou"] <= 1 and row["iou_by_chance"] > 0 for row in examined)
    maps = query(folder / "w", "select image_id, map, png from saliency order by map, image_id").to_pylist()
    assert [(row["map"], row["image_id"]) for row in maps[:N]] == [("grad_cam", f"id{i}") for i in range(N)]
    shown = decode_png([row["png"] for row in maps])
    assert shown.shape == (2 * N, 3, 64, 64) and shown.min() == -1 and shown.max() == 1


def test_without_regions_only_the_maps_are_compared(shards: tuple[Path, Shard, Shard]) -> None:
    folder, images, explained = shards
    shard = cross_examine(run_of(folder / "bare", "run", batch_size=8), images, explained)
    assert {row["measure"] for row in read_shard(shard, ["measure"]).to_pylist()} == {
        "pointing",
        "iou_at_equal_area",
        "iou_by_chance",
        "rank_correlation",
    }
    assert {row["encoder"] for row in read_shard(shard, ["encoder"]).to_pylist()} == {"grad_cam", None}


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    class BlackBox:
        classes = ("a", "b")
        differentiable = False

        def __call__(self, x: torch.Tensor) -> torch.Tensor:
            return x.mean((2, 3))[:, :2]

    check_saliency(SaliencyConfig(), BlackBox(), (64, 64))
    with pytest.raises(ValueError, match="'grad_cam' looks inside a network, but the classifier is a black box"):
        check_saliency(SaliencyConfig(maps=(Saliency(map="grad_cam"),)), BlackBox(), (64, 64))
    planted = load_classifier(PLANTED)
    with pytest.raises(ValueError, match="cannot have map 'hit'; it can have grad_cam"):
        check_saliency(SaliencyConfig(maps=(Saliency(map="hit"),)), planted, (64, 64))
    with pytest.raises(ValueError, match="holds no folder of an attribute"):
        check_saliency(SaliencyConfig(regions=tmp_path), planted, (64, 64))


def test_a_region_is_what_toggling_shows() -> None:
    _, portrait = next(draw(1, SEED))
    shown = region(portrait, "glasses")
    (rows,) = np.nonzero(shown.any(axis=1))
    assert rows.min() >= 20 and rows.max() <= 42 and 80 < shown.sum() < 600
