"""The names that people write: what they ask first is answered, old names still are, and a wrong one is told the nearest."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import duckdb
import pytest
from facts import image_ids, image_rows, prediction_rows, run_rows
from portrait_run import write_portrait_run

from warehouse.facts.schema import FACTS
from warehouse.facts.shards import write_shard
from warehouse.lens.ask import WrongQuery, ask
from warehouse.lens.catalog import VIEWS
from warehouse.lens.connect import open_warehouse, query, views
from warehouse.lens.gate import set_policy
from warehouse.lens.groups import EXAMPLES, GROUP_OF, GROUPS, example
from warehouse.lens.names import NAMED, OLD_COLUMNS, OLD_VIEWS
from warehouse.lens.scans import columns_of

POLICY = {
    "base": None, "forbidden": None, "maximum_effect": 0.15, "minimum_images": 24, "minimum_flip_rate": 0.5,
    "minimum_judge_flip_rate": None, "maximum_rise": 0.1, "maximum_cd_rise": None, "explained": True,
}  # fmt: skip
N = 48
LABELS = ["cat", "dog"] * 24
COLLARS = [i % 4 < 2 for i in range(N)]
ANSWERS = ["dog" if collar and i % 3 else label for i, (label, collar) in enumerate(zip(LABELS, COLLARS, strict=True))]
PATHS = [f"pets/{i}.png" for i in range(N)]
CONFIG = {"name": "pets", "classifier": {"weights": "nets/pets.pt", "access": "torch"}, "ladder": [{"method": "dime", "tau": 60}]}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two audits: `planted`, whose classifier leans on glasses, with edits; `pets`, whose wrong answers are known by hand."""
    root = tmp_path_factory.mktemp("warehouse")
    write_portrait_run(root, "planted-1", n=40, size=16, drawn=False)
    set_policy(root, "planted-1", POLICY)
    edited = query(root, "select image_id, attribute, switched_on from effects where attribute = 'glasses'").to_pydict()
    n = len(edited["image_id"])
    pngs = query(root, f"select png from images limit {n}")["png"].to_pylist()
    fixed = {"confirmed": True, "side": 0.0, "side_attribute": None, "mask_fraction": 0.1, "nfe_forward": 20, "seconds": 0.1}
    rows = edited | {name: [value] * n for name, value in fixed.items()} | {"l1": [0.1] * n, "sham_l1": [0.1] * n}
    rows |= dict.fromkeys(("png", "sham_png", "pasted_png"), pngs) | {"d_glasses": [0.9] * n}
    write_shard(root, "edits", "edits-demo", "0", rows)
    ids = image_ids(N, seed=9)
    config = json.dumps(CONFIG)
    write_shard(
        root, "runs", "pets-1", "finished", run_rows(name="pets", config=config, classes=["cat", "dog"], target_attribute=None)
    )
    write_shard(root, "images", "pets-1", "0", image_rows(ids, label=LABELS, path=PATHS, a_collar=COLLARS))
    write_shard(root, "predictions", "pets-1", "0", prediction_rows(ids, ANSWERS))
    return root


def asked(root: Path, sql: str) -> list[Any]:
    """Rows as tuples; of one column its values."""
    rows = [tuple(row.values()) for row in ask(root, sql).rows.to_pylist()]
    return [row[0] for row in rows] if rows and len(rows[0]) == 1 else rows


RIGHT = [label == answer for label, answer in zip(LABELS, ANSWERS, strict=True)]


def share(where: list[bool]) -> float:
    """Of the images of these, how many are right."""
    return sum(right for right, there in zip(RIGHT, where, strict=True) if there) / sum(where)


def test_what_a_newcomer_asks_of_images_is_answered_at_the_first_try(root: Path) -> None:
    of_pets = "where audit = 'pets'"
    assert dict(asked(root, f"select label, accuracy from accuracy {of_pets}")) == pytest.approx(
        {None: share([True] * N)} | {name: share([label == name for label in LABELS]) for name in ("cat", "dog")}
    )
    found = asked(root, f"select path, label, predicted from predictions {of_pets}")
    assert sorted(found) == sorted(zip(PATHS, LABELS, ANSWERS, strict=True))
    wrong = [path for path, right in zip(PATHS, RIGHT, strict=True) if not right]
    assert wrong and sorted(asked(root, f"select path from predictions {of_pets} and not correct")) == sorted(wrong)
    counted = asked(root, f"select label, predicted, n from confusion {of_pets}")
    assert {(label, answer): n for label, answer, n in counted} == Counter(zip(LABELS, ANSWERS, strict=True))
    [(audit, accuracy, n)] = asked(root, "select audit, accuracy, n from subgroups where attribute = 'collar' and present")
    assert (audit, n) == ("pets", sum(COLLARS)) and accuracy == pytest.approx(share(COLLARS))
    assert asked(root, "select max(confidence) from predictions where audit = 'pets'")[0] <= 1


def test_what_a_newcomer_asks_of_audits_is_answered_at_the_first_try(root: Path) -> None:
    assert asked(root, "select model from runs where audit = 'pets'") == ["nets/pets.pt"]
    assert asked(root, "select audit, status from runs order by audit") == [("pets", "finished"), ("planted", "finished")]
    settings = dict(asked(root, "select setting, value from run_settings where kind = 'config' and audit = 'pets'"))
    assert settings == {
        "name": "pets", "classifier.weights": "nets/pets.pt", "classifier.access": "torch", "ladder[0].method": "dime",
        "ladder[0].tau": "60",
    }  # fmt: skip
    assert asked(root, "select audit, metric from scorecard where metric = 'fr'") == [("planted", "fr")]
    failed = asked(root, "select audit, verdict, subject from gate where result = 'fail' and rule = 'effect'")
    assert failed == [("planted", "fail", "glasses")]
    assert asked(root, "select audit, verdict, reasons from gate_verdicts limit 0") == []


def test_what_a_newcomer_asks_of_findings_is_answered_at_the_first_try(root: Path) -> None:
    first = ask(root, "select * from findings where audit = 'planted' order by rank").rows.to_pylist()[0]
    assert (first["kind"], first["name"], first["verdict"]) == ("attribute", "glasses", "confirmed")
    # by hand: the mean over the edits of P(smiling) after the edit less that of the sham, signed by what was switched
    rows = query(root, "select switched_on, probabilities_after from effects where attribute = 'glasses'").to_pylist()
    effect = sum((row["probabilities_after"][1] - 0.5) * (1 if row["switched_on"] else -1) for row in rows) / len(rows)
    assert first["effect"] == pytest.approx(effect, abs=1e-6) and effect > 0.3
    [(edit_effect, shift, q_value)] = asked(root, "select edit_effect, shift, q_value from verdicts where attribute = 'glasses'")
    assert edit_effect == first["effect"] and shift == first["association"] and 0 < q_value < 0.05
    effects = asked(root, "select effect from edit_effects where attribute = 'glasses'")
    assert sum(effects) / len(effects) == pytest.approx(effect, abs=1e-6)


def test_what_a_newcomer_asks_of_counterfactuals_is_answered_at_the_first_try(root: Path) -> None:
    guided = query(root, "select source, target, flipped, image_id from explanations where arm = 'guided'").to_pylist()
    assert Counter(asked(root, "select class from outcomes")) == Counter(row["source"] for row in guided)
    found = asked(root, "select predicted, target, flipped from outcomes")
    assert Counter(found) == Counter((row["source"], row["target"], row["flipped"]) for row in guided)
    paths = asked(root, "select path from edits where attribute = 'glasses'")
    assert len(paths) == 40 and all(path.startswith("portraits/") for path in paths)
    assert len(asked(root, "select path, png from explanations where arm = 'guided'")) == len(guided)
    glasses = {row["image_id"]: (row["p_glasses"], row["q_glasses"]) for row in _attributes(root)}
    found = asked(root, "select image_id, before, after, change, switched from attribute_changes where attribute = 'glasses'")
    assert {image: (before, after) for image, before, after, _, _ in found} == glasses
    assert all(change == pytest.approx(after - before, abs=1e-6) for _, before, after, change, _ in found)
    assert all(switched == (after > 0.5) - (before > 0.5) for _, before, after, _, switched in found)
    [(before, after)] = asked(root, "select sum(before_glasses), sum(after_glasses) from attribute_scores where arm = 'guided'")
    assert before == pytest.approx(sum(p for p, _ in glasses.values())) and after == pytest.approx(
        sum(q for _, q in glasses.values())
    )


def _attributes(root: Path) -> list[dict[str, Any]]:
    return query(root, "select image_id, p_glasses, q_glasses from attributes where arm = 'guided'").to_pylist()


def test_the_first_query_of_every_view_is_answered(root: Path) -> None:
    for name in (*EXAMPLES, *OLD_VIEWS):
        limited = f"from ({example(name)}) limit 0"  # binds every name, and computes nothing
        assert ask(root, limited).notes == tuple(
            f"view {old} is the old name of {new}" for old, new in OLD_VIEWS.items() if old == name
        )


def test_old_names_are_answered_and_told(root: Path) -> None:
    for view, columns in OLD_COLUMNS.items():
        answer = ask(root, f"select {', '.join(columns)} from {view} limit 0")
        assert answer.notes == tuple(f"{view}.{old} is the old name of {view}.{new}" for old, new in columns.items())
    for view, old, new in (("accuracy", "value", "accuracy"), ("predictions", "class", "predicted"), ("runs", "name", "audit")):
        assert all(asked(root, f"select {old} is not distinct from {new} from {view}"))
    sql = "select p_glasses, q_glasses from attributes where arm = 'guided' limit 1"
    assert ask(root, sql).notes == ("view attributes is the old name of attribute_scores",)
    # `effect` is an alias here, and a column of the other view there
    assert ask(root, "select shift as effect from verdicts order by effect").notes == ()
    assert ask(root, "select i.effect from verdicts join interventions i using (run_id, attribute)").notes == ()


def test_a_query_from_when_views_had_fewer_columns_is_answered_as_then(root: Path) -> None:
    joined = "predictions join images using (run_id, image_id)"
    answer = ask(root, f"select label, class, count(*) as n from {joined} where run_id = 'pets-1' group by all")
    found = {(row["label"], row["class"]): row["n"] for row in answer.rows.to_pylist()}
    assert found == Counter(zip(LABELS, ANSWERS, strict=True))
    assert "images.label" in answer.notes[0]


def test_columns_that_come_along_under_an_old_name_are_known(root: Path) -> None:
    assert ask(root, "from accuracy").old == ("value",)
    assert ask(root, "select label, value from accuracy").old == ()
    assert ask(root, "select value as other, * from accuracy").old == ()


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("from finding", "no view 'finding'; did you mean findings?"),
        ("from accuracy_by_group", "did you mean worst_groups?"),
        ("from counterfactuals", "did you mean outcomes or explanations?"),
        ("select labl from accuracy", "no column 'labl' in accuracy; did you mean label?"),
        ("select image, label from predictions", "did you mean path or image_id?"),
        ("select imag from images", "did you mean path or image_id?"),
        ("select attribute from findings", "did you mean name?"),
        ("select f.paht from outcomes f", "did you mean path?"),
        ("select png from verdicts", "edits, explanations, images have it"),
        ("select effect from attribute_shifts", "did you mean shift?"),
        ("selec 1", "syntax error"),
    ],
)
def test_a_wrong_name_is_told_the_nearest(root: Path, sql: str, words: str) -> None:
    with pytest.raises(WrongQuery) as raised:
        ask(root, sql)
    assert words in str(raised.value)
    with pytest.raises(duckdb.Error):  # what callers of `query` expect
        ask(root, sql)


def test_every_fact_and_view_stands_in_one_group_and_no_name_means_two_things(root: Path) -> None:
    assert len(GROUP_OF) == sum(map(len, GROUPS.values()))
    assert set(GROUP_OF) == set(FACTS) | set(VIEWS) | set(NAMED)
    shown = {view.name: [name for name, _ in view.columns if name not in view.old_columns] for view in views(root)}
    people = {
        name: columns for name, columns in shown.items() if GROUP_OF[name] in ("start here", "images", "evidence", "groups")
    }
    for name, columns in people.items():
        assert not {"p", "q"} & set(columns), name
        assert "source" not in columns or "predicted" not in columns
    assert all("class" not in people[name] for name in ("predictions", "outcomes", "confusion", "group_counts"))


def test_the_program_reads_the_columns_that_were_written(root: Path) -> None:
    """What `open_warehouse` gives the report, the gate and older code: names as they were."""
    with open_warehouse(root) as con:
        for view, columns in OLD_COLUMNS.items():
            there = {name for name, _ in columns_of(con, f"from {view}")}
            assert {old for old in columns if (view, old) != ("outcomes", "class")} <= there
        assert {name for name, _ in columns_of(con, "from predictions")} == {"image_id", "class", "probabilities", "run_id"}
