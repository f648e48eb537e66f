"""The images are a sample: drawn by a hash of their names, alike in every label, however a table is sorted or cut into shards."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from test_statistics import write_pairs

from cfx.attributes.interventions import Interventions
from cfx.images import encode_png
from tasks.config import AuditConfig
from tasks.data.annotations import Annotations, First, listing, sample_of
from tasks.data.drawing import drawn, shares
from tasks.data.ingest import DataConfig, check, fingerprint, sample
from tasks.data.near_names import near, unmatched_warnings
from tasks.stages.interventions import Wanted, attributes_to_edit, edits_id, sampled, wanted_edits
from tests.runs import ingested, run_of
from warehouse.facts.shards import read_shard
from warehouse.report.scope import scope

SORTED = [("cat", 20), ("dog", 20)]


def table(folder: Path, sizes: list[tuple[str, int]], more: str = "") -> Path:
    """Files sorted by class, as an image folder lists them."""
    rows = [f"{label or 'unlabelled'}/{i:04d}.png,{label}" for label, n in sizes for i in range(n)]
    (folder / "t.csv").write_text("\n".join(["file,class", *rows]) + f"\n{more}")
    return folder / "t.csv"


def labels(folder: Path, sizes: list[tuple[str, int]], limit: Any) -> dict[str | None, int]:
    rows = listing(Annotations(table=table(folder, sizes), label_column="class", limit=limit))
    return dict(Counter(label or None for label in rows["label"].to_pylist()))


@pytest.mark.parametrize(
    ("sizes", "limit", "expected"),
    [
        (SORTED, 16, {"cat": 8, "dog": 8}),
        (SORTED, 1, {}),  # one of the two, by lot
        (SORTED, 40, {"cat": 20, "dog": 20}),
        (SORTED, 99, {"cat": 20, "dog": 20}),
        (SORTED, First(first=16), {"cat": 16}),
        ([("a", 90), ("b", 10)], 10, {"a": 9, "b": 1}),
        ([("a", 990), ("b", 10)], 10, {"a": 9, "b": 1}),  # a hundredth, and one there all the same
        ([("a", 3000), ("b", 1000)], 128, {"a": 96, "b": 32}),
        ([("a", 50), ("b", 30), ("c", 20)], 7, {"a": 4, "b": 2, "c": 1}),  # 3.5, 2.1, 1.4: the largest remainder is a's
        ([("a", 100), ("b", 1), ("c", 1), ("d", 1)], 4, {"a": 1, "b": 1, "c": 1, "d": 1}),
        ([("a", 30), ("", 10)], 8, {"a": 6, None: 2}),  # a cell without a label is a stratum of its own
        ([("only", 30)], 8, {"only": 8}),
    ],
    ids=str,
)
def test_a_sample_has_every_class_as_the_table_has_it(
    tmp_path: Path, sizes: list[tuple[str, int]], limit: Any, expected: dict[str | None, int]
) -> None:
    found = labels(tmp_path, sizes, limit)
    assert found == expected if expected else sum(found.values()) == limit


@pytest.mark.parametrize("limit", [0, -3, "many", 1.5, {"first": 0}, {"last": 3}, {"first": 3, "seed": 1}, []], ids=str)
def test_a_limit_that_is_none_is_refused(tmp_path: Path, limit: Any) -> None:
    with pytest.raises(ValidationError, match="limit"):
        Annotations(table=tmp_path / "t.csv", limit=limit)


def test_neither_order_nor_what_else_there_is_decides_what_is_drawn() -> None:
    names = [f"{i}.png" for i in range(400)]
    first = {names[i] for i in drawn(names, [None] * 400, 100)}
    backwards = names[::-1]
    assert first == {backwards[i] for i in drawn(backwards, [None] * 400, 100)}
    more = [*names, "new.png"]
    assert len(first - {more[i] for i in drawn(more, [None] * 401, 100)}) <= 1
    assert first > {names[i] for i in drawn(names, [None] * 400, 50)}  # a smaller sample is part of a larger
    halves = sum(int(name[:-4]) < 200 for name in first)
    assert 35 < halves < 65  # by chance: five deviations are 22


@pytest.mark.parametrize(
    ("sizes", "n"),
    [({"a": 7, "b": 5, "c": 1}, n) for n in range(1, 14)] + [({str(k): 5 for k in range(1000)}, 128), ({"a": 10**6, "b": 3}, 64)],
)
def test_shares_are_the_exact_shares_rounded_but_for_one_each(sizes: dict[str | None, int], n: int) -> None:
    given, total = shares(sizes, n), sum(sizes.values())
    assert sum(given.values()) == n and all(given[one] <= sizes[one] for one in sizes)
    least = int(n >= len(sizes))
    assert all(given[one] >= least for one in sizes)
    assert all(given[one] < n * sizes[one] / total + 1 or given[one] == least for one in sizes)


def test_equal_strata_that_cannot_all_be_there_are_drawn_by_lot_and_not_by_name() -> None:
    given = shares({f"{k:04d}": 50 for k in range(1000)}, 128)
    assert 40 < sum(n for name, n in given.items() if name and name < "0500") < 90


def test_a_file_that_is_named_twice_is_drawn_once(tmp_path: Path) -> None:
    path = table(tmp_path, SORTED, more="cat/0003.png,dog\ncat/0004.png,dog\n")
    rows = listing(Annotations(table=path, label_column="class", limit=39))
    assert len(set(rows["file"].to_pylist())) == 39 and not any(rows["again"].to_pylist())


@pytest.mark.parametrize(
    ("sizes", "settings", "said"),
    [
        (SORTED, {"limit": 16}, "16 of 40 images, drawn by chance, stratified by label: cat 8 of 20, dog 8 of 20"),
        (SORTED, {"limit": {"first": 16}}, "16 of 40 images, the first by file name"),
        (SORTED, {"limit": 16, "label_column": None}, "16 of 40 images, drawn by chance"),
        ([(f"c{k}", 9 - k % 2) for k in range(10)], {"limit": 20}, "20 of 85 images, drawn by chance, stratified by label: "),
        (SORTED, {"limit": 40}, None),
        (SORTED, {}, None),
    ],
    ids=str,
)
def test_how_the_images_were_chosen_is_said(
    tmp_path: Path, sizes: list[tuple[str, int]], settings: dict[str, Any], said: str | None
) -> None:
    config = Annotations(**{"table": table(tmp_path, sizes), "label_column": "class"} | settings)
    found = sample_of(config)
    assert found is None if said is None else found is not None and found.startswith(said)
    if len(sizes) > 8:
        assert found is not None and found.endswith(", and 2 more")


@pytest.mark.parametrize(
    ("sizes", "limit", "warned"),
    [
        (SORTED, 16, None),
        (SORTED, {"first": 16}, "all 16 labelled images are labelled 'cat'"),
        ([("cat", 30)], None, "all 30 labelled images are labelled 'cat'"),
        ([("cat", 30), ("dog", 4)], None, "fewer than 5 images are labelled dog (4)"),
        ([("cat", 300), ("dog", 20)], 32, "fewer than 5 images are labelled dog (2)"),
        ([(f"c{k}", 3) for k in range(20)], None, "c15 (3) and 12 more labels"),
    ],
    ids=str,
)
def test_a_pool_of_one_class_or_of_few_images_of_one_is_said_before_work(
    tmp_path: Path, sizes: list[tuple[str, int]], limit: Any, warned: str | None
) -> None:
    listed = check(DataConfig(images=tmp_path, table=table(tmp_path, sizes), label_column="class", limit=limit))
    assert bool(listed.warnings) is (warned is not None)
    assert warned is None or warned in listed.warnings[0]


@pytest.fixture(scope="module")
def kennel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A warehouse whose data are 20 cats, dark, and 20 dogs, light, sorted by class."""
    root = tmp_path_factory.mktemp("kennel")
    x = torch.rand(40, 3, 8, 8, generator=torch.Generator().manual_seed(0)) - torch.arange(2).repeat_interleave(20).view(
        -1, 1, 1, 1
    )
    for i, png in enumerate(encode_png(-x)):
        path = root / "data" / ("cat" if i < 20 else "dog") / f"{i % 20:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png)
    table(root, SORTED)
    return root


def data(kennel: Path, **settings: Any) -> DataConfig:
    return DataConfig.model_validate(
        {"images": kennel / "data", "table": kennel / "t.csv", "label_column": "class", "size": 8} | settings
    )


def test_what_is_audited_is_the_sample(kennel: Path, tmp_path: Path) -> None:
    shards = ingested(tmp_path, data(kennel, limit=16), 64)
    assert Counter(read_shard(shards[0])["label"].to_pylist()) == {"cat": 8, "dog": 8}
    prints = {fingerprint(data(kennel, limit=limit)) for limit in (None, 16, 17, {"first": 16})}
    assert len(prints) == 4


def test_images_that_are_tried_before_the_audit_are_of_both_classes(kennel: Path) -> None:
    dark = [float(image.mean()) < 0 for image in sample(data(kennel), 8).x]
    assert sorted(dark) == [False] * 4 + [True] * 4


def test_edits_are_on_both_classes_however_images_are_cut_into_shards(kennel: Path, tmp_path: Path) -> None:
    found = []
    for size in (64, 5, 7):
        shards = ingested(tmp_path / str(size), data(kennel), size)
        label_of = {row["image_id"]: row["label"] for shard in shards for row in read_shard(shard).to_pylist()}
        parts = sampled(shards, 8, 3)
        assert [len(ids) for _, ids in parts] == [3, 3, 2]
        for homes, ids in parts:
            held = [image_id for shard in homes for image_id in read_shard(shard)["image_id"].to_pylist()]
            assert set(ids) <= set(held)
        edited = [image_id for _, part in parts for image_id in part]
        assert Counter(label_of[image_id] for image_id in edited) == {"cat": 4, "dog": 4}
        found.append(edited)
    assert found[0] == found[1] == found[2]


def test_edits_of_other_images_are_other_edits_and_of_the_same_images_the_same(kennel: Path, tmp_path: Path) -> None:
    shards = ingested(tmp_path, data(kennel), 64)
    keys = {Wanted(0, *part).key for n in (8, 9, 40) for part in sampled(shards, n, 64)}
    assert len(keys) == 3 and Wanted(1, *sampled(shards, 8, 64)[0]).key not in keys
    planted, clean = (run_of(tmp_path, classifier={"weights": f"portraits:{twin}"}) for twin in ("planted", "clean"))
    assert edits_id(planted) == edits_id(clean)  # drawn once for all classifiers


@pytest.mark.parametrize("settings", [{}, {"attributes": 2}, {"images": 4}, {"images": 0}], ids=str)
def test_every_attribute_is_edited_by_default_on_the_same_sample(kennel: Path, tmp_path: Path, settings: dict[str, Any]) -> None:
    shards = ingested(tmp_path, data(kennel), 16)
    run = run_of(tmp_path, interventions=Interventions(**settings))
    known = [name for name in run.oracle().attributes if name != "smile"]
    write_pairs(tmp_path, "r1", {name: [0.01 * k] * 8 for k, name in enumerate(known)})
    wanted = wanted_edits(run, shards)
    most, n = settings.get("attributes", 12), settings.get("images", 32)
    edited = Counter(one.position for one in wanted for _ in one.ids)
    assert edited == ({} if n == 0 else dict.fromkeys([*edited], n)) and len(edited) == (min(most, len(known)) if n else 0)
    assert len({tuple(one.ids) for one in wanted}) * len(edited) == len(wanted)


@pytest.mark.parametrize(
    ("budget", "settings", "edited"),
    [(None, {}, 12), (5000, {}, 7), (2000, {}, 3), (100, {}, 0), (2000, {"images": 8}, 12), (100, {"attributes": 9}, 9)],
    ids=str,
)
def test_edits_of_a_black_box_take_a_fifth_of_its_budget_unless_more_are_asked_for(
    tmp_path: Path, budget: int | None, settings: dict[str, Any], edited: int
) -> None:
    run = run_of(tmp_path)
    box = {"access": "kserve", "url": "http://localhost:1", "model": "m", "classes": ["no", "yes"], "limits": {"budget": budget}}
    interventions = {"interventions": Interventions(**settings)}
    known = AuditConfig.model_validate(
        run.config.model_dump() | {"classifier": box, "ladder": [{"method": "time"}]} | interventions
    )
    assert attributes_to_edit(replace(run, config=known)) == edited


def test_the_report_says_how_the_images_were_chosen() -> None:
    run = {"config": "{}", "classes": ["cat", "dog"], "target_attribute": None}
    said = "16 of 40 images, drawn by chance"
    assert ("Sample", said) in scope(run | {"sample": said}, [], [])
    assert "Sample" not in dict(scope(run | {"sample": None}, [], []))


def test_the_report_begins_with_what_goes_with_the_label() -> None:
    run = {"config": "{}", "classes": ["coat", "shirt"], "target_attribute": None}
    rows = [
        {"label": "coat", "attribute": name, "phi": phi, "lift": 1.8, "n": n}
        for name, phi, n in (("tag", 0.8, 128), ("hat", -0.4, 128), ("few", 0.9, 19), ("weak", 0.2, 128))
    ]
    assert dict(scope(run, [], [], rows))["Goes with the label"] == (
        "“tag” with “coat” (r = 0.80, 128 images); “hat” without “coat” (r = -0.40, 128 images)"
    )
    assert "Goes with the label" not in dict(scope(run, [], [], rows[2:]))


@pytest.mark.parametrize(
    ("attribute", "column", "same"),
    [
        ("eyeglasses", "Eye glasses", True),
        ("eyeglasses", "eye_glasses", True),
        ("5_o_Clock_Shadow", "5 o'clock shadow", True),
        ("Smiling", "smiling", True),
        ("wearing-hat", "Wearing_Hat", True),
        ("hat", "hats", False),
        ("hat", "hat", False),  # the same name needs no word
    ],
    ids=str,
)
def test_a_name_that_is_another_spelling_is_not_taken_for_the_same_and_said(attribute: str, column: str, same: bool) -> None:
    assert near(attribute, ["other", column]) == (column if same else None)
    warnings = unmatched_warnings(["first", attribute], ["other", column])
    assert len(warnings) == int(same) and all(repr(attribute) in one and repr(column) in one for one in warnings)
