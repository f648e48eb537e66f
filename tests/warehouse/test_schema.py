"""Every fact says what it is, and takes exactly its columns."""

import pyarrow as pa
import pytest

from warehouse.facts.fact import VERSION
from warehouse.facts.schema import FACTS, fact_named


@pytest.mark.parametrize("fact", FACTS.values(), ids=FACTS.keys())
def test_a_fact_carries_its_name_version_and_the_meaning_of_every_column(fact):
    assert fact.schema.metadata == {b"fact": fact.name.encode(), b"version": VERSION.encode()}
    assert fact.description.endswith(".")
    assert all(field.metadata[b"description"] for field in fact.schema)
    assert all(family.description for family in fact.families)


def test_an_unknown_fact_is_told_with_those_that_exist():
    with pytest.raises(ValueError, match="no fact 'explanation'; the facts are runs, images, annotations, rejected, predictions"):
        fact_named("explanation")


def test_wide_columns_are_told_by_their_prefix_and_come_after_the_fixed_ones():
    attributes = FACTS["attributes"]
    family = attributes.family("d_glasses")
    assert family is not None and family.type == pa.float32()
    assert attributes.family("d_") is None
    assert attributes.family("arm") is None
    schema = attributes.schema_with(["p_hat", "q_hat", "d_hat"])
    assert schema.names == ["image_id", "method", "arm", "seed", "p_hat", "q_hat", "d_hat"]
    annotation = FACTS["images"].family("a_hat")
    assert annotation is not None and annotation.nullable
