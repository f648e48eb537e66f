"""What needs no name, as views: the explained share, places gathered into zones, all claims in one ranked list."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from facts import place_rows, property_rows, run_rows, share_rows

from warehouse.facts.shards import write_shard
from warehouse.lens.connect import query


def write(root: Path, run_id: str = "run", **facts: Any) -> None:
    write_shard(root, "runs", run_id, "finished", run_rows())  # of margin .05
    for fact, rows in facts.items():
        write_shard(root, fact, run_id, "all", rows)


def test_every_claim_has_its_rank_its_verdict_and_why(tmp_path: Path) -> None:
    effects = {"warmth": 0.43, "sharpness": 0.2, "border": -0.3, "gamma": 0.2, "noise": 0.0, "contrast": 0.04}
    properties = property_rows(effects) | {
        "kind": ["relies on", "relies on", "fragile", "fragile", None, None],
        "through": [None, "noise", None, None, None, None],
        "tied": [["greenness"], None, None, None, None, None],
        "in_data": [True, True, False, True, True, True],
    }
    write(tmp_path, property_claims=properties, place_claims=place_rows({60: 0.49, 27: 0.3}, {27: ["smile"]}))
    rows = query(tmp_path, "select kind, name, verdict, intervention, why from findings order by rank").to_pylist()
    assert [tuple(row.values()) for row in rows[:7]] == [
        ("place", "bottom centre", "confirmed", 0.49, "transplants; nothing that was named accounts for it"),
        ("property", "warmth", "confirmed", 0.43, "probes and association agree; these images do not tell it from greenness"),
        ("property", "sharpness", "suspected", 0.2, "acts through noise"),
        ("property", "border", "fragile", -0.3, "not in your data: moved by a small fixed dose"),
        (
            "property",
            "gamma",
            "fragile",
            0.2,
            "the answer moves, but not as the property goes with it in your data, beyond the label",
        ),
        ("property", "contrast", "inconclusive", 0.04, "probes"),
        ("place", "centre", "named", 0.3, "transplants; smile there"),
    ]
    assert {row["verdict"] for row in rows[7:]} == {"clear"} and rows[-1]["name"] == "noise"
    assert len(rows) == len(effects) + 9


def test_where_the_names_explain_everything_a_place_of_theirs_is_not_held_against_the_classifier(tmp_path: Path) -> None:
    """As threes and eights: the answer is the holes, and the oracle sees less of a pasted stroke than the classifier does."""
    places = place_rows({27: 0.4, 60: 0.3}, {27: ["smile"]})
    places["unnamed"] = [cell in (27, 60) for cell in range(64)]  # of the first more than half is left without the name
    write(tmp_path, "known", place_claims=places, explained=share_rows(0.99, 1.0))
    write(tmp_path, "dark", place_claims=places, explained=share_rows(0.4, 0.9))
    write(tmp_path, "unmeasured", place_claims=places)
    said = {key: row["verdict"] for key, row in zones(tmp_path).items() if key[1] in ("centre", "bottom centre")}
    assert said == {("known", "centre"): "named"} | {
        key: "confirmed"
        for key in said
        if key != ("known", "centre")  # a place of nobody's stays one, however much is explained
    }
    assert len(said) == 6


def test_without_a_named_attribute_a_place_is_confirmed_only_in_a_corner_and_beyond_the_label(tmp_path: Path) -> None:
    cells = {63: 0.5, 27: 0.4, 4: 0.3, 9: 0.2}  # the corner; the centre; the upper edge; the upper left, but not at the rim
    for run_id, beyond in (("beyond", True), ("labelled", False), ("unlabelled", None)):
        places = place_rows(cells) | {"oracle": [False] * 64, "beyond_label": [beyond] * 64}
        write(tmp_path, run_id, place_claims=places)
    said = {key: row["verdict"] for key, row in zones(tmp_path).items() if row["unnamed"]}
    assert {key for key, verdict in said.items() if verdict == "confirmed"} == {("beyond", "bottom right")}
    assert {verdict for key, verdict in said.items() if key != ("beyond", "bottom right")} == {"suspected"} and len(said) == 12


def zones(root: Path) -> dict[tuple[str, str], dict[str, Any]]:
    return {(row["run_id"], row["zone"]): row for row in query(root, "from places").to_pylist()}


def test_places_are_nine_zones_and_the_frame_is_one_of_its_own(tmp_path: Path) -> None:
    write(tmp_path, "frame", place_claims=place_rows({3: 0.2, 24: 0.3, 31: 0.25, 27: 0.6}, {27: ["smile"]}))
    write(tmp_path, "spread", place_claims=place_rows({3: 0.2, 24: 0.3, 31: 0.25, 27: 0.6}, {44: ["smile"]}))
    write(tmp_path, "corners", place_claims=place_rows({0: 0.2, 3: 0.3, 5: 0.1, 12: 0.4, 15: 0.5}, {6: ["smile"]}, grid=4))
    write(tmp_path, "bare", place_claims=place_rows({60: 0.49}))
    found = zones(tmp_path)
    confirmed = {key for key, row in found.items() if row["verdict"] == "confirmed"}
    assert confirmed == {
        ("frame", "frame"),  # three sides, and nothing unnamed within
        *(("spread", zone) for zone in ("top centre", "middle left", "middle right", "centre")),
        ("corners", "centre"),  # so the rim is none
        *(("corners", f"{row} {side}") for row in ("top", "bottom") for side in ("left", "right")),
    }
    assert (
        found["bare", "bottom centre"]["verdict"] == "suspected"
    )  # no attribute was looked for: it may be the label's own place
    frame = found["frame", "frame"]
    assert (frame["effect"], frame["cells"], frame["unnamed"]) == (0.3, 3, 3)
    assert (found["frame", "centre"]["verdict"], found["frame", "centre"]["attributes"]) == ("named", ["smile"])


def test_the_effect_of_a_zone_is_that_of_its_strongest_unnamed_cell(tmp_path: Path) -> None:
    write(tmp_path, place_claims=place_rows({59: 0.6, 60: 0.2, 0: 0.04}, {59: ["smile"]}))
    found = zones(tmp_path)
    bottom = found["run", "bottom centre"]
    assert (bottom["effect"], bottom["residual"], bottom["verdict"]) == (0.2, 0.2, "confirmed")
    assert (bottom["cells"], bottom["unnamed"], bottom["attributes"]) == (2, 1, ["smile"])
    assert found["run", "top left"]["verdict"] == "inconclusive"  # up to .06, where the margin is .05
    assert found["run", "top right"]["verdict"] == "clear"


def test_the_explained_share_is_that_of_all_names_beside_the_most_of_anything(tmp_path: Path) -> None:
    write(tmp_path, explained=share_rows(0.2, 0.9))
    [row] = query(tmp_path, "from explained_share").to_pylist()
    assert (row["share"], row["ceiling"], row["ceiling_inputs"], row["cleared"]) == (0.2, 0.9, "generic features", False)
    assert row["label_share"] == 0.2 - 0.1 and row["missing"] == 0.9 - 0.2 and row["class"] == "smile"
