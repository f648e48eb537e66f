"""Explanations that change nobody's mind are no test: nothing is clear then, no gate passes, and the page says so."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from facts import attribute_rows, effect_rows, explanation_rows, image_ids, image_rows, prediction_rows, run_rows, write_shard

from warehouse.lens.connect import query
from warehouse.lens.gate import gate, set_policy
from warehouse.report.verdict import verdict

N = 100
POLICY: dict[str, Any] = {
    "base": None,
    "forbidden": None,
    "maximum_effect": 0.15,
    "minimum_images": 32,
    "minimum_flip_rate": None,  # even where no floor is asked for
    "minimum_judge_flip_rate": None,
    "maximum_rise": 0.1,
    "maximum_cd_rise": None,
    "explained": False,
}


class Flips(NamedTuple):
    """Shares of the explanations that flip the classifier and, if there is one, the judge."""

    guided: float
    null: float
    judged: float | None = None
    judged_null: float | None = None


def write(root: Path, flips: Flips, effects: dict[str, float] | None = None, moved: float = 0.0) -> None:
    """A run of which beard moves by no explanation and hat by `moved`; `effects`: what editing one of them does."""
    ids = image_ids(N)
    write_shard(root, "runs", "r1", "finished", run_rows())
    write_shard(root, "images", "r1", "1", image_rows(ids))
    write_shard(root, "predictions", "r1", "1", prediction_rows(ids, ["no_smile"] * N))
    for arm, share, judged in (("guided", flips.guided, flips.judged), ("null", flips.null, flips.judged_null)):
        flipped = [i < round(N * share) for i in range(N)]
        seen = [None if judged is None else i < round(N * judged) for i in range(N)]
        write_shard(root, "explanations", "r1", arm, explanation_rows(ids, arm, flipped=flipped, judge_flipped=seen))
        still = {"hat": [0.2] * N, "beard": [0.7] * N}
        after = still | {"hat": [0.2 + moved * (arm == "guided")] * N}
        write_shard(root, "attributes", "r1", arm, attribute_rows(ids, still, after, arm))
    for name, change in (effects or {}).items():
        write_shard(root, "effects", "r1", name, effect_rows(ids[:40], name, [change + 0.01 * (i % 2) for i in range(40)]))


WEAK = {
    "hardly-any-flip": Flips(0.02, 0.02),
    "none-flips": Flips(0.0, 0.0),
    "fewer-than-half": Flips(0.4, 0.0),
    "no-more-than-unguided": Flips(0.9, 0.8),
    "judge-sees-nothing": Flips(0.95, 0.02, 0.05, 0.02),
    "judge-sees-redrawing-alone": Flips(0.95, 0.02, 0.5, 0.48),
    "classifier-weak-though-judge-flips": Flips(0.3, 0.0, 0.9, 0.0),
}
STRONG = {
    "no-judge": Flips(0.95, 0.02),
    "judge-follows": Flips(0.95, 0.02, 0.9, 0.02),
    "judge-follows-in-part": Flips(0.95, 0.02, 0.4, 0.02),
}


@pytest.mark.parametrize("flips", WEAK.values(), ids=WEAK)
def test_a_weak_audit_clears_nothing_and_says_that_it_tested_nothing(tmp_path: Path, flips: Flips) -> None:
    write(tmp_path, flips)
    rows = query(tmp_path, "from verdicts").to_pylist()
    assert len(rows) == 2 and {row["verdict"] for row in rows} == {"inconclusive"}
    assert all(row["rests_on"].startswith("nothing was tested") for row in rows)
    said = verdict(query(tmp_path, "from runs").to_pylist()[0], rows, [], [])
    assert said.kind == "inconclusive" and said.headline.startswith("Nothing could be tested: the explanations hardly change")
    assert said.sentences[0].startswith("By explanations nothing was tested: ")
    set_policy(tmp_path, "r1", POLICY)
    held = gate(tmp_path, "r1")
    assert held.verdict == "inconclusive"
    assert {rule["subject"]: rule["result"] for rule in held.rules if rule["rule"] == "effect"} == {
        "hat": "inconclusive",
        "beard": "inconclusive",
    }
    assert all("nothing was tested" in rule["reason"] for rule in held.rules if rule["rule"] == "effect")


@pytest.mark.parametrize("flips", STRONG.values(), ids=STRONG)
def test_where_explanations_test_something_still_attributes_are_cleared(tmp_path: Path, flips: Flips) -> None:
    write(tmp_path, flips, {"hat": 0.0, "beard": 0.0})
    assert query(tmp_path, "select verdict from verdicts")["verdict"].to_pylist() == ["clear", "clear"]
    set_policy(tmp_path, "r1", POLICY)
    assert gate(tmp_path, "r1").verdict == "pass"


@pytest.mark.parametrize("flips", WEAK.values(), ids=WEAK)
def test_what_edits_find_is_still_said_where_explanations_are_weak(tmp_path: Path, flips: Flips) -> None:
    write(tmp_path, flips, {"hat": 0.4, "beard": 0.0})
    rows = {row["attribute"]: row for row in query(tmp_path, "from verdicts").to_pylist()}
    assert {name: row["verdict"] for name, row in rows.items()} == {"hat": "inconclusive", "beard": "inconclusive"}
    assert re.fullmatch(r"nothing was tested: .*; edited by itself it moves the answer by \+0\.4\d", rows["hat"]["rests_on"])
    assert "by itself" not in rows["beard"]["rests_on"]
    said = verdict(query(tmp_path, "from runs").to_pylist()[0], list(rows.values()), [], [])
    assert said.headline.startswith("Nothing could be tested")
    assert any(
        re.fullmatch(r"Edited alone, “hat” moves the “\w+” score by \+4\d\.\d points\.", sentence) for sentence in said.sentences
    )
    assert any("nothing was tested" in sentence for sentence in said.sentences)


@pytest.mark.parametrize("rate", ["flip rate", "judge flip rate"])
def test_a_rate_below_its_floor_is_a_weak_audit_not_a_failed_classifier(tmp_path: Path, rate: str) -> None:
    write(tmp_path, Flips(0.3, 0.0, 0.1, 0.0))
    set_policy(tmp_path, "r1", POLICY | {"minimum_flip_rate": 0.8, "minimum_judge_flip_rate": 0.5})
    (rule,) = [rule for rule in gate(tmp_path, "r1").rules if rule["rule"] == rate]
    assert (rule["result"], rule["verdict"], rule["images_needed"]) == ("inconclusive", "inconclusive", None)
    assert rule["reason"].endswith("required: the audit is too weak to clear anything")


def test_a_confirmed_attribute_never_passes(tmp_path: Path) -> None:
    write(tmp_path, Flips(0.95, 0.0), {"hat": 0.2, "beard": 0.0}, moved=0.1)
    (hat,) = query(tmp_path, "from verdicts where attribute = 'hat'").to_pylist()
    assert hat["verdict"] == "confirmed" and hat["high"] < 0.15
    for most in (0.15, 0.9):  # a limit is for what is not confirmed
        set_policy(tmp_path, "r1", POLICY | {"maximum_effect": most})
        assert {rule["result"] for rule in gate(tmp_path, "r1").rules if rule["subject"] == "hat"} == {"fail"}
    set_policy(tmp_path, "r1", POLICY | {"forbidden": ["beard"]})
    assert gate(tmp_path, "r1").verdict == "pass"
