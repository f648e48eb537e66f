"""The views interventions and verdicts: closed forms, the rules one by one, and scipy's t."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from facts import effect_rows, image_ids, run_rows
from scipy.stats import norm, t
from test_statistics import write_pairs

from tasks.reading.gate import Policy, set_policy
from tasks.stages.canary import Twins, judged
from warehouse.facts.shards import write_shard
from warehouse.lens.connect import query

N = 64


def write_edits(root: Path, attribute: str, changes: Any, **columns: Any) -> None:
    ids = image_ids(len(changes), seed=9)
    write_shard(root, "effects", "r1", attribute, effect_rows(ids, attribute, changes, **columns))


def ask(root: Path, sql: str) -> list[dict[str, Any]]:
    return query(root, sql).to_pylist()


def test_an_edit_that_switches_off_counts_with_the_opposite_sign_and_the_sham_is_taken_off(tmp_path: Path) -> None:
    write_shard(tmp_path, "runs", "r1", "finished", run_rows())
    columns = {
        "switched_on": [True, False, False],
        "counted": [True, True, False],
        "probabilities_sham": [[0.4, 0.6], [0.5, 0.5], [0.5, 0.5]],
    }
    write_edits(tmp_path, "hat", [0.2, -0.3, 0.5], **columns)
    [row] = ask(tmp_path, "from interventions")
    # on: .7 - .6 = .1; off: -(.2 - .5) = .3; the third is not counted
    assert (row["target"], row["n"], row["tried"], row["low"]) == ("smile", 2, 3, None)
    assert row["effect"] == pytest.approx(0.2) and row["drift"] == pytest.approx(0.05)


def test_an_effect_is_what_the_redrawn_and_the_pasted_edit_both_say(tmp_path: Path) -> None:
    write_shard(tmp_path, "runs", "r1", "finished", run_rows())
    pasted = [0.6, 0.9, 0.4, 0.5]  # beside images of .5: +.1, +.4, -.1, 0
    write_edits(tmp_path, "hat", [0.2] * 4, probabilities_pasted=[[1 - p, p] for p in pasted])
    rows = ask(tmp_path, "select redrawn, pasted, change from edit_effects order by pasted")
    assert [row["pasted"] for row in rows] == pytest.approx([-0.1, 0.0, 0.1, 0.4])
    assert [row["redrawn"] for row in rows] == pytest.approx([0.2] * 4)
    assert [row["change"] for row in rows] == pytest.approx([0.0, 0.0, 0.1, 0.2])


@pytest.mark.parametrize(
    ("change", "verdict", "rests_on"),
    [
        (0.2, "suspected", "explanations and edits, but redrawing alone moves the answer by 0.10"),
        (0.4, "confirmed", "explanations and edits"),
    ],
)
def test_a_classifier_that_redrawing_moves_needs_larger_effects(
    tmp_path: Path, change: float, verdict: str, rests_on: str
) -> None:
    rng = np.random.default_rng(0)
    write_pairs(tmp_path, "r1", {"hat": list(rng.normal(0.2, 0.04, N)), "beard": list(rng.normal(0.2, 0.04, N))}, margin=0.05)
    changes = rng.normal(change, 0.04, N)
    write_edits(tmp_path, "hat", changes)
    redrawn = [[0.6, 0.4]] * N  # the shams of another attribute; none of its edits counts
    write_edits(tmp_path, "beard", changes, probabilities_sham=redrawn, counted=[False] * N)
    [row] = ask(tmp_path, "from verdicts where attribute = 'hat'")
    assert (row["verdict"], row["rests_on"], row["redrawing"]) == (verdict, rests_on, pytest.approx(0.1))


@pytest.mark.parametrize(("pull", "verdict"), [(0.0, "clear"), (0.02, "clear"), (0.04, "inconclusive")])
def test_edits_clear_no_attribute_of_a_classifier_that_redrawing_moves(tmp_path: Path, pull: float, verdict: str) -> None:
    rng = np.random.default_rng(0)
    write_pairs(tmp_path, "r1", {"hat": list(rng.normal(0.0, 0.3, N))}, margin=0.05)
    write_edits(tmp_path, "hat", [0.0] * N, probabilities_sham=[[0.5 + pull, 0.5 - pull]] * N)
    [row] = ask(tmp_path, "from verdicts")
    assert row["verdict"] == verdict


def test_explanations_alone_say_that_edits_cannot_tell(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    write_pairs(tmp_path, "r1", {"hat": list(rng.normal(0.2, 0.04, N))}, margin=0.05)
    write_edits(tmp_path, "hat", [0.0] * N, probabilities_sham=[[0.6, 0.4]] * N)
    [row] = ask(tmp_path, "from verdicts")
    assert row["rests_on"] == "explanations alone: redrawing by itself moves the answer by 0.10, so edits cannot tell"


def test_a_reaction_inside_the_margin_is_suspected_however_sure(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    write_pairs(tmp_path, "r1", {"hat": list(rng.normal(0.2, 0.04, N))}, margin=0.05)
    write_edits(tmp_path, "hat", rng.normal(0.047, 0.04, N))
    [row] = ask(tmp_path, "from verdicts")
    assert row["intervention_high"] > 0.05 > row["intervention"] > row["intervention_low"] > 0
    assert row["rests_on"] == "explanations and edits, which move the answer by less than the margin"


def test_the_interval_of_few_edits_is_as_wide_as_students(tmp_path: Path) -> None:
    write_shard(tmp_path, "runs", "r1", "finished", run_rows())
    rng = np.random.default_rng(0)
    for n in (12, 40):
        changes = rng.normal(0.1, 0.1, n)
        write_edits(tmp_path, f"hat{n}", changes)
        [row] = ask(tmp_path, f"from interventions where attribute = 'hat{n}'")
        half = t.ppf(0.975, n - 1) * changes.std(ddof=1) / np.sqrt(n)
        assert (row["high"] - row["low"]) / 2 == pytest.approx(half, rel=0.06)
        assert row["effect"] == pytest.approx(changes.mean(), abs=1e-6)


def test_more_than_two_classes_have_a_row_for_each_class_that_was_asked_for(tmp_path: Path) -> None:
    classes = ["cat", "dog", "fox"]
    write_pairs(tmp_path, "r1", {"ears": [0.1] * 8}, sources=["cat"] * 8, targets=["dog"] * 8, classes=classes)
    three = {f"probabilities_{when}": [p] * 8 for when, p in (("before", [0.8, 0.1, 0.1]), ("sham", [0.8, 0.1, 0.1]))}
    write_edits(tmp_path, "ears", [0.0] * 8, **three, probabilities_after=[[0.5, 0.3, 0.2]] * 8)
    [row] = ask(tmp_path, "select target, effect from interventions")
    assert (row["target"], row["effect"]) == ("dog", pytest.approx(0.2))


@pytest.mark.parametrize(
    ("effect", "change", "verdict", "rests_on"),
    [
        (0.2, 0.2, "confirmed", "explanations and edits"),
        (0.2, -0.2, "suspected", "explanations and edits, which disagree in sign"),
        (0.2, 0.0, "suspected", "explanations alone: edited by itself, it moves the answer by less than the margin"),
        (0.2, None, "suspected", "explanations alone: not edited"),
        (0.0, 0.2, "suspected", "edits alone"),
        (0.0, 0.0, "clear", "explanations and edits"),
        (0.0, None, "not tested", "not edited; explanations alone clear nothing"),
    ],
)
def test_the_rules(tmp_path: Path, effect: float, change: float | None, verdict: str, rests_on: str) -> None:
    rng = np.random.default_rng(0)
    write_pairs(tmp_path, "r1", {"hat": list(rng.normal(effect, 0.04, N))}, margin=0.05)
    if change is not None:
        write_edits(tmp_path, "hat", rng.normal(change, 0.04, N))
    [row] = ask(tmp_path, "from verdicts")
    assert (row["verdict"], row["rests_on"]) == (verdict, rests_on)
    assert row["images_needed"] is None


def test_an_attribute_of_which_no_edit_counts_says_so(tmp_path: Path) -> None:
    write_pairs(tmp_path, "r1", {"hat": [0.0, 0.01] * 32}, margin=0.05)
    write_edits(tmp_path, "hat", [0.0] * N, counted=[False] * N)
    [row] = ask(tmp_path, "from verdicts")
    assert (row["verdict"], row["rests_on"]) == ("clear", "explanations alone: no edit could be counted")


def test_what_editing_confirms_ranks_before_what_only_moved_more(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    moved = {"beard": 0.4, "hat": 0.2, "glasses": 0.3, "earrings": 0.0}
    write_pairs(tmp_path, "r1", {name: list(rng.normal(size, 0.04, N)) for name, size in moved.items()}, margin=0.05)
    write_edits(tmp_path, "hat", rng.normal(0.2, 0.04, N))
    found = [(row["rank"], row["attribute"], row["verdict"]) for row in ask(tmp_path, "from verdicts order by rank")]
    assert found == [
        (1, "hat", "confirmed"),
        (2, "beard", "suspected"),
        (3, "glasses", "suspected"),
        (4, "earrings", "not tested"),
    ]
    assert ask(tmp_path, "select attribute from ranked_attributes where rank = 1") == [{"attribute": "beard"}]


def test_a_change_within_the_margin_is_clear_however_sure(tmp_path: Path) -> None:
    write_pairs(tmp_path, "r1", {"hat": [0.02, 0.03] * 32}, margin=0.05)
    write_edits(tmp_path, "hat", [0.0] * N)
    [row] = ask(tmp_path, "from verdicts")
    assert row["q"] < 0.01 and row["low"] > 0 and row["verdict"] == "clear"


def test_edits_inside_the_margin_clear_what_explanations_move_by_less_than_it(tmp_path: Path) -> None:
    moved = np.random.default_rng(6).normal(0.0, 0.08, N)
    write_pairs(tmp_path, "r1", {"hat": list(moved - moved.mean() + 0.04)}, margin=0.05)
    [row] = ask(tmp_path, "from verdicts")
    assert (row["verdict"], row["rests_on"]) == ("suspected", "explanations alone: not edited")
    write_edits(tmp_path, "hat", [0.01, -0.01] * (N // 2))
    [row] = ask(tmp_path, "from verdicts")
    assert row["q"] < 0.01 and row["high"] > 0.05 > row["effect"] and row["verdict"] == "clear"
    assert row["rests_on"].startswith("edits: ") and row["rests_on"].endswith("explanations move it by less, too")
    for limit, result in ((0.05, "pass"), (0.03, "inconclusive")):  # the release check agrees, unless it allows less
        set_policy(tmp_path, "r1", Policy(maximum_effect=limit))
        assert ask(tmp_path, "select result from gate where rule = 'effect'") == [{"result": result}]


def test_open_questions_say_how_many_images_would_settle_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    write_pairs(tmp_path, "r1", {"hat": list(rng.normal(0.0, 0.3, 40))}, margin=0.05)
    [row] = ask(tmp_path, "from verdicts")
    assert (row["verdict"], row["rests_on"]) == ("inconclusive", "too few images to tell") and row["images_needed"] > 40
    write_edits(tmp_path, "hat", [0.9, -0.9] * 10)
    [wider] = ask(tmp_path, "from verdicts")
    assert wider["images_needed"] > row["images_needed"]


def test_the_images_needed_settle_the_question_in_eight_of_ten_audits(tmp_path: Path) -> None:
    # an effect of .1 with spread .4: how many of 300 audits of the images named by one of them exclude 0?
    rng = np.random.default_rng(2)
    sample = rng.normal(0.1, 0.4, 40)
    sample = 0.1 + 0.4 * (sample - sample.mean()) / sample.std(ddof=1)
    write_pairs(tmp_path, "r1", {"hat": list(sample)}, margin=0.05)
    [row] = ask(tmp_path, "from verdicts")
    audits = rng.normal(0.1, 0.4, (4000, row["images_needed"]))
    half = 1.96 * audits.std(axis=1, ddof=1) / np.sqrt(row["images_needed"])
    assert np.mean(audits.mean(axis=1) > half) == pytest.approx(0.8, abs=0.05)


def test_power_is_the_chance_that_such_an_audit_confirms(tmp_path: Path) -> None:
    # effect and reaction both 3 standard errors from 0, seen through a simultaneous interval of one attribute: 1.96 wide
    rng = np.random.default_rng(4)
    effects, reactions = (rng.normal(0, 0.4, 100) for _ in range(2))
    for values in (effects, reactions):
        values += 0.12 - values.mean()
    write_pairs(tmp_path, "r1", {"hat": list(effects)}, margin=0.05)
    write_edits(tmp_path, "hat", reactions)
    [row] = ask(tmp_path, "from claims")
    expected = norm.cdf(0.12 / (effects.std() / 10) - 1.98) * norm.cdf(0.12 / (reactions.std() / 10) - 1.98)
    assert row["power"] == pytest.approx(expected, abs=0.05)


def write_canary(root: Path, run_id: str, planted: float, clean: float) -> None:
    """A run with nothing to be found, and its twins: their attribute moves and reacts by this much."""
    rng = np.random.default_rng(5)
    for run, size in ((run_id, 0.0), (f"{run_id}-p", planted), (f"{run_id}-c", clean)):
        write_pairs(root, run, {"hat": list(rng.normal(size, 0.04, N))}, margin=0.05)
        ids = image_ids(N, seed=9)
        write_shard(root, "effects", run, "hat", effect_rows(ids, "hat", rng.normal(size, 0.04, N)))
    write_shard(root, "canaries", run_id, "all", judged(root, Twins("hat", f"{run_id}-p", f"{run_id}-c")))


@pytest.mark.parametrize(
    ("planted", "clean", "passed", "why"),
    [
        (0.2, 0.0, True, "hat was planted and confirmed, and nothing else"),
        (0.0, 0.0, False, "hat was planted and is clear"),
        (0.2, 0.2, False, "hat confirmed in the clean twin"),
    ],
)
def test_an_audit_whose_canary_failed_refuses_a_verdict(
    tmp_path: Path, planted: float, clean: float, passed: bool, why: str
) -> None:
    write_canary(tmp_path, "r1", planted, clean)
    [canary] = ask(tmp_path, "from canaries")
    assert (canary["passed"], canary["why"]) == (passed, why)
    assert canary["power"] == pytest.approx(float(planted > 0), abs=0.05)
    assert canary["false_alarm_rate"] == pytest.approx(float(clean > 0), abs=0.05)
    [row] = ask(tmp_path, "from verdicts where run_id = 'r1'")
    assert row["verdict"] == ("clear" if passed else "inconclusive")
    assert row["rests_on"] == ("explanations and edits" if passed else f"refused: the canary failed, {why}")


def test_a_canary_without_the_planted_attribute_is_an_error(tmp_path: Path) -> None:
    write_pairs(tmp_path, "p", {"hat": [0.1] * 9})
    with pytest.raises(ValueError, match="no verdict on 'beard'; explain more images"):
        judged(tmp_path, Twins("beard", "p", "p"))
