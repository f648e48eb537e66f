"""The statistics of attribute_effects and ranked_attributes, against planted truths, numpy and scipy."""

import numpy as np
import pandas as pd
import pytest
from facts import attribute_rows, explanation_rows, image_ids, run_rows, write_outcomes
from scipy.stats import false_discovery_control

from warehouse.facts.shards import write_shard
from warehouse.lens.connect import query

RUNS = 40
EFFECTS = {"smile": 0.2, "glasses": 0.1, "hat": 0.0, "beard": 0.0, "earrings": 0.0}


@pytest.fixture(scope="module")
def many_runs(tmp_path_factory):
    """A warehouse of forty audits of 64 images each, all with the same truth."""
    root = tmp_path_factory.mktemp("warehouse")
    for run in range(RUNS):
        write_outcomes(root, f"r{run:02}", EFFECTS, n=64, seed=run)
    return root


@pytest.fixture(scope="module")
def effects(many_runs) -> pd.DataFrame:
    """attribute_effects with the true effect of each row."""
    rows = query(many_runs, "from attribute_effects order by run_id, attribute, target").to_pandas()
    return rows.assign(truth=rows.attribute.map(EFFECTS) * rows.target.map({"smile": 1, "no_smile": -1}))


@pytest.fixture(scope="module")
def ranked(many_runs) -> pd.DataFrame:
    rows = query(many_runs, "from ranked_attributes order by run_id, rank").to_pandas()
    return rows.assign(truth=rows.attribute.map(EFFECTS))


def test_there_is_a_row_per_attribute_and_direction(effects, ranked):
    assert len(effects) == RUNS * len(EFFECTS) * 2
    assert set(effects.n) == {32}
    assert len(ranked) == RUNS * (len(EFFECTS) - 1)
    assert set(ranked.n) == {64}
    assert set(ranked.source) == {"no_smile"}
    assert set(ranked.target) == {"smile"}


def test_a_95_percent_interval_holds_the_truth_in_about_95_percent(effects):
    held = (effects.low <= effects.truth) & (effects.truth <= effects.high)
    assert 0.9 < held.mean() < 0.98  # 400 intervals of 32 images: .95 give or take .01, and a bootstrap of 32 is a little short


def test_simultaneous_intervals_hold_all_truths_of_a_run_at_once(ranked):
    held = (ranked.low <= ranked.truth) & (ranked.truth <= ranked.high)
    assert 0.86 < held.groupby(ranked.run_id).all().mean() <= 1.0  # 40 runs: .95 give or take .03


def test_the_planted_attribute_is_ranked_first_and_found_in_every_run(ranked):
    first = ranked[ranked["rank"] == 1]
    assert set(first.attribute) == {"glasses"}
    assert set(first.status) == {"above null"}
    assert abs(first.effect.mean() - 0.1) < 0.005
    assert "smile" not in set(ranked.attribute)


def test_nothing_planted_is_seldom_found(effects, ranked):
    nothing = ranked[ranked.truth == 0]
    # Benjamini-Hochberg at .05 beside one true effect of four attributes: at most .05 of all claims are false
    assert (nothing.status == "above null").mean() < 0.06
    assert (nothing.status == "clear").mean() > 0.9
    p = effects[effects.truth == 0].p
    assert 0.02 < (p < 0.05).mean() < 0.09
    assert 0.4 < p.mean() < 0.6


def test_q_is_what_scipy_makes_of_p(effects, ranked):
    for run_id, run in effects.groupby("run_id"):
        others = run[run.attribute != "smile"]
        assert others.q.to_numpy() == pytest.approx(false_discovery_control(others.p), abs=1e-12), run_id
        assert run[run.attribute == "smile"].q.isna().all()
    for run_id, run in ranked.groupby("run_id"):
        assert run.q.to_numpy() == pytest.approx(false_discovery_control(run.p), abs=1e-12), run_id


def test_effect_and_p_are_those_of_numpy_on_the_same_images(many_runs, effects):
    sql = (
        "from attributes join (select image_id, target from outcomes where run_id = 'r07') using (image_id) where run_id = 'r07'"
    )
    rows = query(many_runs, sql).to_pandas()
    rng = np.random.default_rng(0)
    for (attribute, target), row in effects[effects.run_id == "r07"].set_index(["attribute", "target"]).iterrows():
        arms = rows[rows.target == target].pivot(index="image_id", columns="arm", values=f"d_{attribute}")
        paired = (arms.guided - arms.null).to_numpy(dtype=float)
        assert row.effect == pytest.approx(paired.mean(), abs=1e-7)
        flips = rng.choice([-1, 1], (20_000, len(paired))) @ paired / len(paired)
        assert row.p == pytest.approx((np.abs(flips) >= abs(paired.mean()) - 1e-12).mean(), abs=0.045)
        spread = rng.choice(paired, (4000, len(paired))).mean(axis=1)
        assert (row.low, row.high) == pytest.approx(np.quantile(spread, [0.025, 0.975]), abs=0.006)


def test_the_same_question_has_the_same_answer_bit_by_bit(many_runs):
    sql = "from {} where run_id < 'r05' order by all"
    for view in ("attribute_effects", "ranked_attributes"):
        assert query(many_runs, sql.format(view)).equals(query(many_runs, sql.format(view)))


def test_the_answer_does_not_depend_on_how_rows_lie_in_shards(tmp_path):
    for name, shards in (("one", 1), ("seven", 7)):
        write_outcomes(tmp_path / name, "r1", EFFECTS, n=50, shards=shards)
    for view in ("attribute_effects", "ranked_attributes", "mnac"):
        one, seven = (query(tmp_path / name, f"from {view} order by all") for name in ("one", "seven"))
        assert one.equals(seven)


def write_pairs(root, run_id, differences, ids=None, sources=None, targets=None, seeds=(0,), **run):
    """One run: a guided explanation whose attributes move by `differences`, by attribute, and a null one that stays."""
    n = len(next(iter(differences.values())))
    ids = ids or image_ids(n)
    still = {name: [0.5] * n for name in differences}
    moved = {name: [0.5 + d for d in values] for name, values in differences.items()}
    directions = {"source": sources or ["no_smile"] * n, "target": targets or ["smile"] * n}
    for seed in seeds:
        for arm, after in (("guided", moved), ("null", still)):
            key = f"{arm}-{seed}"
            write_shard(root, "explanations", run_id, key, explanation_rows(ids, arm, seed=[seed] * n, **directions))
            write_shard(root, "attributes", run_id, key, attribute_rows(ids, still, after, arm, seed))
    write_shard(root, "runs", run_id, "finished", run_rows(**({"target_attribute": None} | run)))


def test_directions_are_pooled_with_the_sign_of_the_second_class(tmp_path):
    # towards smile +.25 in three images, towards no_smile -.5 in one: (3 * .25 + .5) / 4
    towards = ["smile", "smile", "smile", "no_smile"]
    write_pairs(tmp_path, "r1", {"glasses": [0.25, 0.25, 0.25, -0.5]}, sources=["no_smile"] * 3 + ["smile"], targets=towards)
    rows = query(tmp_path, "select target, effect, n from attribute_effects order by target").to_pylist()
    assert rows == [{"target": "no_smile", "effect": -0.5, "n": 1}, {"target": "smile", "effect": 0.25, "n": 3}]
    (row,) = query(tmp_path, "from ranked_attributes").to_pylist()
    assert (row["source"], row["target"], row["effect"], row["n"]) == ("no_smile", "smile", 0.3125, 4)


def test_more_than_two_classes_are_ranked_by_their_strongest_direction(tmp_path):
    sources, targets = ["cat"] * 20 + ["dog"] * 20, ["dog"] * 20 + ["fox"] * 20
    differences = {"ears": [0.1] * 20 + [-0.3] * 20, "tail": [0.2] * 20 + [0.1] * 20}
    write_pairs(tmp_path, "r1", differences, sources=sources, targets=targets, classes=["cat", "dog", "fox"])
    rows = query(tmp_path, "select attribute, source, target, effect from ranked_attributes order by rank").to_pylist()
    assert [(row["attribute"], row["source"], row["target"]) for row in rows] == [("ears", "dog", "fox"), ("tail", "cat", "dog")]
    assert [row["effect"] for row in rows] == pytest.approx([-0.3, 0.2], abs=1e-6)


def test_an_image_without_its_null_does_not_count(tmp_path):
    write_pairs(tmp_path, "r1", {"glasses": [0.25, 0.25]})
    alone = image_ids(1, seed=1)
    write_shard(tmp_path, "explanations", "r1", "late", explanation_rows(alone))
    write_shard(tmp_path, "attributes", "r1", "late", attribute_rows(alone, {"glasses": [0.0]}, {"glasses": [1.0]}))
    assert query(tmp_path, "select effect, n from attribute_effects").to_pylist() == [{"effect": 0.25, "n": 2}]


def test_seeds_of_one_image_are_not_more_images(tmp_path):
    differences = {"glasses": list(np.linspace(-0.1, 0.3, 16))}
    write_pairs(tmp_path, "one", differences)
    write_pairs(tmp_path, "three", differences, seeds=(0, 1, 2))
    one, three = query(tmp_path, "select * exclude (run_id) from attribute_effects order by run_id").to_pylist()
    assert one == pytest.approx(three)
    assert three["n"] == 16


@pytest.mark.parametrize(("n", "status", "needed"), [(1, "inconclusive", 60), (59, "inconclusive", 60), (60, "clear", None)])
def test_no_change_in_few_images_is_not_yet_clear(tmp_path, n, status, needed):
    # a margin of .05 asks for 3 / .05 = 60 images: fewer would often miss a full change of a twentieth of them
    write_pairs(tmp_path, "r1", {"hat": [0.0] * n})
    (row,) = query(tmp_path, "from ranked_attributes").to_pylist()
    assert (row["status"], row["images_needed"]) == (status, needed)
    assert (row["effect"], row["low"], row["high"], row["p"]) == (0, 0, 0, 1)


def test_the_images_that_would_settle_an_open_question_are_told(tmp_path):
    rng = np.random.default_rng(0)
    write_pairs(tmp_path, "r1", {"hat": list(rng.uniform(-0.4, 0.4, 40))})
    (row,) = query(tmp_path, "from ranked_attributes").to_pylist()
    half, effect = (row["high"] - row["low"]) / 2, abs(row["effect"])
    assert row["status"] == "inconclusive"
    assert row["images_needed"] > np.ceil(40 * (half / max(effect, 0.05 - effect)) ** 2) > 40


def test_without_a_margin_nothing_is_ever_clear(tmp_path):
    write_pairs(tmp_path, "r1", {"hat": [0.0] * 80, "beard": [0.2, -0.1] * 40}, margin=0.0)
    rows = query(tmp_path, "select attribute, status, images_needed from ranked_attributes order by rank").to_pylist()
    assert rows[0] == {"attribute": "beard", "status": "above null", "images_needed": None}
    assert rows[1] == {"attribute": "hat", "status": "inconclusive", "images_needed": None}


def test_more_images_than_buckets_give_the_same_effect(tmp_path):
    rng = np.random.default_rng(0)
    differences = rng.normal(0.1, 0.1, 3000).astype(np.float32)
    write_pairs(tmp_path, "r1", {"glasses": list(differences)})
    (row,) = query(tmp_path, "from attribute_effects").to_pylist()
    assert row["effect"] == pytest.approx(differences.mean(), abs=1e-6)
    assert row["n"] == 3000
    assert row["high"] - row["low"] == pytest.approx(2 * 1.96 * differences.std() / np.sqrt(3000), rel=0.1)
    assert query(tmp_path, "select max(bucket) as last, count(*) as n from buckets where run_id = 'r1'").to_pylist() == [
        {"last": 1023, "n": pytest.approx(970, abs=30)}
    ]


def test_draws_of_different_buckets_are_unrelated(many_runs):
    # were two buckets to flip alike, the variance of their sum would be above the sum of their squares
    flipped = """select run_id, list(d_hat) as sums from resamples
        where kind = 'sign flip' and target = 'smile' group by run_id order by run_id"""
    squared = "select run_id, sum(d_hat ** 2) as total from buckets where target = 'smile' group by run_id order by run_id"
    sums = np.array(query(many_runs, flipped)["sums"].to_pylist())
    assert sums.shape == (RUNS, 2000)
    assert sums.var(axis=1) == pytest.approx(query(many_runs, squared)["total"].to_numpy(), rel=0.2)
    assert sums.var(axis=1).mean() == pytest.approx(query(many_runs, squared)["total"].to_numpy().mean(), rel=0.02)
