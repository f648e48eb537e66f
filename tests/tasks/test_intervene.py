"""The intervention stage: edits are drawn once, and every classifier is queried on the same ones."""

from dataclasses import replace
from typing import Any

import pytest

from cfx.attributes.interventions import Interventions
from cfx.attributes.pasting import pasted
from cfx.images import decode_png
from cfx.portraits import write_portraits
from cfx.types import Edit
from tasks.run import Run
from tasks.shard_images import read_chosen, read_images
from tasks.stages.ingest import ingest
from tasks.stages.interventions import Wanted, draw_edits, edits_id, query_edits, sampled
from tests.runs import run_of
from warehouse.facts.shards import Shard, read_shard
from warehouse.lens.connect import query

SETTINGS = Interventions(images=5)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, list[Shard]]:
    root = tmp_path_factory.mktemp("warehouse")
    write_portraits(root / "data", 6, seed=3)
    run = run_of(root, interventions=SETTINGS, shard_size=3, batch_size=4)
    return run, ingest(run)


def test_a_sample_is_cut_into_parts_that_name_their_shards(images: tuple[Run, list[Shard]]) -> None:
    shards = images[1]
    every = [image_id for shard in shards for image_id in read_images(shard).ids]
    assert [ids for _, ids in sampled(shards, 100, 4)] == [tuple(every[:4]), tuple(every[4:])]
    (some,) = sampled(shards, 3, 8)
    assert len(set(some[1])) == 3 and set(some[1]) <= set(every)
    assert read_chosen(some[0], some[1]).ids == list(some[1])
    assert sampled(shards[::-1], 3, 8)[0][1] != () and set(sampled(shards[::-1], 3, 8)[0][1]) == set(some[1])


def test_edits_depend_on_all_that_draws_them_and_on_no_classifier(images: tuple[Run, list[Shard]]) -> None:
    run, _ = images

    def of(prints: dict[str, str] | None = None, **settings: Any) -> str:
        known = dict(run.fingerprints) | (prints or {})
        return edits_id(replace(run, fingerprints=known, config=run.config.model_copy(update=settings)))

    other = SETTINGS.model_copy(update={"images": 9, "side": 0.1})
    assert of() == of({"classifier": "other"}) == of(interventions=other)
    assert run.config.oracle is not None
    changed = [of({"data": "x"}), of({"oracle": "x"}), of({"prior": "x"}), of(shard_size=4)]
    changed += [of(interventions=SETTINGS.model_copy(update={"tau": 12}))]
    changed += [of(oracle=run.config.oracle.model_copy(update={"std": (0.25, 0.25, 0.25)}))]
    changed += [of(data=run.config.data.model_copy(update={"size": 32}))]
    assert len({of(), *changed}) == 8


def test_classifiers_are_queried_on_the_same_edits(images: tuple[Run, list[Shard]]) -> None:
    run, (_, shard) = images
    ids, x = read_images(shard)
    wanted = Wanted(run.oracle().attributes.index("glasses"), (shard,), tuple(ids[:2]))
    edited = draw_edits(run, wanted)
    assert draw_edits(run, wanted).path.stat().st_mtime_ns == edited.path.stat().st_mtime_ns
    drawn = read_shard(edited).to_pylist()
    assert [row["nfe_forward"] for row in drawn] == [2 * SETTINGS.tau] * 2
    x = x[:2]
    x_edit, x_sham, x_pasted = (decode_png([row[name] for row in drawn]) for name in ("png", "sham_png", "pasted_png"))
    assert (x_pasted - pasted(x, Edit(x_edit, x_sham, x[:, :1]))).abs().mean() < 1 / 127  # a grey level: files are rounded
    assert (x_pasted != x).float().mean() < 0.5
    assert [row["l1"] for row in drawn] == pytest.approx(((x_edit - x).abs().mean((1, 2, 3)) / 2).tolist())
    assert [row["sham_l1"] for row in drawn] == pytest.approx(((x_sham - x).abs().mean((1, 2, 3)) / 2).tolist())
    answers = {}
    for twin in ("planted", "clean"):
        more = {"classifier": {"weights": f"portraits:{twin}"}, "judge": {"weights": "portraits:planted"}}
        other = run_of(run.root, twin, interventions=SETTINGS, batch_size=4, **more)
        answers[twin] = read_shard(query_edits(other, edited, (shard,))).to_pylist()
        for row, source in zip(answers[twin], drawn, strict=True):
            assert row["image_id"] == source["image_id"] and row["edits"] == edits_id(run)
            assert row["counted"] is (source["confirmed"] and source["side"] <= SETTINGS.side)
    for arm in ("before", "sham", "after", "pasted"):  # the judge is the planted twin: it says what that said
        asked = [row[f"judge_{arm}"] for twin in answers for row in answers[twin]]
        assert asked == 2 * [row[f"probabilities_{arm}"] for row in answers["planted"]]
    for edit, control in (("after", "sham"), ("pasted", "before")):
        reaction = {
            twin: sum(abs(row[f"probabilities_{edit}"][1] - row[f"probabilities_{control}"][1]) for row in rows)
            for twin, rows in answers.items()
        }
        assert reaction["planted"] > reaction["clean"]  # only the planted twin leans on glasses
    for quality in query(run.root, "from edit_quality").to_pylist():
        effective = [row["confirmed"] for row in drawn]
        counted = sum(row["confirmed"] and row["side"] <= SETTINGS.side for row in drawn)
        assert quality["effectiveness"] == sum(effective) / 2 and quality["n"] == 2
        assert quality["composition"] == pytest.approx(sum(row["sham_l1"] for row in drawn) / 2)
        assert quality["alone"] == (counted / sum(effective) if any(effective) else None)
    assert query(run.root, "select run_id from edit_quality")["run_id"].to_pylist() != []
