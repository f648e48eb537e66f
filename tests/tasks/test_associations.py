"""Facts about labels against attributes: worked examples, mirrors, and what is not known."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from facts import image_ids, image_rows

from tasks.advice.associations import associations_of, label_warnings, striking
from warehouse.facts.shards import write_shard
from warehouse.lens.connect import query


def rows(labels: Sequence[str | None], **attributes: Sequence[bool | None]) -> pa.Table:
    n = len(labels)
    fixed = {"row": range(n), "file": map(str, range(n)), "again": [False] * n, "split": [None] * n, "label": labels}
    return pa.table({name: list(values) for name, values in fixed.items()} | {f"a_{name}": v for name, v in attributes.items()})


TAGGED = ["coat"] * 50 + ["shirt"] * 50
TAG = [True] * 45 + [False] * 5 + [True] * 5 + [False] * 45


def test_a_tag_on_nine_of_ten_coats_and_one_of_ten_shirts_is_phi_point_eight() -> None:
    (found,) = associations_of(rows(TAGGED, tag=TAG))
    assert (found.label, found.attribute, found.n) == ("coat", "tag", 100)
    assert found.phi == pytest.approx(0.8) and found.lift == pytest.approx(1.8)
    assert found.sentence() == "the label “coat” goes with “tag”: r = 0.80, 1.8 times as often as in all, 100 images"


def test_an_attribute_that_says_the_same_as_the_label_may_be_the_label() -> None:
    found = associations_of(rows(TAGGED, tag=TAG, buttons=[label == "coat" for label in TAGGED]))
    (said,) = label_warnings(found, ["tag", "buttons"])
    assert said.startswith("“buttons” says the same as the label “coat” (r = 1.00, 100 images)")
    assert "set `target_attribute: buttons`" in said
    assert label_warnings(found, ["tag"]) == ()  # .8 is a shortcut; and what no oracle sees is not ranked


def test_phi_is_the_correlation_of_the_bits_for_every_label() -> None:
    chance = np.random.default_rng(0)
    labels, bits = [str(k) for k in chance.integers(0, 3, 90)], [bool(b) for b in chance.integers(0, 2, 90)]
    found = associations_of(rows(labels, hat=bits))
    assert [one.label for one in found] != [] and len(found) == 3
    for one in found:
        expected = np.corrcoef([label == one.label for label in labels], bits)[0, 1]
        assert one.phi == pytest.approx(expected)
    assert [abs(one.phi) for one in found] == sorted((abs(one.phi) for one in found), reverse=True)


def test_what_is_unknown_does_not_count_and_what_is_constant_goes_with_nothing() -> None:
    table = rows(["a", "a", "b", "b", None, "a"], hat=[True, True, False, False, True, None], all=[True] * 6, none=[False] * 6)
    found = {one.attribute: one for one in associations_of(table)}
    assert (found["hat"].phi, found["hat"].n) == (1.0, 4)
    assert found["all"].phi == found["none"].phi == 0 and math.isnan(found["none"].lift)
    assert associations_of(rows([None, None], hat=[True, False])) == [] == associations_of(rows(["a", "b"]))


@pytest.mark.parametrize("labels", [["a", "b"], ["a", "b", "c", "d"]], ids=len)
def test_the_view_says_the_same_of_the_images_of_a_run(tmp_path: Path, labels: list[str]) -> None:
    chance = np.random.default_rng(1)
    said: list[str | None] = [None if i % 7 == 0 else str(chance.choice(labels)) for i in range(64)]
    bits: list[bool | None] = [None if i % 5 == 0 else bool(chance.integers(0, 2)) for i in range(64)]
    columns: dict[str, list[bool | None]] = {"a_hat": bits, "a_all": [True] * 64, "a_none": [False] * 64}
    write_shard(tmp_path, "images", "r1", "1", image_rows(image_ids(64), label=said, **columns))
    expected = {
        (one.label, one.attribute): one for one in associations_of(rows(said, hat=bits, all=[True] * 64, none=[False] * 64))
    }
    found = {(row["label"], row["attribute"]): row for row in query(tmp_path, "from label_associations").to_pylist()}
    assert found.keys() == expected.keys()
    for key, one in expected.items():
        assert (found[key]["phi"], found[key]["n"]) == (pytest.approx(one.phi), one.n)
        assert found[key]["lift"] == (None if math.isnan(one.lift) else pytest.approx(one.lift))


def test_striking_leaves_out_the_label_itself_and_what_few_images_say() -> None:
    found = associations_of(rows(TAGGED, tag=TAG, coat=[label == "coat" for label in TAGGED], even=[True, False] * 50))
    assert [one.attribute for one in striking(found)] == ["coat", "tag"]
    assert [one.attribute for one in striking(found, "coat")] == ["tag"]
    assert striking(associations_of(rows(TAGGED[45:55], tag=[True] * 5 + [False] * 5))) == []
