"""Pictures of interventions: which images are shown is a rule, worked out here by hand, and their scores are the facts'."""

from __future__ import annotations

import base64
import io
import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from facts import Columns, effect_rows, image_ids, place_rows, png, property_rows, run_rows, share_rows, write_run
from PIL import Image

from warehouse.facts.shards import write_shard
from warehouse.lens.connect import open_warehouse
from warehouse.lens.settled import settle
from warehouse.report.pairs import Claim, Frame, ask_pictures, pairs_of
from warehouse.report.queries import EVIDENCE, evidence
from warehouse.report.render import IMAGES

IDS = image_ids(64)
MOVED = [0.4, 0.1, 0.3, 0.05, 0.2, 0.25, 0.15, 0.35, 0.49]  # the score, by glasses put on; the last does not count
PROBED = [0.3, 0.1, 0.2]  # the score, from less to more warmth
FIVE = ["strongest", "upper quartile", "median", "lower quartile", "weakest"]


def drawn(ids: list[str], attribute: str) -> Columns:
    """Edits, light; shams, darker; pasted edits, lightest."""
    n = len(ids)
    constants: dict[str, Any] = {
        "attribute": attribute, "switched_on": True, "confirmed": True, "side": 0.0, "side_attribute": None, "mask_fraction": 0.1,
        "nfe_forward": 1, "seconds": 1.0, "png": png(200), "sham_png": png(100), "pasted_png": png(210),
    }  # fmt: skip
    return {"image_id": ids} | {name: [value] * n for name, value in constants.items()}


def probed(ids: list[str], moves: list[float]) -> Columns:
    """Probes of warmth; pictures of all but the second image."""
    rows: list[dict[str, Any]] = [
        {"image_id": image_id, "class": "smile", "probe": "warmth", "direction": way, "strength": sign, "counted": True}
        | {"p_before": 0.5, "p_after": 0.5 + sign * move / 2, "moved_png": None if i == 1 else png(int(128 + 50 * sign))}
        for i, (image_id, move) in enumerate(zip(ids, moves, strict=True))
        for way, sign in (("down", -1.0), ("up", 1.0))
    ]
    return {name: [row[name] for row in rows] for name in rows[0]}


def transplanted(ids: list[str], place: int) -> Columns:
    """A place pasted into two images: from one that is answered otherwise, .8 or .6, and from one that is answered alike, .3."""
    n = 2 * len(ids)
    return {
        "image_id": [each for each in ids for _ in range(2)], "donor_id": [IDS[20], IDS[21]] * len(ids), "class": ["smile"] * n,
        "place": [place] * n, "other": [True, False] * len(ids), "p_before": [0.2] * n, "p_after": [0.8, 0.3, 0.6, 0.3],
        "pasted_png": [png(90), png(30)] * len(ids),
    }  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pairs")
    write_run(root, "run", {"smile": 0.2, "glasses": 0.25})
    counted = [True] * 8 + [False]
    write_shard(root, "effects", "run", "0", effect_rows(IDS[:9], "glasses", MOVED, counted=counted))
    write_shard(root, "edits", "edits-1", "0", drawn(IDS[:9], "glasses"))
    write_shard(root, "explained", "run", "0", share_rows())
    write_shard(root, "property_claims", "run", "0", property_rows({"warmth": 0.2, "noise": 0.0}))
    write_shard(root, "probes", "run", "0", probed(IDS[:3], PROBED))
    write_shard(root, "place_claims", "run", "0", place_rows({0: 0.4}))
    write_shard(root, "transplants", "run", "0", transplanted(IDS[:2], 0))
    return root


def claims_of(root: Path) -> list[Claim]:
    with closing(open_warehouse(root, sql=";".join((*EVIDENCE.values(), IMAGES)))) as lens:
        settle(lens, "run")
        found = {name: evidence(lens, name, "run") for name in ("pairs", "moved", "pasted")}
        return pairs_of(found, ask_pictures(lens, "run", found))


@pytest.fixture(scope="module")
def claims(root: Path) -> list[Claim]:
    return claims_of(root)


def grey(frame: Frame) -> int:
    assert frame.uri
    return Image.open(io.BytesIO(base64.b64decode(frame.uri.split(",")[1]))).convert("L").tobytes()[0]


def test_the_edits_shown_are_the_quartiles_of_those_that_count(claims: list[Claim]) -> None:
    (glasses,) = (claim for claim in claims if claim.kind == "attribute")
    assert (glasses.name, glasses.target, glasses.verdict, glasses.n, glasses.tried) == ("glasses", "smile", "confirmed", 8, 9)
    # In order: .4 .35 .3 .25 .2 .15 .1 .05; the first, and those at 1 + 7 * 1/4, 1/2, 3/4 and 1, rounded down.
    shown = [(pair.row["pick"], pair.row["place"], round(pair.row["moved"], 2)) for pair in glasses.pairs]
    assert shown == list(zip(FIVE, [1, 2, 4, 6, 8], [0.4, 0.35, 0.25, 0.15, 0.05], strict=True))
    assert glasses.best == glasses.pairs[:3]


def test_each_picture_has_its_own_score(claims: list[Claim]) -> None:
    strongest = claims[0].pairs[0]
    assert strongest.row["image_id"] == IDS[0] and strongest.file == f"{IDS[0][:8]}.png"
    seen = [(frame.kind, grey(frame), round(frame.score, 3)) for frame in strongest.frames]
    assert seen == [("input", 128, 0.5), ("edited", 200, 0.9), ("sham", 100, 0.5), ("pasted", 210, 0.9)]


def test_a_probe_is_shown_down_and_up_and_what_no_audit_kept_is_not_there(claims: list[Claim]) -> None:
    (warmth,) = (claim for claim in claims if claim.kind == "property")
    assert [(pair.row["pick"], pair.row["image_id"]) for pair in warmth.pairs] == [
        ("strongest", IDS[0]),
        ("median", IDS[2]),
        ("weakest", IDS[1]),
    ]
    seen = [(frame.kind, grey(frame), round(frame.score, 3)) for frame in warmth.pairs[0].frames]
    assert seen == [("down", 78, 0.35), ("input", 128, 0.5), ("up", 178, 0.65)]
    assert [frame.uri is None for frame in warmth.pairs[2].frames] == [True, False, True] and warmth.pictured


def test_a_place_is_shown_beside_the_same_from_an_image_answered_alike(claims: list[Claim]) -> None:
    (corner,) = (claim for claim in claims if claim.kind == "place")
    assert (corner.name, corner.n) == ("top left", 2)
    assert [(pair.row["pick"], pair.row["image_id"]) for pair in corner.pairs] == [("strongest", IDS[0]), ("weakest", IDS[1])]
    assert [(frame.kind, round(frame.score, 3)) for frame in corner.pairs[0].frames] == [
        ("input", 0.2),
        ("other", 0.8),
        ("same", 0.3),
    ]


def test_without_thumbnails_there_are_scores_and_no_pictures(root: Path, tmp_path: Path) -> None:

    kept = Path(shutil.copytree(root, tmp_path / "kept"))
    for path in (kept / "facts/runs/run_id=run").glob("*.parquet"):
        path.unlink()
    write_shard(kept, "runs", "run", "finished", run_rows(config='{"thumbnails": false}'))
    bare = claims_of(kept)
    assert [claim.kind for claim in bare] == ["attribute", "property", "place"] and not any(claim.pictured for claim in bare)
    assert all(frame.uri is None for claim in bare for pair in claim.pairs for frame in pair.frames)


def test_nothing_edited_is_no_claim(tmp_path: Path) -> None:
    write_run(tmp_path, "run", {"smile": 0.2, "glasses": 0.25}, n=8)
    assert claims_of(tmp_path) == []
